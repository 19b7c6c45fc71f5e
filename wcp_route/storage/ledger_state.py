"""The state computed from the ledger's events: enrolled workers, quarantine, holds, and what is in force.

An event is a receipt of the state stream. The events are applied in their order. So the state cannot differ from the
ledger, and the state of any past moment can be computed again.

    {"at":"2026-01-31T08:00:00.000Z","by":"ada","kind":"worker.quarantined","prev_receipt_hash":"sha256:…","reason":"…",
     "receipt_id":"…","schema":"wcp.ledger-event.v1","seq":7,"spec_version":"0.2","stream":"!state","via":"os-user",
     "worker_id":"org.acme.summarizer"}
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json, sha256_of
from wcp_route.domain.clock import format_ms, parse_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import Hold
from wcp_route.domain.ids import new_id_at
from wcp_route.domain.values import LEVELS, Quarantine, RegistrySnapshot
from wcp_route.storage.holds import HoldEntry
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.storage.holds import HoldState

T = TypeVar("T")
EVENT_SCHEMA: Final = "wcp.ledger-event.v1"
STATE_STREAM: Final = "!state"  # no tenant's stream begins with `!`
KEEP_SETTLED_MS: Final = 86_400_000  # how long an expired hold can still be looked up
MAX_REPORTS: Final = 1000  # ban reports that are kept; reviewed reports are removed first
MAX_SETTLED: Final = 100_000  # holds, and denied requests, that are kept
_SPEC_VERSION: Final = "0.2"
_KEPT: Final = ("workers", "quarantined", "holds", "open", "granted", "denied", "reports", "active")
_HOLD_NUMBERS: Final = frozenset({"created_at_ms", "expires_at_ms", "blast_score"})
_HOLD_FIELDS: Final = frozenset(field.name for field in fields(Hold))


OF_REGISTRY: Final = ("worker.enrolled", "worker.withdrawn", "worker.quarantined", "worker.cleared")
KINDS: Final = (  # the last kind is in the stream of the decision and changes no state
    *OF_REGISTRY, "worker.holds_cancelled",
    "approval.held", "approval.approved", "approval.denied", "approval.escalated", "approval.redeemed",
    "approval.restored", "approval.cancelled", "approval.denied_before",
    "ban.reported", "ban.reviewed", "hall.activated", "ledger.carried", "decision.corrected",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EnrolledWorker:
    """A record in the registry.

    Attributes:
        record: the record, with the package root.
        digest: `sha256:` of the record and its package root.
        by: the person who enrolled it.
        at_ms: the time of the enrollment, milliseconds since 1970.
    """

    record: WorkerRecord
    digest: str
    by: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class BanReport:
    """A package that somebody reported to the ban authority.

    Attributes:
        sha256: the hash of the package, 64 hex digits.
        reason: why it should be banned.
        by: the person who reported it.
        at_ms: the time of the report, milliseconds since 1970.
        evidence_url: a page with more information; empty when not given.
        status: `pending`, `confirmed` or `dismissed`.
        reviewed_by: the person who reviewed it; empty before the review.
        review: the reason of the review.
    """

    sha256: str
    reason: str
    by: str
    at_ms: int
    evidence_url: str = ""
    status: str = "pending"
    reviewed_by: str = ""
    review: str = ""


class LedgerState:
    """The state after some event. It no longer changes once other threads can see it.

    Attributes:
        seq: number of the last event applied, 0 before the first.
        hash: SHA-256 of that event, hex.
        registry_seq: number of the last event that changed workers or quarantine.
        workers: the enrolled workers, by id.
        quarantined: the quarantines, by worker id; such a worker need not be enrolled.
        holds: the holds by pending id, oldest first; each is kept for a day after it expires.
        open: the pending id of the hold that waits or is approved, by input hash and worker id.
        granted: pending ids by grant hash.
        denied: the requests that a human denied or took over, by input hash.
        reports: the packages reported to the ban authority, by SHA-256, oldest first.
        active: what the last started or changed Hall of each environment decides by, as digests.
    """

    __slots__ = (
        "active", "denied", "granted", "hash", "holds", "open", "quarantined", "registry_seq", "reports", "seq",
        "workers",
    )  # fmt: skip

    def __init__(self, seq: int = 0, digest: str = "") -> None:
        self.seq, self.hash, self.registry_seq = seq, digest, 0
        self.workers: dict[str, EnrolledWorker] = {}
        self.quarantined: dict[str, Quarantine] = {}
        self.holds: dict[str, HoldEntry] = {}
        self.open: dict[tuple[str, str], str] = {}
        self.granted: dict[str, str] = {}
        self.denied: dict[str, str] = {}
        self.reports: dict[str, BanReport] = {}
        self.active: JsonObject = {}

    def copy(self) -> LedgerState:
        """Return a state that can be changed without changing this one."""
        other = LedgerState(self.seq, self.hash)
        other.registry_seq = self.registry_seq
        for name in _KEPT:
            setattr(other, name, getattr(self, name).copy())
        return other

    def apply(self, event: JsonObject, digest: str) -> None:
        """Apply the next event.

        Args:
            event: the fields of the event.
            digest: SHA-256 of the event's body, hex.

        Raises:
            StateError: it is not an event, or not the next one.
        """
        try:
            if event["schema"] != EVENT_SCHEMA or event["seq"] != self.seq + 1:
                raise StateError(f"event {self.seq + 1} of the ledger is missing")
            kind = str(event["kind"])
            room, _, _ = kind.partition(".")
            if room == "worker":
                self._apply_worker(kind, event)
            elif room == "approval":
                self._apply_approval(kind, event)
            else:
                self._apply_rest(kind, event)
        except (KeyError, TypeError, ValueError, ConfigError) as problem:
            if isinstance(problem, StateError):
                raise
            raise StateError(f"event {self.seq + 1} of the ledger cannot be read: {problem}") from None
        self.seq, self.hash = self.seq + 1, digest
        if kind in OF_REGISTRY:
            self.registry_seq = self.seq

    def waiting(self, at_ms: int, tenant_id: str | None = None) -> list[Hold]:
        """Return the holds that wait and have not expired, of one tenant or of all.

        Args:
            at_ms: the current time, milliseconds since 1970.
            tenant_id: only holds of this tenant; None for all tenants.
        """
        return [
            entry.hold
            for entry in self.holds.values()
            if entry.state == "pending"
            and at_ms < entry.hold.expires_at_ms
            and (tenant_id is None or entry.hold.tenant_id == tenant_id)
        ]

    def in_force(self, input_hash: str, worker_id: str, at_ms: int) -> HoldEntry | None:
        """Return the hold that waits or is approved for a request and worker; None if there is none or it expired.

        Args:
            input_hash: the hash of the request, `sha256:…`.
            worker_id: the id of the worker, such as `org.acme.summarizer`.
            at_ms: the current time, milliseconds since 1970.
        """
        entry = self.holds.get(self.open.get((input_hash, worker_id), ""))
        return None if entry is None or at_ms >= entry.hold.expires_at_ms else entry

    def record_digest(self, worker_id: str) -> str:
        """Return the digest of a worker's record, empty when it is not enrolled.

        Args:
            worker_id: the id of the worker, such as `org.acme.summarizer`.
        """
        found = self.workers.get(worker_id)
        return "" if found is None else found.digest

    def snapshot(self) -> RegistrySnapshot:
        """Return the frozen view that a decision is made from."""
        species: dict[str, list[WorkerRecord]] = {}
        workers: dict[str, WorkerRecord] = {}
        implemented: set[str] = set()
        for worker_id in sorted(self.workers):
            record = workers[worker_id] = self.workers[worker_id].record
            species.setdefault(record.worker_species_id, []).append(record)
            if worker_id not in self.quarantined:
                implemented.update(record.currently_implements)
        return RegistrySnapshot(
            version=self.registry_seq,
            species=MappingProxyType({name: tuple(records) for name, records in species.items()}),
            workers=MappingProxyType(workers),
            quarantined=MappingProxyType(dict(self.quarantined)),
            implemented=frozenset(implemented),
        )

    def _apply_worker(self, kind: str, event: JsonObject) -> None:
        """Apply an event about a worker. Except for `cleared`, it ends the worker's waiting and approved holds."""
        worker_id, by, at = (
            _field(event, "worker_id", str),
            _field(event, "by", str),
            parse_ms(_field(event, "at", str)),
        )
        if kind != "worker.cleared":
            for entry in [one for one in self.holds.values() if one.hold.worker_id == worker_id]:
                if entry.state in ("pending", "approved"):
                    self._end(entry, "cancelled")
        match kind:
            case "worker.enrolled":
                from wcp_route.domain.record_model import parse_record

                written, root = _field(event, "record", dict), _field(event, "package_root", str)
                record = replace(parse_record(written), package_root=root)
                digest = record_digest(written, root)
                if record.worker_id != worker_id or event["record_digest"] != digest:
                    raise ValueError("the record is not the one that its digest names")
                self.workers[worker_id] = EnrolledWorker(record, digest, by, at)
            case "worker.withdrawn":
                self.workers.pop(worker_id, None)
            case "worker.quarantined":
                self.quarantined.setdefault(worker_id, Quarantine(worker_id, _field(event, "reason", str), by, at))
            case "worker.cleared":
                self.quarantined.pop(worker_id, None)
            case "worker.holds_cancelled":
                pass
            case _:
                raise KeyError(kind)

    def _apply_approval(self, kind: str, event: JsonObject) -> None:
        """Apply an event about a hold, or about requests that were denied before older events were pruned."""
        match kind:
            case "approval.held":
                hold = read_hold(_field(event, "hold", dict))
                self._forget(hold.created_at_ms)
                self.holds[hold.pending_id] = HoldEntry(hold)
                self.open[hold.input_hash, hold.worker_id] = hold.pending_id
            case "approval.approved":
                grant_hash = _field(event, "grant_hash", str)
                entry = self._answered(event, "approved", grant_hash)
                if grant_hash:
                    self.granted[grant_hash] = entry.hold.pending_id
                else:
                    self._close(entry, "taken over")
            case "approval.denied":
                self._close(self._answered(event, "denied", ""), "denied")
            case "approval.escalated":
                entry, level = self._entry(event), _field(event, "level", str)
                if level not in LEVELS:
                    raise ValueError("there is no such level")
                hold = replace(entry.hold, level=level)
                self.holds[hold.pending_id] = replace(entry, hold=hold, by=_field(event, "by", str))
            case "approval.redeemed":
                self._end(self._entry(event), "redeemed")
            case "approval.restored":  # it was used for a decision that the caller never received
                entry = self._answered(event, "approved", _field(event, "grant_hash", str))
                self.granted[entry.grant_hash] = entry.hold.pending_id
                self.open[entry.hold.input_hash, entry.hold.worker_id] = entry.hold.pending_id
            case "approval.cancelled":
                self._end(self._entry(event), "cancelled")
            case "approval.denied_before":
                self.denied.update({key: str(reason) for key, reason in _field(event, "denied", dict).items()})
            case _:
                raise KeyError(kind)

    def _apply_rest(self, kind: str, event: JsonObject) -> None:
        """Apply an event about reported packages, about what is in force, or about the ledger itself."""
        match kind:
            case "ban.reported":
                digest, reason, by = (_field(event, name, str) for name in ("sha256", "reason", "by"))
                self.reports.pop(digest, None)  # a report that was dismissed before moves to the end
                self.reports[digest] = BanReport(
                    digest,
                    reason,
                    by,
                    parse_ms(_field(event, "at", str)),
                    evidence_url=_field(event, "evidence_url", str),
                )
                # `ban_reports` limits the number of pending reports.
                settled = [known for known, report in self.reports.items() if report.status != "pending"]
                for known in settled[: max(0, len(self.reports) - MAX_REPORTS)]:
                    del self.reports[known]
            case "ban.reviewed":
                report, status = self.reports.get(_field(event, "sha256", str)), _field(event, "status", str)
                if report is None or status not in {"confirmed", "dismissed"}:
                    raise ValueError("it is about a report that is not known")
                self.reports[report.sha256] = replace(
                    report, status=status, reviewed_by=_field(event, "by", str), review=_field(event, "reason", str)
                )
            case "hall.activated":
                self.active[_field(event, "env", str)] = _field(event, "active", dict)
            case "ledger.carried":  # older events were pruned; the next events build their state from nothing
                for name in _KEPT:
                    getattr(self, name).clear()
            case _:
                raise KeyError(kind)

    def _answered(self, event: JsonObject, state: HoldState, grant_hash: str) -> HoldEntry:
        entry = replace(self._entry(event), state=state, grant_hash=grant_hash, by=_field(event, "by", str))
        self.holds[entry.hold.pending_id] = entry
        return entry

    def _entry(self, event: JsonObject) -> HoldEntry:
        entry = self.holds.get(_field(event, "pending_id", str))
        if entry is None:
            raise ValueError("it is about a hold that is not known")
        return entry

    def _close(self, entry: HoldEntry, reason: str) -> None:
        self.open.pop((entry.hold.input_hash, entry.hold.worker_id), None)
        self.denied[entry.hold.input_hash] = reason
        if len(self.denied) > MAX_SETTLED:
            self.denied.pop(next(iter(self.denied)))

    def _end(self, entry: HoldEntry, state: HoldState) -> None:
        self.granted.pop(entry.grant_hash, None)
        self.open.pop((entry.hold.input_hash, entry.hold.worker_id), None)
        self.holds[entry.hold.pending_id] = replace(entry, state=state, grant_hash="")

    def _forget(self, at_ms: int) -> None:
        """Remove the oldest holds that expired a day ago. The event's own time decides, so all processes agree."""
        for pending_id, entry in list(self.holds.items()):
            if at_ms - entry.hold.expires_at_ms < KEEP_SETTLED_MS and len(self.holds) <= MAX_SETTLED:
                return
            self._end(entry, "cancelled")
            del self.holds[pending_id]


