"""The RFC 3161 timestamp authority: a signed time over a digest, as CMS SignedData (RFC 5652)."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.hazmat.primitives.serialization import Encoding

from tests.loopback_sigstore import der
from tests.loopback_sigstore.certificates import timestamp_chain
from tests.loopback_sigstore.der import CONTEXT_0, NULL, OCTET_STRING, SEQUENCE, SET, encode, integer
from tests.loopback_sigstore.faults import Fault, Service
from tests.loopback_sigstore.keys import sha256, sign_p256
from tests.loopback_sigstore.server import Request, Response, Route

PATH = "/api/v1/timestamp"
POLICY = der.object_identifier("1.3.6.1.4.1.57264.2")
SHA256 = encode(SEQUENCE, der.object_identifier("2.16.840.1.101.3.4.2.1"), NULL)
ECDSA_SHA256 = encode(SEQUENCE, der.object_identifier("1.2.840.10045.4.3.2"))
SIGNED_DATA = der.object_identifier("1.2.840.113549.1.7.2")
TST_INFO = der.object_identifier("1.2.840.113549.1.9.16.1.4")
CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_TIME = "1.2.840.113549.1.9.3", "1.2.840.113549.1.9.4", "1.2.840.113549.1.9.5"
SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
GRANTED = encode(SEQUENCE, integer(0))


@dataclass(frozen=True, slots=True)
class Query:
    """What a client asks for.

    Attributes:
        imprint: the DER MessageImprint.
        nonce: the DER nonce, empty when there is none.
        certificates: whether the reply shall hold the authority's certificate.
    """

    imprint: bytes
    nonce: bytes
    certificates: bool


class TimestampAuthority:
    """Signs the present time over any digest."""

    def __init__(self, faults: set[Fault]) -> None:
        self._faults = faults
        self.signer, self.root = timestamp_chain()

    def routes(self) -> list[Route]:
        """Return the one path that clients post to."""
        return [Route(Service.TSA, "POST", PATH, self._reply)]

    def _reply(self, request: Request) -> Response:
        as_json = "json" in request.headers.get("content-type", "")
        query = _json_query(request.body) if as_json else _der_query(request.body)
        imprint = _imprint(sha256(b"other content")) if Fault.BAD_TIMESTAMP in self._faults else query.imprint
        reply = encode(SEQUENCE, GRANTED, self._token(Query(imprint, query.nonce, query.certificates)))
        return Response(201, reply, "application/timestamp-reply")

    def _token(self, query: Query) -> bytes:
        now = datetime.now(UTC)
        generalized = encode(der.GENERALIZED_TIME, now.strftime("%Y%m%d%H%M%SZ").encode())
        accuracy = encode(SEQUENCE, integer(1))
        info = encode(
            SEQUENCE,
            integer(1),
            POLICY,
            query.imprint,
            integer(secrets.randbits(64)),
            generalized,
            accuracy,
            query.nonce,
        )
        certificate = self.signer.certificate.public_bytes(Encoding.DER)
        signed_data = encode(
            SEQUENCE,
            integer(3),
            encode(SET, SHA256),
            encode(SEQUENCE, TST_INFO, encode(CONTEXT_0, encode(OCTET_STRING, info))),
            encode(CONTEXT_0, certificate) if query.certificates else b"",
            encode(SET, self._signer_info(info, certificate, now)),
        )
        return encode(SEQUENCE, SIGNED_DATA, encode(CONTEXT_0, signed_data))

    def _signer_info(self, info: bytes, certificate: bytes, now: datetime) -> bytes:
        """Sign the attributes, in DER order (RFC 5652 section 5.4 signs them as a SET, and stores them tagged [0])."""
        certificate_id = encode(SEQUENCE, encode(SEQUENCE, encode(SEQUENCE, encode(OCTET_STRING, sha256(certificate)))))
        attributes = sorted(
            [
                _attribute(CONTENT_TYPE, TST_INFO),
                _attribute(SIGNING_TIME, encode(der.UTC_TIME, now.strftime("%y%m%d%H%M%SZ").encode())),
                _attribute(MESSAGE_DIGEST, encode(OCTET_STRING, sha256(info))),
                _attribute(SIGNING_CERTIFICATE_V2, certificate_id),
            ]
        )
        issuer = self.signer.certificate.issuer.public_bytes()
        return encode(
            SEQUENCE,
            integer(1),
            encode(SEQUENCE, issuer, integer(self.signer.certificate.serial_number)),
            SHA256,
            encode(CONTEXT_0, *attributes),
            ECDSA_SHA256,
            encode(OCTET_STRING, sign_p256(self.signer.key, encode(SET, *attributes))),
        )


def _attribute(dotted: str, value: bytes) -> bytes:
    return encode(SEQUENCE, der.object_identifier(dotted), encode(SET, value))


def _imprint(digest: bytes) -> bytes:
    return encode(SEQUENCE, SHA256, encode(OCTET_STRING, digest))


def _json_query(body: bytes) -> Query:
    """Read the JSON form that sigstore-js sends."""
    document = json.loads(body)
    nonce = integer(int(document["nonce"])) if document.get("nonce") else b""
    return Query(_imprint(base64.b64decode(document["artifactHash"])), nonce, bool(document.get("certificates")))


def _der_query(body: bytes) -> Query:
    """Read a TimeStampReq (RFC 3161 section 2.4.1): version, imprint, then optional members."""
    request, _ = der.decode(body)
    _version, imprint, *optional = der.children(request.content)
    nonce = next((encode(e.tag, e.content) for e in optional if e.tag == der.INTEGER), b"")
    certificates = any(e.tag == der.BOOLEAN and e.content != b"\0" for e in optional)
    return Query(encode(imprint.tag, imprint.content), nonce, certificates)
