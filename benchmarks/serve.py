"""The Hall over HTTP against its bars, beside a bare server that answers a constant, in one run; two minutes.

    python -m benchmarks.serve               # ends with each bar, reached or not
    python -m benchmarks.serve --check       # exit status 1 when a bar is missed
    python -m benchmarks.serve --soak 100000 # so many decisions one after another, and how memory grows meanwhile

Each service is a process of its own, started as an operator starts it, with SQLite, signed durable receipts and its log
to nowhere. The others are the same uvicorn with the same parser and answers of the same size (`benchmarks/servers.py`):
one that answers at once, one that does so when a signed row is on the disk, one that only has a Hall decide. Sixteen
connections of another process ask in turns, a few seconds each. The rates beside these and the cost of a ban list are
ratios; the rate with attestation and its 99th percentile are by the wall clock of a machine with two quiet cores.

All files lie below /var/tmp, or WCP_BENCH_DIR: where others could change a sealed copy, it is hashed for each decision.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.route import RECORD, REQUEST, RouteBar, RouteBench, rules_of
from wcp_attest import PackageStore
from wcp_attest.signing.key import generate
from wcp_route import read_record
from wcp_route.storage.receipts import KeyFileSigner
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from collections.abc import Iterator

CONNECTIONS = 16
# Sixteen callers who ask again at once wait 16 / rate on average, 23 ms at 700 a second, however the service works. So
# the 99th percentile is taken at the rate of the bar, from the time when each request was due.
PACE = 600
PROGRAM = str(Path(sys.executable).with_name("wcp-route"))
TOKEN = "of the benchmark"  # opens nothing but a service that lives for a minute
SAMPLES = 20  # of memory in a soak
BARS = (
    RouteBar("sealed, durable receipts", least=600, unit="a second"),
    RouteBar(f"sealed, durable receipts, asked {PACE} times a second: 99 %", most=25, unit="ms"),
    RouteBar("without attestation / bare server", least=0.4),
    RouteBar("without attestation / a server that only decides", least=0.4),
    RouteBar("sealed, no ban list / 100,000 bans, rates", most=1.2),
    RouteBar("memory, end of the soak / a fifth of it", most=1.1),
)


@dataclass(frozen=True)
class Running:
    """A service that answers."""

    process: subprocess.Popen[bytes]
    port: int
    path: str

    def memory(self) -> float:
        """MiB that it has in memory."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1]) / 1024


def free_port() -> int:
    """Return a port nobody listens on."""
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, path: str) -> Iterator[Running]:
    """Run a server until the block ends."""
    import socket

    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                if process.poll() is not None:
                    raise SystemExit(f"this server does not start: {' '.join(command)}")
                time.sleep(0.05)
            yield Running(process, port, path)
        finally:
            process.terminate()
            process.wait(60)


def hall_files(bench: RouteBench, name: str, *, bans: int | None = None, attested: bool = True) -> str:
    """Write a Hall into a folder of its own; return its settings."""
    folder = bench.directory / name
    folder.mkdir()
    key = generate().to_pem(None)
    (folder / "receipts.key").write_bytes(key)
    (folder / "rules.json").write_bytes(rules_of(10).replace(b'"prod"', b'"stage"'))
    signer = KeyFileSigner.from_file_bytes(key, what="receipt key")
    with open_state(str(folder / "hall.db"), signer=signer) as state:
        record = {**RECORD, "allowed_environments": ["stage"]}
        state.registry.enroll(replace(read_record(record), package_root=bench.package))  # type: ignore[arg-type]
    unsafe = "unsafe_dispatch_workers_without_attestation = true\n"
    sealed = f'attestation = "sealed"\nseal_directory = "{folder}/sealed"\n'
    policy = f'policy = "{bench.policy(bans)}"\n' if attested else ""
    digest = sha256(TOKEN.encode()).hexdigest()
    (folder / "hall.toml").write_text(
        f'env = "stage"\n{sealed if attested else unsafe}[files]\nrules = "rules.json"\n{policy}state = "hall.db"\n'
        f'receipt_key = "receipts.key"\n[service]\n[[service.token]]\nname = "acme"\nsha256 = ["{digest}"]\n'
        'roles = ["router"]\n'
    )
    return str(folder / "hall.toml")


class Connection(asyncio.Protocol):
    """Asks again as soon as the answer is there and a request is due."""

    def __init__(self, load: Load) -> None:
        self.load, self.buffer, self.started = load, b"", 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.started = self.load.next_due()
        asyncio.get_running_loop().call_later(self.started - time.perf_counter(), self.send)

    def send(self) -> None:
        self.transport.write(self.load.next_request())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        if len(body) < length:
            return
        self.buffer = body[length:]
        self.load.answered(time.perf_counter() - self.started, head, body)
        if self.load.goes_on():
            self.ask()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.ended(exc)


class Load:
    """Sixteen connections for some seconds or so many requests, at a pace (requests a second) or as fast as it goes."""

    def __init__(self, port: int, path: str, *, seconds: float, count: int, pace: float) -> None:
        self.port, self.path, self.until, self.left = port, path, time.perf_counter() + seconds, count
        self.pace, self.due = pace, time.perf_counter()
        self.took: list[float] = []
        self.open, self.done = CONNECTIONS, asyncio.Event()
        self.length = 0

    def next_due(self) -> float:
        self.due = self.due + 1 / self.pace if self.pace else time.perf_counter()
        return self.due

    def next_request(self) -> bytes:
        self.left -= 1
        body = json.dumps({**REQUEST, "env": "stage", "correlation_id": str(uuid.uuid4())}).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n"
        return f"{head}Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body

    def answered(self, seconds: float, head: bytes, body: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 200") or (self.path == "/wcp/route" and b'"outcome":"DISPATCH"' not in body):
            raise SystemExit(f"not dispatched, nothing would be measured: {head!r} {body!r}")
        self.took.append(seconds)
        self.length = len(body)

    def goes_on(self) -> bool:
        return self.left > 0 and time.perf_counter() < self.until

    def ended(self, problem: Exception | None) -> None:
        self.open -= 1
        if problem is not None or not self.open:
            self.done.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.port)
        await self.done.wait()


