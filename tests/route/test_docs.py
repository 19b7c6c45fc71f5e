"""The router's pages name what is there: tests, rows, codes, settings, gates, schemas."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import click

from wcp_route.cli.root import root
from wcp_route.config import HallConfig
from wcp_route.domain.codes import Code
from wcp_route.gates.table import GATES

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "route"
TESTS = {
    name
    for folder in ("route", "service")
    for path in (ROOT / "tests" / folder).glob("test_*.py")
    for name in re.findall(r"def (test_\w+)", path.read_text())
}


def test_the_table_names_tests_that_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", (PAGES / "conformance.md").read_text()))
    assert len(named) > 25
    assert named <= TESTS


def test_every_row_has_its_test_and_is_what_the_code_refers_to() -> None:
    rows = set(re.findall(r"^\| (\d+) \|", (PAGES / "conformance.md").read_text(), re.MULTILINE))
    tested = {str(int(name[5:7])) for name in TESTS if re.match(r"test_\d\d_", name)}
    assert rows == {str(number) for number in range(1, 22)}
    assert rows - tested == {"19"}  # a registry's, not a router's
    code = "".join(path.read_text() for path in (ROOT / "wcp_route").rglob("*.py"))
    assert set(re.findall(r"conformance rows? (\d+)", code)) <= rows


def test_every_code_gate_and_setting_is_documented() -> None:
    text = (PAGES / "hall.md").read_text()
    assert {code.value for code in Code} == set(re.findall(r"`(DENY_[A-Z_]+)`", text))
    assert {gate.name for gate in GATES} <= set(re.findall(r"^\| (\w+) \|", text, re.MULTILINE))
    settings = {field.name for field in fields(HallConfig)} - {"ceilings"}
    assert settings <= set(re.findall(r"`([a-z_]+)`", text)) | {"unsafe_dispatch_workers_without_attestation"}


def test_schemas_are_published_as_they_are_shipped() -> None:
    shipped = {path.name: path.read_bytes() for path in (ROOT / "wcp_route" / "schemas").glob("*.json")}
    assert shipped == {path.name: path.read_bytes() for path in (PAGES / "schemas").glob("*.json")}


def test_commands_and_options_that_pages_and_messages_name_exist() -> None:
    places = [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", *(ROOT / "wcp_route").rglob("*.py")]
    named = 0
    for path in places:
        for text in re.findall(r"(?:`|^ *(?:\$ )?)wcp-route ([a-z][^`\n]*)", path.read_text(), re.MULTILINE):
            words = re.split(r"[;|#>\"']|  ", text)[0].split()
            with click.Context(root, info_name="wcp-route") as context:
                command: click.Command | None = root
                while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z-]+", words[0].rstrip(".,)")):
                    command = command.get_command(context, words.pop(0).rstrip(".,)"))
                assert command is not None, (path.name, text)
                known = {option for one in command.params for option in one.opts} | {"--help"}
            options = {word.split("=")[0].rstrip(".,)]") for word in words if word.startswith("--")}
            assert options <= known, (path.name, text)
            named += 1
    assert named > 60
