"""20,000 hostile requests to a Hall with a signed ledger: each gets a decision and a receipt, none a bad worker."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.route.worlds import CAPABILITY, SPECIES, WORKER, World, a_record, a_request, a_rule, tamper, trust
from wcp_route import Hall, HallConfig, Services
from wcp_route.domain.record_model import read_record
from wcp_route.storage.receipts import KeyFileSigner, verify
from wcp_route.storage.state import open_state

if TYPE_CHECKING:
    from pathlib import Path

INPUTS, SEED = 20_000, 15
BAD = "org.acme.tampered"
BAD_CAPABILITY = "cap.doc.leak"
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 101, 2**53, 2**63, -(2**70), 0.5, float("nan"), float("inf"), "", " ", "\n", "\x00",
    "a" * 300, "\ud800", "é", "cap.doc.summarize\nX", "__proto__", "{}", [], {}, [[]], {"any": True}, {"eq": "x"},
    ["prod", "dev"], b"bytes", {"a": {"b": {"c": []}}}, "PUBLIC", "dev", "P0", "acme", WORKER, BAD, BAD_CAPABILITY,
)  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"n": value} if depth % 2 else [value]
    return value


def hostile(chance: random.Random) -> Any:
    """Make one request: a good one in which up to four things are wrong, as an object or as text."""
    request: Any = a_request(capability_id=chance.choice((CAPABILITY, BAD_CAPABILITY)))
    names = [*request, "blast_score", "blast_radius", "chain_id", "privilege_context", "dry_run", "tenant_credential"]
    for _ in range(chance.randrange(5)):
        match chance.randrange(8):
            case 0:
                request.pop(chance.choice(names), None)
            case 1:
                request["".join(chance.choices("abx_é\ud800\x00/~", k=chance.choice((1, 9, 400))))] = chance.choice(ODD)
            case 2:
                request["request"] = {chance.choice(("a", "\ud800", "k" * 5000)): chance.choice(ODD)}
            case 3:
                request["request"] = {"deep": nested(chance.choice((3, 40, 70, 500)))}
            case _:
                request[chance.choice(names)] = chance.choice(ODD)
    kind = chance.randrange(10)
    if kind == 0:
        return chance.choice(ODD)
    if kind < 4:
        try:
            text = json.dumps(request, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
        except (TypeError, ValueError):
            return request
        cut = chance.randrange(len(text) + 1) if chance.random() < 0.3 else len(text)
        return bytes(text[:cut]) + chance.choice((b"", b"", b" ", b"}", b"\xff", b'{"a":1}'))
    return request


def test_each_of_20000_hostile_requests_gets_a_decision_and_a_receipt(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # the same requests each time
    world = World(tmp_path)
    key = KeyFileSigner(Ed25519PrivateKey.generate())
    with open_state(str(tmp_path / "hall.db"), signer=key) as state:
        for worker_id, capability in ((WORKER, CAPABILITY), (BAD, BAD_CAPABILITY)):
            record = read_record(a_record(worker_id=worker_id, capabilities=[capability]))
            state.registry.enroll(replace(record, package_root=world.package(worker_id, SPECIES)))
        tamper(world.package(BAD))
        config = HallConfig(env="dev", attestation="sealed", seal_directory=str(tmp_path / "sealed"))
        services = Services(approvals=state.approvals, receipts=state.receipts)
        rules: Any = {"rules": [a_rule(match={"capability_id": {"in": [CAPABILITY, BAD_CAPABILITY]}})]}
        outcomes: dict[bool, int] = {True: 0, False: 0}
        with Hall(rules, state.registry, trust(world.signer), config, services=services) as hall:
            for start in range(0, INPUTS, 1000):
                requests = [hostile(chance) for _ in range(1000)]
                decisions = hall.route_many(requests, principal=chance.choice((None, None, "acme", "eve")))
                assert len(decisions) == len(requests), start
                for decision in decisions:
                    outcomes[decision.denied] += 1
                    assert decision.denied or (decision.worker_id, decision.worker_attestation_valid) == (WORKER, True)
                    assert decision.code != "DENY_RECEIPT_UNAVAILABLE"
            for _ in range(200):  # grants that nobody gave
                made = "".join(chance.choices("abc-_\x00é", k=chance.choice((1, 36, 4000))))
                assert hall.route(a_request(), grant=made).code == "DENY_APPROVAL_INVALID"
    assert min(outcomes.values()) > INPUTS / 50  # both kinds were tried
    found = verify(str(tmp_path / "hall.db"), keys=[key.public])
    assert found.signed
    assert found.receipts >= INPUTS + 200 + 2
