"""The records of decisions: each is in the index, under its own title, and no number is left out or taken twice."""

from __future__ import annotations

import re
from pathlib import Path

RECORDS = Path(__file__).parents[2] / "docs" / "adr"
FIRST_WITHOUT_GAPS = 73
INDEX = (RECORDS / "README.md").read_text(encoding="utf-8")
FILES = sorted(path for path in RECORDS.glob("*.md") if path.name != "README.md")


def test_index_lists_each_record_once_in_order() -> None:
    assert re.findall(r"^\| \[\d{4}\]\(([^)]+)\) \| .+ \| .+ \|$", INDEX, re.MULTILINE) == [path.name for path in FILES]
    assert all(number == name[:4] for number, name in re.findall(r"\[(\d{4})\]\(([^)]+)\)", INDEX))


def test_numbers_of_records_are_unique_and_new_ones_have_no_gaps() -> None:
    numbers = [int(path.name[:4]) for path in FILES]
    assert len(numbers) == len(set(numbers))
    new = [number for number in numbers if number >= FIRST_WITHOUT_GAPS]
    assert new == list(range(FIRST_WITHOUT_GAPS, FIRST_WITHOUT_GAPS + len(new)))


def test_each_record_has_a_title_and_a_reason() -> None:
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(path.name[:4])}. "), path.name
        assert len(text.split()) > 40, path.name
