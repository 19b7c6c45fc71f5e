"""Ids, versions and times have one grammar and one spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.strategies import times, worker_ids
from wcp_attest.base.errors import ConfigError, DenyCode, NamespaceInvalid
from wcp_attest.base.identity import check_namespace, format_utc, id_problem, namespace_of, parse_utc, version_problem


@pytest.mark.parametrize(
    ("worker_id", "namespace"),
    [
        ("org.acme.summarizer", "org.acme"),
        ("org.acme.summarizer.prod-01", "org.acme"),
        ("x.alice.tool", "x.alice"),
        ("org.org.org", "org.org"),
        ("x.0.0.0.0.0", "x.0"),
    ],
)
def test_the_namespace_is_the_first_two_segments(worker_id: str, namespace: str) -> None:
    assert namespace_of(worker_id) == namespace


@pytest.mark.parametrize(
    "worker_id",
    [
        "",
        "org",
        "org.acme",
        "x.alice",
        "org.acme.",
        ".org.acme.w",
        "org..w",
        "org.acme..w",
        "wrk.doc.summarizer",
        "orgs.acme.w",
        "xx.alice.w",
        "ORG.acme.w",
        "Org.acme.w",
        "org.Acme.w",
        "org.acme_corp.w",
        "org.-acme.w",
        "org.acme.w\n",
        "org.acme.w ",
        " org.acme.w",
        "org.acme.w\x00",
        "org.acme/../evil.w",
        "org.\u0430cme.w",  # a Cyrillic letter: the look-alike is the attack
        "org.acme.w\u200b",
        "org\uff0eacme\uff0ew",  # full-width dots
        "org.acme.w\u0661",
        "org.a.b.c.d.e.f",
        "org.acme." + "w" * 120,
    ],
)
def test_what_yields_no_namespace_is_refused_without_fallback(worker_id: str) -> None:
    with pytest.raises(NamespaceInvalid) as refusal:
        namespace_of(worker_id)
    assert refusal.value.code is DenyCode.NAMESPACE_INVALID
    assert str(refusal.value).isprintable()


def test_an_id_may_have_128_characters_and_six_segments() -> None:
    longest = "org.acme." + "w" * 119
    assert len(longest) == 128
    assert id_problem(longest) is None
    assert id_problem(longest + "w") == "is longer than 128 characters"
    assert id_problem("a.b.c.d.e.f") is None
    assert id_problem("a.b.c.d.e.f.g") is not None
    assert id_problem("a") == "has fewer than 2 segments"
    assert id_problem("a.b", segments=3) == "has fewer than 3 segments"


@given(worker_ids)
def test_every_id_of_the_grammar_has_a_namespace_that_is_one(worker_id: str) -> None:
    namespace = namespace_of(worker_id)
    assert check_namespace(namespace) == namespace
    assert worker_id.startswith(namespace + ".")


@given(st.text(max_size=140))
def test_no_text_crashes_the_grammar(text: str) -> None:
    problem = id_problem(text)
    if problem is None:
        assert text.isascii()
        assert text == text.lower()


@pytest.mark.parametrize("name", ["org.acme", "x.alice", "org.a-b", "x.0"])
def test_a_namespace_has_exactly_two_segments(name: str) -> None:
    assert check_namespace(name) == name


@pytest.mark.parametrize("name", ["", "org", "org.", "org.acme.w", "wrk.doc", "org.*", "*", "org.acme\n", "org acme"])
def test_what_is_no_namespace_is_the_callers_mistake(name: str) -> None:
    with pytest.raises(ConfigError, match=r"org\.<name> or x\.<name>"):
        check_namespace(name)


@pytest.mark.parametrize("version", ["1", "1.4.0", "2026.11.22+build_7-rc1", "v1", "a" * 64])
def test_versions_are_plain_words(version: str) -> None:
    assert version_problem(version) is None


@pytest.mark.parametrize("version", ["", ".1", "-1", "1.0\n", "1 0", "1/0", "é", "a" * 65, "\uff11"])
def test_other_versions_are_refused(version: str) -> None:
    assert version_problem(version) is not None


@given(times)
def test_times_round_trip(seconds: int) -> None:
    assert parse_utc(format_utc(seconds)) == seconds


@given(st.from_regex(r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\Z"))
def test_a_time_has_one_spelling(text: str) -> None:
    seconds = parse_utc(text)
    assert seconds is None or format_utc(seconds) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-22",
        "2026-11-22T14:00:00",
        "2026-11-22T14:00:00z",
        "2026-11-22 14:00:00Z",
        "2026-11-22T14:00:00+00:00",
        "2026-11-22T14:00:00.5Z",
        "2026-11-22T14:00:00Z\n",
        "2026-11-22T24:00:00Z",
        "2026-11-22T14:00:60Z",
        "2026-02-30T14:00:00Z",
        "2026-13-01T14:00:00Z",
        "1969-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "٢٠٢٦-11-22T14:00:00Z",
    ],
)
def test_other_spellings_and_impossible_times_are_none(text: str) -> None:
    assert parse_utc(text) is None


@pytest.mark.parametrize("seconds", [-1.0, 253_402_300_800.0, float("nan"), float("inf"), -float("inf")])
def test_times_outside_four_digit_years_are_refused(seconds: float) -> None:
    with pytest.raises(ConfigError):
        format_utc(seconds)
    assert format_utc(253_402_300_799.9) == "9999-12-31T23:59:59Z"
