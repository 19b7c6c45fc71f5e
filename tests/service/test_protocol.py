"""What the service answers: decisions, discovery, approvals, gateways, the registry, operators, machines."""

from __future__ import annotations

import base64
import json
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from tests.route.worlds import SPECIES
from tests.service.world import CAPABILITY, HELD, WORKER, World, a_request, token
from wcp_attest import build_manifest, sign
from wcp_route.json_schemas import schema_of
from wcp_route.storage.ban_reports import MAX_PENDING_OF_ONE, LedgerBanReports


def fresh(**changes: Any) -> dict[str, Any]:
    return dict(a_request(correlation_id=str(uuid.uuid4()), **changes))


def test_dispatches_and_the_answer_fits_its_schema(world: World) -> None:
    answer = world("POST", "/wcp/route", "acme", fresh())
    assert (answer.status_code, answer.json()["outcome"]) == (200, "DISPATCH")
    jsonschema.Draft202012Validator(schema_of("route-decision")).validate(answer.json())
    found = world("GET", f"/receipts/{answer.json()['decision_id']}", "rita").json()["receipts"]
    assert found[0]["receipt"]["decision_id"] == answer.json()["decision_id"]


@pytest.mark.parametrize(
    ("changes", "status", "outcome"),
    [
        ({"capability_id": "cap.none.here"}, 200, "DENY"),
        ({"env": "nowhere"}, 400, "DENY"),
        ({"data_label": 3}, 400, "DENY"),
    ],
)
def test_denied_is_200_and_malformed_is_400(world: World, changes: dict[str, Any], status: int, outcome: str) -> None:
    answer = world("POST", "/wcp/route", "acme", fresh(**changes))
    assert (answer.status_code, answer.json()["outcome"]) == (status, outcome)


def test_discovery_tells_workers_and_no_path_or_hash(world: World) -> None:
    listed = world("GET", "/wcp/workers", "acme")
    assert [row["worker_id"] for row in listed.json()["workers"]] == [WORKER]
    assert world("GET", f"/wcp/workers/{WORKER}", "acme").json() == listed.json()["workers"][0]
    assert {row["capability_id"] for row in world("GET", "/wcp/capabilities", "acme").json()["capabilities"]} == {
        CAPABILITY,
        HELD,
    }
    assert str(world.folder) not in listed.text
    assert world("GET", "/wcp/workers/org.acme.none", "acme").status_code == 404


def test_a_hold_is_polled_approved_and_redeemed_once(world: World) -> None:
    request = fresh(capability_id=HELD)
    held = world("POST", "/wcp/route", "acme", request).json()
    pending = held["pending_approval_id"]
    assert (held["outcome"], held["denied"]) == ("STEWARD_HOLD", True)
    polled = world("GET", f"/wcp/approvals/{pending}", "acme")
    assert (polled.json()["state"], polled.headers["retry-after"]) == ("pending", "2")
    assert pending in [
        row["pending_approval_id"] for row in world("GET", "/wcp/approvals/pending", "ada").json()["pending"]
    ]
    answer = {"pending_approval_id": pending, "decision": "approve", "reason": "seen"}
    resolved = world("POST", "/wcp/approvals/resolve", "ada", answer)
    assert (resolved.status_code, resolved.json()["state"]) == (200, "approved")
    assert "grant" not in resolved.text
    grant = world("GET", f"/wcp/approvals/{pending}", "acme").json()["grant"]
    headers = {"x-wcp-grant": grant}
    assert world("POST", "/wcp/route", "acme", request, headers=headers).json()["outcome"] == "DISPATCH"
    assert world("POST", "/wcp/route", "acme", request, headers=headers).json()["outcome"] != "DISPATCH"
    assert world("POST", "/wcp/approvals/resolve", "ada", answer).status_code == 409


