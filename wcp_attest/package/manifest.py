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

Because only one spelling is accepted, a verifier can compare lines instead of parsing them: `Manifest.parse` reads the
header and leaves the entry lines unread; `Manifest.entries` reads them when a caller needs them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice, pairwise
from operator import ge
from typing import TYPE_CHECKING, Any, Final, NoReturn

from wcp_attest.base import strictjson
from wcp_attest.base.digest import ALGORITHMS, HashAlgorithm, is_hex_digest, package_hash
from wcp_attest.base.errors import ManifestMalformed
from wcp_attest.base.identity import id_problem, parse_utc, version_problem
from wcp_attest.package.entries import SEPARATOR, Entry, File, parse_lines
from wcp_attest.package.provenance import BUILD_SOURCES, AiOrigin, BuildSource, SourceOrigin, is_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.base.strictjson import JsonObject

MANIFEST_NAME: Final = "manifest.json"
SIGNATURE_NAME: Final = "manifest.sig"
SCHEMA: Final = "awp.v2"
MAX_MANIFEST_BYTES = 256 * 1024 * 1024  # about two million entries
MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_EXCLUDES = 1000  # of 512 characters of up to 4 bytes: half of the header at most

_OPEN, _CLOSE = b'\n"entries":{\n', b"\n}\n}\n"
_OTHER_SPELLING = "manifest.json is not in its one accepted spelling; build it again"
_TEXTS = (
    "worker_id",
    "worker_species_id",
    "worker_version",
    "built_at_utc",
    "build_source",
    "hash_algorithm",
    "package_hash",
)
_FIELDS = ("schema_version", *_TEXTS, "excludes")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose header is checked and whose entry lines stand as they were written.

    Attributes:
        worker_id: who this is, at least three segments.
        worker_species_id: its place in the taxonomy; nothing is trusted because of it.
        worker_version: 1 to 64 characters.
        built_at_utc: `2026-11-22T14:00:00Z`.
        build_source: `local`, `ci` or `agent`.
        package_hash: 64 lower-case hex digits, see `wcp_attest.base.digest`.
        body: the entry lines in order (`wcp_attest.package.entries`), joined by `SEPARATOR`, as they stand in the file.
        hash_algorithm: of the package hash and of every file.
        excludes: gitignore patterns that matched something when the package was built.
        ai: what produced the code, when a model did.
        source: where the code came from.

    Raises:
        ManifestMalformed: a field of the header is malformed, or there are no entries.
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
        utc, known = "is not of the form 2026-11-22T14:00:00Z", self.hash_algorithm in ALGORITHMS
        checks = (
            ("worker_id", id_problem(self.worker_id, segments=3)),
            ("worker_species_id", id_problem(self.worker_species_id)),
            ("worker_version", version_problem(self.worker_version)),
            ("built_at_utc", utc if parse_utc(self.built_at_utc) is None else None),
            (
                "build_source",
                None if self.build_source in BUILD_SOURCES else f"is not one of {', '.join(BUILD_SOURCES)}",
            ),
            ("hash_algorithm", None if known else f"is not one of {', '.join(ALGORITHMS)}"),
            ("package_hash", None if is_hex_digest(self.package_hash) else "is not 64 lower-case hex digits"),
            ("excludes", exclude_problem(self.excludes)),
            ("entries", None if self.body else "is empty; a package holds at least one file"),
        )
        for name, problem in checks:
            if problem is not None:
                raise ManifestMalformed(f"manifest.json: {name} {problem}")

    @property
    def lines(self) -> tuple[bytes, ...]:
        """One rendered line an entry, without separators; split anew each time, 0.1 µs a line."""
        return tuple(self.body.split(SEPARATOR))

    @property
    def count(self) -> int:
        """How many entries there are. A separator holds one newline, which is counted three times as fast."""
        return self.body.count(b"\n") + 1

    def to_bytes(self) -> bytes:
        """Return the bytes of `manifest.json`: the one spelling of this manifest."""
        return b"".join((_header(self), _OPEN, self.body, _CLOSE))

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read the header of a manifest and keep its entry lines unread.

        Args:
            data: the bytes of `manifest.json`. Verify their signature first.

        Returns:
            The manifest; its entries are not checked.

        Raises:
            ManifestMalformed: too large, not in the accepted spelling, or a field is missing, unknown or wrong.
        """
        if len(data) > MAX_MANIFEST_BYTES:
            raise ManifestMalformed(f"manifest.json is larger than {MAX_MANIFEST_BYTES} bytes")
        end = data.find(_OPEN, 0, MAX_HEADER_BYTES)
        if end < 0 or not data.endswith(_CLOSE):
            _explain(data)
        header = data[:end]
        fields = _read_header(header)
        manifest = cls(
            **{name: fields[name] for name in _TEXTS},
            excludes=tuple(fields["excludes"]),
            body=data[end + len(_OPEN) : -len(_CLOSE)],
            ai=AiOrigin.from_json(fields["ai"]) if "ai" in fields else None,
            source=SourceOrigin.from_json(fields["source"]) if "source" in fields else None,
        )
        if _header(manifest) != header:  # what follows it is the body, byte for byte
            raise ManifestMalformed(_OTHER_SPELLING)
        return manifest

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read a manifest and check every entry of it.

        Args:
            data: the bytes of `manifest.json`.

        Returns:
            The manifest.

        Raises:
            ManifestMalformed: as `parse`, or an entry is malformed, out of order, or does not fit the package hash.
        """
        manifest = cls.parse(data)
        manifest.entries()
        return manifest

    def entries(self) -> Mapping[str, Entry]:
        """Read every entry line.

        Returns:
            What is at each path, in byte order of the paths.

        Raises:
            ManifestMalformed: a line is not in its accepted spelling, paths are unsorted, repeated or inside something
                that is not a directory, or the package hash is not that of the files listed.
        """
        paths, values = parse_lines(self.body, self.hash_algorithm)
        if any(map(ge, paths, islice(paths, 1, None))):  # not in byte order, which is also that of code points
            before, after = next(pair for pair in pairwise(paths) if pair[0] >= pair[1])
            problem = "is repeated" if before == after else "is out of order"
            raise ManifestMalformed(f"manifest.json: the entry {after!r} {problem}")
        entries = dict(zip(paths, values, strict=True))
        # A file, link or empty directory holds nothing: `a` and `a/b` cannot both be listed.
        seen = {""}
        for parent in {path.rpartition("/")[0] for path in paths}:
            folder = parent
            while folder not in seen:
                seen.add(folder)
                if folder in entries:
                    raise ManifestMalformed(
                        f"manifest.json: something lies inside {folder!r}, which is not a directory"
                    )
                folder = folder.rpartition("/")[0]
        if self.package_hash != hash_of(entries, self.hash_algorithm):
            raise ManifestMalformed("manifest.json: package_hash is not the hash of the files listed; build it again")
        return entries


