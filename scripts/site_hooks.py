"""What MkDocs does for the site beyond Markdown: navigation, links into the repository, pages made from the code.

The pages in docs/ are read on the code host too, so they link to files of the repository by relative paths. On the
site such a link leads to the repository. API reference and list of schemas exist on the site only, made from the code
that is documented, so they cannot be out of date.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SITE = "https://OWNER.github.io/wcp-attest/"  # OWNER is replaced before the first release
REPOSITORY = "https://github.com/OWNER/wcp-attest/blob/main/"  # OWNER is replaced before the first release
MODULES: tuple[str, ...] = (
    "wcp_attest",
    "wcp_attest.errors",
    "wcp_attest.policy",
    "wcp_attest.bans",
    "wcp_attest.registry",
)
MODULES += ("wcp_attest.testing", "wcp_attest.compat", "wcp_route")
# The order of reading; a page that is not named here stands at the end of the section of its folder.
NAVIGATION: dict[str, tuple[str, ...]] = {
    "Start": ("index.md", "quickstart.md", "concepts.md"),
    "Guides": (
        "howto/github.md",
        "howto/gitlab-ci.md",
        "howto/pre-commit.md",
        "howto/teams.md",
        "howto/deploy.md",
        "howto/run.md",
        "howto/store.md",
        "howto/pack.md",
        "howto/air-gapped.md",
        "howto/rotation.md",
        "howto/emergency.md",
        "howto/ban-everywhere.md",
        "howto/hall-in-production.md",
    ),
    "Router": (
        "route/README.md",
        "route/hall.md",
        "route/codes.md",
        "route/rules.md",
        "route/approvals.md",
        "route/receipts.md",
    ),
    "Reference": ("cli.md", "policy.md", "bans.md", "library.md", "deny-codes.md", "format.md", "schemas/index.md"),
    "API": ("reference/wcp_attest.md",),
    "For reviewers": ("threat-model.md", "controls.md", "reviewers-kit.md", "architecture.md", "adr/README.md"),
}
FOLDERS = {"howto": "Guides", "route": "Router", "reference": "API", "codes": "", "adr": "", "schemas": ""}
_LINK = re.compile(r"(?<!\!)(\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^(```+|~~~+).*?^\1", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"<!-- file: (\S+) -->\n(```+\w+)\n")
_CODE_HEADING = re.compile(r'(<h[12] id="[^"]+">)((?:ATTEST|DENY)_[A-Z_]+)')
_SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Yields|Examples?|Notes?):$", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Make the navigation from the pages that are there."""
    docs = Path(config.docs_dir)
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} | {"schemas/index.md"}
    pages |= {f"reference/{name}.md" for name in _modules()}
    nav: list[dict[str, list[str]]] = []
    named = {page for section in NAVIGATION.values() for page in section}
    for title, first in NAVIGATION.items():
        here = [page for page in first if page in pages]
        here += [page for page in sorted(pages - named) if FOLDERS.get(page.partition("/")[0], "Reference") == title]
        nav.append({title: here})
    config.nav = nav
    return config


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the API reference and the list of schemas."""
    for name in _modules():
        files.append(File.generated(config, f"reference/{name}.md", content=module_page(name)))
    files.append(File.generated(config, "schemas/index.md", content=_schemas_page()))
    return files


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: object) -> str:
    """Point links that leave docs/ to the repository, and show the name of a file over its content."""
    folder = posixpath.dirname(page.file.src_uri)

    def target(found: re.Match[str]) -> str:
        link, anchor = found[2], found[3] or ""
        if link.startswith(f"{SITE}latest/"):  # a page that only the site has: stay in this version
            page_of = link.removeprefix(f"{SITE}latest/").rstrip("/") + ".md"
            return f"{found[1]}{posixpath.relpath(page_of, folder or '.')}{anchor})"
        if re.match(r"[a-z]+:", link):
            return found[0]
        path = posixpath.normpath(posixpath.join(folder, link))
        if link.endswith("/") and files.get_file_from_path(f"{path}/index.md"):
            return f"{found[1]}{link}index.md{anchor})"
        if files.get_file_from_path(path) is not None:
            return found[0]
        inside = posixpath.normpath(posixpath.join("docs", path))
        if inside.startswith("..") or not (ROOT / inside).exists():
            return found[0]  # MkDocs says that it leads nowhere
        return f"{found[1]}{REPOSITORY}{inside}{anchor})"

    parts, position = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(target, markdown[position : fence.start()]), fence[0]]
        position = fence.end()
    text = "".join([*parts, _LINK.sub(target, markdown[position:])])
    return _FILE.sub(lambda found: f'{found[2]} title="{found[1]}"\n', text)


def on_post_page(output: str, **_: object) -> str:
    """Name the theme's search dialog for screen readers, and let a code in a heading break at its underscores."""
    output = _CODE_HEADING.sub(lambda found: found[1] + found[2].replace("_", "_<wbr>"), output)
    return output.replace(' role="dialog">', ' role="dialog" aria-label="Search">', 1)


