"""Everything that a Hall stores, in one ledger.

    with open_state("hall.db", signer=signer) as state:
        services = Services(approvals=state.approvals, receipts=state.ledger)
        hall = Hall(rules, state.registry, policy, config, services=services)

The address is a file, `:memory:`, or `postgresql://user@host/name`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wcp_route.domain.clock import now_ms
from wcp_route.domain.closing import Closing
from wcp_route.storage.approvals import LedgerApprovals
from wcp_route.storage.holds import new_grant
from wcp_route.storage.registry import LedgerRegistry
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wcp_route.storage.ledger import Ledger
    from wcp_route.storage.receipts.sign import ReceiptKey, ReceiptSigner

__all__ = ["State", "StateError", "open_state"]


@dataclass(frozen=True, slots=True)
class State(Closing):
    """An open ledger and its views.

    Attributes:
        registry: the workers.
        approvals: the holds.
        ledger: the receipts and the events; everything else is computed from the events.
    """

    registry: LedgerRegistry
    approvals: LedgerApprovals
    ledger: Ledger

    @property
    def receipts(self) -> Ledger:
        """The same ledger, as the store of evidence."""
        return self.ledger

    def close(self) -> None:
        """Write the receipts that wait, and close the database.

        Raises:
            StateError: the receipt writer is stuck.
        """
        self.ledger.close()


def open_state(  # noqa: PLR0913  # each is named by its caller
    address: str = ":memory:",
    *,
    signer: ReceiptSigner | None = None,
    keys: Sequence[ReceiptKey] = (),
    head: bytes | None = None,
    create: bool = True,
    read_only: bool = False,
    guarded: bool = False,
    clock: Callable[[], int] = now_ms,
    grants: Callable[[], str] = new_grant,
) -> State:
    """Open a state, or create it.

    Args:
        address: a file (made with mode 0600), `:memory:`, or `postgresql://user@host/name`.
        signer: signs the batches of receipts; a Hall in prod or edge must have one.
        keys: more public keys that may have signed the last batch, after a change of the key.
        head: a head that you kept elsewhere (`receipts head`); a state without it is refused.
        create: whether to create a state that does not exist; False makes a misspelt address an error.
        read_only: write nothing; then a signed state can be read without its key.
        guarded: refuse a state whose last batch is not signed.
        clock: returns the current time, milliseconds since 1970.
        grants: makes grant ids; tests pass their own function.

    Raises:
        StateError: the state cannot be used, or it differs from what was sealed.
    """
    try:
        from wcp_route.storage.database import Database
        from wcp_route.storage.ledger import Ledger
    except ModuleNotFoundError as problem:
        raise StateError(f"{problem.name} is missing; a Hall's state needs `pip install wcp-attest[route]`") from None

    database = Database(address, create=create)
    try:
        ledger = Ledger(
            database, signer=signer, keys=keys, head=head, read_only=read_only, guarded=guarded, clock=clock
        )
    except BaseException:
        database.close()
        raise
    return State(LedgerRegistry(ledger), LedgerApprovals(ledger, ids=grants), ledger)
