"""`wcp-attest show` of a keyless signature: who, when, by whom vouched for, and the commands that verify it."""

from __future__ import annotations

import json
import shlex
import subprocess
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import jsonschema
import pytest

from tests.loopback_sigstore import github_claims
from tests.sigstore.packages import WORKER, WORKFLOW, build_package, keyless_line, payload_of, quickly

if TYPE_CHECKING:
    from tests.loopback_sigstore import LoopbackSigstore

SCHEMA = Path(__file__).parents[2] / "wcp_attest" / "schemas" / "show.json"


@pytest.fixture
def package(instance: LoopbackSigstore, tmp_path: Path) -> Path:
    """Return a package signed first with Rekor v1 by a workflow, then with Rekor v2 by a person."""
    root = build_package(tmp_path / "my worker")
    by_workflow = keyless_line(instance, payload_of(root), github_claims())
    by_person = keyless_line(instance, payload_of(root), {"email": "release@acme.test"}, rekor=2)
    (root / "manifest.sig").write_bytes(by_workflow + b"\n" + by_person + b"\n")
    return root


def test_it_tells_who_signed_when_and_who_vouches(instance: LoopbackSigstore, package: Path) -> None:
    shown = quickly("show", package, "--format", "json").json
    jsonschema.validate(shown, json.loads(SCHEMA.read_text()))
    first, second = (signature["keyless"] for signature in shown["signatures"])
    assert (first["identity"], first["issuer"]) == (WORKFLOW, instance.issuer)
    assert (first["repository"], first["ref"]) == ("https://github.com/acme/worker", "refs/tags/v1")
    assert first["run"] == "https://github.com/acme/worker/actions/runs/7/attempts/1"
    assert "fulcio intermediate" in first["authority"]
    assert first["logged_at"] is not None
    assert len(first["timestamps"]) == 1
    assert (second["identity"], second["repository"], second["logged_at"]) == ("release@acme.test", None, None)
    assert shown["verified"] is False

    text = quickly("show", package).out
    for part in (WORKFLOW, instance.issuer, f"index {first['log_index']}", first["log_id"], first["timestamps"][0]):
        assert part in text


def test_the_verify_command_it_prints_verifies(instance: LoopbackSigstore, package: Path, tmp_path: Path) -> None:
    root = tmp_path / "TRUSTED_ROOT.json"
    root.write_text(json.dumps(instance.trusted_root()))
    for signature in quickly("show", package, "--format", "json").json["signatures"]:
        words = shlex.split(signature["keyless"]["verify_command"])
        assert words[:3] == ["wcp-attest", "verify", str(package)]
        filled = [str(root) if word == "TRUSTED_ROOT.json" else word for word in words[1:]]
        assert quickly(*filled).status == 0


def test_the_cosign_command_is_filled_in(instance: LoopbackSigstore, package: Path) -> None:
    first, second = quickly("show", package, "--format", "json").json["signatures"]
    words = shlex.split(first["keyless"]["cosign_command"])
    assert words[:4] == ["sed", "-n", "1p", str(package / "manifest.sig")]
    cosign = words[words.index("&&") + 1 :]
    assert cosign[:2] == ["cosign", "verify-blob-attestation"]
    options = dict(zip(cosign[2:-1:2], cosign[3:-1:2], strict=True))
    assert options == {
        "--bundle": "manifest.sigstore.json",
        "--type": "https://workerclassprotocol.dev/attestation/package/v1",
        "--certificate-identity": WORKFLOW,
        "--certificate-oidc-issuer": instance.issuer,
        "--trusted-root": "TRUSTED_ROOT.json",
    }
    assert cosign[-1] == str(package / "manifest.json")
    assert "--use-signed-timestamps" in second["keyless"]["cosign_command"]
    assert f"--worker-id {WORKER}" in first["keyless"]["verify_command"]


@pytest.mark.parametrize("placement", ["beside", "folder", "detached", "a file", "a file in the folder"])
def test_the_commands_it_prints_name_the_files_it_read(
    instance: LoopbackSigstore, package: Path, tmp_path: Path, placement: str
) -> None:
    folder = {"folder": package / ".wcp", "a file in the folder": package / ".wcp", "detached": tmp_path / "att"}.get(
        placement, package
    )
    folder.mkdir(exist_ok=True)
    pair = [(package / name).rename(folder / name) for name in ("manifest.json", "manifest.sig")]
    shown = [str(pair[1] if placement.startswith("a file") else package)]
    shown += ["--attestation", str(folder)] if placement == "detached" else []
    root = tmp_path / "TRUSTED_ROOT.json"
    root.write_text(json.dumps(instance.trusted_root()))
    for number, signature in enumerate(quickly("show", *shown, "--format", "json").json["signatures"]):
        words = shlex.split(signature["keyless"]["verify_command"])
        assert quickly(*[str(root) if word == "TRUSTED_ROOT.json" else word for word in words[1:]]).status == 0
        extract, _, cosign = signature["keyless"]["cosign_command"].partition(" && ")
        subprocess.run(["sh", "-c", extract], cwd=tmp_path, check=True)
        line = (tmp_path / "manifest.sigstore.json").read_bytes()
        assert line.rstrip(b"\n") == pair[1].read_bytes().splitlines()[number]
        blob = Path(shlex.split(cosign)[-1])
        statement = json.loads(b64decode(json.loads(line)["dsseEnvelope"]["payload"]))
        assert statement["subject"][0]["digest"]["sha256"] == sha256(blob.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("part", "other"),
    [
        (b'"rawBytes":"MII', b'"rawBytes":"AAA'),
        (b'"certificate":{"rawBytes"', b'"certificate":null,"further":{"rawBytes"'),
        (b'"certificate":{"rawBytes"', b'"certificate":null,"x509CertificateChain":{"rawBytes"'),
        (b'"tlogEntries":[', b'"tlogEntries":[],"further":['),
        (b'"tlogEntries":[', b'"tlogEntries":[],"tlog_entries":['),
        (b'"integratedTime":"', b'"integratedTime":"99999999999'),
        (b'"signedTimestamp":"', b'"signedTimestamp":"AAAA'),
    ],
)
def test_a_damaged_bundle_is_shown_as_far_as_it_can_be_read(package: Path, part: bytes, other: bytes) -> None:
    path = package / "manifest.sig"
    line = path.read_bytes().splitlines()[0]
    assert part in line
    path.write_bytes(line.replace(part, other, 1) + b"\n")
    shown = quickly("show", package, "--format", "json")
    assert (shown.status, shown.json["signatures"][0]["keyless"]) == (0, None)
