"""Signed timestamps (RFC 3161) over a signature: each one that is there must be valid.

The library needs one proven time and skips timestamps that are not valid, so a bundle with a log's promise verifies
whether its timestamps are valid or not. Here a timestamp that is not valid is a refusal: a signature file carries only
proofs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_attest.base.errors import SignatureInvalid, TrustUnusable
from wcp_attest.signing.sigstore.trusted_root import in_words, within

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.x509 import Certificate
    from rfc3161_client import TimeStampResponse
    from sigstore_models.trustroot.v1 import CertificateAuthority

MAX_TIMESTAMPS = 32  # as the library and sigstore-go have it; each costs a signature check
_SHORTEST_CHAIN = 2  # the authority's certificate and its root


def verified_times(
    timestamps: Sequence[bytes], signature: bytes, authorities: Sequence[CertificateAuthority]
) -> tuple[datetime, ...]:
    """Verify every timestamp over a signature and return their times.

    Args:
        timestamps: each a TimeStampResp in DER (RFC 3161, section 2.4.2).
        signature: the raw bytes of the signature that the timestamps are over.
        authorities: the timestamp authorities of the trusted root.

    Returns:
        The time of each, with its time zone, in the order given.

    Raises:
        SignatureInvalid: there are too many, or one is malformed, over something else, or by no trusted authority
            within the window that the root gives it.
        TrustUnusable: an authority of the root is malformed.
    """
    if len(timestamps) > MAX_TIMESTAMPS:
        raise SignatureInvalid(f"the bundle holds more than {MAX_TIMESTAMPS} timestamps")
    from rfc3161_client import decode_timestamp_response

    chains = [(authority, _chain(authority)) for authority in authorities]
    try:
        decoded = [decode_timestamp_response(timestamp) for timestamp in timestamps]
        if any(each.tst_info.gen_time.tzinfo is None for each in decoded):
            raise SignatureInvalid("a timestamp in the bundle has no time zone")
    except ValueError as problem:
        raise SignatureInvalid(f"a timestamp in the bundle is malformed: {in_words(problem)}") from None
    return tuple(_verified_time(timestamp, signature, chains) for timestamp in decoded)


def _verified_time(
    timestamp: TimeStampResponse, signature: bytes, chains: Sequence[tuple[CertificateAuthority, list[Certificate]]]
) -> datetime:
    """Return the time of a timestamp that one of the authorities made within its window."""
    from rfc3161_client import VerificationError, VerifierBuilder

    at = timestamp.tst_info.gen_time
    why = "the trusted root names no timestamp authority"
    for authority, chain in chains:
        builder = VerifierBuilder(intermediates=chain[1:-1], roots=[chain[-1]]).tsa_certificate(chain[0])
        try:
            builder.build().verify_message(timestamp, signature)
        except (VerificationError, ValueError) as problem:
            why = in_words(problem)
            continue
        if within(authority.valid_for, at):
            return at
        why = f"its authority {authority.uri or ''} was not valid at {at.isoformat()}"
    raise SignatureInvalid(f"a timestamp in the bundle is not valid: {why}")


def _chain(authority: CertificateAuthority) -> list[Certificate]:
    from wcp_attest.signing.sigstore.certificate import load_certificate

    try:
        chain = [load_certificate(certificate.raw_bytes) for certificate in authority.cert_chain.certificates]
    except ValueError as problem:
        raise TrustUnusable(f"the trusted root cannot be used: {in_words(problem)}") from None
    if len(chain) < _SHORTEST_CHAIN:
        raise TrustUnusable("the trusted root cannot be used: a timestamp authority needs its certificate and a root")
    return chain
