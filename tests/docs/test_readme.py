"""The first page: a package index can render it, and all its links work there, too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from readme_renderer import markdown

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REPOSITORY = "https://github.com/OWNER/wcp-attest/blob/main/"
RAW = "https://raw.githubusercontent.com/OWNER/wcp-attest/main/"


def test_index_renders_readme_with_its_tables_and_pictures() -> None:
    page = markdown.render(README)
    assert page is not None
    assert page.count("<table>") == 2
    assert page.count("<img") == 3
    assert re.search(r"pip install (\.|wcp-attest)", re.sub(r"<[^>]+>", "", page))


def test_links_of_readme_are_whole_addresses_of_files_that_are_there() -> None:
    links = re.findall(r"\]\(([^)#]+)", README)
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://")] == []
    ours = [link for link in links if link.startswith((REPOSITORY, RAW))]
    assert len(ours) > 20
    paths = [link.removeprefix(REPOSITORY).removeprefix(RAW) for link in ours]
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    command = [sys.executable, str(ROOT / "scripts/draw_pictures.py"), "--into", str(folder)]
    subprocess.run(command, check=True, timeout=120)
    return folder


@pytest.mark.parametrize("name", ["terminal.svg", "performance.svg"])
def test_pictures_show_what_the_program_says_and_what_was_measured(drawn: Path, name: str) -> None:
    assert (drawn / name).read_text() == (ROOT / "docs/pictures" / name).read_text(), "run scripts/draw_pictures.py"
