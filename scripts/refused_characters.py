"""Write `wcp_attest/base/characters_table.py`: the characters that no name and no quoted text may hold.

They are chosen by property, in one version of Unicode, and frozen in the repository, so that a signer and a verifier
agree whatever Python they run. A new version of Unicode is a change of the format: an id that was refused becomes a
name. Run it only to make that change, with the libraries whose version is the version of Unicode:

    uv run --with regex==2026.11.19 --with unicodedata2==18.0.0 scripts/refused_characters.py
"""

from __future__ import annotations

from pathlib import Path

import regex
import unicodedata2

PROPERTIES = ("Default_Ignorable_Code_Point", "Bidi_Control", "Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn")
FURTHER = "\u2800"  # a Braille pattern without dots: visible by its properties, and blank
OUT = Path(__file__).parents[1] / "wcp_attest" / "base" / "characters_table.py"
HEAD = '''"""Characters that no name and no quoted text may hold, as ranges. Made by `scripts/refused_characters.py`."""

UNICODE = "{version}"

# First and last code point in hexadecimal, the last only where it differs from the first.
RANGES = """
{ranges}
"""
'''


def main() -> None:
    """Write the table."""
    classes = "".join(r"\p{" + name + "}" for name in PROPERTIES)
    refused = regex.compile(f"[{classes}{FURTHER}]")
    ranges: list[tuple[int, int]] = []
    for code in range(0x110000):
        if not refused.match(chr(code)):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1] = (ranges[-1][0], code)
        else:
            ranges.append((code, code))
    words = [f"{first:x}" if first == last else f"{first:x}-{last:x}" for first, last in ranges]
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > 115:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    OUT.write_text(HEAD.format(version=unicodedata2.unidata_version, ranges="\n".join(lines)), encoding="ascii")


main()
