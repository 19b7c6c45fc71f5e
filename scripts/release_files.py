"""Write what a release has beside its code: manual pages, completions, an SBOM. All of it from what is there already.

    python scripts/release_files.py DIR      share/man/man1/*.1, completions for bash, zsh and fish, wcp-attest.cdx.json

Manual pages and completions come from the commands themselves, the SBOM (CycloneDX 1.6) from requirements/run.txt. The
same sources give the same bytes. The wheel brings all of it (hatch_build.py), so this needs click and nothing else.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

ROOT = Path(__file__).resolve().parents[1]
SBOM = "wcp-attest.cdx.json"
PLACES = {  # where shells look for completions below a prefix
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}
_PINNED = re.compile(r"([a-z0-9._-]+)(?:\[[^]]*\])?==([^\s;\\]+)\s*(?:;\s*([^\\]+?))?\s*\\?$")


def files() -> dict[str, str]:
    """Return the text of every file, by its path below a prefix; the SBOM stands at the top."""
    found = {SBOM: sbom()}
    for program, title, root in _programs():
        for name, text in _pages(program, title, root):
            found[f"share/man/man1/{name}.1"] = text
        for shell, place in PLACES.items():
            found[place.format(program)] = completion(program, root, shell)
    return found


def version() -> str:
    """Return the version of the project."""
    return str(_project()["version"])


def completion(program: str, root: click.Command, shell: str) -> str:
    """Return the script that teaches a shell to complete a program."""
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise SystemExit(f"click knows no shell {shell}")
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    return ShellComplete.source(kind(root, {}, program, variable)) + "\n"


def sbom() -> str:
    """Return the SBOM: each package that the lock names, its files' digests, and who asks for it."""
    project = _project()
    own = f"pkg:pypi/{project['name']}@{project['version']}"
    rows = _locked()
    purls = {name: f"pkg:pypi/{name}@{row['version']}" for name, row in rows.items()}
    needs: dict[str, set[str]] = {name: set() for name in (own, *purls.values())}
    for name, row in rows.items():
        for asking in row["via"]:
            needs[purls.get(asking, own)].add(purls[name])
    components = [
        {
            "type": "library", "bom-ref": purls[name], "name": name, "version": row["version"], "purl": purls[name],
            "properties": [
                *([{"name": "wcp:marker", "value": row["marker"]}] if row["marker"] else []),
                *({"name": "wcp:locked-sha256", "value": digest} for digest in row["digests"]),
            ],
        }
        for name, row in sorted(rows.items())
    ]  # fmt: skip
    value: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "pre-build"}],
            "component": {
                "type": "application", "bom-ref": own, "purl": own,
                "name": project["name"], "version": project["version"],
                "licenses": [{"license": {"id": project["license"]}}], "description": project["description"],
            },
        },
        "components": components,
        "dependencies": [{"ref": ref, "dependsOn": sorted(wanted)} for ref, wanted in sorted(needs.items())],
    }  # fmt: skip
    text = json.dumps(value, sort_keys=True)
    value["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, text)}"
    return json.dumps(value, indent=1) + "\n"


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def _locked() -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for line in (ROOT / "requirements" / "run.txt").read_text().splitlines():
        pinned = _PINNED.match(line)
        if pinned is not None:
            row = rows[pinned[1]] = {"version": pinned[2], "marker": pinned[3], "digests": [], "via": []}
        elif (digest := re.search(r"--hash=sha256:([0-9a-f]{64})", line)) is not None:
            row["digests"].append(digest[1])
        elif (asking := re.match(r"    #   (?:via )?([a-z0-9._-]+)", line.replace("# via ", "#   "))) is not None:
            row["via"].append(asking[1])
    return rows


def _programs() -> Iterator[tuple[str, str, click.Group]]:
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from wcp_attest.cli.command_table import root as attest
    from wcp_route.cli.root import root as route

    yield "wcp-attest", "sign worker packages and verify them fail closed", attest
    yield "wcp-route", "route only to workers that are attested", route


def _pages(program: str, title: str, root: click.Group) -> Iterator[tuple[str, str]]:
    import click

    context = click.Context(root, info_name=program)
    commands = {name: root.get_command(context, name) for name in root.list_commands(context)}
    body = [*_text(root.help or "")]
    body.append(".SH COMMANDS\n")
    for name, command in commands.items():
        if command is None:
            raise SystemExit(f"the command {name} cannot be loaded")
        short = command.get_short_help_str(200)
        body.append(f".TP\n.BR {_roff(f'{program}-{name}')} (1)\n{_roff(short)}\n")
        page = [_head(f"{program}-{name}", short), *_command(command, f"{program} {name}", "SH")]
        page.append(f".SH SEE ALSO\n.BR {_roff(program)} (1)\n")
        yield f"{program}-{name}", "".join(page)
    usage = f".SH SYNOPSIS\n.B {_roff(program)}\nCOMMAND [OPTIONS] [ARGS]...\n.SH DESCRIPTION\n"
    yield program, "".join([_head(program, title), usage, *body, *_options(root, context, "SH")])


def _command(command: click.Command, path: str, level: str) -> Iterator[str]:
    """Describe a command, and those below it as sections of the same page."""
    import click

    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    yield f".{level} {'SYNOPSIS' if level == 'SH' else _roff(path)}\n.B {_roff(path)}\n{_roff(usage)}\n"
    yield ".SH DESCRIPTION\n" if level == "SH" else ".PP\n"
    yield from _text(command.help or "")
    yield from _options(command, context, level)
    if isinstance(command, click.Group):
        yield ".SH COMMANDS\n"
        for name, one in command.commands.items():
            yield from _command(one, f"{path} {name}", "SS")


def _options(command: click.Command, context: click.Context, level: str) -> Iterator[str]:
    records = [record for each in command.get_params(context) if (record := each.get_help_record(context)) is not None]
    if records:
        yield ".SH OPTIONS\n" if level == "SH" else ".PP\nOptions:\n"
    for option, about in records:
        if about:
            yield f".TP\n.B {_roff(option)}\n{_roff(about)}\n"


def _head(name: str, short: str) -> str:
    title = f'.TH {_roff(name.upper())} 1 "" "wcp\\-attest {_roff(version())}"\n'
    return f"{title}.SH NAME\n{_roff(name)} \\- {_roff(short)}\n"


def _text(text: str) -> Iterator[str]:
    """Turn a help text into paragraphs; those that click must not wrap, behind a `\\b`, stay as they are."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph.lstrip().startswith("\b"):
            yield ".PP\n.nf\n" + "".join(f"{_roff(line)}\n" for line in paragraph.splitlines()[1:]) + ".fi\n"
        else:
            yield f".PP\n{_roff(' '.join(paragraph.split()))}\n"


def _roff(text: str) -> str:
    text = " ".join(text.splitlines()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def main() -> None:
    """Write all files below the directory that is given."""
    base = Path(sys.argv[1])
    for name, text in files().items():
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    print(f"wrote {len(files())} files below {base}")


if __name__ == "__main__":
    main()
