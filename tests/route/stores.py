"""Ledgers in memory and in files, for tests that need only one side of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wcp_route.domain.decision import Redemption
from wcp_route.storage.approvals import LedgerApprovals
from wcp_route.storage.database import Database
from wcp_route.storage.ledger import Ledger
from wcp_route.storage.receipts.read import _batches, _rows
from wcp_route.storage.registry import LedgerRegistry

if TYPE_CHECKING:
    from wcp_route.domain.decision import Hold
    from wcp_route.storage.receipts.chain import Batch, ChainRow

MEMORY = ":memory:"


class SqliteReceipts(Ledger):
    """A ledger in a file."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(Database(path, create=True), **options)


class MemoryReceipts(Ledger):
    """A ledger in memory, whose rows can be looked at."""

    def __init__(self, **options: Any) -> None:
        super().__init__(Database(MEMORY), **options)

    @property
    def rows(self) -> list[ChainRow]:
        with self.database.reading() as connection:
            return list(_rows(connection))

    @property
    def batches(self) -> list[Batch]:
        with self.database.reading() as connection:
            return list(_batches(connection))


class MemoryRegistry(LedgerRegistry):
    """The registry of a ledger of its own in memory."""

    def __init__(self) -> None:
        super().__init__(MemoryReceipts())


class SqliteRegistry(LedgerRegistry):
    """The registry of a ledger in a file."""

    def __init__(self, path: str) -> None:
        super().__init__(SqliteReceipts(path))


class _Approvals(LedgerApprovals):
    """Approvals whose grants are brought by name."""

    def redeem(self, wanted: Any, *, use: bool, **brought: Any) -> Hold:
        parts = {"rule_id": "rule-7", "rules_digest": "", "manifest_sha256": "", **brought}
        return super().redeem(Redemption(wanted, **parts) if brought else wanted, use=use)


class MemoryApprovals(_Approvals):
    """The approvals of a ledger of their own in memory."""

    def __init__(self, **options: Any) -> None:
        super().__init__(MemoryReceipts(), **options)


class SqliteApprovals(_Approvals):
    """The approvals of a ledger in a file."""

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(SqliteReceipts(path), **options)
