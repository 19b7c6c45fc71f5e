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
import json
import os
import re
import warnings
from typing import Final

from wcp_attest.base.errors import ConfigError
from wcp_attest.base.identity import version_problem
from wcp_attest.build import check_metadata
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.overwrite import OutputKind, Planned, write_files

BOOTSTRAP: Final = "code/bootstrap.py"
LOGIC: Final = "code/worker_logic.py"
FILES: Final = (BOOTSTRAP, LOGIC, "requirements.lock", "config.schema.json")
MAX_LOGIC_BYTES = 1024 * 1024  # source code; more is a mistake

_NAME: Final = re.compile(r"(?=.{1,64}\Z)[a-z][a-z0-9]*(-[a-z0-9]+)*")
_PLUGIN_SCHEMA: Final = "https://agent-plugins.org/schemas/1.0.0/plugin.schema.json"


def scaffold_package(
    directory: str | os.PathLike[str],
    *,
    worker_id: str,
    worker_species_id: str | None = None,
    worker_version: str | None = None,
    logic: bytes | None = None,
    force: bool = False,
    species_id: str | None = None,
    version: str | None = None,
) -> tuple[str, ...]:
    """Write a worker package that runs.

    Args:
        directory: where; created when it is not there.
        worker_id: `org.acme.summarizer`.
        worker_species_id: `wrk.doc.summarizer`.
        worker_version: of the worker; `0.1.0` when it is not given.
        logic: the bytes of your own `worker_logic.py`, which defines `execute(request, context)`; None for a stub.
        force: replace files that are already there; each that is not as written here is kept as `NAME.orig`.
        species_id: the earlier spelling of `worker_species_id`; deprecated.
        version: the earlier spelling of `worker_version`; deprecated.

    Returns:
        The paths of the files written.

    Raises:
        ConfigError: an id is malformed, the logic cannot be used, a file is already there, or one of them cannot be
            written. Then none was.
        TypeError: the species is not given, or an argument is given in both spellings.
    """
    from importlib.resources import files

    for name, value, earlier in (("species_id", worker_species_id, species_id), ("version", worker_version, version)):
        if earlier is not None and value is not None:
            raise TypeError(f"`{name}` is the earlier spelling of `worker_{name}`; give one of them")
        if earlier is not None:
            warnings.warn(f"scaffold_package({name}=…) is spelled worker_{name}", DeprecationWarning, stacklevel=2)
    species = species_id if worker_species_id is None else worker_species_id
    number = version if worker_version is None else worker_version
    if species is None:
        raise TypeError("scaffold_package() needs the argument `worker_species_id`")
    number = "0.1.0" if number is None else number
    check_metadata(worker_id, species, number, "local")
    templates = files("wcp_attest").joinpath("templates", "worker")
    contents = {name: templates.joinpath(f"{os.path.basename(name)}.in").read_bytes() for name in FILES}
    text = contents[BOOTSTRAP].decode()
    for example, real in (("org.example.worker", worker_id), ("wrk.example.worker", species), ("0.1.0", number)):
        text = text.replace(f'"{example}"', f'"{real}"')
    contents[BOOTSTRAP] = text.encode()
    if logic is not None:
        _check_logic(logic)
        contents[LOGIC] = logic
    return _write(os.fspath(directory), contents, force=force)


def scaffold_kind(
    directory: str | os.PathLike[str], kind: str, *, version: str = "0.1.0", force: bool = False
) -> tuple[str, ...]:
    """Write a small skill, plugin or MCP bundle, named after its directory, that signs with `--namespace` at once.

    Args:
        directory: where; created when it is not there.
        kind: `skill`, `plugin` or `mcpb`.
        version: of the package.
        force: as for `scaffold_package`.

    Returns:
        The paths of the files written.

    Raises:
        ConfigError: the directory's name or the version cannot be used, a file is already there, or one of them cannot
            be written. Then none was.
    """
    package = os.fspath(directory)
    name = os.path.basename(os.path.abspath(package))
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"a {kind} is named after its directory, and {name[:80]!r} cannot be its name: use up to 64 lower-case "
            "letters, digits and single hyphens, a letter first"
        )
    if problem := version_problem(version):
        raise ConfigError(f"the version {problem}")
    card = f"---\nname: {name}\ndescription: Say what {name} does, and when to use it.\nmetadata:\n"
    card += f"  version: {json.dumps(version)}\n---\n\nWrite the steps here.\n"
    server = {
        "type": "python",
        "entry_point": "server/main.py",
        "mcp_config": {"command": "python3", "args": ["${__dirname}/server/main.py"]},
    }
    bundle = {
        "manifest_version": "0.3",
        "name": name,
        "version": version,
        "description": f"Say what {name} does.",
        "author": {"name": "Your name"},
        "server": server,
    }
    plugin = {"$schema": _PLUGIN_SCHEMA, "name": name, "version": version, "description": f"Say what {name} does."}
    files: dict[str, dict[str, str]] = {
        "skill": {"SKILL.md": card},
        "plugin": {"plugin.json": json.dumps(plugin, indent=2) + "\n", f"skills/{name}/SKILL.md": card},
        "mcpb": {
            "manifest.json": json.dumps(bundle, indent=2) + "\n",
            "server/main.py": 'raise SystemExit("put your MCP server here")\n',
        },
    }
    return _write(package, {path: text.encode() for path, text in files[kind].items()}, force=force)


def _write(package: str, contents: dict[str, bytes], *, force: bool) -> tuple[str, ...]:
    """Write all files or none."""
    folders = sorted({os.path.join(package, os.path.dirname(name)) for name in contents})
    _check_room(package, contents, force=force)
    files = [
        Planned(
            os.path.join(package, name),
            data,
            OutputKind("as `wcp-attest init` writes it", data.__eq__),
            0o755 if name == BOOTSTRAP else 0o644,
        )
        for name, data in contents.items()
    ]
    made: list[str] = []
    try:
        for folder in folders:
            made += _make_folders(folder)
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


def _check_room(package: str, contents: dict[str, bytes], *, force: bool) -> None:
    """Refuse to overwrite, and to write through a link into somewhere else."""
    folders = {package}
    for name in contents:
        parts = name.split("/")[:-1]
        folders |= {os.path.join(package, *parts[: depth + 1]) for depth in range(len(parts))}
    for folder in sorted(folders):
        if os.path.lexists(folder) and (os.path.islink(folder) or not os.path.isdir(folder)):
            raise ConfigError(f"{folder!r} is not a directory; choose another one")
    there = [name for name in contents if os.path.lexists(os.path.join(package, name))]
    if there and not force:
        raise ConfigError(f"{package!r} already holds {', '.join(there)}; choose another directory or use --force")
