"""The first page: a package index can render it, and its links lead to files of the repository."""

import re
from pathlib import Path

from readme_renderer import markdown

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_index_renders_readme_with_its_tables() -> None:
    page = markdown.render(README)
    assert page is not None
    assert page.count("<table>") == 2
    assert "pip install ." in re.sub(r"<[^>]+>", "", page)


def test_links_of_readme_lead_to_files() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if not link.startswith("https://")]
    assert len(links) > 20
    assert [link for link in links if not (ROOT / link).exists()] == []
