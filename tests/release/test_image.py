"""The container image: built twice, read by skopeo, and run as the user that it names, with its own files alone.

`make parts` downloads what the locks name; where it could not, the tests skip and say so.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import platform
import shutil
import socket
import subprocess
import sys
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scripts import build_image
from tests.bubblewrap import bubblewrap
from tests.store.worlds import KEY, make_package

ROOT = Path(__file__).parents[2]
POLICY = 'version = 1\n[[namespace]]\nname = "org.acme"\n  [[namespace.signer]]\n  key = "acme.pub"\n'


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("dpkg-deb") is None or platform.machine() != "x86_64" or not (ROOT / ".git").exists():
        pytest.skip("the image is built on an amd64 machine with dpkg-deb, from a checkout")
    digests = [line.split("  ")[0] for line in build_image.LOCK.read_text().splitlines()[1:]]
    debs = [build_image.PLACE / "debs" / f"{digest}.deb" for digest in digests]
    if not all(path.exists() for path in (*debs, build_image.wheels_place())):
        pytest.skip("the parts of the image are not here: `make parts` downloads them")
    place = tmp_path_factory.mktemp("image")
    command = [sys.executable, str(ROOT / "scripts" / "build_image.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    assert "sha256:" in done.stdout
    return Path(shutil.copy(build_image.RESULT, place / "image.tar"))


@pytest.fixture(scope="module")
def image(archive: Path) -> tuple[dict[str, Any], list[bytes]]:
    """The configuration and the layers of the image, each blob under the digest that it has."""
    with tarfile.open(archive) as tar:
        blobs = {name: tar.extractfile(name).read() for name in tar.getnames()}  # type: ignore[union-attr]
    for name, data in blobs.items():
        assert not name.startswith("blobs/") or name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"

    def blob(described: dict[str, Any]) -> bytes:
        data = blobs["blobs/sha256/" + described["digest"].removeprefix("sha256:")]
        assert len(data) == described["size"]
        return data

    manifest = json.loads(blob(json.loads(blobs["index.json"])["manifests"][0]))
    config = json.loads(blob(manifest["config"]))
    layers = [gzip.decompress(blob(one)) for one in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(one).hexdigest()}" for one in layers]
    return config, layers


@pytest.fixture(scope="module")
def root(image: tuple[dict[str, Any], list[bytes]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("root")
    for layer in image[1]:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            tar.extractall(place, filter="tar")
    return place


def inside(root: Path, config: dict[str, Any], work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the image's entry point as its user: read-only, without a network."""
    user, _, group = config["config"]["User"].partition(":")
    variables = [part for pair in config["config"]["Env"] for part in ("--setenv", *pair.split("=", 1))]
    command = [
        "bwrap", "--unshare-all", "--die-with-parent", "--uid", user, "--gid", group, "--clearenv", *variables,
        "--ro-bind", root, "/", "--dev", "/dev", "--proc", "/proc", "--ro-bind", work, "/work",
        "--chdir", config["config"]["WorkingDir"], *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_same_commit_gives_the_same_layers(image: tuple[dict[str, Any], list[bytes]], tmp_path: Path) -> None:
    parts = build_image.fetch_debs(), build_image.fetch_wheels()
    again = build_image.build_layers(*parts, build_image.wheel(tmp_path))
    assert [hashlib.sha256(one).hexdigest() for one in again] == [hashlib.sha256(one).hexdigest() for one in image[1]]


def test_the_image_lists_as_installed_only_what_is_in_it(root: Path) -> None:
    """What else pip lists has hashes of places on the machine that built it."""
    packages, named = root / build_image.PACKAGES, 0
    for record in packages.glob("*.dist-info/RECORD"):
        for name, *_ in csv.reader(record.read_text().splitlines()):
            assert (packages / name).exists(), name
            named += 1
    assert named > 1000


def test_the_image_is_small_and_holds_nothing_that_could_raise_rights(
    archive: Path, image: tuple[dict[str, Any], list[bytes]]
) -> None:
    assert archive.stat().st_size < 60_000_000
    assert image[0]["config"]["User"] == "65532:65532"
    seen = set()
    for layer in image[1]:
        with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
            for info in tar:
                assert info.name not in seen, info.name
                seen.add(info.name)
                assert (info.uid, info.gid, info.mode & 0o6000) == (0, 0, 0), info.name
                assert info.issym() or info.name == "tmp" or not info.mode & 0o022, info.name
                assert info.isreg() or info.isdir() or info.issym(), info.name
                assert not info.name.startswith("/"), info.name
    assert not seen & {f"usr/bin/{name}" for name in ("sh", "bash", "dash", "perl", "apt-get", "pip")}
    assert "usr/share/doc/libc6/copyright" in seen


def test_the_image_verifies_and_refuses_as_its_own_user(
    root: Path, image: tuple[dict[str, Any], list[bytes]], tmp_path: Path
) -> None:
    bubblewrap("running the image")
    config, entry = image[0], image[0]["config"]["Entrypoint"]
    package = make_package(tmp_path / "worker", now=time.time())
    (tmp_path / "acme.pub").write_bytes(KEY.public_pem())
    (tmp_path / "policy.toml").write_text(POLICY)
    who = "import os, sys; print(os.getuid(), os.getgid(), sys.version_info[:2])"
    assert inside(root, config, tmp_path, "/usr/bin/python3.13", "-I", "-c", who).stdout == "65532 65532 (3, 13)\n"
    done = inside(root, config, tmp_path, *entry, "verify", "worker", "--policy", "policy.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    with (package / "code" / "worker_logic.py").open("a") as file:
        file.write(" ")
    done = inside(root, config, tmp_path, *entry, "verify", "worker", "--policy", "policy.toml")
    assert done.returncode == 1
    assert "ATTEST_HASH_MISMATCH" in done.stdout
    keyless = inside(
        root, config, tmp_path, "/usr/bin/python3.13", "-I", "-c", "import sigstore.verify, blake3, ssl, sqlite3"
    )
    assert keyless.returncode == 0, keyless.stderr


def test_skopeo_reads_the_image(archive: Path, tmp_path: Path) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed: nobody else has read the image")
    copy = ["skopeo", "copy", "--quiet", "--insecure-policy", f"oci-archive:{archive}", f"oci:{tmp_path}/layout:v1"]
    subprocess.run(copy, check=True, capture_output=True, timeout=120)
    done = subprocess.run(
        ["skopeo", "inspect", f"oci:{tmp_path}/layout:v1"], check=True, capture_output=True, text=True, timeout=60
    )
    found = json.loads(done.stdout)
    assert (found["Architecture"], found["Os"], len(found["Layers"])) == ("amd64", "linux", 2)
    assert found["Labels"]["org.opencontainers.image.title"] == "wcp-attest"


def test_a_part_that_is_not_what_the_lock_names_stops_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrong file is already there, as after a download from a mirror that lies."""
    monkeypatch.setattr(build_image, "PLACE", tmp_path)
    monkeypatch.setattr(build_image, "MIRRORS", ("http://127.0.0.1:1/", "http://127.0.0.1:1/"))
    first = build_image.LOCK.read_text().splitlines()[1].split("  ")[0]
    (tmp_path / "debs").mkdir()
    (tmp_path / "debs" / f"{first}.deb").write_bytes(b"!<arch>\n")
    with pytest.raises(ValueError, match=r"is not the file that requirements/image\.txt names"):
        build_image.fetch_debs()
    assert not (tmp_path / "debs" / f"{first}.deb").exists()
    with pytest.raises(ValueError, match="cannot be downloaded"):
        build_image.fetch_debs()


def test_a_mirror_that_hangs_up_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"!<arch>\n")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)

    def hang_up() -> None:
        rude.accept()[0].close()

    with (
        socket.create_server(("127.0.0.1", 0)) as rude,
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as good,
        ThreadPoolExecutor() as threads,
    ):
        good.timeout = 10
        threads.submit(hang_up)
        threads.submit(good.handle_request)
        ports = rude.getsockname()[1], good.server_port
        build_image.download([f"http://127.0.0.1:{port}/part" for port in ports], tmp_path / "got.deb")
    assert (tmp_path / "got.deb").read_bytes() == b"!<arch>\n"
