"""Sign a package: make the lines, verify them, and only then let them replace what stands on disk.

Signatures accumulate. A further signer appends a line; the same signer replaces its own; lines over another manifest
than the one signed now are dropped, because they could only deny.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ParamSpec, cast

from wcp_attest.base.errors import ConfigError, ManifestMissing, SigningError, VerificationError
from wcp_attest.base.identity import format_utc
from wcp_attest.build import output_place, pair_directory
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.files import PendingFile, contains, pending_file, read_bounded
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.overwrite import check_unchanged, only_writer, put_all
from wcp_attest.package.manifest import MAX_MANIFEST_BYTES, SIGNATURE_NAME, Manifest
from wcp_attest.package.signature_file import MAX_LINES, MAX_SIGNATURE_FILE_BYTES, Line, parse_lines
from wcp_attest.package.statement import Statement
from wcp_attest.signing.signature_lines import make_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wcp_attest.disk.placement import PairPlace
    from wcp_attest.signing import SignedBy, Signer


P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class SignResult:
    """What signing did.

    Attributes:
        manifest: what was signed.
        manifest_sha256: of its bytes, 64 lower-case hex digits.
        signed_at_utc: `2026-11-22T14:00:05Z`.
        signers: who signed now.
        lines: the lines made now, in the order of the signers.
        kept: how many earlier lines stay.
        dropped: how many earlier lines covered another manifest or could not be read, and are gone.
        place: where the two files lie.
    """

    manifest: Manifest
    manifest_sha256: str
    signed_at_utc: str
    signers: tuple[SignedBy, ...]
    lines: tuple[bytes, ...]
    kept: int
    dropped: int
    place: PairPlace


def _one_at_a_time(function: Callable[P, SignResult]) -> Callable[P, SignResult]:
    """Keep other signers out from the first look at the tree to the last byte written."""

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> SignResult:
        root = args[0] if args else options["root"]
        with only_writer(os.fspath(cast("str", root))):
            return function(*args, **options)

    return call


@_one_at_a_time
def sign(
    root: str | os.PathLike[str],
    signers: Sequence[Signer],
    *,
    manifest: Manifest | None = None,
    now: float | None = None,
    options: ReadOptions | None = None,
    attestation: str | os.PathLike[str] | None = None,
) -> SignResult:
    """Sign a package and verify what was written.

    Args:
        root: the package directory.
        signers: who signs, at least one.
        manifest: one just built from this very tree, to be written and signed; None signs the `manifest.json` that
            stands there, after the tree was found to match it.
        now: the time of signing in seconds since the epoch; the clock by default.
        options: how to read the tree; its `placement` says where the pair goes (`wcp_attest.build.output_place`).
        attestation: the directory for a detached pair, outside of the package.

    Raises:
        ConfigError: no signer is given, or the package cannot be written to. The old files are unchanged.
        ManifestMissing: there is no manifest to sign.
        ManifestMalformed: it is not in its one accepted spelling.
        TreeMismatch: the tree is not what the manifest says; build it again.
        TreeUnsafe: the tree cannot be read safely.
        SigningError: a signature could not be made, or does not verify.
    """
    if not signers:
        raise ConfigError("no signer is given; sign with a key, a shared secret or Sigstore")
    package = os.fspath(root)
    options = options or ReadOptions()
    place = output_place(package, options.placement, attestation)
    manifest_path, signature_path = place.manifest, place.signatures
    if manifest is None:
        data = read_bounded(manifest_path, limit=MAX_MANIFEST_BYTES, what="the manifest", missing=ManifestMissing)
        manifest = Manifest.from_bytes(data)
        check_tree(package, manifest, options=replace(options, placement=place.placement))
    else:
        data = manifest.to_bytes()
    with pair_directory(place), only_writer(place.directory), contextlib.ExitStack() as drafts:
        output_place(package, place.placement, attestation)
        written: list[PendingFile] = []
        if not contains(manifest_path, data):
            # On its way to the disk while it is signed. That the package cannot be written to is found out before a
            # signature is made, which a public log may keep.
            written.append(drafts.enter_context(pending_file(manifest_path, data)))
        statement = Statement.of(manifest, data, signed_at_utc=format_utc(time.time() if now is None else now))
        there = os.path.lexists(signature_path)
        before = read_bounded(signature_path, limit=MAX_SIGNATURE_FILE_BYTES, what=SIGNATURE_NAME) if there else None
        lines, made_by = make_lines(signers, statement.to_bytes())
        kept, dropped = _earlier_lines(before, signers, statement.manifest_sha256)
        signatures = b"".join(line + b"\n" for line in (*kept, *lines))
        if len(kept) + len(lines) > MAX_LINES or len(signatures) > MAX_SIGNATURE_FILE_BYTES:
            raise ConfigError(f"{SIGNATURE_NAME} would hold more than {MAX_LINES} signatures")
        written.append(drafts.enter_context(pending_file(signature_path, signatures)))
        for one in written:
            one.settle()
        check_unchanged(signature_path, before)
        put_all(written)
    if not contains(manifest_path, data) or not contains(signature_path, signatures):
        raise SigningError("what was written does not read back the same; another program is writing to the package")
    return SignResult(
        manifest, statement.manifest_sha256, statement.signed_at_utc, made_by, lines, len(kept), dropped, place
    )


def _earlier_lines(data: bytes | None, signers: Sequence[Signer], manifest_sha256: str) -> tuple[list[bytes], int]:
    """Return the lines that stay, and how many do not because they are over another manifest."""
    if not data:
        return [], 0
    earlier = parse_lines(data)
    current = [line for line in earlier if _covers(line, manifest_sha256)]
    kept = [line.raw for line in current if not any(signer.made(line) for signer in signers)]
    return kept, len(earlier) - len(current)


def _covers(line: Line, manifest_sha256: str) -> bool:
    try:
        return Statement.from_bytes(line.envelope.payload).manifest_sha256 == manifest_sha256
    except VerificationError:
        return False
