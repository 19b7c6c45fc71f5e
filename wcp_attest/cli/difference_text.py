"""How a tree differs from its manifest, in words and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from wcp_attest.cli.option_groups import OUTPUT, grouped
from wcp_attest.cli.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.differences import Difference
    from wcp_attest.base.strictjson import JsonValue
    from wcp_attest.cli.text import Painter

MAX_ALIKE = 2  # differences of one kind and one cause in text
_SIGNS = {"added": "+", "missing": "-"}
MAX_SHOWN = 50  # differences in text; JSON has all that were listed


option = grouped(
    OUTPUT, click.option("--all", "every", is_flag=True, help="List each difference, also those that are alike.")
)


def as_text(differences: Sequence[Difference], total: int, paint: Painter, *, every: bool = False) -> str:
    """Return one to three lines for each difference; of those that are alike, the first few and the number of others.

    Args:
        differences: those that are listed.
        total: how many there are, listed or not.
        paint: colours.
        every: whether all that are listed are shown.
    """
    lines: list[str] = []
    alike = Counter(map(_kind, differences))
    seen: Counter[tuple[str, str]] = Counter()
    shown = 0
    for difference in differences:
        kind = _kind(difference)
        seen[kind] += 1
        if not every and alike[kind] > MAX_ALIKE + 1 and seen[kind] > MAX_ALIKE:
            if seen[kind] == alike[kind]:
                more = alike[kind] - MAX_ALIKE
                lines.append(f"  … and {more} more ({difference.change}) with the same cause; --all lists each")
            shown += 1
            continue
        if not every and shown >= MAX_SHOWN:
            break
        shown += 1
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
    if total > shown:
        lines.append(f"  … and {total - shown} more (--format json lists more)")
    return "".join(f"{line}\n" for line in lines)


def _kind(difference: Difference) -> tuple[str, str]:
    """Return what makes differences alike: the change with its cause. One without a known cause is like no other."""
    return difference.change.value, difference.cause or f"\0{difference.path}"


def as_json(differences: Sequence[Difference]) -> list[JsonValue]:
    """Return the differences as JSON values; empty texts become null."""
    return [{**difference.to_dict()} for difference in differences]