def test_an_approver_sees_who_answered_before_and_what_changed_since(world: World) -> None:
    def held(**changes: Any) -> str:
        found = world("POST", "/wcp/route", "acme", fresh(capability_id=HELD, **changes)).json()
        return str(found["pending_approval_id"])

    first = held()
    answer = {"pending_approval_id": first, "decision": "approve", "reason": "looked at it"}
    assert world("POST", "/wcp/approvals/resolve", "ada", answer).status_code == 200
    same = world("GET", f"/wcp/approvals/{held()}/history", "ada").json()
    assert (same["answers"][0]["outcome"], same["answers"][0]["by"]) == ("approved", "ada")
    assert (same["answers"][0]["reason"], same["changed"]) == ("looked at it", [])
    other = world("GET", f"/wcp/approvals/{held(data_label='PUBLIC')}/history", "ada").json()
    assert other["changed"] == ["the data label", "the blast score"]
    world("PUT", f"/admin/quarantine/{WORKER}", "olga", {"reason": "odd"})
    world("DELETE", f"/admin/quarantine/{WORKER}", "olga")
    with httpx.Client(base_url=world.base, headers={"authorization": f"Bearer {token('acme')}"}) as client:
        for _ in range(60):  # more decisions about the worker than are looked through
            client.post("/wcp/route", json=fresh())
    pending = held()
    after = world("GET", f"/wcp/approvals/{pending}/history", "ada").json()
    assert [row["kind"] for row in after["events"]] == ["worker.cleared", "worker.quarantined"]
    assert world("GET", f"/wcp/approvals/{pending}/history", "acme").status_code == 403
    assert world("GET", "/wcp/approvals/none/history", "ada").status_code == 404


def test_requests_that_wait_hide_no_earlier_answer_and_decisions_no_event(world: World) -> None:
    def held() -> str:
        found = world("POST", "/wcp/route", "acme", fresh(capability_id=HELD)).json()
        return str(found["pending_approval_id"])

    denied = {"pending_approval_id": held(), "decision": "deny", "reason": "not by night"}
    assert world("POST", "/wcp/approvals/resolve", "ada", denied).status_code == 200
    world("PUT", f"/admin/quarantine/{WORKER}", "olga", {"reason": "odd"})
    world("DELETE", f"/admin/quarantine/{WORKER}", "olga")
    with httpx.Client(base_url=world.base, headers={"authorization": f"Bearer {token('acme')}"}) as client:
        for _ in range(55):
            assert client.post("/wcp/route", json=fresh(capability_id=HELD)).json()["outcome"] == "STEWARD_HOLD"
    pending = held()
    history = world("GET", f"/wcp/approvals/{pending}/history", "ada").json()
    assert (history["answers"][0]["reason"], history["complete"]) == ("not by night", True)
    assert [row["kind"] for row in history["events"][:2]] == ["worker.cleared", "worker.quarantined"]


# AuthZEN 1.0


def evaluation(**context: Any) -> dict[str, Any]:
    known = {"data_label": "INTERNAL", "tenant_risk": "low", "qos_class": "P2"}
    return {
        "subject": {"type": "agent", "id": "a-17"},
        "action": {"name": "invoke"},
        "resource": {"type": "capability", "id": CAPABILITY, "properties": known},
        "context": context,
    }


def test_authzen_evaluation_says_yes_no_and_why(world: World) -> None:
    yes = world("POST", "/access/v1/evaluation", "acme", evaluation())
    assert (yes.status_code, yes.json()["decision"]) == (200, True)
    held = evaluation() | {"resource": {**evaluation()["resource"], "id": HELD}}
    no = world("POST", "/access/v1/evaluation", "acme", held).json()
    assert (no["decision"], no["context"]["outcome"]) == (False, "STEWARD_HOLD")
    assert no["context"]["pending_approval_id"]


@pytest.mark.parametrize("missing", ["subject", "action", "resource"])
def test_authzen_evaluation_without_a_part_is_400(world: World, missing: str) -> None:
    body = {name: part for name, part in evaluation().items() if name != missing}
    assert world("POST", "/access/v1/evaluation", "acme", body).status_code == 400


@pytest.mark.parametrize(
    ("semantic", "answers"),
    [("execute_all", [True, False, True]), ("deny_on_first_deny", [True, False]), ("permit_on_first_permit", [True])],
)
def test_authzen_evaluations_fill_in_defaults_and_stop_where_asked(
    world: World, semantic: str, answers: list[bool]
) -> None:
    defaults = evaluation()
    body = {
        **defaults,
        "options": {"evaluations_semantic": semantic},
        "evaluations": [{}, {"resource": {"type": "capability", "id": "cap.none.here"}}, {}],
    }
    found = world("POST", "/access/v1/evaluations", "acme", body).json()["evaluations"]
    assert [one["decision"] for one in found] == answers


