"""The manifest: what is in a package, schema `awp.v2`.

Plain JSON with exactly one accepted spelling: one line a field, one line an entry, entries sorted by the UTF-8 bytes
of their paths, a newline at the end. The same tree and the same metadata give the same bytes, and a change in the tree
is a one-line change in review.

    {
    "schema_version":"awp.v2",
    "worker_id":"org.acme.summarizer",
    "worker_species_id":"wrk.doc.summarizer",
    "worker_version":"1.4.0",
    "built_at_utc":"2026-11-22T14:00:00Z",
    "build_source":"ci",
    "hash_algorithm":"sha256",
    "package_hash":"0c5f…64 hex digits",
    "excludes":["/.git"],
    "source":{"repository":"https://github.com/acme/summarizer","commit":"9fceb02d…"},
    "entries":{
    "bin/run": {"sha256":"…","size":612,"executable":true},
    "cache": {"directory":true},
    "model.bin": {"symlink":"weights/model-7.bin"},
    "weights/model-7.bin": {"sha256":"…","size":734003200}
    }
    }

Because one spelling is accepted, a verifier can compare lines instead of parsing them: `Manifest.parse` reads the
header and leaves the entry lines unread; `Manifest.entries` reads those when a caller needs them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice, pairwise
from operator import ge
from typing import TYPE_CHECKING, Final, NoReturn

from wcp_attest.base import strictjson
from wcp_attest.base.digest import ALGORITHMS, HashAlgorithm, is_hex_digest, package_hash
from wcp_attest.base.errors import ManifestMalformed
from wcp_attest.base.identity import id_problem, parse_utc, version_problem
from wcp_attest.package.entries import SEPARATOR, Entry, File, parse_lines
from wcp_attest.package.provenance import BUILD_SOURCES, AiOrigin, BuildSource, SourceOrigin, is_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.base.strictjson import JsonObject, JsonValue

MANIFEST_NAME: Final = "manifest.json"
SIGNATURE_NAME: Final = "manifest.sig"
SCHEMA: Final = "awp.v2"
MAX_MANIFEST_BYTES = 256 * 1024 * 1024  # about two million entries
MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_EXCLUDES = 1000  # of 512 characters of up to 4 bytes: half of the header at most

_OPEN, _CLOSE = b'\n"entries":{\n', b"\n}\n}\n"
_FIELDS = (
    "schema_version",
    "worker_id",
    "worker_species_id",
    "worker_version",
    "built_at_utc",
    "build_source",
    "hash_algorithm",
    "package_hash",
    "excludes",
)


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose header is checked and whose entry lines stand as they were written.

    Attributes:
        worker_id: who this is, at least three segments.
        worker_species_id: its place in the taxonomy; confers nothing.
        worker_version: 1 to 64 characters.
        built_at_utc: `2026-11-22T14:00:00Z`.
        build_source: `local`, `ci` or `agent`.
        package_hash: 64 lower-case hex digits, see `wcp_attest.base.digest`.
        body: the entry lines in order (`wcp_attest.package.entries`), joined by `SEPARATOR`, as they stand in the file.
        hash_algorithm: of the package hash and of every file.
        excludes: gitignore patterns that matched something when the package was built.
        ai: what produced the code, when a model did.
        source: where the code came from.
    """

    worker_id: str
    worker_species_id: str
    worker_version: str
    built_at_utc: str
    build_source: BuildSource
    package_hash: str
    body: bytes = field(repr=False)
    hash_algorithm: HashAlgorithm = "sha256"
    excludes: tuple[str, ...] = ()
    ai: AiOrigin | None = None
    source: SourceOrigin | None = None

    def __post_init__(self) -> None:
        problem = _header_problem(self)
        if problem is not None:
            raise ManifestMalformed(f"manifest.json: {problem}")

    @property
    def lines(self) -> tuple[bytes, ...]:
        """One rendered line an entry, without separators; split anew each time, 0.1 µs a line."""
        return tuple(self.body.split(SEPARATOR))

    @property
    def count(self) -> int:
        """How many entries there are; newlines are counted three times as fast as separators, which hold one each."""
        return self.body.count(b"\n") + 1

    def to_bytes(self) -> bytes:
        """Return the one spelling of this manifest."""
        return b"".join((_header(self), _OPEN, self.body, _CLOSE))

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read the header of a manifest and keep its entry lines unread.

        Args:
            data: the bytes of `manifest.json`. Verify their signature first.

        Raises:
            ManifestMalformed: too large, not in the accepted spelling, or a field is missing, unknown or wrong.
        """
        if len(data) > MAX_MANIFEST_BYTES:
            raise ManifestMalformed(f"manifest.json is larger than {MAX_MANIFEST_BYTES} bytes")
        end = data.find(_OPEN, 0, MAX_HEADER_BYTES)
        if end < 0 or not data.endswith(_CLOSE):
            _explain(data)
        header = data[:end]
        manifest = _from_header(_read_header(header), data[end + len(_OPEN) : -len(_CLOSE)])
        if _header(manifest) != header:  # what stands behind it is the body, to the letter
            raise ManifestMalformed("manifest.json is not in its one accepted spelling; build it again")
        return manifest

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest and check every entry of it.

        Args:
            data: the bytes of `manifest.json`.

        Raises:
            ManifestMalformed: as `parse`, or an entry is malformed, out of order, or does not fit the package hash.
        """
        manifest = cls.parse(data)
        manifest.entries()
        return manifest

    def entries(self) -> Mapping[str, Entry]:
        """Read every entry line, in order.

        Raises:
            ManifestMalformed: a line is not in its accepted spelling, paths are unsorted, repeated or nested in a file,
                or the package hash is not that of the files listed.
        """
        paths, values = parse_lines(self.body, self.hash_algorithm)
        if any(map(ge, paths, islice(paths, 1, None))):  # not in byte order, which is also that of code points
            before, after = next(pair for pair in pairwise(paths) if pair[0] >= pair[1])
            problem = "is repeated" if before == after else "is out of order"
            raise ManifestMalformed(f"manifest.json: the entry {after!r} {problem}")
        entries = dict(zip(paths, values, strict=True))
        _check_parents(entries)
        if self.package_hash != hash_of(entries, self.hash_algorithm):
            raise ManifestMalformed("manifest.json: package_hash is not the hash of the files listed; build it again")
        return entries


