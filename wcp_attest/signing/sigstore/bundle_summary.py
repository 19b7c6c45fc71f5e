"""What a keyless line says of itself, for `show` and for advice. Nothing here verifies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wcp_attest.base.errors import SignatureInvalid
from wcp_attest.base.identity import format_utc
from wcp_attest.signing.sigstore.certificate import claims_of, load_certificate
from wcp_attest.signing.sigstore.trusted_root import in_words

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore_models.bundle.v1 import Bundle

    from wcp_attest.package.signature_file import Line
    from wcp_attest.signing.sigstore.signer_identity import CertificateClaims


@dataclass(frozen=True, slots=True)
class KeylessSummary:
    """What a keyless line says of itself.

    Attributes:
        claims: who signed, as the certificate says.
        authority: who issued the certificate: its issuer as RFC 4514 writes names.
        certificate_from: from when on the certificate is valid, `2026-11-22T14:00:05Z`; the signature is not older.
        logged_at: the log's time in the same form, empty where the log gives none.
        log_index: the entry's index in the log.
        log_id: the log's id, hex.
        timestamps: the times of the signed timestamps, in the same form.
    """

    claims: CertificateClaims
    authority: str
    certificate_from: str
    logged_at: str
    log_index: int
    log_id: str
    timestamps: tuple[str, ...]


def claims_in(line: Line) -> CertificateClaims:
    """Return who a keyless line names as its signer, unverified.

    Args:
        line: a line of kind `sigstore`.

    Raises:
        SignatureInvalid: the line is malformed.
    """
    return claims_of(_read(line)[1])


def summary_of(line: Line) -> KeylessSummary:
    """Return what a keyless line says of itself, unverified.

    Args:
        line: a line of kind `sigstore`.

    Raises:
        SignatureInvalid: the line is malformed, or does not hold exactly one log entry.
    """
    from rfc3161_client import decode_timestamp_response

    bundle, certificate = _read(line)
    material = bundle.verification_material
    if len(material.tlog_entries) != 1:
        raise SignatureInvalid("the Sigstore bundle does not hold exactly one log entry")
    entry = material.tlog_entries[0]
    data = material.timestamp_verification_data
    try:
        stamps = [
            decode_timestamp_response(stamp.signed_timestamp).tst_info.gen_time.timestamp()
            for stamp in (data.rfc3161_timestamps if data else None) or ()
        ]
        return KeylessSummary(
            claims=claims_of(certificate),
            authority=certificate.issuer.rfc4514_string(),
            certificate_from=format_utc(certificate.not_valid_before_utc.timestamp()),
            logged_at=format_utc(entry.integrated_time) if entry.integrated_time else "",
            log_index=entry.log_index,
            log_id=entry.log_id.key_id.hex(),
            timestamps=tuple(format_utc(stamp) for stamp in stamps),
        )
    except (ValueError, OverflowError, OSError) as problem:
        raise SignatureInvalid(f"the Sigstore bundle is malformed: {in_words(problem)}") from None


def _read(line: Line) -> tuple[Bundle, Certificate]:
    """Return the bundle of a line and the certificate in it, both unverified."""
    from sigstore_models.bundle.v1 import Bundle

    try:
        bundle = Bundle.from_json(line.raw)
    except ValueError as problem:
        raise SignatureInvalid(f"the Sigstore bundle is malformed: {in_words(problem)}") from None
    certificate = bundle.verification_material.certificate
    if certificate is None:
        raise SignatureInvalid("the Sigstore bundle holds no certificate")
    try:
        return bundle, load_certificate(certificate.raw_bytes)
    except ValueError as problem:
        raise SignatureInvalid(f"the signing certificate is malformed: {in_words(problem)}") from None
