"""Rules: read strictly, matched exactly, proven reachable; each answer held against the slow and obvious way."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.route.worlds import CAPABILITY, a_request, a_rule
from wcp_attest import ConfigError
from wcp_route.domain.request_model import parse_request
from wcp_route.domain.values import DATA_LABELS, ENVS, QOS_CLASSES, TENANT_RISKS
from wcp_route.domain.wire_model import WireError
from wcp_route.rules.rules import Shadow
from wcp_route.rules.rules_model import read_rules

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

AXES = {"env": ENVS, "data_label": DATA_LABELS, "tenant_risk": TENANT_RISKS, "qos_class": QOS_CLASSES}
CELLS = [dict(zip(AXES, cell, strict=True)) for cell in itertools.product(*AXES.values())]
CAPABILITIES = ("cap.doc.summarize", "cap.doc.translate", "cap.mail.send")
UNNAMED = "cap.nobody.names"


def matching(*rules: JsonObject, **request: Any) -> str | None:
    found = read_rules({"rules": list(rules)}).match(parse_request(a_request(**request)))
    return None if found is None else found.rule_id


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ({}, True),
        ({"env": "dev"}, True),
        ({"env": "prod"}, False),
        ({"env": {"eq": "dev"}}, True),
        ({"env": {"eq": "prod"}}, False),
        ({"env": {"in": ["prod", "dev"]}}, True),
        ({"env": {"in": ["prod", "edge"]}}, False),
        ({"env": {"any": True}}, True),
        ({"capability_id": CAPABILITY}, True),
        ({"capability_id": "cap.doc"}, False),
        ({"capability_id": {"eq": CAPABILITY}}, True),
        ({"capability_id": {"in": [CAPABILITY, "cap.doc.translate"]}}, True),
        ({"capability_id": {"in": ["cap.doc.translate"]}}, False),
        ({"env": "dev", "data_label": "INTERNAL", "tenant_risk": "low", "qos_class": "P2"}, True),
        ({"env": "dev", "data_label": "INTERNAL", "tenant_risk": "low", "qos_class": "P0"}, False),
    ],
)
def test_a_condition_matches_exactly(match: JsonObject, matches: bool) -> None:
    assert (matching(a_rule(match=match)) is not None) is matches


def test_the_first_match_wins() -> None:
    rules = (a_rule("one", match={"env": "prod"}), a_rule("two", match={"env": "dev"}), a_rule("three", match={}))
    assert matching(*rules) == "two"
    assert matching(*rules, env="stage", request={}) == "three"


@pytest.mark.parametrize(
    ("match", "pointer"),
    [
        ({"evn": "prod"}, "/rules/0/match/evn"),
        ({"env": "prodd"}, "/rules/0/match/env"),
        ({"env": "PROD"}, "/rules/0/match/env"),
        ({"env": None}, "/rules/0/match/env"),
        ({"env": ["prod"]}, "/rules/0/match/env"),
        ({"env": 1}, "/rules/0/match/env"),
        ({"env": {}}, "/rules/0/match/env"),
        ({"env": {"in": "prod"}}, "/rules/0/match/env"),
        ({"env": {"in": []}}, "/rules/0/match/env"),
        ({"env": {"in": ["prod", "prod"]}}, "/rules/0/match/env"),
        ({"env": {"in": ["prod", "prodd"]}}, "/rules/0/match/env"),
        ({"env": {"in": [["prod"]]}}, "/rules/0/match/env"),
        ({"env": {"eq": None}}, "/rules/0/match/env"),
        ({"env": {"eq": ["prod"]}}, "/rules/0/match/env"),
        ({"env": {"eq": "prod", "any": True}}, "/rules/0/match/env"),
        ({"env": {"any": False}}, "/rules/0/match/env"),
        ({"env": {"any": "true"}}, "/rules/0/match/env"),
        ({"env": {"any": 1}}, "/rules/0/match/env"),
        ({"env": {"not": "prod"}}, "/rules/0/match/env"),
        ({"capability_id": "cap.doc.summarize\n"}, "/rules/0/match/capability_id"),
        ({"capability_id": "wrk.doc.summarize"}, "/rules/0/match/capability_id"),
        ({"capability_id": "cap.doc.*"}, "/rules/0/match/capability_id"),
        ({"capability_id": "cap." + "a" * 61}, "/rules/0/match/capability_id"),
    ],
)
def test_a_condition_that_is_none_is_an_error_and_never_a_wider_rule(match: JsonObject, pointer: str) -> None:
    with pytest.raises(WireError) as refused:
        read_rules({"rules": [a_rule(match=match)]})
    assert refused.value.pointer == pointer
    assert pointer in str(refused.value)


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({}, "/rules"),
        ({"rules": []}, "/rules"),
        ({"rules": {}}, "/rules"),
        ({"rules": [a_rule()], "rule": []}, "/rule"),
        ({"rules": [{**a_rule(), "rule_id": ""}]}, "/rules/0/rule_id"),
        ({"rules": [{**a_rule(), "rule_id": 7}]}, "/rules/0/rule_id"),
        ({"rules": [{**a_rule(), "enabled": True}]}, "/rules/0/enabled"),
        ({"rules": [{"rule_id": "a", "decision": {"candidate_workers_ranked": []}}]}, "/rules/0/match"),
        ({"rules": [a_rule(required_controls=[])]}, "/rules/0/decision/required_controls"),
        ({"rules": [a_rule(required_controls_suggested=["audit"])]}, "/rules/0/decision/required_controls_suggested/0"),
        ({"rules": [a_rule(escalation={"policy_gate": "true"})]}, "/rules/0/decision/escalation/policy_gate"),
        ({"rules": [a_rule(escalation={"gate": True})]}, "/rules/0/decision/escalation/gate"),
        ({"rules": [a_rule(preconditions={"deny": True})]}, "/rules/0/decision/preconditions/deny"),
        (
            {"rules": [a_rule(escalation={"human_required_if": [{"label": "RESTRICTED"}]})]},
            "/rules/0/decision/escalation/human_required_if/0/label",
        ),
        (
            {"rules": [a_rule(candidate_workers_ranked=[{"score_hint": 1.0}])]},
            "/rules/0/decision/candidate_workers_ranked/0/worker_species_id",
        ),
        (
            {"rules": [a_rule(candidate_workers_ranked=["wrk.a.b"])]},
            "/rules/0/decision/candidate_workers_ranked/0",
        ),
        (
            {"rules": [a_rule(), a_rule("b", candidate_workers_ranked=[{"worker_species_id": "wrk.a.b"}] * 2)]},
            "/rules/1/decision/candidate_workers_ranked",
        ),
    ],
)
def test_a_document_of_another_shape_is_an_error_with_a_pointer(document: JsonObject, pointer: str) -> None:
    with pytest.raises(WireError) as refused:
        read_rules(document)
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"rules": [], "rules": []}',
        b'{"rules": [{"rule_id": "a", "rule_id": "b", "match": {}, "decision": {"candidate_workers_ranked": []}}]}',
        b'{"rules": NaN}',
        b'\xef\xbb\xbf{"rules": []}',
        b'{"rules": [' * 100,
        '{"rules": []}'.encode("utf-16"),
    ],
)
def test_text_that_is_not_strict_json_is_an_error(text: bytes) -> None:
    with pytest.raises(WireError):
        read_rules(text)


def test_two_rules_of_one_name_are_an_error() -> None:
    with pytest.raises(ConfigError, match="`twin`"):
        read_rules({"rules": [a_rule("twin", match={"env": "dev"}), a_rule("twin", match={"env": "prod"})]})


def test_control_ids_are_folded_to_one_spelling() -> None:
    rule = read_rules({"rules": [a_rule(required_controls_suggested=["ctrl.blast_radius_scoring"])]}).rules[0]
    assert rule.required_controls == ("ctrl.blast-radius-scoring",)


@pytest.mark.parametrize(
    ("matches", "expected"),
    [
        ([{"env": "prod"}, {"env": "prod"}], [Shadow("r1", "duplicate", ("r0",))]),
        ([{"env": {"in": ["prod", "edge"]}}, {"env": "edge"}], [Shadow("r1", "pairwise", ("r0",))]),
        ([{}, {"env": "edge"}], [Shadow("r1", "pairwise", ("r0",))]),
        # A late `any` is not covered by an early value (the TypeScript SDK thinks so).
        ([{"env": "prod"}, {"env": {"any": True}}], []),
        # Only the union of two earlier rules kills the third (no SDK notices).
        (
            [{"env": {"in": ["dev", "stage"]}}, {"env": {"in": ["prod", "edge"]}}, {"data_label": "PUBLIC"}],
            [Shadow("r2", "union", ("r0", "r1"))],
        ),
        ([{"capability_id": CAPABILITY}, {}], []),
        ([{}, {"capability_id": CAPABILITY}], [Shadow("r1", "pairwise", ("r0",))]),
        ([{"capability_id": CAPABILITY, "env": "dev"}, {"env": "dev"}, {"capability_id": CAPABILITY, "env": "dev"}],
         [Shadow("r2", "duplicate", ("r0",))]),
        (
            [
                {"capability_id": {"in": ["cap.a.a", "cap.b.b"]}},
                {"capability_id": "cap.c.c"},
                {"capability_id": {"in": ["cap.b.b", "cap.c.c"]}},
            ],
            [Shadow("r2", "union", ("r0", "r1"))],
        ),
        ([{"capability_id": {"in": ["cap.a.a", "cap.b.b"]}}, {"capability_id": {"in": ["cap.b.b", "cap.c.c"]}}], []),
    ],
)  # fmt: skip
def test_shadowed_rules_are_found_with_those_that_cover_them(matches: list[JsonObject], expected: list[Shadow]) -> None:
    rules = [a_rule(f"r{number}", match=match) for number, match in enumerate(matches)]
    assert list(read_rules({"rules": [*rules]}).shadows) == expected


def condition(values: tuple[str, ...]) -> st.SearchStrategy[Any]:
    one = st.sampled_from(values)
    several = st.lists(one, min_size=1, max_size=len(values), unique=True)
    return st.one_of(
        one, one.map(lambda v: {"eq": v}), several.map(lambda v: {"in": v}), st.just({"any": True})
    )  # fmt: skip


matches = st.fixed_dictionaries(
    {},
    optional={**{axis: condition(values) for axis, values in AXES.items()}, "capability_id": condition(CAPABILITIES)},
)


def holds(given_: Any, value: str) -> bool:
    """The protocol's words, one by one."""
    if given_ is None or given_ == {"any": True}:
        return True
    if isinstance(given_, dict):
        return value in given_["in"] if "in" in given_ else value == given_["eq"]
    return bool(value == given_)


