"""What a reader of one kind is given, and what it returns."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.files import read_bounded

MAX_BYTES: Final = 1 << 20  # of a file that describes a package


@dataclass(frozen=True, slots=True)
class Described:
    """What a package says of itself. Nothing here is signed, and nothing is to be trusted.

    Attributes:
        kind: `plugin`, `skill`, `mcpb`, `model` or `python`.
        name: as the package spells it.
        version: as the package spells it; None where it names none.
        source: the file that says so, relative to the root.
    """

    kind: str
    name: str
    version: str | None
    source: str


class Reader:
    """Reads small files of one directory.

    Attributes:
        root: the absolute path of the directory.
        folder: its name.

    Args:
        root: the package directory.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.folder = os.path.basename(self.root)

    def names(self) -> list[str]:
        """Return the names in the directory; empty when it cannot be listed."""
        try:
            return sorted(os.listdir(self.root))
        except OSError:
            return []

    def bytes(self, name: str) -> bytes | None:
        """Return a file's bytes, or None when there is no regular file of that name.

        Raises:
            ConfigError: it is too large, or it cannot be read.
        """
        path = os.path.join(self.root, name)
        if os.path.islink(path) or not os.path.isfile(path):
            return None
        return read_bounded(path, limit=MAX_BYTES, what=name)

    def json(self, name: str) -> strictjson.JsonObject | None:
        """Return a JSON object, or None when there is no regular file of that name.

        Raises:
            ConfigError: it is no JSON object.
        """
        data = self.bytes(name)
        return (
            None if data is None else strictjson.loads_object(data, what=name, max_bytes=MAX_BYTES, error=ConfigError)
        )


def text_of(fields: strictjson.JsonObject, name: str, what: str) -> str | None:
    """Return a text field, or None when it is absent.

    Raises:
        ConfigError: it is no text, empty, or longer than any name.
    """
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip() or len(value) > 256:
        raise ConfigError(f"{what}: `{name}` must be a text of 1 to 256 characters")
    return value
