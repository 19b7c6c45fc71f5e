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
        self._begin = begin = origin or Origin()
        self._last_hash = ""
        if begin.batch:
            if not self._is_signed(begin):
                raise ReceiptsBroken("signature", begin.position + 1, "no given key signed where the receipts begin")
            self.tip = Tip(begin.position, begin.batch, begin.batch_hash, begin.state)
            self._heads[STATE_STREAM] = begin.state
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
        if not self._is_signed(batch):
            name = batch.key_id
            what = "is not signed" if name is None else f"is signed by the key {name[:16]}…, which is not given"
            what = "has a signature that does not hold" if name in self._keys else what
            raise ReceiptsBroken("signature", first, f"batch {batch.number} {what}")
        digest = sha256(batch.statement).hexdigest()
        if self._anchor is not None and self._anchor[0] == batch.number and self._anchor[1] != digest:
            raise ReceiptsBroken("edited", first, f"batch {batch.number} is not the one of the kept head")
        for index, expected in enumerate(statement.hashes):
            position = first + index
            row = next(rows, None)
            found = None if row is None else (row.position, sha256(row.body).hexdigest())
            if row is None or found != (position, expected):
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

    def _is_signed(self, what: Batch | Origin) -> bool:
        """Tell whether one of the keys signed a batch or the beginning, or whether it may do without."""
        if is_signed_by(self._keys, what.statement, what.key_id, what.signature):
            return True
        self._all_signed = False
        return self._unsigned and what.key_id not in self._keys

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
        head = self._heads.get(row.stream, ReceiptHead())
        if row.stream not in self._heads and self._begin.batch and row.seq > 1:
            # The receipts before it in its stream were pruned; the batch vouches for what it follows.
            head = ReceiptHead(row.seq - 1, str(fields.get("prev_receipt_hash")).removeprefix("sha256:"))
        if (row.hash, fields.get("stream"), fields.get("seq")) != (expected, row.stream, row.seq):
            raise self._broken("edited", row, "its columns do not repeat its body")
        try:
            found = row.found_by is None or row.found_by == index_of(fields)
        except ConfigError:
            found = False
        if not found:
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