def read_head(data: bytes) -> tuple[str, str, str]:
    """Return worker id, worker version and time of building from the first bytes of a manifest, unverified.

    Args:
        data: up to `MAX_HEADER_BYTES` from the start of `manifest.json`.

    Raises:
        ManifestMalformed: they are no header.
    """
    fields = _read_header(data[: max(data.find(_OPEN), 0)])
    return _text(fields, "worker_id"), _text(fields, "worker_version"), _text(fields, "built_at_utc")


def hash_of(entries: Mapping[str, Entry], algorithm: HashAlgorithm) -> str:
    """Return the package hash of entries that stand in byte order of their paths."""
    return package_hash(
        ((path, entry.size, entry.digest) for path, entry in entries.items() if isinstance(entry, File)), algorithm
    )


def _check_parents(entries: Mapping[str, Entry]) -> None:
    """Refuse `a` and `a/b` together: a file, link or empty directory holds nothing."""
    seen = {""}
    for parent in {path.rpartition("/")[0] for path in entries}:
        folder = parent
        while folder not in seen:
            seen.add(folder)
            if folder in entries:
                raise ManifestMalformed(f"manifest.json: something lies inside {folder!r}, which is not a directory")
            folder = folder.rpartition("/")[0]


def _header(manifest: Manifest) -> bytes:
    """Return what stands before the entries."""
    fields: JsonObject = {
        "schema_version": SCHEMA,
        "worker_id": manifest.worker_id,
        "worker_species_id": manifest.worker_species_id,
        "worker_version": manifest.worker_version,
        "built_at_utc": manifest.built_at_utc,
        "build_source": manifest.build_source,
        "hash_algorithm": manifest.hash_algorithm,
        "package_hash": manifest.package_hash,
        "excludes": list(manifest.excludes),
    }
    if manifest.ai is not None:
        fields["ai"] = manifest.ai.to_json()
    if manifest.source is not None:
        fields["source"] = manifest.source.to_json()
    rows = [strictjson.dumps(name) + b":" + strictjson.dumps(value) for name, value in fields.items()]
    return b"{\n%b," % SEPARATOR.join(rows)