@pytest.mark.parametrize("semantic", [[], {}, None, 5, "some"])
def test_authzen_evaluations_of_an_unknown_semantic_are_400(world: World, semantic: Any) -> None:
    body = {**evaluation(), "options": {"evaluations_semantic": semantic}, "evaluations": [{}]}
    assert world("POST", "/access/v1/evaluations", "acme", body).status_code == 400


WRONG_PARTS: list[dict[str, Any]] = [
    {"subject": "a-17"}, {"subject": {"id": "a"}}, {"subject": {"type": "x"}}, {"subject": {"type": "x", "id": 1}},
    {"subject": None}, {"action": {}}, {"action": {"name": 5}}, {"action": []}, {"resource": {"type": "capability"}},
    {"resource": {"id": CAPABILITY}}, {"resource": 1},
]  # fmt: skip


@pytest.mark.parametrize("change", WRONG_PARTS, ids=str)
def test_an_authzen_part_of_another_form_is_400_alone_and_a_no_in_a_batch(world: World, change: dict[str, Any]) -> None:
    wrong = evaluation() | change
    assert world("POST", "/access/v1/evaluation", "acme", wrong).status_code == 400
    batch = world("POST", "/access/v1/evaluations", "acme", {"evaluations": [evaluation(), wrong, evaluation()]})
    assert [one["decision"] for one in batch.json()["evaluations"]] == [True, False, True]


def test_an_authzen_answer_has_the_id_of_its_request_whatever_it_says(world: World) -> None:
    for body, status in ((evaluation(), 200), ({}, 400)):
        for named in ("bfe9eb29-ab87-4ca3-be83-a1d5d8305716", "an id of any form; 7"):
            answer = world("POST", "/access/v1/evaluation", "acme", body, headers={"x-request-id": named})
            assert (answer.status_code, answer.headers.get_list("x-request-id")) == (status, [named])
    for given in ({}, {"x-request-id": "n" * 129}):
        assert len(world("POST", "/access/v1/evaluation", "acme", {}, headers=given).headers["x-request-id"]) == 36
    assert world("GET", "/wcp/workers", "acme", headers={"x-request-id": "mine"}).headers["x-request-id"] != "mine"


def test_an_authzen_body_that_is_no_json_is_400(world: World) -> None:
    for content, kind in ((b"{}", "text/plain"), (b"{", "application/json"), (b"", "application/json")):
        answer = world("POST", "/access/v1/evaluation", "acme", content=content, headers={"content-type": kind})
        assert answer.status_code == 400


def test_authzen_reads_over_members_that_it_does_not_know(world: World) -> None:
    known = evaluation(time="1985-10-26T01:22-07:00", ip="192.0.2.1")
    subject = {**known["subject"], "properties": {"department": "Sales"}}
    known |= {"more": [1], "subject": subject, "action": {"name": "invoke", "properties": {"soft": True}}}
    assert world("POST", "/access/v1/evaluation", "acme", known).json()["decision"] is True


@pytest.mark.parametrize("given", [{}, {"evaluations": []}])
def test_authzen_evaluations_without_a_list_are_one_evaluation(world: World, given: dict[str, Any]) -> None:
    answer = world("POST", "/access/v1/evaluations", "acme", evaluation() | given).json()
    assert (answer["decision"], "evaluations" in answer) == (True, False)


def test_authzen_metadata_names_its_endpoints(world: World) -> None:
    found = world("GET", "/.well-known/authzen-configuration").json()
    assert found["access_evaluation_endpoint"] == f"{world.base}/access/v1/evaluation"


def test_authzen_metadata_of_a_name_behind_a_proxy_are_https(world: World) -> None:
    asked = {"host": "hall.acme.example"}
    assert world("GET", "/.well-known/authzen-configuration", headers=asked).status_code == 421
    world.server.app.hosts.add("hall.acme.example")
    world.settings.hosts.append("hall.acme.example")
    found = world("GET", "/.well-known/authzen-configuration", headers=asked).json()
    assert found["policy_decision_point"] == "https://hall.acme.example"


