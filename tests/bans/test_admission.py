"""What is admitted: signed by enough of those who may, fresh, following what was seen; all else denies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.bans.helpers import (
    HEAD,
    HEX,
    MAX_AGE,
    NOW,
    OTHER,
    SECRET,
    WEEK,
    Place,
    ban,
    by_hand,
    digest,
    facts,
    head,
    list_bytes,
    signed,
)
from wcp_attest.base.errors import BansUnusable, ConfigError, SignatureInvalid
from wcp_attest.package import statement
from wcp_attest.package.statement import Statement
from wcp_attest.signing.key import generate
from wcp_attest.trust.bans.ban_check import Bans
from wcp_attest.trust.bans.document import MAX_CLOCK_SKEW
from wcp_attest.trust.bans.feeds.file_feed import FileFeed
from wcp_attest.trust.bans.list_compiler import compile_list
from wcp_attest.trust.bans.list_verifier import FetchedList
from wcp_attest.trust.bans.rollback_guard import Seen
from wcp_attest.trust.bans.signed_list import PREDICATE, SUBJECT, ListSigners, sign_list, statement_of

if TYPE_CHECKING:
    from wcp_attest.trust.bans.lookup import BanIndex

BANS = (ban("package", HEX),)


def opened(place: Place, now: float = NOW + 60, **options: Any) -> BanIndex:
    signers = options.pop("signers", None)
    feed = FileFeed(str(place.path), **options)
    return feed.open(place.admission(now, signers=signers)).index


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_signed_fresh_list_is_admitted(place: Place) -> None:
    place.put(BANS)
    index = opened(place)
    assert index.head == HEAD
    assert [entry.subject for entry in [index.find_digest(BANS[0].kind, "sha256:" + HEX)] if entry] == [BANS[0].subject]


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (NOW + WEEK, "stale: it expired"),
        (NOW + 10 * WEEK, "stale"),
        (NOW - MAX_CLOCK_SKEW - 1, "in the future"),
    ],
)
def test_a_list_out_of_time_is_stale(place: Place, now: int, why: str) -> None:
    place.put(BANS)
    with pytest.raises(BansUnusable, match=why):
        opened(place, now)


def test_a_list_older_than_max_age_is_stale_whatever_it_says(place: Place) -> None:
    place.put(BANS, head(7, lifetime=100 * WEEK))
    opened(place, NOW + MAX_AGE)
    with pytest.raises(BansUnusable, match="older than max_age"):
        opened(place, NOW + MAX_AGE + 1)


def test_a_lower_version_is_rolled_back(place: Place) -> None:
    place.put(BANS, head(8))
    opened(place)
    place.put(BANS, head(7))
    with pytest.raises(BansUnusable, match="rolled back"):
        opened(place)
    place.put((), head(8))
    with pytest.raises(BansUnusable, match="differs from the one seen"):
        opened(place)
    place.put(BANS, head(9, name="acme-staging"))
    with pytest.raises(BansUnusable, match="acme-staging"):
        opened(place)
    place.put(BANS, head(9))
    opened(place)


def test_a_list_that_is_refused_is_not_remembered(place: Place) -> None:
    place.put(BANS, head(99), OTHER)
    with pytest.raises(BansUnusable):
        opened(place)
    place.put(BANS, head(98, issued=NOW + WEEK))
    with pytest.raises(BansUnusable):
        opened(place)
    place.put(BANS)
    opened(place)


class TestSignatures:
    def test_unsigned_is_refused(self, place: Place) -> None:
        place.put(BANS)
        for data in (b"", b"\n", b" "):
            (place.root / "bans.json.sig").write_bytes(data)
            with pytest.raises(BansUnusable):
                opened(place)
        (place.root / "bans.json.sig").unlink()
        with pytest.raises(BansUnusable, match="signatures"):
            opened(place)

    def test_signed_by_somebody_else_is_refused(self, place: Place) -> None:
        place.put(BANS, HEAD, OTHER)
        with pytest.raises(BansUnusable, match="none of its signatures"):
            opened(place)

    def test_a_second_signature_by_a_stranger_breaks_nothing(self, place: Place) -> None:
        place.put(BANS, HEAD, OTHER, SECRET)
        opened(place)

    def test_over_another_list_is_refused(self, place: Place) -> None:
        place.put(())
        place.path.write_bytes(list_bytes(BANS))
        with pytest.raises(BansUnusable, match="over another list"):
            opened(place)

    def test_the_same_list_in_another_layout_is_another_list(self, place: Place) -> None:
        document = place.put(BANS)
        place.path.write_bytes(by_hand(document))
        with pytest.raises(BansUnusable, match="over another list"):
            opened(place)
        (place.root / "bans.json.sig").write_bytes(signed(by_hand(document)))
        opened(place)

    def test_every_flipped_byte_of_the_list_is_refused(self, place: Place) -> None:
        document = place.put(BANS)
        signatures, admission = (place.root / "bans.json.sig").read_bytes(), place.admission()
        for at in range(len(document)):
            with pytest.raises(BansUnusable):
                admission.admit("it", FetchedList(flipped(document, at), signatures))
        for at in (0, len(document) // 2, len(document) - 1):  # from files, which are read again while they differ
            place.path.write_bytes(flipped(document, at))
            with pytest.raises(BansUnusable):
                opened(place)
        assert admission.admit("it", FetchedList(document, signatures)).head == HEAD

    def test_every_flipped_byte_of_the_signature_is_refused(self, place: Place) -> None:
        document = place.put(BANS)
        signatures, admission = (place.root / "bans.json.sig").read_bytes(), place.admission()
        for at in range(len(signatures) - 1):
            with pytest.raises(BansUnusable):
                admission.admit("it", FetchedList(document, flipped(signatures, at)))
        assert admission.admit("it", FetchedList(document, signatures)).head == HEAD

    def test_every_prefix_of_both_is_refused(self, place: Place) -> None:
        document = place.put(BANS)
        path = place.root / "bans.json.sig"
        signatures, admission = path.read_bytes(), place.admission()
        for length in range(len(signatures) - 1):
            with pytest.raises(BansUnusable):
                admission.admit("it", FetchedList(document, signatures[:length]))
        for length in range(len(document)):
            with pytest.raises(BansUnusable):
                admission.admit("it", FetchedList(document[:length], signatures))
        for length in (0, 1, len(document) // 2, len(document) - 1):  # from files, as a cut copy leaves them
            place.path.write_bytes(document[:length])
            with pytest.raises(BansUnusable):
                opened(place)
        place.path.write_bytes(document)
        for length in (0, 1, len(signatures) // 2, len(signatures) - 2):
            path.write_bytes(signatures[:length])
            with pytest.raises(BansUnusable):
                opened(place)

    def test_a_threshold_asks_for_distinct_signers(self, place: Place) -> None:
        key, third = generate("p256"), generate("ed25519")
        both = ListSigners((SECRET, key.trusted, third.trusted), threshold=2)
        place.put(BANS, HEAD, SECRET)
        with pytest.raises(BansUnusable, match="1 of the 2"):
            opened(place, signers=both)
        line = (place.root / "bans.json.sig").read_bytes()
        (place.root / "bans.json.sig").write_bytes(line * 2)
        with pytest.raises(BansUnusable, match="1 of the 2"):
            opened(place, signers=both)
        place.put(BANS, HEAD, SECRET, OTHER)
        with pytest.raises(BansUnusable, match="1 of the 2"):
            opened(place, signers=both)
        place.put(BANS, HEAD, SECRET, third)
        opened(place, signers=both)

    def test_signers_of_different_lists_do_not_add_up(self, place: Place) -> None:
        key = generate("ed25519")
        document = place.put(BANS)
        lines = signed(document) + signed(list_bytes(()), key)
        (place.root / "bans.json.sig").write_bytes(lines)
        for threshold in (1, 2):
            with pytest.raises(BansUnusable, match="different lists"):
                opened(place, signers=ListSigners((SECRET, key.trusted), threshold=threshold))

    def test_a_statement_about_a_package_is_none_about_a_list(self, place: Place) -> None:
        document = place.put(BANS)
        fields = ("org.acme.x", "wrk.a.b", "1", digest(1), "sha256", "2026-03-01T12:00:00Z")
        package = Statement(sha_of(document), *fields)  # type: ignore[arg-type]
        (place.root / "bans.json.sig").write_bytes(SECRET.sign(package.to_bytes()) + b"\n")
        with pytest.raises(BansUnusable, match="is of type"):
            opened(place)

    def test_a_statement_about_a_list_is_none_about_a_package(self) -> None:
        with pytest.raises(SignatureInvalid):
            Statement.from_bytes(statement_of(Seen(HEAD, HEX)))

    @pytest.mark.parametrize(
        "change",
        [
            {"version": 8},
            {"name": "acme-staging"},
            {"expires_at": "2027-03-08T12:00:00Z"},
            {"extra": 1},
            {"version": "7"},
            {"issued_at": None},
        ],
    )
    def test_a_statement_that_says_other_than_the_list_is_refused(self, place: Place, change: dict[str, Any]) -> None:
        document = place.put(BANS)
        predicate = {**HEAD.to_json(), **change}
        said = statement.render(name=SUBJECT, sha256=sha_of(document), predicate_type=PREDICATE, predicate=predicate)
        (place.root / "bans.json.sig").write_bytes(SECRET.sign(said) + b"\n")
        with pytest.raises(BansUnusable):
            opened(place)

    def test_who_may_sign_cannot_be_nobody_or_somebody_twice(self) -> None:
        for keys, threshold in (((), 1), ((SECRET,), 2), ((SECRET,), 0), ((SECRET, SECRET), 1)):
            with pytest.raises(ConfigError):
                ListSigners(keys, threshold=threshold)

    def test_signing_again_replaces_and_a_further_signer_joins(self) -> None:
        seen, key = Seen(HEAD, HEX), generate("ed25519")
        first, _ = sign_list(seen, [SECRET], b"")
        second, made_by = sign_list(seen, [key], first)
        assert second.startswith(first)
        assert len(made_by) == 1
        again, _ = sign_list(seen, [SECRET], second)
        assert again.count(b"\n") == 2
        newer, _ = sign_list(Seen(head(8), digest(8)), [SECRET], again)
        assert newer.count(b"\n") == 1
        for signers in ([], [SECRET, SECRET]):
            with pytest.raises(ConfigError):
                sign_list(seen, signers, b"")


class TestOwnFile:
    def test_an_unsigned_list_is_admitted_only_when_said_so(self, place: Place) -> None:
        place.path.write_bytes(list_bytes(BANS))
        opened(place, signed=False)
        with pytest.raises(BansUnusable):
            opened(place)

    def test_nobody_else_may_be_able_to_write_it(self, place: Place) -> None:
        place.path.write_bytes(list_bytes(BANS))
        place.path.chmod(0o666)
        with pytest.raises(BansUnusable, match="written by others"):
            opened(place, signed=False)

    def test_it_must_be_fresh_and_forward_too(self, place: Place) -> None:
        place.path.write_bytes(list_bytes(BANS, head(8)))
        opened(place, signed=False)
        with pytest.raises(BansUnusable, match="stale"):
            opened(place, NOW + WEEK, signed=False)
        place.path.write_bytes(list_bytes(BANS, head(7)))
        with pytest.raises(BansUnusable, match="rolled back"):
            opened(place, signed=False)

    @pytest.mark.parametrize("kind", ["absent", "directory", "fifo", "unreadable json"])
    def test_what_is_not_there_is_no_empty_list(self, place: Place, kind: str) -> None:
        import os

        match kind:
            case "directory":
                place.path.mkdir()
            case "fifo":
                os.mkfifo(place.path)
            case "unreadable json":
                place.path.write_bytes(b"{}")
        with pytest.raises(BansUnusable):
            opened(place, signed=False)


class TestCompiled:
    def compile(self, place: Place) -> str:
        target = str(place.root / "bans.idx")
        compile_list(str(place.path), target)
        return target

    @pytest.mark.parametrize("is_signed", [True, False])
    def test_it_stands_for_the_list_it_was_made_from(self, place: Place, is_signed: bool) -> None:
        place.put(BANS)
        compiled = self.compile(place)
        feed = FileFeed(str(place.path), compiled, is_signed)
        bans = Bans([feed.open(place.admission())])
        assert len(bans.hits(facts(package_hash=HEX))) == 1
        place.put((), head(8))
        with pytest.raises(BansUnusable, match="made from another list"):
            feed.open(place.admission())
        self.compile(place)
        assert Bans([feed.open(place.admission())]).hits(facts(package_hash=HEX)) == ()

    def test_a_signed_list_need_not_be_there_once_compiled(self, place: Place) -> None:
        place.put(BANS)
        compiled = self.compile(place)
        place.path.unlink()
        FileFeed(str(place.path), compiled).open(place.admission())

    def test_it_is_refused_when_stale_rolled_back_or_unsigned(self, place: Place) -> None:
        place.put(BANS, head(8))
        compiled = self.compile(place)
        feed = FileFeed(str(place.path), compiled)
        feed.open(place.admission())
        with pytest.raises(BansUnusable, match="stale"):
            feed.open(place.admission(NOW + WEEK))
        place.put(BANS, head(7))
        self.compile(place)
        with pytest.raises(BansUnusable, match="rolled back"):
            feed.open(place.admission())
        place.put(BANS, head(9), OTHER)
        self.compile(place)
        with pytest.raises(BansUnusable, match="none of its signatures"):
            feed.open(place.admission())


def sha_of(document: bytes) -> str:
    from hashlib import sha256

    return sha256(document).hexdigest()


def test_a_program_that_asks_often_parses_once(place: Place) -> None:
    place.put(BANS)
    memo: dict[str, BanIndex] = {}
    from dataclasses import replace

    admission = replace(place.admission(), memo=memo)
    feed = FileFeed(str(place.path))
    assert feed.open(admission).index is feed.open(admission).index
    place.put((), head(8))
    assert feed.open(admission).index.head.version == 8
    assert len(memo) == 2


def test_the_list_is_json_that_others_can_read(place: Place) -> None:
    document = place.put(BANS)
    assert json.loads(document)["bans"][0]["subject"] == "sha256:" + HEX
