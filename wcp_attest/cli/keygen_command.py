"""`wcp-attest keygen`: a new signing key and its public key, never over an old one."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli import secrets
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Output, reporting

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.signing.key import KeyType


@click.command(cls=GroupedCommand)
@click.argument("out_path", metavar="OUT", type=click.Path(dir_okay=False))
@grouped(
    "Key",
    click.option(
        "--type",
        "key_type",
        type=click.Choice(["ed25519", "p256", "p384", "ml-dsa-65"]),
        default="ed25519",
        show_default=True,
        help="Ed25519, ECDSA on P-256 or P-384, or the post-quantum ML-DSA-65.",
    ),
    click.option(
        "--passphrase-file", type=click.Path(dir_okay=False), help="Take the passphrase from the first line of a file."
    ),
    click.option("--no-passphrase", is_flag=True, help="Leave the key unencrypted."),
)
@reporting("text", "json")
def keygen(
    out: Output,
    out_path: str,
    key_type: KeyType,
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
    key_id, encrypted = signer.trusted.key_id, passphrase is not None
    made: list[str] = []  # removed again when one of them, or the result, cannot be written
    try:
        _create(out_path, signer.to_pem(passphrase), 0o600, made)
        _create(public_path, signer.public_pem(), 0o644, made)
        if out.format == "json":
            value: JsonObject = {"type": key_type, "private_key": out_path, "public_key": public_path}
            out.deliver_json("keygen", {**value, "key_id": key_id, "encrypted": encrypted})
        else:
            out.decide(
                f"private key  {out_path}  ({'encrypted' if encrypted else 'not encrypted'}; keep it secret)\n"
                f"public key   {public_path}  (give it to those who verify)\n"
                f"key id       sha256:{key_id}\n"
            )
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise


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


def _create(path: str, data: bytes, mode: int, made: list[str]) -> None:
    """Write a new file to the disk, and note that it was made."""
    from wcp_attest.disk.directory import CREATE_FLAGS, describe_os_error

    step = "create"
    try:
        descriptor = os.open(path, CREATE_FLAGS, mode)
        made.append(path)
        step = "write"
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise ConfigError(f"cannot {step} {path!r}: {describe_os_error(error)}") from None
