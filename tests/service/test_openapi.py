"""The OpenAPI document against the service: every path, who may ask, every member of every answer, good examples."""

from __future__ import annotations

import base64
import re
import uuid
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import jsonschema
import pytest
from openapi_spec_validator import validate

from tests.service.world import HELD, WORKER, World, a_request, token
from wcp_route.domain.record import wire_of
from wcp_route.service.settings import ROLES

if TYPE_CHECKING:
    from collections.abc import Iterator

DESCRIBED = ("/wcp/", "/access/", "/api/", "/admin/", "/receipts", "/.well-known/")
BANNED = "cd" * 32


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service with a principal for each role alone."""
    facts: dict[str, Any] = {"publisher": {"namespaces": ["org.acme"]}, "approver": {"level": "gatekeeper"}}
    rows = [
        {"name": role, "sha256": [sha256(token(role).encode()).hexdigest()], "roles": [role], **facts.get(role, {})}
        for role in ROLES
    ]
    made = World(tmp_path_factory.mktemp("described"), token=rows)
    yield made
    made.close()


@pytest.fixture(scope="module")
def document(world: World) -> Any:
    found = world("GET", "/openapi.json").json()
    validate(found)
    return found


def operations(document: Any) -> dict[tuple[str, str], Any]:
    return {(method, path): one for path, methods in document["paths"].items() for method, one in methods.items()}


def members(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yield the members of a schema at any depth."""
    for name, member in schema.get("properties", {}).items():
        yield name, member
        yield from members(member)
    for inner in (*([schema["items"]] if "items" in schema else ()), *schema.get("anyOf", ())):
        yield from members(inner)


def test_every_path_is_described_once(world: World, document: Any) -> None:
    app: Any = world.server.app.app
    served = {
        (method.lower(), route.path)
        for route in app.routes
        if route.path.startswith(DESCRIBED)
        for method in route.methods - {"HEAD"}
    }
    found = operations(document)
    assert len(served) > 30
    assert served <= set(found)
    assert len({one["operationId"] for one in found.values()}) == len(found)


def test_every_operation_parameter_and_member_says_what_it_is_with_examples_that_fit(document: Any) -> None:
    schemas = document["components"]["schemas"]
    described = [(str(name), one) for name, one in operations(document).items()]
    described += [(one["name"], one) for _, operation in described for one in operation["parameters"]]
    described += [*schemas.items(), *(pair for one in schemas.values() for pair in members(one))]
    assert [name for name, one in described if not one.get("description") and "$ref" not in one] == []
    fitting = 0
    for _, one in described:
        schema = {key: value for key, value in one.get("schema", one).items() if key != "$ref"}
        for example in schema.get("examples", ()):
            jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(example)
            fitting += 1
    assert fitting > 100


@pytest.mark.parametrize("role", [None, *ROLES])
def test_only_the_roles_that_an_operation_names_are_let_in(world: World, document: Any, role: str | None) -> None:
    headers = {} if role is None else {"authorization": f"Bearer {token(role)}"}
    with httpx.Client(base_url=world.base, headers=headers, timeout=30) as client:
        for (method, path), operation in operations(document).items():
            body: Any = {} if "requestBody" in operation else None
            answer = client.request(method, re.sub(r"\{\w+\}", "org.acme.none", path), json=body)
            named = operation["x-wcp-roles"]
            code = answer.json()["code"] if answer.headers["content-type"] == "application/problem+json" else ""
            assert (code == "unauthenticated") == (bool(named) and role is None), (method, path)
            assert (code == "not-allowed") == (bool(named) and role is not None and role not in named), (method, path)
            assert str(answer.status_code) in operation["responses"], (method, path, answer.status_code)


