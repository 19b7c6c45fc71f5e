"""`verify --attest-verdict`: an SVR and a VSA that others can verify, written for a pass alone."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command

TRUST = ("--public-key", "acme.key.pub", "--worker-id", "org.acme.summarizer")


@pytest.fixture
def verifier(wcp: Command) -> Path:
    """The verifier's own key."""
    signer = generate()
    path = wcp.folder / "verifier.key"
    path.write_bytes(signer.to_pem(None))
    (wcp.folder / "verifier.key.pub").write_bytes(signer.public_pem())
    return path


def statements(path: Path, public: Path) -> list[dict[str, Any]]:
    """Verify each line as a client of the DSSE protocol does, without our code, and return what was signed."""
    key, found = load_pem_public_key(public.read_bytes()), []
    for line in path.read_text().splitlines():
        envelope = json.loads(line)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"])
        kind = envelope["payloadType"].encode()
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
        key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)  # type: ignore[union-attr, call-arg]
        found.append(json.loads(payload))
    return found


def test_a_pass_becomes_an_svr_and_a_vsa_about_the_manifest(wcp: Command, signed: Path, verifier: Path) -> None:
    policy = wcp.folder / "policy.toml"
    policy.write_text('version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "acme.key.pub"\n')
    names = ("--verifier-id", "https://acme.example/verifier/v1", "--resource-uri", "https://acme.example/worker.tar")
    run = wcp("verify", signed.name, "--policy", policy, "--attest-verdict", verifier, *names)
    assert run.status == 0
    assert "worker.verdict.jsonl" in run.err
    svr, vsa = statements(wcp.folder / "worker.verdict.jsonl", wcp.folder / "verifier.key.pub")
    digest = hashlib.sha256((signed / "manifest.json").read_bytes()).hexdigest()
    for statement in (svr, vsa):
        assert statement["_type"] == "https://in-toto.io/Statement/v1"
        assert statement["subject"] == [{"name": "manifest.json", "digest": {"sha256": digest}}]
    assert svr["predicateType"] == "https://in-toto.io/attestation/svr/v0.2"
    sha256 = hashlib.sha256(policy.read_bytes()).hexdigest()
    described = {"uri": f"urn:wcp:policy:{sha256}", "digest": {"sha256": sha256}}
    assert svr["predicate"]["verifier"] == {"id": "https://acme.example/verifier/v1", "policies": [described]}
    assert {"WCP_PACKAGE_VERIFIED", "WCP_NAMESPACE_org.acme", "WCP_SIGNERS_1"} < set(svr["predicate"]["properties"])
    assert not any("BANS" in name or "PROVENANCE" in name for name in svr["predicate"]["properties"])
    assert vsa["predicateType"] == "https://slsa.dev/verification_summary/v1"
    assert vsa["predicate"]["verificationResult"] == "PASSED"
    assert vsa["predicate"]["resourceUri"] == "https://acme.example/worker.tar"
    assert vsa["predicate"]["policy"] == described
    assert vsa["predicate"]["timeVerified"] == svr["predicate"]["timeCreated"]
    assert not any(name.startswith("SLSA_BUILD_LEVEL_") and name[-1:].isdigit() for name in _levels(vsa))
    assert not list(signed.rglob("*.jsonl"))
    assert wcp("verify", signed.name, *TRUST).status == 0


def _levels(vsa: dict[str, Any]) -> list[str]:
    levels: list[str] = vsa["predicate"]["verifiedLevels"]
    return levels


