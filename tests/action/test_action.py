"""The action, run: signing and verifying with keys and secrets, denials, hostile workspaces, hostile inputs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from action.commands import Outcome
from action.summary import render
from tests.action.conftest import ROOT, Job, Step
from wcp_attest.base.digest import sha256_hex

if TYPE_CHECKING:
    from tests.composite_action import Result


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
    assert broken.outputs["deny-code"] == ""  # a mistake in the workflow, not a finding about the package
    assert "absent.toml" in errors(broken)
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


BY_SECRET = {"mode": "verify", "hmac_key": SECRET, "namespace": "org.acme"}
REFUSED_INPUTS = {
    "no mode": ({}, "`mode`"),
    "unknown mode": ({"mode": "attest"}, "`sign`, `verify`"),
    "nobody trusted": ({"mode": "verify"}, "nobody is trusted"),
    "identity without issuer": ({"mode": "verify", "identity": "x"}, "go together"),
    "issuer alone": ({"mode": "verify", "hmac_key": SECRET, "issuer": "https://x"}, "no effect without `identity`"),
    "workflow alone": ({"mode": "verify", "hmac_key": SECRET, "github_workflow": "x"}, "no effect without `github-rep"),
    "ref alone": ({"mode": "verify", "hmac_key": SECRET, "github_ref": "refs/x"}, "no effect without `github-rep"),
    "root alone": ({"mode": "verify", "hmac_key": SECRET, "trusted_root": "r"}, "no effect without `identity`"),
    "no namespace": ({"mode": "verify", "hmac_key": SECRET}, "give `worker-id` or `namespace`"),
    "pin without policy": ({"mode": "verify", "hmac_key": SECRET, "policy_sha256": "0"}, "pins a `policy`"),
    "policy and key": ({"mode": "verify", "policy": "p", "public_key": "k"}, "`policy` and `public-key` exclude"),
    "policy and root": ({"mode": "verify", "policy": "p", "trusted_root": "k"}, "`policy` and `trusted-root` exclude"),
    "two signers": ({"mode": "verify", "identity": "x", "issuer": "y", "github_repository": "a/b"}, "two signers"),
    "passphrase for no key": ({"mode": "sign", "signing_key_passphrase": "x"}, "belongs to `signing: key`"),
    "config for a key": ({"mode": "sign", "signing": "key", "signing_key": "k", "trust_config": "c"},
                         "belongs to `signing: sigstore`"),
    "skip with a key": ({"mode": "sign", "signing": "key", "signing_key": "k", "on_missing_token": "skip"},
                        "belongs to `signing: sigstore`"),
    "placement in verify": ({"mode": "verify", "policy": "p", "placement": "folder"}, "belongs to mode `sign`"),
    "detached to nowhere": ({"mode": "sign", "placement": "detached"}, "go together"),
    "a directory for nothing": ({"mode": "sign", "attestation": "d"}, "go together"),
    "unknown placement": ({"mode": "sign", "placement": "above"}, "`beside`, `folder`, `detached`"),
    "skip in verify": ({"mode": "verify", "policy": "p", "on_missing_token": "skip"}, "belongs to mode `sign`"),
    "deny in sign": ({"mode": "sign", "fail_on_deny": "false"}, "belongs to mode `verify`"),
    "path is an option": ({"mode": "verify", "hmac_key": SECRET, "path": "--help"}, "looks like an option"),
    "policy is an option": ({"mode": "verify", "policy": "--hmac"}, "looks like an option"),
    "exclude is an option": ({"mode": "sign", "exclude": "ok\n--fresh"}, "looks like an option"),
    "line break": ({"mode": "verify", "policy": "a\nb"}, "line break"),
    "pattern matches nothing": ({**BY_SECRET, "path": "absent*"}, "matches none"),
    "one of two matches nothing": ({**BY_SECRET, "path": "pkg\nabsent"}, "matches none"),
    "empty path": ({**BY_SECRET, "path": " \n"}, "empty"),
    "path is a file": ({**BY_SECRET, "path": "pkg/data file.txt"}, "no directory"),
    "boolean": ({"mode": "verify", "hmac_key": SECRET, "fail_on_deny": "yes"}, "fail-on-deny"),
    "misplaced in sign": ({"mode": "sign", "policy": "p.toml"}, "belongs to mode `verify`"),
    "misplaced in verify": ({"mode": "verify", "hmac_key": SECRET, "exclude": "x"}, "belongs to mode `sign`"),
    "key is missing": ({"mode": "sign", "signing": "key"}, "needs the input `signing-key`"),
    "key is too much": ({"mode": "sign", "signing_key": "k"}, "excludes the input `signing-key`"),
    "one id for two": ({"mode": "sign", "path": "pkg\npkg/code", "signing": "hmac", "hmac_key": SECRET,
                        "worker_id": "org.acme.w"}, "for one package"),
    "token for no registry": ({"mode": "sign", "registry_token": "t"}, "no effect without `registry-url`"),
    "registry in verify": ({"mode": "verify", "policy": "p", "registry_url": "https://h"}, "belongs to mode `sign`"),
    "a registry and a detached pair": ({"mode": "sign", "registry_url": "https://h", "placement": "detached",
                                        "attestation": "d"}, "exclude each other"),
    "too long": ({"mode": "sign", "worker_id": "x" * 70_000}, "longer than"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED_INPUTS)
def test_inputs_that_are_refused(step: Step, case: str) -> None:
    inputs, words = REFUSED_INPUTS[case]
    done = step(**inputs)
    assert done.status == 2
    assert words in done.errors


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
        inputs = {"mode": "verify", "path": "pkg", "namespace": "org.acme", "public_key": "absent.pub", name: value}
        if name == "policy":
            del inputs["public_key"]
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


def test_a_key_and_its_passphrase_as_secrets_arrive(step: Step, key: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "encrypted"
    path.write_text("hunter2\n")
    command = [sys.executable, "-m", "wcp_attest", "keygen", str(tmp_path / "k"), "--passphrase-file", str(path)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    encrypted = (tmp_path / "k").read_text()
    for passphrase in ("hunter2\n", "hunter2\r\n", "hunter2"):
        done = step(mode="sign", signing="key", signing_key=encrypted, signing_key_passphrase=passphrase, **IDS)
        assert done.status == 0, done
        assert "hunter2" not in done.log.replace("::add-mask::hunter2", "")
    for text in (key[0].replace("\n", "\\n"), key[0].replace("\n", "\r\n"), key[0].replace("\n", " ")):
        assert step(mode="sign", signing="key", signing_key=text, **IDS).status == 0
    wrong = step(mode="sign", signing="key", signing_key=encrypted, signing_key_passphrase="no", **IDS)
    assert wrong.status == 2
    assert "input `signing-key` cannot be read: its passphrase is wrong" in wrong.errors
    missing = step(mode="sign", signing="key", signing_key=encrypted, **IDS)
    assert "`signing-key-passphrase`" in missing.errors
    assert "--passphrase-file" not in missing.log


def test_a_mistake_in_the_workflow_is_no_deny_code(step: Step) -> None:
    assert step(mode="sign", signing="hmac", hmac_key=SECRET, **IDS).status == 0
    done = step(mode="verify", public_key="nowhere.pub", worker_id=IDS["worker_id"])
    assert (done.status, done.outputs["deny-code"], done.outputs["verified"]) == (2, "", "false")
    assert "nowhere.pub" in done.errors
    assert "ATTEST_INTERNAL_ERROR" not in done.log + json.dumps(done.outputs)
    sarif = json.loads(Path(done.outputs["sarif-path"]).read_text())
    jsonschema.validate(sarif, SARIF_SUBSET)
    assert [result["ruleId"] for run in sarif["runs"] for result in run["results"]] == ["WCP_ATTEST_INPUT"]


def commands_in(summary: str) -> list[str]:
    return [line.removeprefix("$ ") for line in summary.splitlines() if line.startswith("$ ")]


def test_the_commands_of_the_summary_work_when_pasted(step: Step, key: tuple[str, str]) -> None:
    def pasted(summary: str) -> int:
        (command,) = commands_in(summary)
        folder = str(Path(sys.executable).parent)
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(step.temp), "WCP_ATTEST_HMAC_KEY": SECRET}
        return subprocess.run(
            ["bash", "-c", command], cwd=step.workspace, env=environment, capture_output=True, check=False
        ).returncode

    signed = step(mode="sign", signing="key", signing_key=key[0], **IDS)
    assert "Verify it with:" in signed.summary
    assert pasted(signed.summary) == 0
    assert pasted(step(mode="sign", signing="hmac", hmac_key=SECRET).summary) == 0
    verified = step(mode="verify", public_key=key[1], worker_id=IDS["worker_id"])
    assert "Verified with:" in verified.summary
    assert pasted(verified.summary) == 0
    (step.workspace / "pkg/code/run.py").write_text("evil()\n")
    denied = step(mode="verify", public_key=key[1], worker_id=IDS["worker_id"])
    assert "Checked with:" in denied.summary
    assert "Verified with:" not in denied.summary
    assert pasted(denied.summary) == 1


def test_what_is_wrong_is_said_once(step: Step, key: tuple[str, str]) -> None:
    step(mode="sign", signing="key", signing_key=key[0], **IDS)
    (step.workspace / "pkg/code/run.py").write_text("evil()\n")
    done = step(mode="verify", public_key=key[1], worker_id=IDS["worker_id"])
    (message,) = [line.rpartition("::")[2] for line in done.errors.splitlines() if "manifest.json" in line]
    assert done.log.count(message) == 1


def test_a_runner_without_summary_and_outputs_signs(step: Step, key: tuple[str, str]) -> None:
    bare = {"GITHUB_STEP_SUMMARY": None, "GITHUB_OUTPUT": None}
    done = step(bare, mode="sign", signing="key", signing_key=key[0], **IDS)
    assert (done.status, "Traceback" in done.log) == (0, False), done
    assert (step.workspace / "pkg/manifest.sig").exists()


def test_a_pinned_policy_refuses_another(step: Step, key: tuple[str, str]) -> None:
    step(mode="sign", signing="key", signing_key=key[0], **IDS)
    (step.workspace / "acme.pub").write_text(key[1])
    policy = '[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "acme.pub"\n'
    (step.workspace / "policy.toml").write_text(f"version = 1\n{policy}[accept]\nexcludes = false\n")
    pin = sha256_hex((step.workspace / "policy.toml").read_bytes())
    assert step(mode="verify", policy="policy.toml", policy_sha256=pin).status == 0
    (step.workspace / "policy.toml").write_text(f"version = 1\n{policy}")
    cut = step(mode="verify", policy="policy.toml", policy_sha256=pin)
    assert (cut.status, "not the policy that is pinned" in cut.errors) == (2, True)


@pytest.mark.parametrize(
    ("placement", "attestation", "where"),
    [("beside", "", "pkg"), ("folder", "", "pkg/.wcp"), ("detached", "attested", "attested")],
)
def test_the_pair_goes_where_the_inputs_say(
    step: Step, key: tuple[str, str], placement: str, attestation: str, where: str
) -> None:
    by_key = {"signing": "key", "signing_key": key[0], **IDS}
    signed = step(mode="sign", placement=placement, attestation=attestation, **by_key)
    assert signed.status == 0, signed.log
    assert signed.outputs["manifest-path"] == f"{where}/manifest.json"
    assert signed.outputs["signature-path"] == f"{where}/manifest.sig"
    assert (step.workspace / where / "manifest.sig").is_file()
    verified = step(mode="verify", public_key=key[1], worker_id=IDS["worker_id"], attestation=attestation)
    assert verified.status == 0, verified.log
    assert verified.outputs["signature-path"] == f"{where}/manifest.sig"
    for run in (signed, verified):
        (command,) = commands_in(run.summary)
        assert ("--attestation" in command) == bool(attestation)


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
    assert "`worker-id` is needed" in errors(result)
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


def test_a_policy_gets_the_shared_secret_that_it_names_and_no_other(step: Step, key: tuple[str, str]) -> None:
    assert step(mode="sign", signing="hmac", hmac_key=SECRET, **IDS).status == 0
    head = 'version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\n'
    (step.workspace / "hmac.toml").write_text(head + 'hmac = { env = "WCP_ATTEST_HMAC_KEY" }\n')
    (step.workspace / "acme.pub").write_text(key[1])
    (step.workspace / "key.toml").write_text(head + 'key = "acme.pub"\n')
    done = step(mode="verify", policy="hmac.toml", hmac_key=SECRET)
    assert (done.status, done.outputs["verified"]) == (0, "true"), done.log
    assert SECRET not in done.summary + done.log.replace(f"::add-mask::{SECRET}", "")
    assert step(mode="verify", policy="hmac.toml", hmac_key=SECRET[::-1]).status == 1
    without = step(mode="verify", policy="hmac.toml")
    assert (without.status, "`hmac-key`" in without.errors) == (2, True)
    useless = step(mode="verify", policy="key.toml", hmac_key=SECRET)
    assert (useless.status, "has no effect" in useless.errors) == (2, True)


def test_a_secret_that_is_too_short_is_named_by_its_input(step: Step) -> None:
    assert "the secret in input `hmac-key` is shorter" in step(mode="sign", signing="hmac", hmac_key="x", **IDS).errors


def test_patterns_follow_no_link_out_of_the_workspace_or_in_circles(step: Step, tmp_path: Path) -> None:
    (tmp_path / "outside/worker").mkdir(parents=True)
    for name, target in (("first", "."), ("second", "."), ("many/link", "../../outside")):
        (step.workspace / name).parent.mkdir(exist_ok=True)
        (step.workspace / name).symlink_to(target)
    for pattern in ("**/worker", "many/*/worker", "many/l*"):
        done = step(**BY_SECRET, path=pattern)
        assert (done.status, "matches none" in done.errors) == (2, True), done.log
    (step.workspace / "many/real/worker").mkdir(parents=True)
    (step.workspace / "many/.hidden/worker").mkdir(parents=True)
    done = step(**BY_SECRET, path="**/*ork[e]r\nmany/**/worker\n./**/**/p?g")
    packages = json.loads(Path(done.outputs["result-path"]).read_text())["packages"]
    assert [package["path"] for package in packages] == ["many/real/worker", "pkg"]


def test_a_name_with_a_line_break_or_no_text_adds_no_line_to_the_outputs(step: Step, key: tuple[str, str]) -> None:
    for name in (b"a\n/etc/passwd", b"b\xff"):
        package = Path(os.fsdecode(os.fsencode(step.workspace) + b"/many/" + name.replace(b"/", b"-")))
        (package / "code").mkdir(parents=True)
        (package / "code/run.py").write_text("print()\n")
        config = '[[package]]\npath = "."\nworker_id = "org.acme.w"\nspecies_id = "wrk.w"\nworker_version = "1"\n'
        (package / "wcp-attest.toml").write_text(config)
    done = step(mode="sign", path="many/*", signing="key", signing_key=key[0])
    assert done.status == 0, done.log
    assert done.outputs["signature-path"].splitlines() == [
        r"many/a\n-etc-passwd/manifest.sig",
        r"many/b\udcff/manifest.sig",
    ]


def test_names_and_messages_have_no_markup_in_the_summary(step: Step, key: tuple[str, str]) -> None:
    from markdown_it import MarkdownIt  # comes with mkdocs and rich; the grammar of GitHub's tables

    assert step(mode="sign", signing="key", signing_key=key[0], **IDS).status == 0
    names = [
        "[click](https://evil.example)",
        "*bold*",
        "~~gone~~",
        "`code`",
        "a|b",
        "<b>x</b>",
        "it's",
        "my_own_file",
        "_x_",
    ]
    for name in names:
        (step.workspace / "pkg" / name.replace("/", ":")).write_text("x")
    done = step(mode="verify", public_key=key[1], worker_id=IDS["worker_id"])
    shown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(done.summary)
    for tag in ("<a ", "<em", "<strong", "<s>", "<b>", "&amp;"):
        assert tag not in shown, shown
    for name in names:
        assert f"<code>{escape(name.replace('/', ':'), quote=False)}</code>" in shown.replace("&quot;", '"'), shown
    absent = step(mode="verify", path="pkg/code", public_key=key[1], worker_id=IDS["worker_id"])
    assert "'pkg/code/manifest.json'" in absent.summary


@pytest.mark.parametrize(
    "changed",
    [
        {"RUNNER_TEMP": None},
        {"RUNNER_TEMP": "/nonexistent"},
        {"GITHUB_OUTPUT": "/nonexistent/out"},
        {"GITHUB_STEP_SUMMARY": "/nonexistent/summary"},
    ],
)
def test_a_runner_without_a_place_for_the_result_is_named(step: Step, changed: dict[str, str | None]) -> None:
    done = step(changed, **BY_SECRET)
    assert done.status == 2
    assert "this runner" in done.errors
    assert "Traceback" not in done.log
    assert done.outputs.get("verified") != "true"


def test_the_summary_stays_below_what_the_runner_takes_whatever_the_packages_hold() -> None:
    name = "&" * 4000
    differences = [{"change": "added", "path": name, "cause": name} for _ in range(100)]
    result = {"code": "ATTEST_HASH_MISMATCH", "message": name, "differences": differences, "next": [name]}
    outcomes = [Outcome(f"pkg-{number}", 1, result, "") for number in range(20)]
    shown = render("verify", outcomes, ["wcp-attest verify"] * len(outcomes))
    assert "pkg-0" in shown
    assert len(shown.encode()) < 1 << 20
    assert re.search(r"… and 1[0-9] more packages", shown)