def _modules() -> Iterator[str]:
    for name in MODULES:
        if importlib.util.find_spec(name) is not None:
            yield name


def module_page(name: str) -> str:
    """Return the page of a module: what it exports, from signatures and docstrings.

    Args:
        name: of the module, such as `wcp_attest`.
    """
    module = importlib.import_module(name)
    parts = [f"# {name}\n\n", _docstring(inspect.getdoc(module) or "")]
    for public in sorted(public_names(module), key=str.lower):
        parts += _entry(public, getattr(module, public))
    return "".join(parts)


def public_names(module: ModuleType) -> list[str]:
    """Return the names that a module exports; without `__all__` the classes and functions of the room it shows.

    Args:
        module: one of `MODULES`.
    """
    names = getattr(module, "__all__", None)
    if names is None:
        own = {module.__name__, module.__name__.replace("wcp_attest.", "wcp_attest.base.")}
        names = [name for name, thing in vars(module).items() if getattr(thing, "__module__", "") in own]
    return [name for name in names if not name.startswith("_")]


def _entry(name: str, thing: Any) -> Iterator[str]:
    """Yield heading, signature, docstring and members of a public name."""
    yield f"\n## {name}\n\n"
    if not (inspect.isclass(thing) or inspect.isroutine(thing)):
        yield f"A value of type `{type(thing).__name__}`.\n"
        return
    yield _signature(name, thing)
    yield _docstring(inspect.getdoc(thing) or "")
    for member, found in vars(thing).items() if inspect.isclass(thing) else ():
        inner = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
        if member.startswith("_") or not inspect.isroutine(inner) or not inner.__doc__:
            continue
        yield f"\n### {name}.{member}\n\n"
        yield "A property.\n\n" if isinstance(found, property) else _signature(f"{name}.{member}", inner)
        yield _docstring(inspect.getdoc(inner) or "")


class _Text:
    """An annotation that is shown as it is written."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _as_written(annotation: Any) -> Any:
    return _Text(annotation) if isinstance(annotation, str) else annotation


def _signature(name: str, thing: Any) -> str:
    try:
        found = inspect.signature(thing)
    except (TypeError, ValueError):
        return ""
    parameters = [one.replace(annotation=_as_written(one.annotation)) for one in found.parameters.values()]
    found = found.replace(parameters=parameters, return_annotation=_as_written(found.return_annotation))
    text = re.sub(r"<[^>]*>", "…", str(found))
    if len(name + text) > 100:
        text = "(\n    " + re.sub(r", (?=[\w*/]+(?::|=|,|\)))", ",\n    ", text[1:])
    return f"```python\n{name}{text}\n```\n\n"


def _docstring(text: str) -> str:
    """Return a docstring in Google's layout as Markdown."""
    pieces = _SECTION.split(text)
    parts = [_escaped(pieces[0].strip()) + "\n\n"]
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        lines = inspect.cleandoc("\n" + body.rstrip())
        if title in {"Args", "Attributes", "Raises"}:
            items = re.split(r"\n(?=\S)", lines)
            rows = [
                re.sub(r"^(\S[^:\n]*): ", lambda found: f"`{found[1]}`: ", " ".join(item.split())) for item in items
            ]
            parts.append(f"**{title}**\n\n" + "".join(f"- {_escaped(row)}\n" for row in rows if row) + "\n")
        else:
            parts.append(f"**{title}**\n\n{_escaped(lines)}\n\n")
    return "".join(parts)


def _escaped(text: str) -> str:
    """Escape what would be markup, outside of code."""
    parts = re.split(r"(`[^`]*`|^    .*$)", text, flags=re.MULTILINE)
    parts[::2] = [re.sub(r"([<\[*_])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def _schemas_page() -> str:
    rows = ["# JSON schemas\n\nEach is served at its `$id`, which does not change from release to release.\n"]
    for title, folder in (("wcp-attest", "schemas"), ("wcp-route", "route/schemas")):
        rows.append(f"\n## {title}\n\n| schema | of | address |\n| --- | --- | --- |\n")
        for path in sorted((ROOT / "docs" / folder).glob("*.json")):
            schema = json.loads(path.read_bytes())
            link = path.name if folder == "schemas" else f"../{folder}/{path.name}"
            rows.append(f"| [{path.name}]({link}) | {schema.get('title', '')} | `{schema['$id']}` |\n")
    return "".join(rows)
