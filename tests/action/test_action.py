"""The action, run: signing and verifying with keys and secrets, denials, hostile workspaces, hostile inputs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from tests.action.conftest import ROOT, Job

if TYPE_CHECKING:
    from tests.composite_action import Result

pytestmark = pytest.mark.xdist_group("action")

IDS = {"worker_id": "org.acme.worker", "species_id": "wrk.doc.worker", "worker_version": "1.0.0"}
SECRET = "correct horse battery staple"
SARIF_SUBSET = json.loads((ROOT / "tests/formats/sarif-subset.schema.json").read_text())


def new_key(folder: Path) -> tuple[str, str]:
    """Make a key pair, and return private and public key as text."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "wcp_attest", "keygen", str(folder / "key"), "--no-passphrase"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return (folder / "key").read_text(), (folder / "key.pub").read_text()


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return new_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(job: Job, key: tuple[str, str]) -> Job:
    result = job.run(mode="sign", path="pkg", signing="key", signing_key=key[0], **IDS)
    assert result.ok, result.annotations
    return job


def verify(job: Job, key: tuple[str, str], **inputs: str) -> Result:
    return job.run(mode="verify", path="pkg", public_key=key[1], **{"worker_id": "org.acme.worker", **inputs})


def errors(result: Result) -> str:
    return "\n".join(issue.data for issue in result.annotations if issue.name == "error")


def test_sign_with_a_key_and_verify(job: Job, key: tuple[str, str]) -> None:
    signing = job.run(mode="sign", path="pkg", signing="key", signing_key=key[0], **IDS)
    assert signing.ok, signing.annotations
    assert signing.outputs["manifest-path"] == "pkg/manifest.json"
    assert signing.outputs["signature-path"] == "pkg/manifest.sig"
    assert signing.outputs["package-hash"].startswith("sha256:")
    assert signing.outputs["bundle-path"] == ""
    assert signing.outputs["verified"] == ""
    assert "org.acme.worker 1.0.0" in signing.summary
    assert "wcp-attest verify" in signing.summary
    manifest = json.loads((job.workspace / "pkg/manifest.json").read_text())
    assert manifest["build_source"] == "ci"
    assert manifest["source"] == {"repository": "https://github.com/acme/worker", "commit": "0" * 40}

    verified = verify(job, key)
    assert verified.ok, verified.annotations
    assert verified.outputs["verified"] == "true"
    assert verified.outputs["deny-code"] == ""
    assert verified.outputs["package-hash"] == signing.outputs["package-hash"]
    result = json.loads(Path(verified.outputs["result-path"]).read_text())
    assert result["packages"][0]["ok"] is True
    assert result["packages"][0]["package"]["namespace"] == "org.acme"
    sarif = json.loads(Path(verified.outputs["sarif-path"]).read_text())
    jsonschema.validate(sarif, SARIF_SUBSET)
    assert sarif["runs"][0]["results"] == []


def test_a_private_key_is_masked_and_left_nowhere(job: Job, key: tuple[str, str]) -> None:
    result = job.run(mode="sign", path="pkg", signing="key", signing_key=key[0], **IDS)
    body = key[0].splitlines()[1]
    assert body not in result.log + result.summary + repr(result.annotations)
    leaked = [
        path for path in job.temp.rglob("*") if path.is_file() and "venv" not in path.parts and body in path.read_text()
    ]
    assert leaked == []


def test_hmac_is_masked_and_verifies(job: Job) -> None:
    signing = job.run(mode="sign", path="pkg", signing="hmac", hmac_key=SECRET, **IDS)
    assert signing.ok, signing.annotations
    verified = job.run(mode="verify", path="pkg", hmac_key=SECRET, worker_id="org.acme.worker")
    assert verified.outputs["verified"] == "true"
    other = job.run(mode="verify", path="pkg", hmac_key=SECRET[::-1], worker_id="org.acme.worker")
    assert other.outputs["verified"] == "false"
    for result in (signing, verified, other):
        assert SECRET not in result.log + result.summary + repr(result.annotations) + repr(result.outputs)


