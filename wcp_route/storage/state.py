"""Everything that a Hall remembers, in one state file.

with open_state("hall.db", signer=signer) as state:
    hall = Hall(rules, state.registry, policy, approvals=state.approvals, receipts=state.receipts)
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from wcp_route.storage.approvals import SqliteApprovals
from wcp_route.storage.database import StateError
from wcp_route.storage.receipts.store import SqliteReceipts
from wcp_route.storage.registry import SqliteRegistry

if TYPE_CHECKING:
    from wcp_route.storage.receipts.sign import ReceiptSigner

__all__ = ["State", "StateError", "open_state"]


@dataclass(frozen=True, slots=True)
class State:
    """An open state file.

    Attributes:
        registry: the workers.
        approvals: the holds.
        receipts: the evidence.
    """

    registry: SqliteRegistry
    approvals: SqliteApprovals
    receipts: SqliteReceipts
    _open: ExitStack = field(repr=False)

    def close(self) -> None:
        """Write what is waiting and close the file.

        Raises:
            StateError: the receipt writer is stuck.
        """
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_state(path: str, *, signer: ReceiptSigner | None = None) -> State:
    """Open a state file, or make it (mode 0600).

    Args:
        path: where it is.
        signer: who vouches for the batches of receipts; a Hall in prod should have one.

    Raises:
        StateError: the file cannot be used.
    """
    with ExitStack() as opened:
        registry = opened.enter_context(SqliteRegistry(path))
        approvals = opened.enter_context(SqliteApprovals(path))
        receipts = opened.enter_context(SqliteReceipts(path, signer=signer))
        return State(registry, approvals, receipts, opened.pop_all())
