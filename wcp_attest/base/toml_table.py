"""TOML 1.0 read strictly: bytes that may hold anything, and tables whose every key must be known."""

from __future__ import annotations

import os
import re
from codecs import BOM_UTF8
from typing import Any

from wcp_attest.base.errors import ConfigError

MAX_KEY_PARTS = 100  # of a dotted key; the reader's time grows with the square of them
# What is no key: strings of every kind, and comments. A string without an end goes on to the end of the text, so that
# each character is looked at once.
_NOT_KEY = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+(?:"""|\Z)'
    r"|'''(?:[^']|'(?!''))*+(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|\#[^\n]*+",
    re.DOTALL,
)
_BETWEEN_KEYS = re.compile(r"[=,\n\[\]{}]")
_AGE = re.compile(r"([1-9][0-9]{0,8})([smhdw])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def loads(data: bytes, what: str) -> dict[str, Any]:
    """Read a document.

    Args:
        data: UTF-8, with or without a byte order mark (editors on Windows write one). The caller bounds its size.
        what: the document in words, for messages.

    Returns:
        The top table.

    Raises:
        ConfigError: it is not UTF-8 or not TOML, is nested too deeply, or holds a number of too many digits or a key
            of too many parts.
    """
    import tomllib

    try:
        text = data.removeprefix(BOM_UTF8).decode()
        if text.count(".") > MAX_KEY_PARTS:
            keys = _BETWEEN_KEYS.split(_NOT_KEY.sub("", text))
            if max(key.count(".") for key in keys) >= MAX_KEY_PARTS:
                raise ConfigError(f"{what} holds a dotted key of more than {MAX_KEY_PARTS} parts")
        return tomllib.loads(text)
    except UnicodeDecodeError:
        raise ConfigError(f"{what} is not valid UTF-8") from None
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"{what} is not TOML: {problem}") from None
    except ValueError:
        raise ConfigError(f"{what} holds a number of too many digits") from None
    except RecursionError:
        raise ConfigError(f"{what} is nested too deeply") from None


class Table:
    """One table of a policy, read key by key. Each key can be read once; `finish` refuses what is left.

    Args:
        values: the table as the TOML reader gives it.
        name: its dotted name, for messages; empty for the whole file.
    """

    def __init__(self, values: dict[str, object], name: str) -> None:
        self._values, self._name = dict(values), name

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str) -> str:
        """Read a text.

        Args:
            key: the key in this table.

        Returns:
            The text, which holds more than white space.

        Raises:
            ConfigError: it is missing, empty or not a text.
        """
        value = self._take(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "a text that is not empty")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """Read a whole number.

        Args:
            key: the key in this table.
            default: what it is when the key is missing; without one, the key must be there.

        Returns:
            The number.

        Raises:
            ConfigError: it is missing without a default, or not a whole number.
        """
        value = self._values.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(key, "a whole number")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Read true or false.

        Args:
            key: the key in this table.
            default: what it is when the key is missing.

        Returns:
            The value.

        Raises:
            ConfigError: it is neither true nor false.
        """
        value = self._values.pop(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Read a list of texts.

        Args:
            key: the key in this table.

        Returns:
            The texts, at least one, none of them empty.

        Raises:
            ConfigError: it is missing, empty, or not a list of texts.
        """
        value = self._take(key)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            raise self.wrong(key, "a list of texts that is not empty")
        return tuple(value)

    def age(self, key: str) -> int:
        """Read a span of time such as `90s`, `15m`, `12h`, `400d` or `8w`.

        Args:
            key: the key in this table.

        Returns:
            The span in seconds.

        Raises:
            ConfigError: it is missing, or has another form.
        """
        found = _AGE.match(self.text(key))
        if found is None:
            raise self.wrong(key, "a span such as 90s, 15m, 12h, 400d or 8w")
        return int(found[1]) * _SECONDS[found[2]]

    def path(self, key: str, folder: str) -> str:
        """Read the path of a file or directory.

        Args:
            key: the key in this table.
            folder: the path is relative to it.

        Returns:
            The absolute path.

        Raises:
            ConfigError: it is missing, empty, not a text, or holds a zero byte.
        """
        name = self.text(key)
        if "\0" in name:
            raise self.wrong(key, "a path without zero bytes")
        return os.path.abspath(os.path.join(folder, name))

    def url(self, key: str) -> str:
        """Read a URL. What is needed to fetch it is not imported.

        Args:
            key: the key in this table.

        Returns:
            The URL as it is written: https, or http on loopback.

        Raises:
            ConfigError: it is missing, empty, not a text, not such a URL, or carries a query.
        """
        from wcp_attest.base.url_origin import UrlOrigin

        url = self.text(key)
        if "?" in url:
            raise self.wrong(key, "a URL without a query")
        UrlOrigin.of(url)
        return url

    def table(self, key: str) -> Table:
        """Read a table inside this one.

        Args:
            key: the key in this table.

        Returns:
            The table; an empty one when the key is missing.

        Raises:
            ConfigError: it is not a table.
        """
        value = self._values.pop(key, {})
        if not isinstance(value, dict):
            raise self.wrong(key, "a table")
        return Table(value, self._path(key))

    def tables(self, key: str) -> tuple[Table, ...]:
        """Read a list of tables (`[[key]]`).

        Args:
            key: the key in this table.

        Returns:
            The tables, at least one.

        Raises:
            ConfigError: it is missing, empty, or not a list of tables.
        """
        value = self._take(key)
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            raise self.wrong(key, f"one or more [[{self._path(key)}]]")
        return tuple(Table(item, f"{self._path(key)}[{number}]") for number, item in enumerate(value, start=1))

    def finish(self) -> None:
        """Refuse every key that was not read.

        Raises:
            ConfigError: there is such a key, so it is unknown.
        """
        if self._values:
            raise ConfigError(f"the policy has an unknown key `{self._path(min(self._values))}`")

    def wrong(self, key: str, expected: str) -> ConfigError:
        """Return the error for a key whose value cannot be used.

        Args:
            key: the key in this table.
            expected: what the value should be, in words.

        Returns:
            The error, to be raised.
        """
        return ConfigError(f"the policy's `{self._path(key)}` is not {expected}")

    def _take(self, key: str) -> object:
        if key not in self._values:
            raise ConfigError(f"the policy has no `{self._path(key)}`")
        return self._values.pop(key)

    def _path(self, key: str) -> str:
        return f"{self._name}.{key}" if self._name else key
