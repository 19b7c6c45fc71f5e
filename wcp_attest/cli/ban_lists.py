"""What the `ban` commands share: spans of time, subjects on the command line, and lists in files."""

from __future__ import annotations

import contextlib
import os
import re
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.cli.option_groups import AliasedOption, grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.disk.overwrite import OutputKind
    from wcp_attest.signing import SignedBy, Signer
    from wcp_attest.trust.bans.ban import Ban, Kind
    from wcp_attest.trust.bans.document import BanList

_SPAN = re.compile(r"([1-9][0-9]{0,5})([smhdw])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MAX_LIFETIME = 400 * 86_400  # seconds; a list with a longer life may be one that nobody keeps up to date
MAX_BANNED_FILE = 1 << 40  # bytes of a file that is hashed in order to ban it

list_argument = click.argument("file", metavar="LIST", type=click.Path())
expires_option = click.option(
    "--expires", metavar="SPAN", help="How long this version may be used: 90m, 12h, 7d, 4w. By default as before."
)


class SubjectFlags(NamedTuple):
    """The subjects to ban, as the command line names them."""

    manifest: tuple[str, ...] = ()
    package: tuple[str, ...] = ()
    root: tuple[str, ...] = ()
    file_digest: tuple[str, ...] = ()
    file_path: tuple[str, ...] = ()
    worker: tuple[str, ...] = ()
    versions: str = ""
    signer_key: tuple[str, ...] = ()
    public_key: tuple[str, ...] = ()
    identity: tuple[str, ...] = ()
    issuer: str = ""
    namespace: tuple[str, ...] = ()


def _many(name: str, metavar: str, text: str, *more: str) -> Callable[[Any], Any]:
    return click.option(name, *more, cls=AliasedOption, multiple=True, metavar=metavar, help=text)


subject_options = grouped(
    "What is banned",
    _many("--package", "DIGEST", "A package hash: hex, or sha256:hex, or blake3:hex."),
    _many("--root", "DIR", "The package in a directory, by the hash in its manifest.json."),
    _many("--manifest", "DIGEST", "One exact manifest.json, by its SHA-256."),
    _many("--file-digest", "DIGEST", "A file wherever it occurs, by its SHA-256."),
    _many("--file", "FILE", "A file wherever it occurs, hashed here.", "file_path"),
    _many("--worker", "ID", "A worker; with --versions only some of it."),
    click.option("--versions", default="", metavar="SPEC", help="Of --worker: such as '>=1.2,<1.4.3'."),
    _many(
        "--key-id", "ID", "A signer's key: its id, or hmac-sha256:hex of a shared secret.", "--signer-key", "signer_key"
    ),
    _many("--public-key", "FILE", "A signer's key, by its public key file."),
    _many("--identity", "NAME", "A keyless signer or its repository; a * at the end stands for anything."),
    click.option("--issuer", default="", metavar="URL", help="Of --identity: only from this issuer."),
    _many("--namespace", "NAME", "A whole namespace: org.<name> or x.<name>."),
)

# Options that take a digest, and those that take the path of what has it.
_FILES_INSTEAD: Final = (
    ("--package", "package", "--root"),
    ("--file-digest", "file_digest", "--file"),
    ("--key-id", "signer_key", "--public-key"),
)


def subjects_of(flags: SubjectFlags) -> list[tuple[Kind, str]]:
    """Return the subjects that the flags name.

    Raises:
        ConfigError: a file cannot be read or is not what it should be.
        UsageError: the flags name no subject.
    """
    from wcp_attest.trust.bans.ban import Kind

    found = [(Kind.MANIFEST, text) for text in flags.manifest]
    found += [(Kind.PACKAGE, text) for text in flags.package]
    found += [(Kind.PACKAGE, _package_hash(root)) for root in flags.root]
    found += [(Kind.FILE, text) for text in flags.file_digest]
    found += [(Kind.FILE, _file_digest(path)) for path in flags.file_path]
    found += [(Kind.WORKER, text) for text in flags.worker]
    found += [(Kind.KEY, text) for text in flags.signer_key]
    found += [(Kind.KEY, _key_id(path)) for path in flags.public_key]
    found += [(Kind.IDENTITY, text) for text in flags.identity]
    found += [(Kind.NAMESPACE, text) for text in flags.namespace]
    if not found:
        raise click.UsageError("no subject is named: give --package, --root, --file, --worker, --identity or another")
    for option, texts, other in _FILES_INSTEAD:
        if mistaken := [text for text in getattr(flags, texts) if os.path.exists(text)]:
            raise click.UsageError(f"{option} takes a digest, and {mistaken[0]!r} is a path; use {other} for it")
    if flags.versions and not flags.worker:
        raise click.UsageError("--versions narrows --worker, which is not given")
    if flags.issuer and not flags.identity:
        raise click.UsageError("--issuer narrows --identity, which is not given")
    return found


def bans_of(
    flags: SubjectFlags,
    subjects: Sequence[tuple[Kind, str]],
    *,
    reason: str,
    banned_at: str,
    source: str,
    reference: str = "",
) -> list[Ban]:
    """Return the bans that the flags describe.

    Args:
        flags: what narrows the bans.
        subjects: what is banned (`subjects_of`).
        reason: why.
        banned_at: `2026-03-01T12:00:00Z`.
        source: who says so.
        reference: a URL, or empty.

    Raises:
        ConfigError: a part is malformed.
    """
    from wcp_attest.trust.bans.ban import Kind, make_ban

    return [
        make_ban(
            kind,
            subject,
            reason=reason,
            banned_at=banned_at,
            source=source,
            versions=flags.versions if kind is Kind.WORKER else "",
            issuer=flags.issuer if kind is Kind.IDENTITY else "",
            reference=reference,
        )
        for kind, subject in subjects
    ]


def span(text: str) -> int:
    """Return a span such as `7d` in seconds.

    Raises:
        ConfigError: it is none, or longer than a list may live.
    """
    found = _SPAN.match(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= MAX_LIFETIME:
        raise ConfigError(f"{text[:40]!r} is not a span of at most 400d, such as 90m, 12h, 7d or 4w")
    return seconds


def now() -> int:
    """Return the time in whole seconds since the epoch."""
    return int(time.time())


def read_list(path: str) -> tuple[bytes, BanList]:
    """Read a list to work on; nothing is verified.

    Raises:
        ConfigError: it cannot be read, or is malformed.
    """
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.trust.bans.document import MAX_LIST_BYTES, BanList

    data = read_bounded(path, limit=MAX_LIST_BYTES, what="the ban list", follow=True)
    with as_input():
        return data, BanList.from_bytes(data, what=f"the ban list {path!r}")


@contextlib.contextmanager
def as_input() -> Iterator[None]:
    """Read a list that is the input of a command: one that cannot be used is a mistake, and not a list to refuse.

    Raises:
        ConfigError: the block raises BansUnusable.
    """
    try:
        yield
    except BansUnusable as problem:
        raise ConfigError(str(problem)) from None


@contextlib.contextmanager
def editing(path: str) -> Iterator[None]:
    """Keep other wcp-attest processes out while a list is read, changed and written; no change is lost meanwhile.

    Raises:
        ConfigError: another process writes there for too long.
    """
    from wcp_attest.disk.overwrite import only_writer

    with only_writer(os.path.dirname(os.path.realpath(path))):
        yield


def write_list(path: str, before: bytes | None, listed: BanList, signatures: bytes | None = None) -> None:
    """Write a list and its signatures, both or neither. Call it inside `editing`.

    Args:
        path: of the list.
        before: what was read, None for a new list.
        listed: what to write.
        signatures: the content of the signature file; None leaves that as it is.

    Raises:
        ConfigError: it cannot be written, or another program changed the list in between. The old files stand then.
    """
    from wcp_attest.disk.overwrite import OutputKind, Planned, check_unchanged, write_files
    from wcp_attest.trust.bans.document import MAX_LIST_BYTES

    real = os.path.realpath(path)
    data = listed.to_bytes()
    if len(data) > MAX_LIST_BYTES:
        raise ConfigError(f"the list would be larger than {MAX_LIST_BYTES} bytes; start a second one")
    kind = OutputKind("the ban list that was read", lambda found: found == before, MAX_LIST_BYTES + 1)
    files = [Planned(real, data, kind)]
    if signatures is not None:
        place, signature_kind = signature_place(path)
        files.append(Planned(place, signatures, signature_kind))
    check_unchanged(real, before)
    write_files(files)


def write_signatures(path: str, before: bytes, signatures: bytes) -> None:
    """Write the signature file of a list that stays as it is. Call it inside `editing`.

    Args:
        path: of the list.
        before: the list that was signed.
        signatures: the content of the signature file.

    Raises:
        ConfigError: it cannot be written, or another program changed the list in between.
    """
    from wcp_attest.disk.overwrite import check_unchanged, write_file

    check_unchanged(os.path.realpath(path), before)
    place, kind = signature_place(path)
    write_file(place, signatures, kind)


def signature_place(path: str) -> tuple[str, OutputKind]:
    """Return where the signatures of a list go, and which files may be replaced there.

    Args:
        path: of the list; a link is followed.
    """
    from wcp_attest.disk.overwrite import OutputKind
    from wcp_attest.package.ours import is_signature_lines
    from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES
    from wcp_attest.trust.bans.signed_list import SIGNATURE_SUFFIX

    kind = OutputKind("a signature file of wcp-attest", is_signature_lines, MAX_SIGNATURE_FILE_BYTES + 1)
    return os.path.realpath(path) + SIGNATURE_SUFFIX, kind


def sign_bytes(
    path: str, listed: BanList, data: bytes, signers: Sequence[Signer], bundle_out: str | None
) -> tuple[bytes, tuple[SignedBy, ...]]:
    """Sign a list that stands, or will stand, at a path; write nothing but the bundle that is asked for.

    Args:
        path: of the list; signatures of others over the same list are kept from the file beside it.
        listed: the list.
        data: its bytes.
        signers: who signs, at least one.
        bundle_out: a file for the keyless signature alone, or None.

    Returns:
        The content of the signature file, and who signed now.

    Raises:
        ConfigError: a signature cannot be made, or a file cannot be read or written.
    """
    from wcp_attest.base.digest import sha256_hex
    from wcp_attest.cli.signers import write_bundle
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES
    from wcp_attest.trust.bans.rollback_guard import Seen
    from wcp_attest.trust.bans.signed_list import sign_list

    beside, _ = signature_place(path)
    earlier = b""
    if os.path.lexists(beside):
        earlier = read_bounded(beside, limit=MAX_SIGNATURE_FILE_BYTES, what="the signatures")
    signatures, made_by = sign_list(Seen(listed.head, sha256_hex(data)), signers, earlier)
    if bundle_out is not None:
        write_bundle(bundle_out, tuple(signatures.splitlines()[-len(made_by) :]))
    return signatures, made_by


def list_json(path: str, listed: BanList) -> JsonObject:
    """Return what every JSON result says of a list."""
    return {"file": path, **listed.head.to_json(), "bans": len(listed.bans)}


def headline(listed: BanList) -> str:
    """Return a list in one line."""
    fields = listed.head.to_json()
    return f"{fields['name']} version {fields['version']}, issued {fields['issued_at']}, expires {fields['expires_at']}"


def _package_hash(root: str) -> str:
    from wcp_attest.base.errors import VerificationError
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.disk.placement import find_place
    from wcp_attest.package.manifest import MAX_MANIFEST_BYTES, Manifest

    path = find_place(root).manifest
    if os.path.isdir(root) and not os.path.lexists(path):
        raise ConfigError(f"{root!r} holds no manifest; of a package with a detached pair name the pair's directory")
    try:
        manifest = Manifest.from_bytes(read_bounded(path, limit=MAX_MANIFEST_BYTES, what="the manifest"))
    except VerificationError as problem:
        raise ConfigError(f"{path!r}: {problem}") from None
    return f"{manifest.hash_algorithm}:{manifest.package_hash}"


def _file_digest(path: str) -> str:
    from hashlib import sha256

    from wcp_attest.disk.private_files import open_regular

    try:
        descriptor = open_regular(path, f"the file {path!r}")
    except BansUnusable as problem:
        raise ConfigError(str(problem)) from None
    hasher = sha256()
    with open(descriptor, "rb") as stream:
        for block in _blocks(stream.read, path):
            hasher.update(block)
    return hasher.hexdigest()


def _blocks(read: Callable[[int], bytes], path: str) -> Iterator[bytes]:
    left = MAX_BANNED_FILE
    try:
        while block := read(1 << 20):
            left -= len(block)
            if left < 0:
                raise ConfigError(f"the file {path!r} is larger than {MAX_BANNED_FILE} bytes")
            yield block
    except OSError as problem:
        raise ConfigError(f"the file {path!r} cannot be read: {problem.strerror}") from None


def _key_id(path: str) -> str:
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.signing.key import MAX_KEY_FILE_BYTES, TrustedKey

    data = read_bounded(path, limit=MAX_KEY_FILE_BYTES, what="the public key", follow=True)
    return TrustedKey.from_file_bytes(data, what=path).key_id
