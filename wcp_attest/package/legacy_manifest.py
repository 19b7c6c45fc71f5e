"""The earlier SDKs' manifest, schema `awp.v1`, for fleets that still run it: one hash over all files, an HMAC inside.

    {
      "attested_at_utc": "2026-11-22T14:00:00Z",        unsigned: never used
      "build_source": "ci",
      "built_at_utc": "2026-11-22T14:00:00Z",
      "package_hash": "0c5f…64 hex digits",
      "schema_version": "awp.v1",
      "signature_hmac_sha256": "91b0…64 hex digits",
      "trust_statement": "Package attested by …",       unsigned: never used
      "worker_id": "org.acme.summarizer",
      "worker_species_id": "wrk.doc.summarizer",
      "worker_version": "1.4.0"
    }

The HMAC-SHA256 is over the other seven fields as compact JSON with sorted keys. Every value is ASCII by its grammar, so
the earlier Python, Go and TypeScript code, which escape differently, agree on those bytes.

The package hash covers names, sizes and contents of plain files. It skips `.git`, `__pycache__`, `.DS_Store`,
`manifest.json`, `manifest.sig` and `manifest.tmp` at any depth, and `*.pyc`; links are followed or left out. A tree
that holds any of these is denied here. The execute bits of files are not covered and not checked. Go sorts the files
by the bytes of their paths, Python by their path segments: both orders are accepted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from hmac import compare_digest, digest
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from wcp_attest.base import strictjson
from wcp_attest.base.differences import Change, Difference
from wcp_attest.base.digest import is_hex_digest, package_hash
from wcp_attest.base.errors import (
    ManifestMalformed,
    SignatureInvalid,
    SignatureMissing,
)
from wcp_attest.base.identity import id_problem, parse_utc, version_problem
from wcp_attest.package.entries import EmptyDirectory, Entry, File, Symlink, describe
from wcp_attest.package.manifest import SCHEMA as AWP2
from wcp_attest.package.names import is_bytecode
from wcp_attest.package.provenance import BUILD_SOURCES, BuildSource

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.base.digest import HashAlgorithm

SCHEMA: Final = "awp.v1"
MAX_BYTES = 64 * 1024  # ours are under 1 kB

Order = Literal["bytes", "parts"]

_SIGNED = (
    "schema_version",
    "worker_id",
    "worker_species_id",
    "worker_version",
    "package_hash",
    "built_at_utc",
    "build_source",
)
_UNSIGNED = ("attested_at_utc", "trust_statement", "signature_hmac_sha256")
_SKIPPED = frozenset({".git", "__pycache__", ".DS_Store", "manifest.json", "manifest.sig", "manifest.tmp"})


@dataclass(frozen=True, slots=True)
class Awp1Manifest:
    """What a manifest of schema `awp.v1` says and signs.

    Attributes:
        worker_id: who this is, at least three segments.
        worker_species_id: its place in the taxonomy.
        worker_version: 1 to 64 characters.
        package_hash: 64 lower-case hex digits.
        built_at_utc: `2026-11-22T14:00:00Z`.
        build_source: `local`, `ci` or `agent`.
        signature: the HMAC as it is written; empty when there is none.
        hash_algorithm: always `sha256`.

    Raises:
        ManifestMalformed: a field is malformed.
    """

    worker_id: str
    worker_species_id: str
    worker_version: str
    package_hash: str
    built_at_utc: str
    build_source: BuildSource
    signature: str = field(default="", repr=False)
    hash_algorithm: ClassVar[HashAlgorithm] = "sha256"

    def __post_init__(self) -> None:
        checks = (
            ("worker_id", id_problem(self.worker_id, segments=3)),
            ("worker_species_id", id_problem(self.worker_species_id)),
            ("worker_version", version_problem(self.worker_version)),
            ("package_hash", None if is_hex_digest(self.package_hash) else "is not 64 lower-case hex digits"),
            (
                "built_at_utc",
                "is not of the form 2026-11-22T14:00:00Z" if parse_utc(self.built_at_utc) is None else None,
            ),
            ("build_source", None if self.build_source in BUILD_SOURCES else "is not one of local, ci, agent"),
        )
        for name, problem in checks:
            if problem is not None:
                raise ManifestMalformed(f"manifest.json: {name} {problem}")

    @property
    def built_at(self) -> int:
        """When it was built, in seconds since the Unix epoch."""
        return parse_utc(self.built_at_utc) or 0

    def signed_bytes(self) -> bytes:
        """Return the bytes that the HMAC covers."""
        return json.dumps(self._fields(), sort_keys=True, separators=(",", ":")).encode("ascii")

    def signed_with(self, secret: bytes) -> Awp1Manifest:
        """Return the manifest with its HMAC-SHA256 (RFC 2104).

        Args:
            secret: the shared secret.
        """
        return replace(self, signature=digest(secret, self.signed_bytes(), "sha256").hex())

    def to_bytes(self) -> bytes:
        """Return the manifest as the earlier SDKs write it."""
        namespace = ".".join(self.worker_id.split(".")[:2])
        fields = {
            **self._fields(),
            "attested_at_utc": self.built_at_utc,
            "trust_statement": f"Package attested by namespace {namespace} at {self.built_at_utc}; "
            f"package hash sha256:{self.package_hash}.",
            "signature_hmac_sha256": self.signature,
        }
        return json.dumps(fields, indent=2, sort_keys=True).encode("ascii") + b"\n"

    def _fields(self) -> dict[str, str]:
        return {name: SCHEMA if name == "schema_version" else getattr(self, name) for name in _SIGNED}


def parse(data: bytes) -> Awp1Manifest:
    """Read a manifest of schema `awp.v1`. Use nothing of it before `check_signature`.

    Args:
        data: the bytes of `manifest.json`.

    Returns:
        The manifest, not verified.

    Raises:
        ManifestMalformed: not strict JSON, another schema, or a field is missing, unknown or malformed.
        SignatureMissing: it is of schema `awp.v2`, whose signatures are in a file of their own.
    """
    what = "manifest.json"
    if data.startswith(b'{\n"schema_version":"%s",' % AWP2.encode()):
        raise SignatureMissing("manifest.sig is missing; sign the package with `wcp-attest sign`")
    fields = strictjson.loads_object(data, what=what, max_bytes=MAX_BYTES, error=ManifestMalformed)
    schema = fields.pop("schema_version", None)
    if schema != SCHEMA:
        raise ManifestMalformed(f"{what}: unknown schema_version {str(schema)[:40]!r}; expected {SCHEMA}")
    for name in sorted(fields):
        if name not in _SIGNED and name not in _UNSIGNED:
            raise ManifestMalformed(f"{what}: unknown field {name[:80]!r}")
        if not isinstance(fields[name], str):
            raise ManifestMalformed(f"{what}: the field {name!r} is not text")
    for name in _SIGNED[1:]:
        if name not in fields:
            raise ManifestMalformed(f"{what}: the field {name!r} is missing")
    return Awp1Manifest(
        signature=str(fields.get("signature_hmac_sha256", "")),
        **{name: fields[name] for name in _SIGNED[1:]},  # type: ignore[arg-type]  # all are text, checked above
    )


def check_signature(manifest: Awp1Manifest, secret: bytes) -> None:
    """Check the HMAC inside a manifest.

    Args:
        manifest: as it was read.
        secret: the shared secret.

    Raises:
        SignatureMissing: there is no HMAC.
        SignatureInvalid: it does not hold.
    """
    if not manifest.signature:
        raise SignatureMissing("manifest.json holds no signature_hmac_sha256; build it again with the secret")
    expected = manifest.signed_with(secret).signature
    if not compare_digest(expected.encode(), manifest.signature.encode("utf-8", "replace")):
        raise SignatureInvalid("the HMAC inside manifest.json does not hold: wrong secret or changed manifest")


def uncovered_difference(path: str, entry: Entry) -> Difference | None:
    """Tell whether the package hash covers an entry.

    Args:
        path: of the entry.
        entry: what is there.

    Returns:
        The difference to report when the hash does not cover the entry; None when it does.
    """
    names = path.split("/")
    if any(map(is_bytecode, names)):
        change = Change.BYTECODE
    elif isinstance(entry, Symlink):
        change = Change.LINK
    elif isinstance(entry, EmptyDirectory) or not _SKIPPED.isdisjoint(names):
        change = Change.ADDED
    else:
        return None
    return Difference(path, change, found=describe(entry), cause=f"{SCHEMA} does not cover it; remove it or use awp.v2")


def package_hashes(entries: Mapping[str, Entry]) -> dict[Order, str]:
    """Return the package hash for each of the two orders of files.

    Args:
        entries: what is at each path, in byte order of the paths.

    Returns:
        64 lower-case hex digits for each order.
    """
    files = [(path, entry.size, entry.digest) for path, entry in entries.items() if isinstance(entry, File)]
    return {"bytes": package_hash(files), "parts": package_hash(sorted(files, key=lambda file: file[0].split("/")))}
