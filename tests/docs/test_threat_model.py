"""Each claim of the threat model names tests that attack it, and they exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/threat-model.md").read_text(encoding="utf-8")


def names_of_tests() -> set[str]:
    found = set()
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found.add(node.name)
    return found


def rows(heading: str) -> list[str]:
    """Return the rows of the tables of a section, without their heads."""
    section = re.split(r"^## ", PAGE.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    tables = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    return [row for table in tables for row in table.splitlines()[2:]]


def test_each_named_test_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 35
    assert named - names_of_tests() == set()


def test_each_claim_and_each_attacker_names_a_test() -> None:
    for heading, least in (("What is proved", 8), ("Against whom", 8), ("The router", 8)):
        found = rows(heading)
        assert len(found) >= least, heading
        for row in found:
            assert "`test_" in row, row


def test_each_numbered_claim_is_in_the_table() -> None:
    section = PAGE.partition("\n## What is proved\n")[2].partition("\n## ")[0]
    claims = set(re.findall(r"^(\d)\. ", section, re.MULTILINE))
    assert claims == {row[2] for row in rows("What is proved") if row[2].isdigit()}


def test_each_cell_of_the_stores_names_a_test_in_the_file_it_links_to() -> None:
    section = PAGE.partition("\n## Who can change what runs\n")[2].partition("\n## ")[0]
    tests = {
        number: (name, file)
        for number, name, file in re.findall(r"^(\d+)\. \[`(test_\w+)`\]\((.+)\)$", section, re.MULTILINE)
    }
    for name, file in tests.values():
        assert f"def {name}(" in (TESTS.parent / "docs" / file).resolve().read_text(encoding="utf-8"), name
    used: set[str] = set()
    found = rows("Who can change what runs")
    assert len(found) == 6
    for row in found:
        attacker, *cells = row.strip("| ").split(" | ")
        assert len(cells) == 3
        for cell in cells:
            marks = re.search(r"\(([\d, ]+)\)\Z", cell)
            assert (marks is None) == (attacker == "root"), row
            used |= set(marks[1].split(", ")) if marks else set()
    assert used == set(tests)
