"""For every world: more bans, controls or floors never let more through, and nothing unattested passes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.route.stores import MemoryRegistry
from tests.route.worlds import GENEROUS, SPECIES, Counting, Ticking, a_record, a_request, a_rule, make_package, trust
from wcp_attest.base.errors import Banned
from wcp_attest.signing.key import generate
from wcp_route.config import HallConfig
from wcp_route.domain.record_model import read_record
from wcp_route.domain.values import DATA_LABELS, ENVS, QOS_CLASSES, TENANT_RISKS
from wcp_route.gates.policy_gate import PolicyAnswer
from wcp_route.hall import Hall, Services

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest import KeySigner
    from wcp_attest.bans import PackageFacts
    from wcp_attest.base.strictjson import JsonObject

WORKERS = ("org.acme.a", "org.acme.b", "org.acme.c")
OTHER_SPECIES = "wrk.other.kind"
CONTROLS = ("ctrl.obs.audit-log-append-only", "ctrl.exec.sandbox", "ctrl.blast-radius-scoring", "ctrl.net.allowlist")
FLOORS = (
    "enforce_correlation_id",
    "enforce_required_controls",
    "enforce_blast_scoring_in_prod",
    "enforce_privilege_envelopes",
    "ask_policy_gate",
    "require_credential",
)


@dataclass
class Banning:
    """Bans the workers it is told to."""

    workers: frozenset[str] = frozenset()

    def check_before(self, facts: PackageFacts) -> None:
        if facts.worker_id in self.workers:
            raise Banned("banned")

    def check_files(self, files: Iterable[tuple[str, str]], algorithm: str) -> None:
        """No file is."""


class Gate:
    """Allows."""

    def evaluate(self, context: object) -> PolicyAnswer:
        del context
        return PolicyAnswer("ALLOW", "p1")


@dataclass(frozen=True)
class Scene:
    """Everything a decision depends on."""

    records: tuple[JsonObject, ...]
    rule: JsonObject
    request: JsonObject
    settings: dict[str, Any] = field(default_factory=dict)
    banned: frozenset[str] = frozenset()
    quarantined: frozenset[str] = frozenset()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, KeySigner]:
    """Signed packages of three workers, and as many that nobody signed."""
    directory, signer = tmp_path_factory.mktemp("packages"), generate()
    for name in WORKERS:
        make_package(directory / name / SPECIES, signer, name, SPECIES)
        make_package(directory / name / OTHER_SPECIES, signer, name, OTHER_SPECIES)
        (directory / "unsigned" / name).mkdir(parents=True)
        (directory / "unsigned" / name / "run.py").write_text("print(1)\n")
    return str(directory), signer


def enrolled(scene: Scene, directory: str, unsigned: frozenset[str] = frozenset()) -> MemoryRegistry:
    registry = MemoryRegistry()
    for record in scene.records:
        worker = read_record(record)
        home = (
            ("unsigned", worker.worker_id)
            if worker.worker_id in unsigned
            else (worker.worker_id, worker.worker_species_id)
        )
        registry.enroll(replace(worker, package_root=os.path.join(directory, *home)))
    for name in scene.quarantined:
        registry.quarantine(name, "x", by="ops", at_ms=1)
    return registry


def decide(scene: Scene, place: tuple[str, KeySigner], registry: MemoryRegistry | None = None) -> Any:
    directory, signer = place
    registry = registry or enrolled(scene, directory)
    settings: dict[str, Any] = {"unsafe_dispatch_without_signed_durable_receipts": True, "env": scene.request["env"]}
    settings |= {"callback_seconds": 50.0, "decision_seconds": 60.0}  # a busy machine must not change an answer
    config = HallConfig(**{**settings, "ceilings": GENEROUS, **scene.settings})
    services = Services(clock=Ticking(), ids=Counting(), bans=(Banning(scene.banned),), policy_gate=Gate())
    with Hall({"rules": [scene.rule]}, registry, trust(signer), config, services=services) as hall:
        return hall.route(scene.request)


some_controls = st.lists(st.sampled_from(CONTROLS), unique=True, max_size=3)


@st.composite
def records(draw: st.DrawFn) -> tuple[JsonObject, ...]:
    made = []
    for name in draw(st.lists(st.sampled_from(WORKERS), unique=True, min_size=1)):
        envs = draw(st.lists(st.sampled_from(ENVS), unique=True, min_size=2))
        made.append(
            a_record(
                worker_id=name,
                worker_species_id=draw(st.sampled_from((SPECIES, OTHER_SPECIES))),
                required_controls=draw(some_controls),
                currently_implements=draw(some_controls),
                allowed_environments=envs,
                privilege_envelope={
                    "secrets_access": draw(st.sampled_from(([], ["db"]))),
                    "network_egress": draw(st.sampled_from(("none", "unrestricted"))),
                    "filesystem_writes": draw(st.sampled_from(([], ["/tmp"]))),
                    "tools": [],
                },
                blast_radius={
                    "data": draw(st.integers(0, 5)), "network": 5, "financial": 5, "time": 5, "reversibility": 5
                },
            )
        )  # fmt: skip
    return tuple(made)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    species = draw(st.permutations((SPECIES, OTHER_SPECIES)))
    rule = a_rule(
        candidate_workers_ranked=[{"worker_species_id": each} for each in species],
        required_controls_suggested=draw(some_controls),
        escalation={"policy_gate": draw(st.booleans())},
        preconditions={
            "must_have_correlation_id": draw(st.booleans()),
            "deny_if_missing_required_controls": draw(st.booleans()),
        },
    )
    request = a_request(
        env=draw(st.sampled_from(ENVS)),
        data_label=draw(st.sampled_from(DATA_LABELS)),
        tenant_risk=draw(st.sampled_from(TENANT_RISKS)),
        qos_class=draw(st.sampled_from(QOS_CLASSES)),
        correlation_id=draw(st.sampled_from(("", "c-1"))),
        blast_score=draw(st.none() | st.integers(0, 100)),
        request={"writes": draw(st.booleans())},
    )
    settings_: dict[str, Any] = {name: draw(st.booleans()) for name in FLOORS[:4]}
    settings_["controls_present"] = frozenset(draw(some_controls))
    settings_["chain_thresholds"] = dict.fromkeys(ENVS, 24)
    if draw(st.booleans()):
        settings_["ceilings"] = ()
    return Scene(draw(records()), rule, request, settings_)


hardly = settings(
    max_examples=examples(120),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@hardly
@given(scene=scenes(), data=st.data())
def test_adding_a_ban_or_a_quarantine_lets_nothing_through(place: Any, scene: Scene, data: st.DataObject) -> None:
    names = frozenset(data.draw(st.lists(st.sampled_from(WORKERS), unique=True, min_size=1)))
    registry = enrolled(scene, place[0])
    assume(decide(scene, place, registry).denied)
    assert decide(replace(scene, banned=names), place, registry).denied
    assert decide(replace(scene, quarantined=names), place).denied


@hardly
@given(scene=scenes(), control=st.sampled_from(CONTROLS))
def test_requiring_one_more_control_lets_nothing_through(place: Any, scene: Scene, control: str) -> None:
    registry = enrolled(scene, place[0])
    assume(decide(scene, place, registry).denied)
    decision: Any = scene.rule["decision"]
    wanted = sorted({*decision["required_controls_suggested"], control})
    by_rule = {**scene.rule, "decision": {**decision, "required_controls_suggested": wanted}}
    assert decide(replace(scene, rule=by_rule), place, registry).denied
    by_worker: Any = tuple(
        {**record, "required_controls": sorted({*record["required_controls"], control})}  # type: ignore[misc]
        for record in scene.records
    )
    assert decide(replace(scene, records=by_worker), place).denied


@hardly
@given(scene=scenes(), floor=st.sampled_from(FLOORS))
def test_raising_a_floor_lets_nothing_through(place: Any, scene: Scene, floor: str) -> None:
    registry = enrolled(scene, place[0])
    assume(decide(scene, place, registry).denied)
    assert decide(replace(scene, settings={**scene.settings, floor: True}), place, registry).denied


@hardly
@given(scene=scenes(), env=st.sampled_from(ENVS), lower=st.integers(0, 100), chain=st.integers(0, 25))
def test_lowering_a_threshold_lets_nothing_through(place: Any, scene: Scene, env: str, lower: int, chain: int) -> None:
    registry = enrolled(scene, place[0])
    assume(decide(scene, place, registry).denied)
    strict = {
        **scene.settings,
        "blast_thresholds": {"prod": min(85, lower), "edge": min(85, lower), env: min(85, lower)},
        "chain_thresholds": {each: min(24, chain) for each in ENVS},
    }
    assert decide(replace(scene, settings=strict), place, registry).denied


@hardly
@given(scene=scenes(), raised=st.integers(0, 100))
def test_a_higher_score_of_the_caller_lets_nothing_through(place: Any, scene: Scene, raised: int) -> None:
    registry = enrolled(scene, place[0])
    assume(decide(scene, place, registry).denied)
    score = max(raised, scene.request["blast_score"] or 0)  # type: ignore[type-var]
    assert decide(replace(scene, request={**scene.request, "blast_score": score}), place, registry).denied


@hardly
@given(
    scene=scenes(),
    unsigned=st.lists(st.sampled_from(WORKERS), unique=True, min_size=1).map(frozenset),
    falls=st.booleans(),
    mode=st.sampled_from(("always", "sealed", "on-change")),
)
def test_no_input_lets_an_unattested_worker_through(
    place: Any, scene: Scene, unsigned: frozenset[str], falls: bool, mode: str
) -> None:
    assume(mode != "on-change" or scene.request["env"] in ("dev", "stage"))
    seals = {"attestation": mode, "seal_directory": os.path.join(place[0], "sealed")}
    lax = replace(scene, settings={**scene.settings, **seals, "fall_through_to_next_attested_worker": falls})
    decision = decide(lax, place, enrolled(lax, place[0], unsigned))
    if not decision.denied:
        assert decision.worker_attestation_checked is True
        assert decision.worker_attestation_valid is True
        assert decision.worker_id not in unsigned
