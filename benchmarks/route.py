"""The router: decisions per second and their tail, rule sets of each size, attestation, receipts, as one JSON object.

    python benchmarks/route.py            # about a minute
    python benchmarks/route.py --quick    # a tenth of the work
    python benchmarks/route.py --check    # exit status 1 when a bar is missed

Bars (issue 5): prod decisions without attestation at least 40,000 a second on one core, flat from 10 to 10,000 rules,
p99 at most 100 µs; 10,000 rules loaded and proven reachable in 0.5 s; with a full re-hash of a five-file worker at
least 5,000 a second; with durable receipts at least 20,000 a second.

Every figure is of `Hall.route` or `Hall.route_many` with a parsed request, in a Hall for prod with default settings.
Rates and loading are over the CPU time of the deciding thread; p99 and receipts are by the wall clock. Medians of the
rounds; beside them stands what the machine itself can do: hashing five files by descriptor, one Ed25519 verification,
one fdatasync of 4 KiB, plain SQLite with rows of a receipt's size in the same transactions. Measure on a quiet machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.route.stores import MemoryRegistry, SqliteReceipts
from wcp_attest import KeySigner, Namespace, Policy, TrustedKey, build_manifest, sign
from wcp_attest.signing.key import generate
from wcp_route import Hall, HallConfig, Services, events, read_record, read_rules, to_wire
from wcp_route.storage.receipts import KeyFileSigner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_route import RouteDecision

ROUNDS, RECEIPT_ROUNDS = 7, 5
BATCHES = (1, 100, 5000)  # decisions brought at once
RECEIPT_BYTES = 2400
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


def a_config(settings: dict[str, Any]) -> HallConfig:
    """Settings for prod; most figures are taken without receipts, which prod would refuse."""
    return HallConfig(env="prod", **{"unsafe_dispatch_without_signed_durable_receipts": True, **settings})


class Bench:
    """One signed worker, enrolled, and Halls that decide about it."""

    def __init__(self, directory: Path, scale: int) -> None:
        signer = generate()
        self.directory = directory
        self.scale = scale
        self.package = make_package(directory / "worker", signer)
        self.policy = Policy((Namespace("org.acme", keys=(TrustedKey.from_file_bytes(signer.public_pem()),)),))
        self.registry = MemoryRegistry()
        self.registry.enroll(replace(read_record(RECORD), package_root=self.package))  # type: ignore[arg-type]

    def hall(self, rules: int, *, attested: bool, services: Services | None = None, **settings: Any) -> Hall:
        """A Hall for prod. `attested=False` takes the attestor out of a finished Hall: no setting can in prod."""
        hall = Hall(rules_of(rules), self.registry, self.policy, a_config(settings), services=services)
        if not attested:
            hall._world = replace(hall.world, attestor=None)  # noqa: SLF001
        if hall.route(REQUEST).denied:
            raise SystemExit("the benchmark's request is denied; nothing would be measured")
        return hall

    def rounds(self, one: Callable[[], float], rounds: int = ROUNDS) -> float:
        """Median of some rounds."""
        seconds = []
        for _ in range(rounds):
            gc.collect()
            seconds.append(one())
        return statistics.median(seconds)

    def seconds_each(self, run: Callable[[], object], times: int) -> float:
        """CPU seconds of one call."""
        times = max(10, times // self.scale)

        def one() -> float:
            started = time.thread_time()
            for _ in range(times):
                run()
            return (time.thread_time() - started) / times

        return self.rounds(one)

    def p99(self, run: Callable[[], object], times: int) -> float:
        """99th percentile of the wall-clock seconds of one call."""

        def one() -> float:
            walls = []
            for _ in range(max(200, times // self.scale)):
                started = time.perf_counter()
                run()
                walls.append(time.perf_counter() - started)
            return sorted(walls)[len(walls) * 99 // 100]

        return self.rounds(one)


def floors(bench: Bench) -> dict[str, Any]:
    """What the machine itself can do, in seconds."""
    folder = os.open(bench.package, os.O_RDONLY)
    names = ["code/worker_logic.py", "code/bootstrap.py", "requirements.lock", "config.schema.json", "model.bin"]

    def read_and_hash() -> None:
        for name in names:
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            sha256(os.read(descriptor, 1 << 16)).hexdigest()
            os.close(descriptor)

    def sync() -> float:
        started = time.perf_counter()
        for _ in range(50):
            os.pwrite(file, b"x" * 4096, 0)
            os.fdatasync(file)
        return (time.perf_counter() - started) / 50

    key = Ed25519PrivateKey.generate()
    public, signature = key.public_key(), key.sign(b"x" * 100)
    file = os.open(bench.directory / "sync", os.O_RDWR | os.O_CREAT)
    found = {
        "hash_five_files": bench.seconds_each(read_and_hash, 2000),
        "ed25519_verify": bench.seconds_each(lambda: public.verify(signature, b"x" * 100), 500),
        "fdatasync_4k_wall": bench.rounds(sync),
        "sqlite_row_wall": {str(batch): plain_rows(bench, batch) for batch in BATCHES},
    }
    os.close(file)
    os.close(folder)
    return found


@contextmanager
def fresh(bench: Bench) -> Iterator[str]:
    """A database of one round, gone afterwards: what it still has to write back would be written in the next round."""
    with tempfile.TemporaryDirectory(dir=bench.directory) as folder:
        yield os.path.join(folder, "hall.db")


def plain_rows(bench: Bench, batch: int) -> float:
    """Wall seconds of one row of a receipt's size in plain SQLite, durable (WAL, FULL), so many to a transaction.

    At most 1,024, as the router has them.
    """
    rows = [(os.urandom(RECEIPT_BYTES),) for _ in range(min(batch, 1024))]
    total = _decisions(bench, batch)

    def one() -> float:
        with fresh(bench) as path, closing(sqlite3.connect(path, isolation_level=None)) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("CREATE TABLE rows (position INTEGER PRIMARY KEY, body BLOB)")
            started = time.perf_counter()
            for _ in range(total // len(rows)):
                database.execute("BEGIN IMMEDIATE")
                database.executemany("INSERT INTO rows (body) VALUES (?)", rows)
                database.execute("COMMIT")
            return (time.perf_counter() - started) / (total // len(rows) * len(rows))

    return bench.rounds(one, RECEIPT_ROUNDS)


def _decisions(bench: Bench, batch: int) -> int:
    """How many make a round: enough to fill a second, whole batches."""
    return max(batch, (4_000 if batch == 1 else 20_000) // bench.scale // batch * batch)


def load_rules(bench: Bench, count: int) -> float:
    """CPU seconds to load, compile and prove a rule set."""
    document = rules_of(count)

    def one() -> float:
        started = time.thread_time()
        rules = read_rules(document)
        seconds = time.thread_time() - started
        if rules.shadows or len(rules.rules) != count:
            raise SystemExit("the benchmark's rules are not all reachable")
        return seconds

    return bench.rounds(one)


def with_receipts(bench: Bench, batch: int, *, attested: bool = False) -> float:
    """Wall seconds of one decision whose receipt is durable and signed for, so many brought at once."""
    total, signer = _decisions(bench, batch), KeyFileSigner(Ed25519PrivateKey.generate())

    def one() -> float:
        with fresh(bench) as path, SqliteReceipts(path, signer=signer) as receipts:
            hall = bench.hall(10, attested=attested, services=Services(receipts=receipts))
            started = time.perf_counter()
            for _ in range(total // batch):
                hall.route_many([REQUEST] * batch)
            return (time.perf_counter() - started) / total

    return bench.rounds(one, RECEIPT_ROUNDS)


class _Builds:
    """Builds the events of each decision, and the JSON that a caller over the wire gets."""

    def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:
        del elapsed_ns
        events(decision)


def of_rules(bench: Bench, rules: int) -> dict[str, float]:
    """Decisions by so many rules, in a Hall that is gone afterwards: garbage is looked for among all that is alive."""
    hall = bench.hall(rules, attested=False)
    return {
        "cpu": bench.seconds_each(lambda: hall.route(REQUEST), 8000),
        "p99_wall": bench.p99(lambda: hall.route(REQUEST), 8000),
    }


def measure(bench: Bench) -> dict[str, Any]:
    """Everything, in seconds."""
    found: dict[str, Any] = {"floor": floors(bench)}
    found["decide_without_attestation"] = {str(rules): of_rules(bench, rules) for rules in (10, 100, 1000, 10_000)}
    denied = bench.hall(1000, attested=False)
    other = {**REQUEST, "capability_id": "cap.nobody.names"}
    found["decide_denied_no_rule"] = bench.seconds_each(lambda: denied.route(other), 4000)
    told = bench.hall(10, attested=False, services=Services(events=_Builds()))
    found["decide_with_events_built"] = bench.seconds_each(lambda: told.route(REQUEST), 4000)
    plain = bench.hall(10, attested=False)
    found["decide_to_wire_json"] = bench.seconds_each(lambda: json.dumps(to_wire(plain.route(REQUEST))), 4000)
    found["load_and_prove_10000_rules"] = load_rules(bench, 10_000)
    always = bench.hall(10, attested=True)
    found["decide_always"] = bench.seconds_each(lambda: always.route(REQUEST), 2000)
    sealed = bench.hall(10, attested=True, attestation="sealed", seal_directory=str(bench.directory / "sealed"))
    found["decide_sealed"] = bench.seconds_each(lambda: sealed.route(REQUEST), 4000)
    found["decide_with_durable_receipt_wall"] = {str(batch): with_receipts(bench, batch) for batch in BATCHES}
    found["decide_always_with_durable_receipt_wall"] = with_receipts(bench, BATCHES[-1], attested=True)
    return found


def rates(found: dict[str, Any]) -> dict[str, float]:
    """The figures that bars are about, each the worst of the rule set sizes and the best of the batch sizes."""
    sizes = found["decide_without_attestation"].values()
    return {
        "decisions_per_second": round(1 / max(each["cpu"] for each in sizes)),
        "p99_microseconds": round(1e6 * max(each["p99_wall"] for each in sizes), 1),
        "slowest_size_over_fastest": round(max(each["cpu"] for each in sizes) / min(each["cpu"] for each in sizes), 2),
        "load_and_prove_seconds": round(found["load_and_prove_10000_rules"], 3),
        "attested_per_second": round(1 / found["decide_always"]),
        "receipts_per_second": round(1 / min(found["decide_with_durable_receipt_wall"].values())),
    }


def missed(figures: dict[str, float]) -> list[str]:
    """The bars that are missed."""
    floors = {"decisions_per_second": 40_000, "attested_per_second": 5_000, "receipts_per_second": 20_000}
    ceilings = {"p99_microseconds": 100, "slowest_size_over_fastest": 1.25, "load_and_prove_seconds": 0.5}
    low = [f"{name} is {figures[name]:g}, the bar is {bar}" for name, bar in floors.items() if figures[name] < bar]
    high = [f"{name} is {figures[name]:g}, the bar is {bar}" for name, bar in ceilings.items() if figures[name] > bar]
    return low + high


def main() -> int:
    """Measure, print, and compare with the bars."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a bar is missed")
    parser.add_argument("--directory", help="where to work; a temporary directory by default")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.directory) as directory:
        found = measure(Bench(Path(directory), 10 if given.quick else 1))
    figures = rates(found)
    print(json.dumps({"figures": figures, "seconds": found}, indent=2))
    problems = missed(figures)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if given.check and problems else 0


if __name__ == "__main__":
    sys.exit(main())