def _header_problem(manifest: Manifest) -> str | None:
    """Say what is wrong with the header, or return None."""
    checks = (
        ("worker_id", id_problem(manifest.worker_id, segments=3)),
        ("worker_species_id", id_problem(manifest.worker_species_id)),
        ("worker_version", version_problem(manifest.worker_version)),
        (
            "built_at_utc",
            None if parse_utc(manifest.built_at_utc) is not None else "is not of the form 2026-11-22T14:00:00Z",
        ),
        (
            "build_source",
            None if manifest.build_source in BUILD_SOURCES else f"is not one of {', '.join(BUILD_SOURCES)}",
        ),
        ("hash_algorithm", None if manifest.hash_algorithm in ALGORITHMS else f"is not one of {', '.join(ALGORITHMS)}"),
        ("package_hash", None if is_hex_digest(manifest.package_hash) else "is not 64 lower-case hex digits"),
        ("excludes", exclude_problem(manifest.excludes)),
        ("entries", None if manifest.body else "is empty; a package holds at least one file"),
    )
    return next((f"{name} {problem}" for name, problem in checks if problem is not None), None)


def exclude_problem(patterns: tuple[str, ...]) -> str | None:
    """Say what is wrong with the exclude patterns of a manifest, or return None."""
    if len(patterns) > MAX_EXCLUDES:
        return f"holds more than {MAX_EXCLUDES} patterns"
    if len(set(patterns)) != len(patterns):
        return "holds a pattern twice"
    bad = next((pattern for pattern in patterns if not is_text(pattern)), None)
    return None if bad is None else f"holds the pattern {bad[:80]!r}, which is empty, overlong or unprintable"


def _read_header(header: bytes) -> JsonObject:
    if not header.endswith(b","):
        raise ManifestMalformed("manifest.json is not in its one accepted spelling; build it again")
    fields = strictjson.loads_object(
        header[:-1] + b"}", what="manifest.json", max_bytes=MAX_HEADER_BYTES, error=ManifestMalformed
    )
    if fields.get("schema_version") != SCHEMA:
        raise ManifestMalformed(f"manifest.json: unknown schema_version {str(fields.get('schema_version'))[:40]!r}")
    for name in _FIELDS:
        if name not in fields:
            raise ManifestMalformed(f"manifest.json: the field {name!r} is missing")
    unknown = sorted(set(fields) - {*_FIELDS, "ai", "source"})
    if unknown:
        raise ManifestMalformed(f"manifest.json: unknown field {unknown[0][:80]!r}")
    return fields


def _from_header(fields: JsonObject, body: bytes) -> Manifest:
    ai, source = fields.get("ai"), fields.get("source")
    return Manifest(
        worker_id=_text(fields, "worker_id"),
        worker_species_id=_text(fields, "worker_species_id"),
        worker_version=_text(fields, "worker_version"),
        built_at_utc=_text(fields, "built_at_utc"),
        build_source=_text(fields, "build_source"),  # type: ignore[arg-type]  # checked in __post_init__
        hash_algorithm=_text(fields, "hash_algorithm"),  # type: ignore[arg-type]  # checked in __post_init__
        package_hash=_text(fields, "package_hash"),
        excludes=_texts(fields["excludes"]),
        body=body,
        ai=None if "ai" not in fields else AiOrigin.from_json(ai),
        source=None if "source" not in fields else SourceOrigin.from_json(source),
    )


def _text(fields: JsonObject, name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise ManifestMalformed(f"manifest.json: the field {name!r} is not text")
    return value


def _texts(value: JsonValue) -> tuple[str, ...]:
    if isinstance(value, list):
        texts = tuple(item for item in value if isinstance(item, str))
        if len(texts) == len(value):
            return texts
    raise ManifestMalformed("manifest.json: the field 'excludes' is not a list of texts")


def _explain(data: bytes) -> NoReturn:
    """Raise what is wrong with bytes that do not even have the outline of a manifest."""
    if data.startswith(b'{\r\n"schema_version"'):
        raise ManifestMalformed(
            "manifest.json: its line endings were converted to CRLF, by git or an editor; restore the file"
            " (in git: `manifest.json -text` in .gitattributes, then check out again)"
        )
    if len(data) > MAX_HEADER_BYTES:  # a reason is not worth the memory that parsing hostile input takes
        raise ManifestMalformed("manifest.json is not in its one accepted spelling; build it again")
    fields = strictjson.loads_object(data, what="manifest.json", max_bytes=MAX_HEADER_BYTES, error=ManifestMalformed)
    schema = fields.get("schema_version")
    if schema != SCHEMA:
        raise ManifestMalformed(
            f"manifest.json: unknown schema_version {str(schema)[:40]!r}; this reader knows {SCHEMA}"
        )
    raise ManifestMalformed("manifest.json is not in its one accepted spelling; build it again")
