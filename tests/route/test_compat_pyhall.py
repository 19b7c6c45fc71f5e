"""The earlier Python SDK's names and calls, on a Hall that attests its workers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

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
    assert [(each["shadower"], each["shadowed"]) for each in pyhall.detect_shadow_rules(rules)] == [("a", "b")]
    registry = pyhall.Registry(tmp_path / "enrolled")
    assert (registry.enrolled_count(), registry.workers_for_capability(CAPABILITY)) == (1, [SPECIES])
    with pytest.raises(ConfigError):
        pyhall.Registry(tmp_path / "no-such")


def test_a_request_is_checked_when_it_is_made() -> None:
    for wrong in ({"tenant_id": "  "}, {"blast_score": True}, {"env": "staging"}, {"unknown": 1}):
        with pytest.raises(ValidationError):
            asked(**wrong)


def test_no_rules_and_unreachable_rules_in_prod_deny_instead_of_raising() -> None:
    registry = pyhall.Registry()
    nothing = pyhall.make_decision(asked(), [], set(), registry.worker_available)
    assert (nothing.denied, nothing.matched_rule_id, nothing.deny_code) == (True, "NO_MATCH", "DENY_NO_MATCHING_RULE")
    assert nothing.correlation_id == asked().correlation_id
    rules = pyhall.load_rules_from_dict({"rules": [a_rule("a"), a_rule("b")]})
    shadowed = pyhall.make_decision(asked(env="prod"), rules, set(), registry.worker_available)
    assert shadowed.deny_reason_if_denied["code"] == "DENY_SHADOW_RULES_DETECTED"
    assert shadowed.deny_reason_if_denied["shadowed_rule_ids"] == ["b"]
    malformed: Any = {**a_request(), "tenant_id": 7}
    assert pyhall.make_decision(malformed, [], set(), registry.worker_available).deny_code == "DENY_INVALID_INPUT"


def test_the_first_match_of_rules_is_found_and_a_misspelt_key_is_refused() -> None:
    rules = [
        pyhall.Rule("dev", {"capability_id": "cap.x", "env": {"in": ["dev", "stage"]}}, {}),
        pyhall.Rule("rest", {"capability_id": {"any": True}}, {}),
    ]
    assert pyhall.route_first_match(rules, {"capability_id": "cap.x", "env": "dev"}) is rules[0]
    assert pyhall.route_first_match(rules, {"capability_id": "cap.x", "env": "prod"}) is rules[1]
    assert pyhall.route_first_match(rules[:1], {"capability_id": "cap.y", "env": "dev"}) is None
    with pytest.raises(ConfigError):
        pyhall.route_first_match([pyhall.Rule("wide", {"capabilty_id": "cap.x"}, {})], {"capability_id": "cap.y"})


def test_inner_objects_have_attributes_and_the_artifact_hash_is_bare() -> None:
    pyhall.configure(unsafe_dispatch_workers_without_attestation=True)
    registry = pyhall.Registry()
    registry.enroll(FOUR_FIELDS)
    decision = decide(registry, asked())
    assert decision.candidate_workers_ranked[0].worker_species_id == SPECIES
    assert decision.escalation_effective.policy_gate is False
    assert re.fullmatch("[0-9a-f]{64}", decision.artifact_hash)
    with pytest.raises(AttributeError):
        _ = decision.escalation_effective.policygate
    summary = registry.summary()
    assert (summary["enrolled_workers"], summary["capabilities_mapped"]) == (1, [CAPABILITY])
    assert registry.get_privilege_envelope(SPECIES) == {**pyhall.DEFAULTS["privilege_envelope"], "egress_allowlist": []}  # type: ignore[dict-item]
    assert registry.get_privilege_envelope("wrk.none") is None


def test_a_gate_that_overrides_nothing_allows_nothing() -> None:
    pyhall.configure(unsafe_dispatch_workers_without_attestation=True)
    registry = pyhall.Registry()
    registry.enroll(FOUR_FIELDS)
    gate = a_rule(escalation={"policy_gate": True})
    assert decide(registry, asked(), rule=gate, policy_gate_eval=pyhall.PolicyGate().evaluate).denied is True


SAME_HASHES: dict[str, Any] = {
    name: lambda _: "a" * 64 for name in ("registry_get_worker_hash", "get_current_worker_hash")
}


class TestHashCallbacks:
    """The earlier call's two hash callbacks: they can refuse what the package verifier lets go, and nothing else."""

    def asked(self, world: World, **callbacks: Any) -> pyhall.RouteDecision:
        pyhall.configure(trust_policy=trust(world.signer), packages={WORKER: world.package()})
        registry = pyhall.Registry()
        registry.enroll(FOUR_FIELDS)
        return decide(registry, asked(), **callbacks)

    @pytest.mark.parametrize(
        ("registered", "current", "code"),
        [
            ("a" * 64, "a" * 64, None),
            ("a" * 64, "b" * 64, "DENY_WORKER_TAMPERED"),
            (None, "a" * 64, "DENY_WORKER_ATTESTATION_MISSING"),
            ("a" * 64, None, "DENY_WORKER_ATTESTATION_MISSING"),
            ("A" * 64, "A" * 64, "DENY_WORKER_ATTESTATION_INVALID_HASH"),
            ("a" * 64 + "\n", "a" * 64 + "\n", "DENY_WORKER_ATTESTATION_INVALID_HASH"),
            (b"a" * 64, b"a" * 64, "DENY_WORKER_ATTESTATION_INVALID_HASH"),
            ("", "", "DENY_WORKER_ATTESTATION_INVALID_HASH"),
            (True, True, "DENY_WORKER_ATTESTATION_INVALID_HASH"),
        ],
    )
    def test_two_hashes_that_are_none_or_differ_are_refused(
        self, world: World, registered: Any, current: Any, code: str | None
    ) -> None:
        decision = self.asked(
            world, registry_get_worker_hash=lambda _: registered, get_current_worker_hash=lambda _: current
        )
        assert (decision.deny_code, decision.worker_attestation_checked) == (code, True)
        valid = {None: True, "DENY_WORKER_TAMPERED": False}
        assert decision.worker_attestation_valid is valid.get(code)
        assert not re.search(r"[0-9a-f]{64}", json.dumps(decision.deny_reason_if_denied))

    @pytest.mark.parametrize("name", SAME_HASHES)
    def test_one_callback_alone_is_refused_and_one_that_raises_denies(self, world: World, name: str) -> None:
        assert self.asked(world, **{name: lambda _: "a" * 64}).deny_code == "DENY_ATTESTATION_UNCONFIGURED"
        assert self.asked(world, **SAME_HASHES | {name: lambda _: 1 // 0}).deny_code == "DENY_INTERNAL_ERROR"

    def test_hashes_that_agree_do_not_let_a_tampered_package_through(self, world: World) -> None:
        tamper(world.package())
        assert self.asked(world, **SAME_HASHES).deny_code == "DENY_WORKER_TAMPERED"

    def test_callbacks_without_a_trust_policy_are_an_error_instead_of_unread(self) -> None:
        pyhall.configure(unsafe_dispatch_workers_without_attestation=True)
        registry = pyhall.Registry()
        registry.enroll(FOUR_FIELDS)
        with pytest.raises(ConfigError, match="trust policy"):
            decide(registry, asked(), registry_get_worker_hash=registry.get_worker_hash)

    def test_a_registered_file_is_hashed_again_at_each_decision(self, world: World, tmp_path: Path) -> None:
        pyhall.configure(trust_policy=trust(world.signer), packages={WORKER: world.package()})
        registry = pyhall.Registry()
        registry.enroll(FOUR_FIELDS)
        file = tmp_path / "worker.py"
        file.write_bytes(b"def run(): pass\n")
        digest = registry.register_attestation(SPECIES, file)
        assert (registry.get_worker_hash(SPECIES), registry.compute_current_hash(SPECIES)) == (digest, digest)
        known, now = registry.attestation_callables()
        callbacks: dict[str, Any] = {"registry_get_worker_hash": known, "get_current_worker_hash": now}
        assert decide(registry, asked(), **callbacks).denied is False
        file.write_bytes(b"def run(): exfiltrate()\n")
        assert decide(registry, asked(), **callbacks).deny_code == "DENY_WORKER_TAMPERED"
        file.unlink()
        assert decide(registry, asked(), **callbacks).deny_code == "DENY_WORKER_ATTESTATION_MISSING"
        assert registry.compute_current_hash("wrk.other.kind") is registry.get_worker_hash("wrk.other.kind") is None

    def test_only_files_of_the_allowed_directories_are_registered(self, tmp_path: Path) -> None:
        registry = pyhall.Registry()
        for name in ("workers", "workers_evil"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "w.py").write_text("x")
        (tmp_path / "workers" / "link.py").symlink_to(tmp_path / "workers_evil" / "w.py")
        registry.set_allowed_worker_dirs([tmp_path / "workers"])
        assert len(registry.register_attestation(SPECIES, tmp_path / "workers" / "w.py")) == 64
        for bad in ("workers_evil/w.py", "workers/link.py", "workers/../workers_evil/w.py"):
            with pytest.raises(ValueError, match="outside"):
                registry.register_attestation(SPECIES, tmp_path / bad)
        with pytest.raises(FileNotFoundError):
            registry.register_attestation(SPECIES, tmp_path / "workers" / "none.py")
        with pytest.raises(ValueError, match="not a file"):
            pyhall.Registry().register_attestation(SPECIES, tmp_path / "workers")