def load(service: Running, *, seconds: float = 1e9, count: int = sys.maxsize, pace: float = 0) -> dict[str, float]:
    """Have another process ask; return the rate, the percentiles in ms, and the size of an answer."""
    words = ["--load", str(service.port), service.path, str(seconds), str(count), str(pace)]
    done = subprocess.run([sys.executable, "-m", "benchmarks.serve", *words], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode(errors="replace")[-2000:])
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main_load(words: list[str]) -> None:
    """What the other process does."""
    port, path, seconds, count, pace = words
    started = time.perf_counter()
    asked = Load(int(port), path, seconds=float(seconds), count=int(count), pace=float(pace))
    asyncio.run(asked.run())
    elapsed, took = time.perf_counter() - started, sorted(asked.took)
    at = {name: took[int(len(took) * share)] * 1000 for name, share in (("50 %", 0.5), ("99 %", 0.99))}
    print(json.dumps({"rate": len(took) / elapsed, **at, "bytes": asked.length}))


def measure(bench: RouteBench, stack: ExitStack, rounds: int, seconds: float) -> None:
    """Ask every service in turns."""
    bench.policy(100_000)
    time.sleep(2.5)  # a list changed a moment ago is read again each time
    names = {
        "without attestation": hall_files(bench, "plain", attested=False),
        "sealed": hall_files(bench, "sealed-hall"),
        "sealed, 100,000 bans": hall_files(bench, "banned", bans=100_000),
    }
    services = {}
    for name, settings in names.items():
        port = free_port()
        command = [PROGRAM, "serve", "--config", settings, "--listen", f"127.0.0.1:{port}"]
        services[name] = stack.enter_context(running(command, port, "/wcp/route"))
    size = int(load(services["sealed"], count=200)["bytes"])
    place = str(Path(hall_files(bench, "decides", attested=False)).parent)
    others = {
        "bare server": ("/", "bare", str(size)),
        "durable row alone": ("/", "row", str(size), str(bench.directory / "floor.db")),
        "decides, no more": ("/wcp/route", "decides", place),
    }
    for name, (path, kind, *words) in others.items():
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.servers", kind, str(port), *words]
        services[name] = stack.enter_context(running(command, port, path))
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for service in services.values():
        load(service, count=300)
    store = PackageStore(str(Path(names["sealed"]).parent / "sealed"))
    if reason := store.changeable(store.names()[0]):
        raise SystemExit(f"{reason}, so each decision would hash the package again: set WCP_BENCH_DIR to another place")
    paced = f"sealed, {PACE} a second"
    for _ in range(rounds):
        for name, service in services.items():
            found[name].append(load(service, seconds=seconds))
        found[paced].append(load(services["sealed"], seconds=seconds, pace=PACE))
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in found.items()
    }
    print(f"\n{CONNECTIONS} connections, answers of {size} bytes, durable receipts")
    for name, row in medians.items():
        print(f"  {name:24} {row['rate']:8,.0f} a second   50 % {row['50 %']:6.1f} ms   99 % {row['99 %']:6.1f} ms")
    bench.figures |= {
        "sealed, durable receipts": medians["sealed"]["rate"],
        f"sealed, durable receipts, asked {PACE} times a second: 99 %": medians[paced]["99 %"],
        "without attestation / bare server": medians["without attestation"]["rate"] / medians["bare server"]["rate"],
        "without attestation / a server that only decides": medians["without attestation"]["rate"]
        / medians["decides, no more"]["rate"],
        "sealed, no ban list / 100,000 bans, rates": medians["sealed"]["rate"]
        / medians["sealed, 100,000 bans"]["rate"],
    }


def soak(bench: RouteBench, stack: ExitStack, count: int) -> None:
    """Ask so many times, and look at memory now and then."""
    settings, port = hall_files(bench, "soak"), free_port()
    command = [PROGRAM, "serve", "--config", settings, "--listen", f"127.0.0.1:{port}"]
    service = stack.enter_context(running(command, port, "/wcp/route"))
    seen, started = [], time.perf_counter()
    for number in range(1, SAMPLES + 1):
        load(service, count=count // SAMPLES)
        seen.append(service.memory())
        elapsed = time.perf_counter() - started
        print(f"  {number * count // SAMPLES:10,} decisions  {seen[-1]:6.1f} MiB  {elapsed:6.0f} s", flush=True)
    bench.figures["memory, end of the soak / a fifth of it"] = seen[-1] / seen[SAMPLES // 5 - 1]


def main() -> int:
    """Measure, and print each bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit status 1 when a bar is missed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--soak", type=int, metavar="N", help="only this: so many decisions, and memory meanwhile")
    parser.add_argument("--load", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        main_load(options.load)
        return 0
    with tempfile.TemporaryDirectory(dir=os.environ.get("WCP_BENCH_DIR", "/var/tmp")) as folder, ExitStack() as stack:
        bench = RouteBench(Path(folder), stack)
        if options.soak:
            soak(bench, stack, options.soak)
        else:
            measure(bench, stack, options.rounds, options.seconds)
    lines = [bar.describe(bench.figures) for bar in BARS]
    print("\n" + "\n".join(line for _, line in lines))
    return 1 if options.check and not all(reached for reached, _ in lines) else 0


if __name__ == "__main__":
    raise SystemExit(main())
