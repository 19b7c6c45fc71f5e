"""The loopback instance against clients that others wrote: sigstore-python and `openssl ts`.

It must satisfy them when it behaves, and each fault must be noticed; else tests that build on it prove nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError
from sigstore._internal.fulcio.client import FulcioClientError
from sigstore._internal.rekor import RekorClientError
from sigstore.dsse import Statement
from sigstore.errors import Error, TUFError
from sigstore.models import Bundle, ClientTrustConfig
from sigstore.oidc import IdentityToken, Issuer, IssuerError, detect_credential
from sigstore.sign import SigningContext
from sigstore.verify import Verifier, policy

from tests.loopback_sigstore import Fault, LoopbackSigstore, Pinned, Window, github_claims

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

STATEMENT = json.dumps(
    {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "manifest.json", "digest": {"sha256": "0" * 64}}],
        "predicateType": "https://acme.test/predicate/v1",
        "predicate": {},
    }
).encode()
ARTIFACT = b"an artifact"


def config(instance: LoopbackSigstore, rekor: int = 1) -> ClientTrustConfig:
    return ClientTrustConfig.from_json(json.dumps(instance.client_trust_config(rekor=rekor)))


def sign(instance: LoopbackSigstore, rekor: int = 1, claims: Mapping[str, str] | None = None) -> Bundle:
    context = SigningContext.from_trust_config(config(instance, rekor))
    with context.signer(IdentityToken(instance.token(**(claims or {})))) as signer:
        return Bundle.from_json(signer.sign_dsse(Statement(STATEMENT)).to_json())


def verify(
    instance: LoopbackSigstore, bundle: Bundle, identity: str = "https://ci.test/acme/worker", rekor: int = 1
) -> None:
    expected = policy.Identity(identity=identity, issuer=instance.issuer)
    verifier = Verifier(trusted_root=config(instance, rekor).trusted_root)
    assert verifier.verify_dsse(bundle, expected) == ("application/vnd.in-toto+json", STATEMENT)


@pytest.mark.parametrize("rekor", [1, 2])
def test_what_it_signs_verifies(instance: LoopbackSigstore, rekor: int) -> None:
    verify(instance, sign(instance, rekor), rekor=rekor)


@pytest.mark.parametrize("rekor", [1, 2])
def test_an_artifact_is_signed_too(instance: LoopbackSigstore, rekor: int) -> None:
    trust = config(instance, rekor)
    with SigningContext.from_trust_config(trust).signer(IdentityToken(instance.token())) as signer:
        bundle = signer.sign_artifact(ARTIFACT)
    Verifier(trusted_root=trust.trusted_root).verify_artifact(ARTIFACT, bundle, policy.UnsafeNoOp())


@pytest.mark.parametrize(
    ("claims", "identity"),
    [
        ({"sub": "42", "email": "release@acme.test"}, "release@acme.test"),
        (github_claims(), "https://github.com/acme/worker/.github/workflows/release.yml@refs/tags/v1"),
    ],
)
def test_a_certificate_names_whom_the_token_names(
    instance: LoopbackSigstore, claims: dict[str, str], identity: str
) -> None:
    bundle = sign(instance, claims=claims)
    verify(instance, bundle, identity)
    with pytest.raises(Error):
        verify(instance, bundle, "somebody@else.test")


def test_a_certificate_repeats_the_claims_of_the_run(instance: LoopbackSigstore) -> None:
    bundle = sign(instance, claims=github_claims())
    for expected in (
        policy.OIDCIssuerV2(instance.issuer),
        policy.GitHubWorkflowRepository("acme/worker"),
        policy.GitHubWorkflowRef("refs/tags/v1"),
        policy.OIDCSourceRepositoryURI("https://github.com/acme/worker"),
        policy.OIDCSourceRepositoryRef("refs/tags/v1"),
        policy.OIDCBuildConfigURI("https://github.com/acme/worker/.github/workflows/release.yml@refs/tags/v1"),
        policy.OIDCRunInvocationURI("https://github.com/acme/worker/actions/runs/7/attempts/1"),
    ):
        expected.verify(bundle.signing_certificate)


AT_SIGNING: list[tuple[Fault, type[Exception]]] = [
    (Fault.NO_SCT, Error),
    (Fault.BAD_SCT, Error),
    (Fault.FULCIO_500, FulcioClientError),
    (Fault.FULCIO_HTML, FulcioClientError),
    (Fault.FULCIO_GARBAGE, requests.JSONDecodeError),
    (Fault.FULCIO_CLOSES, requests.ConnectionError),
    (Fault.REKOR_409, RekorClientError),
    (Fault.REKOR_500, RekorClientError),
    (Fault.REKOR_CLOSES, requests.ConnectionError),
]


@pytest.mark.parametrize(("fault", "error"), AT_SIGNING)
@pytest.mark.parametrize("rekor", [1, 2])
def test_a_fault_is_noticed_when_signing(
    instance: LoopbackSigstore, fault: Fault, error: type[Exception], rekor: int
) -> None:
    with instance.failing(fault), pytest.raises(error):
        sign(instance, rekor)


@pytest.mark.parametrize("rekor", [1, 2])
def test_a_log_that_answers_nonsense_is_noticed(instance: LoopbackSigstore, rekor: int) -> None:
    nonsense = (TypeError, KeyError, ValidationError)
    with instance.failing(Fault.REKOR_GARBAGE), pytest.raises(nonsense):
        sign(instance, rekor)


@pytest.mark.parametrize("fault", [Fault.ROGUE_CA, Fault.OLD_CERTIFICATE])
def test_an_untrusted_certificate_is_noticed(instance: LoopbackSigstore, fault: Fault) -> None:
    """The client looks at the certificate's time and timestamp when it signs, and at its issuer when it verifies."""
    from sigstore._internal.fulcio import ExpiredCertificate

    with instance.failing(fault), pytest.raises((Error, ExpiredCertificate)):
        verify(instance, sign(instance))


