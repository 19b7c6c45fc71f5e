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
    """Escape the message of a command."""
    return visible(text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A"))


def escape_property(text: str) -> str:
    """Escape the value of a command's property."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


def to_workflow_commands(report: Report) -> str:
    """Return a report as workflow commands, one a line.

    The first one carries the decision, because a job shows ten annotations of a step.
    """
    if not report.findings:
        return f"::notice title={_TITLE}::{escape_data(report.summary)}\n"
    return "".join(
        f"::error file={escape_property(finding.path)},title={escape_property(f'{_TITLE} {finding.rule.id}')}"
        f"::{escape_data(finding.message)}\n"
        for finding in report.findings
    )
