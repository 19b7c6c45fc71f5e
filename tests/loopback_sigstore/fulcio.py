"""Fulcio: a certificate of ten minutes for whoever holds an identity token."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.loopback_sigstore.certificates import Authority, fulcio_chain, key_usage
from tests.loopback_sigstore.ci_claims import extensions, identity_of
from tests.loopback_sigstore.ct import CertificateLog
from tests.loopback_sigstore.faults import Fault, Service
from tests.loopback_sigstore.keys import new_p256
from tests.loopback_sigstore.server import Refusal, Request, Response, Route, json_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.loopback_sigstore.oidc import IdentityProvider

LIFETIME = timedelta(minutes=10)


class CertificateAuthority:
    """Issues signing certificates with an embedded certificate timestamp.

    Attributes:
        intermediate: what issues.
        root: what issued the intermediate.
        log: the certificate transparency log.
    """

    def __init__(self, provider: IdentityProvider, faults: set[Fault]) -> None:
        self._provider = provider
        self._faults = faults
        self.intermediate, self.root = fulcio_chain()
        self._rogue = Authority(new_p256(), self.intermediate.certificate)
        self.log = CertificateLog(faults)

    def routes(self) -> list[Route]:
        """Return the paths of Fulcio's API version 2."""
        return [
            Route(Service.FULCIO, "POST", "/api/v2/signingCert", self._sign),
            Route(Service.FULCIO, "GET", "/api/v2/trustBundle", self._trust_bundle),
        ]

    def _trust_bundle(self, _: Request) -> Response:
        return json_response({"chains": [{"certificates": self._chain_pem()}]})

    def _chain_pem(self) -> list[str]:
        return [_pem(authority.certificate) for authority in (self.intermediate, self.root)]

    def _sign(self, request: Request) -> Response:
        document = json.loads(request.body)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = document.get("credentials", {}).get("oidcIdentityToken") or bearer
        claims = self._provider.claims_of(token)
        leaf = self._issue(_proven_key(document, claims), claims)
        return json_response(
            {"signedCertificateEmbeddedSct": {"chain": {"certificates": [_pem(leaf), *self._chain_pem()]}}}, 201
        )

    def _issue(self, key: ec.EllipticCurvePublicKey, claims: Mapping[str, object]) -> x509.Certificate:
        issuer = self._rogue if Fault.ROGUE_CA in self._faults else self.intermediate
        start = datetime.now(UTC) - timedelta(seconds=5)
        if Fault.OLD_CERTIFICATE in self._faults:
            start -= timedelta(days=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(issuer.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + LIFETIME)
            .add_extension(key_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(identity_of(claims))]), critical=True)
        )
        for extension in extensions(claims):
            builder = builder.add_extension(extension, critical=False)
        if Fault.NO_SCT not in self._faults:
            precertificate = builder.sign(issuer.key, hashes.SHA256()).tbs_certificate_bytes
            builder = builder.add_extension(
                self.log.timestamp_list(self.intermediate.key, precertificate), critical=False
            )
        return builder.sign(issuer.key, hashes.SHA256())


def _proven_key(
    document: Mapping[str, dict[str, object] | str], claims: Mapping[str, object]
) -> ec.EllipticCurvePublicKey:
    """Return the public key of a request, whose holder has proven to have the private one.

    Two forms are in use: a certificate signing request, and a key with a signature over the token's identity.
    """
    request = document.get("certificateSigningRequest")
    if isinstance(request, str):
        csr = x509.load_pem_x509_csr(base64.b64decode(request))
        if not csr.is_signature_valid:
            raise Refusal(400, "the signature of the signing request is invalid")
        return _p256(csr.public_key())
    bare = document["publicKeyRequest"]
    assert isinstance(bare, dict)
    content = bare["publicKey"]
    assert isinstance(content, dict)
    key = _p256(load_pem_public_key(str(content["content"]).encode()))
    proven = str(claims.get("email") or claims["sub"]).encode()
    key.verify(base64.b64decode(str(bare["proofOfPossession"])), proven, ec.ECDSA(hashes.SHA256()))
    return key


def _p256(key: object) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refusal(400, "only ECDSA keys are certified")
    return key


def _general_name(identity: str) -> x509.GeneralName:
    if "@" in identity and "://" not in identity:
        return x509.RFC822Name(identity)
    return x509.UniformResourceIdentifier(identity)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