@pytest.mark.parametrize(
    ("fault", "rekor"),
    [
        (Fault.BAD_PROMISE, 1),
        (Fault.BAD_PROOF, 1),
        (Fault.BAD_PROOF, 2),
        (Fault.BAD_CHECKPOINT, 1),
        (Fault.BAD_CHECKPOINT, 2),
        (Fault.BAD_BODY, 1),
        (Fault.BAD_BODY, 2),
        (Fault.BAD_TIMESTAMP, 2),
    ],
)
def test_a_fault_is_noticed_when_verifying(instance: LoopbackSigstore, fault: Fault, rekor: int) -> None:
    with instance.failing(fault):
        bundle = sign(instance, rekor)
    with pytest.raises(Error):
        verify(instance, bundle, rekor=rekor)


@pytest.mark.parametrize("fault", [Fault.TSA_500, Fault.TSA_GARBAGE])
def test_without_its_timestamp_authority_version_2_yields_no_bundle(instance: LoopbackSigstore, fault: Fault) -> None:
    with instance.failing(fault), pytest.raises(Error):
        sign(instance, 2)
    with instance.failing(fault):
        verify(instance, sign(instance, 1))


@pytest.mark.parametrize(
    ("fault", "rekor", "path"),
    [
        (Fault.FULCIO_HANGS, 1, "POST /api/v2/signingCert"),
        (Fault.REKOR_HANGS, 1, "POST /api/v1/log/entries"),
        (Fault.REKOR_HANGS, 2, "POST /v2/api/v2/log/entries"),
    ],
)
def test_a_hanging_service_holds_the_connection_until_the_instance_stops(
    monkeypatch: pytest.MonkeyPatch, fault: Fault, rekor: int, path: str
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    failures: list[Exception] = []

    def attempt() -> None:
        try:
            sign(instance, rekor)
        except requests.ConnectionError as error:
            failures.append(error)

    with LoopbackSigstore() as instance, instance.failing(fault):
        client = threading.Thread(target=attempt)
        client.start()
        while path not in instance.requests:
            client.join(0.01)
        assert client.is_alive()
    client.join()
    assert len(failures) == 1


def test_a_token_is_checked_as_fulcio_does(instance: LoopbackSigstore) -> None:
    forged = jwt.encode(
        {**jwt.decode(instance.token(), options={"verify_signature": False})}, "s" * 64, algorithm="HS256"
    )
    for token in (forged, instance.token(iss="https://other.test")):
        with (
            pytest.raises(FulcioClientError),
            SigningContext.from_trust_config(config(instance)).signer(IdentityToken(token)),
        ):
            pass


def test_the_ambient_endpoint_is_found_as_in_a_job(instance: LoopbackSigstore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in instance.ambient_environment(**github_claims(ref="refs/heads/main")).items():
        monkeypatch.setenv(name, value)
    token = detect_credential()
    assert token is not None
    assert jwt.decode(token, options={"verify_signature": False})["ref"] == "refs/heads/main"


def test_the_browser_flow_logs_in(instance: LoopbackSigstore) -> None:
    """In a process of its own: `webbrowser` reads its environment once."""
    code = (
        "import sys; from sigstore.oidc import Issuer; "
        "print(Issuer(sys.argv[1]).identity_token().identity, Issuer(sys.argv[1]).identity_token().issuer)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, instance.issuer],
        env={**os.environ, **instance.browser_environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout.split() == ["42", instance.issuer], ran.stderr


def test_the_browser_flow_refuses_a_code_without_its_verifier(instance: LoopbackSigstore) -> None:
    query = {
        "response_type": "code",
        "client_id": "sigstore",
        "redirect_uri": "http://localhost:1/",
        "code_challenge": "x",
        "code_challenge_method": "S256",
        "state": "s",
    }
    location = requests.get(f"{instance.issuer}/auth", params=query, allow_redirects=False, timeout=10).headers[
        "location"
    ]
    code = location.partition("code=")[2].partition("&")[0]
    refused = requests.post(f"{instance.issuer}/token", data={"code": code, "code_verifier": "y"}, timeout=10)
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})


def test_a_failing_identity_provider_is_noticed(instance: LoopbackSigstore) -> None:
    with instance.failing(Fault.OIDC_500), pytest.raises(IssuerError):
        Issuer(instance.issuer)


def test_trust_comes_through_tuf_and_stays_when_the_repository_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LoopbackSigstore() as instance:
        url, root = instance.tuf_repository()
        (tmp_path / "root.json").write_bytes(root)
        trust = ClientTrustConfig.from_tuf(url, bootstrap_root=tmp_path / "root.json")
        with SigningContext.from_trust_config(trust).signer(IdentityToken(instance.token())) as signer:
            bundle = signer.sign_dsse(Statement(STATEMENT))
        with instance.failing(Fault.TUF_500), pytest.raises(TUFError):
            ClientTrustConfig.from_tuf(url, bootstrap_root=tmp_path / "root.json")
    offline = ClientTrustConfig.from_tuf(url, offline=True)
    Verifier(trusted_root=offline.trusted_root).verify_dsse(bundle, policy.UnsafeNoOp())


def test_windows_and_members_of_the_trusted_root_are_as_asked(instance: LoopbackSigstore) -> None:
    ended = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=1))
    root = instance.trusted_root({Pinned.CT: ended}, without=frozenset({Pinned.TSA, Pinned.REKOR_V2}))
    logs = cast("list[dict[str, dict[str, object]]]", root["ctlogs"])
    assert [log["publicKey"]["validFor"] for log in logs] == [
        {"start": "2024-01-01T00:00:00Z", "end": "2024-01-02T00:00:00Z"}
    ]
    assert root["timestampAuthorities"] == []
    assert len(cast("list[object]", root["tlogs"])) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="timestamps were NOT checked: `openssl` is not installed")
