"""Rekor version 1: entries of kind `hashedrekord` and `dsse` 0.0.1, with an inclusion promise and a time."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.loopback_sigstore.checkpoint import checkpoint
from tests.loopback_sigstore.faults import Fault, Service
from tests.loopback_sigstore.keys import b64, key_id, new_p256, sha256, sign_p256
from tests.loopback_sigstore.merkle import Inclusion, MerkleTree
from tests.loopback_sigstore.server import Refusal, Request, Response, Route, json_response

if TYPE_CHECKING:
    from collections.abc import Mapping

# What a JSON parser yields; the shapes are those of Rekor's API and belong to it.
Json = dict[str, Any]


class RekorV1:
    """A log whose entries are the canonical ones of the real Rekor, not what the client proposed.

    Args:
        host: `127.0.0.1:<port>`, the name in its checkpoints; sigstore-js looks for it in the log's URL.
        faults: the instance's faults.
    """

    def __init__(self, host: str, faults: set[Fault]) -> None:
        self._host = host
        self._faults = faults
        self._tree = MerkleTree()
        self._rogue = new_p256()
        self.key = new_p256()

    def routes(self) -> list[Route]:
        """Return the one path that clients post to."""
        return [Route(Service.REKOR, "POST", "/api/v1/log/entries", self._create)]

    def _create(self, request: Request) -> Response:
        proposed = json.loads(request.body)
        kind = proposed["kind"]
        if kind == "dsse":
            spec = self._dsse(proposed["spec"]["proposedContent"])
        elif kind == "hashedrekord":
            spec = self._hashedrekord(proposed["spec"])
        else:
            raise Refusal(400, f"unsupported kind: {kind}")
        body = rfc8785.dumps({"apiVersion": "0.0.1", "kind": kind, "spec": spec})
        return json_response({sha256(body).hex(): self._entry(body)}, 201)

    def _dsse(self, proposed: Mapping[str, Any]) -> Json:
        envelope: Json = json.loads(proposed["envelope"])
        payload = base64.b64decode(envelope["payload"])
        signed = _pae(envelope["payloadType"].encode(), payload)
        signatures = []
        for signature, verifier in zip(envelope["signatures"], proposed["verifiers"], strict=True):
            certificate = x509.load_pem_x509_certificate(base64.b64decode(verifier))
            _public_key(certificate).verify(base64.b64decode(signature["sig"]), signed, ec.ECDSA(hashes.SHA256()))
            signatures.append({"signature": signature["sig"], "verifier": _pem64(certificate)})
        logged = b"other content" if Fault.BAD_BODY in self._faults else payload
        return {
            "envelopeHash": _hash(proposed["envelope"].encode()),
            "payloadHash": _hash(logged),
            "signatures": signatures,
        }

    def _hashedrekord(self, spec: Mapping[str, Any]) -> Json:
        given = spec["data"]["hash"]
        value = "00" * 32 if Fault.BAD_BODY in self._faults else given["value"]
        certificate = x509.load_pem_x509_certificate(base64.b64decode(spec["signature"]["publicKey"]["content"]))
        return {
            "data": {"hash": {"algorithm": given["algorithm"], "value": value}},
            "signature": {
                "content": spec["signature"]["content"],
                "publicKey": {"content": _pem64(certificate)},
            },
        }

    def _entry(self, body: bytes) -> Json:
        tree = self._tree.append(body)
        entry: Json = {
            "body": b64(body),
            "integratedTime": int(time.time()),
            "logID": key_id(self.key).hex(),
            "logIndex": tree.index,
        }
        promise = sign_p256(self._rogue if Fault.BAD_PROMISE in self._faults else self.key, rfc8785.dumps(entry))
        return {
            **entry,
            "verification": {"signedEntryTimestamp": b64(promise), "inclusionProof": self._proof(tree)},
        }

    def _proof(self, tree: Inclusion) -> Json:
        key = self._rogue if Fault.BAD_CHECKPOINT in self._faults else self.key
        origin = f"{self._host} - 4711"
        head = checkpoint(origin, self._host, key_id(self.key), tree, lambda text: sign_p256(key, text))
        return {
            "logIndex": tree.index,
            "treeSize": tree.size,
            "rootHash": shown_root(tree, self._faults).hex(),
            "hashes": [node.hex() for node in tree.path],
            "checkpoint": head,
        }


def shown_root(tree: Inclusion, faults: set[Fault]) -> bytes:
    """Return the root hash that a proof states: the true one unless the fault asks for another."""
    flipped = 1 if Fault.BAD_PROOF in faults else 0
    return bytes([tree.root[0] ^ flipped]) + tree.root[1:]


def _pae(payload_type: bytes, payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding, written here too so that the fixture does not lean on what it tests."""
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type, len(payload), payload)


def _hash(data: bytes) -> Json:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def _pem64(certificate: x509.Certificate) -> str:
    """Return base64 of the PEM in 64 columns: the real log encodes anew, and clients compare the text."""
    return b64(certificate.public_bytes(Encoding.PEM))


def _public_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refusal(400, "only ECDSA certificates are logged")
    return key