def test_envoy_is_answered_200_or_403(world: World) -> None:
    headers = {"x-wcp-capability": CAPABILITY, "x-wcp-data-label": "INTERNAL", "x-wcp-tenant-risk": "low"}
    headers["x-wcp-qos-class"] = "P2"
    yes = world("GET", "/ext-authz/tools/summarize", "acme", headers=headers)
    assert (yes.status_code, yes.headers["x-wcp-worker"]) == (200, WORKER)
    assert (
        world("POST", "/ext-authz/x", "acme", headers={**headers, "x-wcp-capability": "cap.none.x"}).status_code == 403
    )
    assert world("GET", "/ext-authz/x", "acme").status_code == 403


def test_envoy_asks_with_the_host_and_the_id_of_the_request_that_it_asks_about(world: World) -> None:
    headers = {"x-wcp-capability": CAPABILITY, "x-wcp-data-label": "INTERNAL", "x-wcp-tenant-risk": "low"}
    headers |= {"x-wcp-qos-class": "P2", "host": "api.acme.example", "x-request-id": str(uuid.uuid4())}
    yes = world("GET", "/ext-authz/tools/summarize", "acme", headers=headers)
    assert yes.status_code == 200
    (kept,) = world("GET", f"/receipts/{yes.headers['x-wcp-decision']}", "rita").json()["receipts"]
    assert kept["receipt"]["correlation_id"] == headers["x-request-id"]
    odd = world("GET", "/ext-authz/x", "acme", headers={**headers, "x-request-id": "a b"})
    assert odd.status_code == 200
    assert world("GET", "/ext-authz/x", headers=headers).status_code == 401
    assert world("GET", "/wcp/workers", "acme", headers=headers).status_code == 421


# The registry


def pair_of(world: World, package: Path | None = None) -> dict[str, str]:
    names = {"manifest": "manifest.json", "signatures": "manifest.sig"}
    root = Path(world.package) if package is None else package
    return {field: base64.b64encode((root / name).read_bytes()).decode() for field, name in names.items()}


BODIES: list[dict[str, Any]] = [
    {"sha256": "ab" * 32, "ai_generated": False, "label": "x"},
    {"worker_species_id": "wrk.doc.x", "package_hash": "ab" * 32, "worker_version": "1.0", "ai_generated": False},
    {
        "worker_id": "org.acme.claimed",
        "worker_species_id": "wrk.doc.x",
        "package_hash": "ab" * 32,
        "worker_version": "1",
    },
]


@pytest.mark.parametrize("body", BODIES, ids=["Python", "TypeScript", "Go"])
def test_a_body_without_a_pair_is_a_claim(world: World, body: dict[str, Any]) -> None:
    answer = world("PUT", "/api/v1/workers/org.acme.claimed/attest", "paul", body)
    assert (answer.status_code, answer.json()["status"], answer.json()["attested_at"]) == (200, "unknown", None)
    assert world("GET", "/api/v1/verify/org.acme.claimed", "rita").json()["status"] == "unknown"


def test_a_good_pair_is_kept_and_handed_out_again(world: World) -> None:
    pair = pair_of(world)
    answer = world("PUT", f"/api/v1/workers/{WORKER}/attest", "paul", pair)
    assert (answer.status_code, answer.json()["status"]) == (200, "active")
    found = world("GET", f"/api/v1/verify/{WORKER}", "rita").json()
    assert (found["status"], found["banned"]) == ("active", False)
    assert {name: found[name] for name in pair} == pair


def test_a_pair_that_was_signed_earlier_takes_no_place_of_a_later_one(world: World, tmp_path: Path) -> None:
    place, newer = f"/api/v1/workers/{WORKER}/attest", pair_of(world)
    assert world("PUT", place, "paul", newer).status_code == 200
    copy = shutil.copytree(world.package, tmp_path / "worker")
    for name in ("manifest.json", "manifest.sig"):
        (copy / name).unlink()
    facts: Any = {"worker_id": WORKER, "worker_species_id": SPECIES, "worker_version": "1.0.0"}
    sign(str(copy), [world.signer], manifest=build_manifest(str(copy), **facts), now=time.time() - 3600)
    older = world("PUT", place, "paul", pair_of(world, copy))
    assert (older.status_code, older.json()["code"]) == (409, "not-newer")
    assert world("GET", f"/api/v1/verify/{WORKER}", "rita").json()["signatures"] == newer["signatures"]
    assert world("PUT", place, "paul", newer).status_code == 200  # the same one may come again