def test_a_manifest_that_stands_there_is_signed_as_it_was_reviewed(signed: Job, key: tuple[str, str]) -> None:
    before = (signed.workspace / "pkg/manifest.json").read_bytes()
    result = signed.run(mode="sign", path="pkg", signing="hmac", hmac_key=SECRET)
    assert result.ok, result.annotations
    assert (signed.workspace / "pkg/manifest.json").read_bytes() == before
    assert verify(signed, key).outputs["verified"] == "true"


def test_a_tampered_package_is_denied_with_every_file_named(signed: Job, key: tuple[str, str]) -> None:
    (signed.workspace / "pkg/code/run.py").write_text("evil()\n")
    (signed.workspace / "pkg/new::file,with=signs").write_text("x")
    result = verify(signed, key)
    assert not result.ok
    assert result.outputs["verified"] == "false"
    assert result.outputs["deny-code"] == "ATTEST_HASH_MISMATCH"
    assert result.outputs["package-hash"] == ""
    files = [issue.properties.get("file") for issue in result.annotations if "title" in issue.properties]
    assert files == ["pkg/manifest.json", "pkg/code/run.py", "pkg/new::file,with=signs"]
    assert "<code>code/run.py</code>" in result.summary
    assert "code/run.py: modified" in result.log
    sarif = json.loads(Path(result.outputs["sarif-path"]).read_text())
    jsonschema.validate(sarif, SARIF_SUBSET)
    assert len(sarif["runs"][0]["results"]) == 3


def test_a_denial_may_be_left_to_the_outputs_but_no_undecided_one(signed: Job, key: tuple[str, str]) -> None:
    (signed.workspace / "pkg/code/run.py").write_text("evil()\n")
    denied = verify(signed, key, fail_on_deny="false")
    assert denied.ok
    assert denied.outputs["verified"] == "false"
    broken = signed.run(mode="verify", path="pkg", policy="absent.toml", fail_on_deny="false")
    assert not broken.ok
    assert broken.outputs["verified"] == "false"
    assert broken.outputs["deny-code"] == "ATTEST_INTERNAL_ERROR"
    sarif = json.loads(Path(broken.outputs["sarif-path"]).read_text())
    assert sarif["runs"][0]["invocations"][0]["executionSuccessful"] is False
    assert sarif["runs"][0]["results"]


def test_the_wrong_worker_and_the_wrong_key_are_denied(signed: Job, key: tuple[str, str], tmp_path: Path) -> None:
    assert verify(signed, key, worker_id="org.acme.other").outputs["deny-code"] == "ATTEST_MANIFEST_ID_MISMATCH"
    stranger = new_key(tmp_path / "stranger")
    assert verify(signed, stranger).outputs["deny-code"] == "ATTEST_SIGNER_UNTRUSTED"


def test_a_policy_file_decides(signed: Job, key: tuple[str, str]) -> None:
    (signed.workspace / "deploy").mkdir()
    (signed.workspace / "deploy/acme.pub").write_text(key[1])
    policy = 'version = 1\n[[namespace]]\nname = "org.acme"\n  [[namespace.signer]]\n  key = "acme.pub"\n'
    (signed.workspace / "deploy/policy.toml").write_text(policy)
    result = signed.run(mode="verify", path="pkg", policy="deploy/policy.toml")
    assert result.outputs["verified"] == "true", result.annotations
    assert "--policy=deploy/policy.toml" in result.summary
    (signed.workspace / "deploy/policy.toml").write_text(policy.replace("org.acme", "org.other"))
    assert not signed.run(mode="verify", path="pkg", policy="deploy/policy.toml").ok


def test_trust_is_not_taken_from_the_package_itself(signed: Job, key: tuple[str, str]) -> None:
    (signed.workspace / "pkg/policy.toml").write_text("version = 1\n")
    (signed.workspace / "link.toml").symlink_to("pkg/policy.toml")
    for policy in ("pkg/policy.toml", "pkg/../pkg/policy.toml", "link.toml"):
        result = signed.run(mode="verify", path="pkg", policy=policy)
        assert not result.ok
        assert "lies in the package" in errors(result)


