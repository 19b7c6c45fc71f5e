"""`wcp-attest keygen`: a new signing key and its public key, never over an old one."""

from __future__ import annotations

import contextlib
import os
from typing import Literal

import click

from wcp_attest.cli import secrets
from wcp_attest.cli.output import Output, reporting
from wcp_attest.errors import ConfigError


@click.command()
@click.argument("out_path", metavar="OUT", type=click.Path(dir_okay=False))
@click.option(
    "--type",
    "key_type",
    type=click.Choice(["ed25519", "p256", "p384"]),
    default="ed25519",
    show_default=True,
    help="Ed25519, or ECDSA on P-256 or P-384.",
)
@click.option(
    "--passphrase-file", type=click.Path(dir_okay=False), help="Take the passphrase from the first line of a file."
)
@click.option("--no-passphrase", is_flag=True, help="Leave the key unencrypted.")
@reporting("text", "json")
def keygen(
    out: Output,
    out_path: str,
    key_type: Literal["ed25519", "p256", "p384"],
    passphrase_file: str | None,
    no_passphrase: bool,
) -> None:
    """Make a signing key OUT (for its owner only) and its public key OUT.pub.

    The key is encrypted with a passphrase from --passphrase-file, WCP_ATTEST_KEY_PASSPHRASE or a prompt, unless
    --no-passphrase is given. Existing files are never overwritten.
    """
    public_path = out_path + ".pub"
    for path in (out_path, public_path):
        if os.path.lexists(path):
            raise ConfigError(f"{path!r} exists; a key is never overwritten, choose another name")
    passphrase = _passphrase(passphrase_file, no_passphrase)
    from wcp_attest.signing.key import generate

    signer = generate(key_type)
    _write_pair(out_path, signer.to_pem(passphrase), public_path, signer.public_pem())
    key_id = signer.trusted.key_id
    if out.format == "json":
        out.deliver_json(
            "keygen",
            {
                "type": key_type,
                "private_key": out_path,
                "public_key": public_path,
                "key_id": key_id,
                "encrypted": passphrase is not None,
            },
        )
        return
    out.decide(
        f"private key  {out_path}  ({'encrypted' if passphrase else 'not encrypted'}; keep it secret)\n"
        f"public key   {public_path}  (give it to whoever verifies)\n"
        f"key id       sha256:{key_id}\n"
    )


def _passphrase(path: str | None, none: bool) -> bytes | None:
    if none:
        if path is not None:
            raise click.UsageError("--passphrase-file and --no-passphrase exclude each other")
        return None
    if path is not None:
        return secrets.passphrase_from_file(path)
    passphrase = secrets.passphrase_from_environment() or secrets.passphrase_from_prompt(confirm=True)
    if passphrase is None:
        raise click.UsageError(
            f"no terminal to ask for a passphrase on; use --passphrase-file, {secrets.PASSPHRASE_VARIABLE}"
            " or --no-passphrase"
        )
    return passphrase


def _write_pair(private_path: str, private: bytes, public_path: str, public: bytes) -> None:
    """Create both files or neither."""
    made: list[str] = []
    try:
        for path, data, mode in ((private_path, private, 0o600), (public_path, public, 0o644)):
            _create(path, data, mode, made)
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise


def _create(path: str, data: bytes, mode: int, made: list[str]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as error:
        raise ConfigError(f"cannot create {path!r}: {(error.strerror or str(error)).lower()}") from None
    made.append(path)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise ConfigError(f"cannot write {path!r}: {(error.strerror or str(error)).lower()}") from None
