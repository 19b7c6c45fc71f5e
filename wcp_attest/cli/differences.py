"""How a tree differs from its manifest, in words and as JSON; for `verify`, `diff` and whoever else finds some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_attest.cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.differences import Difference
    from wcp_attest.base.strictjson import JsonValue
    from wcp_attest.cli.text import Painter

_SIGNS = {"added": "+", "missing": "-"}
MAX_SHOWN = 50  # differences in text; JSON has all that were listed


def as_text(differences: Sequence[Difference], total: int, paint: Painter) -> str:
    """Return a line or three for each difference.

    Args:
        differences: those that are listed.
        total: how many there are, listed or not.
        paint: colours.
    """
    lines: list[str] = []
    for difference in differences[:MAX_SHOWN]:
        sign = _SIGNS.get(difference.change, "!")
        lines.append(f"  {paint('bad', f'{sign} {difference.change}')}  {one_line(difference.path)}")
        lines.extend(
            f"      {label:<8} {one_line(text)}"
            for label, text in (
                ("expected", difference.expected),
                ("found", difference.found),
                ("cause", difference.cause),
            )
            if text
        )
    shown = min(len(differences), MAX_SHOWN)
    if total > shown:
        lines.append(f"  … and {total - shown} more (--format json lists more)")
    return "".join(f"{line}\n" for line in lines)


def as_json(differences: Sequence[Difference]) -> list[JsonValue]:
    """Return the differences as JSON values; empty texts become null."""
    return [
        {
            "path": difference.path,
            "change": difference.change.value,
            "expected": difference.expected or None,
            "found": difference.found or None,
            "cause": difference.cause or None,
        }
        for difference in differences
    ]
