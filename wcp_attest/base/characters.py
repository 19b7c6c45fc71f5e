"""Characters that no name and no quoted text may hold: a reader must see the text that the computer sees.

Refused by property, in one version of Unicode that is frozen in a table (`characters_table`): what is ignored when text
is shown (Default_Ignorable_Code_Point), what reorders it (Bidi_Control), control and format characters, line and
paragraph separators, surrogates, private use, what is not assigned (general categories Cc Cf Zl Zp Cs Co Cn), and
U+2800, which is blank. Emoji that are put together with U+200D or U+FE0F are refused for that reason.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cache

# All of them but the unassigned ones, as the inside of a character class; for schemas and other readers of the format.
HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def refused_character(text: str) -> str | None:
    """Return the first character of a text that is refused, or None.

    Args:
        text: a name, or a text for people: an exclude pattern, a repository, a reason.
    """
    if text.isascii():
        found = None if text.isprintable() else _CONTROL.search(text)
        return None if found is None else found[0]
    refused = {character for character in set(text) if _is_refused(ord(character))}
    return next((character for character in text if character in refused), None) if refused else None


def without_refused(text: str) -> str:
    """Return a text without the characters that are refused, for comparing how two texts look."""
    if refused_character(text) is None:
        return text
    return "".join(character for character in text if not _is_refused(ord(character)))


def name_character(character: str) -> str:
    """Return a character as messages name it: `U+200B`."""
    return f"U+{ord(character):04X}"


def _is_refused(code: int) -> bool:
    return bisect_right(_bounds(), code) % 2 == 1  # behind a first code point, and before the one after the last


@cache
def _bounds() -> list[int]:
    """Return the first code point of each range and the one after its last, in order."""
    from wcp_attest.base.characters_table import RANGES

    bounds: list[int] = []
    for word in RANGES.split():
        first, _, last = word.partition("-")
        bounds += (int(first, 16), int(last or first, 16) + 1)
    return bounds
