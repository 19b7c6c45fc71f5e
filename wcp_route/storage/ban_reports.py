"""Reports of packages that should be banned, until the ban authority has looked at them.

A report bans nothing, and neither does its confirmation: a ban stands in a list that the ban authority signed with a
key that no Hall has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from wcp_attest.base.errors import Error
from wcp_route.domain.clock import now_ms
from wcp_route.storage.holds import MAX_TEXT, check_name
from wcp_route.storage.ledger_state import MAX_REPORTS, event

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.storage.ledger import Ledger
    from wcp_route.storage.ledger_state import BanReport, LedgerState

MAX_PENDING_REPORTS: Final = MAX_REPORTS // 2


class ReportRefused(Error):
    """A report cannot be taken or reviewed: too many wait, or nobody made it, or somebody has looked at it."""


@dataclass(frozen=True, slots=True)
class LedgerBanReports:
    """The reports that the events of a ledger add up to.

    Attributes:
        ledger: where they are kept.
    """

    ledger: Ledger

    def all(self) -> tuple[BanReport, ...]:
        """Return all reports that are remembered, oldest first.

        Raises:
            StateError: the ledger cannot be read.
        """
        return tuple(self.ledger.state().reports.values())

    def report(self, sha256: str, reason: str, *, by: str, via: str, evidence_url: str = "") -> BanReport:
        """Keep a report; one that waits or was confirmed stays as it is.

        Args:
            sha256: of the package, 64 lower-case hex digits.
            reason: why it should be banned.
            by: who says so.
            via: how that name is known.
            evidence_url: where more is to be read.

        Returns:
            The report that is kept now.

        Raises:
            ReportRefused: too many wait.
            StateError: the ledger cannot be written.
        """
        check_name(by)

        def plan(state: LedgerState) -> list[JsonObject]:
            known = state.reports.get(sha256)
            if known is not None and known.status != "dismissed":
                return []
            if sum(one.status == "pending" for one in state.reports.values()) >= MAX_PENDING_REPORTS:
                raise ReportRefused(f"{MAX_PENDING_REPORTS} reports wait for the ban authority already")
            said: JsonObject = {"sha256": sha256, "reason": reason[:MAX_TEXT], "evidence_url": evidence_url[:MAX_TEXT]}
            return [event("ban.reported", at_ms=now_ms(), by=by, via=via, **said)]

        self.ledger.change(plan)
        return self.ledger.state().reports[sha256]

    def review(
        self, sha256: str, status: Literal["confirmed", "dismissed"], *, by: str, via: str, reason: str = ""
    ) -> BanReport:
        """Confirm or dismiss a report.

        Args:
            sha256: of the package that was reported.
            status: what the ban authority says.
            by: who says so.
            via: how that name is known.
            reason: why.

        Returns:
            The report as it is kept now.

        Raises:
            ReportRefused: there is no such report, or somebody has looked at it already.
            StateError: the ledger cannot be written.
        """
        check_name(by)

        def plan(state: LedgerState) -> list[JsonObject]:
            known = state.reports.get(sha256)
            if known is None:
                raise ReportRefused("nobody has reported that package")
            if known.status != "pending":
                raise ReportRefused(f"that report was {known.status} by {known.reviewed_by} already")
            said: JsonObject = {"sha256": sha256, "status": status, "reason": reason[:MAX_TEXT]}
            return [event("ban.reviewed", at_ms=now_ms(), by=by, via=via, **said)]

        self.ledger.change(plan)
        return self.ledger.state().reports[sha256]
