"""Certificates for tests: an authority, and what it issues for 127.0.0.1 and for clients."""

from __future__ import annotations

import datetime as dt
import ipaddress
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path


class Authority:
    """A certificate authority that writes PEM files into a folder; its own is `{name}.pem`."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder, self.key = folder, ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        made = self._begun(self.subject, self.key.public_key())
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        signed = made.sign(self.key, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def _begun(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now, day = dt.datetime.now(dt.UTC), dt.timedelta(1)
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject).public_key(key)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return made.add_extension(issuer, critical=False)

    def issue(self, file: str, name: str, *, server: bool = False) -> None:
        """Write `{file}.pem` and `{file}.key`, for a common name."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._begun(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), key.public_key())
        if server:
            there = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
            made = made.add_extension(there, critical=False)
        signed = made.sign(self.key, hashes.SHA256())
        (self.folder / f"{file}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        (self.folder / f"{file}.key").write_bytes(pem)