def test_every_member_of_an_answer_is_described(world: World, document: Any) -> None:
    def call(who: str | None, method: str, path: str, body: Any = None, /, **names: str) -> Any:
        """Ask, and compare the answer with the document; strictly, so that no member may be missing there."""
        answer = world(method, path.format(**names), who, body)
        operation = operations(document)[method.lower(), path.partition("?")[0]]
        (schema,) = (
            kind["schema"]
            for name, kind in operation["responses"][str(answer.status_code)]["content"].items()
            if name != "application/problem+json"
        )
        jsonschema.Draft202012Validator({**strict(schema), "components": components}).validate(answer.json())
        seen.add(operation["operationId"])
        return answer.json()

    def strict(schema: Any) -> Any:
        if isinstance(schema, list):
            return [strict(one) for one in schema]
        if not isinstance(schema, dict):
            return schema
        closed = {"additionalProperties": False} if schema.get("properties") and "type" in schema else {}
        return closed | {name: strict(one) for name, one in schema.items()}

    components, seen = strict(document["components"]), set[str]()
    # 1. Decisions and holds.
    request = {**a_request(capability_id=HELD, correlation_id=str(uuid.uuid4())), "tenant_id": "router"}
    parts = {name: request.pop(name) for name in ("data_label", "tenant_risk", "qos_class")}
    held = call("router", "POST", "/wcp/route", {**request, **parts})
    assert call("router", "POST", "/wcp/route", {"request": {}})["deny_code"] == "DENY_INVALID_INPUT"
    pending = {"pending_id": held["pending_approval_id"]}
    assert call("approver", "GET", "/wcp/approvals/pending")["count"] == 1
    call("router", "GET", "/wcp/approvals/{pending_id}", **pending)
    answer = {"pending_approval_id": held["pending_approval_id"], "decision": "approve", "reason": "looked at it"}
    call("approver", "POST", "/wcp/approvals/resolve", answer)
    assert len(call("router", "GET", "/wcp/approvals/{pending_id}", **pending)["grant"]) == 64
    again = call("router", "POST", "/wcp/route", {**request, **parts, "correlation_id": str(uuid.uuid4())})
    call("approver", "GET", "/wcp/approvals/{pending_id}/history", pending_id=again["pending_approval_id"])
    call("approver", "POST", "/wcp/approvals/escalate", {"pending_approval_id": again["pending_approval_id"]})
    asked = {"subject": {"type": "agent", "id": "a-17"}, "action": {"name": "invoke"}, "context": parts}
    resource = {"type": "capability", "id": "cap.doc.summarize"}
    call("router", "POST", "/access/v1/evaluation", {**asked, "resource": {**resource, "id": HELD}})
    call("router", "POST", "/access/v1/evaluations", {**asked, "evaluations": [{"resource": resource}, {}]})
    call(None, "GET", "/.well-known/authzen-configuration")
    for path in ("/wcp/capabilities", "/wcp/workers", "/wcp/health", "/health", "/readyz"):
        call("router", "GET", path)
    call("router", "GET", "/wcp/workers/{worker_id}", worker_id=WORKER)
    # 2. The registry.
    pair = {
        name: base64.b64encode((Path(world.package) / file).read_bytes()).decode()
        for name, file in (("manifest", "manifest.json"), ("signatures", "manifest.sig"))
    }
    call("publisher", "PUT", "/api/v1/workers/{worker_id}/attest", {}, worker_id=WORKER)
    call("publisher", "PUT", "/api/v1/workers/{worker_id}/attest", pair, worker_id=WORKER)
    assert call("reader", "GET", "/api/v1/verify/{worker_id}", worker_id=WORKER)["status"] == "active"
    call("reader", "GET", "/api/v1/ban-list")
    call("reader", "GET", "/api/v1/ban-list?counted=true")
    call("reader", "POST", "/api/v1/ban-list/report", {"sha256": BANNED, "reason": "sends documents away"})
    call("banner", "GET", "/api/v1/ban-list/reports")
    call(
        "banner", "POST", "/api/v1/ban-list/reports/{sha256}", {"decision": "confirm", "reason": "seen"}, sha256=BANNED
    )
    call("reader", "GET", "/api/v1/ban-lists/{name}", name="soc")
    call("router", "POST", "/api/v1/telemetry/decisions", {"decisions": [{}]})
    # 3. Operators.
    record = world.state.registry.lookup(WORKER)
    assert record is not None
    call(
        "operator", "PUT", "/admin/workers/{worker_id}",
        {**wire_of(record), "worker_id": "org.acme.second", "package_root": world.package},
        worker_id="org.acme.second",
    )  # fmt: skip
    call("operator", "PUT", "/admin/quarantine/{worker_id}", {"reason": "looked odd"}, worker_id="org.acme.second")
    call("operator", "GET", "/admin/quarantine")
    call("reader", "GET", "/receipts?limit=200&kind=decision")
    call("reader", "GET", "/receipts/head")
    for path in ("/receipts/{decision_id}", "/receipts/{decision_id}/proof"):
        call("reader", "GET", path, decision_id=held["decision_id"])
    others = {"putBanList", "withdraw", "clearQuarantine", "exportReceipts", "alive", "metrics", "openapi"}
    assert {one["operationId"] for one in operations(document).values()} == seen | others
