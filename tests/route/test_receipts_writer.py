"""Many bring receipts, one writes them; whatever is wrong with the file is one error, soon."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.route.state_worlds import some_evidence
from tests.route.stores import SqliteReceipts
from wcp_attest.base.errors import SigningError
from wcp_route.storage.receipts import KeyFileSigner, ReceiptError, verify
from wcp_route.storage.receipts.receipt import MAX_BATCH
from wcp_route.storage.state_errors import StateError

ROOT = Path(__file__).parents[2]
SIGNER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
KEYS = [SIGNER.public]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "hall.db")


def together(count: int, work: object) -> None:
    assert callable(work)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_many_threads_share_transactions(path: str) -> None:
    with SqliteReceipts(path, signer=SIGNER) as receipts:

        def work(number: int) -> None:
            for index in range(20):
                receipts.append([some_evidence(number * 20 + index, stream=f"tenant-{number % 3}")])

        together(32, work)
    found = verify(path, keys=KEYS)
    assert (found.receipts, found.streams) == (640, 3)
    assert found.batches < 640


def test_several_stores_on_one_file_make_one_chain(path: str) -> None:
    """As several processes do: each looks again when another has written."""
    stores = [SqliteReceipts(path, signer=SIGNER) for _ in range(3)]

    def work(number: int) -> None:
        for index in range(15):
            stores[number].append([some_evidence(number * 15 + index)])

    together(3, work)
    for store in stores:
        store.close()
    found = verify(path, keys=KEYS)
    assert (found.receipts, found.streams) == (45, 1)


def test_a_long_list_is_written_in_several_transactions(path: str) -> None:
    with SqliteReceipts(path, signer=SIGNER) as receipts:
        receipts.append([])
        receipts.append([some_evidence(number) for number in range(MAX_BATCH + 1)])
    found = verify(path, keys=KEYS)
    assert (found.receipts, found.batches) == (MAX_BATCH + 1, 2)


def test_one_bad_list_does_not_hold_up_the_others(path: str) -> None:
    failures: list[int] = []
    with SqliteReceipts(path, signer=SIGNER) as receipts:

        def work(number: int) -> None:
            stream = "acme" if number % 2 else "not a stream"
            try:
                receipts.append([some_evidence(number, stream=stream)])
            except ReceiptError:
                failures.append(number)

        together(16, work)
    assert sorted(failures) == list(range(0, 16, 2))
    assert verify(path, keys=KEYS).receipts == 8


def test_a_closed_store_takes_nothing(path: str) -> None:
    receipts = SqliteReceipts(path, signer=SIGNER)
    receipts.append([some_evidence()])
    receipts.close()
    receipts.close()
    with pytest.raises(ReceiptError, match="closed"):
        receipts.append([some_evidence()])


class MoodySigner:
    """A hardware key that is away now and then."""

    key_id = SIGNER.key_id
    away = True

    def sign(self, statement: bytes) -> bytes:
        if self.away:
            raise SigningError("the key is not plugged in")
        return SIGNER.sign(statement)


def test_a_signer_that_fails_acknowledges_nothing(path: str) -> None:
    signer = MoodySigner()
    with SqliteReceipts(path, signer=signer) as receipts:
        with pytest.raises(ReceiptError, match="not plugged in"):
            receipts.append([some_evidence(1)])
        signer.away = False
        receipts.append([some_evidence(2)])
    assert verify(path, keys=KEYS).receipts == 1


class BrokenSigner:
    key_id = SIGNER.key_id

    def sign(self, statement: bytes) -> bytes:
        raise ZeroDivisionError


# The file


def test_the_file_is_its_owners_alone(path: str) -> None:
    before = os.umask(0)
    try:
        with SqliteReceipts(path, signer=SIGNER) as receipts:
            receipts.append([some_evidence()])
            for suffix in ("", "-wal", "-shm"):
                assert stat.S_IMODE(os.stat(path + suffix).st_mode) == 0o600
    finally:
        os.umask(before)


FILL = """
import resource, signal, sys
from tests.route.test_receipts_writer import SIGNER, some_evidence, ReceiptError, SqliteReceipts
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
receipts = SqliteReceipts(sys.argv[1], signer=SIGNER)
written = 0
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
try:
    for number in range(1000):
        receipts.append([some_evidence(number)])
        written += 1
except ReceiptError as problem:
    print(problem, file=sys.stderr)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
receipts.append([some_evidence(1001)])
receipts.close()
print(written + 1)
"""


def make_fifo(path: str) -> None:
    os.mkfifo(path, 0o600)


def make_link(path: str) -> None:
    os.symlink("/dev/null", path)


def make_open_file(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    os.chmod(path, 0o640)


def make_garbage(path: str) -> None:
    Path(path).write_bytes(b"not a database " * 1000)
    os.chmod(path, 0o600)


def make_folder(path: str) -> None:
    os.mkdir(path)


@pytest.mark.parametrize("name", ["missing/hall.db", "nul\0.db", "x" * 300])
def test_a_path_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StateError):
        SqliteReceipts(str(tmp_path / name))


def test_a_name_with_odd_characters_is_a_name(tmp_path: Path) -> None:
    path = str(tmp_path / "hall?mode=memory&x=%41#ü.db")
    with SqliteReceipts(path, signer=SIGNER) as receipts:
        receipts.append([some_evidence()])
    assert os.path.exists(path)
    assert verify(path, keys=KEYS).receipts == 1


def test_reading_makes_no_file(path: str) -> None:
    with pytest.raises(StateError, match="does not exist"):
        verify(path, keys=KEYS)
    assert not os.path.exists(path)
