"""From what `wcp-attest` said to what the job keeps: one JSON file, one SARIF file, annotations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from action.workflow import TITLE, escape
from wcp_attest.base.differences import Change, Difference
from wcp_attest.base.errors import DenyCode
from wcp_attest.cli.formats import render_report
from wcp_attest.cli.formats.report import Finding, Report, ReportRule, describe, from_verdict, place
from wcp_attest.cli.text import printable
from wcp_attest.verdict import Verdict

if TYPE_CHECKING:
    from action.commands import Outcome

SCHEMA_VERSION: Final = 1
_MISTAKES: Final = ("usage", "config", "signing", "system")
MAX_ANNOTATIONS: Final = 10  # a job shows no more of one step


def to_json(mode: str, outcomes: Sequence[Outcome]) -> str:
    """Return the whole result."""
    packages = [{"path": outcome.package, **outcome.result} for outcome in outcomes]
    result = {"schema_version": SCHEMA_VERSION, "kind": "action-result", "mode": mode, "packages": packages}
    return json.dumps(result, indent=2) + "\n"


def to_sarif(outcomes: Sequence[Outcome]) -> str:
    """Return one SARIF log with a run for each package."""
    logs = [json.loads(render_report(report_of(outcome), "sarif")) for outcome in outcomes]
    merged = {**logs[0], "runs": [run for log in logs for run in log["runs"]]}
    return json.dumps(merged, indent=2) + "\n"


def annotation_lines(outcomes: Sequence[Outcome]) -> list[str]:
    """Return workflow commands for what was not verified, the decisions before the single files."""
    each = [_annotations(outcome) for outcome in outcomes if not outcome.ok]
    lines = [commands[0] for commands in each] + [line for commands in each for line in commands[1:]]
    return lines[:MAX_ANNOTATIONS]


def _annotations(outcome: Outcome) -> list[str]:
    if is_mistake(outcome):
        return [f"::error title={TITLE}::{escape(printable(text(outcome.result, 'message')))}"]
    return render_report(report_of(outcome), "github").splitlines()


def is_mistake(outcome: Outcome) -> bool:
    """Tell whether the command could not start because of what the workflow gave it; then there is no deny code."""
    return not outcome.ok and not text(outcome.result, "code") and text(outcome.result, "error") in _MISTAKES


def difference_lines(result: Mapping[str, object]) -> list[str]:
    """Return each difference in a line, for the log; the annotations are only the first ones."""
    return [printable(describe(difference)) for difference in _differences(result)]


def report_of(outcome: Outcome) -> Report:
    """Return what `verify` decided; everything but a plain pass is a finding."""
    result = outcome.result
    if outcome.ok:
        return Report(outcome.package, (), text(result, "message"), decided=True, exit_status=0)
    if is_mistake(outcome):
        rule = ReportRule("WCP_ATTEST_INPUT", "An input of the action cannot be used.", ("Correct the workflow.",))
        finding = Finding(rule, place(outcome.package, "manifest.json"), text(result, "message"))
        return Report(outcome.package, (finding,), finding.message, decided=False, exit_status=2)
    differences = _differences(result)
    total = result.get("differences_total")
    verdict = Verdict(
        None,
        code_of(result),
        text(result, "message"),
        differences,
        total if isinstance(total, int) else len(differences),
    )
    return from_verdict(outcome.package, verdict, outcome.status or 2)


def code_of(result: Mapping[str, object]) -> DenyCode:
    """Return the deny code; an error without one is an internal error, never a pass."""
    try:
        return DenyCode(text(result, "code"))
    except ValueError:
        return DenyCode.INTERNAL_ERROR


def text(result: Mapping[str, object], *keys: str) -> str:
    """Return a text of a nested result, empty when it is not there."""
    value: object = result
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) else ""


def _differences(result: Mapping[str, object]) -> tuple[Difference, ...]:
    items = result.get("differences")
    return tuple(_difference(item) for item in items if isinstance(item, dict)) if isinstance(items, list) else ()


def _difference(item: Mapping[str, object]) -> Difference:
    try:
        change = Change(text(item, "change"))
    except ValueError:
        change = Change.MODIFIED
    return Difference(text(item, "path"), change, *(text(item, key) for key in ("expected", "found", "cause")))
