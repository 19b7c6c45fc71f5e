"""`wcp-attest keygen`: a new signing key and its public key, never over an old one."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli import secrets
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Misplaced, Output, reporting

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    if out.file is not None and os.path.realpath(out.file) == os.path.realpath(public_path):
        raise Misplaced(f"{out.file!r} is where the public key goes; name another place for the result")
    for path in (out_path, public_path):
        if os.path.lexists(path):
            raise ConfigError(f"{path!r} exists; a key is never overwritten, choose another name")
    passphrase = _passphrase(passphrase_file, no_passphrase)
    from wcp_attest.signing.key import generate

    signer = generate(key_type)
    with _whole_or_not_at_all() as made:
        _create(out_path, signer.to_pem(passphrase), 0o600, made)
        _create(public_path, signer.public_pem(), 0o644, made)
        _tell(out, key_type, out_path, signer.trusted.key_id, encrypted=passphrase is not None)


def _tell(out: Output, key_type: str, path: str, key_id: str, *, encrypted: bool) -> None:
    if out.format == "json":
        out.deliver_json(
            "keygen",
            {
                "type": key_type,
                "private_key": path,
                "public_key": path + ".pub",
                "key_id": key_id,
                "encrypted": encrypted,
            },
        )
        return
    out.decide(
        f"private key  {path}  ({'encrypted' if encrypted else 'not encrypted'}; keep it secret)\n"
        f"public key   {path}.pub  (give it to those who verify)\n"
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


@contextlib.contextmanager
def _whole_or_not_at_all() -> Iterator[list[str]]:
    """Note each file that is made, and remove them all when a later one cannot be made."""
    made: list[str] = []
    try:
        yield made
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                os.unlink(path)
        raise


def _create(path: str, data: bytes, mode: int, made: list[str]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except OSError as error:
        raise _failed("create", path, error) from None
    made.append(path)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        raise _failed("write", path, error) from None


def _failed(step: str, path: str, error: OSError) -> ConfigError:
    from wcp_attest.disk.directory import describe_os_error

    return ConfigError(f"cannot {step} {path!r}: {describe_os_error(error)}")
