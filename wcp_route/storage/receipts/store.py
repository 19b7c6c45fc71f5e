"""What a Hall needs to keep evidence; `wcp_route.storage.ledger.Ledger` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_route.domain.decision import Evidence


class Waitable(Protocol):
    """Receipts on their way to the disk."""

    def wait(self) -> None:
        """Return when all are durable. Raises `ReceiptError` when one is not, or when that is not known."""


class ReceiptStore(Protocol):
    """What a Hall needs of the ledger to keep evidence.

    A store that limits every wait to `seconds` itself sets the attribute `keeps_deadlines = True`. The Hall calls any
    other store in a thread, and stops waiting at the deadline of the decision.
    """

    def submit(self, evidence: Sequence[Evidence], /, *, seconds: float = ...) -> Waitable:
        """Begin to make a receipt of each durable; give up after `seconds`. Raises `ReceiptError`."""
