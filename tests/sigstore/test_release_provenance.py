"""The step of the release workflow that signs provenance, as it stands there, against the loopback instance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tests.loopback_sigstore import DIRECT
from tests.loopback_sigstore.ci_claims import github_claims

if TYPE_CHECKING:
    from tests.loopback_sigstore import LoopbackSigstore

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_the_release_signs_a_provenance_that_another_client_verifies(
    instance: LoopbackSigstore, tmp_path: Path
) -> None:
    workflow: Any = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    (script,) = [step["run"] for step in workflow["jobs"]["provenance"]["steps"] if step.get("name") == "Sign"]
    install, _, commands = script.partition("\n")
    assert install.startswith("python -m pip install")
    assert "--require-hashes" in install
    config = tmp_path / "config.json"
    config.write_text(json.dumps(instance.client_trust_config()))
    (tmp_path / "assets").mkdir()
    for name in ("wcp-attest.pyz", "vex.json"):
        (tmp_path / "assets" / name).write_text(name)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    claims = github_claims()
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path), "RUNNER_TEMP": str(tmp_path), **DIRECT, **instance.ambient_environment(**claims),
        "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/wcp-attest", "GITHUB_REF": "refs/tags/v1",
        "GITHUB_WORKFLOW_REF": "acme/wcp-attest/.github/workflows/release.yml@refs/tags/v1", "GITHUB_SHA": COMMIT,
        "GITHUB_RUN_ID": "7", "GITHUB_RUN_ATTEMPT": "1", "GITHUB_EVENT_NAME": "release",
    }  # fmt: skip
    client = f"python -m sigstore --trust-config {config}"
    command = ["bash", "-euo", "pipefail", "-c", commands.replace("python -m sigstore", client)]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for name in ("wcp-attest.pyz", "vex.json"):
        asset = tmp_path / "assets" / name
        bundle = asset.with_name(f"{name}.sigstore.json")
        assert bundle.exists()
        verify: list[str | Path] = [
            sys.executable, "-m", "sigstore", "--trust-config", config, "verify", "identity", "--offline",
            "--bundle", bundle, "--cert-oidc-issuer", instance.issuer, "--cert-identity",
            f"https://github.com/{claims['job_workflow_ref']}", asset,
        ]  # fmt: skip
        assert subprocess.run(verify, env=environment, capture_output=True, check=False, timeout=60).returncode == 0
        asset.write_text("other")
        assert subprocess.run(verify, env=environment, capture_output=True, check=False, timeout=60).returncode == 1