def event(kind: str, *, at_ms: int, by: str, via: str = "library", **more: JsonValue) -> JsonObject:
    """Return the fields of an event, without the fields that depend on its place in the chain.

    Args:
        kind: one of `KINDS`.
        at_ms: the time of the event, milliseconds since 1970.
        by: the person or process that caused it.
        via: how the name was authenticated: `os-user`, `token`, `oidc`, `library`, …
        more: further fields of this kind.
    """
    return {
        "schema": EVENT_SCHEMA,
        "spec_version": _SPEC_VERSION,
        "stream": STATE_STREAM,
        "receipt_id": new_id_at(at_ms),
        "kind": kind,
        "at": format_ms(at_ms),
        "by": by,
        "via": via,
        **more,
    }


def record_digest(record: JsonObject, package_root: str) -> str:
    """Return `sha256:` of a record and the package it was enrolled with.

    Args:
        record: the worker's record.
        package_root: the directory of its package.
    """
    return sha256_of({"record": record, "package_root": package_root})


def write_hold(hold: Hold) -> JsonObject:
    """Return a hold as the value of the event's member `hold`.

    Args:
        hold: the hold to be stored.
    """
    return cast("JsonObject", asdict(hold) | {"code": hold.code.value})


def read_hold(value: JsonObject) -> Hold:
    """Return the hold of an event.

    Args:
        value: the member `hold` of an event.

    Raises:
        ValueError: the value is not a hold.
    """
    number = value.get("blast_score")
    plain = value | {"blast_score": 0 if number is None else number}
    if value.keys() != _HOLD_FIELDS or value["level"] not in LEVELS:
        raise ValueError("the hold has other fields than a hold has")
    if not all(type(item) is (int if name in _HOLD_NUMBERS else str) for name, item in plain.items()):
        raise ValueError("a field of the hold is of another type")
    return Hold(**cast("dict[str, Any]", value | {"code": Code(str(value["code"]))}))


