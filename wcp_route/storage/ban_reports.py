"""Reports of packages that should be banned. The ban authority reviews them.

A report bans nothing, and its confirmation bans nothing. Only a list that the ban authority signs can ban a package,
and no Hall has that key.
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
MAX_PENDING_OF_ONE: Final = MAX_PENDING_REPORTS // 5  # of one reporter, so that nobody takes the places of others


class ReportRefused(Error):
    """A report cannot be stored or reviewed: too many wait, it does not exist, or it was reviewed already."""


@dataclass(frozen=True, slots=True)
class LedgerBanReports:
    """The reports, computed from the events of a ledger.

    Attributes:
        ledger: the ledger that stores them.
    """

    ledger: Ledger

    def all(self) -> tuple[BanReport, ...]:
        """Return all stored reports, oldest first.

        Raises:
            StateError: the ledger cannot be read.
        """
        return tuple(self.ledger.state().reports.values())

    def report(self, sha256: str, reason: str, *, by: str, via: str, evidence_url: str = "") -> BanReport:
        """Store a report. A report of the same package that waits or was confirmed stays unchanged.

        Args:
            sha256: the hash of the package, 64 lower-case hex digits.
            reason: why it should be banned; the first 500 characters are stored.
            by: the person who reports it, a printable name of at most 500 characters.
            via: how the name was authenticated: `os-user`, `token`, `oidc`, `library`, …
            evidence_url: a page with more information; the first 500 characters are stored.

        Returns:
            The report that is stored now.

        Raises:
            ReportRefused: too many reports wait, in all or of this person.
            ConfigError: the name is empty, too long, or not printable.
            StateError: the ledger cannot be written.
        """
        check_name(by)

        def plan(state: LedgerState) -> list[JsonObject]:
            known = state.reports.get(sha256)
            if known is not None and known.status != "dismissed":
                return []
            waiting = [one.by for one in state.reports.values() if one.status == "pending"]
            if len(waiting) >= MAX_PENDING_REPORTS:
                raise ReportRefused(f"{MAX_PENDING_REPORTS} reports wait for the ban authority already")
            if waiting.count(by) >= MAX_PENDING_OF_ONE:
                raise ReportRefused(f"{MAX_PENDING_OF_ONE} reports of {by} wait for the ban authority already")
            said: JsonObject = {"sha256": sha256, "reason": reason[:MAX_TEXT], "evidence_url": evidence_url[:MAX_TEXT]}
            return [event("ban.reported", at_ms=now_ms(), by=by, via=via, **said)]

        self.ledger.change(plan)
        return self.ledger.state().reports[sha256]

    def review(
        self, sha256: str, status: Literal["confirmed", "dismissed"], *, by: str, via: str, reason: str = ""
    ) -> BanReport:
        """Confirm or dismiss a report.

        Args:
            sha256: the hash of the reported package, 64 lower-case hex digits.
            status: the answer of the ban authority.
            by: the person who reviews it, a printable name of at most 500 characters.
            via: how the name was authenticated: `os-user`, `token`, `oidc`, `library`, …
            reason: why; the first 500 characters are stored.

        Returns:
            The report as it is stored now.

        Raises:
            ReportRefused: there is no such report, or it was reviewed already.
            ConfigError: the name is empty, too long, or not printable.
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
