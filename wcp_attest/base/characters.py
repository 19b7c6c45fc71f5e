"""Characters that no name and no quoted text may hold: a reader must see the text that the computer sees.

They are refused by property, in one version of Unicode that is frozen in a table (`characters_table`):

- what programs ignore when they show text (Default_Ignorable_Code_Point);
- what reorders text (Bidi_Control);
- control and format characters, line and paragraph separators, surrogates, private use, and code points that are not
  assigned (general categories Cc Cf Zl Zp Cs Co Cn);
- U+2800, which is blank.

Emoji that are put together with U+200D or U+FE0F are therefore refused. Source: Unicode Standard, UAX #44.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import cache

# All but the unassigned ones, as the inside of a character class of a regular expression, for the JSON Schemas.
HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\uf8ff\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\U000f0000-\U000ffffd\U00100000-\U0010fffd"
)
_CONTROL = re.compile("[\x00-\x1f\x7f]")


def refused_character(text: str) -> str | None:
    """Return the first character of a text that is refused.

    Args:
        text: a name, or a text for people: an exclude pattern, a repository, a reason.

    Returns:
        The character, or None when there is none.
    """
    if text.isascii():
        found = None if text.isprintable() else _CONTROL.search(text)
        return None if found is None else found[0]
    refused = _refused_in(text)
    return next((character for character in text if character in refused), None) if refused else None


def without_refused(text: str) -> str:
    """Return a text without the characters that are refused, for comparing how two texts look.

    Args:
        text: any text.

    Returns:
        The text without them; what is left may be empty.
    """
    if text.isascii() and text.isprintable():
        return text
    refused = _refused_in(text)
    return "".join(character for character in text if character not in refused) if refused else text


def _refused_in(text: str) -> set[str]:
    """Return those characters of a text that are refused."""
    bounds = _bounds()  # with an odd number of them at or before it, a character is inside a range
    return {character for character in set(text) if bisect_right(bounds, ord(character)) % 2}


@cache
def _bounds() -> list[int]:
    """Return the first code point of each range and the one after its last, in order."""
    from wcp_attest.base.characters_table import RANGES

    bounds: list[int] = []
    for word in RANGES.split():
        first, _, last = word.partition("-")
        bounds += (int(first, 16), int(last or first, 16) + 1)
    return bounds