def test_a_forged_pair_is_refused_and_not_kept(world: World) -> None:
    pair = pair_of(world)
    raw = base64.b64decode(pair["manifest"]).replace(b'"1.0.0"', b'"6.6.6"')
    forged = pair | {"manifest": base64.b64encode(raw).decode()}
    assert world("PUT", f"/api/v1/workers/{WORKER}/attest", "paul", forged).status_code == 409
    other = world("PUT", "/api/v1/workers/org.acme.other/attest", "paul", pair)
    assert other.status_code == 400
    assert world("GET", "/api/v1/verify/org.acme.other", "rita").json()["status"] == "unknown"


def test_served_bans_are_whole_and_in_the_words_of_the_clients(world: World) -> None:
    found = world("GET", "/api/v1/ban-list?counted=true", "rita").json()
    assert world("GET", "/api/v1/ban-list", "rita").json() == found["entries"]
    assert (found["total"], found["has_more"]) == (1, False)
    assert [(row["sha256"], row["review_status"]) for row in found["entries"]] == [(world.banned, "confirmed")]
    whole = (world.folder / "bans.json").read_bytes()
    assert world("GET", "/api/v1/ban-lists/soc", "rita").content == whole
    assert world("GET", "/api/v1/ban-lists/soc.sig", "rita").status_code == 503  # nobody signed it here
    assert world("GET", "/api/v1/ban-lists/other", "rita").status_code == 404


def test_quarantine_and_its_end_show_at_once(world: World) -> None:
    reason = {"reason": "looked odd"}
    assert world("PUT", f"/admin/quarantine/{WORKER}", "olga", reason).status_code == 200
    assert world("POST", "/wcp/route", "acme", fresh()).json()["denied"] is True
    assert world("GET", f"/wcp/workers/{WORKER}", "acme").json()["status"] == "quarantined"
    assert world("DELETE", f"/admin/quarantine/{WORKER}", "olga").status_code == 204
    assert world("POST", "/wcp/route", "acme", fresh()).json()["outcome"] == "DISPATCH"


def test_quarantine_is_listed_with_its_cause_and_its_end_keeps_the_reason(world: World) -> None:
    world("PUT", "/admin/quarantine/org.acme.listed", "olga", {"reason": "looked odd"})
    found = {row["worker_id"]: row for row in world("GET", "/admin/quarantine", "ada").json()["quarantined"]}
    row = found["org.acme.listed"]
    assert (row["reason"], row["by"], row["since_ms"] > 0) == ("looked odd", "olga", True)
    path = "/admin/quarantine/org.acme.listed?reason="
    assert world("DELETE", path + "x" * 501, "olga").status_code == 400
    assert world("DELETE", path + "looked%20at", "olga").status_code == 204
    assert world("GET", "/admin/quarantine", "rita").json()["quarantined"] == []
    cleared = world("GET", "/receipts?kind=worker.cleared&limit=1", "rita").json()["receipts"][0]["receipt"]
    assert (cleared["worker_id"], cleared["reason"], cleared["by"]) == ("org.acme.listed", "looked at", "olga")


