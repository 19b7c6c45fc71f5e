"""What other programs read of a decision: SARIF for code scanning, workflow commands for annotations.

Both are written from a `Report`, so that `verify`, `diff` and `check` say the same in either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wcp_attest.cli.formats.report import Report

REPORT_FORMATS: Final = ("sarif", "github")


def render_report(report: Report, how: str) -> str:
    """Return a report in one of `REPORT_FORMATS`, complete with its last line break.

    Raises:
        ValueError: the format is none of them.
    """
    if how == "sarif":
        from wcp_attest.cli.formats.sarif import to_sarif

        return to_sarif(report)
    if how == "github":
        from wcp_attest.cli.formats.github import to_workflow_commands

        return to_workflow_commands(report)
    raise ValueError(f"unknown report format {how!r}")
