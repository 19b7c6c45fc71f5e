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


def passphrase_from_file(path: str) -> bytes:
    """Return the first line of a passphrase file.

    Args:
        path: the file; one newline at its end does not belong to the passphrase.

    Raises:
        ConfigError: it cannot be read, or is empty.
    """
    from wcp_attest.disk.files import read_bounded

    data = read_bounded(path, limit=MAX_PASSPHRASE_BYTES + 2, what="the passphrase file", follow=True)
    return _checked(data.removesuffix(b"\n").removesuffix(b"\r"), f"the passphrase file {path!r}")


def passphrase_from_environment() -> bytes | None:
    """Return the passphrase of `WCP_ATTEST_KEY_PASSPHRASE`, or None when it is not set.

    Raises:
        ConfigError: it is set and empty.
    """
    text = os.environ.get(PASSPHRASE_VARIABLE)
    return None if text is None else _checked(os.fsencode(text), PASSPHRASE_VARIABLE)


def passphrase_from_prompt(*, confirm: bool) -> bytes | None:
    """Ask for a passphrase on the terminal, or return None when there is none to ask on.

    Args:
        confirm: whether to ask twice.

    Raises:
        ConfigError: it is empty.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    import click

    text: str = click.prompt("Passphrase of the key", hide_input=True, confirmation_prompt=confirm, err=True)
    return _checked(text.encode(), "the passphrase")


def hmac_secrets(from_environment: bool, paths: Sequence[str]) -> tuple[HmacSecret, ...]:
    """Return the shared secrets that the command line names.

    Args:
        from_environment: whether to take the one in `WCP_ATTEST_HMAC_KEY`.
        paths: files that hold one each; a newline at the end does not belong to it.

    Raises:
        ConfigError: one cannot be had, or is too short or too long.
    """
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.signing.hmac import MAX_SECRET_BYTES, HmacSecret

    secrets: list[HmacSecret] = []
    if from_environment:
        text = os.environ.get(HMAC_VARIABLE)
        if text is None:
            raise ConfigError(f"the environment variable {HMAC_VARIABLE} is not set; set it, or use --hmac-file")
        secrets.append(HmacSecret(os.fsencode(text)))
    for path in paths:
        data = read_bounded(path, limit=MAX_SECRET_BYTES + 2, what="the HMAC secret file", follow=True)
        secrets.append(HmacSecret.from_file_bytes(data))
    return tuple(secrets)


def _checked(secret: bytes, what: str) -> bytes:
    if not secret:
        raise ConfigError(f"{what} is empty")
    if len(secret) > MAX_PASSPHRASE_BYTES:
        raise ConfigError(f"{what} is longer than {MAX_PASSPHRASE_BYTES} bytes")
    return secret
