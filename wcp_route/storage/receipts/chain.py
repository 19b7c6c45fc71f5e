"""How receipts are linked, and how a batch of them is sealed. No files, no threads, no clock.

A *batch* is what became durable together. Its statement lists the hashes of its receipts in their order and names the
statement before it, so one signature over it vouches for every receipt up to there:

    {"batch":3,"first_position":41,"hashes":["9f86…","2c26…"],"prev_batch_hash":"sha256:…","schema":"wcp.receipt-batch.v1",
     "sealed_at":"2026-01-31T08:00:00.000Z","spec_version":"0.2"}
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json, parse_canonical
from wcp_route.domain.clock import format_ms
from wcp_route.storage.receipts.receipt import SPEC_VERSION, Head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.storage.receipts.body import Draft
    from wcp_route.storage.receipts.sign import ReceiptSigner

BATCH_SCHEMA: Final = "wcp.receipt-batch.v1"
MAX_BATCH: Final = 1024  # receipts that one transaction makes durable
MAX_STATEMENT_BYTES: Final = MAX_BATCH * 80 + 4096  # 67 bytes a hash


class Row(NamedTuple):
    """A receipt as the table holds it."""

    position: int
    stream: str
    seq: int
    prev: str
    hash: str
    body: bytes


class Batch(NamedTuple):
    """A sealed batch as the table holds it; no key and no signature when nobody signs."""

    number: int
    statement: bytes
    key_id: str | None
    signature: bytes | None


@dataclass(frozen=True, slots=True)
class Tip:
    """Where the store ends.

    Attributes:
        position: of the last receipt, 0 when there is none.
        batch: number of the last batch, 0 when there is none.
        batch_hash: SHA-256 of its statement, hex; empty when there is none.
    """

    position: int = 0
    batch: int = 0
    batch_hash: str = ""


def link(drafts: Sequence[Draft], heads: Mapping[str, Head], position: int) -> tuple[list[Row], dict[str, Head]]:
    """Give each draft its place: the rows to store, and the heads that they move.

    Args:
        drafts: in order.
        heads: the present head of every stream that occurs.
        position: of the last receipt in the store.

    Raises:
        ReceiptError: one of them cannot be written; none is linked then.
    """
    rows: list[Row] = []
    moved: dict[str, Head] = {}
    for draft in drafts:
        head = moved.get(draft.stream) or heads[draft.stream]
        body = draft.body(head)
        after = Head(head.seq + 1, sha256(body).hexdigest())
        position += 1
        rows.append(Row(position, draft.stream, after.seq, head.name, after.hash, body))
        moved[draft.stream] = after
    return rows, moved


def seal(hashes: Sequence[str], tip: Tip, *, at_ms: int, signer: ReceiptSigner | None) -> tuple[Batch, Tip]:
    """Make the batch of receipts with these hashes that follows `tip`, and the tip that follows it."""
    number, first = tip.batch + 1, tip.position + 1
    listed: list[JsonValue] = list(hashes)
    statement = canonical_json(
        {
            "schema": BATCH_SCHEMA,
            "spec_version": SPEC_VERSION,
            "batch": number,
            "first_position": first,
            "hashes": listed,
            "prev_batch_hash": f"sha256:{tip.batch_hash}" if tip.batch else None,
            "sealed_at": format_ms(at_ms),
        }
    )
    key_id, signature = (None, None) if signer is None else (signer.key_id, signer.sign(statement))
    after = Tip(tip.position + len(listed), number, sha256(statement).hexdigest())
    return Batch(number, statement, key_id, signature), after


@dataclass(frozen=True, slots=True)
class Statement:
    """A batch statement, read back."""

    batch: int
    first_position: int
    hashes: tuple[str, ...]
    prev_batch_hash: str | None

    @classmethod
    def from_bytes(cls, data: bytes) -> Statement:
        """Read a statement.

        Raises:
            ConfigError: it is not one in its one spelling.
        """
        value = parse_canonical(data, what="batch statement", max_bytes=MAX_STATEMENT_BYTES)
        if not isinstance(value, dict) or value.get("schema") != BATCH_SCHEMA or set(value) != _FIELDS:
            raise ConfigError(f"batch statement is not of {BATCH_SCHEMA}")
        batch, first, hashes = value["batch"], value["first_position"], value["hashes"]
        previous = value["prev_batch_hash"]
        if (
            not (type(batch) is int and type(first) is int and isinstance(hashes, list))
            or value["spec_version"] != SPEC_VERSION
            or not all(isinstance(item, str) for item in hashes)
            or not (previous is None or isinstance(previous, str))
        ):
            raise ConfigError("batch statement has a field of another type")
        return cls(batch, first, tuple(str(item) for item in hashes), previous)


_FIELDS: Final = frozenset(
    ("schema", "spec_version", "batch", "first_position", "hashes", "prev_batch_hash", "sealed_at")
)
