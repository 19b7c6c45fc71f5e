"""Link receipts, and seal them in batches. No files, no threads, no clock.

A *batch* is a group of receipts that became durable together. Its statement lists their hashes in order and names the
statement before it. So one signature over it covers every receipt up to there:

    {"batch":3,"first_position":41,"hashes":["9f86…","2c26…"],"prev_batch_hash":"sha256:…","schema":"wcp.receipt-batch.v2",
     "sealed_at":"2026-01-31T08:00:00.000Z","spec_version":"0.2","state_hash":"sha256:…","state_seq":7}

It also names the last receipt of the state stream. So the last batch shows whether the events are exactly those that
were written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json, parse_canonical
from wcp_route.domain.clock import format_ms
from wcp_route.storage.receipts.receipt import MAX_STATEMENT_BYTES, SPEC_VERSION, ReceiptHead, ReceiptIndex
from wcp_route.storage.state_errors import ReceiptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.storage.receipts.body import Draft
    from wcp_route.storage.receipts.sign import ReceiptSigner

SIGNATURE_BYTES: Final = 64  # of Ed25519, RFC 8032
BATCH_SCHEMA: Final = "wcp.receipt-batch.v2"


class ChainRow(NamedTuple):
    """A receipt as the table holds it; `found_by` is None when it comes from an export."""

    position: int
    stream: str
    seq: int
    hash: str
    body: bytes
    found_by: ReceiptIndex | None


class Batch(NamedTuple):
    """A sealed batch as the table holds it; `key_id` and `signature` are None when it is not signed."""

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
        state: the last receipt of the state stream.
    """

    position: int = 0
    batch: int = 0
    batch_hash: str = ""
    state: ReceiptHead = field(default_factory=ReceiptHead)


def link(draft: Draft, head: ReceiptHead, position: int) -> tuple[ChainRow, ReceiptHead]:
    """Give a draft its place: the row to store, and the head of its stream from then on.

    Args:
        draft: what is to be written.
        head: the present head of its stream.
        position: of the receipt.

    Raises:
        ReceiptError: it cannot be written.
    """
    body = draft.body(head)
    after = ReceiptHead(head.seq + 1, sha256(body).hexdigest())
    return ChainRow(position, draft.stream, after.seq, after.hash, body, draft.found_by), after


def seal(
    hashes: Sequence[str], tip: Tip, state: ReceiptHead, *, at_ms: int, signer: ReceiptSigner | None
) -> tuple[Batch, Tip]:
    """Make the batch of receipts with these hashes that follows `tip`, and the tip that follows it.

    Args:
        hashes: SHA-256 of the receipts in hex, in order.
        tip: where the store ends.
        state: the last receipt of the state stream up to and with this batch.
        at_ms: the time of sealing, milliseconds since 1970.
        signer: signs the batch; None for an unsigned store.

    Raises:
        ReceiptError: the signer did not return an Ed25519 signature.
    """
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
            "state_hash": state.named,
            "state_seq": state.seq,
        }
    )
    key_id, signature = (None, None) if signer is None else (signer.key_id, signer.sign(statement))
    if signer is not None and (not isinstance(signature, bytes) or len(signature) != SIGNATURE_BYTES):
        raise ReceiptError("the receipt key gave no Ed25519 signature; nothing is written")
    after = Tip(tip.position + len(listed), number, sha256(statement).hexdigest(), state)
    return Batch(number, statement, key_id, signature), after


@dataclass(frozen=True, slots=True)
class BatchStatement:
    """A batch statement, read back."""

    batch: int
    first_position: int
    hashes: tuple[str, ...]
    prev_batch_hash: str | None
    state: ReceiptHead

    @property
    def last_position(self) -> int:
        """The position of its last receipt."""
        return self.first_position + len(self.hashes) - 1

    @classmethod
    def from_bytes(cls, data: bytes) -> BatchStatement:
        """Read a statement.

        Args:
            data: the exact bytes.

        Raises:
            ConfigError: it is not a batch statement in canonical JSON.
        """
        value = parse_canonical(data, what="batch statement", max_bytes=MAX_STATEMENT_BYTES)
        if not isinstance(value, dict) or value.get("schema") != BATCH_SCHEMA or value.keys() != _FIELDS.keys():
            raise ConfigError(f"batch statement is not of {BATCH_SCHEMA}")
        fields = cast("dict[str, Any]", value)
        hashes, seq, digest = fields["hashes"], fields["state_seq"], fields["state_hash"]
        if (
            not all(type(fields[name]) in types for name, types in _FIELDS.items())
            or not all(isinstance(item, str) for item in hashes)
            or fields["spec_version"] != SPEC_VERSION
            or seq < 0
            or (digest is None) != (seq == 0)
        ):
            raise ConfigError("batch statement has a field of another type")
        state = ReceiptHead(seq, digest.removeprefix("sha256:")) if seq else ReceiptHead()
        return cls(fields["batch"], fields["first_position"], tuple(hashes), fields["prev_batch_hash"], state)


_FIELDS: Final[dict[str, tuple[type, ...]]] = {  # `type` of each value, exactly: true is no number
    "schema": (str,),
    "spec_version": (str,),
    "batch": (int,),
    "first_position": (int,),
    "hashes": (list,),
    "prev_batch_hash": (str, type(None)),
    "sealed_at": (str,),
    "state_hash": (str, type(None)),
    "state_seq": (int,),
}
