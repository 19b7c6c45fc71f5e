"""Python projects and distributions.

A project has `pyproject.toml` (PEP 621), an unpacked source archive `PKG-INFO`, an installed distribution one
`*.dist-info/METADATA` (core metadata specification 2.x).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wcp_attest.advice.kinds.described import Described, text_of
from wcp_attest.base import toml_table
from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from wcp_attest.advice.kinds.described import Reader

PROJECT: Final = "pyproject.toml"
_HEADER_LINES: Final = 400


def read(reader: Reader) -> Described | None:
    """Return what the project or distribution says it is, or None for another directory.

    Raises:
        ConfigError: its metadata is malformed or names no project.
    """
    data = reader.bytes(PROJECT)
    if data is not None:
        project = toml_table.loads(data, PROJECT).get("project")
        if isinstance(project, dict):
            name = text_of(project, "name", PROJECT)
            if name is None:
                raise ConfigError(f"{PROJECT}: [project] has no `name`")
            return Described("python", name, text_of(project, "version", PROJECT), PROJECT)
    folders = [name for name in reader.names() if name.endswith(".dist-info")]
    sources = ["PKG-INFO", *(f"{folder}/METADATA" for folder in folders if len(folders) == 1)]
    for source in sources:
        data = reader.bytes(source)
        if data is not None:
            return _core_metadata(data, source)
    return None


def _core_metadata(data: bytes, source: str) -> Described:
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines()[:_HEADER_LINES]:
        key, colon, value = line.partition(":")
        if not line.strip():
            break  # the description follows
        if colon and key in {"Name", "Version"}:
            if key in found:
                raise ConfigError(f"{source} names `{key}` twice")
            found[key] = value.strip()
    if not found.get("Name"):
        raise ConfigError(f"{source} has no `Name`")
    return Described("python", found["Name"], found.get("Version"), source)
