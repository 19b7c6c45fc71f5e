"""Read what a Fulcio certificate says of its holder.

Fulcio writes one subject alternative name, and the claims of the OIDC token as extensions numbered under
1.3.6.1.4.1.57264.1. Those below 8 hold bare text, the later ones a DER UTF8String (Fulcio's `docs/oid-info.md`). Only
the later ones are read. The issuer is in both forms, and both must agree: two readers that take different ones must not
see two signers.

Nothing here verifies. Give it a certificate whose chain was verified, or treat the claims as unproven.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_attest.base.errors import SignatureInvalid
from wcp_attest.signing.sigstore.signer_identity import MAX_FIELD, CertificateClaims

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, Extensions

_ARC = "1.3.6.1.4.1.57264.1"
_ISSUER, _OTHER_NAME, _ISSUER_V2 = 1, 7, 8
_CLAIMS = {
    "build_signer_uri": 9,
    "runner_environment": 11,
    "source_repository_uri": 12,
    "source_repository_digest": 13,
    "source_repository_ref": 14,
    "build_config_uri": 18,
    "build_trigger": 20,
    "run_invocation_uri": 21,
}
_UTF8_STRING = 0x0C
_LONG_FORM = 0x80


def load_certificate(der: bytes) -> Certificate:
    """Read a certificate; nothing is verified.

    Args:
        der: of an X.509 certificate (RFC 5280).

    Raises:
        ValueError: it is malformed, or of an unknown version.
    """
    from cryptography.x509 import InvalidVersion, load_der_x509_certificate

    try:
        certificate = load_der_x509_certificate(der)
    except InvalidVersion as problem:
        raise ValueError(str(problem)) from None
    # Names are parsed when they are asked for. The library for timestamps panics where OpenSSL cannot read one.
    _ = certificate.subject, certificate.issuer
    return certificate


def claims_of(certificate: Certificate) -> CertificateClaims:
    """Return the claims of a certificate.

    Args:
        certificate: a signing certificate by Fulcio.

    Returns:
        The claims; those that the certificate does not make are None.

    Raises:
        SignatureInvalid: it names no issuer, two different ones, or not exactly one subject; or a claim is malformed,
            longer than 1024 characters, or holds control characters.
    """
    from cryptography import x509

    try:
        extensions = certificate.extensions
        claims = {name: _claim(extensions, number) for name, number in _CLAIMS.items()}
        old, new = _raw(extensions, _ISSUER), _claim(extensions, _ISSUER_V2)
        issuer = new if new is not None else _bounded((old or b"").decode())
        if not issuer or (old is not None and old.decode() != issuer):
            raise SignatureInvalid("the signing certificate names no issuer, or two different ones")
        try:
            names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
        except x509.ExtensionNotFound:
            names = []
        match names:
            case [x509.RFC822Name(value=name) | x509.UniformResourceIdentifier(value=name)] if name:
                return CertificateClaims(issuer=issuer, san=_bounded(name), **claims)
            case [x509.OtherName(type_id=kind, value=value)] if kind.dotted_string == f"{_ARC}.{_OTHER_NAME}":
                return CertificateClaims(issuer=issuer, san=_utf8_string(value), **claims)
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as problem:
        raise SignatureInvalid(f"the signing certificate's extensions are malformed: {problem}") from None
    raise SignatureInvalid("the signing certificate does not name exactly one subject")


def _claim(extensions: Extensions, number: int) -> str | None:
    raw = _raw(extensions, number)
    return None if raw is None else _utf8_string(raw)


def _raw(extensions: Extensions, number: int) -> bytes | None:
    from cryptography import x509

    try:
        extension = extensions.get_extension_for_oid(x509.ObjectIdentifier(f"{_ARC}.{number}"))
    except x509.ExtensionNotFound:
        return None
    value = extension.value
    if not isinstance(value, x509.UnrecognizedExtension):
        raise SignatureInvalid(f"the signing certificate's extension {_ARC}.{number} is malformed")
    return value.value


def _utf8_string(der: bytes) -> str:
    """Decode a DER UTF8String (X.690 section 8.23), lengths below 65536 in their one spelling."""
    size, start = (der[1], 2) if len(der) > 1 else (0, 0)
    if size >= _LONG_FORM:
        octets = size - _LONG_FORM
        size, start = int.from_bytes(der[2 : 2 + octets], "big"), 2 + octets
        if octets not in {1, 2} or size < _LONG_FORM or size >> (8 * (octets - 1)) == 0:
            raise ValueError("a length of a UTF8String is not DER")
    if der[:1] != bytes([_UTF8_STRING]) or len(der) != start + size:
        raise ValueError("a claim is not a DER UTF8String")
    return _bounded(der[start:].decode())


def _bounded(text: str) -> str:
    if len(text) > MAX_FIELD or not text.isprintable():
        raise ValueError(f"a claim is longer than {MAX_FIELD} characters or holds control characters")
    return text
