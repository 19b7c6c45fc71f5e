"""TOML 1.0 from bytes that may hold anything: a table, or one clear error."""

from __future__ import annotations

from codecs import BOM_UTF8
from typing import Any

from wcp_attest.base.errors import ConfigError


def loads(data: bytes, what: str) -> dict[str, Any]:
    """Read a document.

    Args:
        data: UTF-8, with or without a byte order mark, as editors on Windows write one. The caller bounds its size.
        what: the document in words, for messages.

    Raises:
        ConfigError: it is not UTF-8 or not TOML, is nested too deeply, or holds a number of too many digits.
    """
    import tomllib

    try:
        return tomllib.loads(data.removeprefix(BOM_UTF8).decode())
    except UnicodeDecodeError:
        raise ConfigError(f"{what} is not valid UTF-8") from None
    except tomllib.TOMLDecodeError as problem:
        raise ConfigError(f"{what} is not TOML: {problem}") from None
    except ValueError:
        raise ConfigError(f"{what} holds a number of too many digits") from None
    except RecursionError:
        raise ConfigError(f"{what} is nested too deeply") from None
