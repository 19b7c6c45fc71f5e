"""Workflow commands: one annotation for the decision and one for each differing file.

Names of files are what the package's author chose, so everything is escaped as the runner unescapes it: a name must
not end a command early or start another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_attest.cli.text import visible

if TYPE_CHECKING:
    from wcp_attest.cli.formats.report import Report

_TITLE = "wcp-attest"


def escape_data(text: str) -> str:
    """Return text as the message of a command."""
    return visible(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def to_workflow_commands(report: Report) -> str:
    """Return a report as workflow commands, one a line.

    The first one carries the decision, because a job shows ten annotations of a step.
    """
    if not report.findings:
        return f"::notice title={_TITLE}::{escape_data(report.summary)}\n"
    lines = []
    for finding in report.findings:
        path, title = (
            escape_data(value).replace(":", "%3A").replace(",", "%2C")  # of a property, these two end it
            for value in (finding.path, f"{_TITLE} {finding.rule.id}")
        )
        lines.append(f"::error file={path},title={title}::{escape_data(finding.message)}\n")
    return "".join(lines)
