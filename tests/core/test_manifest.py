"""A manifest has exactly one spelling."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import entry_maps, manifests
from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import ConfigError, DenyCode, ManifestMalformed
from wcp_attest.package.entries import EmptyDirectory, Entry, File, Symlink, render_line
from wcp_attest.package.manifest import MAX_EXCLUDES, MAX_MANIFEST_BYTES, Manifest, hash_of
from wcp_attest.package.provenance import AiOrigin, SourceOrigin

DIGEST = sha256_hex(b"x")


def manifest_of(entries: dict[str, Entry]) -> Manifest:
    return Manifest(
        worker_id="org.acme.summarizer",
        worker_species_id="wrk.doc.summarizer",
        worker_version="1.4.0",
        built_at_utc="2026-11-22T14:00:00Z",
        build_source="ci",
        package_hash=hash_of(entries, "sha256"),
        body=b",\n".join(render_line(path, entry, "sha256") for path, entry in entries.items()),
    )


WHOLE = replace(
    manifest_of(
        {
            "bin/run": File(DIGEST, 1, executable=True),
            "cache": EmptyDirectory(),
            "model.bin": Symlink("weights/model-7.bin"),
            "weights/model-7.bin": File(DIGEST, 1),
        }
    ),
    excludes=(".git/", "*.log"),
    ai=AiOrigin(generated=True, service="vendor", model="m-1", session_fingerprint="sha256:00"),
    source=SourceOrigin("https://github.com/acme/summarizer", "9f" * 20),
)
DATA = WHOLE.to_bytes()


@given(manifests())
def test_manifests_round_trip(manifest: Manifest) -> None:
    data = manifest.to_bytes()
    assert Manifest.from_bytes(data) == manifest
    assert Manifest.from_bytes(data).to_bytes() == data
    assert set(json.loads(data)["entries"]) == set(manifest.entries())


def mutants(data: bytes) -> list[bytes]:
    """Each byte flipped in several ways, dropped, doubled; each prefix; each pair of lines swapped."""
    found: list[bytes] = []
    for position in range(len(data)):
        found.extend(
            data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]
            for mask in (0x01, 0x02, 0x10, 0x20, 0x80, 0xFF)
        )
        found.append(data[:position])
        found.append(data[:position] + data[position + 1 :])
        found.append(data[: position + 1] + data[position:])
        found.append(data[:position] + b" " + data[position:])
    lines = data.splitlines(keepends=True)
    found.extend(
        b"".join([*lines[:number], lines[number + 1], lines[number], *lines[number + 2 :]])
        for number in range(len(lines) - 1)
    )
    return found


def test_every_small_change_is_malformed_or_another_manifest() -> None:
    others = 0
    for mutant in mutants(DATA):
        if mutant == DATA:
            continue
        try:
            manifest = Manifest.from_bytes(mutant)
        except ManifestMalformed:
            continue
        others += 1
        assert manifest != WHOLE
        assert manifest.to_bytes() == mutant
    assert others > 100  # ids, versions, times and texts do vary: the test is not vacuous


@given(manifests(), st.data())
def test_every_drawn_change_is_malformed_or_another_manifest(manifest: Manifest, draw: st.DataObject) -> None:
    data = bytearray(manifest.to_bytes())
    start = draw.draw(st.integers(0, len(data) - 1))
    end = draw.draw(st.integers(start, min(len(data), start + 4)))
    data[start:end] = draw.draw(
        st.binary(max_size=4) | st.sampled_from([b",\n", b'"', b"{", b"}\n}\n", b'\n"entries":{\n'])
    )
    if bytes(data) == manifest.to_bytes():
        return
    try:
        other = Manifest.from_bytes(bytes(data))
    except ManifestMalformed:
        return
    assert other != manifest
    assert other.to_bytes() == bytes(data)


@given(st.binary(max_size=300))
def test_no_bytes_escape_the_error_tree(data: bytes) -> None:
    with pytest.raises(ManifestMalformed) as refusal:
        Manifest.from_bytes(data)
    assert refusal.value.code is DenyCode.MANIFEST_MALFORMED


def test_the_layout_is_one_line_a_field_and_one_line_an_entry() -> None:
    lines = DATA.decode().splitlines()
    assert lines[0] == "{"
    assert lines[1] == '"schema_version":"awp.v2",'
    assert lines[9] == '"excludes":[".git/","*.log"],'
    assert lines[12] == '"entries":{'
    assert lines[13].startswith('"bin/run": {')
    assert lines[17:] == ["}", "}"]
    assert DATA.endswith(b"}\n}\n")


def respelled(**changes: object) -> bytes:
    fields = {**json.loads(DATA), **changes}
    fields = {name: value for name, value in fields.items() if value is not ...}
    header = {name: value for name, value in fields.items() if name != "entries"}
    lines = [f"{json.dumps(name)}:{json.dumps(value, separators=(',', ':'))}" for name, value in header.items()]
    body = DATA[DATA.index(b'\n"entries":{\n') :]
    return b"{\n" + ",\n".join(lines).encode() + b"," + body


def test_the_helper_of_this_test_spells_as_the_manifest_does() -> None:
    assert respelled() == DATA


_FIELDS = [name for name in json.loads(DATA) if name != "entries"]
_WRONG: list[object] = [None, 1, True, {}, "", ["x", 1], "\n"]


@pytest.mark.parametrize(
    "changes",
    [
        *({name: ...} for name in _FIELDS if name not in {"ai", "source"}),
        *({name: value} for name in _FIELDS for value in _WRONG),
        {"schema_version": "awp.v1"},
        {"schema_version": "awp.v3"},
        {"worker_id": "org.acme"},
        {"worker_id": "org.Acme.w"},
        {"worker_id": "wrk\n"},
        {"worker_species_id": "wrk"},
        {"worker_version": "a b"},
        {"built_at_utc": "2026-11-22T24:00:00Z"},
        {"built_at_utc": "2026-11-22T14:00:00+00:00"},
        {"build_source": "laptop"},
        {"hash_algorithm": "md5"},
        {"hash_algorithm": "SHA256"},
        {"hash_algorithm": "blake3"},
        {"package_hash": DIGEST.upper()},
        {"package_hash": "sha256:" + DIGEST},
        {"package_hash": DIGEST},
        {"excludes": ["a", "a"]},
        {"excludes": [""]},
        {"excludes": ["a\u202e"]},
        {"excludes": ["x" * 513]},
        {"excludes": [str(number) for number in range(MAX_EXCLUDES + 1)]},
        {"ai": {"generated": "yes"}},
        {"ai": {"service": "x"}},
        {"ai": {"generated": True, "prompt": "x"}},
        {"ai": {"generated": True, "model": 7}},
        {"ai": {"generated": True, "model": None}},
        {"ai": {"generated": True, "model": "a\x1b[2J"}},
        {"ai": {"generated": True, "a\x1b[2J": "x"}},
        {"ai": {"model": "m", "generated": True}},
        {"source": {"commit": "9F" * 20}},
        {"source": {"commit": "9f" * 19}},
        {"source": {"branch": "main"}},
        {"source": {"repository": "a\nb"}},
        {"extra": 1},
        {"signature": "x"},
        {"$schema": "https://example.com/manifest.schema.json"},
    ],
    ids=lambda changes: ",".join(f"{name}={str(value)[:20]!r}" for name, value in changes.items()),
)
def test_a_wrong_missing_or_unknown_field_is_malformed(changes: dict[str, object]) -> None:
    with pytest.raises(ManifestMalformed) as refusal:
        Manifest.from_bytes(respelled(**changes))
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\x00" * 100,
        json.dumps(json.loads(DATA)).encode(),
        json.dumps(json.loads(DATA), indent=2).encode(),
        DATA.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + DATA,
        DATA[:-1],
        DATA + b"\n",
        DATA + DATA,
        DATA.replace(b"{\n", b"{\n\n", 1),
        DATA.replace(b'"ci"', b'"\\u0063i"'),
        DATA.replace(b'"build_source":"ci",\n', b'"build_source":"ci",\n"build_source":"ci",\n'),
        DATA.replace(b'"ai":', b'"source":', 1),
        b"{\n"
        + DATA[DATA.index(b'"worker_id"') : DATA.index(b'"built_at')]
        + b'"schema_version":"awp.v2",\n'
        + DATA[DATA.index(b'"built_at') :],
        b'{"entries":' + b"[" * 100_000,
        b'{\n"schema_version":"awp.v2",\n"entries":{\n}\n}\n',
        DATA[: DATA.index(b'"bin/run"')] + b"\n}\n}\n",
        DATA[: DATA.index(b'"bin/run"')] + b"}\n}\n",
    ],
)
def test_any_other_spelling_is_malformed(data: bytes) -> None:
    with pytest.raises(ManifestMalformed):
        Manifest.from_bytes(data)


@pytest.mark.parametrize(
    "paths",
    [
        ["b", "a"],
        ["a", "a"],
        ["a", "a/b"],
        ["a", "a-b", "a/b"],
        ["a", "a/b/c/d"],
        ["é", "z"],
        ["\U0001f600", "\uffee"],
    ],
)
def test_entries_out_of_order_repeated_or_inside_each_other_are_malformed(paths: list[str]) -> None:
    entries: list[tuple[str, Entry]] = [(path, EmptyDirectory()) for path in paths]
    manifest = replace(
        manifest_of({"f": File(DIGEST, 1)}),
        body=b",\n".join(render_line(path, entry, "sha256") for path, entry in entries),
        package_hash=sha256_hex(b""),
    )
    with pytest.raises(ManifestMalformed):
        Manifest.from_bytes(manifest.to_bytes())


def test_order_is_by_bytes_not_by_segments() -> None:
    manifest = manifest_of(
        {"a": File(DIGEST, 1), "a-b": File(DIGEST, 1), "aa/b": File(DIGEST, 1), "z": File(DIGEST, 1)}
    )
    assert list(Manifest.from_bytes(manifest.to_bytes()).entries()) == ["a", "a-b", "aa/b", "z"]


def test_the_package_hash_must_be_that_of_the_files_listed() -> None:
    wrong = replace(WHOLE, package_hash=DIGEST)
    assert Manifest.parse(wrong.to_bytes()) == wrong
    with pytest.raises(ManifestMalformed, match="package_hash"):
        Manifest.from_bytes(wrong.to_bytes())


@given(entry_maps())
def test_the_package_hash_is_the_hash_of_one_record_a_file(entries: dict[str, Entry]) -> None:
    records = "".join(
        f"{path}\n{entry.size}\n{entry.digest}\n" for path, entry in entries.items() if isinstance(entry, File)
    )
    assert hash_of(entries, "sha256") == sha256_hex(records.encode())


def test_a_manifest_without_entries_cannot_be_made() -> None:
    with pytest.raises(ManifestMalformed, match="is empty"):
        replace(WHOLE, body=b"")


def test_a_manifest_that_can_be_made_can_be_read() -> None:
    full = replace(WHOLE, excludes=tuple("\U0001f600" * 508 + f"{number:04}" for number in range(MAX_EXCLUDES)))
    assert Manifest.from_bytes(full.to_bytes()) == full


def test_the_size_is_bounded() -> None:
    with pytest.raises(ManifestMalformed, match="is larger than"):
        Manifest.parse(bytes(MAX_MANIFEST_BYTES + 1))


def test_large_rubbish_is_refused_without_being_parsed() -> None:
    """As Python objects this would take a hundred times its size."""
    with pytest.raises(ManifestMalformed, match="one accepted spelling"):
        Manifest.parse(b'{"entries":[' + b"[]," * 2_000_000 + b"[]]}")


def test_another_schema_is_named() -> None:
    with pytest.raises(ManifestMalformed, match=r"unknown schema_version 'awp\.v1'"):
        Manifest.parse(b'{"schema_version": "awp.v1"}')


def test_parse_leaves_entry_lines_unread() -> None:
    data = DATA.replace(b'"cache": {', b'"../cache": {')
    assert b'"../cache": {"directory":true}' in Manifest.parse(data).lines
    with pytest.raises(ManifestMalformed, match="segment"):
        Manifest.from_bytes(data)


@pytest.mark.parametrize("text", ["", "x" * 513, "a\nb", "\ud800"])
def test_texts_of_ai_and_source_are_checked_where_they_are_made(text: str) -> None:
    with pytest.raises(ManifestMalformed):
        AiOrigin(generated=False, model=text)
    with pytest.raises(ManifestMalformed):
        SourceOrigin(repository=text)


def test_a_key_without_a_name_is_unknown() -> None:
    with pytest.raises(ManifestMalformed, match=r"unknown field 'source\.'"):
        SourceOrigin.from_json({"repository": "https://github.com/acme/summarizer", "": True})
    with pytest.raises(ManifestMalformed, match=r"unknown field 'ai\.'"):
        AiOrigin.from_json({"generated": True, "": True})


def test_an_empty_source_is_refused() -> None:
    with pytest.raises(ManifestMalformed, match="is empty"):
        SourceOrigin()


def test_errors_of_the_manifest_are_not_the_callers_mistake() -> None:
    assert not issubclass(ManifestMalformed, ConfigError)
