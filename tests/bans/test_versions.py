"""Version specifiers of worker bans: the grammar, the order, and what an odd version meets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcp_attest.base.errors import ConfigError
from wcp_attest.trust.bans.versions import MAX_COMPARISONS, Specifier

# Semantic Versioning 2.0.0, section 11: the examples of the text, lowest first.
ASCENDING = [
    "0.9",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.2",
    "1.10",
    "2",
    "2026.11.22",
]


@pytest.mark.parametrize("at", range(len(ASCENDING)))
def test_versions_are_ordered_as_semantic_versioning_orders_them(at: int) -> None:
    version = ASCENDING[at]
    for position, other in enumerate(ASCENDING):
        assert Specifier.parse(f"<{version}").matches(other) == (position < at)
        assert Specifier.parse(f"<={version}").matches(other) == (position <= at)
        assert Specifier.parse(f">{version}").matches(other) == (position > at)
        assert Specifier.parse(f">={version}").matches(other) == (position >= at)
        assert Specifier.parse(f"=={version}").matches(other) == (position == at)
        assert Specifier.parse(f"!={version}").matches(other) == (position != at)


@pytest.mark.parametrize("same", ["1.2", "1.2.0", "v1.2.0", "1.2.0.0", "1.2.0+build.7", "01.02"])
def test_spellings_of_one_version_are_equal(same: str) -> None:
    assert Specifier.parse("==1.2").matches(same)
    assert not Specifier.parse("!=1.2").matches(same)
    assert not Specifier.parse("<1.2").matches(same)


def test_all_comparisons_must_hold() -> None:
    specifier = Specifier.parse(" >=1.2 , <1.4.3 ,!=1.3")
    assert [v for v in ("1.1.9", "1.2", "1.3", "1.3.1", "1.4.2", "1.4.3-rc.1", "1.4.3") if specifier.matches(v)] == [
        "1.2",
        "1.3.1",
        "1.4.2",
        "1.4.3-rc.1",
    ]
    assert str(specifier) == ">=1.2,<1.4.3,!=1.3"


@pytest.mark.parametrize("odd", ["spring", "1.0rc1", "1_0", "1..0", "1.0-", "2026-spring.a_b"])
def test_a_version_that_cannot_be_ordered_is_inside_every_range(odd: str) -> None:
    for specifier in ("<1", ">=1.2,<1.4", ">999", "<=0", "!=1.0"):
        assert Specifier.parse(specifier).matches(odd) == (specifier != "!=1.0" or odd != "1.0")
    assert not Specifier.parse("==1.0").matches(odd) or odd.startswith("2026-")
    assert Specifier.parse(f"=={odd}").matches(odd)
    assert not Specifier.parse(f"!={odd}").matches(odd)


@pytest.mark.parametrize(
    "bad",
    ["", ",", "1.2", "~=1.2", "=1.2", "===1.2", ">=", ">=1.2,", ">= spring", ">=1.2 <2", "<1.0rc1", ">=1.2;os", "==é"],
)
def test_what_is_not_a_specifier_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError):
        Specifier.parse(bad)


def test_the_number_of_comparisons_is_bounded() -> None:
    Specifier.parse(",".join(["!=1.0"] * MAX_COMPARISONS))
    with pytest.raises(ConfigError, match="too long"):
        Specifier.parse(",".join(["!=1.0"] * (MAX_COMPARISONS + 1)))


VERSIONS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.+_-]{0,63}", fullmatch=True).filter(str.isascii)
ORDERED = st.lists(st.integers(0, 10**6), min_size=1, max_size=5).map(lambda parts: ".".join(map(str, parts)))


@given(VERSIONS, ORDERED)
def test_no_version_escapes_both_halves_of_a_split(version: str, at: str) -> None:
    assert Specifier.parse(f"<{at}").matches(version) or Specifier.parse(f">={at}").matches(version)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        specifier = Specifier.parse(text)
    except ConfigError:
        return
    assert Specifier.parse(str(specifier)) == specifier