@pytest.mark.parametrize("path", ["/wcp/approvals/pending", "/admin/quarantine", "/receipts?limit=3"])
def test_a_list_that_has_not_changed_is_answered_with_304_until_it_changes(world: World, path: str) -> None:
    first = world("GET", path, "ada")
    tag = first.headers["etag"]
    assert "no-cache" in first.headers["cache-control"]
    again = world("GET", path, "ada", headers={"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert world("GET", path, None, headers={"if-none-match": tag}).status_code == 401
    assert world("GET", path, "acme", headers={"if-none-match": tag}).status_code == 403
    world("POST", "/wcp/route", "acme", fresh(capability_id=HELD))
    world("PUT", f"/admin/quarantine/org.acme.t{len(path)}", "olga", {"reason": "odd"})
    changed = world("GET", path, "ada", headers={"if-none-match": tag})
    assert (changed.status_code, changed.headers["etag"] != tag) == (200, True)
    world("DELETE", f"/admin/quarantine/org.acme.t{len(path)}", "olga")


def test_receipts_are_filtered_and_exported(world: World) -> None:
    world("POST", "/wcp/route", "acme", fresh(capability_id="cap.none.here"))
    denied = world("GET", "/receipts?outcome=DENY&limit=5", "rita").json()["receipts"]
    assert denied
    assert {row["receipt"]["outcome"] for row in denied} == {"DENY"}
    for wrong in ("nonsense=1", "limit=0", "limit=201", "limit=-1", "limit=" + "1" * 5000, "limit=" + "0" * 5000):
        assert world("GET", f"/receipts?{wrong}", "rita").status_code == 400, wrong
    lines = world("GET", "/receipts/export", "rita").text.splitlines()
    assert len([json.loads(line) for line in lines]) > 2
    place = Path(world.address)
    place.rename(place.with_suffix(".away"))
    assert world("GET", "/receipts/export", "rita").json()["code"] == "state-unusable"
    place.with_suffix(".away").rename(place)


def test_a_hall_without_a_receipt_key_says_that_nothing_is_signed(tmp_path: Path) -> None:
    world = World(tmp_path, signed=False)
    assert world("GET", "/receipts/head", "rita").json()["code"] == "not-signed"
    made = world("POST", "/wcp/route", "acme", fresh()).json()["decision_id"]
    assert world("GET", f"/receipts/{made}/proof", "rita").json()["code"] == "not-signed"
    world.close()


def test_metrics_and_readiness_need_no_token_and_tell_no_worker(world: World) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/health", "/wcp/health", "/openapi.json"):
        answer = world("GET", path)
        assert answer.status_code == 200, path
        assert WORKER not in answer.text
        assert "acme" not in answer.text.replace("idp.acme.example", "")


def test_a_ban_list_is_sent_again_once_it_or_its_signature_has_changed(world: World) -> None:
    path, signature = world.folder / "bans.json", world.folder / "bans.json.sig"
    before = path.read_bytes()

    def bans() -> list[str]:
        return [row["sha256"] for row in world("GET", "/api/v1/ban-list?counted=true", "rita").json()["entries"]]

    def ask(tag: str) -> Any:
        return world("GET", "/api/v1/ban-lists/soc", "rita", headers={"if-none-match": tag})

    assert bans() == [world.banned]
    first = ask("").headers["etag"]
    assert ask(first).status_code == 304
    signature.write_bytes(b"{}")
    second = ask(first)
    assert (second.status_code, second.content, second.headers["etag"] != first) == (200, before, True)
    assert world("GET", "/api/v1/ban-lists/soc.sig", "rita").content == b"{}"
    path.write_bytes(before.replace(world.banned.encode(), b"ef" * 32))  # of the same length
    assert ask(second.headers["etag"]).status_code == 200
    assert bans() == ["ef" * 32]
    path.write_bytes(b"no list")
    assert world("GET", "/api/v1/ban-list?counted=true", "rita").status_code == 503
    path.unlink()
    assert world("GET", "/api/v1/ban-list", "rita").status_code == 503
    path.write_bytes(before)
    signature.unlink()
    assert bans() == [world.banned]


def test_one_reporter_cannot_take_the_places_of_others(tmp_path: Path) -> None:
    world = World(tmp_path)
    reports = LedgerBanReports(world.state.ledger)
    for number in range(MAX_PENDING_OF_ONE):
        reports.report(f"{number:064x}", "odd", by="rita", via="token")
    body = {"sha256": "ee" * 32, "reason": "sends documents away"}
    refused = world("POST", "/api/v1/ban-list/report", "rita", body)
    assert (refused.status_code, "reports of rita wait" in refused.json()["detail"]) == (429, True)
    assert world("POST", "/api/v1/ban-list/report", "rita", {**body, "sha256": f"{1:064x}"}).status_code == 202
    assert world("POST", "/api/v1/ban-list/report", "acme", body).status_code == 202
    world.close()
