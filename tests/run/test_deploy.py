"""The deploy recipes: the programs that read them accept them, and their commands do what the page says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from tests.bubblewrap import bubblewrap
from tests.store.worlds import KEY, command, make_package, needs_root
from wcp_attest.cli import main

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "examples" / "deploy"
POLICY = 'version = 1\n[[namespace]]\nname = "org.acme"\n  [[namespace.signer]]\n  key = "acme.pub"\n'
PROGRAMS = Path(sys.executable).parent


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return make_package(tmp_path / "package", now=time.time())


@pytest.fixture
def trust(tmp_path: Path) -> Path:
    place = tmp_path / "trust"
    place.mkdir()
    (place / "acme.pub").write_bytes(KEY.public_pem())
    (place / "policy.toml").write_text(POLICY)
    return place


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "summarizer.service"
    shutil.copy(DEPLOY / unit.name, unit)
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    assert "summarizer.service" not in done.stderr, done.stderr
    unit.write_text(unit.read_text().replace("[Service]", "[Service]\nNoSuchSetting=1"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False, timeout=60)
    assert "NoSuchSetting" in done.stderr


# --- Kubernetes ----------------------------------------------------------------------------------------------------


@pytest.fixture
def pod() -> Any:
    return yaml.safe_load((DEPLOY / "pod.yaml").read_text())


def test_the_pod_is_one_by_the_published_schemas(pod: Any) -> None:
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    pod["spec"]["containers"][0]["volumeMount"] = pod["spec"]["containers"][0].pop("volumeMounts")
    with pytest.raises(kubernetes_validate.ValidationError, match="volumeMount"):
        kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)


def test_the_pod_verifies_first_and_shows_the_worker_nothing_that_it_may_write(pod: Any) -> None:
    (verify,), (worker,) = pod["spec"]["initContainers"], pod["spec"]["containers"]
    volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
    for container in (verify, worker):
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    assert all(mount["readOnly"] for mount in worker["volumeMounts"])
    users = [each["securityContext"]["runAsUser"] for each in (verify, worker)]
    assert users[0] != users[1]


@pytest.mark.parametrize("changed", [False, True])
def test_the_command_of_the_init_container_stages_a_good_package_only(
    *, changed: bool, pod: Any, tmp_path: Path, package: Path, trust: Path
) -> None:
    for name in ("pair", "verified"):
        (tmp_path / name).mkdir()
    trust.rename(tmp_path / "policy")
    for name in ("manifest.json", "manifest.sig"):
        os.rename(package / name, tmp_path / "pair" / name)
    if changed:
        (package / "more").write_text("x")
    words = pod["spec"]["initContainers"][0]["command"][1:]
    status = main([f"{tmp_path}{word}" if word.startswith("/") else word for word in words])
    assert status == (1 if changed else 0)
    assert (tmp_path / "verified" / "worker" / "code" / "run").exists() is not changed


# --- a container file ----------------------------------------------------------------------------------------------


class Build:
    """Does the steps of a container file one by one, each stage in a root directory of its own.

    COPY copies; RUN and ENTRYPOINT run in a sandbox with the stage, /usr and Python of this machine, and no network.
    """

    def __init__(self, text: str, contexts: dict[str, Path], place: Path) -> None:
        self.stages: list[Path] = []
        self.names: dict[str, Path] = dict(contexts)
        self.user, self.folder = "0:0", "/"
        self.variables: dict[str, str] = {}
        self.entry: list[str] = []
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if word in ("#", "") or line.startswith("#"):
                continue
            getattr(self, "do_" + word.lower())(rest.split() if word != "RUN" and word != "ENTRYPOINT" else rest, place)

    def do_from(self, words: list[str], place: Path) -> None:
        stage = place / f"stage{len(self.stages)}"
        stage.mkdir()
        self.stages.append(stage)
        if words[1:2] == ["AS"]:
            self.names[words[2]] = stage

    def do_copy(self, words: list[str], place: Path) -> None:
        flags = dict(word[2:].split("=") for word in words if word.startswith("--"))
        source, target = [word for word in words if not word.startswith("--")]
        into = self.stages[-1] / target.lstrip("/")
        shutil.copytree(self.names[flags.pop("from")] / source.lstrip("/"), into, symlinks=True)
        assert flags in ({}, {"chown": "0:0", "chmod": "a-w"})
        if flags:
            subprocess.run(["chown", "-Rh", flags["chown"], into], check=True)
            subprocess.run(["chmod", "-R", flags["chmod"], into], check=True)

    def do_env(self, words: list[str], place: Path) -> None:
        self.variables |= dict(word.split("=") for word in words)

    def do_workdir(self, words: list[str], place: Path) -> None:
        (self.folder,) = words

    def do_user(self, words: list[str], place: Path) -> None:
        (self.user,) = words

    def do_entrypoint(self, text: str, place: Path) -> None:
        self.entry = json.loads(text)

    def do_run(self, text: str, place: Path) -> None:
        done = self.run(json.loads(text))
        if done.returncode:
            raise ValueError(done.stdout + done.stderr)

    def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        stage = self.stages[-1]
        for name in ("usr", "proc", "dev", "python", "tmp"):
            (stage / name).mkdir(exist_ok=True)
        links = [name for name in ("lib", "lib64", "bin") if os.path.islink(f"/{name}")]
        uid, gid = self.user.split(":")
        return subprocess.run(
            [
                "bwrap", "--unshare-all", "--uid", uid, "--gid", gid, "--bind", stage, "/", "--ro-bind", "/usr", "/usr",
                *(word for name in links for word in ("--symlink", f"usr/{name}", f"/{name}")),
                "--ro-bind", sys.base_prefix, "/python", "--proc", "/proc", "--dev", "/dev", "--chdir", self.folder,
                "--clearenv", "--setenv", "PATH", "/python/bin:/usr/bin:/bin",
                *(word for pair in self.variables.items() for word in ("--setenv", *pair)), "--", *words,
            ],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip


@needs_root
def test_the_image_holds_what_its_first_stage_verified_and_nothing_else(
    tmp_path: Path, package: Path, trust: Path
) -> None:
    bubblewrap("the image of the example")
    zipapp = trust / "wcp-attest.pyz"
    subprocess.run([sys.executable, ROOT / "scripts" / "build_zipapp.py", zipapp], check=True, capture_output=True)
    text = (DEPLOY / "Containerfile").read_text()
    contexts = {"worker": package, "trust": trust}
    (tmp_path / "good").mkdir()
    build = Build(text, contexts, tmp_path / "good")
    worker = build.stages[1] / "worker"
    assert (worker / "code" / "worker_logic.py").read_text() == "print('hello')\n"
    assert not [path for path in worker.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o222]
    assert (build.user, build.folder, build.entry) == ("10001:10001", "/worker", ["./code/run"])
    done = build.run(build.entry)
    assert (done.returncode, done.stdout) == (0, "ran\n"), done.stderr
    (package / "code" / "worker_logic.py").write_text("import os\n")
    (tmp_path / "bad").mkdir()
    with pytest.raises(ValueError, match="ATTEST_HASH_MISMATCH"):
        Build(text, contexts, tmp_path / "bad")
    assert not (tmp_path / "bad" / "stage1").exists()


# --- Ansible -------------------------------------------------------------------------------------------------------


def play(tmp_path: Path, release: str, *more: str) -> subprocess.CompletedProcess[str]:
    inventory = tmp_path / "inventory"
    inventory.write_text(f"[workers]\nlocalhost ansible_connection=local ansible_python_interpreter={sys.executable}\n")
    values = {
        "archive": tmp_path / f"{release}.tar.gz", "trust": tmp_path / "trust", "release": release,
        "wcp_attest": PROGRAMS / "wcp-attest", "base": tmp_path / "base", "settings": tmp_path / "etc",
    }  # fmt: skip
    return subprocess.run(
        [
            PROGRAMS / "ansible-playbook", "-i", inventory, DEPLOY / "playbook.yml", *more,
            "-e", json.dumps({name: str(value) for name, value in values.items()}),
        ],
        env={**os.environ, "HOME": str(tmp_path), "ANSIBLE_PIPELINING": "1", "LC_ALL": "C.UTF-8"},
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


def test_the_playbook_adds_a_good_package_once_and_stops_at_a_changed_one(
    tmp_path: Path, package: Path, trust: Path
) -> None:
    assert command("pack", package, "-o", tmp_path / "1.4.0.tar.gz").returncode == 0
    done = play(tmp_path, "1.4.0", "--check")
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "base").exists()
    assert not (tmp_path / "etc").exists()
    done = play(tmp_path, "1.4.0")
    assert done.returncode == 0, done.stdout
    listed = command("store", "list", "--store", tmp_path / "base" / "store").stdout
    assert "org.acme.summarizer 1.4.0" in listed
    done = play(tmp_path, "1.4.0")
    assert "changed=0" in done.stdout, done.stdout
    (package / "code" / "worker_logic.py").write_text("import os\n")
    subprocess.run(["tar", "-czf", tmp_path / "1.4.1.tar.gz", "-C", tmp_path, "package"], check=True)
    done = play(tmp_path, "1.4.1")
    assert done.returncode == 2
    assert "ATTEST_HASH_MISMATCH" in done.stdout
    assert command("store", "list", "--store", tmp_path / "base" / "store").stdout == listed


# --- an archive ----------------------------------------------------------------------------------------------------


def test_an_archive_is_verified_and_unpacked_by_one_command(tmp_path: Path, package: Path, trust: Path) -> None:
    policy = trust / "policy.toml"
    archive, target = tmp_path / "worker.tar.gz", tmp_path / "unpacked"
    assert command("pack", package, "-o", archive).returncode == 0
    assert command("verify", archive, "--policy", policy).returncode == 0
    assert command("unpack", archive, target, "--policy", policy).returncode == 0
    assert (target / "code" / "worker_logic.py").read_text() == "print('hello')\n"
    (package / "code" / "worker_logic.py").write_text("import os\n")
    subprocess.run(["tar", "-czf", archive, "-C", tmp_path, "package"], check=True)
    refused = command("unpack", archive, tmp_path / "other", "--policy", policy)
    assert (refused.returncode, (tmp_path / "other").exists()) == (1, False)
