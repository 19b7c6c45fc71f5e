"""Every page says what is true: its examples run, its links lead somewhere, what is generated is current."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.runner import Page, commands_of, matches
from wcp_attest.base.errors import DenyCode
from wcp_attest.deny_code_help import EXPLANATIONS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
WITH_EXAMPLES = [page for page in PAGES if re.search(r"^```(console|python)", page.read_text(), re.MULTILINE)]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=name_of)
def test_examples_run_as_shown(path: Path, tmp_path: Path) -> None:
    page = Page(path.read_text(), tmp_path)
    page.run()


def test_the_first_pages_have_examples() -> None:
    assert {"README.md", "docs/quickstart.md", "docs/library.md", "docs/policy.md"} <= set(map(name_of, WITH_EXAMPLES))


@pytest.mark.parametrize("path", sorted({*PAGES, *ROOT.glob("*.md"), *ROOT.glob("*/README.md")}), ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for target in _LINK.findall(text):
        if re.match(r"https?:|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        assert page.exists(), f"{name_of(path)} links to {target}"
        if anchor and page.suffix == ".md":
            assert anchor in anchors_of(page), f"{name_of(path)} links to {target}"


def anchors_of(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_schemas_are_published_as_they_are_shipped() -> None:
    shipped = {path.name: path.read_bytes() for path in (ROOT / "wcp_attest/schemas").glob("*.json")}
    assert shipped == {path.name: path.read_bytes() for path in (ROOT / "docs/schemas").glob("*.json")}


def test_no_page_hides_a_command() -> None:
    """What a reader has to type is on the page; comments steer only what is no command."""
    for page in PAGES:
        assert "<!-- run:" not in page.read_text(), name_of(page)


def test_the_runner_notices_what_is_not_as_shown() -> None:
    assert list(commands_of("$ a \\\n  b\nx\n\n$ c\n")) == [("a \\\n  b", "x\n"), ("c", "")]
    assert matches("a … d\n…\ne", "a b c d\nmore\nlines\ne\n")
    assert matches("", "")
    assert not matches("a", "a\nb\n")
    assert not matches("a\nb", "a\n")


def test_the_runner_demands_the_status_that_is_shown(tmp_path: Path) -> None:
    Page("```console\n$ exit 3  # exit status 3\n```\n", tmp_path).run()
    with pytest.raises(AssertionError):
        Page("```console\n$ exit 3\n```\n", tmp_path).run()
    with pytest.raises(AssertionError):
        Page("```console\n$ echo a\nb\n```\n", tmp_path).run()
    with pytest.raises(ZeroDivisionError):
        Page("```python\n1 / 0\n```\n", tmp_path).run()
    Page("<!-- file: x -->\n```text\nhello\n```\n```console\n$ test -f x\n```\n", tmp_path).run()
    Page("<!-- skip: no network -->\n```console\n$ false\n```\n", tmp_path).run()


def test_every_deny_code_has_its_page_and_no_page_is_left_over() -> None:
    pages = {path.stem: path.read_text() for path in (ROOT / "docs/codes").glob("*.md")}
    assert set(pages) == {code.value for code in DenyCode}
    listed = re.findall(r"\]\(codes/(\w+)\.md\)", (ROOT / "docs/deny-codes.md").read_text())
    assert listed == [code.value for code in DenyCode]
    for code, text in pages.items():  # each shows the denial itself; the examples are run like all others
        example = text.partition("## Example\n")[2]
        assert re.search(rf"^\$ .*verify .*# exit status [12]\n.*DENIED  \S+  {code}$", example, re.MULTILINE), code
    assert list(EXPLANATIONS) == list(DenyCode)
    for page in EXPLANATIONS.values():
        assert page.what
        assert page.why
        assert page.fix


def test_every_key_of_a_policy_is_documented() -> None:
    readers = [
        ROOT / "wcp_attest" / name
        for name in ("trust/policy_file.py", "trust/bans/bans_table.py", "trust/registry/registry_table.py")
    ]
    reading = re.compile(r'(?:text|integer|flag|texts|age|table|tables)\("([a-z_]+)"')
    keys = {key for path in readers for key in reading.findall(path.read_text())}
    assert {"version", "namespace", "threshold", "max_age", "trusted_root"} <= keys
    documented = (ROOT / "docs/policy.md").read_text() + (ROOT / "docs/bans.md").read_text()
    assert {key for key in keys if not re.search(rf"\b{key}\b", documented)} == set()
