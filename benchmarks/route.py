"""The router: decisions per second and their tail, rule sets of each size, attestation, receipts, as one JSON object.

    python benchmarks/route.py            # about two minutes
    python benchmarks/route.py --quick    # a tenth of the work
    python benchmarks/route.py --check    # exit status 1 when a bar is missed

Bars (issue 5): prod decisions without attestation at least 40,000 a second on one core, flat from 10 to 10,000 rules,
p99 at most 100 µs; 10,000 rules loaded and proven reachable in 0.5 s; with a full re-hash of a five-file worker at
least 5,000 a second; with durable receipts at least 20,000 a second.

Rates and loading are over the CPU time of the deciding thread; p99 and receipts are by the wall clock. Medians of the
rounds; beside them stands what the machine itself can do: hashing five files by descriptor, one Ed25519 verification,
one fdatasync of 4 KiB. A busy machine is slower from one second to the next, so every round also times Ed25519
verifications before and after, and `scaled` restates the round as if one took the 100 µs it takes on the machine the
bars were set on. The bars are compared with the scaled figures.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from wcp_attest import KeySigner, Namespace, Policy, TrustedKey, build_manifest, sign
from wcp_attest.signing.key import generate
from wcp_route import Hall, HallConfig, MemoryRegistry, Services, events, read_record, read_rules, to_wire
from wcp_route.ids import new_id
from wcp_route.receipts import SqliteReceipts

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_route import RouteDecision

ROUNDS = 7
REFERENCE_VERIFY = 100e-6  # seconds of an Ed25519 verification where the bars were set
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


class Bench:
    """One signed worker, enrolled, and Halls that decide about it."""

    def __init__(self, directory: Path, scale: int) -> None:
        signer = generate()
        self.directory = directory
        self.scale = scale
        self.package = make_package(directory / "worker", signer)
        self.policy = Policy((Namespace("org.acme", keys=(TrustedKey.from_file_bytes(signer.public_pem()),)),))
        key = Ed25519PrivateKey.generate()
        self._public, self._signature = key.public_key(), key.sign(b"x" * 100)
        self.registry = MemoryRegistry()
        self.registry.enrol(replace(read_record(RECORD), package_root=self.package))  # type: ignore[arg-type]

    def hall(self, rules: int, *, attested: bool, services: Services | None = None, **settings: Any) -> Hall:
        """A Hall for prod. `attested=False` takes the attestor out of a finished Hall: no setting can in prod."""
        hall = Hall(rules_of(rules), self.registry, self.policy, HallConfig(env="prod", **settings), services=services)
        if not attested:
            hall._world = replace(hall.world, attestor=None)  # noqa: SLF001
        if hall.route(REQUEST).denied:
            raise SystemExit("the benchmark's request is denied; nothing would be measured")
        return hall

    def yardstick(self) -> float:
        """CPU seconds of an Ed25519 verification just now."""
        started = time.thread_time()
        for _ in range(50):
            self._public.verify(self._signature, b"x" * 100)
        return (time.thread_time() - started) / 50

    def rounds(self, one: Callable[[], float], rounds: int = ROUNDS) -> dict[str, float]:
        """Medians of some rounds, plain and scaled by the yardstick of the moment."""
        plain, scaled = [], []
        for _ in range(rounds):
            gc.collect()
            before = self.yardstick()
            seconds = one()
            plain.append(seconds)
            scaled.append(seconds * REFERENCE_VERIFY / ((before + self.yardstick()) / 2))
        return {"plain": statistics.median(plain), "scaled": statistics.median(scaled)}

    def seconds_each(self, run: Callable[[], object], times: int) -> dict[str, float]:
        """CPU seconds of one call."""
        times = max(10, times // self.scale)

        def one() -> float:
            started = time.thread_time()
            for _ in range(times):
                run()
            return (time.thread_time() - started) / times

        return self.rounds(one)

    def p99(self, run: Callable[[], object], times: int) -> dict[str, float]:
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

    def sync() -> None:
        os.pwrite(file, b"x" * 4096, 0)
        os.fdatasync(file)

    file = os.open(bench.directory / "sync", os.O_RDWR | os.O_CREAT)
    started = time.perf_counter()
    for _ in range(50):
        sync()
    synced = (time.perf_counter() - started) / 50
    found = {
        "hash_five_files": bench.seconds_each(read_and_hash, 2000),
        "ed25519_verify": statistics.median(bench.yardstick() for _ in range(ROUNDS)),
        "fdatasync_4k_wall": synced,
    }
    os.close(file)
    os.close(folder)
    return found


def load_rules(bench: Bench, count: int) -> dict[str, float]:
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


def with_receipts(bench: Bench, batch: int) -> dict[str, float]:
    """Wall seconds of one decision whose receipt is durable, in batches."""
    total = max(batch * 4, (4_000 if batch == 1 else 20_000) // bench.scale)

    def one() -> float:
        path = str(bench.directory / f"receipts-{new_id()}.db")
        with SqliteReceipts(path) as receipts:
            hall = bench.hall(10, attested=False, services=Services(receipts=receipts))
            started = time.perf_counter()
            for _ in range(total // batch):
                hall.route_many([REQUEST] * batch)
            return (time.perf_counter() - started) / (total // batch * batch)

    return bench.rounds(one, 5)


class _Builds:
    """Builds the events of each decision, and the JSON that a caller over the wire gets."""

    def emit(self, decision: RouteDecision, elapsed_ns: int, /) -> None:
        del elapsed_ns
        events(decision)


def measure(bench: Bench) -> dict[str, Any]:
    """Everything, in seconds."""
    found: dict[str, Any] = {"floor": floors(bench)}
    decide: dict[str, Any] = {}
    for rules in (10, 100, 1000, 10_000):
        hall = bench.hall(rules, attested=False)
        run = lambda hall=hall: hall.route(REQUEST)  # noqa: E731
        decide[str(rules)] = {"cpu": bench.seconds_each(run, 8000), "p99_wall": bench.p99(run, 8000)}
    found["decide_without_attestation"] = decide
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
    found["decide_with_durable_receipt_wall"] = {str(batch): with_receipts(bench, batch) for batch in (1, 100, 5000)}
    return found


def rates(found: dict[str, Any]) -> dict[str, float]:
    """The figures that bars are about."""
    sizes = found["decide_without_attestation"].values()
    receipts = found["decide_with_durable_receipt_wall"].values()
    figures: dict[str, float] = {}
    for kind in ("plain", "scaled"):
        figures |= {
            f"decisions_per_second_{kind}": round(1 / max(each["cpu"][kind] for each in sizes)),
            f"p99_microseconds_{kind}": round(1e6 * max(each["p99_wall"][kind] for each in sizes), 1),
            f"rules_seconds_{kind}": round(found["load_and_prove_10000_rules"][kind], 3),
            f"attested_per_second_{kind}": round(1 / found["decide_always"][kind]),
            f"receipts_per_second_{kind}": round(1 / min(each[kind] for each in receipts)),
        }
    return figures


def missed(figures: dict[str, float]) -> list[str]:
    """The bars that are missed."""
    bars = {
        "decisions_per_second_scaled": 40_000,
        "attested_per_second_scaled": 5_000,
        "receipts_per_second_scaled": 20_000,
    }
    lows = [f"{name} is {figures[name]:g}, the bar is {bar}" for name, bar in bars.items() if figures[name] < bar]
    highs = {"p99_microseconds_scaled": 100, "rules_seconds_scaled": 0.5}
    return lows + [
        f"{name} is {figures[name]:g}, the bar is {bar}" for name, bar in highs.items() if figures[name] > bar
    ]


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