def test_openssl_accepts_the_timestamps(instance: LoopbackSigstore, tmp_path: Path) -> None:
    data, query, reply = tmp_path / "data", tmp_path / "query", tmp_path / "reply"
    data.write_bytes(ARTIFACT)

    def openssl(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["openssl", "ts", *arguments], capture_output=True, text=True, timeout=60, check=False)

    asked = openssl("-query", "-data", str(data), "-sha256", "-cert", "-out", str(query))
    assert asked.returncode == 0, asked.stderr
    answer = requests.post(
        f"{instance.base}/api/v1/timestamp",
        data=query.read_bytes(),
        headers={"content-type": "application/timestamp-query"},
        timeout=10,
    )
    reply.write_bytes(answer.content)
    (tmp_path / "root.pem").write_bytes(instance.timestamps.root.certificate.public_bytes(Encoding.PEM))
    check = ["-verify", "-queryfile", str(query), "-in", str(reply), "-CAfile", str(tmp_path / "root.pem")]
    accepted = openssl(*check)
    assert "Verification: OK" in accepted.stdout + accepted.stderr
    data.write_bytes(b"other content")
    refused = openssl("-verify", "-data", str(data), "-in", str(reply), "-CAfile", str(tmp_path / "root.pem"))
    assert refused.returncode != 0
