"""A decision as a list of findings with places, before it is written in anybody's format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from wcp_attest.base.differences import Difference
    from wcp_attest.verdict import Verdict

MAX_FINDINGS: Final = 5000  # code scanning shows no more results of one run; the rest is counted
_MANIFEST: Final = "manifest.json"


@dataclass(frozen=True, slots=True)
class ReportRule:
    """A kind of finding.

    Attributes:
        id: stable, such as a deny code.
        what: what it means, one sentence.
        advice: what to do, most likely first.
    """

    id: str
    what: str
    advice: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        rule: of what kind.
        path: relative to where the command was started, `/`-separated; undecodable bytes as surrogate escapes.
        message: one line.
    """

    rule: ReportRule
    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Report:
    """A decision.

    Attributes:
        subject: the package directory as it was given.
        findings: what is wrong; empty is a pass, but only when `decided`.
        summary: the decision in one line.
        decided: False when it could not be found out whether anything is wrong.
        exit_status: what the command exits with.
    """

    subject: str
    findings: tuple[Finding, ...]
    summary: str
    decided: bool
    exit_status: int


def place(root: str, path: str) -> str:
    """Return the place of a package's file as seen from the current directory, or as it is when it lies elsewhere."""
    absolute = os.path.abspath(root)
    relative = os.path.relpath(absolute)
    base = absolute if relative.split(os.sep)[0] == os.pardir else relative
    return os.path.normpath(os.path.join(base, path)).replace(os.sep, "/")


def describe(difference: Difference) -> str:
    """Return a difference in one line."""
    parts = [f"{difference.path}: {difference.change.value}"]
    if difference.expected:
        parts.append(f"expected {difference.expected}")
    if difference.found:
        parts.append(f"found {difference.found}")
    return ", ".join(parts) + (f" ({difference.cause})" if difference.cause else "")


def from_differences(
    root: str, rule: ReportRule, differences: tuple[Difference, ...], *, summary: str, total: int, exit_status: int
) -> Report:
    """Report a tree that differs: the whole at the manifest, then each difference at its own file.

    Args:
        root: the package directory as it was given.
        rule: of the findings.
        differences: sorted and capped.
        summary: the decision in one line.
        total: how many differences there are, listed or not.
        exit_status: what the command exits with.
    """
    shown = differences[: MAX_FINDINGS - 1]
    more = f"; {total - len(shown)} further differences are not listed" if total > len(shown) and shown else ""
    findings = [Finding(rule, place(root, _MANIFEST), summary + more)]
    findings += [Finding(rule, place(root, item.path), describe(item)) for item in shown]
    return Report(root, tuple(findings), summary, decided=True, exit_status=exit_status)


def from_verdict(root: str, verdict: Verdict, exit_status: int) -> Report:
    """Report what `verify` decided.

    A denial without a difference is a finding at the manifest, and so is a verdict that could not be reached: nobody
    who only counts findings may take it for a pass.

    Args:
        root: the package directory as it was given.
        verdict: the decision.
        exit_status: what the command exits with.
    """
    if verdict.code is None:
        return Report(root, (), verdict.message, decided=True, exit_status=exit_status)
    from wcp_attest.deny_code_help import EXPLANATIONS

    page = EXPLANATIONS[verdict.code]
    rule = ReportRule(verdict.code.value, page.what, page.fix)
    report = from_differences(
        root,
        rule,
        verdict.differences,
        summary=verdict.message,
        total=verdict.total_differences,
        exit_status=exit_status,
    )
    return Report(root, report.findings, report.summary, decided=verdict.decided, exit_status=exit_status)