def test_several_packages_by_pattern_and_names_with_spaces_and_line_breaks(job: Job, key: tuple[str, str]) -> None:
    for number, name in enumerate(["my worker", "line\nbreak", "-option", "[brackets]"]):
        package = job.workspace / "many" / name
        package.mkdir(parents=True)
        (package / "f").write_text(name)
        config = (
            f'[[package]]\npath = "."\nworker_id = "org.acme.w{number}"\nspecies_id = "wrk.w"\nworker_version = "1"\n'
        )
        (package / "wcp-attest.toml").write_text(config)
    signing = job.run(mode="sign", path="many/*", signing="key", signing_key=key[0])
    assert signing.ok, signing.annotations
    assert len(signing.outputs["package-hash"].splitlines()) == 4
    result = job.run(mode="verify", path="many/*", public_key=key[1], namespace="org.acme")
    assert result.ok, result.annotations
    assert len(json.loads(Path(result.outputs["result-path"]).read_text())["packages"]) == 4
    assert len(json.loads(Path(result.outputs["sarif-path"]).read_text())["runs"]) == 4
    exact = job.run(mode="verify", path="many/[brackets]\nmany/my worker\n", public_key=key[1], namespace="org.acme")
    assert exact.ok, exact.annotations
    (job.workspace / "many/my worker/f").write_text("changed")
    denied = job.run(mode="verify", path="many/*", public_key=key[1], namespace="org.acme")
    assert denied.outputs["verified"] == "false"
    assert denied.outputs["deny-code"] == "ATTEST_HASH_MISMATCH"
    assert len(denied.outputs["package-hash"].splitlines()) == 3


