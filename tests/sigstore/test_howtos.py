"""The how-tos for keyless signing, run as they stand, with the loopback instance in place of the public one.

Their console blocks are marked `shell-session`, which the runner of all pages leaves alone: they need the instance. The
issuer of the public CI system is replaced by the instance's in the text, `sign` is given the instance's trust config,
and `policy root` its root; all else is what the reader types. The steps of the pipelines are run, too, except for the
installation.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.docs.runner import Page
from tests.loopback_sigstore import DIRECT, LoopbackSigstore, github_claims, gitlab_claims
from tests.sigstore.packages import PATIENCE, write_package

if TYPE_CHECKING:
    from collections.abc import Iterator

HOWTOS = Path(__file__).parents[2] / "docs" / "howto"
PROGRAM = Path(sys.executable).with_name("wcp-attest")
_STEPS = re.compile(r"<!-- steps: (?P<job>\w+) -->\n```yaml\n(?P<yaml>.*?)```", re.DOTALL)

SHIM = """#!/bin/sh
case "$1 $*" in
"policy policy root"*) for last; do :; done; exec cp "$LOOPBACK_TRUSTED_ROOT" "$last" ;;
sign*--trust-config*) exec {program} "$@" ;;
sign*) exec {program} "$@" --trust-config "$LOOPBACK_TRUST_CONFIG" ;;
*) exec {program} "$@" ;;
esac
"""


class LoopbackPage(Page):
    """A page whose commands find the loopback instance."""

    extra: dict[str, str]

    def _environment(self) -> dict[str, str]:
        base = super()._environment()
        return {**base, **self.extra, "PATH": f"{self.folder / 'shim'}{os.pathsep}{base['PATH']}"}


def steps(text: str) -> Iterator[str]:
    """Yield the shell scripts of the pipelines in a page, without the installation."""
    for found in _STEPS.finditer(text):
        pipeline = yaml.safe_load(found["yaml"])
        if "jobs" in pipeline:
            job = pipeline["jobs"]["sign"]
            assert job["permissions"]["id-token"] == "write"
            scripts = [step["run"] for step in job["steps"] if "run" in step]
        else:
            assert pipeline["sign"]["id_tokens"]["SIGSTORE_ID_TOKEN"] == {"aud": "sigstore"}
            scripts = pipeline["sign"]["script"]
        yield from (script for script in scripts if not script.startswith("pip install"))


def prepared(instance: LoopbackSigstore, name: str, issuer: str, folder: Path, env: dict[str, str]) -> LoopbackPage:
    write_package(folder / "my-worker")
    (folder / "trust_config.json").write_text(json.dumps(instance.client_trust_config()))
    (folder / "root.json").write_text(json.dumps(instance.trusted_root()))
    shim = folder / "shim" / "wcp-attest"
    shim.parent.mkdir()
    shim.write_text(SHIM.format(program=shlex.quote(str(PROGRAM))))
    shim.chmod(shim.stat().st_mode | stat.S_IXUSR)
    text = (HOWTOS / name).read_text()
    assert issuer in text
    # The flags that name a GitHub repository imply GitHub's issuer, which no other instance can vouch for.
    text = re.sub(r"(--repository acme/\w+)", rf"\1 --issuer {instance.issuer}", text.replace(issuer, instance.issuer))
    page = LoopbackPage(text.replace("```shell-session", "```console"), folder)
    page.extra = {
        **DIRECT,
        **env,
        "LOOPBACK_TRUST_CONFIG": str(folder / "trust_config.json"),
        "LOOPBACK_TRUSTED_ROOT": str(folder / "root.json"),
    }
    return page


def run_pipelines(page: LoopbackPage) -> int:
    """Run the steps of a page's pipelines in its folder; return how many there were."""
    policy = re.search(r"<!-- file: policy.toml -->\n```toml\n(.*?)```", page.text, re.DOTALL)
    assert policy is not None
    (page.folder / "policy.toml").write_text(policy[1])
    shutil.copy(page.folder / "root.json", page.folder / "trusted_root.json")
    count = 0
    for script in steps(page.text):
        ran = subprocess.run(
            ["sh", "-ec", script],
            cwd=page.folder,
            env=page._environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert ran.returncode == 0, f"{script}\n{ran.stdout}{ran.stderr}"
        count += 1
    return count


def test_github_actions(instance: LoopbackSigstore, tmp_path: Path) -> None:
    claims = github_claims(ref="refs/tags/v1.4.0")
    env = {**instance.ambient_environment(**claims), "GITHUB_REF_NAME": "v1.4.0"}
    page = prepared(instance, "github.md", "https://token.actions.githubusercontent.com", tmp_path, env)
    assert run_pipelines(page) == 2
    page.run()
    assert page.ran == 5
    assert (tmp_path / "my-worker.sigstore.json").exists()


def test_gitlab_ci(instance: LoopbackSigstore, tmp_path: Path) -> None:
    token = instance.token(**gitlab_claims(tag="v1.4.0"))
    env = {"GITLAB_CI": "true", "SIGSTORE_ID_TOKEN": token, "CI_COMMIT_TAG": "v1.4.0"}
    page = prepared(instance, "gitlab-ci.md", '"https://gitlab.com"', tmp_path, env)
    page.text = page.text.replace(f"issuer = {instance.issuer}", f'issuer = "{instance.issuer}"')
    page.text = page.text.replace("(https://gitlab.com)", f"({instance.issuer})")
    assert run_pipelines(page) == 2
    page.run()
    assert page.ran == 2


def test_air_gapped(instance: LoopbackSigstore, tmp_path: Path) -> None:
    env = instance.ambient_environment(**github_claims(ref="refs/tags/v1.4.0"))
    page = prepared(instance, "air-gapped.md", "https://token.actions.githubusercontent.com", tmp_path, env)
    page.run()
    assert page.ran == 6


@pytest.mark.parametrize("path", sorted(HOWTOS.glob("*.md")), ids=lambda path: path.name)
def test_no_page_is_left_unrun(path: Path) -> None:
    if "```shell-session" in path.read_text():
        assert path.name in {"github.md", "gitlab-ci.md", "air-gapped.md"}
