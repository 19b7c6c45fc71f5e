"""What is signed: a Statement about exactly one manifest, and nothing read from it that was not checked."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import SignatureInvalid
from wcp_attest.package.statement import MAX_STATEMENT_BYTES, Statement

STATEMENT = Statement(
    manifest_sha256="0a" * 32,
    worker_id="org.acme.summarizer",
    worker_species_id="wrk.doc.summarizer",
    worker_version="1.4.0",
    package_hash="1b" * 32,
    hash_algorithm="sha256",
    signed_at_utc="2026-11-22T14:00:05Z",
)


def test_round_trip_and_spelling() -> None:
    data = STATEMENT.to_bytes()
    assert Statement.from_bytes(data) == STATEMENT
    assert data == replace(STATEMENT).to_bytes()
    fields = json.loads(data)
    assert list(fields) == ["_type", "subject", "predicateType", "predicate"]
    assert fields["subject"] == [{"name": "manifest.json", "digest": {"sha256": "0a" * 32}}]


def test_any_spelling_of_the_same_statement_is_read() -> None:
    # Another client may sign the same statement with white space; the signature covers its bytes, not ours.
    assert Statement.from_bytes(json.dumps(json.loads(STATEMENT.to_bytes()), indent=2).encode()) == STATEMENT


def changed(path: str, value: object) -> bytes:
    fields = json.loads(STATEMENT.to_bytes())
    *parents, last = path.split(".")
    place = fields
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place[parent]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("_type", "https://in-toto.io/Statement/v0.1"),
        ("_type", ...),
        ("predicateType", "https://slsa.dev/provenance/v1"),
        ("predicateType", ...),
        ("extra", 1),
        ("subject", []),
        ("subject", [{"name": "manifest.json", "digest": {"sha256": "0a" * 32}}] * 2),
        ("subject.0.name", "other.json"),
        ("subject.0.uri", "x"),
        ("subject.0.digest", {}),
        ("subject.0.digest", {"sha512": "0a" * 64}),
        ("subject.0.digest.sha512", "0a" * 64),
        ("subject.0.digest.sha256", "0A" * 32),
        ("subject.0.digest.sha256", "0a" * 31),
        ("subject.0.digest.sha256", 7),
        ("predicate", []),
        ("predicate.extra", "x"),
        ("predicate.worker_id", ...),
        ("predicate.worker_id", 1),
        ("predicate.hash_algorithm", "md5"),
        ("predicate.signed_at_utc", "2026-11-22T14:00:05+00:00"),
        ("predicate.signed_at_utc", "2026-02-30T14:00:05Z"),
    ],
)
def test_every_other_statement_is_refused(path: str, value: object) -> None:
    with pytest.raises(SignatureInvalid):
        Statement.from_bytes(changed(path, value))


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b'{"a":1,"a":2}', b" " * (MAX_STATEMENT_BYTES + 1)]
)
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        Statement.from_bytes(data)


def test_digests_are_lower_case_hex() -> None:
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
