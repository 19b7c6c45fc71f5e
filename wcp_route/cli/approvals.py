"""`wcp-route approvals list | approve | deny | escalate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from wcp_route.cli.groups import HintingGroup
from wcp_route.cli.opening import by_option, key_option, opened_state, os_user, state_option
from wcp_route.cli.say import format_option, note, say, say_json, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.domain.decision import Hold
    from wcp_route.domain.values import Level
    from wcp_route.storage.holds import Action

reason_option = click.option("--reason", default="", help="Why; goes into the receipt.")
authority_option = click.option(
    "--authority",
    type=click.Choice(["gatekeeper", "executor", "incident_commander"]),
    default="gatekeeper",
    show_default=True,
    help="Up to which level you may approve; goes into the receipt.",
)


@click.group(cls=HintingGroup)
def approvals() -> None:
    """List what waits for a human, and answer it."""


@approvals.command("list")
@state_option
@format_option
def list_(state: str, form: str) -> int:
    """List the requests that wait, oldest first."""
    from wcp_route.domain.clock import format_ms, now_ms

    with opened_state(state, read_only=True) as store:
        waiting = store.approvals.pending(now_ms())
    if form == "json":
        say_json([_as_json(hold) for hold in waiting], "approval-list")
    elif waiting:
        table(
            (hold.pending_id, hold.level, hold.worker_id, f"until {format_ms(hold.expires_at_ms)}", hold.reason)
            for hold in waiting
        )
    else:
        note("nothing waits for a human")
    return 0


def _as_json(hold: Hold) -> JsonValue:
    from wcp_route.domain.clock import format_ms

    return {
        "pending_approval_id": hold.pending_id,
        "supervisor_level": hold.level,
        "deny_code": hold.code.value,
        "reason": hold.reason,
        "worker_id": hold.worker_id,
        "matched_rule_id": hold.rule_id,
        "input_hash": hold.input_hash,
        "created_at": format_ms(hold.created_at_ms),
        "approval_expires_at": format_ms(hold.expires_at_ms),
        "tenant_id": hold.tenant_id,
        "correlation_id": hold.correlation_id,
        "escalation_context": {
            "capability_id": hold.capability_id,
            "blast_score": hold.blast_score,
            "tenant_risk": hold.tenant_risk,
            "data_label": hold.data_label,
            "policy_version": hold.policy_version,
        },
    }


def _answering(action: Action) -> Callable[..., int]:
    """Return a command that answers a hold in one way."""

    @click.argument("pending_id")
    @by_option
    @reason_option
    @state_option
    @key_option
    @format_option
    def resolve(
        pending_id: str,
        by: str,
        reason: str,
        state: str,
        receipt_key: str | None,
        form: str,
        authority: Level = "gatekeeper",
    ) -> int:
        from wcp_route.domain.clock import now_ms
        from wcp_route.storage.approvals import Approver

        who = Approver(by, authority, f"os-user:{os_user()}")
        with opened_state(state, receipt_key=receipt_key) as store:
            done = store.approvals.resolve(pending_id, action, by=who, at_ms=now_ms(), reason=reason)
        if form == "json":
            answer: JsonObject = {
                "pending_approval_id": pending_id,
                "state": done.state,
                "supervisor_level": done.level,
                "grant": done.grant_id or None,
            }
            say_json(answer, "approval-answer")
            return 0
        note(f"{pending_id} is {done.state}" + (f" to {done.level}" if action == "escalate" else ""))
        if done.grant_id:
            note("send the very same request again with this grant; it is good once, and shown once:")
            say(done.grant_id)
        elif action == "approve":
            note(f"level {done.level} means that a human does the work; no worker is dispatched, and there is no grant")
        return 0

    return resolve


_APPROVE: Final = "Approve a request. Prints the grant that lets this very request pass once."
_ESCALATE: Final = "Hand a request to the next higher level; it goes on waiting."
approvals.command("approve", help=_APPROVE)(authority_option(_answering("approve")))
approvals.command("deny", help="Deny a request.")(_answering("deny"))
approvals.command("escalate", help=_ESCALATE)(_answering("escalate"))