REFUSED_INPUTS = {
    "no mode": ({}, "`mode`"),
    "unknown mode": ({"mode": "attest"}, "`sign`, `verify`"),
    "nobody trusted": ({"mode": "verify"}, "nobody is trusted"),
    "identity without issuer": ({"mode": "verify", "identity": "x"}, "go together"),
    "path is an option": ({"mode": "verify", "hmac_key": SECRET, "path": "--help"}, "looks like an option"),
    "policy is an option": ({"mode": "verify", "policy": "--hmac"}, "looks like an option"),
    "exclude is an option": ({"mode": "sign", "exclude": "ok\n--fresh"}, "looks like an option"),
    "line break": ({"mode": "verify", "policy": "a\nb"}, "line break"),
    "pattern matches nothing": ({"mode": "verify", "hmac_key": SECRET, "path": "absent*"}, "matches none"),
    "one of two matches nothing": ({"mode": "verify", "hmac_key": SECRET, "path": "pkg\nabsent"}, "matches none"),
    "empty path": ({"mode": "verify", "hmac_key": SECRET, "path": " \n"}, "empty"),
    "path is a file": ({"mode": "verify", "hmac_key": SECRET, "path": "pkg/data file.txt"}, "no directory"),
    "boolean": ({"mode": "verify", "hmac_key": SECRET, "fail_on_deny": "yes"}, "fail-on-deny"),
    "misplaced in sign": ({"mode": "sign", "policy": "p.toml"}, "belongs to mode `verify`"),
    "misplaced in verify": ({"mode": "verify", "hmac_key": SECRET, "exclude": "x"}, "belongs to mode `sign`"),
    "key is missing": ({"mode": "sign", "signing": "key"}, "needs the input `signing-key`"),
    "key is too much": ({"mode": "sign", "signing_key": "k"}, "excludes the input `signing-key`"),
    "one id for two": ({"mode": "sign", "path": "pkg\npkg/code", "signing": "hmac", "hmac_key": SECRET,
                        "worker_id": "org.acme.w"}, "for one package"),
    "too long": ({"mode": "sign", "worker_id": "x" * 70_000}, "longer than"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_INPUTS)
def test_inputs_that_are_refused(job: Job, case: str) -> None:
    inputs, words = REFUSED_INPUTS[case]
    result = job.run(**inputs)
    assert not result.ok
    assert result.steps["run"].exit_status == 2
    assert words in errors(result)


INJECTIONS = [
    '"; touch owned; echo "',
    "$(touch owned)",
    "`touch owned`",
    "${{ github.token }}",
    "'; import os; os.system('touch owned') #",
    "x\n::set-output name=verified::true",
    "%0A::error::forged",
    "##[set-output name=verified]true",
]


@pytest.mark.parametrize("value", INJECTIONS)
def test_no_input_is_ever_run_or_obeyed(job: Job, value: str) -> None:
    for name in ("path", "worker_id", "policy", "public_key"):
        inputs = {"mode": "verify", "path": "pkg", "public_key": "absent.pub", "issuer": "", name: value}
        result = job.run(**inputs)
        assert not result.ok
        assert result.outputs["verified"] in ("", "false")
        assert not any(issue.data == "forged" for issue in result.annotations)
        assert not list(job.workspace.rglob("owned"))


def test_names_in_a_package_cannot_speak_to_the_runner(signed: Job, key: tuple[str, str]) -> None:
    for name in ("##[set-output name=verified]true", "##[stop-commands]silence", "::error::forged", "<img src=x>|`a`"):
        (signed.workspace / "pkg" / name).write_text("x")
    result = verify(signed, key)
    assert result.outputs["verified"] == "false"
    assert result.steps["run"].outputs["verified"] == "false"
    assert "forged" not in [issue.data for issue in result.annotations]
    assert len([issue for issue in result.annotations if "title" in issue.properties]) == 5
    assert "<img" not in result.summary


def test_the_environment_of_the_job_decides_nothing(signed: Job, key: tuple[str, str], tmp_path: Path) -> None:
    stranger = new_key(tmp_path / "stranger")
    (signed.workspace / "lax.toml").write_text(
        'version = 1\n[[namespace]]\nname = "org.acme"\n  [[namespace.signer]]\n  key = "acme.pub"\n'
    )
    (signed.workspace / "acme.pub").write_text(key[1])
    environment = {
        "WCP_ATTEST_POLICY": str(signed.workspace / "lax.toml"),
        "WCP_INPUT_FAIL_ON_DENY": "false",
        "PYTHONPATH": str(signed.workspace),
    }
    job = signed.under(environment=environment)
    result = job.run(mode="verify", path="pkg", public_key=stranger[1], worker_id="org.acme.worker")
    assert not result.ok
    assert result.outputs["deny-code"] == "ATTEST_SIGNER_UNTRUSTED"


def test_what_cannot_be_signed_says_why(job: Job, key: tuple[str, str]) -> None:
    result = job.run(mode="sign", path="pkg", signing="key", signing_key=key[0])
    assert not result.ok
    assert "--worker-id is needed" in errors(result)
    assert "not signed" in result.summary
    garbage = job.run(mode="sign", path="pkg", signing="key", signing_key="no key", **IDS)
    assert not garbage.ok
    assert not (job.workspace / "pkg/manifest.sig").exists()


def test_a_changed_package_with_a_manifest_is_not_signed(signed: Job, key: tuple[str, str]) -> None:
    (signed.workspace / "pkg/code/run.py").write_text("changed()\n")
    result = signed.run(mode="sign", path="pkg", signing="key", signing_key=key[0])
    assert not result.ok
    assert "not signed" in errors(result)


def test_the_summary_can_be_switched_off(signed: Job, key: tuple[str, str]) -> None:
    assert verify(signed, key, summary="false").summary == ""


def test_excludes_are_lines(job: Job, key: tuple[str, str]) -> None:
    (job.workspace / "pkg/x.log").write_text("log")
    result = job.run(mode="sign", path="pkg", signing="key", signing_key=key[0], exclude="*.log\n\n*.tmp\n", **IDS)
    assert result.ok, result.annotations
    assert json.loads((job.workspace / "pkg/manifest.json").read_text())["excludes"] == ["*.log"]


def test_a_ban_list_of_one_s_own_refuses(signed: Job, key: tuple[str, str]) -> None:
    def ban(*arguments: str) -> None:
        command = [sys.executable, "-m", "wcp_attest", "ban", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=signed.workspace, check=True, capture_output=True, env=environment)

    ban("new", "bans.json", "--name", "own", "--expires", "7d")
    assert verify(signed, key, bans="bans.json").outputs["verified"] == "true"
    ban("add", "bans.json", "--worker", "org.acme.worker", "--reason", "exfiltrates tokens")
    banned = verify(signed, key, bans="bans.json")
    assert not banned.ok
    assert banned.outputs["deny-code"] == "ATTEST_BANNED"
    assert "exfiltrates tokens" in errors(banned)
    assert verify(signed, key, bans="absent.json").outputs["deny-code"] == "ATTEST_BANS_UNUSABLE"
    (signed.workspace / "pkg/bans.json").write_text("{}")
    assert "lies in the package" in errors(verify(signed, key, bans="pkg/bans.json"))
