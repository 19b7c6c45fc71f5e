"""Check that receipts are those that were written. No files and no clock: the input is batches and rows, in order.

What is checked, and what each finds:

1. batches follow each other without a gap, each naming the one before by hash       a batch removed or replaced
2. a given key signed the statement                                                 a history rewritten from some point
3. the rows are exactly those whose hashes the statement lists, in that order       edited, deleted, added, reordered
4. a body is canonical and says of itself what its row says                         moved to another stream or place
5. every receipt follows the one before it in its stream                            forked, spliced
6. the columns that receipts are found by repeat the body                           hidden from a search
7. a batch names the last event of the state stream                                 events that nobody sealed
8. a head that was kept elsewhere is among the batches                              cut off at the end
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError
from wcp_route.storage.ledger_state import STATE_STREAM
from wcp_route.storage.receipts.beginning import Origin
from wcp_route.storage.receipts.chain import Batch, BatchStatement, ChainRow, Tip
from wcp_route.storage.receipts.receipt import ReceiptHead, index_of, parse_body
from wcp_route.storage.receipts.sign import SignedHead, is_signed_by
from wcp_route.storage.state_errors import ReceiptsBroken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wcp_route.storage.receipts.sign import ReceiptKey


@dataclass(frozen=True, slots=True)
class Checked:
    """The result of checking receipts that are all good.

    Attributes:
        receipts: how many there are.
        batches: in how many batches.
        streams: in how many streams.
        signed: whether a given key signed every batch; if False, a rewritten history looks the same.
        anchored: whether they contain a head kept elsewhere; if False, receipts may be missing at the end.
        last_hash: of the last receipt, hex.
    """

    receipts: int
    batches: int
    streams: int
    signed: bool
    anchored: bool
    last_hash: str


class Checker:
    """Checks the batches once, in order. Raises at the first bad receipt.

    Args:
        keys: whose signatures are trusted.
        head: a head kept elsewhere, as `SignedHead.to_bytes` wrote it.
        unsigned: accept batches without a signature; then only mistakes are found, not a rewritten history.
        origin: where the receipts begin, when earlier ones were pruned.

    Attributes:
        tip: the end of the last good batch.

    Raises:
        ReceiptsBroken: none of the keys signed the origin, or the origin names another batch than the kept head.
        ConfigError: there is no key and `unsigned` is not set, or the head is not signed by one of the keys.
    """

    def __init__(
        self,
        keys: Sequence[ReceiptKey],
        *,
        head: bytes | None = None,
        unsigned: bool = False,
        origin: Origin | None = None,
    ) -> None:
        if not keys and not unsigned:
            raise ConfigError("no receipt key is given; without one, nothing vouches for the receipts")
        self._keys = {key.key_id: key for key in keys}
        self._unsigned = unsigned
        self._all_signed = bool(keys)
        self._heads: dict[str, ReceiptHead] = {}
        self.tip = Tip()
        self._begin = origin or Origin()
        self._last_hash = ""
        if origin is not None and origin.batch:
            signed = is_signed_by(self._keys, origin.statement, origin.key_id, origin.signature)
            if not signed and (origin.key_id in self._keys or not self._unsigned):
                raise ReceiptsBroken("signature", origin.position + 1, "no given key signed where the receipts begin")
            self._all_signed = self._all_signed and signed
            self.tip = Tip(origin.position, origin.batch, origin.batch_hash, origin.state)
            self._heads[STATE_STREAM] = origin.state
        self._anchor: tuple[int, str] | None = None
        if head is not None:
            kept = SignedHead.from_bytes(head)
            if not is_signed_by(self._keys, kept.statement, kept.key_id, kept.signature):
                raise ConfigError("the kept head is not signed by one of the given keys")
            self._anchor = BatchStatement.from_bytes(kept.statement).batch, sha256(kept.statement).hexdigest()
            if self._anchor[0] == self._begin.batch and self._anchor[1] != self._begin.batch_hash:
                lost = f"batch {self._begin.batch}, the last one that was pruned, is not the one of the kept head"
                raise ReceiptsBroken("edited", self._begin.position, lost)

    def check(self, batch: Batch, rows: Iterator[ChainRow]) -> None:
        """Check the next batch with its receipts. Takes only as many rows as the batch has.

        Args:
            batch: as the table holds it.
            rows: the receipts that follow, in order.

        Raises:
            ReceiptsBroken: one of them is bad.
        """
        first = self.tip.position + 1
        statement = self._statement(batch, first)
        signed = is_signed_by(self._keys, batch.statement, batch.key_id, batch.signature)
        if not signed and (batch.key_id in self._keys or not self._unsigned):
            what = "is not signed"
            if batch.key_id in self._keys:
                what = "has a signature that does not hold"
            elif batch.key_id is not None:
                what = f"is signed by the key {batch.key_id[:16]}…, which is not given"
            raise ReceiptsBroken("signature", first, f"batch {batch.number} {what}")
        self._all_signed = self._all_signed and signed
        digest = sha256(batch.statement).hexdigest()
        if self._anchor is not None and self._anchor[0] == batch.number and self._anchor[1] != digest:
            raise ReceiptsBroken("edited", first, f"batch {batch.number} is not the one of the kept head")
        for index, expected in enumerate(statement.hashes):
            position = first + index
            row = next(rows, None)
            found = None if row is None else sha256(row.body).hexdigest()
            if row is None or row.position != position or found != expected:
                raise self._difference(position, statement.hashes[index:], row, rows)
            self._check_row(row, expected)
        state = self._heads.get(STATE_STREAM, ReceiptHead())
        if statement.state != state:
            raise ReceiptsBroken("edited", first, f"batch {batch.number} names another event as the last")
        self.tip = Tip(statement.last_position, batch.number, digest, state)
        self._last_hash = statement.hashes[-1]

    def finish(self, extra: ChainRow | None = None) -> Checked:
        """Return the result after the last batch.

        Args:
            extra: a receipt after the last batch, if there is one.

        Raises:
            ReceiptsBroken: there is a receipt in no batch, or fewer batches than the head knows of.
            ConfigError: there are no receipts, so nothing was checked.
        """
        after = self.tip.position + 1
        if extra is not None:
            raise ReceiptsBroken("unsealed", after, "no batch vouches for it", stream=extra.stream, seq=extra.seq)
        if self._anchor is not None and self._anchor[0] < self._begin.batch:
            raise ConfigError("the kept head is older than what was pruned; use a newer head")
        if self._anchor is not None and self._anchor[0] > self.tip.batch:
            lost = f"the kept head is of batch {self._anchor[0]}, and the last one here is {self.tip.batch}"
            raise ReceiptsBroken("truncated", after, lost)
        if self.tip.batch == self._begin.batch:
            raise ConfigError("there are no receipts; nothing was checked")
        return Checked(
            receipts=self.tip.position - self._begin.position,
            batches=self.tip.batch - self._begin.batch,
            streams=len(self._heads),
            signed=self._all_signed,
            anchored=self._anchor is not None,
            last_hash=self._last_hash,
        )

    def _statement(self, batch: Batch, first: int) -> BatchStatement:
        try:
            statement = BatchStatement.from_bytes(batch.statement)
        except ConfigError as problem:
            raise ReceiptsBroken("unreadable", first, str(problem)) from None
        wanted = self.tip.batch + 1
        if batch.number != wanted or statement.batch != wanted:
            raise ReceiptsBroken("deleted", first, f"batch {wanted} is missing")
        previous = f"sha256:{self.tip.batch_hash}" if self.tip.batch else None
        if statement.prev_batch_hash != previous or statement.first_position != first or not statement.hashes:
            raise ReceiptsBroken("edited", first, f"batch {wanted} does not follow the batch before it")
        return statement

    def _check_row(self, row: ChainRow, expected: str) -> None:
        """Check that a row repeats its sealed body and that it is the next one in its stream."""
        try:
            fields = parse_body(row.body, what="its body")
        except ConfigError as problem:
            raise ReceiptsBroken("unreadable", row.position, str(problem), stream=row.stream, seq=row.seq) from None
        head = self._heads.get(row.stream)
        if head is None and self._begin.batch:  # the receipts before it in its stream were pruned; the batch vouches
            named = str(fields.get("prev_receipt_hash")).removeprefix("sha256:")
            head = ReceiptHead(row.seq - 1, named) if row.seq > 1 else ReceiptHead()
        head = head or ReceiptHead()
        if row.hash != expected or (fields.get("stream"), fields.get("seq")) != (row.stream, row.seq):
            raise self._broken("edited", row, "its columns do not repeat its body")
        try:
            found_by = row.found_by and index_of(fields)
        except ConfigError:
            found_by = None
        if row.found_by != found_by:
            raise self._broken("edited", row, "the columns that it is found by do not repeat its body")
        if row.seq > head.seq + 1:
            raise self._broken("deleted", row, f"number {head.seq + 1} of the stream is missing before it")
        if row.seq != head.seq + 1 or fields.get("prev_receipt_hash") != head.named:
            raise self._broken("forked", row, f"it does not follow number {head.seq} of the stream")
        self._heads[row.stream] = ReceiptHead(row.seq, expected)

    def _difference(
        self, position: int, expected: Sequence[str], row: ChainRow | None, rows: Iterator[ChainRow]
    ) -> ReceiptsBroken:
        """Say how the first bad receipt of a batch differs from the sealed one, by looking at the rest of the batch."""
        if row is None:
            return ReceiptsBroken("deleted", position, "it is not there")
        rest = {sha256(one.body).hexdigest() for one in itertools.islice(rows, len(expected))}
        found = sha256(row.body).hexdigest()
        if row.position > position or (found in expected[1:] and expected[0] not in rest):
            return ReceiptsBroken("deleted", position, "another stands in its place")
        if expected[0] in rest:
            return self._broken("reordered", row, "it is not the one that was sealed here, which stands further on")
        return self._broken("edited", row, "its content is not what was sealed")

    @staticmethod
    def _broken(kind: str, row: ChainRow, detail: str) -> ReceiptsBroken:
        return ReceiptsBroken(kind, row.position, detail, stream=row.stream, seq=row.seq)
