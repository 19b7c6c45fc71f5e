"""The site: built strictly and offline, whole in itself, at stable addresses, and usable in a real browser."""

from __future__ import annotations

import functools
import http.server
import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

import wcp_attest
from tests.chromium import SIZES
from wcp_attest import errors
from wcp_attest.base.errors import DenyCode
from wcp_attest.base.site import SITE, code_page
from wcp_route.domain.codes import Code

if TYPE_CHECKING:
    from collections.abc import Iterator


ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/OWNER/wcp-attest/blob/main/"


def build(into: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/build_site.py"), "--into", str(into)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site, with an older version that was published before."""
    into = tmp_path_factory.mktemp("published")
    (into / "0.0.9").mkdir()
    (into / "0.0.9/index.html").write_text("<title>old</title>")
    (into / "0.2.0rc1").mkdir()
    (into / "versions.json").write_text("[]")
    done = build(into)
    assert (done.returncode, done.stderr) == (0, "")
    return into


class Html(HTMLParser):
    """What a page links to, loads, and can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids |= {found["id"]} if "id" in found else set()
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "link" and not {"canonical", "next", "prev"} & set(found.get("rel", "").split()):
            self.loaded.append(found["href"])
        self.loaded += [found[name] for name in ("src", "srcset", "data") if found.get(name)]


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    return {path: Html(path) for path in (site / "latest").rglob("*.html") if path.name != "404.html"}


def test_no_page_loads_anything_from_elsewhere(pages: dict[Path, Html]) -> None:
    assert len(pages) > 60
    for path, page in pages.items():
        assert [one for one in page.loaded if re.match(r"(https?:)?//", one)] == [], path
    for sheet in next(iter(pages)).parents[0].rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", sheet.read_text()), sheet


def test_each_link_and_anchor_leads_somewhere(pages: dict[Path, Html], site: Path) -> None:
    for path, page in pages.items():
        for link in page.links:
            target = urlsplit(link)
            if link.startswith(REPOSITORY):
                assert (ROOT / link.removeprefix(REPOSITORY).partition("#")[0]).exists(), f"{path}: {link}"
            if target.scheme or target.netloc:
                continue
            found = (path.parent / unquote(target.path)).resolve() if target.path else path
            found = found / "index.html" if found.is_dir() else found
            assert found.exists(), f"{path.relative_to(site)}: {link}"
            if target.fragment and found in pages:
                assert unquote(target.fragment) in pages[found].ids, f"{path.relative_to(site)}: {link}"


def test_each_deny_code_has_a_stable_address_that_leads_to_its_page(site: Path) -> None:
    for code in DenyCode:
        path = site / code_page(code).removeprefix(SITE) / "index.html"
        to = re.search(r'url=([^"]+)"', path.read_text())
        assert to, code
        page = (path.parent / to[1] / "index.html").resolve()
        assert f'<h1 id="{code.lower()}">' in page.read_text(), code


def test_each_code_of_the_router_has_a_stable_address_and_says_what_to_do(site: Path) -> None:
    page = (ROOT / "docs/route/codes.md").read_text()
    sections = dict(re.findall(r"^## (DENY_\w+)\n\n(.*?)(?=^## )", page, re.MULTILINE | re.DOTALL))
    assert list(sections) == [code.value for code in Code]
    html = Html(site / "latest/route/codes/index.html")
    for code, text in sections.items():
        assert "*What to do*: " in text, code
        assert re.search(r"^```(console|python)$", text, re.MULTILINE), f"{code} has no example of its own"
        to = re.search(r'url=([^"]+)"', (site / "codes" / code / "index.html").read_text())
        assert to, code
        assert to[1] == f"../../latest/route/codes/#{code.lower()}"
        assert code.lower() in html.ids, code


def test_each_schema_is_served_at_its_id(site: Path) -> None:
    schemas = [*(ROOT / "wcp_attest/schemas").glob("*.json"), *(ROOT / "wcp_route/schemas").glob("*.json")]
    assert len(schemas) > 40
    for path in schemas:
        address = json.loads(path.read_bytes())["$id"]
        assert address.startswith(SITE), path
        assert (site / address.removeprefix(SITE)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("module", ["wcp_attest", "wcp_route", "wcp_attest.errors", "wcp_attest.policy"])
def test_reference_documents_each_public_name(site: Path, module: str) -> None:
    page = (site / "latest/reference" / module / "index.html").read_text()
    found = importlib.import_module(module)
    names = [name for name in getattr(found, "__all__", dir(errors)) if not name.startswith("_")]
    names = [
        name for name in names if inspect.isclass(getattr(found, name)) or inspect.isfunction(getattr(found, name))
    ]
    names = [name for name in names if getattr(found, name).__module__.startswith("wcp_")]
    assert names
    for name in names:
        assert f'id="{name.lower()}"' in page, name


def test_reference_says_what_verify_returns_and_raises(site: Path) -> None:
    text = re.sub(r"<[^>]+>", "", (site / "latest/reference/wcp_attest/index.html").read_text())
    about = text[text.index("verify(") :]
    for word in ("Args", "Returns", "Raises", "ConfigError", "now: float | None = None"):
        assert word in about
    assert "key_id: str = &#39;&#39;" in text or "key_id: str = ''" in text


def test_older_versions_and_previews_stay_and_the_newest_release_is_latest(site: Path) -> None:
    listed = json.loads((site / "versions.json").read_text())
    newest = wcp_attest.__version__
    assert [(one["version"], one["aliases"]) for one in listed] == [
        ("0.2.0rc1", []),
        (newest, ["latest"]),
        ("0.0.9", []),
    ]
    assert (site / "0.0.9/index.html").read_text() == "<title>old</title>"
    assert (site / "latest/index.html").read_bytes() == (site / newest / "index.html").read_bytes()


def test_page_with_a_dead_link_is_not_built(tmp_path: Path) -> None:
    for name in ("docs", "scripts"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("wcp_attest", "wcp_route", "examples", "action"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("mkdocs.yml", "README.md", "SECURITY.md"):
        shutil.copy(ROOT / name, tmp_path)
    with (tmp_path / "docs/concepts.md").open("a") as page:
        page.write("\n[nowhere](nothing.md), [no section](policy.md#no-such-section)\n")
    command = [sys.executable, str(tmp_path / "scripts/build_site.py"), "--into", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 1
    assert "nothing.md" in done.stderr
    assert "#no-such-section" in done.stderr


def test_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes/mine.txt").write_text("keep")
    done = build(tmp_path)
    assert done.returncode == 1
    assert "holds something else than a site: codes" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["codes", "mine.txt"]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def base(site: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_pages_fit_are_accessible_and_ask_no_other_host(browser: Any, base: str, size: str, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = browser.new_page(viewport=SIZES[size], color_scheme=scheme)
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    for path in ("", "quickstart/", "policy/", "reference/wcp_attest/") if scheme == "light" else ("", "quickstart/"):
        page.goto(f"{base}/latest/{path}", wait_until="load")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= SIZES[size]["width"], f"{path} is wider than the screen"
        found = Axe().run(page).response["violations"]
        # A block that scrolls sideways is reached by the keyboard in browsers, and has no role that names it.
        serious = [one for one in found if one["impact"] in {"serious", "critical"}]
        told = [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in serious]
        assert told == [], f"{path}: {told}"
    assert asked == {urlsplit(base).netloc}
    page.close()


def test_role_picker_search_and_versions_lead_on(browser: Any, base: str) -> None:
    page = browser.new_page(viewport=SIZES["desktop"])
    page.set_default_timeout(15000)
    page.goto(f"{base}/")
    page.wait_for_url(f"{base}/latest/")
    for role in ("Sign", "Deploy", "Review", "Code", "Dispatch", "Audit"):
        assert page.locator(f"h3#{role.lower()}").is_visible()
    assert page.locator(".md-version").inner_text().strip().startswith(wcp_attest.__version__)
    search, found = page.get_by_placeholder("Search").first, page.locator(".md-search-result__link").first
    for _ in range(15):  # the page hears what is typed only once its script has begun and loaded the index
        search.blur()  # the script listens to the focus and to keys, and who has the focus does not get it again
        search.fill("")
        search.press_sequentially("quarantine")
        page.wait_for_timeout(1000)
        if found.is_visible():
            break
    found.wait_for()
    page.keyboard.press("Escape")
    page.locator(".roles").get_by_role("link", name="Threat model").click()
    page.wait_for_url("**/threat-model/")
    page.goto(f"{base}/codes/ATTEST_BANNED/")
    page.wait_for_url(f"{base}/latest/codes/ATTEST_BANNED/")
    page.close()
