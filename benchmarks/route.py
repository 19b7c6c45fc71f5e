"""The router against its bars: rules, the earlier router, ban lists, receipts, threads, both databases; 3 minutes.

    python -m benchmarks.route             # ends with each bar, reached or not
    python -m benchmarks.route --check     # exit status 1 when a bar is missed
    python -m benchmarks.route --receipts 1000000   # `receipts show` in a ledger of a million; some minutes more

What is compared is measured in turns in one run, in processor time of the process where no disk is waited for, so a bar
is a ratio and does not depend on the machine. The one figure that is not, decisions a second with receipts on eight
threads, is by the wall clock; beside it stands the machine's own floor, a bare writer: eight threads bring rows of a
receipt's size, one thread commits what has gathered, with the same database and the same flush, and nothing else. The
earlier router is `pyhall-wcp` 0.2.2 as published, installed below build/ by its digest; both routers start from the
same request as a parsed object, check it, find the same rule among ten, see that the same control and worker are there,
and keep no receipt. The earlier one builds its telemetry in each decision: the row "with events" has ours do that as
well. Attestation is taken out of ours there, for the earlier one has none.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.installed import BUILD
from tests.route.postgresql import running_server
from tests.route.state_worlds import some_evidence
from wcp_attest import KeySigner, build_manifest, load_policy, sign
from wcp_attest.bans import BanList, Head, Kind, make_ban, sign_list
from wcp_attest.signing.key import generate
from wcp_attest.trust.bans.rollback_guard import Seen
from wcp_route import Hall, HallConfig, Services, events, read_record, read_rules
from wcp_route.storage.database import Database
from wcp_route.storage.receipts import KeyFileSigner
from wcp_route.storage.receipts.read import find
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wcp_route import RouteDecision
    from wcp_route.storage.state import State

EARLIER = "pyhall-wcp==0.2.2 --hash=sha256:b66158376ed227cd48d66b2166ae9794019d4af1413b91d8e27d252839f492de\n"
RECEIPT_BYTES = 2400
AHEAD = 4  # groups of receipts on their way to the disk
WORKER, SPECIES, AUDIT = "org.acme.doc-summarizer", "wrk.doc.summarizer", "ctrl.obs.audit-log-append-only"
RECORD = {
    "worker_id": WORKER,
    "worker_species_id": SPECIES,
    "capabilities": ["cap.doc.s0"],
    "risk_tier": "low",
    "idempotency": "full",
    "determinism": "deterministic",
    "required_controls": [AUDIT],
    "currently_implements": [AUDIT],
    "allowed_environments": ["prod"],
    "privilege_envelope": {"secrets_access": [], "network_egress": "none", "filesystem_writes": [], "tools": []},
    "blast_radius": {"data": 1, "network": 0, "financial": 0, "time": 1, "reversibility": "reversible"},
    "owner": "org.acme",
}
REQUEST: dict[str, Any] = {
    "capability_id": "cap.doc.s0",
    "tenant_id": "acme",
    "correlation_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
    "env": "prod",
    "data_label": "INTERNAL",
    "tenant_risk": "low",
    "qos_class": "P2",
    "request": {"document": "s3://bucket/report.pdf", "max_sentences": 5, "language": "en"},
}
POLICY = """\
version = 1
[[namespace]]
name = "org.acme"
  [[namespace.signer]]
  key = "key.pub"
"""
BANS = """
[bans]
max_age = "24h"
state = "state"
  [[bans.signer]]
  key = "key.pub"
  [[bans.source]]
  file = "bans.json"
