"""The action signing keyless, through the ambient endpoint of a Sigstore on loopback, and jobs that have none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.loopback_sigstore import DIRECT, Fault, LoopbackSigstore, github_claims

if TYPE_CHECKING:
    from tests.action.conftest import Job
    from tests.composite_action import Result


IDS = {"worker_id": "org.acme.worker", "species_id": "wrk.doc.worker", "worker_version": "1.0.0"}
FORK = {"pull_request": {"head": {"repo": {"full_name": "stranger/worker", "fork": True}}}}


@pytest.fixture
def keyless(job: Job, sigstore_instance: LoopbackSigstore) -> Job:
    """A job with `id-token: write`, whose identity tokens the loopback instance makes."""
    (job.workspace / "deploy").mkdir()
    (job.workspace / "deploy/trust-config.json").write_text(json.dumps(sigstore_instance.client_trust_config()))
    (job.workspace / "deploy/trusted_root.json").write_text(json.dumps(sigstore_instance.trusted_root()))
    return job.under(environment={**DIRECT, **sigstore_instance.ambient_environment(**github_claims("acme/worker"))})


def sign(job: Job, **inputs: str) -> Result:
    return job.run(mode="sign", path="pkg", trust_config="deploy/trust-config.json", **IDS, **inputs)


def errors(result: Result) -> str:
    return "\n".join(issue.data for issue in result.annotations if issue.name == "error")


def test_sign_keyless_and_verify_with_a_pinned_root(keyless: Job, sigstore_instance: LoopbackSigstore) -> None:
    signing = sign(keyless)
    assert signing.ok, (signing.annotations, signing.log)
    bundle = Path(signing.outputs["bundle-path"])
    assert bundle.name == "pkg.sigstore.json"
    assert json.loads(bundle.read_text())["mediaType"].startswith("application/vnd.dev.sigstore.bundle")
    assert (keyless.temp / "created_attestation_paths.txt").read_text() == f"{bundle}\n"
    assert sigstore_instance.issuer in signing.summary
    assert "--identity" in signing.summary

    identity = _identity(signing)
    trust = {"identity": identity, "issuer": sigstore_instance.issuer, "trusted_root": "deploy/trusted_root.json",
             "worker_id": "org.acme.worker"}  # fmt: skip
    verified = keyless.run(mode="verify", path="pkg", **trust)
    assert verified.outputs["verified"] == "true", verified.annotations
    by_repository = {name: trust[name] for name in ("issuer", "trusted_root", "worker_id")}  # that of an enterprise
    for repository, deny_code in (("acme/worker", ""), ("acme/other", "ATTEST_SIGNER_UNTRUSTED")):
        found = keyless.run(mode="verify", path="pkg", github_repository=repository, **by_repository)
        assert found.outputs.get("deny-code", "") == deny_code, found.annotations
    denied = keyless.run(mode="verify", path="pkg", **{**trust, "identity": identity + "x"})
    assert denied.outputs["deny-code"] == "ATTEST_SIGNER_UNTRUSTED"
    (keyless.workspace / "pkg/code/run.py").write_text("evil()")
    assert keyless.run(mode="verify", path="pkg", **trust).outputs["deny-code"] == "ATTEST_HASH_MISMATCH"


def _identity(signing: Result) -> str:
    result = json.loads(Path(signing.outputs["result-path"]).read_text())
    identity: str = result["packages"][0]["signers"][0]["identity"]
    return identity


def test_a_policy_with_github_claims_decides(keyless: Job, sigstore_instance: LoopbackSigstore) -> None:
    assert sign(keyless).ok
    policy = f'''version = 1
[[namespace]]
name = "org.acme"
  [[namespace.signer]]
  sigstore = {{ issuer = "{sigstore_instance.issuer}", repository = "REPOSITORY" }}
[sigstore]
trusted_root = "trusted_root.json"
'''
    file = keyless.workspace / "deploy/policy.toml"
    file.write_text(policy.replace("REPOSITORY", "acme/worker"))
    result = keyless.run(mode="verify", path="pkg", policy="deploy/policy.toml")
    assert result.outputs["verified"] == "true", result.annotations
    file.write_text(policy.replace("REPOSITORY", "stranger/worker"))
    assert not keyless.run(mode="verify", path="pkg", policy="deploy/policy.toml").ok


def test_a_failing_service_leaves_nothing_behind(keyless: Job, sigstore_instance: LoopbackSigstore) -> None:
    with sigstore_instance.failing(Fault.FULCIO_500):
        result = sign(keyless)
    assert not result.ok
    assert errors(result)
    assert not (keyless.workspace / "pkg/manifest.sig").exists()
    assert result.outputs["bundle-path"] == ""


def test_a_job_without_the_permission_is_told_which(job: Job) -> None:
    result = job.run(mode="sign", path="pkg", **IDS)
    assert not result.ok
    assert "id-token: write" in errors(result)
    assert not (job.workspace / "pkg/manifest.json").exists()


@pytest.mark.parametrize("deleted", [False, True])
def test_a_pull_request_from_a_fork_is_named_as_the_cause(job: Job, tmp_path: Path, *, deleted: bool) -> None:
    event = {"pull_request": {"head": {"repo": None}}} if deleted else FORK
    (tmp_path / "event.json").write_text(json.dumps(event))
    github = {"event_name": "pull_request", "event_path": str(tmp_path / "event.json")}
    fork = job.under(github=github)
    failed = fork.run(mode="sign", path="pkg", **IDS)
    assert not failed.ok
    assert "fork" in errors(failed)
    skipped = fork.run(mode="sign", path="pkg", on_missing_token="skip", **IDS)
    assert skipped.ok
    assert [issue.name for issue in skipped.annotations] == ["warning"]
    assert "fork" in skipped.annotations[0].data
    assert skipped.outputs["bundle-path"] == ""


def test_a_pull_request_from_the_same_repository_is_no_fork(job: Job, tmp_path: Path) -> None:
    event = {"pull_request": {"head": {"repo": {"full_name": "acme/worker"}}}}
    (tmp_path / "event.json").write_text(json.dumps(event))
    github = {"event_name": "pull_request", "event_path": str(tmp_path / "event.json")}
    assert "id-token: write" in errors(job.under(github=github).run(mode="sign", path="pkg", **IDS))


@pytest.mark.parametrize("event", [b"", b"[]", b"\xff", b'{"pull_request": 1}'])
def test_an_unreadable_event_is_no_crash(job: Job, tmp_path: Path, event: bytes) -> None:
    (tmp_path / "event.json").write_bytes(event)
    github = {"event_name": "pull_request", "event_path": str(tmp_path / "event.json")}
    assert "id-token: write" in errors(job.under(github=github).run(mode="sign", path="pkg", **IDS))
