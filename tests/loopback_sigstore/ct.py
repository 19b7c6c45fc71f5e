"""The certificate transparency log (RFC 6962): promises to log a certificate before it is issued."""

from __future__ import annotations

import struct
import time

from cryptography import x509
from cryptography.x509.oid import ObjectIdentifier

from tests.loopback_sigstore import der
from tests.loopback_sigstore.faults import Fault
from tests.loopback_sigstore.keys import P256Key, key_id, new_p256, sign_p256

SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
V1, CERTIFICATE_TIMESTAMP, PRECERTIFICATE = 0, 0, 1
SHA256_ECDSA = b"\x04\x03"
NO_EXTENSIONS = b"\x00\x00"


class CertificateLog:
    """Signs certificate timestamps; nothing reads the log itself, so there is none."""

    def __init__(self, faults: set[Fault]) -> None:
        self._faults = faults
        self._rogue = new_p256()
        self.key = new_p256()

    def timestamp_list(self, issuer: P256Key, precertificate: bytes) -> x509.UnrecognizedExtension:
        """Promise to log a certificate.

        Args:
            issuer: the key of the certificate's issuer.
            precertificate: the DER TBSCertificate, without the extension that this makes.

        Returns:
            The extension that carries the promise (RFC 6962 section 3.3).
        """
        now = int(time.time() * 1000)
        entry = key_id(issuer) + len(precertificate).to_bytes(3, "big") + precertificate
        signed = struct.pack("!BBQH", V1, CERTIFICATE_TIMESTAMP, now, PRECERTIFICATE) + entry + NO_EXTENSIONS
        signature = sign_p256(self._rogue if Fault.BAD_SCT in self._faults else self.key, signed)
        promise = (
            bytes([V1]) + key_id(self.key) + struct.pack("!Q", now) + NO_EXTENSIONS + SHA256_ECDSA + _vector(signature)
        )
        return x509.UnrecognizedExtension(SCT_LIST, der.encode(der.OCTET_STRING, _vector(_vector(promise))))


def _vector(data: bytes) -> bytes:
    return struct.pack("!H", len(data)) + data