"""


@dataclass(frozen=True)
class RouteBar:
    """What must be reached: a figure, how small or large it may be, and the figure of this machine's floor."""

    figure: str
    most: float | None = None
    least: float | None = None
    unit: str = "times"
    floor: str = ""

    def describe(self, figures: Mapping[str, float]) -> tuple[bool, str]:
        """Tell whether it was reached or not measured, and say so in one line."""
        wanted = f"at most {self.most:g}" if self.most is not None else f"at least {self.least:g}"
        value = figures.get(self.figure)
        if value is None:
            return True, f"not measured   {self.figure}, {wanted} {self.unit}"
        reached = value <= self.most if self.most is not None else value >= (self.least or 0)
        if self.floor in figures:
            wanted += f" (a bare writer here: {figures[self.floor]:,.0f})"
        return (
            reached,
            f"{'reached    ' if reached else 'NOT REACHED'}    {self.figure}: {value:.3g}, {wanted} {self.unit}",
        )


BARS = (
    RouteBar("earlier router / plain, 10 rules", least=2.5),
    RouteBar("plain, 10,000 rules / 10 rules", most=1.25),
    RouteBar("sealed, 100,000 bans / no ban list", most=1.2),
    RouteBar("sealed, 10,000 bans / no ban list", most=1.2),
    RouteBar("always, 100,000 bans / no ban list", most=1.2),
    RouteBar("durable receipts / plain rows, batches of 100", least=0.4),
    RouteBar("sealed with receipts, 8 threads, SQLite", least=1000, unit="a second", floor="bare, SQLite"),
    RouteBar("sealed with receipts, 8 threads, PostgreSQL", least=1000, unit="a second", floor="bare, PostgreSQL"),
    RouteBar("receipts show, full ledger / 1,000 receipts", most=1.5),
    RouteBar("load and prove 10,000 rules / 1,000 rules", most=12),
)


def rules_of(count: int) -> bytes:
    """A rule for each of so many capabilities; the last one matches."""
    rules = [
        {
            "rule_id": f"rule-{number}",
            "match": {
                "capability_id": f"cap.doc.s{count - 1 - number}",
                "env": {"in": ["prod", "edge"]},
                "data_label": {"in": ["PUBLIC", "INTERNAL"]},
            },
            "decision": {
                "candidate_workers_ranked": [{"worker_species_id": SPECIES, "score_hint": 1.0}],
                "required_controls_suggested": [AUDIT],
                "escalation": {"policy_gate": False},
                "preconditions": {"must_have_correlation_id": True},
            },
        }
        for number in range(count)
    ]
    return json.dumps({"rules": rules}).encode()


def make_package(root: Path, signer: KeySigner) -> str:
    """A worker of five files, 11.5 kB."""
    (root / "code").mkdir(parents=True)
    (root / "code" / "worker_logic.py").write_text("def execute(request, context=None):\n    return request\n" * 30)
    (root / "code" / "bootstrap.py").write_text("print('hello')\n" * 60)
    (root / "requirements.lock").write_text("click==8.1.7\n" * 10)
    (root / "config.schema.json").write_text("{}\n")
    (root / "model.bin").write_bytes(bytes(range(256)) * 32)
    manifest = build_manifest(
        str(root), worker_id=WORKER, worker_species_id=SPECIES, worker_version="1.0.0", build_source="local"
    )
    sign(str(root), [signer], manifest=manifest)
    return str(root)


