"""What a person should know before they answer a hold: who answered the same work before, and what changed since."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from wcp_route.storage.ledger_state import OF_REGISTRY
from wcp_route.storage.receipts import read

if TYPE_CHECKING:
    from wcp_route.domain.decision import Hold
    from wcp_route.service.context import Context

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


class Histories:
    """What was answered before to the work of holds. One is made for each request, and reads everything once.

    It looks through the last 1,000 approvals, the last 1,000 denials and the last 1,000 holds of a worker. So requests
    that wait, however many they are, do not hide an earlier answer.

    Args:
        context: the service.

    Raises:
        StateError: the ledger cannot be read.
    """

    def __init__(self, context: Context) -> None:
        self._database = context.state.ledger.database
        events = [one for kind in _ANSWERS for one in self._last(kind)]
        self._answers = {event["pending_id"]: event for event in events}
        self._full = len(events) >= read.MAX_SHOWN
        self._held: dict[str, dict[str, dict[str, Any]]] = {}  # by worker: the holds by their ids

    def of(self, hold: Hold) -> dict[str, Any]:
        """Return the earlier answers to holds for the same worker and capability, newest first, and what changed.

        Args:
            hold: that waits.

        Returns:
            `answers` (who, when, what, why, five at most); `changed` since the last approval, in words, or None when
            there was none; `events` of the worker since then (ten at most); `complete`, whether nothing is so old that
            it was not looked at.

        Raises:
            StateError: the ledger cannot be read.
        """
        if hold.worker_id not in self._held:
            found = [one["hold"] for one in self._last("approval.held", hold.worker_id)]
            self._held[hold.worker_id] = {one["pending_id"]: one for one in found}
        held = self._held[hold.worker_id]
        same = [
            (self._answers[name], earlier)
            for name, earlier in held.items()
            if name in self._answers and earlier["capability_id"] == hold.capability_id
        ]
        same.sort(key=lambda pair: str(pair[0]["at"]), reverse=True)
        approved, since = next(
            ((earlier, str(event["at"])) for event, earlier in same if event["kind"] == "approval.approved"), (None, "")
        )
        changed = None if approved is None else [
            words for name, words in _COMPARED.items() if approved.get(name) != getattr(hold, name)
        ]  # fmt: skip
        events = [
            one for kind in OF_REGISTRY for one in self._last(kind, hold.worker_id, MAX_EVENTS) if one["at"] > since
        ]
        events.sort(key=lambda event: str(event["at"]), reverse=True)
        return {
            "answers": [
                {name: event[name] for name in ("at", "by", "reason")} | {"outcome": _ANSWERS[event["kind"]]}
                for event, _ in same[:MAX_ANSWERS]
            ],
            "changed": changed,
            "events": [{name: event[name] for name in ("at", "kind", "by")} for event in events[:MAX_EVENTS]],
            "complete": not self._full and len(held) < read.MAX_SHOWN,
        }

    def _last(self, kind: str, worker_id: str | None = None, count: int = read.MAX_SHOWN) -> list[dict[str, Any]]:
        return [json.loads(one.body) for one in read.last(self._database, count, worker=worker_id, kind=kind)]
