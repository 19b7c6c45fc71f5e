"""Two approval stores, one behaviour: one decision by one human gives one use of one grant for one request."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.route.state_worlds import SHA, START_MS, a_hold
from tests.route.stores import MemoryApprovals, SqliteApprovals
from wcp_attest.base.errors import ConfigError, Error
from wcp_route.storage import database
from wcp_route.storage.approvals import ApprovalError, ApprovalExpired, Resolution
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_route.domain.decision import Hold
    from wcp_route.domain.values import Level

AnyStore = MemoryApprovals | SqliteApprovals
NOW = START_MS + 100
END = START_MS + 60_000
WORKER = "org.acme.summarizer"
NO_GRANT = "the approval grant is not good for this request"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyStore]:
    made: AnyStore = MemoryApprovals() if request.param == "memory" else SqliteApprovals(str(tmp_path / "hall.db"))
    with made:
        yield made


def approved(store: AnyStore, hold: Hold | None = None) -> str:
    hold = hold or a_hold()
    store.hold(hold)
    return store.resolve(hold.pending_id, "approve", by="ada", at_ms=NOW).grant_id


def redeem(
    store: AnyStore,
    grant: str,
    *,
    input_hash: str = SHA,
    worker_id: str = WORKER,
    level: Level | None = None,
    at_ms: int = NOW,
    use: bool = True,
) -> Hold:
    return store.redeem(grant, input_hash=input_hash, worker_id=worker_id, level=level, at_ms=at_ms, use=use)


def test_a_hold_waits_under_its_id(store: AnyStore) -> None:
    later, sooner = a_hold(2, blast_score=None), a_hold(1)
    for hold in (later, sooner):
        store.hold(hold)
    assert store.pending(NOW) == (sooner, later)
    assert store.get("hold-2") == later
    assert (store.get("hold-3"), store.state("hold-3"), store.state("hold-2")) == (None, None, "pending")


def test_an_approval_gives_a_grant_that_is_good_once(store: AnyStore) -> None:
    store.hold(a_hold())
    resolution = store.resolve("hold-1", "approve", by="ada", at_ms=NOW, reason="seen")
    assert resolution == Resolution("hold-1", "approved", resolution.grant_id, "gatekeeper", END)
    assert len(resolution.grant_id) == 64
    assert store.pending(NOW) == ()
    assert redeem(store, resolution.grant_id) == a_hold()
    assert store.state("hold-1") == "redeemed"
    with pytest.raises(ApprovalError, match=NO_GRANT):
        redeem(store, resolution.grant_id)


def test_a_dry_run_only_looks(store: AnyStore) -> None:
    grant = approved(store)
    for _ in range(3):
        assert redeem(store, grant, use=False) == a_hold()
    redeem(store, grant)
    with pytest.raises(ApprovalError):
        redeem(store, grant, use=False)


@pytest.mark.parametrize(
    "use",
    [
        lambda store, grant: redeem(store, grant, input_hash="sha256:" + "00" * 32),
        lambda store, grant: redeem(store, grant, input_hash=""),
        lambda store, grant: redeem(store, grant, worker_id="org.acme.other"),
        lambda store, grant: redeem(store, grant, worker_id=""),
        lambda store, grant: redeem(store, grant, input_hash="sha256:" + "00" * 32, at_ms=END),
        lambda store, grant: redeem(store, grant[:-1]),
        lambda store, grant: redeem(store, grant.upper()),
        lambda store, grant: redeem(store, grant + "\0"),
        lambda store, grant: redeem(store, ""),
        lambda store, grant: redeem(store, "\ud800"),
        lambda store, grant: redeem(store, "hold-1"),
    ],
)
def test_a_grant_is_good_for_nothing_else(store: AnyStore, use: Callable[[AnyStore, str], Hold]) -> None:
    """One message whatever is wrong, so that nothing can be found out by trying; and the grant stays good."""
    grant = approved(store)
    with pytest.raises(ApprovalError, match=NO_GRANT) as caught:
        use(store, grant)
    assert not isinstance(caught.value, ApprovalExpired)
    redeem(store, grant)


def test_a_grant_reaches_as_high_as_who_gave_it(store: AnyStore) -> None:
    store.hold(a_hold(1))
    store.resolve("hold-1", "escalate", by="ada", at_ms=NOW)  # from gatekeeper to executor
    grant = store.resolve("hold-1", "approve", by="bea", at_ms=NOW).grant_id
    with pytest.raises(ApprovalError, match=NO_GRANT):
        redeem(store, grant, level="incident_commander")
    assert store.state("hold-1") == "approved"
    assert redeem(store, grant, level="executor", use=False).level == "executor"
    assert redeem(store, grant, level="gatekeeper").level == "executor"


def test_a_request_without_a_hash_is_never_approved(store: AnyStore) -> None:
    grant = approved(store, a_hold(input_hash=""))
    with pytest.raises(ApprovalError, match=NO_GRANT):
        redeem(store, grant, input_hash="")


def test_time_denies(store: AnyStore) -> None:
    store.hold(a_hold(1))
    grant = approved(store, a_hold(2))
    assert [hold.pending_id for hold in store.pending(END - 1)] == ["hold-1"]
    assert store.pending(END) == ()
    for action in ("approve", "deny", "escalate"):
        with pytest.raises(ApprovalExpired):
            store.resolve("hold-1", action, by="ada", at_ms=END)
    with pytest.raises(ApprovalExpired):
        redeem(store, grant, at_ms=END)
    redeem(store, grant, at_ms=END - 1)


def test_a_denial_is_final(store: AnyStore) -> None:
    store.hold(a_hold())
    assert store.resolve("hold-1", "deny", by="ada", at_ms=NOW, reason="no") == Resolution(
        "hold-1", "denied", "", "gatekeeper", END
    )
    for action in ("approve", "deny", "escalate"):
        with pytest.raises(ApprovalError, match="denied already"):
            store.resolve("hold-1", action, by="eve", at_ms=NOW)
    assert store.state("hold-1") == "denied"


def test_escalation_climbs_to_the_top_and_no_further(store: AnyStore) -> None:
    store.hold(a_hold(level="advisory"))
    levels = [store.resolve("hold-1", "escalate", by="ada", at_ms=NOW).level for _ in range(3)]
    assert levels == ["gatekeeper", "executor", "incident_commander"]
    with pytest.raises(ApprovalError, match="no level above"):
        store.resolve("hold-1", "escalate", by="ada", at_ms=NOW)
    assert [hold.level for hold in store.pending(NOW)] == ["incident_commander"]
    assert store.resolve("hold-1", "approve", by="bea", at_ms=NOW).level == "incident_commander"


def test_what_is_not_there_cannot_be_resolved(store: AnyStore) -> None:
    with pytest.raises(ApprovalError, match="no hold"):
        store.resolve("hold-1", "approve", by="ada", at_ms=NOW)
    store.hold(a_hold())
    with pytest.raises(ApprovalError, match="already"):
        store.hold(a_hold())
    with pytest.raises(ConfigError, match="no resolution"):
        store.resolve("hold-1", "Approve", by="ada", at_ms=NOW)  # type: ignore[arg-type]
    assert store.state("hold-1") == "pending"


@pytest.mark.parametrize("by", ["", "  ", "a\nb", "x" * 501])
def test_somebody_must_answer_for_it(store: AnyStore, by: str) -> None:
    store.hold(a_hold())
    with pytest.raises(ConfigError, match="say who"):
        store.resolve("hold-1", "approve", by=by, at_ms=NOW)
    assert store.state("hold-1") == "pending"


def test_a_ban_ends_holds_and_grants_of_its_worker_only(store: AnyStore) -> None:
    store.hold(a_hold(1))
    grant = approved(store, a_hold(2))
    other = approved(store, a_hold(3, worker_id="org.acme.other"))
    redeem(store, approved(store, a_hold(4)))
    assert store.cancel_for(WORKER, by="hall", at_ms=NOW) == 2
    assert store.cancel_for(WORKER, by="hall", at_ms=NOW) == 0
    assert [store.state(f"hold-{number}") for number in range(1, 5)] == [
        "cancelled",
        "cancelled",
        "approved",
        "redeemed",
    ]
    with pytest.raises(ApprovalError, match=NO_GRANT):
        redeem(store, grant)
    with pytest.raises(ApprovalError, match="cancelled already"):
        store.resolve("hold-1", "approve", by="ada", at_ms=NOW)
    redeem(store, other, worker_id="org.acme.other")


def outcomes(count: int, work: Callable[[int], object]) -> list[object]:
    """Run `work` in threads that start together; what each returned or raised."""
    found: list[object] = []
    ready = threading.Barrier(count)

    def run(number: int) -> None:
        ready.wait()
        try:
            found.append(work(number))
        except Error as problem:
            found.append(problem)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_of_two_operators_one_is_late(store: AnyStore) -> None:
    for number in range(10):
        store.hold(a_hold(number))
        found = outcomes(
            4,
            lambda one, number=number: store.resolve(  # type: ignore[misc]
                f"hold-{number}", ("approve", "deny")[one % 2], by=f"operator {one}", at_ms=NOW
            ),
        )
        assert sum(isinstance(one, Resolution) for one in found) == 1


def test_of_two_requests_one_gets_through(store: AnyStore) -> None:
    for number in range(10):
        grant = approved(store, a_hold(number))
        found = outcomes(4, lambda _, grant=grant: redeem(store, grant))  # type: ignore[misc]
        assert sum(not isinstance(one, Error) for one in found) == 1


def test_too_many_holds_are_refused(store: AnyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("memory", "sqlite"):
        monkeypatch.setattr(f"wcp_route.storage.approvals.{name}.MAX_PENDING", 3)
    for number in range(3):
        store.hold(a_hold(number))
    with pytest.raises(ApprovalError, match="wait for a human already"):
        store.hold(a_hold(4))
    store.hold(a_hold(5, created_at_ms=END, expires_at_ms=END + 1000))  # the others have expired by then
    assert [hold.pending_id for hold in store.pending(END)] == ["hold-5"]


# Only in a file


def test_the_grant_itself_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "hall.db"
    with SqliteApprovals(str(path)) as store:
        grant = approved(store)
        for suffix in ("", "-wal"):
            assert grant.encode() not in Path(f"{path}{suffix}").read_bytes()


def test_it_is_there_again_after_a_restart_and_in_another_process(tmp_path: Path) -> None:
    path = str(tmp_path / "hall.db")
    with SqliteApprovals(path) as first, SqliteApprovals(path) as second:
        first.hold(a_hold())
        grant = second.resolve("hold-1", "approve", by="ada", at_ms=NOW).grant_id
        with pytest.raises(ApprovalError, match="approved already"):
            first.resolve("hold-1", "deny", by="bea", at_ms=NOW)
    with SqliteApprovals(path) as again:
        assert redeem(again, grant) == a_hold()


REDEEMER = """
import sys
from wcp_attest.errors import Error

