"""What a repository says of its packages, for `build`, `sign`, `check` and `fix`. Verification never reads it.

    # wcp-attest.toml, or the same under [tool.wcp-attest] in pyproject.toml
    [[package]]
    path = "workers/summarizer"            # relative to this file; "." for the repository itself
    worker_id = "org.acme.summarizer"
    species_id = "wrk.doc.summarizer"
    worker_version = "1.4.0"
    exclude = ["tests/"]                   # beside those of `.wcpignore`
    algorithm = "sha256"                   # or blake3
    bytecode = "leave"                     # or include
    allow_twins = false                    # names that differ only by case or Unicode form

Only `path` is required; what is not said is taken from the manifest that is there, or must be given as an option. The
file is looked for in a folder and those above it, up to the top of the repository; `wcp-attest.toml` comes first.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from wcp_attest.base import toml_table as stricttoml
from wcp_attest.base.digest import ALGORITHMS
from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.files import read_bounded
from wcp_attest.package.entries import path_problem

if TYPE_CHECKING:
    from wcp_attest.base.digest import HashAlgorithm

FILE_NAMES: Final = ("wcp-attest.toml", "pyproject.toml")
MAX_CONFIG_BYTES: Final = 1024 * 1024
MAX_PACKAGES: Final = 1000
MAX_FOLDERS: Final = 100  # that are climbed in search of the file

_TEXTS: Final = ("worker_id", "species_id", "worker_version")
_CHOICES: Final = {"algorithm": ALGORITHMS, "bytecode": ("leave", "include")}
_KEYS: Final = frozenset({"path", "exclude", "allow_twins", *_TEXTS, *_CHOICES})


@dataclass(frozen=True, slots=True)
class PackageConfig:
    """What is configured for one package; None where nothing is said.

    Attributes:
        path: relative to the folder of the file, `/`-separated, `.` for that folder itself.
        worker_id: who this is.
        species_id: its place in the taxonomy.
        worker_version: its version.
        exclude: further gitignore patterns.
        algorithm: of the package hash and of every file.
        bytecode: whether bytecode is left out or listed.
        allow_twins: whether names may differ only by case or Unicode form.
    """

    path: str
    worker_id: str | None = None
    species_id: str | None = None
    worker_version: str | None = None
    exclude: tuple[str, ...] = ()
    algorithm: HashAlgorithm | None = None
    bytecode: Literal["leave", "include"] | None = None
    allow_twins: bool | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration file.

    Attributes:
        file: its path.
        packages: at least one.
    """

    file: str
    packages: tuple[PackageConfig, ...]

    def place(self, package: PackageConfig) -> str:
        """Return the path of a package's directory, joined to the folder of the file."""
        return os.path.normpath(os.path.join(os.path.dirname(self.file), package.path))

    def package(self, directory: str) -> PackageConfig | None:
        """Return what is configured for a directory."""
        wanted = os.path.realpath(directory)
        return next((package for package in self.packages if os.path.realpath(self.place(package)) == wanted), None)


def load_config(file: str) -> Config:
    """Read a configuration file.

    Args:
        file: its path; for a `pyproject.toml` the table `[tool.wcp-attest]` is read.

    Raises:
        ConfigError: it cannot be read, is malformed, or configures no package.
    """
    found = _load(file)
    if found is None:
        raise ConfigError(f"{file!r} has no table [tool.wcp-attest]")
    return found


def find_config(start: str) -> Config | None:
    """Look for the configuration of a folder, in it and above it up to the top of its repository.

    Args:
        start: the folder.

    Raises:
        ConfigError: a file was found and cannot be used.
    """
    folder = os.path.abspath(start)
    for _ in range(MAX_FOLDERS):
        for name in FILE_NAMES:
            file = os.path.join(folder, name)
            found = _load(file) if os.path.lexists(file) else None
            if found is not None:
                return found
        if os.path.lexists(os.path.join(folder, ".git")) or folder == os.path.dirname(folder):
            return None
        folder = os.path.dirname(folder)
    return None


def _load(file: str) -> Config | None:
    data = read_bounded(file, limit=MAX_CONFIG_BYTES, what="the configuration", follow=True)
    packages = parse_config(data, name=os.path.basename(file))
    return None if packages is None else Config(file, packages)


def parse_config(data: bytes, *, name: str) -> tuple[PackageConfig, ...] | None:
    """Parse the text of a configuration file.

    Args:
        data: TOML 1.0 in UTF-8.
        name: of the file; for `pyproject.toml` only `[tool.wcp-attest]` counts.

    Returns:
        The packages, or None when a `pyproject.toml` says nothing of them.

    Raises:
        ConfigError: it is malformed or configures no package.
    """
    top: object = stricttoml.loads(data, name)
    if name == "pyproject.toml":
        tools = cast("dict[str, object]", top).get("tool")
        top = tools.get("wcp-attest") if isinstance(tools, dict) else None
        if top is None:
            return None
    if not isinstance(top, dict) or set(top) != {"package"} or not isinstance(top["package"], list):
        raise ConfigError(f"{name}: expected one or more [[package]] and nothing else")
    tables = cast("list[object]", top["package"])
    if not 0 < len(tables) <= MAX_PACKAGES:
        raise ConfigError(f"{name}: expected 1 to {MAX_PACKAGES} [[package]], found {len(tables)}")
    packages = tuple(_package(table, f"{name}: package {number}") for number, table in enumerate(tables, start=1))
    paths = [package.path for package in packages]
    if len(set(paths)) != len(paths):
        raise ConfigError(f"{name}: a path is configured twice")
    return packages


def _package(table: object, where: str) -> PackageConfig:
    if not isinstance(table, dict):
        raise ConfigError(f"{where} is not a table")
    unknown = sorted(set(table) - _KEYS)
    if unknown:
        raise ConfigError(f"{where} has the unknown key `{unknown[0]}`; known are {', '.join(sorted(_KEYS))}")
    texts = {key: _text(table, key, where) for key in _TEXTS if key in table}
    for key, choices in _CHOICES.items():
        if key in table and table[key] not in choices:
            raise ConfigError(f"{where}: `{key}` is not one of {', '.join(choices)}")
    exclude = table.get("exclude", [])
    if not isinstance(exclude, list) or not all(isinstance(pattern, str) and pattern for pattern in exclude):
        raise ConfigError(f"{where}: `exclude` is not a list of patterns")
    allow_twins = table.get("allow_twins")
    if allow_twins is not None and not isinstance(allow_twins, bool):
        raise ConfigError(f"{where}: `allow_twins` is not true or false")
    return PackageConfig(
        path=_path(table, where),
        exclude=tuple(exclude),
        algorithm=table.get("algorithm"),
        bytecode=table.get("bytecode"),
        allow_twins=allow_twins,
        **texts,
    )


def _text(table: dict[str, object], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: `{key}` is not a text")
    return value


def _path(table: dict[str, object], where: str) -> str:
    path = _text(table, "path", where).rstrip("/")
    if path != "." and (problem := path_problem(path)):
        raise ConfigError(f"{where}: the path {path!r} {problem}; give it relative to the file")
    return path
