"""A reader sees the text that the computer sees: what hides, reorders or is not assigned is refused by property."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcp_attest.base.characters import HIDDEN, refused_character, without_refused
from wcp_attest.base.characters_table import RANGES, UNICODE
from wcp_attest.base.errors import ConfigError, ManifestMalformed
from wcp_attest.package.entries import path_problem, target_problem
from wcp_attest.package.manifest import exclude_problem
from wcp_attest.package.names import folded
from wcp_attest.package.provenance import AiOrigin, SourceOrigin
from wcp_attest.trust.bans.ban import ban_from_json

# What the review of the first list found missing, and neighbours of each.
TRICKS = [
    *"\x00\x1f\x7f\x85\u00ad\u034f\u061c\u115f\u1160\u17b4\u180b\u180e\u200b\u200c\u200d\u200e\u2028\u2029\u202e\u2061",
    *"\u2064\u2065\u206a\u206f\u2800\u3164\ud800\udfff\ue000\ufe00\ufe0f\ufeff\uffa0\ufff9\ufffb\ufffe\U0001d173",
    *"\U0001d17a\U000e0001\U000e007f\U000e0100\U000e01ef\U000f0000\U0010ffff\U000110bd\u0600\u06dd\u070f\u08e2",
]
NAMES = ["run.py", "café", "cafe\u0301", "Ωmega", "日本語", "имя", "नमस्ते", "한국어", "🚀.md", "a b", "ﷺ", "¡¿", "°"]


@pytest.mark.parametrize("character", TRICKS, ids=lambda character: f"U+{ord(character):04X}")
def test_refuses_hidden_character_wherever_a_text_is_read(character: str) -> None:
    assert refused_character(f"a{character}b") == character
    assert path_problem(f"a{character}b") is not None
    assert target_problem("a", f"b{character}c") is not None
    assert exclude_problem((f"a{character}b",)) is not None
    with pytest.raises(ManifestMalformed):
        AiOrigin(generated=True, model=f"m{character}n")
    with pytest.raises(ManifestMalformed):
        SourceOrigin(f"r{character}s")
    with pytest.raises(ConfigError):
        ban_from_json({"kind": "worker", "subject": "org.acme.w", "reason": f"a{character}b"})


@pytest.mark.parametrize("name", NAMES)
def test_accepts_names_of_the_worlds_scripts(name: str) -> None:
    assert refused_character(name) is None
    assert path_problem(name) is None


def test_message_names_the_character() -> None:
    assert "U+200B" in str(path_problem("run\u200b.py"))
    assert "U+FE0F" in str(path_problem("❤\ufe0f.png"))


def test_table_refuses_every_category_that_this_python_knows() -> None:
    refused = set()
    for word in RANGES.split():
        first, _, last = word.partition("-")
        refused |= set(range(int(first, 16), int(last or first, 16) + 1))
    hidden = re.compile(f"[{HIDDEN}]")
    for code in range(0x110000):
        category = unicodedata.category(chr(code))
        if category in {"Cc", "Cf", "Zl", "Zp", "Cs", "Co"}:
            assert code in refused, hex(code)
        elif category != "Cn" and category[0] in "NPSZ" and code != 0x2800:
            assert code not in refused, hex(code)
        if hidden.match(chr(code)):
            assert code in refused, hex(code)  # what schemas refuse, the code refuses
        elif code in refused:
            assert category == "Cn", hex(code)
    assert UNICODE == "18.0.0"


@given(st.text())
def test_nothing_refused_is_left_and_nothing_else_is_taken(text: str) -> None:
    rest = without_refused(text)
    assert refused_character(rest) is None
    assert (rest == text) == (refused_character(text) is None)


def test_names_that_look_alike_fold_alike() -> None:
    assert len({folded(f"run{character}.py") for character in TRICKS}) == 1
    assert folded("run\u200b.py") == folded("RUN.py")
