"""The ledger: one hash chain for decisions and for everything that changes what a decision is made from.

    ledger = Ledger(Database("hall.db", create=True), signer=signer)
    ledger.append([evidence])                       # returns when the receipt is on disk
    ledger.change(lambda state: [some_event])       # decided and written in one transaction
    ledger.state().quarantined                      # what all events add up to, also those of other processes

One thread writes. Each transaction looks at the end of the chain first, so several processes, on PostgreSQL on several
machines, keep one chain. The state is read from the events, checked against the last sealed batch, and never from a
table that somebody could edit.
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
    from wcp_route.storage.receipts.chain import Batch
    from wcp_route.storage.receipts.sign import ReceiptKey, ReceiptSigner

MAX_HEADS: Final = 100_000  # streams whose end is remembered
MAX_CORRECTIONS: Final = 1000  # waiting to be written
_log = logging.getLogger("wcp_route")


class Ledger(Closing):
    """An open ledger. Safe to share between threads, not between processes.

    Args:
        database: where it is; the ledger closes it.
        signer: who vouches for the batches; a Hall in prod or edge must have one.
        keys: further public keys whose last batch is accepted, after a change of the key.
        head: a head kept elsewhere; a ledger that does not contain it is refused.
        read_only: nothing will be written; a signed ledger may be read without a key then.
        guarded: refuse a ledger that ends in a batch nobody signed.
        clock: the time, milliseconds since 1970.

    Attributes:
        signed: whether batches are signed.
        durable: whether what is written outlives the process.
        database: where it is.
        known_state: what all events add up to as far as this process has seen them; nobody was asked for newer ones. A
            decision made from it is good only if its receipt is submitted as `current`.

    Raises:
        StateError: it cannot be used, or its events are not what was sealed.
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

    keeps_deadlines: Final = True  # no call waits longer than it is told

    def close(self) -> None:
        """Write what is waiting and close the database.

        Raises:
            ReceiptError: the writer is stuck.
        """
        try:
            self._writer.close()
        finally:
            self.database.close()

    def append(self, evidence: Sequence[Evidence], /, *, seconds: float = WAIT_SECONDS) -> None:
        """Return when a receipt of each is on disk.

        Args:
            evidence: what the receipts say.
            seconds: how long to wait at most.

        Raises:
            ReceiptError: one is not, or not known to be.
            ApprovalError: a grant or a hold that goes along is not good any more.
        """
        self.submit(evidence, seconds=seconds).wait()

    def submit(
        self, evidence: Sequence[Evidence], /, *, seconds: float = WAIT_SECONDS, current: bool = False
    ) -> Submitted:
        """Begin to `append`, so that the caller can go on deciding while the disk works.

        A hold or a grant that goes along with a piece of evidence is made or used up in the transaction of its receipt.
        What cannot be written fails alone.

        Args:
            evidence: what the receipts say.
            seconds: how long to wait at most.
            current: whether a decision is refused, with `StateMoved`, when the registry has changed since it was made.

        Raises:
            ReceiptError: the ledger is closed, or was opened for reading only.
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
        for _, group in groups:
            self._writer.put(group)
        return submitted

    def change(self, plan: Callable[[LedgerState], Sequence[JsonObject]], *, seconds: float = WAIT_SECONDS) -> None:
        """Decide on events by the state as it is, and return when they are on disk.

        Args:
            plan: called in the write transaction, perhaps more than once; what it returns is written as a whole.
            seconds: how long to wait at most.

        Raises:
            Error: whatever `plan` raises; nothing is written then.
            ReceiptError: the events are not durable.
        """
        group = Group([], seconds, lambda state: [draft_event(one) for one in plan(state)])
        self._writer.put(group)
        Submitted(self._writer, [([0], group)]).wait()

    def state(self) -> LedgerState:
        """Return what all events add up to, also those that other processes have written by now.

        Raises:
            StateError: the ledger cannot be read, or its events are not what was sealed.
        """
        database = self.database
        if not database.durable and not self._read_only:
            return self.known_state  # nobody else can write to it
        if database.moved() != self.known_state.seq:
            with self._looking:
                known = self.known_state  # before the database is looked at, so that it cannot be the newer one
                with database.reading() as connection:
                    self._look(connection, known)
        return self.known_state

    def state_now(self) -> LedgerState | None:
        """Return what `state` does, or none where it could not without waiting or reading new events.

        Raises:
            StateError: the ledger cannot be read.
        """
        database = self.database
        if not database.durable and not self._read_only:
            return self.known_state
        return self.known_state if database.moved_now() == self.known_state.seq else None

    def activate(self, env: str, active: JsonObject, *, by: str = "hall") -> bool:
        """Write down what a Hall decides by from now on, unless it is what the ledger says already.

        Args:
            env: the Hall's environment.
            active: digests of rules, settings and trust policy, and what else is in force.
            by: who starts or changes the Hall.

        Returns:
            Whether an event was written. A ledger opened for reading only takes none.

        Raises:
            ReceiptError: the event is not durable.
        """
        if self._read_only or self.state().active.get(env) == active:
            return False

        said = event("hall.activated", at_ms=self._clock(), by=by, env=env, active=active)
        self.change(lambda state: [] if state.active.get(env) == active else [said])
        return True

    def states_at(self, *numbers: int) -> list[LedgerState]:
        """Return the states after some events; every event up to the last one sealed is checked on the way.

        Args:
            numbers: of the events; 0 is the state before the first.

        Raises:
            ConfigError: there is no such event, or those before it were pruned.
            StateError: the ledger cannot be read, or its events are not what was sealed.
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
        """Sign where the ledger begins from now on, in a write transaction of the database.

        Args:
            connection: in a transaction of the ledger's database.
            origin: where the ledger begins.
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
        """Make the groups durable in one transaction, or say in each why not."""
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
                wait = max(0.01, left * 0.8)  # less than is left, so that callers hear the reason
                with self.database.writing(wait, appending=True) as connection:
                    written = self._write(connection, waiting)
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
            except Exception as problem:  # noqa: BLE001  # the database's, or anything that a signer raises
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
        self._tip = Tip(batch=-1)  # whatever was thought to be there is read again
        if unsure is not None:  # it may be durable all the same; the next transaction sees
            rows = itertools.chain.from_iterable(unsure.of_group.values())
            self._unsure = (unsure.batches[-1], corrections_of(rows, self._clock()))

    def _done(self, groups: list[Group], written: Written | None) -> None:
        for group in groups:  # only now: whatever ends this thread earlier must not look like success
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
        kept = {id(group) for group in self._writer.still_wanted(groups)}
        for group in groups:
            if id(group) not in kept:  # its caller was told that there is no receipt
                more = corrections_of(written.of_group.get(id(group), []), self._clock())
                self._corrections = (self._corrections + more)[-MAX_CORRECTIONS:]
        if self._corrections:
            self._commit([Group([], WAIT_SECONDS)], lambda: None)  # what fails goes along with the next receipts

    def _write(self, connection: Connection, groups: list[Group]) -> Written | None:
        """Place the groups at the end of the chain and insert their rows; None when there is nothing to write."""
        # 1. Read the end afresh when another process may have moved it.
        if self.database.last_batch(connection) != self._tip.batch:
            self._heads.clear()
            self._tip = self._look(connection, self.known_state)
            if self._unsure is not None:
                batch, corrections = self._unsure
                self._unsure = None
                columns = tables.batches.c
                query = select(columns.statement).where(columns.number == batch.number)
                if connection.execute(query).scalar() == batch.statement:  # durable, and its callers told otherwise
                    self._corrections = (self._corrections + corrections)[-MAX_CORRECTIONS:]
        # 2. Give each draft its place.
        tip = self._tip
        made = Placing(self.known_state, tip.position, lambda stream: self._head(connection, stream))
        if self._corrections:
            made.place([draft_event(one) for one in self._corrections], None, whole=True)
        for group in groups:
            try:
                drafts = group.drafts if group.plan is None else group.plan(made.state)
                made.place(drafts, group, whole=group.plan is not None)
                group.placed = True
            except Error as problem:  # its own fault: the others are written
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
            connection: sees one moment of the database.
            state: as it was known before that moment.

        Returns:
            Where the ledger ends.

        Raises:
            StateError: it is not what was sealed, or older than it was.
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
