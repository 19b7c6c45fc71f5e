"""`wcp.lock`: which packages a project loads, pinned by digest, version and signer. TOML, made to be merged.

    version = 1

    [[package]]
    path = "skills/pdf-forms"
    worker_id = "org.acme.pdf-forms"
    worker_version = "2.1.0"
    manifest_sha256 = "9f86…"
    signers = ["key sha256:ba1b…"]

Each package has five lines of its own, and no line sums up others. So two branches that change two packages can be
merged. The same packages give the same bytes: tables are sorted by path, signers by their text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wcp_attest.base import toml_table
from wcp_attest.base.digest import is_hex_digest
from wcp_attest.base.errors import ConfigError
from wcp_attest.base.identity import id_problem, version_problem
from wcp_attest.package.entries import path_problem

VERSION: Final = 1
MAX_LOCK_BYTES: Final = 4 << 20
MAX_PACKAGES: Final = 10_000
_FIELDS: Final = ("path", "worker_id", "worker_version", "manifest_sha256", "signers")


@dataclass(frozen=True, slots=True)
class LockedPackage:
    """One pinned package.

    Attributes:
        path: of its directory, relative to the lock file, `/`-separated.
        worker_id: as its manifest says.
        worker_version: as its manifest says.
        manifest_sha256: 64 lower-case hex digits.
        signers: the distinct signers that counted, in words, sorted.
    """

    path: str
    worker_id: str
    worker_version: str
    manifest_sha256: str
    signers: tuple[str, ...]


def render_lock(packages: tuple[LockedPackage, ...]) -> bytes:
    """Write a lock file.

    Args:
        packages: in any order.

    Returns:
        The bytes of the file: TOML, UTF-8.
    """
    parts = [f"version = {VERSION}\n"]
    for package in sorted(packages, key=lambda one: one.path.encode()):
        signers = ", ".join(_quoted(signer) for signer in package.signers)
        parts.append(
            "\n[[package]]\n"
            f"path = {_quoted(package.path)}\n"
            f"worker_id = {_quoted(package.worker_id)}\n"
            f"worker_version = {_quoted(package.worker_version)}\n"
            f"manifest_sha256 = {_quoted(package.manifest_sha256)}\n"
            f"signers = [{signers}]\n"
        )
    return "".join(parts).encode()


def parse_lock(data: bytes, what: str) -> tuple[LockedPackage, ...]:
    """Read a lock file.

    Args:
        data: its bytes.
        what: its name, for messages.

    Returns:
        The packages, in the order of the file.

    Raises:
        ConfigError: it is not a lock file, holds conflict marks of git, names a path twice, or has an unknown, missing
            or malformed field.
    """
    if b"\n<<<<<<< " in data or data.startswith(b"<<<<<<< "):
        raise ConfigError(
            f"{what} holds conflict marks; keep one side of each conflict, then run `wcp-attest lock --upgrade`"
        )
    table = toml_table.loads(data, what)
    rows = table.pop("package", [])
    if table != {"version": VERSION} or not isinstance(rows, list) or len(rows) > MAX_PACKAGES:
        raise ConfigError(f"{what} is not a lock file of version {VERSION}")
    packages = tuple(_package(row, what) for row in rows)
    if len({package.path for package in packages}) != len(packages):
        raise ConfigError(f"{what} names a path twice")
    return packages


def _package(row: object, what: str) -> LockedPackage:
    """Read one `[[package]]`."""
    if not isinstance(row, dict) or set(row) != set(_FIELDS):
        raise ConfigError(f"{what}: a [[package]] has exactly {', '.join(_FIELDS)}")
    texts, signers = [row[name] for name in _FIELDS[:-1]], row["signers"]
    if not all(isinstance(text, str) for text in (*texts, *(signers if isinstance(signers, list) else [None]))):
        raise ConfigError(f"{what}: the fields of a [[package]] are texts, and `signers` is a list of texts")
    path, worker_id, version, digest = texts
    problem = None if path == "." else path_problem(path)
    if problem or id_problem(worker_id, segments=3) or version_problem(version) or not is_hex_digest(digest):
        raise ConfigError(f"{what}: the package {path[:80]!r} has a malformed path, id, version or digest")
    if not signers:
        raise ConfigError(f"{what}: the package {path[:80]!r} has no signer")
    return LockedPackage(path, worker_id, version, digest, tuple(sorted(signers)))


def _quoted(text: str) -> str:
    """Return a TOML basic string (TOML 1.0, section String)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x20 or ord(c) == 0x7F else c for c in escaped) + '"'
