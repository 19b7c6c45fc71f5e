"""What a person should know before they answer a hold: who answered the same work before, and what changed since."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from wcp_route.storage.ledger_state import OF_REGISTRY
from wcp_route.storage.receipts import read

if TYPE_CHECKING:
    from wcp_route.domain.decision import Hold
    from wcp_route.service.context import Context

MAX_HOLDS: Final = 50  # of a worker that are looked through
MAX_ANSWERS: Final = 5
MAX_EVENTS: Final = 10
_ANSWERS: Final = {"approval.approved": "approved", "approval.denied": "denied"}
_COMPARED: Final = {
    "manifest_sha256": "the package",
    "record_digest": "the worker's record",
    "rules_digest": "the rules",
    "rule_id": "the rule",
    "policy_version": "the policy",
    "level": "the level",
    "data_label": "the data label",
    "tenant_risk": "the tenant's risk",
    "blast_score": "the blast score",
    "tenant_id": "the tenant",
}


def history_of(context: Context, hold: Hold) -> dict[str, Any]:
    """Return the earlier answers to holds for the same worker and capability, newest first, and what changed.

    Args:
        context: the service.
        hold: that waits.

    Returns:
        `answers` (who, when, what, why, five at most); `changed` since the last approval, in words, or None when there
        was none; `events` of the worker since then (ten at most).

    Raises:
        StateError: the ledger cannot be read.
    """
    answers: list[dict[str, Any]] = []
    approved: dict[str, Any] | None = None
    since = ""
    for receipt in read.last(context.address, MAX_HOLDS, worker=hold.worker_id, kind="approval.held"):
        earlier = json.loads(receipt.body)["hold"]
        if earlier["capability_id"] != hold.capability_id or earlier["pending_id"] == hold.pending_id:
            continue
        for found in read.find(context.address, earlier["pending_id"]):
            event = json.loads(found.body)
            if (outcome := _ANSWERS.get(event.get("kind"))) is None:
                continue
            answers.append({name: event[name] for name in ("at", "by", "reason")} | {"outcome": outcome})
            if outcome == "approved" and event["at"] > since:
                approved, since = earlier, event["at"]
        if len(answers) >= MAX_ANSWERS:
            break
    changed = None if approved is None else [
        words for name, words in _COMPARED.items() if approved.get(name) != getattr(hold, name)
    ]  # fmt: skip
    events = []
    for kind in OF_REGISTRY:  # each kind alone: decisions are many, and would crowd these out
        for receipt in read.last(context.address, MAX_EVENTS, worker=hold.worker_id, kind=kind):
            event = json.loads(receipt.body)
            if event["at"] > since:
                events.append({name: event[name] for name in ("at", "kind", "by")})
    events.sort(key=lambda one: str(one["at"]), reverse=True)
    return {"answers": answers[:MAX_ANSWERS], "changed": changed, "events": events[:MAX_EVENTS]}
