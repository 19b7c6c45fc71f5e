"""The loopback instance against sigstore-js, which shares no code with sigstore-python or with us."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from sigstore.dsse import Statement
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy

from tests import js
from tests.loopback_sigstore import Fault, github_claims

if TYPE_CHECKING:
    from tests.loopback_sigstore import LoopbackSigstore

pytestmark = js.needs_sigstore_js

MANIFEST = b'{"schema_version":"awp.v2"}'
STATEMENT = json.dumps(
    {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "manifest.json", "digest": {"sha256": sha256(MANIFEST).hexdigest()}}],
        "predicateType": "https://acme.test/predicate/v1",
        "predicate": {},
    }
).encode()
IDENTITY = "https://github.com/acme/worker/.github/workflows/release.yml@refs/tags/v1"


def config(instance: LoopbackSigstore, rekor: int) -> ClientTrustConfig:
    return ClientTrustConfig.from_json(json.dumps(instance.client_trust_config(rekor=rekor)))


def sign(instance: LoopbackSigstore, rekor: int = 1) -> bytes:
    context = SigningContext.from_trust_config(config(instance, rekor))
    with context.signer(IdentityToken(instance.token(**github_claims()))) as signer:
        return signer.sign_dsse(Statement(STATEMENT)).to_json().encode()


def root(instance: LoopbackSigstore) -> bytes:
    return json.dumps(instance.trusted_root()).encode()


@pytest.mark.parametrize("rekor", [1, 2])
def test_sigstore_js_accepts_what_sigstore_python_signs_here(instance: LoopbackSigstore, rekor: int) -> None:
    verdict = js.verify(
        sign(instance, rekor), MANIFEST, trusted_root=root(instance), san=IDENTITY, issuer=instance.issuer
    )
    assert verdict == js.JsVerdict(ok=True, san=IDENTITY, issuer=instance.issuer)


def test_sigstore_js_refuses_another_manifest_identity_or_issuer(instance: LoopbackSigstore) -> None:
    bundle, trusted = sign(instance), root(instance)
    for verdict in (
        js.verify(bundle, MANIFEST + b"\n", trusted_root=trusted),
        js.verify(bundle, MANIFEST, trusted_root=trusted, san="somebody@else.test"),
        js.verify(bundle, MANIFEST, trusted_root=trusted, issuer="https://other.test"),
        js.verify(bundle.replace(b'"keyId"', b'"keyID"'), MANIFEST, trusted_root=trusted),
    ):
        assert not verdict.ok
        assert verdict.message


@pytest.mark.parametrize(
    ("fault", "rekor"),
    [
        (Fault.BAD_PROMISE, 1),
        (Fault.BAD_CHECKPOINT, 1),
        (Fault.BAD_CHECKPOINT, 2),
        (Fault.BAD_BODY, 1),
        (Fault.BAD_BODY, 2),
        (Fault.BAD_TIMESTAMP, 1),
        (Fault.BAD_TIMESTAMP, 2),
        (Fault.ROGUE_CA, 1),
    ],
)
def test_sigstore_js_notices_the_fault(instance: LoopbackSigstore, fault: Fault, rekor: int) -> None:
    with instance.failing(fault):
        bundle = sign(instance, rekor)
    assert not js.verify(bundle, MANIFEST, trusted_root=root(instance)).ok


def test_sigstore_python_accepts_what_sigstore_js_signs_here(instance: LoopbackSigstore) -> None:
    bundle = js.sign(instance.base, STATEMENT, instance.token(**github_claims()))
    expected = policy.Identity(identity=IDENTITY, issuer=instance.issuer)
    verifier = Verifier(trusted_root=config(instance, 1).trusted_root)
    assert verifier.verify_dsse(Bundle.from_json(bundle), expected)[1] == STATEMENT