path, sha, worker, now = sys.argv[1:]
with SqliteApprovals(path) as store:
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            store.redeem(line.strip(), input_hash=sha, worker_id=worker, level=None, at_ms=int(now), use=True)
        except Error:
            print("late", flush=True)
        else:
            print("mine", flush=True)
"""


def test_of_several_processes_one_uses_a_grant(tmp_path: Path) -> None:
    path = str(tmp_path / "hall.db")
    with SqliteApprovals(path) as store:
        grants = [approved(store, a_hold(number)) for number in range(40)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", REDEEMER, path, SHA, WORKER, str(NOW)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [process.stdout and process.stdout.readline() for process in processes] == ["ready\n"] * 3
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n".join(grants))
        process.stdin.close()  # they are off
    said = [process.stdout.read().split() for process in processes if process.stdout is not None]
    for process in processes:
        assert process.wait(60) == 0
        assert process.stdout is not None
        process.stdout.close()
    assert [sorted(each) for each in zip(*said, strict=True)] == [["late", "late", "mine"]] * len(grants)


def test_every_step_leaves_a_trace(tmp_path: Path) -> None:
    path = str(tmp_path / "hall.db")
    with SqliteApprovals(path) as store:
        store.hold(a_hold(1))
        store.resolve("hold-1", "escalate", by="ada", at_ms=NOW, reason="not mine")
        redeem(store, store.resolve("hold-1", "approve", by="bea", at_ms=NOW).grant_id)
        store.hold(a_hold(2))
        store.cancel_for(WORKER, by="hall", at_ms=NOW)
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT pending_id, action, by, reason FROM holds_log ORDER BY position").fetchall()
    connection.close()
    asked = "the policy gate asks for a human"
    assert rows == [
        ("hold-1", "hold", "hall", asked),
        ("hold-1", "escalate", "ada", "not mine"),
        ("hold-1", "approve", "bea", ""),
        ("hold-1", "redeem", "hall", ""),
        ("hold-2", "hold", "hall", asked),
        ("hold-2", "cancel", "hall", ""),
    ]


@pytest.mark.parametrize(
    "damage",
    [
        "hold = x'7b7d'",
        "hold = x'ff'",
        'hold = CAST(replace(CAST(hold AS TEXT), \'"code":"DENY\', \'"code":"ALLOW\') AS BLOB)',
        "hold = CAST(replace(CAST(hold AS TEXT), '1764000060123', '\"late\"') AS BLOB)",
        "level = 'intern'",
    ],
)
def test_a_damaged_hold_is_an_error(tmp_path: Path, damage: str) -> None:
    path = str(tmp_path / "hall.db")
    with SqliteApprovals(path) as store:
        store.hold(a_hold())
        connection = sqlite3.connect(path)
        assert connection.execute(f"UPDATE holds SET {damage}").rowcount == 1
        connection.commit()
        connection.close()
        for use in (lambda: store.get("hold-1"), lambda: store.pending(NOW), lambda: approved_again(store)):
            with pytest.raises(StateError, match="damaged"):
                use()


def approved_again(store: SqliteApprovals) -> Resolution:
    return store.resolve("hold-1", "approve", by="ada", at_ms=NOW)


def test_a_hold_has_a_size(tmp_path: Path) -> None:
    with SqliteApprovals(str(tmp_path / "hall.db")) as store, pytest.raises(ApprovalError, match="bytes"):
        store.hold(a_hold(reason="x" * 70_000))


def test_a_locked_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    path = str(tmp_path / "hall.db")
    with SqliteApprovals(path) as store:
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateError, match="locked"):
            store.hold(a_hold())
        blocker.close()
        store.hold(a_hold())
