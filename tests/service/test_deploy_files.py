"""The files that start a Hall on a server: each is read by the program it is for, or run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.bubblewrap import bubblewrap
from tests.service.world import SCRIPT, ask
from wcp_route.service.demo import make
from wcp_route.service.settings import read_service

if TYPE_CHECKING:
    from tests.service.world import World

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="hall.service was NOT checked: no systemd-analyze")
def test_systemd_accepts_the_unit_and_calls_it_confined(tmp_path: Path) -> None:
    unit = tmp_path / "hall.service"
    shutil.copy(DEPLOY / unit.name, unit)
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    assert "hall.service" not in done.stderr, done.stderr
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)]
    rated = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert rated.returncode == 0, rated.stdout[-300:] + rated.stderr  # at most 2.5 of 10, 10 is open to everything


def test_the_command_of_the_unit_starts_a_hall_and_makes_its_state(tmp_path: Path) -> None:
    tokens, folder = make(str(tmp_path / "hall")), tmp_path / "hall"
    (folder / "hall.db").rename(tmp_path / "elsewhere.db")
    (tmp_path / "data").mkdir()
    text = (DEPLOY / "hall.service").read_text()
    line = next(line for line in text.splitlines() if line.startswith("ExecStart="))
    line = line.removeprefix("ExecStart=/usr/bin/env wcp-route").replace("/etc/wcp", str(folder))
    line = line.replace("/var/lib/wcp-hall", str(tmp_path / "data")).replace("${CREDENTIALS_DIRECTORY}", str(folder))
    base, process = start([str(SCRIPT), *shlex.split(line), "--listen", "127.0.0.1:0"], tmp_path)
    try:
        assert httpx.get(f"{base}/readyz", timeout=30).json()["ready"] is True
        assert ask(base, tokens["platform"], "cap.doc.summarize")["outcome"] == "DENY"  # nobody is enrolled in it yet
        assert (tmp_path / "data" / "hall.db").exists()
    finally:
        stop(process)


def start(command: list[str], folder: Path) -> tuple[str, subprocess.Popen[str]]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    if not found:
        process.kill()
    assert found, line + process.stderr.read()
    return found[0], process


def stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert process.stderr is not None
    process.stderr.close()


def test_the_container_runs_as_nobody_with_a_read_only_root(tmp_path: Path) -> None:
    """Without a container engine: the image's command in a sandbox of the same shape, as its user."""
    lines = (DEPLOY / "hall.Containerfile").read_text().splitlines()
    fields = dict(line.split(" ", 1) for line in lines if re.match(r"(USER|ENTRYPOINT|VOLUME|STOPSIGNAL) ", line))
    assert (fields["USER"], fields["STOPSIGNAL"], fields["VOLUME"]) == ("10001:10001", "SIGTERM", "/var/lib/wcp-hall")
    entry = json.loads(fields["ENTRYPOINT"])
    assert entry[0] == "/opt/wcp/bin/wcp-route"
    bwrap = bubblewrap("the container's command")
    tokens, folder = make(str(tmp_path / "hall")), tmp_path / "hall"
    (tmp_path / "data").mkdir()
    shutil.move(folder / "hall.db", tmp_path / "data" / "hall.db")
    settings = (folder / "hall.toml").read_text().replace('"hall.db"', '"/var/lib/wcp-hall/hall.db"')
    (folder / "hall.toml").write_text(settings)
    sandbox = [bwrap, "--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/var/lib", "--tmpfs", "/etc"]
    sandbox += ["--bind", str(tmp_path / "data"), "/var/lib/wcp-hall", "--ro-bind", str(folder), "/etc/wcp"]
    sandbox += ["--unshare-user", "--uid", "10001", "--gid", "10001", "--unshare-pid", "--die-with-parent"]
    base, process = start([*sandbox, str(SCRIPT), *entry[1:], "--listen", "127.0.0.1:0"], tmp_path)
    try:
        assert httpx.get(f"{base}/readyz", timeout=30).json() == {"ready": True, "missing": {}}
        assert ask(base, tokens["platform"], "cap.doc.summarize")["outcome"] == "DISPATCH"
    finally:
        process.terminate()  # of the sandbox; the service inside ends with it
        process.wait(60)
        assert process.stderr is not None
        process.stderr.close()


@pytest.fixture(scope="module")
def manifests() -> list[Any]:
    return list(yaml.safe_load_all((DEPLOY / "hall.yaml").read_text()))


def test_kubernetes_accepts_the_manifest(manifests: list[Any]) -> None:
    for one in manifests:
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
    wrong = json.loads(json.dumps(manifests[0]))
    wrong["spec"]["template"]["spec"]["containers"][0]["securityContext"]["readOnlyRootFilesystm"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_the_pods_are_confined_and_share_nothing_they_can_write(manifests: list[Any]) -> None:
    pod = manifests[0]["spec"]["template"]["spec"]
    (hall,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    own = hall["securityContext"]
    assert (own["readOnlyRootFilesystem"], own["allowPrivilegeEscalation"]) == (True, False)
    assert own["capabilities"] == {"drop": ["ALL"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in hall["volumeMounts"]:
        assert mount.get("readOnly") or "emptyDir" in volumes[mount["name"]]


def test_the_probes_ask_what_the_service_answers(manifests: list[Any], world: World) -> None:
    (hall,) = manifests[0]["spec"]["template"]["spec"]["containers"]
    settings = read_service({"listen": "0.0.0.0:7777", "hosts": ["wcp-hall"], "token": [
        {"name": "a", "sha256": ["ab" * 32], "roles": ["router"]}]})  # fmt: skip
    assert "wcp-hall" in settings.hosts
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = hall[kind]["httpGet"]
        assert world("GET", probe["path"]).status_code == 200
        assert [(row["name"], row["value"]) for row in probe["httpHeaders"]] == [("Host", "wcp-hall")]
    assert hall[kind]["httpGet"]["port"] in {port["name"] for port in hall["ports"]}
