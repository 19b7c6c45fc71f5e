"""Build `dist/wcp-attest.pyz`: wcp-attest in one file, which Python 3.11 or newer runs without any package.

It holds wcp_attest and click, of the version that requirements/run.txt locks, byte for byte as their wheels have them.
Signatures by HMAC and by Ed25519 keys are verified by Python alone; for the rest it says which package is not there.
The same sources give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ("click",)  # pure Python, and without requirements of its own outside of Windows
START = b"""import sys

if sys.version_info < (3, 11):
    sys.exit("error: wcp-attest needs Python 3.11 or newer")

from wcp_attest.cli import program

program()
"""


def main() -> None:
    """Write the file and say how large it is."""
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist" / "wcp-attest.pyz")
    target.parent.mkdir(parents=True, exist_ok=True)
    data = built()
    target.write_bytes(data)
    target.chmod(0o755)
    print(f"{target}: {len(data) // 1024} KiB, sha256 {hashlib.sha256(data).hexdigest()}")


def built() -> bytes:
    """Return the bytes of the zipapp.

    Raises:
        SystemExit: what is installed is not what the lock says.
    """
    members = {"__main__.py": START, **dict(_own()), **dict(_bundled())}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o100644 << 16
            info.create_system = 3  # whatever the system that builds
            info.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(info, members[name], compresslevel=9)
    return b"#!/usr/bin/env python3\n" + archive.getvalue()


def _own() -> Iterator[tuple[str, bytes]]:
    for path in sorted((ROOT / "wcp_attest").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(ROOT).as_posix(), path.read_bytes()
    yield "LICENSE", (ROOT / "LICENSE").read_bytes()


def _bundled() -> Iterator[tuple[str, bytes]]:
    lock = (ROOT / "requirements" / "run.txt").read_text()
    for name in BUNDLED:
        found = distribution(name)
        if not re.search(rf"^{name}=={re.escape(found.version)}\b", lock, re.MULTILINE):
            raise SystemExit(
                f"{name} {found.version} is installed, which requirements/run.txt does not lock: make setup"
            )
        for file in found.files or ():
            wanted = file.suffix == ".py" or file.name == "py.typed" or "licenses" in file.parts
            if not wanted or ".." in file.parts:
                continue
            data = Path(str(file.locate())).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            if file.hash is None or file.hash.value != digest:
                raise SystemExit(f"{file} of {name} is not what its wheel had: make setup")
            yield file.as_posix(), data


if __name__ == "__main__":
    main()
