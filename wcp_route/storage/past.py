"""A past decision in the ledger: its receipt, checked against its sealed batch, and the state it was made from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from sqlalchemy import select

from wcp_attest.base.errors import ConfigError
from wcp_route.storage import tables
from wcp_route.storage.ledger_state import STATE_STREAM
from wcp_route.storage.receipts.chain import BatchStatement
from wcp_route.storage.receipts.read import find
from wcp_route.storage.receipts.receipt import SCHEMA, parse_body
from wcp_route.storage.state_errors import ReceiptsBroken

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.storage.ledger import Ledger
    from wcp_route.storage.ledger_state import LedgerState
    from wcp_route.storage.receipts.receipt import Receipt


@dataclass(frozen=True, slots=True)
class PastDecision:
    """A decision and the state of the ledger when it was made.

    Attributes:
        receipt: the stored receipt; its batch lists it.
        fields: the fields of the receipt.
        registry: the state with the workers and quarantine that it was made from.
        approvals: the state with the holds and grants that it was made from, just before its own transaction.
        corrected: whether the caller received a denial instead, because the receipt came too late.
    """

    receipt: Receipt
    fields: JsonObject
    registry: LedgerState
    approvals: LedgerState
    corrected: bool


def past_decision(ledger: Ledger, name: str) -> PastDecision:
    """Find a decision in a ledger.

    Args:
        ledger: an open ledger with the trusted keys.
        name: the decision's id, the hash of its receipt (`sha256:…`), or `stream/number`.

    Raises:
        ReceiptsBroken: the receipt, or another one in its batch, differs from what was sealed.
        ConfigError: there is no such decision or more than one, the state at that time was pruned, or the ledger
            cannot be used.
    """
    found = [(one, parse_body(one.body, what=f"receipt {one.position}")) for one in find(ledger.database, name)]
    decisions = [(one, fields) for one, fields in found if fields["schema"] == SCHEMA]
    if len(decisions) != 1:
        many = f"{len(decisions)} decisions are called so; give a decision id" if decisions else "there is no such one"
        raise ConfigError(f"decision {name[:80]!r}: {many}")
    receipt, fields = decisions[0]
    with ledger.database.reading() as connection:
        before = _events_before(connection, ledger, receipt, fields)
    versions = fields.get("versions")
    number = versions.get("registry") if isinstance(versions, dict) else None
    if not isinstance(number, int):
        raise ConfigError(f"receipt {receipt.position} does not say by which registry it was made")
    registry, approvals = ledger.states_at(number, before)
    digest = f"sha256:{receipt.hash}"
    corrected = any(one.get("kind") == "decision.corrected" and one.get("corrects") == digest for _, one in found)
    return PastDecision(receipt, fields, registry, approvals, corrected)


def _checked_batch(connection: Connection, ledger: Ledger, receipt: Receipt) -> tuple[BatchStatement, list[str]]:
    """Return the statement of a receipt's batch and the streams of its receipts in order, all as they were sealed."""
    batches, receipts = tables.batches.c, tables.receipts.c
    sealed = connection.execute(
        select(tables.batches)
        .where(batches.first_position <= receipt.position)
        .order_by(batches.first_position.desc())
        .limit(1)
    ).first()
    try:
        statement = None if sealed is None else BatchStatement.from_bytes(sealed.statement)
    except ConfigError as problem:
        raise ReceiptsBroken("unreadable", receipt.position, str(problem)) from None
    if sealed is None or statement is None or receipt.position > statement.last_position:
        raise ReceiptsBroken("unsealed", receipt.position, "no batch vouches for it")
    ledger.reader.check_signature(sealed.statement, sealed.key_id, sealed.signature)
    rows = connection.execute(
        select(receipts.position, receipts.stream, receipts.body)
        .where(receipts.position >= statement.first_position, receipts.position <= statement.last_position)
        .order_by(receipts.position)
    ).all()
    if len(rows) != len(statement.hashes):
        raise ReceiptsBroken("deleted", receipt.position, "its batch is not whole")
    for row, expected in zip(rows, statement.hashes, strict=True):
        if sha256(row.body).hexdigest() != expected:
            raise ReceiptsBroken("edited", row.position, "its content is not what was sealed")
    return statement, [row.stream for row in rows]


def _events_before(connection: Connection, ledger: Ledger, receipt: Receipt, fields: JsonObject) -> int:
    """Return the number of the last event before the transaction of a receipt, after checking its batch."""
    receipts = tables.receipts.c
    statement, streams = _checked_batch(connection, ledger, receipt)
    place = receipt.position - statement.first_position
    number = statement.state.seq - streams[place:].count(STATE_STREAM)
    last_two = connection.execute(
        select(receipts.seq, receipts.body).where(
            receipts.stream == STATE_STREAM, receipts.seq > number - 2, receipts.seq <= number
        )
    )
    bodies = {row.seq: row.body for row in last_two}
    while number in bodies:  # the transaction of the decision also wrote its hold or the use of its grant
        event = json.loads(bodies[number])
        redeemed = event["kind"] == "approval.redeemed" and fields["grant_hash"] == f"sha256:{event['grant_hash']}"
        held = event["kind"] == "approval.held" and event["hold"]["pending_id"] == fields["pending_approval_id"]
        if not (redeemed or held):
            break
        number -= 1
    return number