class RouteBench:
    """One signed worker, policies with ban lists of several sizes, and Halls that decide about it."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self.stack, self.signer = directory, stack, generate()
        self.package = make_package(directory / "worker", self.signer)
        self.figures: dict[str, float] = {}
        self.states = 0

    def policy(self, bans: int | None = None) -> str:
        """Write a trust policy, with a signed list of so many bans unless none; return its path."""
        folder = self.directory / f"policy-{bans}"
        if folder.exists():
            return str(folder / "policy.toml")
        folder.mkdir()
        (folder / "key.pub").write_bytes(self.signer.public_pem())
        (folder / "policy.toml").write_text(POLICY + (BANS if bans is not None else ""))
        if bans is not None:
            now = int(time.time())
            head = Head("benchmark", 1, now - 60, now + 86_400)
            why = {"reason": "leaks tokens", "banned_at": "2026-03-01T12:00:00Z", "source": "benchmark"}
            digests = (sha256(number.to_bytes(8, "big")).hexdigest() for number in range(bans))
            document = BanList.make(head, [make_ban(Kind.PACKAGE, each, **why) for each in digests]).to_bytes()
            (folder / "bans.json").write_bytes(document)
            lines, _ = sign_list(Seen(head, sha256(document).hexdigest()), [self.signer], b"")
            (folder / "bans.json.sig").write_bytes(lines)
        return str(folder / "policy.toml")

    def state(self, address: str | None = None, *, signed: bool = False) -> State:
        """Open a state with the worker enrolled."""
        self.states += 1
        address = address or str(self.directory / f"hall-{self.states}.db")
        signer = KeyFileSigner(Ed25519PrivateKey.generate()) if signed else None
        state = self.stack.enter_context(open_state(address, signer=signer))
        state.registry.enroll(replace(read_record(RECORD), package_root=self.package))  # type: ignore[arg-type]
        return state

    def hall(
        self,
        state: State,
        *,
        rules: int = 10,
        attested: bool = True,
        receipts: bool = False,
        bans: int | None = None,
        services: Services | None = None,
        attestation: str = "sealed",
    ) -> Hall:
        """A Hall for prod. `attested=False` takes the attestor out of a finished Hall: no setting can in prod."""
        config = HallConfig(
            env="prod",
            attestation=attestation,  # type: ignore[arg-type]
            seal_directory=str(self.directory / "sealed") if attestation == "sealed" else "",
            unsafe_dispatch_without_signed_durable_receipts=not receipts,
            chain_thresholds={"prod": 10**9},  # one request asked again and again is one chain
        )
        services = replace(services or Services(), approvals=state.approvals)
        services = replace(services, receipts=state.receipts) if receipts else services
        policy = load_policy(self.policy(bans))
        hall = self.stack.enter_context(Hall(rules_of(rules), state.registry, policy, config, services=services))
        if not attested:
            hall.world = replace(hall.world, attestor=None)
        if hall.route(REQUEST).denied:
            raise SystemExit(f"the request is denied, nothing would be measured: {hall.route(REQUEST).reason}")
        return hall


def in_turns(series: Mapping[str, Callable[[], object]], rounds: int, times: int) -> dict[str, float]:
    """Processor seconds of the process for one call of each, the least of rounds in which each has its turn.

    Others who work on the machine add to some rounds and to none take away.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name, run in series.items():
            gc.collect()
            started = time.process_time()
            for _ in range(times):
                run()
            found[name].append((time.process_time() - started) / times)
    return {name: min(seconds) for name, seconds in found.items()}


def show(title: str, seconds: Mapping[str, float]) -> None:
    """Print what one call of each took."""
    print(f"\n{title}")
    for name, value in seconds.items():
        print(f"  {name:32} {value * 1e6:10.1f} µs  {1 / value:10,.0f} a second")


class _Builds:
    """Builds the events of each decision, as the earlier router does."""

    never_waits = True

    def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:
        del elapsed_ns
        events(decision)


def earlier_router() -> Any:
    """Return the earlier SDK as published, installed below build/; none when it cannot be had."""
    folder = os.path.join(BUILD, "earlier")
    if not os.path.isdir(os.path.join(folder, "pyhall")):
        os.makedirs(folder, exist_ok=True)
        wanted = os.path.join(folder, "requirement.txt")
        Path(wanted).write_text(EARLIER)
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary"]
        if subprocess.run([*command, ":all:", "--target", folder, "-r", wanted], check=False).returncode:
            return None
    sys.path.append(folder)
    return importlib.import_module("pyhall")


