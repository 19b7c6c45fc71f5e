"""Sign a package: make the lines, verify them, and only then let them replace what stands on disk.

Signatures accumulate. A further signer appends a line; the same signer replaces its own; lines over another manifest
than the one signed now are dropped, because they could only deny.
"""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError, ManifestMissing, SigningError, VerificationError
from wcp_attest.base.identity import format_utc
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.files import draft, holds, read_bounded, write_atomic
from wcp_attest.disk.options import ReadOptions
from wcp_attest.package.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, SIGNATURE_NAME, Manifest
from wcp_attest.package.signature_file import MAX_LINES, MAX_SIGNATURE_FILE_BYTES, Line, parse_lines
from wcp_attest.package.statement import Statement
from wcp_attest.signing.signature_lines import make_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from wcp_attest.signing import SignedBy, Signer


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
    """

    manifest: Manifest
    manifest_sha256: str
    signed_at_utc: str
    signers: tuple[SignedBy, ...]
    lines: tuple[bytes, ...]
    kept: int
    dropped: int


def sign(
    root: str | os.PathLike[str],
    signers: Sequence[Signer],
    *,
    manifest: Manifest | None = None,
    now: float | None = None,
    options: ReadOptions | None = None,
) -> SignResult:
    """Sign a package and verify what was written.

    Args:
        root: the package directory.
        signers: who signs, at least one.
        manifest: one just built from this very tree, to be written and signed; None signs the `manifest.json` that
            stands there, after the tree was found to match it.
        now: the time of signing in seconds since the epoch; the clock by default.
        options: how to read the tree.

    Raises:
        ConfigError: no signer is given, or the package cannot be written to. What stood there stands there still.
        ManifestMissing: there is no manifest to sign.
        ManifestMalformed: it is not in its one accepted spelling.
        TreeMismatch: the tree is not what the manifest says; build it again.
        TreeUnsafe: the tree cannot be read safely.
        SigningError: a signature could not be made, or does not verify.
    """
    if not signers:
        raise ConfigError("no signer is given; sign with a key, a shared secret or Sigstore")
    package = os.fspath(root)
    if manifest is None:
        data = _read_manifest(package)
        manifest = Manifest.from_bytes(data)
        check_tree(package, manifest, options=options or ReadOptions())
    else:
        data = manifest.to_bytes()
    with _on_its_way(package, data) as put_manifest:
        statement = Statement.of(manifest, data, signed_at_utc=format_utc(time.time() if now is None else now))
        lines, made_by = make_lines(signers, statement.to_bytes())
        kept, dropped = _earlier_lines(package, signers, statement.manifest_sha256)
        signatures = b"".join(line + b"\n" for line in (*kept, *lines))
        if len(kept) + len(lines) > MAX_LINES or len(signatures) > MAX_SIGNATURE_FILE_BYTES:
            raise ConfigError(f"{SIGNATURE_NAME} would hold more than {MAX_LINES} signatures")
        put_manifest()
        write_atomic(os.path.join(package, SIGNATURE_NAME), signatures)
    _read_back(package, data, signatures)
    return SignResult(manifest, statement.manifest_sha256, statement.signed_at_utc, made_by, lines, len(kept), dropped)


def _on_its_way(package: str, manifest: bytes) -> AbstractContextManager[Callable[[], None]]:
    """Send the manifest on its way to the disk, unless it stands there; it is hashed and signed meanwhile.

    A package that cannot be written to is found out by this before a signature is made, which a log may keep for ever.
    """
    path = os.path.join(package, MANIFEST_NAME)
    return nullcontext(lambda: None) if holds(path, manifest) else draft(path, manifest)


def _read_manifest(package: str) -> bytes:
    return read_bounded(
        os.path.join(package, MANIFEST_NAME), limit=MAX_MANIFEST_BYTES, what=MANIFEST_NAME, missing=ManifestMissing
    )


def _earlier_lines(package: str, signers: Sequence[Signer], manifest_sha256: str) -> tuple[list[bytes], int]:
    """Return the lines that stay, and how many do not because they are over another manifest or unreadable."""
    path = os.path.join(package, SIGNATURE_NAME)
    if not os.path.lexists(path):
        return [], 0
    data = read_bounded(path, limit=MAX_SIGNATURE_FILE_BYTES, what=SIGNATURE_NAME)
    try:
        earlier = parse_lines(data)
    except VerificationError:
        return [], max(1, data.count(b"\n")) if data.strip() else 0
    current = [line for line in earlier if _covers(line, manifest_sha256)]
    kept = [line.raw for line in current if not any(signer.made(line) for signer in signers)]
    return kept, len(earlier) - len(current)


def _covers(line: Line, manifest_sha256: str) -> bool:
    try:
        return Statement.from_bytes(line.envelope.payload).manifest_sha256 == manifest_sha256
    except VerificationError:
        return False


def _read_back(package: str, manifest: bytes, signatures: bytes) -> None:
    """See that what was written stands there.

    Raises:
        SigningError: it does not.
    """
    files = ((MANIFEST_NAME, manifest), (SIGNATURE_NAME, signatures))
    if not all(holds(os.path.join(package, name), data) for name, data in files):
        raise SigningError("what was written does not read back the same; somebody else is writing to the package")