@settings(max_examples=examples(60))
@given(st.lists(matches, min_size=1, max_size=12))
def test_every_cell_gets_the_first_rule_and_every_rule_without_one_is_reported(found: list[JsonObject]) -> None:
    rules = read_rules({"rules": [a_rule(f"r{number}", match=match) for number, match in enumerate(found)]})
    alive, open_ = set(), set()
    for cell in CELLS:
        for capability in (*CAPABILITIES, UNNAMED):
            asked = {**cell, "capability_id": capability}
            slow = next(
                (
                    f"r{number}"
                    for number, match in enumerate(found)
                    if all(holds(match.get(name), value) for name, value in asked.items())
                ),
                None,
            )
            fast = rules.match(parse_request(a_request(**asked)))
            assert (None if fast is None else fast.rule_id) == slow
            if slow is None:
                open_.add((capability, cell["env"], cell["data_label"]))
            else:
                alive.add(slow)
    dead = {f"r{number}" for number in range(len(found))} - alive
    assert {shadow.rule_id for shadow in rules.shadows} == dead
    for shadow in rules.shadows:
        assert shadow.covered_by
        assert all(int(name[1:]) < int(shadow.rule_id[1:]) for name in shadow.covered_by)
    reported = {(gap.capability_id or UNNAMED, *cell.split("/")[:2]) for gap in rules.gaps() for cell in gap.cells}
    named = {gap.capability_id for gap in rules.gaps()}
    assert {each for each in open_ if each[0] == UNNAMED or each[0] in named} == reported


