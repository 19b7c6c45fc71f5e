"""The deploy recipes: the programs that read them accept them, and their commands do what the page says."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.store.worlds import KEY, make_package
from wcp_attest.cli import main

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "summarizer.service"
    shutil.copy(DEPLOY / unit.name, unit)
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    assert "summarizer.service" not in done.stderr, done.stderr
    unit.write_text(unit.read_text().replace("[Service]", "[Service]\nNoSuchSetting=1"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    assert "NoSuchSetting" in done.stderr


def test_the_pod_verifies_first_and_shows_the_worker_nothing_that_it_may_write() -> None:
    pod: Any = yaml.safe_load((DEPLOY / "pod.yaml").read_text())
    (verify,), (worker,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    for container in (verify, worker):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert all(mount["readOnly"] for mount in worker["volumeMounts"])
    users = [each["securityContext"]["runAsUser"] for each in (verify, worker)]
    assert users[0] != users[1]


@pytest.mark.parametrize("changed", [False, True])
def test_the_command_of_the_init_container_stages_a_good_package_only(*, changed: bool, tmp_path: Path) -> None:
    package = make_package(tmp_path / "package", now=time.time())
    for name in ("pair", "policy", "verified"):
        (tmp_path / name).mkdir()
    for name in ("manifest.json", "manifest.sig"):
        os.rename(package / name, tmp_path / "pair" / name)
    (tmp_path / "policy" / "acme.pub").write_bytes(KEY.public_pem())
    (tmp_path / "policy" / "policy.toml").write_text(
        'version = 1\n[[namespace]]\nname = "org.acme"\n  [[namespace.signer]]\n  key = "acme.pub"\n'
    )
    if changed:
        (package / "more").write_text("x")
    pod: Any = yaml.safe_load((DEPLOY / "pod.yaml").read_text())
    command = pod["spec"]["initContainers"][0]["command"][1:]
    status = main([f"{tmp_path}{word}" if word.startswith("/") else word for word in command])
    assert status == (1 if changed else 0)
    assert (tmp_path / "verified" / "worker" / "code" / "run").exists() is not changed
