"""Make the tree ready for a release, and say what still keeps it from one.

    python scripts/prepare_release.py owner NAME      put the repository's owner in place of OWNER, everywhere
    python scripts/prepare_release.py index           say on the pages how to install it from the package index
    python scripts/prepare_release.py commit SHA      after the release: put its commit in place of COMMIT on the pages
    python scripts/prepare_release.py check TAG       exit with 1 and one line for each thing that is not as it must be

Nothing but files that git tracks is read or written. Records and tests of this script keep the placeholders.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("docs/adr/", "tests/release/", "scripts/prepare_release.py")
OWNER = re.compile(r"\bOWNER(?=/wcp-attest\b|\.github\.io\b)|\bworkerclassprotocol(?=/wcp-attest\b)")
COMMIT = re.compile(r"(?<=@)COMMIT\b(?= # v)|(?<=rev: )COMMIT\b")
# What explains the placeholders goes with them.
EXPLAINED = re.compile(
    r" *# ?OWNER is replaced before the first release|`OWNER` is the home of the wcp-attest repository, (?=`COMMIT`)"
    r"|Below, `OWNER` is the home of this repository and `COMMIT` such a commit\.\n?"
)


# What the pages say while there is nothing on the package index, and what they say then.
UNPUBLISHED = (
    (
        re.compile(
            r", not yet on the package index\. Install it from a checkout, or from a wheel that you built\n\([^)]*\)\."
        ),
        ".",
    ),
    (re.compile(r"^pip install \. +# in a checkout.*$", re.MULTILINE), "pip install wcp-attest"),
    (
        re.compile(r"^pip wheel --wheel-dir wheels \. +# in a checkout.*$", re.MULTILINE),
        "pip wheel --wheel-dir wheels wcp-attest",
    ),
)


def tracked() -> list[Path]:
    """Return the text files that git tracks, without those that keep the placeholders."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [ROOT / name for name in done.stdout.split("\0") if name and not name.startswith(KEPT)]
    return [path for path in paths if path.is_file() and not path.is_symlink() and b"\0" not in path.read_bytes()]


def replace(*changes: tuple[re.Pattern[str], str], suffix: str = "") -> int:
    """Make changes in every file whose name ends so; return how many files are others now."""
    changed = 0
    for path in tracked():
        if not path.name.endswith(suffix):
            continue
        text = wanted = path.read_bytes().decode()
        for pattern, value in changes:
            wanted = pattern.sub(value, wanted)
        if wanted != text:
            path.write_bytes(wanted.encode())
            changed += 1
    return changed


def problems(tag: str) -> list[str]:
    """Return what keeps this tree from being released under a tag."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    found = []
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, and pyproject.toml says {version}: tag v{version}, or change the version")
    said = re.search(r'^__version__ = "(.+)"$', (ROOT / "wcp_attest" / "__init__.py").read_text(), re.MULTILINE)
    if said is None or said[1] != version:
        found.append(f"wcp_attest/__init__.py has another version than pyproject.toml, {version}")
    heading = re.search(rf"^## {re.escape(version)}\b(.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if heading is None or not re.fullmatch(r", \d{4}-\d{2}-\d{2}", heading[1]):
        found.append(f"CHANGELOG.md has no line `## {version}, YYYY-MM-DD`")
    products = re.findall(r"pkg:pypi/wcp-attest@([^\"]+)", json.dumps(json.loads((ROOT / "vex.json").read_text())))
    if set(products) != {version}:
        found.append(f"vex.json speaks of other versions than {version}")
    for path in tracked():
        text = path.read_bytes().decode()
        if path.suffix == ".md" and path.name != "CHANGELOG.md" and re.search(r"not (yet )?on the package index", text):
            found.append(
                f"{path.relative_to(ROOT)} says that it is not on the package index: `prepare_release.py index`"
            )
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(r"\bOWNER(/wcp-attest\b|\.github\.io\b)", line):
                found.append(f"{path.relative_to(ROOT)}:{number} still says OWNER: `prepare_release.py owner NAME`")
                break
    return found


def main(arguments: list[str]) -> int:
    """Do what the arguments say; return the exit status."""
    match arguments:
        case ["owner", name] if re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?", name):
            print(f"replaced in {replace((OWNER, name), (EXPLAINED, ''))} files; now `make test`, and commit")
        case ["index"]:
            print(f"changed {replace(*UNPUBLISHED, suffix='.md')} pages")
        case ["commit", commit] if re.fullmatch(r"[0-9a-f]{40}", commit):
            print(f"replaced in {replace((COMMIT, commit))} files")
        case ["check", tag]:
            found = problems(tag)
            print("\n".join(found) or f"{tag} can be released")
            return 1 if found else 0
        case _:
            print(
                "usage: prepare_release.py owner NAME | index | commit SHA (40 hex digits) | check TAG", file=sys.stderr
            )
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
