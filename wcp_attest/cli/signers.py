"""Who signs: the signers that the options of `sign` name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli import secrets
from wcp_attest.cli.keyless import keyless_signer, signing_options
from wcp_attest.cli.options import SignerFlags, combine

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.signing import Signer


DEVICES = ("pkcs11", "awskms", "gcpkms", "azurekms", "hashivault", "ssh-agent")

NOBODY_SIGNS = "no signer is named: give --key FILE, --sigstore, --hmac or --hmac-file FILE"


def signer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options whose values `SignerFlags` takes."""
    decorated: Callable[..., Any] = combine(
        click.option(
            "--key",
            multiple=True,
            type=click.Path(),
            metavar="FILE|URI",
            help="Sign with a private key: a file, or pkcs11:, ssh-agent:, awskms:, gcpkms:, azurekms:, hashivault:.",
        ),
        click.option(
            "--passphrase-file",
            type=click.Path(),
            metavar="FILE",
            help=f"Take the key's passphrase from a file; else {secrets.PASSPHRASE_VARIABLE} or a prompt.",
        ),
        click.option("--hmac", is_flag=True, help=f"Sign with the shared secret in {secrets.HMAC_VARIABLE}."),
        click.option(
            "--hmac-file", multiple=True, type=click.Path(), metavar="FILE", help="Sign with a shared secret in a file."
        ),
        signing_options,
    )(command)
    return decorated


def _pin(passphrase_file: str | None) -> bytes | None:
    if passphrase_file is not None:
        return secrets.passphrase_from_file(passphrase_file)
    return secrets.passphrase_from_environment() or secrets.passphrase_from_prompt(confirm=False)


def is_file(key: str) -> bool:
    """Tell whether `--key` names a file, and not a device, an agent or a cloud."""
    return key.partition(":")[0] not in DEVICES or ":" not in key


def signers_of(flags: SignerFlags) -> tuple[Signer, ...]:
    """Return the signers, in the order of the help.

    Raises:
        ConfigError: a key or secret cannot be had.
        UsageError: no signer is named, or a passphrase for no key.
    """
    if flags.passphrase_file is not None and not flags.key:
        raise click.UsageError("--passphrase-file is the passphrase of a --key")
    signers: list[Signer] = [_key(path, flags.passphrase_file) for path in flags.key]
    signers += secrets.hmac_secrets(flags.hmac, flags.hmac_file)
    keyless = keyless_signer(flags)
    if keyless is not None:
        signers.append(keyless)
    if not signers:
        raise click.UsageError(NOBODY_SIGNS)
    return tuple(signers)


def _key(path: str, passphrase_file: str | None) -> Signer:
    if not is_file(path):
        from wcp_attest.signing.device_key import DeviceSigner

        return DeviceSigner.open(path, lambda: _pin(passphrase_file))
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.signing.key import MAX_KEY_FILE_BYTES, KeySigner
    from wcp_attest.signing.key_files import is_encrypted

    data = read_bounded(path, limit=MAX_KEY_FILE_BYTES, what="the key", follow=True, pipe=True)
    if passphrase_file is not None:
        return KeySigner.from_file_bytes(data, secrets.passphrase_from_file(passphrase_file), what=path)
    passphrase = secrets.passphrase_from_environment()
    if passphrase is None and is_encrypted(data):
        passphrase = secrets.passphrase_from_prompt(confirm=False)
        if passphrase is None:
            raise ConfigError(
                f"{path} is encrypted; give its passphrase by --passphrase-file or {secrets.PASSPHRASE_VARIABLE}"
            )
    return KeySigner.from_file_bytes(data, passphrase, what=path)
