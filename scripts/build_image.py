r"""Build the container image `dist/wcp-attest-image.tar` without a container engine: `make image`.

    python scripts/build_image.py            build it; downloads what the locks name and build/image does not have yet
    python scripts/build_image.py --fetch    only download that, for the tests; says so where it cannot be reached
    python scripts/build_image.py --lock     write requirements/image.txt again, from Debian's signed lists

The image has two layers: the few Debian packages that Python needs, locked in requirements/image.txt, and this tree's
wheel with the packages of requirements/run.txt, all checked by hash. There is no shell in it. It runs as an ordinary
user. Its file system may be read-only, and verifying needs no network. The same commit gives the same digest, which is
printed.

    podman load --input dist/wcp-attest-image.tar
    podman run --rm --read-only --network none -v "$PWD:/work:ro" localhost/wcp-attest \
        verify my-worker --policy policy.toml

A build needs dpkg-deb, and a machine of the kind that the image is for (amd64), because Python's bytecode is written by
the image's own Python. The result is an OCI image layout in a tar archive.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import urllib.request
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements" / "image.txt"
WHEELS_LOCK = ROOT / "requirements" / "run.txt"
PLACE = ROOT / "build" / "image"
RESULT = ROOT / "dist" / "wcp-attest-image.tar"
SUITE = "trixie"
NAMES = (
    "base-files", "ca-certificates", "libbz2-1.0", "libc6", "libexpat1", "libffi8", "libgcc-s1", "liblzma5",
    "libpython3.13-minimal", "libpython3.13-stdlib", "libsqlite3-0", "libssl3t64", "libuuid1", "libzstd1",
    "python3.13-minimal", "zlib1g",
)  # fmt: skip
PYTHON = "usr/bin/python3.13"
PACKAGES = "usr/local/lib/python3.13/dist-packages"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
UNUSED = (
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bug",
    f"{LIBRARIES}/gconv",
    "var",
    "etc/init.d",
)
USER = "65532:65532"
LIMIT = 60_000_000  # bytes of the archive
MIRRORS = ("http://deb.debian.org/", "https://snapshot.debian.org/archive/")
PROGRAM = f"#!/{PYTHON} -I\nimport sys\n\nfrom wcp_attest.cli import program\n\nsys.exit(program())\n"


def main(arguments: list[str]) -> int:
    """Build the image, or write its lock; return the exit status."""
    if arguments == ["--lock"]:
        write_lock()
        return 0
    if arguments not in ([], ["--fetch"]):
        print("usage: build_image.py [--fetch | --lock]", file=sys.stderr)
        return 2
    try:
        parts = fetch_debs(), fetch_wheels()
        if arguments:
            return 0
        with tempfile.TemporaryDirectory(prefix="wheel-", dir=PLACE) as place:
            digest = write_image(RESULT, build_layers(*parts, wheel(place)))
    except (OSError, ValueError, subprocess.CalledProcessError) as problem:
        if arguments:
            print(f"the parts of the image are not here, its tests will be skipped: {problem}", file=sys.stderr)
            return 0
        print(f"error: the image was not built: {problem}", file=sys.stderr)
        return 2
    size = RESULT.stat().st_size
    print(f"{RESULT.relative_to(ROOT)}: {size / 1e6:.1f} MB, {digest}")
    if size > LIMIT:
        print(f"error: the image is larger than {LIMIT / 1e6:.0f} MB", file=sys.stderr)
        return 1
    return 0


def build_layers(debs: list[Path], wheels: list[Path], own: Path) -> list[bytes]:
    """Build both layers.

    Args:
        debs: The packages of Debian, as `fetch_debs` returns them.
        wheels: The packages that ours needs, as `fetch_wheels` returns them.
        own: The wheel of this project.

    Returns:
        Two tar archives. SOURCE_DATE_EPOCH is the time of everything in them.
    """
    stage = PLACE / f"root-{os.getpid()}"
    shutil.rmtree(stage, ignore_errors=True)
    try:
        # 1. What Python needs of Debian, without what nobody reads in an image; licences stay.
        for deb in debs:
            subprocess.run(["dpkg-deb", "--extract", deb, stage], check=True)
        finish_base(stage)
        base = names_below(stage)
        # 2. The wheels, each without a look at an index, and bytecode by the image's own Python.
        target: list[str | Path] = [
            "--no-compile",
            "--no-deps",
            "--no-index",
            "--target",
            stage / PACKAGES,
            *for_image(),
        ]
        command = [sys.executable, "-m", "pip", "--isolated", "-qq", "--disable-pip-version-check", "install", *target]
        subprocess.run([*command, *wheels, own], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(stage / PACKAGES / "bin", ignore_errors=True)
        for record in (stage / PACKAGES).glob("*.dist-info/direct_url.json"):
            record.unlink()  # it names a place on this machine
        for record in (stage / PACKAGES).glob("*.dist-info/RECORD"):  # pip lists it, and programs that start with one
            with record.open(newline="") as file:
                rows = [row for row in csv.reader(file) if (stage / PACKAGES / row[0]).exists()]
            with record.open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)
        (stage / "usr/local/bin").mkdir(parents=True)
        (stage / "usr/local/bin/wcp-attest").write_text(PROGRAM)
        (stage / "usr/local/bin/wcp-attest").chmod(0o755)
        compile_packages(stage)
        return [layer(stage, base), layer(stage, names_below(stage) - base)]
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def finish_base(stage: Path) -> None:
    """Remove what the image does not need and add what Debian's installer would have written."""
    for name in UNUSED:
        shutil.rmtree(stage / name, ignore_errors=True)
    for folder in (stage / "usr/share/doc").iterdir():
        for path in [] if folder.is_symlink() else folder.iterdir():
            if path.name != "copyright":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    authorities = sorted((stage / "usr/share/ca-certificates").rglob("*.crt"))
    (stage / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    (stage / "etc/ssl/certs/ca-certificates.crt").write_bytes(b"".join(path.read_bytes() for path in authorities))
    (stage / "etc/passwd").write_text("root:x:0:0:root:/root:/sbin/nologin\nwcp:x:65532:65532::/work:/sbin/nologin\n")
    (stage / "etc/group").write_text("root:x:0:\nwcp:x:65532:\n")
    for name in ("work", "tmp"):
        (stage / name).mkdir(exist_ok=True)
    (stage / "tmp").chmod(0o1777)


def compile_packages(stage: Path) -> None:
    """Write bytecode that is checked by nothing but the image itself, so that a start needs no compiling."""
    loader = next((stage / LIBRARIES).glob("ld-linux-*.so.*"))
    command: list[str | Path] = [
        loader, "--library-path", stage / LIBRARIES, stage / PYTHON, "-m", "compileall", "-q", "-f", "-j", "1",
        "--invalidation-mode", "unchecked-hash", "-s", stage, "-p", "/", stage / PACKAGES, stage / "usr/lib/python3.13",
    ]  # fmt: skip
    environment = {
        "PYTHONHOME": str(stage / "usr"),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "LC_ALL": "C.UTF-8",
    }
    subprocess.run(command, check=True, env=environment)


def names_below(stage: Path) -> set[str]:
    """Return the path of everything in the tree, relative to it."""
    return {path.relative_to(stage).as_posix() for path in stage.rglob("*")}


def layer(stage: Path, names: set[str]) -> bytes:
    """Return a layer: a tar archive whose bytes depend on nothing but names, contents and modes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(names):
            path = stage / name
            info = archive.gettarinfo(path, name)
            info.uid = info.gid = 0
            info.uname = info.gname = ""
            info.mtime = int(os.environ["SOURCE_DATE_EPOCH"])
            info.mode = 0o1777 if name == "tmp" else 0o755 if info.isdir() or info.mode & 0o100 else 0o644
            if info.islnk() or info.isreg():  # a hard link is written as the file that it is
                info.type, info.linkname, info.size = tarfile.REGTYPE, "", path.stat().st_size
                with path.open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)
    return out.getvalue()


def write_image(result: Path, layers: list[bytes]) -> str:
    """Write the layout of an image (OCI image format 1.1) into a tar archive; return the digest of its manifest."""
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    described = [blob(gzip.compress(data, 6, mtime=0), "layer.v1.tar+gzip") for data in layers]
    labels = {
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.title": "wcp-attest",
        "org.opencontainers.image.version": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
    }
    config = {
        "created": datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": USER,
            "Env": [
                "PATH=/usr/local/bin:/usr/bin",
                "PYTHONDONTWRITEBYTECODE=1",
                "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt",
            ],
            "Entrypoint": ["wcp-attest"],
            "WorkingDir": "/work",
            "Labels": labels,
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(data).hexdigest()}" for data in layers]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config, sort_keys=True).encode(), "config.v1+json"),
        "layers": described,
    }
    entry = blob(json.dumps(manifest, sort_keys=True).encode(), "manifest.v1+json")
    name = {"org.opencontainers.image.ref.name": "latest", "io.containerd.image.name": "localhost/wcp-attest:latest"}
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{**entry, "platform": {"architecture": "amd64", "os": "linux"}, "annotations": name}],
    }
    blobs["index.json"] = json.dumps(index, sort_keys=True).encode()
    blobs["oci-layout"] = b'{"imageLayoutVersion": "1.0.0"}'
    result.parent.mkdir(parents=True, exist_ok=True)
    part = result.with_suffix(f".{os.getpid()}")  # others may read the last one
    with tarfile.open(part, "w", format=tarfile.USTAR_FORMAT) as archive:
        for path, data in sorted(blobs.items()):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    part.replace(result)
    return str(entry["digest"])


def fetch_debs() -> list[Path]:
    """Return the locked packages of Debian, after a look at their hashes; download what is not there."""
    lines = LOCK.read_text().splitlines()
    moment = lines[0].rpartition(" ")[2]
    found = []
    for line in lines[1:]:
        digest, _, where = line.partition("  ")
        path = PLACE / "debs" / f"{digest}.deb"
        if not path.exists():
            archive, _, rest = where.partition("/")
            download([f"{MIRRORS[0]}{where}", f"{MIRRORS[1]}{archive}/{moment}/{rest}"], path)
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            path.unlink()
            raise ValueError(f"{where} is not the file that {LOCK.relative_to(ROOT)} names")
        found.append(path)
    return found


def download(addresses: list[str], path: Path) -> None:
    """Write what the first of the addresses gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for address in addresses:
        try:
            with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 (one of MIRRORS; the hash decides)
                data = answer.read(50_000_000)
        except (OSError, HTTPException):  # not found, not reached, or broken off: the next one is asked
            continue
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(data)
        part.replace(path)
        return
    raise ValueError(f"cannot be downloaded: {addresses[0]}")


def fetch_wheels() -> list[Path]:
    """Return the wheels of requirements/run.txt for the image's Python, checked by pip against their hashes."""
    place = wheels_place()
    if not place.exists():
        part = place.with_name(f"{place.name}.{os.getpid()}")
        command = [
            sys.executable,
            "-m",
            "pip",
            "-qq",
            "--disable-pip-version-check",
            "--retries=1",
            "--timeout=20",
            "download",
            "--no-deps",
        ]
        subprocess.run([*command, "--require-hashes", "-r", WHEELS_LOCK, "--dest", part, *for_image()], check=True)
        part.rename(place)
    return sorted(place.glob("*.whl"))


def wheels_place() -> Path:
    """Return the directory of the wheels that the lock names now; it is there as a whole or not at all."""
    return PLACE / f"wheels-{hashlib.sha256(WHEELS_LOCK.read_bytes()).hexdigest()[:16]}"


def for_image() -> list[str]:
    """Return what tells pip which wheels the image can use."""
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in range(17, 42)]
    return [
        "--only-binary=:all:",
        "--python-version=3.13",
        "--implementation=cp",
        "--platform=manylinux2014_x86_64",
        *platforms,
    ]


