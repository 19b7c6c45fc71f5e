"""What is read from a certificate: one subject, one issuer, and claims in their one encoding."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.loopback_sigstore import der
from wcp_attest.base.errors import SignatureInvalid
from wcp_attest.signing.sigstore.certificate import claims_of, load_certificate
from wcp_attest.signing.sigstore.signer_identity import MAX_FIELD

ARC = "1.3.6.1.4.1.57264.1"
ISSUER = "https://issuer.test"
KEY = ec.generate_private_key(ec.SECP256R1())
PERSON = x509.RFC822Name("release@acme.test")


def certificate(claims: dict[int, bytes], *names: x509.GeneralName) -> x509.Certificate:
    name, now = x509.Name([]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 1, now, now + timedelta(minutes=10))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    for number, value in claims.items():
        extension = x509.UnrecognizedExtension(ObjectIdentifier(f"{ARC}.{number}"), value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256())


def other_name(value: bytes, number: int = 7) -> x509.OtherName:
    return x509.OtherName(ObjectIdentifier(f"{ARC}.{number}"), value)


@pytest.mark.parametrize("claims", [{1: ISSUER.encode()}, {8: der.utf8_string(ISSUER)}])
@pytest.mark.parametrize(
    ("name", "san"),
    [
        (PERSON, "release@acme.test"),
        (x509.UniformResourceIdentifier("https://ci.test/x"), "https://ci.test/x"),
        (other_name(der.utf8_string("machine 7")), "machine 7"),
    ],
    ids=["e-mail", "uri", "other-name"],
)
def test_the_subject_and_the_issuer(claims: dict[int, bytes], name: x509.GeneralName, san: str) -> None:
    found = claims_of(certificate(claims, name))
    assert (found.issuer, found.san, found.source_repository_uri) == (ISSUER, san, None)


@given(st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF, categories=["L", "N", "P"]), max_size=MAX_FIELD))
@settings(max_examples=examples(50))
def test_a_claim_comes_out_as_it_went_in(text: str) -> None:
    found = claims_of(certificate({8: der.utf8_string(ISSUER), 14: der.utf8_string(text)}, PERSON))
    assert found.source_repository_ref == text


@pytest.mark.parametrize(
    "claim",
    [
        b"",
        b"\x0c",
        b"\x0c\x02a",
        b"\x0c\x01ab",
        b"\x0c\x81\x01a",
        b"\x0c\x82\x00\x01a",
        b"\x0c\x80a\x00\x00",
        b"\x0c\x84\x00\x00\x00\x01a",
        b"\x16\x01a",
        b"\x0c\x01\xff",
        b"\x0c\x01\n",
        der.utf8_string("x" * (MAX_FIELD + 1)),
    ],
)
def test_a_claim_that_is_not_a_der_utf8_string_is_refused(claim: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        claims_of(certificate({8: der.utf8_string(ISSUER), 14: claim}, PERSON))


@given(st.binary(max_size=300))
@settings(max_examples=examples(200))
def test_no_bytes_in_a_claim_raise_anything_else(claim: bytes) -> None:
    try:
        claims_of(certificate({8: der.utf8_string(ISSUER), 18: claim}, PERSON))
    except SignatureInvalid:
        return


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {1: b""},
        {8: der.utf8_string("")},
        {1: b"\xff"},
        {1: b"https://other.test", 8: der.utf8_string(ISSUER)},
        {1: b"", 8: der.utf8_string(ISSUER)},
    ],
)
def test_no_issuer_or_two_are_refused(claims: dict[int, bytes]) -> None:
    with pytest.raises(SignatureInvalid):
        claims_of(certificate(claims, PERSON))


@pytest.mark.parametrize(
    "names",
    [
        (),
        (PERSON, x509.RFC822Name("other@acme.test")),
        (PERSON, PERSON),
        (x509.DNSName("acme.test"),),
        (other_name(der.utf8_string("x"), number=6),),
        (other_name(b"\x05\x00"),),
    ],
    ids=["none", "two", "twice", "dns", "another kind", "no text"],
)
def test_no_subject_or_several_are_refused(names: tuple[x509.GeneralName, ...]) -> None:
    with pytest.raises(SignatureInvalid):
        claims_of(certificate({8: der.utf8_string(ISSUER)}, *names))


def patched(number_or_tag: bytes, by: bytes) -> x509.Certificate:
    made = certificate(
        {8: der.utf8_string(ISSUER), 9: der.utf8_string(ISSUER)}, x509.UniformResourceIdentifier("https://x")
    )
    data = made.public_bytes(Encoding.DER)
    assert data.count(number_or_tag) == 1
    return x509.load_der_x509_certificate(data.replace(number_or_tag, by))


def test_an_extension_twice_or_a_name_of_an_unknown_kind_is_refused() -> None:
    """What a builder does not make, written byte by byte."""
    arc = bytes.fromhex("2b0601040183bf3001")  # 1.3.6.1.4.1.57264.1
    for spoilt in (patched(arc + b"\x09", arc + b"\x08"), patched(b"\x86\x09https://x", b"\xa3\x09https://x")):
        with pytest.raises(SignatureInvalid):
            claims_of(spoilt)


def test_a_certificate_of_an_unknown_version_is_malformed() -> None:
    data = certificate({8: der.utf8_string(ISSUER)}, PERSON).public_bytes(Encoding.DER)
    version = b"\xa0\x03\x02\x01\x02"
    assert version in data
    with pytest.raises(ValueError, match="version"):
        load_certificate(data.replace(version, version[:-1] + b"\x04"))
