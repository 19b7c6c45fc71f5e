"""The signatures of a package: which of them hold, and how many distinct trusted signers they amount to.

A line that names a trusted key must verify and must cover this manifest; a line by somebody the policy does not know is
passed over, so that a second signer breaks nothing. A keyless line that does not verify counts for nothing and denies
only where it is missed: which Sigstore instance it belongs to is not known before.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import (
    ManifestMissing,
    SignatureInvalid,
    SignatureMissing,
    SignerUntrusted,
    ThresholdNotMet,
    TrustUnusable,
    VerificationError,
)
from wcp_attest.base.identity import parse_utc
from wcp_attest.disk.files import read_bounded
from wcp_attest.package.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, SIGNATURE_NAME
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES, Line, parse_lines
from wcp_attest.package.statement import Statement
from wcp_attest.signing.signature_lines import distinct, verify_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.signing import SignedBy, TrustedSigner
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity
    from wcp_attest.trust.policy import Namespace, Policy


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that holds.

    Attributes:
        by: who made it.
        statement: what they signed.
        at: when, in seconds since the epoch: as a log or timestamp authority proves, else as the statement says.
        entries: the policy's entries that it matches; a keyless one can match several.
    """

    by: SignedBy
    statement: Statement
    at: int
    entries: tuple[TrustedSigner | SigstoreIdentity, ...]


@dataclass(frozen=True, slots=True)
class PackageFiles:
    """The two files of a package as they stand on disk.

    Attributes:
        manifest: the bytes of `manifest.json`.
        signatures: the bytes of `manifest.sig`, None when there is no such file.
    """

    manifest: bytes
    signatures: bytes | None

    @classmethod
    def read(cls, root: str) -> PackageFiles:
        """Read both, bounded, following no link.

        Raises:
            ManifestMissing: the manifest is absent or unreadable.
            SignatureMissing: the signature file is there but unreadable.
        """
        manifest = read_bounded(
            os.path.join(root, MANIFEST_NAME), limit=MAX_MANIFEST_BYTES, what=MANIFEST_NAME, missing=ManifestMissing
        )
        path = os.path.join(root, SIGNATURE_NAME)
        if not os.path.lexists(path):
            return cls(manifest, None)
        signatures = read_bounded(path, limit=MAX_SIGNATURE_FILE_BYTES, what=SIGNATURE_NAME, missing=SignatureMissing)
        return cls(manifest, signatures)


class Found(NamedTuple):
    """What was found in a signature file.

    Attributes:
        signed: the signatures that hold.
        missed: why each keyless line that counts for nothing does; whoever misses a signer may want to know.
    """

    signed: tuple[Signed, ...]
    missed: tuple[VerificationError, ...] = ()


def verified_signatures(files: PackageFiles, policy: Policy) -> Found:
    """Verify every line that names somebody the policy trusts, and read what they signed.

    Args:
        files: the package's files, signatures included.
        policy: who is believed.

    Raises:
        SignatureMissing: there is no signature.
        SignatureInvalid: a line is malformed, or one that names a trusted key does not hold over this manifest.
        SignerUntrusted: nobody the policy knows signed.
        TrustUnusable: what keyless verification rests on cannot be had.
    """
    digest = sha256_hex(files.manifest)
    signed: list[Signed] = []
    problems: list[VerificationError] = []
    for line in parse_lines(files.signatures or b""):
        try:
            found = _verify_line(line, policy)
        except VerificationError as problem:
            if line.kind != "sigstore":
                raise
            problems.append(problem)
            continue
        if found is not None:
            if found.statement.manifest_sha256 != digest:
                raise SignatureInvalid(f"the signature by {found.by} is over another manifest.json than this one")
            signed.append(found)
    if signed:
        return Found(tuple(signed), tuple(problems))
    if problems:
        raise _unchecked(problems) or problems[0]
    raise SignerUntrusted("none of the signatures is by a signer that the policy names")


def count_signers(
    namespace: Namespace, signed: Sequence[Signed], missed: Sequence[VerificationError] = ()
) -> tuple[Signed, ...]:
    """Return one signature for each distinct signer that the namespace trusts.

    Each entry of the policy counts once, and so does each person or machine: the same identity twice is one signer, and
    one that matches two entries is not two.

    Raises:
        SignerUntrusted: none of them is trusted for this namespace.
        ThresholdNotMet: there are fewer than the threshold.
        TrustUnusable: there are fewer, and one of the others could not be checked.
    """
    counted = distinct(signed, {*namespace.keys, *namespace.identities})
    if not counted:
        others = ", ".join(str(signature.by) for signature in signed)
        raise SignerUntrusted(f"signed by {others}, whom the policy does not trust for namespace {namespace.name}")
    if len(counted) < namespace.threshold:
        unchecked = _unchecked(missed)
        if unchecked is not None:
            raise unchecked
        besides = f"; a further signature does not count: {missed[0]}" if missed else ""
        raise ThresholdNotMet(
            f"{len(counted)} of the {namespace.threshold} signers that namespace {namespace.name} asks for have signed"
            + besides
        )
    return counted


def _unchecked(problems: Sequence[VerificationError]) -> TrustUnusable | None:
    """Return why a line could not even be checked, if that happened: then nothing was found out about it."""
    return next((problem for problem in problems if isinstance(problem, TrustUnusable)), None)


def _verify_line(line: Line, policy: Policy) -> Signed | None:
    """Verify one line and read what it says; None when it names nobody the policy knows."""
    found = verify_line(line, policy.keys, policy.identities, policy.sigstore)
    if found is None:
        return None
    statement = Statement.from_bytes(found.payload)
    at = found.at if found.at is not None else parse_utc(statement.signed_at_utc) or 0
    return Signed(found.by, statement, at, found.entries)