def plain(bench: RouteBench) -> None:
    """Decisions without attestation and receipts, by the number of rules, beside the earlier router."""
    state = bench.state()
    halls = {
        "plain, 10 rules": bench.hall(state, attested=False),
        "plain, 1,000 rules": bench.hall(state, attested=False, rules=1000),
        "plain, 10,000 rules": bench.hall(state, attested=False, rules=10_000),
        "10 rules, with events": bench.hall(state, attested=False, services=Services(events=_Builds())),
    }
    series: dict[str, Callable[[], object]] = {
        name: lambda hall=hall: hall.route(REQUEST)  # type: ignore[misc]
        for name, hall in halls.items()
    }
    earlier = earlier_router()
    if earlier is not None:
        rules, present = earlier.load_rules_from_dict(json.loads(rules_of(10))), {AUDIT}

        def decide() -> Any:
            return earlier.make_decision(earlier.RouteInput(**REQUEST), rules, present, {SPECIES}.__contains__)

        if decide().denied:
            raise SystemExit("the earlier router denies the request; nothing would be compared")
        series["earlier router, 10 rules"] = decide
    found = in_turns(series, rounds=9, times=400)
    show("Plain decisions", found)
    bench.figures["plain, 10,000 rules / 10 rules"] = found["plain, 10,000 rules"] / found["plain, 10 rules"]
    if earlier is not None:
        old = found["earlier router, 10 rules"]
        bench.figures["earlier router / plain, 10 rules"] = old / found["plain, 10 rules"]
        print(
            f"  the earlier router takes {old / found['10 rules, with events']:.2f} times as long as ours with events"
        )
    documents = {count: rules_of(count) for count in (1000, 10_000)}
    load = in_turns({str(n): lambda n=n: read_rules(documents[n]) for n in documents}, rounds=6, times=1)  # type: ignore[misc]
    print(
        f"  10,000 rules are loaded and proven reachable in {load['10000']:.2f} s (10 times those of 1,000 is linear)"
    )
    bench.figures["load and prove 10,000 rules / 1,000 rules"] = load["10000"] / load["1000"]


def with_bans(bench: RouteBench) -> None:
    """Attested decisions without a ban list, and with signed lists of several sizes."""
    sizes = (None, 0, 10_000, 100_000)
    for bans in sizes:
        bench.policy(bans)
    time.sleep(2.5)  # a list changed a moment ago is read again each time
    state = bench.state()
    for attestation in ("sealed", "always"):
        halls = {
            f"{'no' if bans is None else f'{bans:,}'} ban{'' if bans is None else 's'}": bench.hall(
                state, attestation=attestation, bans=bans
            )
            for bans in sizes
        }
        found = in_turns(
            {name: lambda hall=hall: hall.route(REQUEST) for name, hall in halls.items()},  # type: ignore[misc]
            rounds=15,
            times=150,
        )
        show(f"Attested decisions, {attestation}", found)
        for size in ("10,000", "100,000"):
            bench.figures[f"{attestation}, {size} bans / no ban list"] = found[f"{size} bans"] / found["no ban"]