def read_head(data: bytes) -> tuple[str, str, str]:
    """Read who a package is from the first bytes of its manifest, unverified.

    Args:
        data: up to `MAX_HEADER_BYTES` from the start of `manifest.json`.

    Returns:
        The worker id, the worker version and the time of building, as they are written.

    Raises:
        ManifestMalformed: the bytes are not the header of a manifest.
    """
    fields = _read_header(data[: max(data.find(_OPEN), 0)])
    return fields["worker_id"], fields["worker_version"], fields["built_at_utc"]


def hash_of(entries: Mapping[str, Entry], algorithm: HashAlgorithm) -> str:
    """Return the package hash of entries.

    Args:
        entries: what is at each path, in byte order of the paths.
        algorithm: of the file digests and of the result.

    Returns:
        64 lower-case hex digits.
    """
    return package_hash(
        ((path, entry.size, entry.digest) for path, entry in entries.items() if isinstance(entry, File)), algorithm
    )


def _header(manifest: Manifest) -> bytes:
    """Return what stands before the entries."""
    fields: JsonObject = {
        "schema_version": SCHEMA,
        **{name: getattr(manifest, name) for name in _TEXTS},
        "excludes": list(manifest.excludes),
    }
    if manifest.ai is not None:
        fields["ai"] = manifest.ai.to_json()
    if manifest.source is not None:
        fields["source"] = manifest.source.to_json()
    rows = [strictjson.dumps(name) + b":" + strictjson.dumps(value) for name, value in fields.items()]
    return b"{\n%b," % SEPARATOR.join(rows)


def exclude_problem(patterns: tuple[str, ...]) -> str | None:
    """Say what is wrong with the exclude patterns of a manifest.

    Args:
        patterns: gitignore patterns, in their order.

    Returns:
        What is wrong, to follow the name of the field; None when nothing is.
    """
    if len(patterns) > MAX_EXCLUDES:
        return f"holds more than {MAX_EXCLUDES} patterns"
    if len(set(patterns)) != len(patterns):
        return "holds a pattern twice"
    bad = next((pattern for pattern in patterns if not is_text(pattern)), None)
    return None if bad is None else f"holds the pattern {bad[:80]!r}, which is empty, overlong or unprintable"


def _read_header(header: bytes) -> dict[str, Any]:
    """Read the fields before the entries: all of `_FIELDS`, each of its type, and perhaps `ai` and `source`."""
    if not header.endswith(b","):
        raise ManifestMalformed(_OTHER_SPELLING)
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
    for name in _TEXTS:
        if not isinstance(fields[name], str):
            raise ManifestMalformed(f"manifest.json: the field {name!r} is not text")
    excludes = fields["excludes"]
    if not isinstance(excludes, list) or not all(isinstance(pattern, str) for pattern in excludes):
        raise ManifestMalformed("manifest.json: the field 'excludes' is not a list of texts")
    return fields


def _explain(data: bytes) -> NoReturn:
    """Raise what is wrong with bytes that do not have the outline of a manifest."""
    if data.startswith(b'{\r\n"schema_version"'):
        raise ManifestMalformed(
            "manifest.json: its line endings were converted to CRLF, by git or an editor; restore the file"
            " (in git: `manifest.json -text` in .gitattributes, then check out again)"
        )
    if len(data) > MAX_HEADER_BYTES:  # to parse hostile input for a better message would take too much memory
        raise ManifestMalformed(_OTHER_SPELLING)
    fields = strictjson.loads_object(data, what="manifest.json", max_bytes=MAX_HEADER_BYTES, error=ManifestMalformed)
    schema = fields.get("schema_version")
    if schema != SCHEMA:
        raise ManifestMalformed(
            f"manifest.json: unknown schema_version {str(schema)[:40]!r}; this reader knows {SCHEMA}"
        )
    raise ManifestMalformed(_OTHER_SPELLING)
