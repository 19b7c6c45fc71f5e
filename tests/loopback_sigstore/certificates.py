"""X.509 certificates of the instance's authorities."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.loopback_sigstore.keys import P256Key, new_p256

LIFETIME = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate with the key it certifies."""

    key: P256Key
    certificate: x509.Certificate


def key_usage(*purposes: str) -> x509.KeyUsage:
    """Return a KeyUsage with only the named bits set, for example `digital_signature`."""
    bits = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
        "key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**{bit: bit in purposes for bit in bits.split()})


def fulcio_chain() -> tuple[Authority, Authority]:
    """Make a root and the intermediate that issues signing certificates; return the intermediate first."""
    root = _authority("fulcio root", None, path_length=1)
    intermediate = _authority(
        "fulcio intermediate", root, path_length=0, purpose=ExtendedKeyUsageOID.CODE_SIGNING, critical=False
    )
    return intermediate, root


def timestamp_chain() -> tuple[Authority, Authority]:
    """Make a root and a time-stamping certificate (RFC 3161 section 2.3: its purpose is critical); the latter first."""
    root = _authority("tsa root", None, path_length=0)
    signer = _authority("tsa", root, path_length=None, purpose=ExtendedKeyUsageOID.TIME_STAMPING, critical=True)
    return signer, root


def _authority(
    name: str,
    issuer: Authority | None,
    *,
    path_length: int | None,
    purpose: ObjectIdentifier | None = None,
    critical: bool = False,
) -> Authority:
    """Make a key and its certificate; self-signed without an issuer, an end entity without a path length."""
    key = new_p256()
    signing_key = issuer.key if issuer else key
    is_ca = path_length is not None
    usage = key_usage("key_cert_sign", "crl_sign") if is_ca else key_usage("digital_signature")
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer.certificate.subject if issuer else _name(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + LIFETIME)
        .add_extension(x509.BasicConstraints(is_ca, path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
    )
    if purpose is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=critical)
    return Authority(key, builder.sign(signing_key, hashes.SHA256()))


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "loopback.test"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
