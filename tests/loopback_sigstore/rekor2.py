"""Rekor version 2 (rekor-tiles): `hashedrekord` 0.0.2, an Ed25519 checkpoint, and no time of its own."""

from __future__ import annotations

import base64
import json
from typing import Any

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tests.loopback_sigstore.checkpoint import checkpoint
from tests.loopback_sigstore.faults import Fault, Service
from tests.loopback_sigstore.keys import b64, new_ed25519, note_key_id
from tests.loopback_sigstore.merkle import MerkleTree
from tests.loopback_sigstore.rekor1 import Json, shown_root
from tests.loopback_sigstore.server import Refusal, Request, Response, Route, json_response

KIND, VERSION = "hashedrekord", "0.0.2"


class RekorV2:
    """A log that is given digests only; a DSSE envelope comes as the digest of its pre-authentication encoding.

    Args:
        name: its origin, part of the log id.
        faults: the instance's faults.
    """

    def __init__(self, name: str, faults: set[Fault]) -> None:
        self._name = name
        self._faults = faults
        self._tree = MerkleTree()
        self._rogue = new_ed25519()
        self.key = new_ed25519()
        self.log_id = note_key_id(name, self.key)

    def routes(self) -> list[Route]:
        """Return the one path that clients post to."""
        return [Route(Service.REKOR, "POST", "/v2/api/v2/log/entries", self._create)]

    def _create(self, request: Request) -> Response:
        document = json.loads(request.body)
        if "hashedRekordRequestV002" not in document:
            raise Refusal(400, "only hashedrekord entries are logged")
        body = rfc8785.dumps(
            {"apiVersion": VERSION, "kind": KIND, "spec": self._spec(document["hashedRekordRequestV002"])}
        )
        return json_response(self._entry(body), 201)

    def _spec(self, proposed: dict[str, Any]) -> Json:
        signature, digest = proposed["signature"], proposed["digest"]
        verifier = signature["verifier"]
        raw = verifier["x509Certificate"]["rawBytes"]
        key = x509.load_der_x509_certificate(base64.b64decode(raw)).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise Refusal(400, "only ECDSA certificates are logged")
        algorithm = ec.ECDSA(Prehashed(hashes.SHA256()))
        key.verify(base64.b64decode(signature["content"]), base64.b64decode(digest), algorithm)
        logged = b64(bytes(32)) if Fault.BAD_BODY in self._faults else digest
        return {
            "hashedRekordV002": {
                "data": {"algorithm": "SHA2_256", "digest": logged},
                "signature": {
                    "content": signature["content"],
                    "verifier": {"keyDetails": verifier["keyDetails"], "x509Certificate": {"rawBytes": raw}},
                },
            }
        }

    def _entry(self, body: bytes) -> Json:
        tree = self._tree.append(body)
        key = self._rogue if Fault.BAD_CHECKPOINT in self._faults else self.key
        return {
            "logIndex": str(tree.index),
            "logId": {"keyId": b64(self.log_id)},
            "kindVersion": {"kind": KIND, "version": VERSION},
            "inclusionProof": {
                "logIndex": str(tree.index),
                "treeSize": str(tree.size),
                "rootHash": b64(shown_root(tree, self._faults)),
                "hashes": [b64(node) for node in tree.path],
                "checkpoint": {"envelope": checkpoint(self._name, self._name, self.log_id, tree, key.sign)},
            },
            "canonicalizedBody": b64(body),
        }
