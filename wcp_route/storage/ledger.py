"""The ledger: one hash chain for decisions and for all changes of the state that decisions depend on.

    ledger = Ledger(Database("hall.db", create=True), signer=signer)
    ledger.append([evidence])                       # returns when the receipt is on disk
    ledger.change(lambda state: [some_event])       # decided and written in one transaction
    ledger.state().quarantined                      # computed from all events, also those of other processes

One thread writes. Each transaction first reads the end of the chain, so several processes (on PostgreSQL also several
machines) share one chain. The state is computed from the events and checked against the last sealed batch. It is never
read from a table that somebody could edit.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from wcp_attest.base.errors import ConfigError, Error
from wcp_route.domain.clock import now_ms
from wcp_route.domain.closing import Closing
from wcp_route.domain.events import one_line
from wcp_route.storage import tables
from wcp_route.storage.approval_events import plan_for
from wcp_route.storage.database import WAIT_SECONDS, Database
from wcp_route.storage.ledger_reader import LedgerReader
from wcp_route.storage.ledger_rows import Placing, Written, corrections_of, insert_rows
from wcp_route.storage.ledger_state import STATE_STREAM, LedgerState, event
from wcp_route.storage.receipts.beginning import Origin
from wcp_route.storage.receipts.body import draft, draft_event
from wcp_route.storage.receipts.chain import Tip, seal
from wcp_route.storage.receipts.receipt import MAX_BATCH, ReceiptHead
from wcp_route.storage.receipts.sign import SignedHead
from wcp_route.storage.receipts.writer import Group, GroupWriter, Submitted, TakenBack
from wcp_route.storage.state_errors import ReceiptError, StateBusy, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.decision import Evidence
    from wcp_route.storage.receipts.body import Draft
    from wcp_route.storage.receipts.chain import Batch
    from wcp_route.storage.receipts.sign import ReceiptKey, ReceiptSigner

MAX_HEADS: Final = 100_000  # streams whose end is kept in memory
MAX_CORRECTIONS: Final = 1000  # that wait to be written
_log = logging.getLogger("wcp_route")


class Ledger(Closing):
    """An open ledger. Safe to share between threads, not between processes.

    Args:
        database: the database of the ledger; the ledger closes it.
        signer: signs the batches; a Hall in prod or edge must have one.
        keys: more public keys that may have signed the last batch, after a change of the key.
        head: a head that you kept elsewhere; a ledger without it is refused.
        read_only: write nothing; then a signed ledger can be read without a key.
        guarded: refuse a ledger whose last batch is not signed.
        clock: returns the current time, milliseconds since 1970.

    Attributes:
        signed: whether batches are signed.
        durable: whether the receipts outlive the process.
        database: the database of the ledger.
        known_state: the state after all events that this process has read; there may be newer ones. A decision made
            from it is valid only if its receipt is submitted as `current`.

    Raises:
        StateError: the ledger cannot be used, or its events differ from what was sealed.
    """

    def __init__(
        self,
        database: Database,
        *,
        signer: ReceiptSigner | None = None,
        keys: Sequence[ReceiptKey] = (),
        head: bytes | None = None,
        read_only: bool = False,
        guarded: bool = False,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.database, self._signer, self._clock = database, signer, clock
        self.signed, self.durable = signer is not None, database.durable
        known = {key.key_id: key for key in keys}
        if signer is not None and (own := getattr(signer, "public", None)) is not None:
            known[signer.key_id] = own
        self.reader = LedgerReader(database.name, known, read_only=read_only, guarded=guarded)
        self._heads: dict[str, ReceiptHead] = {}
        self._tip = Tip()
        self._origin = Origin()
        self._unsure: tuple[Batch, list[JsonObject]] | None = None
        self._corrections: list[JsonObject] = []
        self._looking, self._publishing = threading.Lock(), threading.Lock()
        self.known_state = LedgerState()
        with database.reading() as connection:
            self._tip = self._look(connection, self.known_state)
            if head is not None:
                self.reader.check_head(connection, SignedHead.from_bytes(head), self._origin)
        refuses = "the ledger was opened for reading only" if read_only else ""
        self._read_only, self._writer = read_only, GroupWriter(self._commit, refuses=refuses)

    keeps_deadlines: Final = True  # no call waits longer than its limit

    def close(self) -> None:
        """Write the receipts that wait, and close the database.

        Raises:
            ReceiptError: the writer's thread is stuck.
        """
        try:
            self._writer.close()
        finally:
            self.database.close()

    def append(self, evidence: Sequence[Evidence], /, *, seconds: float = WAIT_SECONDS) -> None:
        """Return when there is a receipt on disk for each piece of evidence.

        Args:
            evidence: the content of the receipts, in order.
            seconds: the longest wait, seconds.

        Raises:
            ReceiptError: a receipt is not on disk, or it is not known whether it is.
            ApprovalError: a grant or hold of the evidence is no longer valid.
        """
        self.submit(evidence, seconds=seconds).wait()

    def submit(
        self, evidence: Sequence[Evidence], /, *, seconds: float = WAIT_SECONDS, current: bool = False
    ) -> Submitted:
        """Begin to `append`, so that the caller can make more decisions while the disk works.

        When evidence has a hold or grant, the transaction of its receipt stores the hold or uses up the grant.
        A receipt that cannot be written fails alone.

        Args:
            evidence: the content of the receipts, in order.
            seconds: the longest wait, seconds.
            current: refuse a decision with `StateMoved` when the registry has changed since it was made.

        Returns:
            A handle to wait for the receipts.

        Raises:
            ReceiptError: none is on its way: the ledger is closed, was opened for reading only, or has no room in time.
        """
        submitted = Submitted(self._writer, [])
        groups = submitted.groups
        for place, one in enumerate(evidence):
            try:
                written = draft(one, current=current)
            except ReceiptError as problem:
                submitted.early[place] = problem
                continue
            plan = plan_for(one, written)
            if plan is not None:
                groups.append(([place], Group([], seconds, plan)))
                continue
            if not groups or groups[-1][1].plan is not None or len(groups[-1][0]) == MAX_BATCH:
                groups.append(([], Group([], seconds)))
            groups[-1][0].append(place)
            groups[-1][1].drafts.append(written)
        for number, (_, group) in enumerate(groups):
            try:
                self._writer.put(group)
            except ReceiptError as problem:
                if number == 0:
                    raise
                group.problem = problem  # those before it are on their way
                group.settle()
        return submitted

    def change(self, plan: Callable[[LedgerState], Sequence[JsonObject]], *, seconds: float = WAIT_SECONDS) -> None:
        """Decide on events by the current state, and return when they are on disk.

        Args:
            plan: called in the write transaction, perhaps more than once. Its events are all written, or none.
            seconds: the longest wait, seconds.

        Raises:
            Error: raised by `plan`; then nothing is written.
            ReceiptError: the events are not durable, or it is not known whether they are.
        """

        def drafts(state: LedgerState) -> list[Draft]:
            try:
                return [draft_event(one) for one in plan(state)]
            except Error:
                raise
            except Exception as problem:  # a mistake of one caller must not fail the others in this transaction
                raise StateError(f"the change failed: {one_line(problem)}; nothing is written") from problem

        group = Group([], seconds, drafts)
        self._writer.put(group)
        # A correction cannot undo an enrollment or the answer of a person, as it does for a receipt.
        late = "the change was not durable in time{why}; look whether it was made before you repeat it"
        Submitted(self._writer, [([0], group)], late=late).wait()

    def state(self) -> LedgerState:
        """Return the state after all events, also those that other processes have written.

        Raises:
            StateError: the ledger cannot be read, or its events differ from what was sealed.
        """
        database = self.database
        if not database.durable and not self._read_only:
            return self.known_state  # no other process can write to it
        if database.moved() != self.known_state.seq:
            with self._looking:
                known = self.known_state  # taken before the database is read, so that it cannot be newer
                with database.reading() as connection:
                    self._look(connection, known)
        return self.known_state

    def state_now(self) -> LedgerState | None:
        """Return the same as `state`, or None when that means to wait or to read new events.

        Raises:
            StateError: the ledger cannot be read.
        """
        database = self.database
        if not database.durable and not self._read_only:
            return self.known_state
        return self.known_state if database.moved_now() == self.known_state.seq else None

    def activate(self, env: str, active: JsonObject, *, by: str = "hall") -> bool:
        """Record what a Hall decides by from now on, unless the ledger says the same already.

        Args:
            env: the Hall's environment.
            active: the digests of rules, settings, trust policy and the rest that is in force.
            by: the person or process that starts or changes the Hall.

        Returns:
            Whether an event was written. A ledger that is opened for reading only writes none.

        Raises:
            ReceiptError: the event is not durable.
        """
        if self._read_only or self.state().active.get(env) == active:
            return False

        said = event("hall.activated", at_ms=self._clock(), by=by, env=env, active=active)
        self.change(lambda state: [] if state.active.get(env) == active else [said])
        return True

    def states_at(self, *numbers: int) -> list[LedgerState]:
        """Return the states after some events. Every event up to the last sealed one is checked.

        Args:
            numbers: the numbers of the events; 0 means the state before the first.

        Returns:
            One state for each number, in the order given.

        Raises:
            ConfigError: there is no such event, or the events before it were pruned.
            StateError: the ledger cannot be read, or its events differ from what was sealed.
        """
        found: dict[int, LedgerState] = {}
        with self.database.reading() as connection:
            origin, tip = self.reader.origin(connection), self.reader.tip(connection)
            state = LedgerState(origin.carried_seq - 1, origin.carried_prev)
            for number in sorted({*numbers, tip.state.seq}):
                if not state.seq <= number <= tip.state.seq:
                    raise ConfigError(
                        f"the ledger does not hold the state after event {number}; it was pruned, or never there"
                    )
                self.reader.apply(connection, state, number)
                found[number] = state.copy()
        if state.hash != tip.state.hash:
            raise StateError(
                f"state `{self.database.name}` holds other events than were sealed; run `receipts verify` on it"
            )
        return [found[number] for number in numbers]

    def set_origin(self, connection: Connection, origin: Origin) -> None:
        """Sign and store the new beginning of the ledger, in a write transaction.

        Args:
            connection: a connection in a write transaction of the ledger's database.
            origin: the new beginning.
        """
        statement = origin.to_statement(self._clock())
        signer = self._signer
        key_id, signature = (None, None) if signer is None else (signer.key_id, signer.sign(statement))
        connection.execute(tables.origins.delete())
        connection.execute(
            tables.origins.insert().values(number=1, statement=statement, key_id=key_id, signature=signature)
        )

    # Writing: in the writer's thread only

    def _commit(self, groups: list[Group], prepared: Callable[[], None]) -> None:
        """Make the groups durable in one transaction, or set in each group why not."""
        writer = self._writer
        for group in groups:
            group.problem = ReceiptError("the receipt was not durable in time; it is not written")
            group.placed = False
        waiting = groups
        while waiting := [each for each in writer.still_wanted(waiting) if each.deadline > time.monotonic()]:
            written: Written | None = None
            begun = False
            try:
                left = min(group.deadline for group in waiting) - time.monotonic()
                wait = max(0.01, left * 0.8)  # less than the time left, so that callers get the reason
                with self.database.appending(wait) as (connection, last_batch):
                    written = self._write(connection, last_batch, waiting)
                    prepared()
                    writer.begin_commit(waiting)
                    begun = True
            except TakenBack:
                continue
            except StateBusy as problem:
                for group in waiting:
                    group.delay = str(problem)
                    group.problem = ReceiptError(group.delay)
                continue
            except Exception as problem:  # noqa: BLE001  # from the database or the signer
                self._failed(waiting, problem, written if begun else None)
                return
            self._done(waiting, written)
            return

    def _failed(self, groups: list[Group], problem: Exception, unsure: Written | None) -> None:
        if not isinstance(problem, Error):
            _log.error("receipts could not be written", exc_info=problem)
        text = str(problem) if isinstance(problem, Error) else f"the receipts failed: {type(problem).__name__}"
        for group in groups:
            if group.problem is not None and not isinstance(group.problem, ReceiptError):
                continue  # its own plan refused
            group.problem = ReceiptError(text)
        self._tip = Tip(batch=-1)  # forces the next transaction to read the end again
        if unsure is not None:  # it may be durable after all; the next transaction checks
            rows = itertools.chain.from_iterable(unsure.of_group.values())
            self._unsure = (unsure.batches[-1], corrections_of(rows, self._clock()))

    def _done(self, groups: list[Group], written: Written | None) -> None:
        for group in groups:  # only now: if this thread ends earlier, that must not look like success
            if group.placed:
                group.problem = None
        if written is None:
            return
        if written.rows:
            self._tip = written.tip
            self._publish(written.state, self._origin)
            self._heads.update(written.heads)
            self._corrections = []
            if len(self._heads) > MAX_HEADS:
                self._heads.clear()
        for group in self._writer.given_up(groups):  # the caller was told that there is no receipt
            more = corrections_of(written.of_group.get(id(group), []), self._clock())
            self._corrections = (self._corrections + more)[-MAX_CORRECTIONS:]
        if self._corrections:
            self._commit([Group([], WAIT_SECONDS)], lambda: None)  # if this fails, the next one tries

    def _write(self, connection: Connection, last_batch: int, groups: list[Group]) -> Written | None:
        """Place the groups at the end of the chain and insert their rows; None when there is nothing to write."""
        # 1. Read the end again when another process may have moved it.
        if last_batch != self._tip.batch:
            self._heads.clear()
            self._tip = self._look(connection, self.known_state)
            if self._unsure is not None:
                batch, corrections = self._unsure
                self._unsure = None
                columns = tables.batches.c
                query = select(columns.statement).where(columns.number == batch.number)
                if (
                    connection.execute(query).scalar() == batch.statement
                ):  # durable, but its callers were told it is not
                    self._corrections = (self._corrections + corrections)[-MAX_CORRECTIONS:]
        # 2. Give each draft its place.
        tip = self._tip
        made = Placing(self.known_state, tip.position, lambda stream: self._head(connection, stream))
        if self._corrections:
            made.place([draft_event(one) for one in self._corrections], None, whole=True)
        for group in groups:
            group.problems.clear()  # of an earlier attempt
            try:
                drafts = group.drafts if group.plan is None else group.plan(made.state)
                made.place(drafts, group, whole=group.plan is not None)
                group.placed = True
            except Error as problem:  # only this group fails; the others are written
                group.problem, group.placed = problem, False
        if not made.rows:
            return None
        # 3. Seal them in batches.
        sealed: list[tuple[Batch, Tip]] = []
        end = tip
        for start in range(0, len(made.rows), MAX_BATCH):
            part = made.rows[start : start + MAX_BATCH]
            events = [ReceiptHead(row.seq, row.hash) for row in part if row.stream == STATE_STREAM]
            state = events[-1] if events else end.state
            batch, end = seal([row.hash for row in part], end, state, at_ms=self._clock(), signer=self._signer)
            sealed.append((batch, end))
        # 4. Insert them.
        insert_rows(connection, self.database, made.rows, sealed, tip)
        return Written(made.rows, made.heads, made.state, [batch for batch, _ in sealed], end, made.of_group)

    def _head(self, connection: Connection, stream: str) -> ReceiptHead:
        known = self._heads.get(stream)
        if known is None:
            columns = tables.receipts.c
            query = (
                select(columns.seq, columns.hash).where(columns.stream == stream).order_by(columns.seq.desc()).limit(1)
            )
            row = connection.execute(query).first()
            known = self._heads[stream] = ReceiptHead() if row is None else ReceiptHead(row.seq, row.hash)
        return known

    # Reading

    def _look(self, connection: Connection, state: LedgerState) -> Tip:
        """Read the end of the ledger, apply the events that are new, and publish the state if it was sealed.

        Args:
            connection: a connection that sees one moment of the database.
            state: the state that was known before that moment.

        Returns:
            Where the ledger ends.

        Raises:
            StateError: the ledger differs from what was sealed, or is older than before.
        """
        name = self.database.name
        origin, tip = self.reader.origin(connection), self.reader.tip(connection)
        if tip.state.seq < state.seq or origin.batch < self._origin.batch:
            raise StateError(f"state `{name}` is older than it was before; it was put back, or cut off")
        if tip.state.seq > state.seq:
            fresh = (
                LedgerState(origin.carried_seq - 1, origin.carried_prev)
                if state.seq < origin.carried_seq
                else state.copy()
            )
            self.reader.apply(connection, fresh, tip.state.seq)
            if fresh.hash != tip.state.hash:
                raise StateError(f"state `{name}` holds other events than were sealed; run `receipts verify` on it")
            state = fresh
        elif state.hash != tip.state.hash:
            raise StateError(f"state `{name}` holds other events than before; run `receipts verify` on it")
        self._publish(state, origin)
        return tip

    def _publish(self, state: LedgerState, origin: Origin) -> None:
        with self._publishing:
            if state.seq >= self.known_state.seq:
                self.known_state = state
            if origin.batch >= self._origin.batch:
                self._origin = origin
