"""Who signs: the signers that the options of `sign` name, and the file for the bundle of a keyless one."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli import secrets
from wcp_attest.cli.option_groups import AliasedOption, combine, grouped

if TYPE_CHECKING:
    from wcp_attest.disk.overwrite import OutputKind
    from wcp_attest.signing import Signer
    from wcp_attest.signing.sigstore.keyless_signer import SigstoreSigner

TOKEN_VARIABLE = "SIGSTORE_ID_TOKEN"  # as GitLab CI and cosign call it  # noqa: S105
DEFAULT_TIMEOUT = 60  # seconds; wcp_attest.signing.sigstore.keyless_signer.DEADLINE, which is slow to import
DEVICES = ("pkcs11", "awskms", "gcpkms", "azurekms", "hashivault", "ssh-agent")

_ONLY_KEYLESS = ("identity_token", "browser", "trust_config", "staging", "timeout", "bundle_out")
NOBODY_SIGNS = "no signer is named: give --key FILE, --sigstore, --hmac or --hmac-file FILE"


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


signer_options = combine(
    grouped(
        "Signers",
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
    ),
    grouped(
        "Keyless signing (Sigstore)",
        click.option(
            "--sigstore",
            is_flag=True,
            help="Sign keyless, as this CI job or as you. The identity is published in a public log for good.",
        ),
        click.option(
            "--identity-token",
            metavar="FILE|-|env",
            help=f"Take the identity token from a file, standard input or {TOKEN_VARIABLE}, instead of the CI system.",
        ),
        click.option("--browser", is_flag=True, help="Log in with a browser, without asking the CI system."),
        click.option(
            "--trust-config", type=click.Path(), metavar="FILE", help="Use a private Sigstore instance (JSON)."
        ),
        click.option("--staging", is_flag=True, help="Use Sigstore's public staging instance."),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0, min_open=True),
            metavar="SECONDS",
            help=f"How long signing with Sigstore may take; by default {DEFAULT_TIMEOUT}.",
        ),
        click.option(
            "--bundle-out",
            "--bundle",
            "bundle_out",
            cls=AliasedOption,
            type=click.Path(),
            metavar="FILE",
            help="Also write the Sigstore bundle to a file of its own, as a release asset: NAME.sigstore.json.",
        ),
    ),
)


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
        UsageError: no signer is named, a passphrase for no key, or a flag of `--sigstore` without it; or flags
            contradict each other.
    """
    if flags.passphrase_file is not None and not flags.key:
        raise click.UsageError("--passphrase-file is the passphrase of a --key")
    signers: list[Signer] = [_key(path, flags.passphrase_file) for path in flags.key]
    signers += secrets.hmac_secrets(flags.hmac, flags.hmac_file)
    if flags.sigstore:
        signers.append(_keyless_signer(flags))
    elif (stray := next((name for name in _ONLY_KEYLESS if getattr(flags, name)), None)) is not None:
        raise click.UsageError(f"--{stray.replace('_', '-')} belongs to --sigstore, which is not given")
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


def _keyless_signer(flags: SignerFlags) -> SigstoreSigner:
    """Return the signer that `--sigstore` asks for.

    Raises:
        ConfigError: a file cannot be read or used.
        UsageError: flags contradict each other.
    """
    if flags.trust_config is not None and flags.staging:
        raise click.UsageError("--trust-config and --staging name two different instances")
    if flags.identity_token is not None and flags.browser:
        raise click.UsageError("--identity-token and --browser name two different identities")
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.signing.sigstore.keyless_signer import MAX_CONFIG_BYTES, SigstoreSigner

    config = None
    if flags.trust_config is not None:
        config = read_bounded(flags.trust_config, limit=MAX_CONFIG_BYTES, what="the trust config", follow=True)
    return SigstoreSigner(
        config=config,
        instance="staging" if flags.staging else "production",
        token=None if flags.identity_token is None else _token(flags.identity_token),
        ambient=not flags.browser,
        # A person can be asked to log in; in a CI job nobody would ever answer.
        browser=flags.browser or all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)),
        deadline=flags.timeout or DEFAULT_TIMEOUT,
    )


def check_bundle_path(path: str | None, package: str | None = None) -> None:
    """Refuse to put the bundle where it would change the package that it is about, or where it cannot be written.

    Raises:
        ConfigError: the path lies inside the package, or cannot be written: a signature that is in a public log
            cannot be taken back for that.
    """
    if path is None:
        return
    target = os.path.realpath(path)
    if package is not None and os.path.commonpath([target, root := os.path.realpath(package)]) == root:
        raise ConfigError(f"--bundle-out {path!r} is inside the package, where it would be an unlisted file")
    folder = os.path.dirname(target)
    if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"--bundle-out {path!r} cannot be written: there is no folder to write it in; nothing was signed"
        )
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path)):
        raise ConfigError(f"--bundle-out {path!r} is not a regular file; name another place; nothing was signed")
    from wcp_attest.disk.overwrite import check_place

    check_place(os.path.abspath(path), _bundle_kind())


def write_bundle(path: str, lines: tuple[bytes, ...]) -> None:
    """Write the keyless one of these lines as a file of its own.

    Raises:
        ConfigError: the file cannot be written.
    """
    from wcp_attest.disk.overwrite import write_file
    from wcp_attest.package.signature_file import parse_line

    keyless = next(line for line in lines if parse_line(line).kind == "sigstore")
    write_file(os.path.abspath(path), keyless + b"\n", _bundle_kind())


def _bundle_kind() -> OutputKind:
    from wcp_attest.disk.overwrite import OutputKind
    from wcp_attest.package.ours import is_signature_file
    from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES

    return OutputKind("an earlier bundle of a package", is_signature_file, MAX_SIGNATURE_FILE_BYTES + 1)


def _token(source: str) -> bytes:
    """Return the identity token; it is a secret, so it never stands on the command line itself."""
    from wcp_attest.signing.sigstore.keyless_signer import MAX_TOKEN_BYTES

    if source == "env":
        text = os.environ.get(TOKEN_VARIABLE)
        if text is None:
            raise ConfigError(f"the environment variable {TOKEN_VARIABLE} is not set, where --identity-token looks")
        return os.fsencode(text)
    if source == "-":
        return b"" if sys.stdin is None else sys.stdin.buffer.read(MAX_TOKEN_BYTES + 1)
    from wcp_attest.disk.files import read_bounded

    return read_bounded(source, limit=MAX_TOKEN_BYTES, what="the identity token", follow=True, pipe=True)
