"""Two approval stores, one behaviour: one decision by one human gives one use of one grant for one request."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.route.state_worlds import SHA, START_MS, a_hold
from tests.route.stores import MemoryApprovals, SqliteApprovals
from wcp_attest.base.errors import ConfigError, Error
from wcp_route.storage.approvals import ApprovalError, ApprovalExpired, Resolution

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


def test_a_request_without_a_hash_is_never_approved(store: AnyStore) -> None:
    grant = approved(store, a_hold(input_hash=""))
    with pytest.raises(ApprovalError, match=NO_GRANT):
        redeem(store, grant, input_hash="")


def test_a_denial_is_final(store: AnyStore) -> None:
    store.hold(a_hold())
    assert store.resolve("hold-1", "deny", by="ada", at_ms=NOW, reason="no") == Resolution(
        "hold-1", "denied", "", "gatekeeper", END
    )
    for action in ("approve", "deny", "escalate"):
        with pytest.raises(ApprovalError, match="denied already"):
            store.resolve("hold-1", action, by="eve", at_ms=NOW)
    assert store.state("hold-1") == "denied"


@pytest.mark.parametrize("by", ["", "  ", "a\nb", "x" * 501])
def test_somebody_must_answer_for_it(store: AnyStore, by: str) -> None:
    store.hold(a_hold())
    with pytest.raises(ConfigError, match="say who"):
        store.resolve("hold-1", "approve", by=by, at_ms=NOW)
    assert store.state("hold-1") == "pending"


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
