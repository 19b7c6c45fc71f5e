"""Secrets from files, the environment or a prompt; never from an argument, where other users could read them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.signing.hmac import HmacSecret

PASSPHRASE_VARIABLE = "WCP_ATTEST_KEY_PASSPHRASE"  # noqa: S105  where the passphrase is, not what it is
HMAC_VARIABLE = "WCP_ATTEST_HMAC_KEY"
MAX_PASSPHRASE_BYTES = 1023  # what OpenSSL takes
MAX_FILE_BYTES = 16 * 1024  # room for comments after the first line


def passphrase_from_file(path: str) -> bytes:
    """Return the first line of a passphrase file.

    Args:
        path: the file, or a pipe such as a shell's process substitution.

    Raises:
        ConfigError: it cannot be read, is empty, too long, or not text.
    """
    from wcp_attest.disk.files import read_bounded

    data = read_bounded(path, limit=MAX_FILE_BYTES, what="the passphrase file", follow=True, pipe=True)
    passphrase = _passphrase(data, f"the passphrase file {path!r}")
    if not passphrase:
        raise ConfigError(f"the first line of the passphrase file {path!r} is empty")
    return passphrase


def passphrase_from_environment() -> bytes | None:
    """Return the passphrase of `WCP_ATTEST_KEY_PASSPHRASE`, or None when it is not set or empty.

    CI systems set an empty variable for a secret that does not exist, and a key without a passphrase needs none.

    Raises:
        ConfigError: it is too long.
    """
    text = os.environ.get(PASSPHRASE_VARIABLE, "")
    return _passphrase(os.fsencode(text), PASSPHRASE_VARIABLE) or None


def passphrase_from_prompt(*, confirm: bool) -> bytes | None:
    """Ask for a passphrase on the terminal, or return None when there is none to ask on.

    Args:
        confirm: whether to ask twice.

    Raises:
        ConfigError: it is too long, or not text.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    import click

    try:
        text: str = click.prompt("Passphrase of the key", hide_input=True, confirmation_prompt=confirm, err=True)
    except UnicodeDecodeError:
        raise ConfigError(
            "what was typed is not text in the terminal's encoding; set LANG to it, or use --passphrase-file"
        ) from None
    # Bytes that are no text of the terminal's encoding come as surrogates; they are bytes of a passphrase all the same.
    return _passphrase(text.encode("utf-8", "surrogateescape"), "the passphrase") or None


def hmac_secrets(from_environment: bool, paths: Sequence[str]) -> tuple[HmacSecret, ...]:
    """Return the shared secrets that the command line names.

    Args:
        from_environment: whether to take the one in `WCP_ATTEST_HMAC_KEY`.
        paths: files that hold one each, in their first line.

    Raises:
        ConfigError: one cannot be had, or is too short or too long.
    """
    from wcp_attest.signing.hmac import HmacSecret

    secrets: list[HmacSecret] = []
    if from_environment:
        text = os.environ.get(HMAC_VARIABLE)
        if text is None:
            raise ConfigError(f"the environment variable {HMAC_VARIABLE} is not set; set it, or use --hmac-file")
        secrets.append(HmacSecret.from_file_bytes(os.fsencode(text)))
    return (*secrets, *(HmacSecret.from_file(path) for path in paths))


def _passphrase(data: bytes, what: str) -> bytes:
    from wcp_attest.signing.secret_text import secret_line

    passphrase = secret_line(data, what)
    if len(passphrase) > MAX_PASSPHRASE_BYTES:
        raise ConfigError(f"{what} is longer than {MAX_PASSPHRASE_BYTES} bytes")
    if b"\0" in passphrase:
        raise ConfigError(f"{what} holds a zero byte, which no passphrase can have; save it as UTF-8 text")
    return passphrase
