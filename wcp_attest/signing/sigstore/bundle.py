"""Verify a keyless line of a signature file: a Sigstore bundle with a certificate.

The `sigstore` library checks certificate chain, certificate timestamp, inclusion proof, checkpoint, promise, DSSE
signature and log entry. What it leaves to its caller is checked here, always:

* the trusted root holds only what was valid at the proven times of the signature (`trusted_root`);
* every timestamp that is there holds, and there is one where the policy demands it (`timestamps`);
* the payload and its type are those that the rest of the toolkit reads: two parsers must not see two messages;
* every error that the library, or what lies under it, raises becomes a refusal.

Who signed is compared with the policy afterwards, from the claims of the verified certificate (`signer_identity`). A
bundle can be changed in ways that keep it valid, so neither it nor its digest is used as a name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from wcp_attest.base.errors import SignatureInvalid, TrustUnusable
from wcp_attest.package.signature_file import PAYLOAD_TYPE
from wcp_attest.signing import SignedBy
from wcp_attest.signing.sigstore.certificate import claims_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.x509 import Certificate
    from sigstore_models.bundle.v1 import Bundle as BundleModel
    from sigstore_models.trustroot.v1 import TrustedRoot

    from wcp_attest.package.signature_file import Line
    from wcp_attest.signing import SigstoreTrust
    from wcp_attest.signing.sigstore.signer_identity import CertificateClaims


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """A keyless signature that holds.

    Attributes:
        claims: what the certificate says of who signed.
        by: who signed, made of the claims by `signer_of`.
        at: when, the earliest proven time, in seconds since the epoch.
    """

    claims: CertificateClaims
    by: SignedBy
    at: int


def signer_of(claims: CertificateClaims) -> SignedBy:
    """Return the holder of a certificate, with every name by which a ban may hit them.

    Args:
        claims: of a verified certificate, unless the caller says that the signer is unproven.
    """
    repository = claims.source_repository_uri or ""
    return SignedBy(identity=claims.san, issuer=claims.issuer, repository=repository, names=claims.names)


def verify_bundle(line: Line, trust: SigstoreTrust) -> VerifiedBundle:
    """Verify a keyless line. Who signed is compared with the policy by the caller.

    Args:
        line: a line of kind `sigstore`.
        trust: the trusted root to verify by, and whether a timestamp is demanded.

    Returns:
        Who signed, and when.

    Raises:
        SignatureInvalid: it is malformed, not valid, or was made when a log or authority it rests on was not valid.
        TrustUnusable: there is no usable trusted root.
    """
    from wcp_attest.signing.sigstore.trusted_root import trusted_root, valid_at

    bundle = _parse(line)
    root = trusted_root(trust)
    times = _proven_times(bundle, line.envelope.signature, root, require_timestamp=trust.require_timestamp)
    valid_root, left_out = valid_at(root, times)
    try:
        certificate = _verify(bundle, valid_root, line)
    except SignatureInvalid as problem:
        if not left_out:
            raise
        raise SignatureInvalid(f"{problem}; at {times[0].isoformat()} {'; '.join(left_out)}") from None
    claims = claims_of(certificate)
    return VerifiedBundle(claims, signer_of(claims), int(min(times).timestamp()))


def _parse(line: Line) -> BundleModel:
    """Read the bundle as the library does, and refuse what the library would write differently.

    It takes field names in two spellings and base64 with anything after its padding; other clients do not.
    """
    from sigstore_models.bundle.v1 import Bundle

    from wcp_attest.signing.sigstore.trusted_root import in_words

    try:
        bundle = Bundle.from_json(line.raw)
        as_written = json.loads(bundle.to_json())
    except ValueError as problem:
        raise SignatureInvalid(f"the Sigstore bundle is malformed: {in_words(problem)}") from None
    if as_written != json.loads(line.raw):
        raise SignatureInvalid("the Sigstore bundle is malformed: a field is not in its one accepted spelling")
    return bundle


def _proven_times(
    bundle: BundleModel, signature: bytes, root: TrustedRoot, *, require_timestamp: bool
) -> Sequence[datetime]:
    """Return the times of the signature: verified timestamps, and the log's, which the library verifies later."""
    from wcp_attest.signing.sigstore.timestamps import verified_times

    material = bundle.verification_material
    data = material.timestamp_verification_data
    stamps = [stamp.signed_timestamp for stamp in (data.rfc3161_timestamps if data else None) or ()]
    times = list(verified_times(stamps, signature, root.timestamp_authorities))
    if require_timestamp and not times:
        raise SignatureInvalid("the policy demands a signed timestamp (RFC 3161), and the bundle has none")
    for entry in material.tlog_entries or ():
        if entry.integrated_time and entry.inclusion_promise:
            try:
                times.append(datetime.fromtimestamp(entry.integrated_time, tz=UTC))
            except (ValueError, OverflowError, OSError):
                raise SignatureInvalid(f"the log entry's time {entry.integrated_time} is out of range") from None
    if not times:
        raise SignatureInvalid("nothing in the bundle proves the time of the signature: neither timestamp nor promise")
    return times


class _Anybody:
    """A policy in the library's sense that accepts anybody: who signed is compared by ours."""

    def verify(self, cert: Certificate) -> None:
        """Accept."""


def _verify(model: BundleModel, root_model: TrustedRoot, line: Line) -> Certificate:
    """Let the library verify, and compare what it read with what we read."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.x509 import DuplicateExtension, ExtensionNotFound, InvalidVersion
    from sigstore.errors import Error
    from sigstore.models import Bundle, TrustedRoot
    from sigstore.verify import Verifier

    from wcp_attest.signing.sigstore.trusted_root import in_words

    try:
        root = TrustedRoot(root_model)
    except Error as problem:
        raise TrustUnusable(f"the trusted root cannot be used: {in_words(problem)}") from None
    try:
        bundle = Bundle(model)
        payload_type, payload = Verifier(trusted_root=root).verify_dsse(bundle, _Anybody())
    except (
        Error,
        ValueError,  # a malformed certificate, time or log entry; pydantic's ValidationError is one
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
        OSError,
        AssertionError,
        DuplicateExtension,
        ExtensionNotFound,
        InvalidSignature,
        InvalidVersion,
        UnsupportedAlgorithm,
    ) as problem:
        raise SignatureInvalid(f"the keyless signature is not valid: {in_words(problem)}") from None
    if payload != line.envelope.payload or payload_type != line.envelope.payload_type:
        raise SignatureInvalid("the keyless signature covers another message than the one in the signature file")
    if payload_type != PAYLOAD_TYPE:
        raise SignatureInvalid("the keyless signature covers something that is not a statement")
    return bundle.signing_certificate