def wheel(place: str | Path) -> Path:
    """Build this tree's wheel, for the time of the last commit, into an empty directory; return its path."""
    if "SOURCE_DATE_EPOCH" not in os.environ:
        done = subprocess.run(
            ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        os.environ["SOURCE_DATE_EPOCH"] = done.stdout.strip()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place],
        cwd=ROOT,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return next(Path(place).glob("*.whl"))


def write_lock() -> None:
    """Write the lock: hash and place of each package. They come from Debian's lists, whose signature apt checks."""
    place = PLACE / "apt"
    for name in ("state/lists/partial", "cache/archives/partial", "etc/preferences.d"):
        (place / name).mkdir(parents=True, exist_ok=True)
    key = "[arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
    suites = (f"debian {SUITE} main", f"debian {SUITE}-updates main", f"debian-security {SUITE}-security main")
    sources = "".join(f"deb {key} {MIRRORS[0]}{suite}\n" for suite in suites)
    (place / "etc/sources.list").write_text(sources)
    options = {
        "Dir::Etc": place / "etc", "Dir::Etc::sourcelist": place / "etc/sources.list", "Dir::Etc::sourceparts": "-",
        "Dir::State": place / "state", "Dir::State::status": "/dev/null", "Dir::Cache": place / "cache",
        "APT::Architecture": "amd64", "Acquire::Languages": "none",
    }  # fmt: skip
    command = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    subprocess.run([*command, "update"], check=True)
    done = subprocess.run([*command, "download", "--print-uris", *NAMES], check=True, capture_output=True, text=True)
    entries = re.findall(rf"^'{MIRRORS[0]}(\S+)' \S+ \d+ SHA256:([0-9a-f]{{64}})$", done.stdout, re.MULTILINE)
    if len(entries) != len(NAMES):
        raise ValueError("not every package was found")
    today = datetime.now(UTC).strftime("%Y%m%dT000000Z")
    lines = [f"# Written by `make lock`: hash and place of the image's Debian packages, at snapshot.debian.org {today}"]
    LOCK.write_text("\n".join([*lines, *(f"{digest}  {where}" for where, digest in sorted(entries))]) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
