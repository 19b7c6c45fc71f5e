"""The table of failures names tests that exist, and every failure that the tests know stands in it."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bans.md").read_text()


def test_every_row_is_shown_by_tests_that_exist() -> None:
    sources = [path.read_text() for room in ("bans", "registry") for path in (ROOT / "tests" / room).glob("test_*.py")]
    known = set(re.findall(r"def (test_\w+)\(", "\n".join(sources)))
    rows = re.findall(r"^\|[^|]+\|[^|]+\| (`test_.*`) \|$", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(test_\w+)`", row)}
    table = PAGE.partition("| failure | outcome | shown by |\n")[2].partition("\n\n")[0]
    assert len(rows) == len(table.splitlines()) - 1
    assert len(rows) > 30
    assert named <= known, named - known
