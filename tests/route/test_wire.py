"""Requests, records and decisions on the wire: strict in, schema-valid out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from tests.route.worlds import GENEROUS, World, a_record, a_request, a_rule
from wcp_attest.base import strictjson
from wcp_route.config_model import read_config
from wcp_route.domain.canonical import sha256_of
from wcp_route.domain.codes import Code
from wcp_route.domain.decision_wire import to_wire
from wcp_route.domain.record import BlastRadius, wire_of
from wcp_route.domain.record_model import artifact_hash, parse_record, read_record
from wcp_route.domain.request_hash import envelope, fingerprints
from wcp_route.domain.request_model import parse_request
from wcp_route.domain.wire_model import WireError
from wcp_route.json_schemas import SCHEMAS as MADE
from wcp_route.json_schemas import schema_of
from wcp_route.rules.rules_model import read_rules

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

SCHEMAS = Path(__file__).parents[2] / "wcp_route" / "schemas"

NO_BLAST = {"data": 0, "network": 0, "financial": 0, "time": 0, "reversibility": 0}

# The published draft-07 schema of a decision asks for these.
PUBLISHED_DECISION = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "required": ["outcome", "correlation_id", "decided_at"],
    "properties": {
        "outcome": {"enum": ["DISPATCH", "DENY", "STEWARD_HOLD"]},
        "correlation_id": {"type": "string", "format": "uuid"},
        "decided_at": {"type": "string", "format": "date-time"},
        "worker_id": {"type": ["string", "null"]},
        "deny_code": {"type": ["string", "null"]},
        "controls_applied": {"type": "array", "items": {"type": "string"}},
    },
}


# --- requests ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "missing", ["capability_id", "tenant_id", "correlation_id", "env", "data_label", "tenant_risk", "qos_class"]
)
def test_a_request_lacks_a_field(missing: str) -> None:
    request = a_request()
    del request[missing]
    with pytest.raises(WireError) as refused:
        parse_request(request)
    assert refused.value.pointer == f"/{missing}"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"colour": "red"}, "/colour"),
        ({"env": "staging"}, "/env"),
        ({"env": ["prod"]}, "/env"),
        ({"data_label": "CONFIDENTIAL"}, "/data_label"),
        ({"tenant_risk": "critical"}, "/tenant_risk"),
        ({"qos_class": "p0"}, "/qos_class"),
        ({"capability_id": 7}, "/capability_id"),
        ({"capability_id": ""}, "/capability_id"),
        ({"capability_id": " \t"}, "/capability_id"),
        ({"tenant_id": None}, "/tenant_id"),
        ({"tenant_id": "a" * 300}, "/tenant_id"),
        ({"request": []}, "/request"),
        ({"request": None}, "/request"),
        ({"blast_score": True}, "/blast_score"),
        ({"blast_score": 1.5}, "/blast_score"),
        ({"blast_score": "7"}, "/blast_score"),
        ({"blast_score": -1}, "/blast_score"),
        ({"blast_score": 101}, "/blast_score"),
        ({"blast_radius": {**NO_BLAST, "data": 6}}, "/blast_radius/data"),
        ({"blast_radius": {"data": 1}}, "/blast_radius/network"),
        ({"dry_run": 1}, "/dry_run"),
        ({"dry_run": "false"}, "/dry_run"),
        ({"tenant_credential": 5}, "/tenant_credential"),
        ({"chain_id": None}, "/chain_id"),
    ],
)  # fmt: skip
def test_a_request_of_another_shape_is_an_error_with_a_pointer(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(WireError) as refused:
        parse_request(a_request(**change))
    assert refused.value.pointer == pointer


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"7", b'"x"', b"{}", b'{"env": "dev", "env": "prod"}', b"\xff", b"{" * 5000]
)
def test_bytes_that_are_no_request_are_an_error(text: bytes) -> None:
    with pytest.raises(WireError):
        parse_request(text)


def test_a_value_made_by_hand_is_checked_like_any_other_input() -> None:
    request = parse_request(
        a_request(blast_radius={"data": 1, "network": 2, "financial": 3, "time": 4, "reversibility": "irreversible"})
    )
    assert request.blast_radius == BlastRadius(1, 2, 3, 4, 5)
    assert parse_request(request) == request
    with pytest.raises(WireError) as refused:
        parse_request(replace(request, env="staging"))  # type: ignore[arg-type]
    assert refused.value.pointer == "/env"


@pytest.mark.parametrize("env", ["stage", "prod", "edge"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("capability_id", "cap.doc.summarize\nevt.injected"),
        ("capability_id", "cap.doc.summarize.v1.x.y"),
        ("capability_id", "cap.Doc.summarize"),
        ("capability_id", "cap.doc_x.summarize"),
        ("capability_id", "wrk.doc.summarize"),
        ("tenant_id", "acme\x00"),
        ("tenant_id", "ac me"),
        ("tenant_id", "äcme"),
        ("correlation_id", "a\r\nb"),
        ("correlation_id", "x" * 129),
        ("chain_id", "a b"),
        ("policy_version", "v 1"),
    ],
)
def test_outside_dev_ids_have_their_strict_form(env: str, name: str, value: str) -> None:
    with pytest.raises(WireError) as refused:
        parse_request(a_request(env=env, **{name: value}))
    assert refused.value.pointer == f"/{name}"


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("capability_id", "cap.doc.summarize\nevt.injected fake", "cap.doc.summarize"),
        ("capability_id", "cap.doc.summarize.v1.x.y", "cap.doc.summarize.v1.x.y"),
        ("tenant_id", "acme\x7f", "acme"),
        ("correlation_id", "a b", "a b"),
    ],
)
def test_in_dev_ids_are_put_right_and_reported(name: str, value: str, kept: str) -> None:
    request = parse_request(a_request(**{name: value}))
    assert getattr(request, name) == kept
    assert name in request.reported[0]


@pytest.mark.parametrize("value", ["\n", "\x00cap.doc.summarize", "\ud800", "a\u2028x"])
def test_in_dev_what_cannot_be_put_right_is_still_refused(value: str) -> None:
    with pytest.raises(WireError):
        parse_request(a_request(capability_id=value))


word = st.text("abZ09._:@/+- \n\x00é", max_size=12)


@settings(max_examples=examples(300))
@given(
    word,
    word,
    word,
    st.sampled_from(["cap.a.b", "cap.a", "cap.a.b.c.d", "cap..a", "cap." + "a" * 60, "cap." + "a" * 61]),
)
def test_the_fast_look_at_all_ids_agrees_with_the_slow_one(tenant: str, corr: str, chain: str, capability: str) -> None:
    """Outside dev a request passes or not; in dev it passes without a report exactly when it does outside."""
    given_ = {"tenant_id": tenant, "correlation_id": corr, "chain_id": chain, "capability_id": capability}
    try:
        clean = parse_request(a_request(env="dev", **given_)).reported == ()
    except WireError:
        clean = False
    try:
        parse_request(a_request(env="prod", **given_))
        passed = True
    except WireError:
        passed = False
    assert passed is clean


texts = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(200))
@given(
    st.dictionaries(texts, json_values, max_size=3),
    st.none() | st.integers(0, 100),
    st.sampled_from(["", "c-1", "c:1/x"]),
    st.booleans(),
)
def test_the_hashes_of_a_request_are_those_of_its_canonical_form(
    payload: dict[str, Any], score: int | None, chain: str, rare: bool
) -> None:
    request = parse_request(
        a_request(request=payload, blast_score=score, chain_id=chain, privilege_context={"x": 1} if rare else None)
    )
    assert fingerprints(request) == (sha256_of(request.request), sha256_of(envelope(request)))


def test_the_credential_is_in_no_hash_and_everything_else_is() -> None:
    plain = parse_request(a_request())
    assert fingerprints(replace(plain, tenant_credential="s3cret")) == fingerprints(plain)
    changes: dict[str, Any] = {
        "capability_id": "cap.other.x", "tenant_id": "t", "correlation_id": "c", "env": "prod", "data_label": "PUBLIC",
        "tenant_risk": "high", "qos_class": "P0", "request": {"a": 1}, "blast_score": 3, "chain_id": "x",
        "blast_radius": BlastRadius(0, 0, 0, 0, 0), "privilege_context": {}, "policy_version": "p1",
    }  # fmt: skip
    hashes = {fingerprints(replace(plain, **{name: value}))[1] for name, value in changes.items()}
    assert len(hashes | {fingerprints(plain)[1]}) == len(changes) + 1
    assert "s3cret" not in repr(replace(plain, tenant_credential="s3cret"))


# --- records -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"worker_id": "acme.doc"}, "/worker_id"),
        ({"worker_id": "org.acme"}, "/worker_id"),
        ({"worker_id": "wrk.acme.doc"}, "/worker_id"),
        ({"worker_id": "org.acme.Doc"}, "/worker_id"),
        ({"worker_id": "org.acme.doc\n"}, "/worker_id"),
        ({"worker_species_id": "org.acme.doc"}, "/worker_species_id"),
        ({"capabilities": []}, "/capabilities"),
        ({"capabilities": ["cap.a.b", "cap.a.b"]}, "/capabilities"),
        ({"capabilities": ["doc"]}, "/capabilities/0"),
        ({"risk_tier": "severe"}, "/risk_tier"),
        ({"idempotency": True}, "/idempotency"),
        ({"determinism": "maybe"}, "/determinism"),
        ({"required_controls": ["audit"]}, "/required_controls/0"),
        ({"required_controls": ["ctrl.a-b", "ctrl.a_b"]}, "/required_controls"),
        ({"allowed_environments": ["production"]}, "/allowed_environments/0"),
        ({"privilege_envelope": {}}, "/privilege_envelope/secrets_access"),
        ({"blast_radius": {"data": 1}}, "/blast_radius/network"),
        ({"blast_radius": {**NO_BLAST, "data": True}}, "/blast_radius/data"),
        ({"owner": ""}, "/owner"),
        ({"artifact_hash": ""}, "/artifact_hash"),
        ({"artifact_hash": "sha256:" + "A" * 64}, "/artifact_hash"),
        ({"artifact_hash": "sha256:" + "a" * 64 + "\n"}, "/artifact_hash"),
        ({"handles_capabilities": []}, "/handles_capabilities"),
        ({"package_root": "/etc"}, "/package_root"),
        ({"attestation": {"code_hash": "ab" * 32, "hash_method": "file"}}, "/attestation/code_hash"),
    ],
)  # fmt: skip
def test_a_record_of_another_shape_is_an_error_with_a_pointer(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(WireError) as refused:
        read_record(a_record(**change))
    assert refused.value.pointer == pointer


def envelope_of(**change: Any) -> JsonObject:
    return {
        "privilege_envelope": {
            "secrets_access": [],
            "network_egress": "none",
            "filesystem_writes": [],
            "tools": [],
            **change,
        }
    }


@pytest.mark.parametrize(
    "change",
    [
        envelope_of(network_egress="some"),
        envelope_of(network_egress="allowlisted"),
        envelope_of(egress={"allowlist": ["api.acme.example"]}),
        envelope_of(network_egress="allowlisted", egress={"allowlist": []}),
        envelope_of(network_egress="allowlisted", egress={"allowlist": ["API.acme.example"]}),
        envelope_of(filesystem_writes=["tmp"]),
        envelope_of(filesystem_writes=["/tmp/../etc"]),
        envelope_of(filesystem_writes=["/tmp/"]),
        envelope_of(secrets_access=["a b"]),
        envelope_of(sudo=True),
    ],
)
def test_an_envelope_of_unknown_meaning_is_an_error(change: dict[str, Any]) -> None:
    with pytest.raises(WireError) as refused:
        read_record(a_record(**change))
    assert refused.value.pointer.startswith("/privilege_envelope")


@pytest.mark.parametrize("missing", sorted(a_record()))
def test_every_field_of_the_v02_table_that_is_required_is_required(missing: str) -> None:
    record = a_record()
    del record[missing]
    with pytest.raises(WireError) as refused:
        read_record(record)
    assert refused.value.pointer == f"/{missing}"


def test_a_record_is_read_written_and_read_again() -> None:
    record = a_record(
        contact="ops@acme.example",
        notes="ä",
        catalog_version_min="wcp-catalog@0.1.0",
        determinism="non-deterministic",
        required_controls=["ctrl.obs.audit_log_append_only"],
        attestation={"code_hash": "sha256:" + "ab" * 32, "hash_method": "manifest", "attested_by": "org.acme"},
        **envelope_of(network_egress="allowlisted", egress={"allowlist": ["api.acme.example:443"]}),
    )
    record["artifact_hash"] = artifact_hash(record)
    found = read_record(json.dumps(record).encode())
    assert found.determinism == "nondeterministic"
    assert found.required_controls == ("ctrl.obs.audit-log-append-only",)
    assert parse_record(wire_of(found)) == found


def test_a_record_that_was_edited_after_it_was_hashed_is_refused() -> None:
    record = a_record()
    record["artifact_hash"] = artifact_hash(record)
    assert read_record(record).owner == "org.acme"
    record["owner"] = "org.mallory"
    with pytest.raises(WireError) as refused:
        read_record(record)
    assert refused.value.pointer == "/artifact_hash"


# --- decisions -----------------------------------------------------------------------------------------------------


def decisions(world: World) -> dict[str, JsonObject]:
    hall = world.hall(
        a_rule(required_controls_suggested=["ctrl.blast_radius_scoring"], recommended_profiles=["prof.x"])
    )
    made = {
        "dispatch": hall.route(a_request()),
        "denied": hall.route(a_request(env="prod")),
        "malformed": hall.route(a_request(env="nowhere")),
        "dry run": hall.route(a_request(dry_run=True)),
    }
    return {name: to_wire(decision) for name, decision in made.items()}


def test_decisions_are_valid_against_the_published_and_our_own_schema(world: World) -> None:
    for name, wire in decisions(world).items():
        jsonschema.validate(wire, PUBLISHED_DECISION)
        jsonschema.validate(wire, schema_of("route-decision"))
        known: Any = schema_of("route-decision")["properties"]
        assert wire.keys() | {"package_path", "kind", "schema_version"} == known.keys(), name
        assert strictjson.loads(json.dumps(wire).encode(), what="decision", max_bytes=1 << 20, floats=True) == wire


def test_clients_of_the_sdks_find_what_they_read(world: World) -> None:
    wire = decisions(world)
    assert wire["dispatch"]["denied"] is False
    assert wire["dispatch"]["selected_worker_species_id"] == "wrk.doc.summarizer"
    assert wire["dispatch"]["artifact_hash"] == wire["dispatch"]["request_hash"]
    assert wire["denied"]["denied"] is True
    assert wire["denied"]["deny_reason_if_denied"]["code"] == wire["denied"]["deny_code"] == Code.ENV_NOT_ALLOWED  # type: ignore[index, call-overload]
    assert wire["denied"]["selected_worker_species_id"] is None
    assert wire["malformed"]["matched_rule_id"] == "PRE_ROUTING"


@pytest.mark.parametrize("name", MADE)
def test_exported_schemas_are_those_of_the_models(name: str) -> None:
    schema = schema_of(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads((SCHEMAS / f"{name}.json").read_text()) == schema


def test_schemas_accept_what_we_accept_and_refuse_what_we_refuse() -> None:
    request, record, rules = schema_of("route-input"), schema_of("registry-record"), schema_of("rules")
    jsonschema.validate(a_request(), request)
    jsonschema.validate(a_record(), record)
    jsonschema.validate({"rules": [a_rule(match={"env": {"in": ["prod"]}, "capability_id": "cap.a.b"})]}, rules)
    for bad, schema in (
        (a_request(colour="red"), request),
        (a_request(env="staging"), request),
        (a_record(risk_tier="severe"), record),
        ({"rules": [a_rule(match={"evn": "prod"})]}, rules),
        ({"rules": [a_rule(match={"env": {"in": "prod"}})]}, rules),
        ({"rules": [a_rule(match={"env": {"any": False}})]}, rules),
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)


# --- settings ------------------------------------------------------------------------------------------------------


def test_settings_are_read_from_toml() -> None:
    config = read_config(
        b"""
        env = "prod"
        require_signatory = true
        allowed_tenants = ["acme"]
        controls_present = ["ctrl.obs.audit_log_append_only"]
        blast_thresholds = {prod = 70}
        [[ceiling]]
        envs = ["dev", "stage", "prod", "edge"]
        data_labels = ["PUBLIC", "INTERNAL", "RESTRICTED"]
        secrets_access = ["*"]
        network_egress = "unrestricted"
        filesystem_writes = ["/"]
        tools = ["*"]
        """
    )
    assert config.allowed_tenants == {"acme"}
    assert config.controls_present == {"ctrl.obs.audit-log-append-only"}
    assert config.ceilings == GENEROUS
    assert config.blast_thresholds == {"prod": 70}
    assert config.attestation == "always"


def test_settings_may_have_been_written_on_windows() -> None:
    assert read_config(b'\xef\xbb\xbfenv = "dev"\r\n') == read_config(b'env = "dev"')


@pytest.mark.parametrize(
    "text",
    [
        "",
        'env = "production"',
        'env = "dev"\nrequire_signatry = true',
        'env = "dev"\nrequire_signatory = 1',
        'env = "dev"\nrequire_signatory = true',
        'env = "prod"\nunsafe_dispatch_workers_without_attestation = true',
        'env = "edge"\nunsafe_dispatch_workers_without_attestation = true',
        'env = "prod"\nattestation = "on-change"',
        'env = "edge"\nattestation = "on-change"',
        'env = "dev"\nattestation = "never"',
        'env = "dev"\nattestation = "sealed"',
        'env = "dev"\ncallback_seconds = 0.0',
        'env = "dev"\napproval_seconds = 0',
        'env = "dev"\nblast_thresholds = {prod = 101}',
        'env = "prod"\nblast_thresholds = {stage = 95}',  # which would switch the gate of prod off, unseen
        'env = "edge"\nblast_thresholds = {prod = 85}',
        'env = "prod"\nchain_thresholds = {}',
        'env = "dev"\n[[ceiling]]\nenvs = []\ndata_labels = ["PUBLIC"]',
        "env = ",
        "\x00",
        "x = " + "[" * 5000,
        'env = "dev"\napproval_seconds = ' + "1" * 5000,  # more digits than Python turns into a number
    ],
)
def test_settings_that_mean_nothing_or_are_refused_are_an_error(text: str) -> None:
    from wcp_attest import ConfigError

    with pytest.raises(ConfigError):
        read_config(text.encode())


MISSPELT: list[tuple[dict[str, Any], str]] = [
    ({"match": {"evn": "prod"}}, "env"),
    ({"decison": {}}, "decision"),
    ({"decision": {"candidate_workers_ranked": [{"worker_specie_id": "x"}]}}, "worker_species_id"),
    (
        {
            "decision": {
                "candidate_workers_ranked": [],
                "escalation": {"human_required_if": [{"data_lable": "PUBLIC"}]},
            }
        },
        "data_label",
    ),
]


@pytest.mark.parametrize(("change", "near"), MISSPELT)
def test_an_unknown_member_of_a_rule_names_the_near_one(change: Any, near: str) -> None:
    rule: Any = {"rule_id": "a", "match": {}, "decision": {"candidate_workers_ranked": []}, **change}
    with pytest.raises(WireError, match=f"there is no such member; did you mean `{near}`"):
        read_rules({"rules": [rule]})


def test_an_unknown_member_of_a_request_or_record_names_the_near_one_of_its_own_place() -> None:
    with pytest.raises(WireError, match=r"/correlation_ID`: there is no such member; did you mean `correlation_id`"):
        parse_request({**a_request(), "correlation_ID": "x"})
    with pytest.raises(WireError, match=r"/nonsense`: there is no such member$"):
        parse_request({**a_request(), "nonsense": 1})
    envelope = {"secrets_access": [], "network_egress": "none", "filesystem_writes": [], "tools": [], "tool": []}
    with pytest.raises(WireError, match=r"/privilege_envelope/tool`: there is no such member; did you mean `tools`"):
        read_record(a_record(privilege_envelope=envelope))
    short = a_request()
    del short["tenant_id"]
    with pytest.raises(WireError, match=r"/tenant_id`: is missing$"):
        parse_request(short)


def test_all_that_a_record_lacks_is_told_at_once() -> None:
    four: Any = {name: a_record()[name] for name in ("worker_id", "worker_species_id", "capabilities", "risk_tier")}
    with pytest.raises(WireError) as refused:
        read_record(four)
    assert refused.value.pointer == "/idempotency"
    for name in a_record().keys() - four.keys():
        assert name in str(refused.value)
