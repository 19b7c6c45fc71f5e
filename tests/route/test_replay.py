"""A past decision is judged once more by what was in force then, and every bit of its receipt is compared."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from tests.bans.helpers import MAX_AGE, SECRET, ban, head
from tests.bans.helpers import Place as BanPlace
from tests.route.test_databases import Place, place
from tests.route.worlds import AUDIT, CAPABILITY, WORKER, World, a_record, a_request, a_rule, tamper, trust
from wcp_attest.bans import BansCondition, ListSigners
from wcp_attest.base.errors import ConfigError
from wcp_attest.signing.key import generate
from wcp_attest.trust.bans.feeds.file_feed import FileFeed
from wcp_route.config import Ceiling, HallConfig
from wcp_route.config_model import read_config
from wcp_route.domain.clock import now_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.ids import new_id
from wcp_route.gates.policy_gate import PolicyAnswer
from wcp_route.hall import Hall, Services
from wcp_route.replay import Replayed, replay
from wcp_route.storage.past import past_decision
from wcp_route.storage.receipts import KeyFileSigner, ReceiptsBroken, find
from wcp_route.storage.retention import prune
from wcp_route.storage.state import State, open_state
from wcp_route.storage.state_errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from wcp_attest import Policy
    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.decision import Evidence
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.gates.policy_gate import PolicyContext

__all__ = ["place"]  # the fixture: each database

SIGNER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
EDITED = "CAST(replace(CAST(body AS TEXT), 'rule-1', 'rule-9') AS BLOB)"
HELD = a_rule("held", escalation={"human_required_default": True})
RULES: JsonObject = {"rules": [a_rule()]}


@dataclass
class Court:
    """A Hall with a state, and what is needed to judge its decisions once more."""

    state: State
    world: World
    policy: Policy
    address: str

    def hall(self, rules: JsonObject = RULES, *, services: Services | None = None, **settings: Any) -> Hall:
        own = services or Services()
        own = replace(own, receipts=self.state.ledger, approvals=self.state.approvals, clock=self.world.clock)
        config = HallConfig(**{"env": "dev", **settings})
        return Hall(rules, self.state.registry, self.policy, config, services=replace(own, ids=new_id))

    def again(
        self, evidence: Evidence, request: JsonObject, rules: JsonObject = RULES, *, hall: Hall, **more: Any
    ) -> Replayed:
        with open_state(self.address, keys=[SIGNER.public], read_only=True) as state:
            past = past_decision(state.ledger, evidence.decision.decision_id)
        return replay(past, request, rules, more.pop("trust_policy", self.policy), hall.world.config, **more)


@pytest.fixture
def court(place: Place, tmp_path: Path) -> Iterator[Court]:
    with open_state(place.address, signer=SIGNER) as state:
        world = World(tmp_path / "packages", registry=state.registry)
        world.enroll()
        yield Court(state, world, replace(trust(world.signer), digest="ab" * 32), place.address)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Court]:
    path = str(tmp_path / "hall.db")
    with open_state(path, signer=SIGNER) as state:
        world = World(tmp_path / "packages", registry=state.registry)
        world.enroll()
        yield Court(state, world, replace(trust(world.signer), digest="ab" * 32), path)


def same(found: Replayed) -> None:
    assert found.differences == ()
    assert found.judged == found.recorded


def test_a_dispatch_is_the_same_whatever_happened_since(court: Court) -> None:
    hall = court.hall()
    evidence = hall.decide(a_request())
    assert evidence.decision.outcome == "DISPATCH"
    found = court.again(evidence, a_request(), hall=hall)
    same(found)
    assert found.taken == ()
    court.state.registry.quarantine(WORKER, "by hand", by="ada", at_ms=now_ms())
    same(court.again(evidence, a_request(), hall=hall))
    court.state.registry.withdraw(WORKER, by="ada")
    same(court.again(evidence, a_request(), hall=hall))
    hall.swap(rules={"rules": [a_rule("other")]})
    same(court.again(evidence, a_request(), hall=hall))
    tamper(court.world.package())
    found = court.again(evidence, a_request(), hall=hall)
    same(found)
    assert any("HASH_MISMATCH" in line for line in found.taken)
    shutil.rmtree(court.world.package())
    same(court.again(evidence, a_request(), hall=hall))


def test_a_hold_its_grant_and_its_second_use_are_the_same(court: Court) -> None:
    rules: JsonObject = {"rules": [HELD]}
    hall = court.hall(rules)
    held, again = hall.decide(a_request()), hall.decide(a_request())
    pending = held.decision.pending_approval_id
    assert again.decision.pending_approval_id == pending != ""
    grant = court.state.approvals.resolve(pending, "approve", by="ada", at_ms=court.world.clock.now_ms).grant_id
    used, late = hall.decide(a_request(), grant=grant), hall.decide(a_request(), grant=grant)
    assert (used.decision.outcome, late.decision.code) == ("DISPATCH", Code.APPROVAL_INVALID)
    for evidence in (held, again, used, late):
        same(court.again(evidence, a_request(), rules, hall=hall))


@pytest.mark.parametrize("given", ["request", "rules", "settings", "trust policy"])
def test_what_was_not_in_force_is_refused(given: str, small: Court) -> None:
    hall = small.hall()
    evidence = hall.decide(a_request())
    wrong: dict[str, Any] = {"hall": hall}
    request, rules = a_request(), RULES
    if given == "request":
        request = a_request(request={"text": "other"})
    elif given == "rules":
        rules = {"rules": [a_rule("other")]}
    elif given == "settings":
        wrong["hall"] = small.hall(policy_version="policy.v9")
    else:
        wrong["trust_policy"] = trust(generate())
    with pytest.raises(ConfigError, match=f"not the {given} of that decision"):
        small.again(evidence, request, rules, **wrong)


def edit(court: Court, statement: str) -> None:
    import sqlite3

    connection = sqlite3.connect(court.address)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE receipts SET body = {EDITED} WHERE kind = 'decision'",
        f"UPDATE receipts SET body = {EDITED}, hash = substr(hash, 2) || 'f' WHERE kind = 'decision'",
    ],
)
def test_an_edited_receipt_is_not_judged(statement: str, small: Court) -> None:
    hall = small.hall()
    evidence = hall.decide(a_request())
    hall.decide(a_request())
    small.state.registry.withdraw(WORKER, by="ada")  # so that the end of the ledger is as it was sealed
    edit(small, statement)
    with pytest.raises(ReceiptsBroken, match="edited"):
        small.again(evidence, a_request(), hall=hall)


def test_an_edited_event_before_the_decision_is_not_judged_by(small: Court) -> None:
    hall = small.hall()
    evidence = hall.decide(a_request())
    edit(small, "UPDATE receipts SET body = CAST(replace(CAST(body AS TEXT), 'library', 'somebody') AS BLOB)"
                " WHERE kind = 'worker.enrolled'")  # fmt: skip
    with pytest.raises(StateError, match="receipts verify"):
        small.again(evidence, a_request(), hall=hall)


def test_a_decision_that_the_rules_do_not_give_is_shown_with_what_differs(small: Court) -> None:
    """Whoever has the key can seal a lie; by the rules, settings and registry of that time it is found."""
    hall = small.hall({"rules": [a_rule(required_controls_suggested=[AUDIT])]})
    honest = hall.decide(a_request())
    assert honest.decision.code == Code.MISSING_REQUIRED_CONTROLS
    lie = replace(
        honest.decision, decision_id=new_id(), outcome="DISPATCH", denied=False, reason=None, worker_id=WORKER
    )
    forged = replace(honest, decision=lie)
    small.state.ledger.append([forged])
    rules: JsonObject = {"rules": [a_rule(required_controls_suggested=[AUDIT])]}
    same(small.again(honest, a_request(), rules, hall=hall))
    found = small.again(forged, a_request(), rules, hall=hall)
    differing = {one.name: (one.recorded, one.judged) for one in found.differences}
    assert differing["outcome"] == ("DISPATCH", "DENY")
    assert differing["deny_code"] == (None, "DENY_MISSING_REQUIRED_CONTROLS")


def test_refusals_of_each_gate_are_the_same(small: Court) -> None:
    strict: dict[str, Any] = {"require_signatory": True, "allowed_tenants": frozenset({"acme"})}
    hall = small.hall(**strict)
    for request in (a_request(tenant_id="mallory"), a_request(env="stage"), a_request(correlation_id="")):
        evidence = hall.decide(request)
        assert evidence.decision.denied
        same(small.again(evidence, request, hall=hall))
    evidence = hall.decide(a_request(), principal="other")
    found = small.again(evidence, a_request(), hall=hall)
    same(found)
    assert found.taken == ()
    past = past_decision(small.state.ledger, evidence.decision.decision_id)
    earlier = replace(past, fields={name: value for name, value in past.fields.items() if name != "principal"})
    found = replay(earlier, a_request(), RULES, small.policy, hall.world.config)  # of a version that did not record it
    assert found.judged == earlier.fields
    assert "who was authenticated" in found.taken
    nothing: JsonObject = {"rules": [a_rule(match={"capability_id": "cap.none.at-all"})]}
    hall = small.hall(nothing)
    evidence = hall.decide(a_request())
    assert evidence.decision.code == Code.NO_MATCHING_RULE
    same(small.again(evidence, a_request(), nothing, hall=hall))


def test_a_receipt_names_whom_the_transport_authenticated_and_replay_takes_it_from_there(court: Court) -> None:
    hall = court.hall()
    authenticated = hall.decide(a_request(), principal="acme")
    malformed = hall.decide({"tenant_id": 1}, principal="acme")
    nobody = hall.decide(a_request())
    written = [
        find(court.address, one.decision.decision_id)[0].to_dict().get("principal", "not there")
        for one in (authenticated, malformed, nobody)
    ]
    assert written == ["acme", "acme", "not there"]
    for principal in (None, "acme"):
        same(court.again(authenticated, a_request(), hall=hall, principal=principal))
    with pytest.raises(ConfigError, match="not the principal of that decision"):
        court.again(authenticated, a_request(), hall=hall, principal="globex")
    same(court.again(nobody, a_request(), hall=hall, principal="acme"))  # as of a version that did not record it
    long = hall.decide(a_request(), principal="x" * 300_000)
    assert long.decision.code == Code.UNKNOWN_TENANT
    assert find(court.address, long.decision.decision_id)[0].to_dict()["principal"] == "x" * 256


def test_a_tampered_worker_is_the_same_after_it_was_mended(small: Court) -> None:
    hall = small.hall()
    kept = small.world.directory / "kept"
    shutil.copytree(small.world.package(), kept)
    tamper(small.world.package())
    evidence = hall.decide(a_request())
    assert evidence.decision.quarantined
    refused = hall.decide(a_request())
    assert refused.decision.code == Code.WORKER_QUARANTINED
    root = small.world.package()
    shutil.rmtree(root)
    os.rename(kept, root)
    small.state.registry.clear(WORKER, by="ada", at_ms=now_ms())
    for one in (evidence, refused):
        same(small.again(one, a_request(), hall=hall))


def test_a_chain_and_a_tenant_that_asks_too_often_are_as_recorded(small: Court) -> None:
    hall = small.hall(chain_thresholds={"dev": 5}, requests_per_second=3)
    request = a_request(chain_id="c")
    made = [hall.decide(request) for _ in range(4)]
    codes = {one.decision.code for one in made}
    assert Code.CHAIN_BLAST_EXCEEDED in codes
    while Code.TENANT_LIMIT not in codes:
        made.append(hall.decide(request))
        codes.add(made[-1].decision.code)
    for one in made:
        same(small.again(one, request, hall=hall))


class Gate:
    """Says what it is told."""

    version = "gate-7"

    def __init__(self, said: Any, level: Any = None) -> None:
        self.said, self.level = said, level

    def evaluate(self, context: PolicyContext) -> PolicyAnswer:
        del context
        return PolicyAnswer(self.said, "gate-7", "because", self.level)


@pytest.mark.parametrize(
    ("said", "level"),
    [("ALLOW", None), ("DENY", None), ("REQUIRE_HUMAN", None), ("REQUIRE_HUMAN", "executor"), (7, None)],
)
def test_the_answer_of_a_policy_gate_is_as_recorded_or_judged_again(said: Any, level: Any, small: Court) -> None:
    hall = small.hall(services=Services(policy_gate=Gate(said, level)), ask_policy_gate=True)
    evidence = hall.decide(a_request())
    found = small.again(evidence, a_request(), hall=hall)
    same(found)
    assert "the answer of the policy gate" in found.taken
    same(small.again(evidence, a_request(), hall=hall, policy_gate=Gate(said, level)))
    other = small.again(evidence, a_request(), hall=hall, policy_gate=Gate("ALLOW" if said != "ALLOW" else "DENY"))
    assert {"outcome", "policy_decision"} & {one.name for one in other.differences}


@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_that_was_not_available_is_as_recorded(fails: bool, small: Court) -> None:
    second = "org.acme.zz-second"
    small.world.enroll(a_record(worker_id=second))

    def available(worker: WorkerRecord) -> bool:
        if fails and worker.worker_id != second:
            raise OSError("nobody answers")
        return worker.worker_id == second

    hall = small.hall(services=Services(availability=available))
    evidence = hall.decide(a_request())
    assert evidence.decision.worker_id == second
    same(small.again(evidence, a_request(), hall=hall))
    nobody = small.hall(services=Services(availability=lambda _: False)).decide(a_request())
    same(small.again(nobody, a_request(), hall=hall))


def test_a_credential_is_not_kept_and_not_needed(small: Court) -> None:
    from hashlib import sha256

    settings: dict[str, Any] = {
        "tenant_credentials": {"acme": sha256(b"secret").hexdigest()},
        "require_credential": True,
    }
    hall = small.hall(**settings)
    good, bad = hall.decide(a_request(tenant_credential="secret")), hall.decide(a_request(tenant_credential="guess"))
    assert (good.decision.code, bad.decision.code) == (None, Code.UNKNOWN_TENANT)
    found = small.again(good, a_request(), hall=hall)
    same(found)
    assert any("credential" in line for line in found.taken)
    same(small.again(good, a_request(tenant_credential="secret"), hall=hall))
    same(small.again(bad, a_request(), hall=hall))


def test_a_failure_of_the_hall_is_no_judgement(small: Court) -> None:
    hall = small.hall()
    malformed = hall.decide({"nonsense": 1})
    with pytest.raises(ConfigError, match="no judgement"):
        small.again(malformed, a_request(), hall=hall)


def test_a_decision_whose_state_was_pruned_is_refused(small: Court) -> None:
    hall = small.hall()
    evidence = hall.decide(a_request())
    hall.decide(a_request())
    assert prune(small.state.ledger, now_ms(), by="ada") > 0
    with pytest.raises(ConfigError, match=r"no such|pruned"):
        small.again(evidence, a_request(), hall=hall)


def test_a_ceiling_and_a_dry_run_are_the_same(small: Court) -> None:
    small.world.enroll(
        a_record(
            privilege_envelope={
                "secrets_access": ["db"],
                "network_egress": "none",
                "filesystem_writes": [],
                "tools": [],
            }
        ),
        replace_=True,
    )
    hall = small.hall(ceilings=(Ceiling(envs=("dev",), data_labels=("INTERNAL",)),))
    for request in (a_request(), a_request(dry_run=True)):
        evidence = hall.decide(request)
        assert evidence.decision.code == Code.PRIVILEGE_ENVELOPE_VIOLATED
        same(small.again(evidence, request, hall=hall))


def test_a_sealed_release_is_judged_again_after_the_next_one(small: Court, tmp_path: Path) -> None:
    hall = small.hall(attestation="sealed", seal_directory=str(tmp_path / "seals"))
    evidence = hall.decide(a_request())
    assert evidence.decision.outcome == "DISPATCH"
    shutil.rmtree(small.world.package())
    found = small.again(evidence, a_request(), hall=hall)
    same(found)
    assert found.taken == ()


def test_fields_of_the_wire_that_no_receipt_has_are_not_needed(small: Court) -> None:
    hall = small.hall()
    evidence = hall.decide(a_request(capability_id=CAPABILITY, blast_score=12))
    same(small.again(evidence, a_request(blast_score=12), hall=hall))
    (receipt,) = find(small.address, evidence.decision.decision_id)
    assert json.loads(receipt.body)["blast_score"] >= 12


def test_the_command_says_same_or_what_differs(
    small: Court, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from wcp_route.cli import main

    files = {name: str(tmp_path / name) for name in ("hall.toml", "rules.json", "request.json", "receipts.key.pub")}
    texts = {
        "hall.toml": 'env = "dev"\nunsafe_dispatch_workers_without_attestation = true\n',
        "rules.json": json.dumps(RULES),
        "request.json": json.dumps(a_request()),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    public = load_der_public_key(SIGNER.public.spki).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "receipts.key.pub").write_bytes(public)
    hall = Hall(
        texts["rules.json"].encode(),
        small.state.registry,
        None,
        read_config(texts["hall.toml"].encode()),
        services=Services(receipts=small.state.ledger, approvals=small.state.approvals),
    )
    honest = hall.decide(a_request())
    forged = replace(honest, decision=replace(honest.decision, decision_id=new_id(), matched_rule_id="rule-9"))
    small.state.ledger.append([forged])

    def run(evidence: Evidence, *more: str) -> tuple[int, str, str]:
        places = ["--config", files["hall.toml"], "--rules", files["rules.json"], "--state", small.address]
        status = main(["replay", evidence.decision.decision_id, files["request.json"], *places, *more])
        out, err = capsys.readouterr()
        return status, out, err

    key = ("--key", files["receipts.key.pub"])
    assert run(honest, *key)[0] == 0
    status, out, err = run(forged, *key)
    assert (status, "DIFFERS  matched_rule_id: recorded 'rule-9', judged 'rule-1'" in out) == (1, True)
    assert out.endswith("not the same\n")
    status, out, _ = run(forged, *key, "--format", "json")
    assert (status, json.loads(out)["kind"], json.loads(out)["same"]) == (1, "replay", False)
    assert run(honest)[0] == 2  # no key, so nobody vouches
    (tmp_path / "rules.json").write_text(json.dumps({"rules": [a_rule("other")]}))
    status, out, err = run(honest, *key)
    assert (status, out, "not the rules of that decision" in err) == (2, "", True)


def test_a_ban_after_a_decision_and_a_lifted_ban_change_no_replay(small: Court, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    lists = BanPlace(tmp_path / "lists")
    condition = BansCondition((FileFeed(str(lists.path)),), ListSigners((SECRET,)), MAX_AGE, lists.state)
    small.policy = replace(small.policy, conditions=(condition,))
    small.world.clock.now_ms = now_ms()
    issued = small.world.clock.now_ms // 1000 - 60
    lists.put([], head(7, issued=issued))
    hall = small.hall()
    before = hall.decide(a_request())
    lists.put([ban("worker", WORKER)], head(8, issued=issued))
    banned = hall.decide(a_request())
    assert (before.decision.outcome, banned.decision.code) == ("DISPATCH", Code.WORKER_BANNED)
    lists.put([], head(9, issued=issued))
    for evidence in (before, banned):
        same(small.again(evidence, a_request(), hall=hall))
    assert any("ban lists" in line for line in small.again(before, a_request(), hall=hall).taken)