def test_coverage_is_told_as_coarsely_as_is_exact() -> None:
    rules = read_rules(
        {
            "rules": [
                a_rule("a", match={"env": {"in": ["dev", "stage", "edge"]}}),
                a_rule("b", match={"env": "prod", "data_label": {"in": ["PUBLIC", "INTERNAL"]}}),
                a_rule("c", match={"env": "prod", "capability_id": CAPABILITY, "tenant_risk": "low"}),
                a_rule(
                    "d",
                    match={
                        "env": "prod",
                        "capability_id": CAPABILITY,
                        "tenant_risk": "high",
                        "qos_class": {"in": ["P0", "P1", "P2"]},
                    },
                ),
            ]
        }
    )
    unnamed, named = rules.gaps()
    assert (unnamed.capability_id, unnamed.cells) == ("", ("prod/RESTRICTED",))
    assert named.capability_id == CAPABILITY
    assert named.cells == ("prod/RESTRICTED/medium", "prod/RESTRICTED/high/P3")


def test_capabilities_times_tenants_have_a_limit() -> None:
    """A document of a megabyte must not compile to tables of gigabytes."""
    listed = [
        a_rule(f"r{number}", match={"capability_id": {"in": [f"cap.a{number}.b{each}" for each in range(1024)]}})
        for number in range(10)
    ]
    tenants = a_rule("tenants", match={"tenant_id": {"in": [f"t{number}" for number in range(100)]}})
    with pytest.raises(ConfigError, match="1034240 capabilities times tenants; at most 1000000"):
        read_rules({"rules": [*listed, tenants]})
