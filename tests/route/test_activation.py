"""What is in force is in the ledger: rules, settings and trust policy of each Hall, at its start and at a change."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.route.test_databases import Place, place
from tests.route.worlds import Counting, World, a_request, a_rule, trust
from wcp_attest.base.errors import ConfigError
from wcp_attest.signing.key import generate
from wcp_route.config import HallConfig
from wcp_route.domain.clock import now_ms
from wcp_route.hall import Hall, Services
from wcp_route.rules.rules_model import read_rules
from wcp_route.storage.receipts import KeyFileSigner, last, verify
from wcp_route.storage.retention import prune
from wcp_route.storage.state import State, open_state

if TYPE_CHECKING:
    from pathlib import Path

    from wcp_attest.base.strictjson import JsonObject

__all__ = ["place"]  # the fixture: each database

SIGNER = KeyFileSigner(Ed25519PrivateKey.from_private_bytes(b"\x01" * 32))
KEYS = [SIGNER.public]
RULES: JsonObject = {"rules": [a_rule()]}
OTHERS: JsonObject = {"rules": [a_rule("rule-2")]}


def a_hall(state: State, folder: Path, *, rules: JsonObject = RULES, config: HallConfig | None = None) -> Hall:
    world = World(folder, registry=state.registry)
    services = Services(receipts=state.ledger, approvals=state.approvals, clock=world.clock, ids=Counting())
    return Hall(rules, state.registry, trust(world.signer), config or HallConfig(env="dev"), services=services)


def activations(address: str) -> list[dict[str, Any]]:
    return [one.to_dict() for one in reversed(last(address, 100, kind="hall.activated"))]


def test_a_start_a_reload_and_other_settings_are_events_of_the_chain(place: Place, tmp_path: Path) -> None:
    with open_state(place.address, signer=SIGNER) as state:
        hall = a_hall(state, tmp_path)
        hall.swap(rules=OTHERS)
        hall.swap(rules=OTHERS)  # nothing changes, so nothing is said
        hall.swap(trust_policy=trust(generate()))
        a_hall(state, tmp_path, rules=OTHERS, config=HallConfig(env="dev", policy_version="policy.v9")).close()
        a_hall(state, tmp_path, config=HallConfig(env="stage")).close()
        assert set(state.ledger.state().active) == {"dev", "stage"}
    found = activations(place.address)
    digests = [read_rules(rules).digest for rules in (RULES, OTHERS)]
    assert [one["active"]["rules"] for one in found] == [digests[0], digests[1], digests[1], digests[0]]
    assert [one["env"] for one in found] == ["dev", "dev", "dev", "stage"]
    assert found[2]["active"]["policy_version"] == "policy.v9"
    assert len({one["active"]["config"] for one in found}) == 3
    assert verify(place.address, keys=KEYS).receipts == 4
    with open_state(place.address, signer=SIGNER) as state:  # the same again after a restart
        a_hall(state, tmp_path, config=HallConfig(env="stage")).close()
    assert len(activations(place.address)) == 4


def test_what_is_in_force_survives_pruning(tmp_path: Path) -> None:
    path = str(tmp_path / "hall.db")
    with open_state(path, signer=SIGNER) as state:
        hall = a_hall(state, tmp_path)
        before = dict(state.ledger.state().active)
        hall.route(a_request())
        assert prune(state.ledger, now_ms(), by="ada") > 0
    with open_state(path, signer=SIGNER) as state:
        assert state.ledger.state().active == before


def test_a_hall_whose_ledger_cannot_be_written_is_not_opened_and_nothing_is_swapped(tmp_path: Path) -> None:
    path = str(tmp_path / "hall.db")
    with open_state(path, signer=SIGNER) as state:
        hall = a_hall(state, tmp_path)
        rules = hall.world.rules
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ConfigError, match=r"not durable in time|locked"):
            hall.swap(rules=OTHERS)
        assert hall.world.rules is rules
        with pytest.raises(ConfigError, match=r"not durable in time|locked"):
            a_hall(state, tmp_path, rules=OTHERS)
        other.close()
        hall.swap(rules=OTHERS)
    assert len(activations(path)) == 2


def test_a_ledger_opened_for_reading_takes_no_activation(tmp_path: Path) -> None:
    path = str(tmp_path / "hall.db")
    open_state(path, signer=SIGNER).close()
    with open_state(path, read_only=True) as state:
        evidence = a_hall(state, tmp_path).explain(a_request())
        assert evidence.decision.denied
    assert activations(path) == []


def test_a_receipt_names_what_was_in_force_when_it_was_made(tmp_path: Path) -> None:
    path = str(tmp_path / "hall.db")
    with open_state(path, signer=SIGNER) as state:
        hall = a_hall(state, tmp_path)
        hall.route(a_request())
        hall.swap(rules=OTHERS)
        hall.route(a_request())
    found = [json.loads(one.body) for one in reversed(last(path, 10))]
    active: dict[str, Any] = {}
    for one in found:
        if one.get("kind") == "hall.activated":
            active = one["active"]
        else:
            assert [one["versions"][name] for name in ("rules", "config")] == [active["rules"], active["config"]]
