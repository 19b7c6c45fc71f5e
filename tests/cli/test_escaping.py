"""One escaping for every output: nothing that others wrote moves a terminal or is a command to a runner."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cli.command import Command
from wcp_attest.cli.text import Painter, json_text, one_line, printable, render

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "##[set-output name=verified]true",
    "###[stop-commands]x",
    "##vso[task.setvariable variable=verified]true",
    "###vso[task.complete result=Succeeded;]x",
    "##teamcity[buildStatus status='SUCCESS']",
    "::stop-commands::x",
    "  ::set-output name=verified::true",
    "a\n::error::x",
    "a\n \t::error::x",
    "\x85::error::x",
    "\u2028::error::x",
    "\x1b[2J\x1b]0;title\x07",
)
TEXTS = st.one_of(
    st.text(st.sampled_from("#[v:\n \x1b\r\x0b\x85\u00a0\u2028a\\")),
    st.text(),
    st.lists(st.sampled_from(HOSTILE)).map("".join),
)


def obeyed(text: str) -> bool:
    """Tell whether a line is a command to GitHub's runner (`ActionCommand`), Azure Pipelines or TeamCity."""
    marks = re.compile(r"##[A-Za-z]*\[")
    return any(marks.search(line) or line.strip().startswith("::") for line in re.split(r"[\r\n]", text))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_runner_finds_no_command_in_text(text: str) -> None:
    assert not obeyed(printable(text))
    assert not obeyed(json_text({text: [text]}))


@given(TEXTS)
def test_text_of_others_is_inert(text: str) -> None:
    for shown in (printable(text), one_line(text), render(f"{Painter(on=False)('bad', 'DENIED')}\n{text}")):
        assert not obeyed(shown)
        assert all(line.isprintable() for line in shown.split("\n"))
    assert "\n" not in one_line(text)


@given(st.recursive(TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner)))
def test_json_says_the_same_and_is_inert(value: object) -> None:
    written = json_text(value)  # type: ignore[arg-type]
    assert json.loads(written) == value
    assert not obeyed(written)


def test_verify_prints_no_command_for_a_hostile_file_name(tmp_path: Path) -> None:
    wcp = Command(tmp_path)
    package = tmp_path / "w"
    package.mkdir()
    (package / "a").write_text("1")
    wcp.ok("keygen", "k", "--no-passphrase")
    identity = ("--worker-id", "org.acme.w", "--species-id", "wrk.a.b", "--worker-version", "1")
    wcp.ok("sign", "w", "--key", "k", *identity)
    for number, name in enumerate(("##[set-output name=verified]true", "::stop-commands::x", "##vso[task.x]")):
        (package / name).write_text(str(number))
    for form in ("text", "json", "sarif"):
        run = wcp("verify", "w", "--worker-id", "org.acme.w", "--public-key", "k.pub", "--format", form)
        assert run.status == 1
        assert "set-output" in run.out
        assert not obeyed(run.out + run.err)
    annotations = wcp("verify", "w", "--worker-id", "org.acme.w", "--public-key", "k.pub", "--format", "github").out
    # A line that begins with `::` is parsed as that one command; `##[` in it means nothing then.
    assert all(line.startswith("::error ") for line in annotations.splitlines())
