"""`wcp-attest check`: do the manifests of the next commit match their files?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wcp_attest.cli import difference_text
from wcp_attest.cli.failure_report import REFUSED
from wcp_attest.cli.option_groups import GroupedCommand
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.staged_manifests import Examination, checking_arguments, examine_all, repair, targets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.cli.formats.report import Report
    from wcp_attest.cli.text import Painter

RULE_ID = "WCP_STALE_MANIFEST"


@click.command(cls=GroupedCommand)
@checking_arguments
@difference_text.option
@reporting("text", "json", "sarif", "github")
def check(out: Output, packages: tuple[str, ...], file: str | None, cache: bool | None, every: bool) -> int:
    """Check that the manifests in the git index match the files in the index.

    Reads names, modes and contents from the index, never from the work tree, and changes nothing. Without ROOT every
    package in `wcp-attest.toml` or `[tool.wcp-attest]` is checked. Signatures are not checked; use `verify`.
    """
    examinations = examine_all(targets(packages, file), cache, out)
    wrong = any(not examination.ok for examination in examinations)
    match out.format:
        case "text":
            out.decide(as_text(examinations, out.paint, every=every))
            for examination in examinations:
                for note in examination.notes:
                    out.note(f"note: {examination.target.directory}: {note}")
        case "json":
            out.deliver_json("check-result", as_json(examinations))
        case _:
            from wcp_attest.cli.formats import render_report

            out.deliver_commands(render_report(report_of(examinations), out.format))
    return REFUSED if wrong else 0


def as_text(examinations: Sequence[Examination], paint: Painter, *, every: bool = False) -> str:
    """Return the outcome in words; when something is wrong, the last line is the command that repairs it."""
    text = ""
    for examination in examinations:
        head = paint("good", "UP TO DATE") if examination.ok else paint("bad", "STALE")
        text += f"{head}  {examination.target.directory}\n"
        text += "".join(f"  {problem}\n" for problem in examination.problems)
        text += difference_text.as_text(examination.differences, examination.total, paint, every=every)
    command = repair(examinations)
    return text + (f"to repair:\n  {command}\n" if command else "")


def as_json(examinations: Sequence[Examination]) -> JsonObject:
    """Return the outcome as JSON."""
    ok = all(examination.ok for examination in examinations)
    return {
        "ok": ok,
        "exit_status": 0 if ok else REFUSED,
        "packages": [
            {
                "root": examination.target.directory,
                "ok": examination.ok,
                "problems": list(examination.problems),
                "differences": difference_text.as_json(examination.differences),
                "differences_total": examination.total,
                "notes": list(examination.notes),
            }
            for examination in examinations
        ],
        "repair": repair(examinations) or None,
    }


def report_of(examinations: Sequence[Examination]) -> Report:
    """Return the outcome as findings with places."""
    from wcp_attest.cli.formats.report import Finding, Report, ReportRule, describe, place

    wrong = [examination for examination in examinations if not examination.ok]
    command = repair(examinations)
    rule = ReportRule(RULE_ID, "`manifest.json` does not say what is in the package.", (command,) if command else ())
    findings = []
    for examination in wrong:
        root = examination.target.directory
        findings += [Finding(rule, place(root, examination.place), problem) for problem in examination.problems]
        findings += [Finding(rule, place(root, item.path), describe(item)) for item in examination.differences]
    summary = f"{len(wrong)} of {len(examinations)} manifests stale" if wrong else "every manifest is up to date"
    return Report(".", tuple(findings), summary, decided=True, exit_status=REFUSED if wrong else 0)
