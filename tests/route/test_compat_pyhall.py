"""The earlier Python SDK's names and calls, on a Hall that attests its workers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.route.worlds import CAPABILITY, SPECIES, WORKER, World, a_request, a_rule, tamper, trust
from wcp_attest import ConfigError
from wcp_route.compat import pyhall

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOUR_FIELDS: Any = {
    "worker_id": WORKER,
    "worker_species_id": SPECIES,
    "capabilities": [CAPABILITY],
    "risk_tier": "low",
}


@pytest.fixture(autouse=True)
def nothing_is_left_configured() -> Iterator[None]:
    yield
    pyhall.configure()


def asked(**changes: Any) -> pyhall.RouteInput:
    request: dict[str, Any] = a_request(**changes)
    return pyhall.RouteInput(**request)


def decide(registry: pyhall.Registry, inp: pyhall.RouteInput, **more: Any) -> pyhall.RouteDecision:
    rules = pyhall.load_rules_from_dict({"rules": [more.pop("rule", a_rule())]})
    return pyhall.make_decision(inp, rules, registry.controls_present(), registry.worker_available, **more)


def test_a_record_of_four_fields_is_dispatched_in_dev_once_its_package_is_attested(world: World) -> None:
    pyhall.configure(trust_policy=trust(world.signer), packages={WORKER: world.package()})
    registry = pyhall.Registry()
    registry.enroll(FOUR_FIELDS)
    decision = decide(registry, asked())
    assert (decision.denied, decision.selected_worker_species_id) == (False, SPECIES)
    assert decision.worker_attestation_valid is True
    assert decision.model_dump()["package_path"] == world.package()
    tamper(world.package())
    assert decide(registry, asked()).deny_reason_if_denied["code"] == "DENY_WORKER_TAMPERED"


def test_a_filled_record_does_not_run_in_prod(world: World) -> None:
    assert pyhall.fill_record(FOUR_FIELDS | {"allowed_environments": ["prod"]})["allowed_environments"] == ["dev"]
    assert FOUR_FIELDS.keys() | pyhall.DEFAULTS.keys() == pyhall.fill_record(FOUR_FIELDS).keys()


def test_nothing_runs_unattested_unless_it_is_asked_for_and_never_in_prod() -> None:
    registry = pyhall.Registry()
    registry.enroll(FOUR_FIELDS)
    with pytest.raises(ConfigError, match="trust policy"):
        decide(registry, asked())
    pyhall.configure(unsafe_dispatch_workers_without_attestation=True)
    assert decide(registry, asked()).denied is False
    with pytest.raises(ConfigError):
        decide(registry, asked(env="prod"))


def test_gate_controls_and_settings_of_the_earlier_call_are_heard() -> None:
    pyhall.configure(unsafe_dispatch_workers_without_attestation=True)
    registry = pyhall.Registry()
    registry.set_workers_available([SPECIES])
    needs = a_rule(required_controls_suggested=["ctrl.obs.audit_log"])
    assert decide(registry, asked(), rule=needs).deny_code == "DENY_MISSING_REQUIRED_CONTROLS"
    registry.set_controls_present(["ctrl.obs.audit_log", "nonsense"])
    assert decide(registry, asked(), rule=needs).denied is False
    gate = a_rule(escalation={"policy_gate": True})
    denied = decide(registry, asked(), rule=gate, policy_gate_eval=lambda _: ("DENY", "v1", "no"))
    assert denied.deny_code == "DENY_POLICY_GATE"
    closed = pyhall.HallConfig(require_signatory=True, allowed_tenants=["other"])
    assert decide(registry, asked(), hall_config=closed).deny_code == "DENY_UNKNOWN_TENANT"
    refused = decide(
        registry,
        asked(),
        registry_get_privilege_envelope=lambda _: {"tools": ["bash"]},
        registry_policy_allows_privilege=lambda env, label, envelope: (not envelope["tools"], "tools"),
    )
    assert refused.deny_code == "DENY_POLICY_GATE"


def test_rules_and_registries_are_read_from_files(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(json.dumps({"rules": [a_rule("a"), a_rule("b")]}))
    (tmp_path / "enrolled").mkdir()
    (tmp_path / "enrolled" / "one.json").write_text(json.dumps(FOUR_FIELDS))
    rules = pyhall.load_rules(tmp_path / "rules.json")
    assert [rule.rule_id for rule in rules] == ["a", "b"]
    assert [found["shadowed_rule_id"] for found in pyhall.detect_shadow_rules(rules)] == ["b"]
    registry = pyhall.Registry(tmp_path / "enrolled")
    assert (registry.enrolled_count(), registry.workers_for_capability(CAPABILITY)) == (1, [SPECIES])
    with pytest.raises(ConfigError):
        pyhall.Registry(tmp_path / "no-such")