def plain_rows(folder: str, batch: int, total: int) -> float:
    """Wall seconds of one row of a receipt's size in plain SQLite, durable (WAL, FULL), so many a transaction."""
    rows = [(os.urandom(RECEIPT_BYTES),) for _ in range(batch)]
    with closing(sqlite3.connect(os.path.join(folder, "plain.db"), isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE rows (position INTEGER PRIMARY KEY, body BLOB)")
        started = time.perf_counter()
        for _ in range(total // batch):
            database.execute("BEGIN IMMEDIATE")
            database.executemany("INSERT INTO rows (body) VALUES (?)", rows)
            database.execute("COMMIT")
        return (time.perf_counter() - started) / (total // batch * batch)


@contextmanager
def fresh(bench: RouteBench) -> Iterator[str]:
    """A folder of one round, gone afterwards: what it still has to write back would be written in the next round."""
    with tempfile.TemporaryDirectory(dir=bench.directory) as folder:
        yield folder


def receipts(bench: RouteBench) -> None:
    """Durable, chained, signed receipts beside plain rows of their size on the same disk."""
    print("\nDurable receipts, wall clock, medians of 5")
    signer = KeyFileSigner(Ed25519PrivateKey.generate())
    for batch in (1, 100, 1000):
        total = 1000 if batch == 1 else 4000
        evidence = [some_evidence(number, stream="acme") for number in range(batch)]
        rows, kept = [], []
        for _ in range(5):
            with fresh(bench) as folder:
                rows.append(plain_rows(folder, batch, total))
            with fresh(bench) as folder, open_state(os.path.join(folder, "hall.db"), signer=signer) as state:
                started, waiting = time.perf_counter(), deque[Any]()
                for _ in range(total // batch):  # as `route_many` does: the next are made while the disk works
                    waiting.append(state.receipts.submit(evidence))
                    if len(waiting) > AHEAD:
                        waiting.popleft().wait()
                for each in waiting:
                    each.wait()
                kept.append((time.perf_counter() - started) / total)
        floor, ours = statistics.median(rows), statistics.median(kept)
        print(f"  batches of {batch:4}: {1 / ours:9,.0f} receipts a second, {1 / floor:9,.0f} plain rows")
        bench.figures[f"durable receipts / plain rows, batches of {batch}"] = floor / ours


def on_threads(hall: Hall, threads: int, seconds: float) -> tuple[float, float]:
    """Decisions a second, each told once its receipt is durable, and seconds of processor time for each."""
    counts = [0] * threads
    until = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < until:
            if hall.route(REQUEST).denied:
                raise SystemExit("a decision was denied under load")
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    started, used = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - started), (time.process_time() - used) / sum(counts)


class BareWriter:
    """The least that answers after the disk: rows of a receipt's size that threads bring, and one thread that commits.

    Nothing is decided, hashed, chained or signed. What a Hall does less in a second is the price of its decisions.

    Args:
        write: makes rows durable.
    """

    def __init__(self, write: Callable[[Sequence[bytes]], object]) -> None:
        self._write, self._more = write, threading.Condition()
        self._brought: list[tuple[bytes, threading.Lock]] = []

    def rows_a_second(self, threads: int, seconds: float) -> float:
        """Let so many threads bring rows, each the next one once the last is durable."""
        counts, until = [0] * threads, time.perf_counter() + seconds

        def bring(number: int) -> None:
            told = threading.Lock()
            told.acquire()
            while time.perf_counter() < until:
                with self._more:
                    self._brought.append((os.urandom(RECEIPT_BYTES), told))
                    self._more.notify()
                told.acquire()
                counts[number] += 1

        workers = [threading.Thread(target=bring, args=(number,)) for number in range(threads)]
        started = time.perf_counter()
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers):
            with self._more:
                self._more.wait_for(lambda: self._brought, timeout=0.1)
                rows, self._brought = self._brought, []
            if rows:
                self._write([row for row, _ in rows])
            for _, told in rows:
                told.release()
        return sum(counts) / (time.perf_counter() - started)


def bare_rows(folder: str, address: str | None, threads: int, seconds: float) -> float:
    """Rows a second of a bare writer with the same disk, database and settings of durability."""
    table = "CREATE TABLE IF NOT EXISTS rows (position {} PRIMARY KEY, body {})"
    if address is None:
        path = os.path.join(folder, "bare.db")
        with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as database:
            for setting in ("journal_mode = WAL", "synchronous = FULL"):
                database.execute(f"PRAGMA {setting}")
            database.execute(table.format("INTEGER", "BLOB"))

            def write(rows: Sequence[bytes]) -> None:
                database.execute("BEGIN IMMEDIATE")
                database.executemany("INSERT INTO rows (body) VALUES (?)", [(row,) for row in rows])
                database.execute("COMMIT")

            return BareWriter(write).rows_a_second(threads, seconds)
    with psycopg.connect(address) as server:
        server.execute(table.format("BIGSERIAL", "BYTEA").encode())

        def insert(rows: Sequence[bytes]) -> None:
            marks = ", ".join(["(%s)"] * len(rows))
            server.execute(f"INSERT INTO rows (body) VALUES {marks}".encode(), rows)
            server.commit()

        server.commit()
        return BareWriter(insert).rows_a_second(threads, seconds)


def threaded(bench: RouteBench, seconds: float) -> None:
    """Attested decisions with durable receipts on one and eight threads, in both databases, beside a bare writer."""
    addresses: dict[str, tuple[str, str] | None] = {"SQLite": None}
    try:
        server = bench.stack.enter_context(running_server(fsync=True))
        addresses["PostgreSQL"] = server.address(server.database()), server.address(server.database())
    except pytest.skip.Exception as absent:
        print(f"\n{absent}")
    print("\nWith durable signed receipts, wall clock; best of 3, in turns with a bare writer of the same rows")
    for database, address in addresses.items():
        if address is not None:
            Database.bring_up(address[0])
        state = bench.state(None if address is None else address[0], signed=True)
        halls = {
            attestation: bench.hall(state, attestation=attestation, receipts=True)
            for attestation in ("sealed", "always")
        }
        for threads in (1, 8):
            found: dict[str, list[float]] = defaultdict(list)
            processor: dict[str, list[float]] = defaultdict(list)
            for _ in range(3):
                with fresh(bench) as folder:
                    bare = None if address is None else address[1]
                    found["bare writer"].append(bare_rows(folder, bare, threads, seconds))
                for attestation, hall in halls.items():
                    rate, used = on_threads(hall, threads, seconds)
                    found[attestation].append(rate)
                    processor[attestation].append(used)
            for name, rates in found.items():
                each = f", {min(processor[name]) * 1e6:,.0f} µs of processor time each" if name in processor else ""
                print(f"  {name:11} {database:11} {threads} threads {max(rates):9,.0f} a second{each}")
            for attestation in halls:
                bench.figures[f"{attestation} with receipts, {threads} threads, {database}"] = max(found[attestation])
            bench.figures[f"bare, {database}"] = max(found["bare writer"])


def _find_all(address: str, names: list[str]) -> None:
    if not all(find(address, name) for name in names):
        raise SystemExit("a receipt that is there was not found")


def shown(bench: RouteBench, count: int) -> None:
    """`receipts show` in a ledger of a thousand receipts and in a large one, cold caches of SQLite each time."""
    evidence = [some_evidence(number, stream=f"tenant-{number % 3}") for number in range(1000)]
    signer = KeyFileSigner(Ed25519PrivateKey.generate())
    seconds: dict[int, float] = {}
    for size in (1000, count):
        with fresh(bench) as folder, open_state(os.path.join(folder, "hall.db"), signer=signer) as state:
            for _ in range(size // len(evidence)):
                state.receipts.append(evidence, seconds=300.0)  # also on a machine that is busy otherwise
            names = [f"tenant-{number % 3}/{1 + number * 997 % (size // 3)}" for number in range(40)]
            address = os.path.join(folder, "hall.db")
            look = partial(_find_all, address, names)
            seconds[size] = in_turns({"show": look}, 5, 1)["show"] / len(names)
    show("receipts show", {f"{size:,} receipts": value for size, value in seconds.items()})
    bench.figures["receipts show, full ledger / 1,000 receipts"] = seconds[count] / seconds[1000]


def main() -> int:
    """Measure, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit status 1 when a bar is missed")
    parser.add_argument("--receipts", type=int, default=100_000, help="in the large ledger of `receipts show`")
    parser.add_argument("--only", help="plain, bans, receipts, threads or show")
    parser.add_argument("--directory", help="where to work, on a disk; below build/ by default")
    given = parser.parse_args()
    parts: dict[str, Callable[[RouteBench], None]] = {
        "plain": plain,
        "bans": with_bans,
        "receipts": receipts,
        "threads": lambda bench: threaded(bench, 1.5),
        "show": lambda bench: shown(bench, given.receipts),
    }
    with ExitStack() as stack:
        os.makedirs(BUILD, exist_ok=True)  # not below /tmp: where others may write, a sealed copy is hashed each time
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=given.directory or BUILD))).resolve()
        bench = RouteBench(directory, stack)
        for name, part in parts.items():
            if given.only in (None, name):
                part(bench)
    print()
    told = [bar.describe(bench.figures) for bar in BARS]
    for _, line in told:
        print(line)
    return 1 if given.check and not all(reached for reached, _ in told) else 0


if __name__ == "__main__":
    sys.exit(main())
