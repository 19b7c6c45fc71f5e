"""Who signs: the signers that the options of `sign` name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli import secrets
from wcp_attest.cli.keyless import keyless_signer, signing_options
from wcp_attest.cli.options import combine

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.signing import Signer
    from wcp_attest.signing.key import KeySigner


class SignerFlags(NamedTuple):
    """What the command line says of signers, as it was given."""

    key: tuple[str, ...] = ()
    passphrase_file: str | None = None
    hmac: bool = False
    hmac_file: tuple[str, ...] = ()
    sigstore: bool = False
    identity_token: str | None = None
    browser: bool = False
    trust_config: str | None = None
    staging: bool = False
    timeout: float | None = None
    bundle_out: str | None = None


def signer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options whose values `SignerFlags` takes."""
    decorated: Callable[..., Any] = combine(
        click.option("--key", multiple=True, type=click.Path(), metavar="FILE", help="Sign with a private key."),
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


def signers_of(flags: SignerFlags) -> tuple[Signer, ...]:
    """Return the signers, in the order of the help.

    Raises:
        ConfigError: a key or secret cannot be had.
        UsageError: nobody is named, or a passphrase for no key.
    """
    if flags.passphrase_file is not None and not flags.key:
        raise click.UsageError("--passphrase-file is the passphrase of a --key")
    signers: list[Signer] = [_key(path, flags.passphrase_file) for path in flags.key]
    signers += secrets.hmac_secrets(flags.hmac, flags.hmac_file)
    keyless = keyless_signer(flags)
    if keyless is not None:
        signers.append(keyless)
    if not signers:
        raise click.UsageError("nobody signs: give --key FILE, --sigstore, --hmac or --hmac-file FILE")
    return tuple(signers)


def _key(path: str, passphrase_file: str | None) -> KeySigner:
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.signing.key import MAX_KEY_FILE_BYTES, KeySigner

    data = read_bounded(path, limit=MAX_KEY_FILE_BYTES, what="the key", follow=True)
    if passphrase_file is not None:
        return KeySigner.from_file_bytes(data, secrets.passphrase_from_file(passphrase_file), what=path)
    passphrase = secrets.passphrase_from_environment()
    if passphrase is None and _is_encrypted(data):
        passphrase = secrets.passphrase_from_prompt(confirm=False)
        if passphrase is None:
            raise ConfigError(
                f"{path} is encrypted; give its passphrase by --passphrase-file or {secrets.PASSPHRASE_VARIABLE}"
            )
    return KeySigner.from_file_bytes(data, passphrase, what=path)


def _is_encrypted(data: bytes) -> bool:
    """Tell whether to ask for a passphrase: PEM says so in words, OpenSSH in the first bytes of its body."""
    if b"BEGIN OPENSSH PRIVATE KEY" not in data:
        return b"ENCRYPTED" in data
    from binascii import Error, a2b_base64

    body = data.partition(b"-----\n")[2].partition(b"-----")[0]
    try:
        return b"bcrypt" in a2b_base64(body)[:64]  # openssh-portable, PROTOCOL.key: cipher and kdf come first
    except Error:
        return False
