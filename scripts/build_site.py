"""Build the site into a folder that any web server can serve, without the network: `make site`.

    build/site/0.1.0/       the pages of a version; those of other versions that are there stay
    build/site/latest/      a copy of the newest version that is no preview
    build/site/versions.json  what the selector of versions on each page reads
    build/site/schemas/     the schemas at their `$id`, from the newest version, and route/schemas/
    build/site/codes/       for each deny code, the router's too, a page that leads to it in the newest version
    build/site/index.html   leads to latest/

To publish a further version, start from the folder that is published: `--into` names it.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?")
LEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title}</title>
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="0; url={to}">
<link rel="canonical" href="{to}">
<main><h1>{title}</h1><p>This page is at <a href="{to}">{to}</a>.</p></main>
</html>
"""


def main() -> int:
    """Build the pages of the current version, and everything that stands outside of the versions."""
    parser = argparse.ArgumentParser(description="Build the site, strictly and without the network.")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "site", help="the folder of all versions")
    into: Path = parser.parse_args().into
    sys.path.insert(0, str(ROOT))
    from wcp_attest import __version__ as version

    if not _VERSION.fullmatch(version):
        raise SystemExit(f"{version} is not the version of a release")
    strangers = {path.name for path in into.iterdir()} - {".git", "CNAME"} if into.exists() else set()
    if strangers and not (into / "versions.json").is_file():
        raise SystemExit(f"{into} holds something else than a site: {min(strangers)}; name another folder")
    built = into / version
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "--site-dir", str(built)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = [line for line in done.stderr.splitlines() if not line.startswith("INFO")]
    if done.returncode or found:  # a message that is no information is a mistake of ours
        print("\n".join(found), file=sys.stderr)
        return done.returncode or 1
    versions = sorted((path.name for path in into.iterdir() if _VERSION.fullmatch(path.name)), key=_order, reverse=True)
    latest = next((name for name in versions if not re.search(r"[a-z]", name)), versions[0])
    newest = into / latest
    for folder in ("latest", "schemas", "route", "codes"):
        shutil.rmtree(into / folder, ignore_errors=True)
    shutil.copytree(newest, into / "latest")
    for folder in ("schemas", "route/schemas"):
        (into / folder).mkdir(parents=True)
        for schema in (newest / folder).glob("*.json"):
            shutil.copy(schema, into / folder)
    for page in sorted((newest / "codes").iterdir()):
        _lead(into / "codes" / page.name, page.name, f"../../latest/codes/{page.name}/")
    router = (newest / "route/codes/index.html").read_text()
    for code in re.findall(r'<h2 id="(deny_[a-z_]+)"', router):
        _lead(into / "codes" / code.upper(), code.upper(), f"../../latest/route/codes/#{code}")
    _lead(into / "schemas", "JSON schemas", "../latest/schemas/")
    _lead(into, "wcp-attest", "latest/")
    listed = [{"version": name, "title": name, "aliases": ["latest"] if name == latest else []} for name in versions]
    (into / "versions.json").write_text(json.dumps(listed, indent=1) + "\n")
    (into / ".nojekyll").touch()
    print(f"built {built}; versions: {', '.join(versions)}")
    return 0


def _order(version: str) -> tuple[int, int, int, int]:
    """Return what versions are sorted by: a preview stands before its release."""
    major, minor, patch = (int(part) for part in re.findall(r"\d+", version)[:3])
    return major, minor, patch, 0 if re.search(r"[a-z]", version) else 1


def _lead(folder: Path, title: str, to: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.html").write_text(LEAD.format(title=html.escape(title), to=html.escape(to)))


if __name__ == "__main__":
    sys.exit(main())
