"""Read a ledger from its tables: beginning, end and events. Each is checked before it is used."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from wcp_attest.base.errors import ConfigError
from wcp_route.storage import tables
from wcp_route.storage.ledger_state import STATE_STREAM
from wcp_route.storage.receipts.beginning import Origin
from wcp_route.storage.receipts.chain import BatchStatement, Tip
from wcp_route.storage.receipts.receipt import MAX_RECEIPT_BYTES, ReceiptHead
from wcp_route.storage.receipts.sign import is_signed_by
from wcp_route.storage.state_errors import ReceiptError, StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from wcp_route.storage.ledger_state import LedgerState
    from wcp_route.storage.receipts.sign import ReceiptKey, SignedHead


@dataclass(frozen=True, slots=True)
class LedgerReader:
    """Reads one ledger.

    Attributes:
        name: the name of the database, for messages.
        keys: the public keys that are trusted, by key id.
        read_only: write nothing; then a signed ledger can be read without a key.
        guarded: refuse a ledger whose last batch is not signed.
    """

    name: str
    keys: Mapping[str, ReceiptKey]
    read_only: bool = False
    guarded: bool = False

    def origin(self, connection: Connection) -> Origin:
        """Return where the ledger begins.

        Args:
            connection: a connection in a transaction of the ledger's database.

        Raises:
            StateError: the origin cannot be read, or no given key signed it. Without keys, that is not checked.
        """
        row = connection.execute(select(tables.origins)).first()
        if row is None:
            return Origin()
        try:
            origin = Origin.from_statement(row.statement, row.key_id, row.signature)
        except ConfigError as problem:
            raise StateError(f"state `{self.name}`: {problem}") from None
        if self.keys and not is_signed_by(self.keys, row.statement, row.key_id, row.signature):
            raise StateError(f"state `{self.name}` begins with an origin that no given key signed")
        return origin

    def tip(self, connection: Connection) -> Tip:
        """Return where the ledger ends, after checking that its last batch is complete and signed by a known key.

        Args:
            connection: a connection in a transaction of the ledger's database.

        Raises:
            StateError: the ledger does not end with such a batch.
        """
        receipt, batch = tables.receipts.c, tables.batches.c
        last = connection.execute(
            select(receipt.position, receipt.hash).order_by(receipt.position.desc()).limit(1)
        ).first()
        sealed = connection.execute(select(tables.batches).order_by(batch.number.desc()).limit(1)).first()
        if last is None and sealed is None:
            return Tip()
        broken = StateError(f"state `{self.name}` does not end with a sealed batch; run `receipts verify` on it")
        if last is None or sealed is None:
            raise broken
        try:
            statement = BatchStatement.from_bytes(sealed.statement)
        except ConfigError:
            raise broken from None
        ends = (statement.last_position, statement.hashes[-1:]) == (last.position, (last.hash,))
        if statement.batch != sealed.number or statement.state.seq != sealed.state_seq or not ends:
            raise broken
        self.check_signature(sealed.statement, sealed.key_id, sealed.signature)
        return Tip(statement.last_position, statement.batch, sha256(sealed.statement).hexdigest(), statement.state)

    def check_signature(self, statement: bytes, key_id: str | None, signature: bytes | None) -> None:
        """Refuse a batch that no given key signed.

        Args:
            statement: the exact bytes of a batch statement.
            key_id: the id of the key that should have signed, SHA-256 of its DER SPKI in hex; None for no signature.
            signature: raw Ed25519, 64 bytes; None for no signature.

        Raises:
            StateError: the batch is signed by another key; it is unsigned and the reader is `guarded`; or it is signed,
                no key is given, and the ledger is open for writing.
        """
        if key_id is None:
            if self.guarded:
                raise StateError(
                    f"state `{self.name}` ends with receipts that nobody signed; begin a new one with a receipt key"
                )
            return
        if not self.keys:
            if self.read_only:
                return
            raise ReceiptError(f"the receipts in `{self.name}` are signed; open it with a receipt key")
        if not is_signed_by(self.keys, statement, key_id, signature):
            raise StateError(
                f"state `{self.name}` is signed by another key than the one given; run `receipts verify` on it"
            )

    def check_head(self, connection: Connection, head: SignedHead, origin: Origin) -> None:
        """Refuse a ledger that does not contain a head kept elsewhere.

        Args:
            connection: a connection in a transaction of the ledger's database.
            head: the head that was kept elsewhere.
            origin: where the ledger begins.

        Raises:
            StateError: the ledger does not contain it, or no given key signed the head.
        """
        if self.keys and not is_signed_by(self.keys, head.statement, head.key_id, head.signature):
            raise StateError("the kept head is not signed by the receipt key")
        kept = BatchStatement.from_bytes(head.statement)
        found = connection.execute(
            select(tables.batches.c.statement).where(tables.batches.c.number == kept.batch)
        ).scalar()
        if found is None and kept.batch <= origin.batch:
            raise StateError("the kept head is older than what was pruned; use a newer head")
        if found is None:
            raise StateError(f"state `{self.name}` is older than the kept head: it was put back, or cut off")
        if found != head.statement:
            raise StateError(f"state `{self.name}` is not the one that the kept head is of")

    def apply(self, connection: Connection, state: LedgerState, last: int) -> None:
        """Apply the events after `state` up to number `last`. Each event must name the event before it.

        Args:
            connection: a connection in a transaction of the ledger's database.
            state: the state to change in place; a copy that no other code uses.
            last: the number of the last event to apply.

        Raises:
            StateError: an event is missing, or does not fit the events beside it.
        """
        columns = tables.receipts.c
        query = (
            select(columns.seq, columns.hash, func.substr(columns.body, 1, MAX_RECEIPT_BYTES + 1).label("body"))
            .where(columns.stream == STATE_STREAM, columns.seq > state.seq, columns.seq <= last)
            .order_by(columns.seq)
        )
        for row in connection.execute(query.execution_options(yield_per=500)):
            digest = sha256(row.body).hexdigest()
            try:
                fields = json.loads(row.body) if len(row.body) <= MAX_RECEIPT_BYTES else {}
            except ValueError:
                fields = {}
            previous = ReceiptHead(state.seq, state.hash).named
            if not isinstance(fields, dict) or digest != row.hash or fields.get("prev_receipt_hash") != previous:
                raise StateError(
                    f"state `{self.name}` holds other events than were sealed; run `receipts verify` on it"
                )
            state.apply(fields, digest)
        if state.seq != last:
            raise StateError(f"state `{self.name}` lacks events; run `receipts verify` on it")