def test_a_policy_of_options_is_named_as_such_and_archives_work_too(wcp: Command, signed: Path, verifier: Path) -> None:
    wcp.ok("pack", signed.name, "-o", "w.tar.gz")
    wcp.ok("verify", "w.tar.gz", *TRUST, "--attest-verdict", verifier, "--verdict-out", "v.jsonl")
    svr, vsa = statements(wcp.folder / "v.jsonl", wcp.folder / "verifier.key.pub")
    assert svr["predicate"]["verifier"]["policies"] == []
    assert vsa["predicate"]["policy"] == {"uri": "urn:wcp:policy:options"}
    assert vsa["predicate"]["resourceUri"] == "pkg:generic/org.acme.summarizer@1.4.0"
    with pytest.raises(InvalidSignature):
        statements(wcp.folder / "v.jsonl", wcp.folder / "acme.key.pub")


def test_a_verdict_replaces_an_earlier_one_and_nothing_else(wcp: Command, signed: Path, verifier: Path) -> None:
    out = wcp.folder / "worker.verdict.jsonl"
    attest = ("verify", signed.name, *TRUST, "--attest-verdict", verifier)
    wcp.ok(*attest)
    wcp.ok(*attest)
    assert len(statements(out, wcp.folder / "verifier.key.pub")) == 2
    for foreign in ("mine\n", (signed / "manifest.sig").read_text()):
        out.write_text(foreign)
        run = wcp(*attest)
        assert run.status == 2
        assert "not overwritten" in run.err
        assert out.read_text() == foreign


def test_a_denial_writes_nothing(wcp: Command, signed: Path, verifier: Path) -> None:
    (signed / "code" / "worker_logic.py").write_text("changed")
    assert wcp("verify", signed.name, *TRUST, "--attest-verdict", verifier).status == 1
    assert not (wcp.folder / "worker.verdict.jsonl").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--attest-verdict", "absent.key"), "absent.key"),
        (("--attest-verdict", "acme.key.pub"), "acme.key.pub"),
        (("--attest-verdict", "worker/in.key"), "inside the package"),
        (("--attest-verdict", "verifier.key", "--verdict-out", "worker/v"), "inside the package"),
        (("--attest-verdict", "verifier.key", "--verdict-out", "no/v"), "not a directory"),
        (("--attest-verdict", "verifier.key", "--verdict-out", ""), "--verdict-out is empty"),
        (("--attest-verdict", "verifier.key", "--verifier-id", "acme"), "URI"),
        (("--attest-verdict", "verifier.key", "--resource-uri", "a b:c"), "URI"),
        (("--verdict-out", "v"), "--attest-verdict"),
        (("--verifier-id", "https://acme.example"), "--attest-verdict"),
    ],
)
@pytest.mark.usefixtures("signed", "verifier")
def test_wrong_options_are_one_line_and_status_2(wcp: Command, options: tuple[str, ...], says: str) -> None:
    run = wcp("verify", "worker", *TRUST, *options)
    assert (run.status, run.out) == (2, "")
    assert says in run.err


def test_an_encrypted_key_takes_its_passphrase_from_a_file(wcp: Command, signed: Path) -> None:
    signer = generate()
    (wcp.folder / "locked.key").write_bytes(signer.to_pem(b"open sesame"))
    (wcp.folder / "locked.pub").write_bytes(signer.public_pem())
    (wcp.folder / "pass").write_text("open sesame\n")
    attest = ("verify", signed.name, *TRUST, "--attest-verdict", "locked.key")
    assert wcp(*attest).status == 2
    wcp.ok(*attest, "--verdict-passphrase-file", "pass")
    assert statements(wcp.folder / "worker.verdict.jsonl", wcp.folder / "locked.pub")


def test_a_verdict_is_not_a_signature_of_a_package(wcp: Command, signed: Path) -> None:
    """The verifier's key may be the signer's: a verdict in the place of `manifest.sig` must not pass."""
    wcp.ok("verify", signed.name, *TRUST, "--attest-verdict", "acme.key", "--verdict-out", "v.jsonl")
    (signed / "manifest.sig").write_bytes((wcp.folder / "v.jsonl").read_bytes())
    run = wcp("verify", signed.name, *TRUST, "--format", "json")
    assert (run.status, run.json["code"]) == (1, "ATTEST_SIG_INVALID")
