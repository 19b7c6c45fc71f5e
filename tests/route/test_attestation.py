"""Only attested workers are dispatched: the package verifier, its modes, quarantine, bans, all on real disks."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.route.stores import MemoryApprovals
from tests.route.worlds import (
    SPECIES,
    WORKER,
    Counting,
    Ticking,
    World,
    a_record,
    a_request,
    a_rule,
    make_package,
    tamper,
    trust,
)
from tests.store.worlds import a_root_kept_place
from wcp_attest import ConfigError, Policy, build_manifest, sign
from wcp_attest.base.errors import Banned, BansUnusable
from wcp_attest.signing.key import generate
from wcp_route.config import HallConfig
from wcp_route.domain.codes import FROM_ATTEST, Code
from wcp_route.domain.decision_wire import to_wire
from wcp_route.domain.record_model import read_record
from wcp_route.hall import Hall, Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from wcp_attest.bans import PackageFacts
    from wcp_route.domain.decision import Evidence, RouteDecision


def attest_code(decision: RouteDecision) -> str | None:
    assert decision.reason is not None
    return dict(decision.reason.extras).get("attest_code")  # type: ignore[return-value]


def corrupt(root: str, name: str, data: bytes) -> None:
    with open(os.path.join(root, name), "wb") as file:
        file.write(data)


QUARANTINED = {"ATTEST_HASH_MISMATCH", "ATTEST_SIG_INVALID"}  # what a second reading can confirm
ATTACKS: list[tuple[str, Callable[[str], Any], Code]] = [
    ("one byte of code", tamper, Code.WORKER_TAMPERED),
    ("an added file", lambda root: corrupt(root, "code/extra.py", b"import os\n"), Code.WORKER_TAMPERED),
    ("a removed file", lambda root: os.unlink(os.path.join(root, "model.bin")), Code.WORKER_TAMPERED),
    ("planted bytecode", lambda root: corrupt(root, "code/worker_logic.pyc", b"\x00"), Code.WORKER_TAMPERED),
    ("a mode", lambda root: os.chmod(os.path.join(root, "code", "bootstrap.py"), 0o755), Code.WORKER_TAMPERED),
    ("a link out", lambda root: os.symlink("/etc/passwd", os.path.join(root, "code", "x")), Code.WORKER_TAMPERED),
    ("the manifest", lambda root: corrupt(root, "manifest.json", b"{}"), Code.WORKER_TAMPERED),
    ("no manifest", lambda root: os.unlink(os.path.join(root, "manifest.json")), Code.WORKER_ATTESTATION_MISSING),
    ("no signature", lambda root: corrupt(root, "manifest.sig", b""), Code.WORKER_ATTESTATION_MISSING),
    ("a broken signature", lambda root: corrupt(root, "manifest.sig", b"{}\n"), Code.WORKER_TAMPERED),
    ("no package", shutil.rmtree, Code.WORKER_ATTESTATION_MISSING),
]


@pytest.mark.parametrize("mode", ["always", "on-change"])
@pytest.mark.parametrize(("name", "attack", "code"), ATTACKS, ids=[name for name, _, _ in ATTACKS])
def test_a_worker_that_changed_is_refused_and_quarantined_when_files_or_signatures_are_wrong(
    name: str, attack: Callable[[str], Any], code: Code, mode: str, world: World
) -> None:
    hall = world.hall(attestation=mode)
    assert hall.route(a_request()).denied is False
    attack(world.package())
    decision = hall.route(a_request())
    blamed = attest_code(decision) in QUARANTINED
    assert (decision.code, decision.denied, decision.quarantined) == (code, True, blamed), name
    assert decision.worker_attestation_checked is True
    assert decision.worker_attestation_valid is (False if code == Code.WORKER_TAMPERED else None)
    assert attest_code(decision)
    found = world.registry.snapshot().quarantined.get(WORKER)
    assert (found is not None) is blamed
    if found is not None:
        assert (attest_code(decision) or "") in found.reason  # the cause is shown
    assert hall.route(a_request()).code == (Code.WORKER_QUARANTINED if blamed else code)


def test_only_an_operator_lifts_a_quarantine(world: World) -> None:
    root = world.package()
    with open(os.path.join(root, "code", "worker_logic.py"), "rb") as file:
        before = file.read()
    tamper(root)
    hall = world.hall()
    assert hall.route(a_request()).code == Code.WORKER_TAMPERED
    corrupt(root, "code/worker_logic.py", before)
    assert hall.route(a_request()).code == Code.WORKER_QUARANTINED
    world.enroll(replace_=True)
    assert hall.route(a_request()).code == Code.WORKER_QUARANTINED
    assert world.registry.clear(WORKER, by="ops", at_ms=1)
    assert hall.route(a_request()).denied is False


def test_signed_by_somebody_else(world: World) -> None:
    other = generate()
    root = world.package()
    sign(root, [other])
    os.unlink(os.path.join(root, "manifest.sig"))
    sign(root, [other])
    decision = world.hall().route(a_request())
    assert (decision.code, attest_code(decision)) == (Code.WORKER_UNTRUSTED, "ATTEST_SIGNER_UNTRUSTED")
    assert decision.worker_attestation_valid is False


@pytest.mark.parametrize(("worker_id", "species_id"), [("org.acme.other-worker", SPECIES), (WORKER, "wrk.doc.other")])
def test_a_package_that_is_signed_as_another_worker_or_species(worker_id: str, species_id: str, tmp_path: Path) -> None:
    world = World(tmp_path)
    make_package(tmp_path / WORKER, world.signer, worker_id, species_id)
    world.enroll()
    decision = world.hall().route(a_request())
    assert (decision.code, attest_code(decision)) == (Code.WORKER_TAMPERED, "ATTEST_MANIFEST_ID_MISMATCH")


def test_a_worker_without_a_package_is_refused_and_not_blamed(world: World) -> None:
    world.registry.enroll(read_record(a_record()), replace=True)
    decision = world.hall().route(a_request())
    assert (decision.code, decision.quarantined) == (Code.WORKER_ATTESTATION_MISSING, False)


def test_no_digest_is_in_the_reply_and_they_are_in_the_evidence(world: World) -> None:
    hall = world.hall()
    passed: Evidence = hall.decide(a_request())
    digests = dict(next(check.digests for check in passed.checks if check.name == "attestation"))
    assert digests["package_hash"] == passed.package_hash
    assert len(digests["manifest_sha256"]) == 64
    tamper(world.package())
    refused = hall.decide(a_request())
    assert [check.outcome for check in refused.checks if check.name == "attestation"] == ["deny"]
    for evidence in (passed, refused):
        wire = to_wire(evidence.decision)
        for name in ("artifact_hash", "request_hash", "input_hash"):
            del wire[name]
        assert not re.search(r"[0-9a-f]{40,}", json.dumps(wire))


# --- modes ---------------------------------------------------------------------------------------------------------


def test_sealed_dispatches_the_copy_that_was_hashed(world: World, tmp_path: Path) -> None:
    hall = world.hall(attestation="sealed", seal_directory=str(tmp_path / "sealed"))
    first = hall.route(a_request())
    assert first.denied is False
    assert first.package_path.startswith(str(tmp_path / "sealed") + os.sep)
    tamper(world.package())
    second = hall.route(a_request())
    assert (second.denied, second.package_path) == (False, first.package_path)
    with open(os.path.join(second.package_path, "code", "worker_logic.py")) as file:
        assert file.read().startswith("def execute")


def spoil_copy(path: str) -> None:
    for target in (os.path.join(path, "code"), os.path.join(path, "code", "worker_logic.py")):
        os.chmod(target, 0o755)
    tamper(path)


def code_of(path: str) -> str:
    with open(os.path.join(path, "code", "worker_logic.py")) as file:
        return file.read()


def test_a_sealed_copy_that_changed_is_made_anew_within_a_minute(world: World, tmp_path: Path) -> None:
    hall = world.hall(attestation="sealed", seal_directory=str(tmp_path / "sealed"))
    path = hall.route(a_request()).package_path
    good = code_of(path)
    spoil_copy(path)
    world.clock.now_ms += 61_000
    decision = hall.route(a_request())
    assert (decision.denied, decision.quarantined, decision.package_path) == (False, False, path)
    assert code_of(path) == good


def test_bytecode_left_in_a_sealed_copy_does_not_end_the_worker(world: World, tmp_path: Path) -> None:
    hall = world.hall(attestation="sealed", seal_directory=str(tmp_path / "sealed"))
    path = hall.route(a_request()).package_path
    os.chmod(os.path.join(path, "code"), 0o755)
    corrupt(path, "code/worker_logic.pyc", b"\x00")
    world.clock.now_ms += 61_000
    assert hall.route(a_request()).denied is False
    assert not os.path.exists(os.path.join(path, "code", "worker_logic.pyc"))


def test_a_sealed_copy_that_changed_with_its_source_is_refused(world: World, tmp_path: Path) -> None:
    hall = world.hall(attestation="sealed", seal_directory=str(tmp_path / "sealed"))
    spoil_copy(hall.route(a_request()).package_path)
    tamper(world.package())
    world.clock.now_ms += 61_000
    assert hall.route(a_request()).code == Code.WORKER_TAMPERED


@pytest.mark.parametrize("mode", ["sealed", "on-change", "always"])
def test_a_good_worker_is_dispatched_at_every_moment_of_twelve_minutes(world: World, mode: str) -> None:
    """Signatures are verified again after five minutes, trees after one: no moment between may refuse."""
    with a_root_kept_place() as place:
        sealed: dict[str, Any] = {"seal_directory": str(place / "sealed")} if mode == "sealed" else {}
        hall = world.hall(attestation=mode, **sealed)
        for _ in range(104):
            assert hall.route(a_request()).code is None, world.clock.now_ms
            world.clock.now_ms += 7_000


def test_a_swap_below_a_parent_that_others_can_change_is_seen_at_the_next_decision(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parent = tmp_path / "anybodys"
    parent.mkdir()
    parent.chmod(0o777)
    hall = world.hall(attestation="sealed", seal_directory=str(parent / "sealed"))
    path = hall.route(a_request()).package_path
    good = code_of(path)
    spoil_copy(path)  # in the same second; what could be swapped is hashed for every decision
    decision = hall.route(a_request())
    assert decision.denied or code_of(decision.package_path) == good
    hall.route(a_request())
    warnings = [each for each in caplog.messages if "is hashed again for every decision" in each]
    assert len(warnings) == 1, caplog.messages
    assert "can be written by its group or by everyone" in warnings[0]


def test_a_seal_directory_may_be_read_by_the_group_that_runs_the_workers(world: World, tmp_path: Path) -> None:
    directory = tmp_path / "sealed"
    directory.mkdir()
    directory.chmod(0o750)
    path = world.hall(attestation="sealed", seal_directory=str(directory)).route(a_request()).package_path
    status = os.stat(os.path.join(path, "code", "worker_logic.py"))
    assert (status.st_mode & 0o777, status.st_gid) == (0o440, directory.stat().st_gid)


def test_a_package_that_fails_is_never_sealed(world: World, tmp_path: Path) -> None:
    tamper(world.package())
    hall = world.hall(attestation="sealed", seal_directory=str(tmp_path / "sealed"))
    assert hall.route(a_request()).code == Code.WORKER_TAMPERED
    assert os.listdir(tmp_path / "sealed") == []


def test_a_release_has_one_copy_however_often_it_is_enrolled_and_opened(world: World, tmp_path: Path) -> None:
    sealed: dict[str, Any] = {"attestation": "sealed", "seal_directory": str(tmp_path / "sealed")}
    hall = world.hall(**sealed)
    first = hall.route(a_request()).package_path
    world.enroll(a_record(notes="enrolled again"), replace_=True)
    assert hall.route(a_request()).package_path == first
    assert world.hall(**sealed).route(a_request()).package_path == first
    assert [os.path.dirname(first)] == [str(path) for path in (tmp_path / "sealed").iterdir()]


def test_a_copy_that_changed_between_two_halls_is_not_used(world: World, tmp_path: Path) -> None:
    sealed: dict[str, Any] = {"attestation": "sealed", "seal_directory": str(tmp_path / "sealed")}
    path = world.hall(**sealed).route(a_request()).package_path
    good = code_of(path)
    spoil_copy(path)
    decision = world.hall(**sealed).route(a_request())
    assert (decision.denied, code_of(decision.package_path)) == (False, good)


def test_a_new_release_at_the_same_root_is_dispatched_by_every_hall(world: World, tmp_path: Path) -> None:
    sealed: dict[str, Any] = {"attestation": "sealed", "seal_directory": str(tmp_path / "sealed")}
    hall = world.hall(**sealed)
    paths = [hall.route(a_request()).package_path]
    for number in (2, 3):
        root = world.package()
        corrupt(root, "code/bootstrap.py", f"print('version {number}')\n".encode())
        manifest = build_manifest(
            root, worker_id=WORKER, worker_species_id=SPECIES, worker_version=f"{number}.0.0", build_source="local"
        )
        sign(root, [world.signer], manifest=manifest)
        world.enroll(replace_=True)
        paths.append(hall.route(a_request()).package_path)
        assert world.hall(**sealed).route(a_request()).package_path == paths[-1]
    assert len(set(paths)) == 3
    kept = {os.path.join(tmp_path, "sealed", name, "package") for name in os.listdir(tmp_path / "sealed")}
    assert kept == set(paths[1:])  # the release before stays, for those who still run from it


@pytest.mark.parametrize(
    "spoil", [lambda path: path.chmod(0o770), lambda path: (path.rmdir(), path.symlink_to("/tmp"))]
)
def test_a_seal_directory_that_others_can_write_to_is_refused(
    spoil: Callable[[Path], object], world: World, tmp_path: Path
) -> None:
    directory = tmp_path / "sealed"
    directory.mkdir(mode=0o700)
    spoil(directory)
    with pytest.raises(ConfigError, match="seal directory"):
        world.hall(attestation="sealed", seal_directory=str(directory))


def test_on_change_sees_a_change_that_keeps_size_and_modification_time(world: World) -> None:
    hall = world.hall(attestation="on-change")
    assert hall.route(a_request()).denied is False
    path = os.path.join(world.package(), "code", "worker_logic.py")
    before = os.stat(path)
    tamper(world.package())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hall.route(a_request()).code == Code.WORKER_TAMPERED


# --- it cannot be forgotten ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("env", ["dev", "stage", "prod", "edge"])
def test_attestation_is_on_by_default_in_every_environment(env: str, world: World) -> None:
    tamper(world.package())
    assert world.hall(env=env).route(a_request(env=env)).code == Code.WORKER_TAMPERED
    with pytest.raises(ConfigError, match="trust policy"):
        Hall(
            {"rules": [a_rule()]},
            world.registry,
            None,
            HallConfig(env=env, unsafe_dispatch_without_signed_durable_receipts=True),  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("env", ["prod", "edge"])
def test_prod_and_edge_refuse_to_do_without(env: str) -> None:
    with pytest.raises(ConfigError, match="attests its workers"):
        HallConfig(env=env, unsafe_dispatch_workers_without_attestation=True)  # type: ignore[arg-type]


def test_doing_without_is_long_and_loud(world: World, caplog: pytest.LogCaptureFixture) -> None:
    tamper(world.package())
    hall = Hall(
        {"rules": [a_rule()]},
        world.registry,
        None,
        HallConfig(env="dev", unsafe_dispatch_workers_without_attestation=True),
    )
    assert "UNSAFE" in caplog.text
    evidence = hall.decide(a_request())
    assert evidence.decision.denied is False
    assert (evidence.decision.worker_attestation_checked, evidence.decision.worker_attestation_valid) == (False, None)
    check = next(check for check in evidence.checks if check.name == "attestation")
    assert (check.outcome, "UNSAFE" in check.detail) == ("off", True)


def test_every_code_of_the_verifier_has_one_of_the_router() -> None:
    from wcp_attest import DenyCode

    assert set(FROM_ATTEST) == set(DenyCode)


# --- bans ----------------------------------------------------------------------------------------------------------


class Bans:
    """A ban list in memory; `wcp_attest.bans` reads real ones, the Hall only asks."""

    versions = "acme-soc=7"

    def __init__(self) -> None:
        self.workers: set[str] = set()
        self.files: set[str] = set()
        self.usable = True
        self.asked: list[PackageFacts] = []

    def open(self, *, now: float) -> Bans:
        del now
        return self

    def check_before(self, facts: PackageFacts) -> None:
        self.asked.append(facts)
        if not self.usable:
            raise BansUnusable("the list is stale")
        if facts.worker_id in self.workers:
            raise Banned("worker is banned")

    def check_files(self, files: Iterable[tuple[str, str]], algorithm: str) -> None:
        del algorithm
        if self.files & {digest for _, digest in files}:
            raise Banned("a file is banned")


@pytest.mark.parametrize("mode", ["always", "sealed", "on-change"])
def test_a_ban_counts_from_the_next_decision_on(mode: str, world: World, tmp_path: Path) -> None:
    bans, approvals = Bans(), MemoryApprovals()
    services = Services(clock=world.clock, ids=Counting(), bans=(bans,), approvals=approvals)
    settings: dict[str, Any] = {"attestation": mode, "seal_directory": str(tmp_path / "sealed")}
    hall = world.hall(services=services, **settings)
    assert hall.route(a_request()).denied is False
    bans.workers.add(WORKER)
    decision = hall.route(a_request())
    assert (decision.code, decision.quarantined) == (Code.WORKER_BANNED, False)
    bans.workers.clear()
    assert hall.route(a_request()).denied is False


def test_a_ban_list_that_cannot_be_relied_on_denies_and_blames_no_worker(world: World) -> None:
    bans = Bans()
    bans.usable = False
    hall = world.hall(services=Services(clock=world.clock, ids=Counting(), bans=(bans,)))
    decision = hall.route(a_request())
    assert (decision.code, decision.quarantined) == (Code.BANLIST_STALE, False)
    bans.usable = True
    assert hall.route(a_request()).denied is False


def test_the_receipt_says_which_issue_of_the_list_was_asked(world: World) -> None:
    bans = Bans()
    policy: Policy = replace(trust(world.signer), conditions=(bans,))
    hall = Hall(
        {"rules": [a_rule()]}, world.registry, policy, HallConfig(env="dev"), services=Services(clock=world.clock)
    )
    assert hall.decide(a_request()).versions.bans == "acme-soc=7"
    assert [facts.worker_id for facts in bans.asked] == [WORKER]


def test_a_ban_or_a_quarantine_cancels_what_waits_for_a_human(world: World) -> None:
    approvals = MemoryApprovals()
    services = Services(clock=world.clock, ids=Counting(), approvals=approvals)
    held = a_rule(match={"qos_class": "P0"}, escalation={"human_required_default": True})
    hall = world.hall(held, a_rule("rest"), services=services)
    assert hall.route(a_request(qos_class="P0")).outcome == "STEWARD_HOLD"
    assert len(approvals.pending(world.clock.now_ms)) == 1
    tamper(world.package())
    assert hall.route(a_request()).code == Code.WORKER_TAMPERED
    assert approvals.pending(world.clock.now_ms) == ()


# --- falling through -----------------------------------------------------------------------------------------------


def test_a_refused_first_worker_refuses_the_request_unless_the_hall_may_fall_through(tmp_path: Path) -> None:
    for falls, code in ((False, Code.WORKER_TAMPERED), (True, None)):
        world = World(tmp_path / str(falls))
        world.enroll(a_record(worker_id="org.acme.a"))
        world.enroll(a_record(worker_id="org.acme.b"))
        tamper(world.package("org.acme.a"))
        hall = world.hall(fall_through_to_next_attested_worker=falls)
        decision = hall.route(a_request())
        assert decision.code == code
        assert decision.worker_id == ("org.acme.b" if falls else "org.acme.a")
        assert "org.acme.a" in world.registry.snapshot().quarantined
        if falls:
            assert decision.worker_attestation_valid is True
            assert world.hall(fall_through_to_next_attested_worker=True).route(a_request()).worker_id == "org.acme.b"


def test_falling_through_never_ends_at_an_unattested_worker(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in "abc":
        world.enroll(a_record(worker_id=f"org.acme.{name}"))
        tamper(world.package(f"org.acme.{name}"))
    decision = world.hall(fall_through_to_next_attested_worker=True).route(a_request())
    assert (decision.denied, decision.worker_attestation_valid) == (True, False)
    assert len(world.registry.snapshot().quarantined) == 3


def test_a_package_signed_in_the_future_or_long_ago(world: World) -> None:
    root = world.package()
    manifest = build_manifest(
        root, worker_id=WORKER, worker_species_id=SPECIES, worker_version="1.0.0", build_source="local"
    )
    sign(root, [world.signer], manifest=manifest, now=world.clock.now_ms / 1000 + 3600)
    assert attest_code(world.hall().route(a_request())) == "ATTEST_EXPIRED"
    assert Ticking().now_ms == world.clock.now_ms
