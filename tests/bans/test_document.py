"""The list as a document: one layout written, any layout read, nothing unknown accepted."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.trust.bans.ban import Ban, Kind, make_ban, normal_digest
from wcp_attest.trust.bans.document import MAX_VERSION, BanList, Head

HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
HEAD = Head("acme-soc", 7, 1_772_366_400, 1_772_971_200)
WHY = {"reason": "exfiltrates tokens", "banned_at": "2026-03-01T12:00:00Z", "source": "acme-soc"}
URL = "https://acme.example/advisories/7"


def ban(kind: str, subject: str, **more: str) -> Ban:
    return make_ban(Kind(kind), subject, **{**WHY, **more})


EVERY_KIND = (
    ban("manifest", HEX),
    ban("package", HEX, reference=URL),
    ban("package", "blake3:" + HEX),
    ban("file", HEX),
    ban("worker", "org.acme.summarizer"),
    ban("worker", "org.acme.summarizer", versions=">=1.2,<1.4.3"),
    ban("key", HEX),
    ban("key", "hmac-sha256:0123456789abcdef"),
    ban("identity", "https://github.com/acme/worker/*", issuer="https://token.example"),
    ban("namespace", "x.mallory"),
)


def test_a_list_is_written_with_one_ban_a_line_and_read_back_equal() -> None:
    listed = BanList.make(HEAD, EVERY_KIND)
    data = listed.to_bytes()
    assert BanList.from_bytes(data) == listed
    assert len(data.splitlines()) == 9 + len(EVERY_KIND)
    assert data.decode().splitlines()[:7] == [
        "{",
        '"schema_version":"wcp.bans.v1",',
        '"name":"acme-soc",',
        '"version":7,',
        '"issued_at":"2026-03-01T12:00:00Z",',
        '"expires_at":"2026-03-08T12:00:00Z",',
        '"bans":[',
    ]


def test_the_same_bans_in_any_order_give_the_same_bytes() -> None:
    assert BanList.make(HEAD, reversed(EVERY_KIND)).to_bytes() == BanList.make(HEAD, EVERY_KIND).to_bytes()


def test_a_list_laid_out_by_hand_is_read() -> None:
    listed = BanList.make(HEAD, EVERY_KIND)
    by_hand = json.dumps(json.loads(listed.to_bytes()), indent=4, sort_keys=True).encode()
    assert BanList.from_bytes(by_hand) == listed


def test_an_empty_list_is_a_list() -> None:
    empty = BanList.make(HEAD, ())
    assert BanList.from_bytes(empty.to_bytes()) == empty


@pytest.mark.parametrize("spelling", [HEX, HEX.upper(), "sha256:" + HEX, "SHA256:" + HEX.upper()])
def test_a_digest_in_any_spelling_is_one_digest(spelling: str) -> None:
    assert normal_digest(spelling) == "sha256:" + HEX
    assert ban("package", spelling) == ban("package", HEX)


@pytest.mark.parametrize(
    "bad", ["", HEX[:-1], HEX + "0", HEX + "\n", " " + HEX, "md5:" + HEX, "sha256:", "sha256:sha256:" + HEX, "g" * 64]
)
def test_what_is_not_a_digest_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError):
        normal_digest(bad)


@pytest.mark.parametrize(
    ("kind", "subject", "more"),
    [
        ("manifest", "blake3:" + HEX, {}),
        ("file", "blake3:" + HEX, {}),
        ("key", "blake3:" + HEX, {}),
        ("key", "hmac-sha256:0123", {}),
        ("worker", "org.acme", {}),
        ("worker", "acme.summarizer.x", {}),
        ("worker", "org.acme.x", {"versions": "banana"}),
        ("package", HEX, {"versions": ">=1"}),
        ("namespace", "org.acme.x", {}),
        ("namespace", "org", {}),
        ("namespace", "com.acme", {}),
        ("identity", "*", {}),
        ("identity", "a*b", {}),
        ("identity", "", {}),
        ("identity", "a b", {}),
        ("identity", "x" * 1025, {}),
        ("identity", "a@b", {"issuer": "not a url"}),
        ("identity", "a@b", {"issuer": "https://accounts.example/*"}),
        ("worker", "org.acme.Summarizer", {}),
        ("worker", "org.acme.summ\u0430rizer", {}),
        ("worker", "org.acme.summarizer\u200b", {}),
        ("namespace", "org.ACME", {}),
        ("package", HEX, {"issuer": "https://x.example"}),
        ("package", HEX, {"reason": ""}),
        ("package", HEX, {"reason": "  "}),
        ("package", HEX, {"reason": "two\nlines"}),
        ("package", HEX, {"reason": "\x1b[2J"}),
        ("package", HEX, {"reason": "right-to-left \u202e"}),
        ("package", HEX, {"reason": "x" * 1001}),
        ("package", HEX, {"source": "x" * 201}),
        ("package", HEX, {"banned_at": "yesterday"}),
        ("package", HEX, {"banned_at": "2026-03-01T12:00:00+01:00"}),
        ("package", HEX, {"reference": "javascript:alert(1)"}),
        ("package", HEX, {"reference": "https://a b"}),
    ],
)
def test_a_ban_with_a_bad_part_is_refused(kind: str, subject: str, more: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        ban(kind, subject, **more)


def edited(**changes: Any) -> bytes:
    value = json.loads(BanList.make(HEAD, EVERY_KIND[:2]).to_bytes())
    for key, change in changes.items():
        if change is None:
            del value[key]
        else:
            value[key] = change
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff\xfe",
        b'{"a":1,"a":2}',
        edited()[:-1],
        edited()[: len(edited()) // 2],
        edited() + b"x",
        b"\xef\xbb\xbf" + edited(),
        edited(schema_version="wcp.bans.v2"),
        edited(schema_version=None),
        edited(extra=1),
        edited(name=None),
        edited(name="Not A Name"),
        edited(version=None),
        edited(version=0),
        edited(version=-1),
        edited(version="7"),
        edited(version=True),
        edited(version=7.0),
        edited(version=2**53),
        edited(issued_at="2026-03-01"),
        edited(issued_at=1),
        edited(expires_at="2026-03-01T12:00:00Z"),
        edited(expires_at="2026-02-31T12:00:00Z"),
        edited(expires_at=None),
        edited(bans=None),
        edited(bans={}),
        edited(bans=[1]),
        edited(bans=[[]]),
        edited(bans=[{}]),
        edited(bans=[{"kind": "package", "subject": HEX}]),
        edited(bans=[{**WHY, "kind": "colour", "subject": HEX}]),
        edited(bans=[{**WHY, "kind": "package", "subject": HEX, "allow": "yes"}]),
        edited(bans=[{**WHY, "kind": "package", "subject": HEX, "versions": ""}]),
        edited(bans=[{**WHY, "kind": "package", "subject": 7}]),
        edited(bans=[{**WHY, "kind": "package", "subject": None}]),
    ],
)
def test_what_is_not_exactly_a_list_is_unusable(data: bytes) -> None:
    with pytest.raises(BansUnusable):
        BanList.from_bytes(data)


def test_every_prefix_of_a_list_is_unusable() -> None:
    data = BanList.make(HEAD, EVERY_KIND).to_bytes().rstrip()
    for length in range(len(data)):
        with pytest.raises(BansUnusable):
            BanList.from_bytes(data[:length])


def test_the_next_issue_has_a_higher_version_and_is_never_dated_back() -> None:
    listed = BanList.make(HEAD, ())
    following = listed.issue(now=HEAD.issued_at - 100, lifetime=60, bans=EVERY_KIND)
    assert following.head == Head("acme-soc", 8, HEAD.issued_at, HEAD.issued_at + 60)
    assert len(following.bans) == len(EVERY_KIND)


@pytest.mark.parametrize(
    ("head", "lifetime", "said"),
    [
        (replace(HEAD, version=MAX_VERSION), 60, "is the last"),
        (replace(HEAD, issued_at=HEAD.issued_at + 3600), 60, "in the future"),
        (HEAD, 300_000_000_000, "1970 to 9999"),
        (HEAD, 0, "expires before"),
    ],
)
def test_the_next_issue_is_refused_when_no_reader_would_take_it(head: Head, lifetime: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BanList.make(head, ()).issue(now=HEAD.issued_at, lifetime=lifetime, bans=())


def test_of_two_bans_of_one_subject_the_later_stays() -> None:
    listed = BanList.make(HEAD, [ban("package", HEX), ban("package", HEX.upper(), reason="worse")])
    assert [entry.reason for entry in listed.bans] == ["worse"]


TEXTS = st.text(st.sampled_from("aZ9 äß漢字🙂\"'\\/<>&{}[]:,#"), min_size=1, max_size=40).filter(str.strip)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
BANS = st.builds(
    lambda kind, digest, why, source: make_ban(
        kind, digest, reason=why, source=source, banned_at="2026-03-01T12:00:00Z"
    ),
    st.sampled_from([Kind.MANIFEST, Kind.PACKAGE, Kind.FILE, Kind.KEY]),
    DIGESTS,
    TEXTS,
    TEXTS,
)


@given(st.lists(BANS, max_size=8))
def test_any_list_survives_a_round_trip(bans: list[Ban]) -> None:
    listed = BanList.make(HEAD, bans)
    assert BanList.from_bytes(listed.to_bytes()) == listed


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
)
def test_any_json_in_place_of_the_bans_is_read_or_refused(value: Any) -> None:
    try:
        listed = BanList.from_bytes(edited(bans=value) if value is not None else edited(bans=[None]))
    except BansUnusable:
        return
    assert value == []
    assert listed.bans == ()
