"""`wcp-route decide` and `explain`: the same decision, told shortly or check by check."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from wcp_attest.cli.command_table import StrictCommand
from wcp_route.cli.files import read_file
from wcp_route.cli.opening import hall_options, opened
from wcp_route.cli.say import format_option, note, say, say_json, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.domain.decision import Evidence, RouteDecision

_UNDECIDED: Final = frozenset({"DENY_INTERNAL_ERROR", "DENY_RECEIPT_UNAVAILABLE", "DENY_INVALID_INPUT"})
_MARKS: Final = {"pass": "ok", "deny": "DENY", "hold": "HOLD", "warn": "warn", "off": "off", "skipped": "-"}


def _deciding(*, rehearsal: bool) -> Callable[..., int]:
    """Return a command that decides on a request, shows the outcome, and exits by it.

    Args:
        rehearsal: whether nothing is stored or dispatched; then every check is shown.
    """

    @click.argument("request", metavar="[REQUEST]", default="-")
    @hall_options
    @click.option(
        "--grant", default="", envvar="WCP_ROUTE_GRANT", help="The grant of this request, once a human has approved it."
    )
    @click.option("--principal", help="The tenant that was authenticated; the request must be on its behalf.")
    @format_option
    def decide(request: str, grant: str, principal: str | None, form: str, **places: Any) -> int:
        from wcp_route.domain.request_model import MAX_REQUEST_BYTES

        data = read_file(request, limit=MAX_REQUEST_BYTES, what="request")
        with opened(**places, rehearsal=rehearsal) as each:
            ask = each.hall.explain if rehearsal else each.hall.decide
            evidence = ask(data, grant=grant, principal=principal)
        _show(evidence, form, checks=rehearsal)
        return _status(evidence.decision)

    return decide


def _status(decision: RouteDecision) -> int:
    if decision.reason is None:
        return 0
    if decision.reason.code in _UNDECIDED:
        return 2
    return 3 if decision.outcome == "STEWARD_HOLD" or decision.supervisor_required else 1


def _show(evidence: Evidence, form: str, *, checks: bool) -> None:
    """Show a decision, and on request each check that led to it."""
    from wcp_route.domain.decision_wire import to_wire

    if form == "json":
        wire = to_wire(evidence.decision, operator=True)
        looked: list[JsonValue] = [
            {"name": check.name, "outcome": check.outcome, "detail": check.detail} for check in evidence.checks
        ]
        if checks:
            say_json({"decision": wire, "checks": looked}, "route-explanation")
        else:
            say_json(wire, "route-decision")
        return
    if checks:
        table((_MARKS[check.outcome], check.name, check.detail) for check in evidence.checks)
    _say(evidence.decision)


def _say(decision: RouteDecision) -> None:
    if decision.reason is None:
        say(f"{decision.outcome}  {decision.worker_id}  by rule {decision.matched_rule_id}")
        if decision.package_path:
            say(f"run it from {decision.package_path}")
        elif decision.dry_run:
            note("a dry run: nothing is dispatched")
        return
    say(f"{decision.outcome}  {decision.reason.code.value}: {decision.reason.message}")
    if decision.pending_approval_id:
        say(f"waiting for a human, as {decision.pending_approval_id}")


decide = click.command(
    "decide",
    cls=StrictCommand,
    help="Decide on the request in a JSON file, or on standard input.",
)(_deciding(rehearsal=False))
explain = click.command(
    "explain",
    cls=StrictCommand,
    help="Show what `decide` would say, and why. It stores no hold, receipt or quarantine.",
)(_deciding(rehearsal=True))
