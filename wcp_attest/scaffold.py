"""Start a worker package: the layout, an entry point that keeps the worker's contract, and a stub that runs.

    my-worker/
      code/bootstrap.py        one JSON object in, one out; executable
      code/worker_logic.py     execute(request, context) -> WorkerResult
      requirements.lock        dependencies with their hashes
      config.schema.json       what may be configured

The files stand as templates in `wcp_attest/templates/worker`; only the three ids are put in.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

from wcp_attest.base.errors import ConfigError
from wcp_attest.build import check_metadata
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.overwrite import OutputKind, Planned, write_files

BOOTSTRAP: Final = "code/bootstrap.py"
LOGIC: Final = "code/worker_logic.py"
FILES: Final = (BOOTSTRAP, LOGIC, "requirements.lock", "config.schema.json")
MAX_LOGIC_BYTES = 1024 * 1024  # source code; more is a mistake


def scaffold_package(
    directory: str | os.PathLike[str],
    *,
    worker_id: str,
    species_id: str,
    version: str = "0.1.0",
    logic: bytes | None = None,
    force: bool = False,
) -> tuple[str, ...]:
    """Write a worker package that runs.

    Args:
        directory: where; created when it is not there.
        worker_id: `org.acme.summarizer`.
        species_id: `wrk.doc.summarizer`.
        version: of the worker.
        logic: the bytes of your own `worker_logic.py`, which defines `execute(request, context)`; None for a stub.
        force: replace files that are already there; each that is not as written here is kept as `NAME.orig`.

    Returns:
        The paths of the files written.

    Raises:
        ConfigError: an id is malformed, the logic cannot be used, a file is already there, or one of them cannot be
            written. Then none was.
    """
    check_metadata(worker_id, species_id, version, "local")
    contents = _contents(worker_id, species_id, version)
    if logic is not None:
        _check_logic(logic)
        contents[LOGIC] = logic
    package = os.fspath(directory)
    _check_room(package, force=force)
    files = [
        Planned(
            os.path.join(package, name),
            data,
            OutputKind("as `wcp-attest init` writes it", data.__eq__),
            0o755 if name == BOOTSTRAP else 0o644,
        )
        for name, data in contents.items()
    ]
    made = _make_folders(os.path.join(package, "code"))
    try:
        write_files(files, force=force)
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        raise
    return tuple(one.path for one in files)


def _make_folders(folder: str) -> list[str]:
    """Make a folder and those above it, and return the ones that were not there before, outermost first."""
    missing = []
    place = os.path.abspath(folder)
    while not os.path.lexists(place):
        missing.append(place)
        place = os.path.dirname(place)
    try:
        os.makedirs(folder, exist_ok=True)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"cannot create {folder!r}: {describe_os_error(problem)}; nothing was changed") from None
    return missing[::-1]


def _contents(worker_id: str, species_id: str, version: str) -> dict[str, bytes]:
    contents = {name: _template(os.path.basename(name)) for name in FILES}
    text = contents[BOOTSTRAP].decode()
    for example, real in (("org.example.worker", worker_id), ("wrk.example.worker", species_id), ("0.1.0", version)):
        text = text.replace(f'"{example}"', f'"{real}"')
    return {**contents, BOOTSTRAP: text.encode()}


def _template(name: str) -> bytes:
    from importlib.resources import files

    return files("wcp_attest").joinpath("templates", "worker", f"{name}.in").read_bytes()


def _check_logic(logic: bytes) -> None:
    """Refuse what could never run; whether it does the right thing is its author's business."""
    import ast

    if len(logic) > MAX_LOGIC_BYTES:
        raise ConfigError(f"the worker logic is larger than {MAX_LOGIC_BYTES} bytes; is it the right file?")
    try:
        body = ast.parse(logic).body
    except SyntaxError as problem:
        raise ConfigError(f"the worker logic is not Python: {problem.msg} in line {problem.lineno}") from None
    except (ValueError, RecursionError, MemoryError):
        raise ConfigError("the worker logic is not Python source code") from None
    defined = {statement.name for statement in body if isinstance(statement, ast.FunctionDef)}
    imported = {
        alias.asname or alias.name
        for statement in body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    if "execute" not in defined | imported:
        raise ConfigError("the worker logic defines no function `execute(request, context)`; add one")


def _check_room(package: str, *, force: bool) -> None:
    """Refuse to overwrite, and to write through a link into somewhere else."""
    for folder in (package, os.path.join(package, "code")):
        if os.path.lexists(folder) and (os.path.islink(folder) or not os.path.isdir(folder)):
            raise ConfigError(f"{folder!r} is not a directory; choose another one")
    there = [name for name in FILES if os.path.lexists(os.path.join(package, name))]
    if there and not force:
        raise ConfigError(f"{package!r} already holds {', '.join(there)}; choose another directory or use --force")