def carried(state: LedgerState, *, at_ms: int, by: str) -> list[JsonObject]:
    """Return events that rebuild `state` from nothing, for a ledger whose earlier events are pruned.

    Args:
        state: the current state.
        at_ms: the time of pruning, milliseconds since 1970.
        by: the person who prunes, a printable name of at most 500 characters.
    """
    made = [event("ledger.carried", at_ms=at_ms, by=by, seq_before=state.seq)]
    made += [enrolment(one.record, at_ms=one.at_ms, by=one.by, via="carried") for one in state.workers.values()]
    made += [
        event("worker.quarantined", at_ms=held.at_ms, by=held.by, via="carried",
              worker_id=held.worker_id, reason=held.reason)
        for held in state.quarantined.values()
    ]  # fmt: skip
    for entry in state.holds.values():
        if entry.state not in ("pending", "approved") or at_ms >= entry.hold.expires_at_ms:
            continue
        pending = {"pending_id": entry.hold.pending_id}
        made.append(event("approval.held", at_ms=at_ms, by="hall", via="carried", hold=write_hold(entry.hold)))
        if entry.state == "approved":
            made.append(
                event("approval.approved", at_ms=at_ms, by=entry.by, via="carried",
                      level=entry.hold.level, grant_hash=entry.grant_hash, reason="", **pending)
            )  # fmt: skip
    denied = list(state.denied.items())
    made += [
        event(
            "approval.denied_before", at_ms=at_ms, by="hall", via="carried", denied=dict(denied[start : start + 1000])
        )
        for start in range(0, len(denied), 1000)
    ]
    for report in state.reports.values():
        digest = {"sha256": report.sha256}
        made.append(
            event("ban.reported", at_ms=report.at_ms, by=report.by, via="carried",
                  reason=report.reason, evidence_url=report.evidence_url, **digest)
        )  # fmt: skip
        if report.status != "pending":
            made.append(
                event("ban.reviewed", at_ms=at_ms, by=report.reviewed_by, via="carried",
                      status=report.status, reason=report.review, **digest)
            )  # fmt: skip
    made += [
        event("hall.activated", at_ms=at_ms, by=by, via="carried", env=env, active=active)
        for env, active in state.active.items()
    ]
    return made


def enrolment(record: WorkerRecord, *, at_ms: int, by: str, via: str, replaced: bool = False) -> JsonObject:
    """Return the event that enrolls a worker.

    Args:
        record: the worker's record.
        at_ms: the time of the enrollment, milliseconds since 1970.
        by: the person who enrolls it, a printable name of at most 500 characters.
        via: how the name was authenticated: `os-user`, `token`, `oidc`, `library`, …
        replaced: whether it replaces an earlier record.
    """
    from wcp_route.domain.record import wire_of

    value = wire_of(record)
    canonical_json(value)  # refuses values that a receipt cannot hold
    return event(
        "worker.enrolled",
        at_ms=at_ms,
        by=by,
        via=via,
        worker_id=record.worker_id,
        record=value,
        record_digest=record_digest(value, record.package_root),
        package_root=record.package_root,
        replaced=replaced,
    )


def _field(event_: JsonObject, name: str, kind: type[T]) -> T:
    value = event_[name]
    if not isinstance(value, kind):
        raise TypeError(f"{name} is of another type")
    return value
