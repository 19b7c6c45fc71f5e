"""Whatever stops a writer, acknowledged receipts are there and the chain holds."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.drawn import PROFILE
from tests.route import receipt_writer
from tests.route.state_worlds import some_evidence
from tests.route.stores import SqliteReceipts
from wcp_attest.base.errors import ConfigError
from wcp_route.storage.receipts import KeyFileSigner, export, verify

ROOT = Path(__file__).parents[2]
SIGNER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
FILES = int(os.environ.get("WCP_CRASH_FILES", "1"))  # many more were run by hand: docs/route/receipts.md
ROUNDS = 6  # kills a file; each finds what the last one left


def start(path: Path, first: int, threads: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, receipt_writer.__file__, str(path), str(first), str(threads)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )


def kill_after(writer: subprocess.Popen[bytes], acknowledged: int) -> set[int]:
    """Let the writer acknowledge some receipts, kill it in full flight, and return all it acknowledged."""
    assert writer.stdout is not None
    seen = [writer.stdout.readline() for _ in range(acknowledged)]
    writer.send_signal(signal.SIGKILL)
    seen += writer.stdout.readlines()
    writer.wait()
    writer.stdout.close()
    return {int(line) for line in seen if line.endswith(b"\n")}


def stored(path: Path) -> set[int]:
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT substr(CAST(body AS TEXT), instr(body, CAST('\"corr-' AS BLOB)) + 6, 12) FROM receipts"
    )
    numbers = {int(text.partition('"')[0]) for (text,) in rows}
    connection.close()
    return numbers


@pytest.mark.parametrize("seed", range(FILES))
def test_a_killed_writer_loses_nothing_and_breaks_nothing(tmp_path: Path, seed: int) -> None:
    """SIGKILL at random moments, the same file again and again, sometimes with two writers at once."""
    path = tmp_path / "hall.db"
    chance = random.Random(seed)
    acknowledged: set[int] = set()
    for number in range(ROUNDS):
        writers = [
            start(path, (2 * number + which) * 1_000_000, threads=chance.choice((1, 3)))
            for which in range(chance.choice((1, 2)))
        ]
        for writer in writers:
            acknowledged |= kill_after(writer, chance.randrange(1, 400))
        found = verify(str(path), keys=[SIGNER.public])
        assert acknowledged <= stored(path)
        assert found.streams == 2
    with SqliteReceipts(str(path), signer=SIGNER) as receipts:  # and it goes on
        receipts.append([some_evidence(10**9)])
    assert verify(str(path), keys=[SIGNER.public]).receipts == len(stored(path)) > ROUNDS


def test_a_log_cut_anywhere_is_a_valid_beginning(tmp_path: Path) -> None:
    """A power cut may leave any beginning of the log: what is left is a chain, and can be written on."""
    path = tmp_path / "hall.db"
    receipts = SqliteReceipts(str(path), signer=SIGNER)
    for number in range(6):
        receipts.append([some_evidence(number * 3 + index) for index in range(3)])
    log = Path(f"{path}-wal").read_bytes()
    main = path.read_bytes()
    receipts.close()
    counts = set()
    for cut in range(0, len(log), 2999 if PROFILE == "nightly" else 8999):
        copy = tmp_path / f"cut-{cut}.db"
        copy.write_bytes(main)
        copy.chmod(0o600)
        Path(f"{copy}-wal").write_bytes(log[:cut])
        with SqliteReceipts(str(copy), signer=SIGNER) as again:
            again.append([some_evidence(99)])
        counts.add(verify(str(copy), keys=[SIGNER.public]).receipts)
        for suffix in ("", "-wal", "-shm"):
            Path(f"{copy}{suffix}").unlink(missing_ok=True)
    assert counts == {1, 4, 7, 10, 13, 16}  # whole batches only, and ours


def test_a_copy_of_file_and_log_verifies(tmp_path: Path) -> None:
    path = tmp_path / "hall.db"
    with SqliteReceipts(str(path), signer=SIGNER) as receipts:
        receipts.append([some_evidence()])
        for suffix in ("", "-wal"):
            shutil.copy2(f"{path}{suffix}", tmp_path / f"copy.db{suffix}")
    lines: list[bytes] = []
    assert verify(str(tmp_path / "copy.db"), keys=[SIGNER.public]).receipts == export(str(path), lines.append) == 1


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # that it is unwise is the point
def test_a_fork_of_the_process_cannot_write(tmp_path: Path) -> None:
    with SqliteReceipts(str(tmp_path / "hall.db"), signer=SIGNER) as receipts:
        receipts.append([some_evidence()])
        child = os.fork()
        if child == 0:  # pragma: no cover  # in the child
            try:
                receipts.append([some_evidence()])
            except ConfigError as problem:
                os._exit(7 if "fork" in str(problem) else 8)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
