"""TOML 1.0 from bytes that may hold anything: a table, or one clear error."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from typing import Any

from wcp_attest.base.errors import ConfigError

MAX_KEY_PARTS = 100  # of a dotted key; the reader's time grows with the square of them
# What is no key: strings of either kind, and comments. One that does not end goes on to the end, so that each character
# is looked at once.
_NOT_KEY = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*+(?:"""|\Z)'
    r"|'''(?:[^']|'(?!''))*+(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\[^\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|\#[^\n]*+",
    re.DOTALL,
)
_BETWEEN_KEYS = re.compile(r"[=,\n\[\]{}]")


def loads(data: bytes, what: str) -> dict[str, Any]:
    """Read a document.

    Args:
        data: UTF-8, with or without a byte order mark, as editors on Windows write one. The caller bounds its size.
        what: the document in words, for messages.

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
