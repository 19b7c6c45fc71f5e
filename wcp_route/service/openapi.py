"""The OpenAPI 3.1 document: every path but the pages and the gateways' catch-all, for people who write a client."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import wcp_attest
from wcp_route.domain.values import LEVELS
from wcp_route.json_schemas import schema_of
from wcp_route.service.limits import MAX_BODY_UNKNOWN, MAX_HEADER_BYTES, MAX_HEADERS
from wcp_route.service.openapi_schemas import COMPONENTS, one_of, ref, text
from wcp_route.service.openapi_words import DIGEST, MEANINGS, MOMENT, UUID, WORKER
from wcp_route.service.operators import MAX_SHOWN
from wcp_route.service.problems import MAX_BODY
from wcp_route.storage.registry import MAX_REASON

if TYPE_CHECKING:
    from collections.abc import Mapping

ABOUT: Final = f"""A Hall decides which worker may do a piece of work, and keeps a signed receipt of each decision.

**Who asks.** Send `Authorization: Bearer …` with each request, but to the paths that need no token. The token says who
you are and which roles you have; each operation names the roles of which one is enough.

**A request for work.** `POST /wcp/route`. `DISPATCH` names the worker to run. After `STEWARD_HOLD` poll
`GET /wcp/approvals/{{pending_id}}`; once it is approved, send the very same request again with the grant in
`x-wcp-grant`. `DENY` is an answer, too: the status is 200.

**Errors** are `application/problem+json`. After 429 and 503 wait as long as `Retry-After` says. A decision that was not
answered may have been made: its receipt is found by its correlation id.

**Bounds.** A body has at most {MAX_BODY} bytes ({MAX_BODY_UNKNOWN} until the caller is known). Members that are not
described are refused in a request for work and in the record of a worker. Answers may get further members; pass over
those that you do not know. Each answer has an `x-request-id`, under which the service's log has it.

`/ext-authz/…` is for gateways that speak Envoy's HTTP external authorisation: any method, 200 or 403, with
`x-wcp-capability`, `x-wcp-data-label`, `x-wcp-tenant-risk` and `x-wcp-qos-class` in the request's header.
"""
TAGS: Final = {
    "work": "Ask for decisions, and what can be asked for.",
    "approvals": "Requests that wait for a person.",
    "gateways": "AuthZEN 1.0 (OpenID).",
    "registry": "Standing of workers, ban lists, reports.",
    "operators": "Enrolment, quarantine, receipts.",
    "machines": "Health, readiness, metrics. No token is needed.",
}
_JSON: Final = "application/json"
_PROBLEM: Final = {"application/problem+json": {"schema": ref("Problem")}}
_RETRY: Final = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
# What any request can be answered with, and who is not known or may not.
COMMON: Final[dict[str, Any]] = {
    "400": ("BadRequest", "The request cannot be understood (`malformed`, `ambiguous-length`, `cut-short`).", {}),
    "408": ("TooSlow", "The body did not arrive in time (`too-slow`).", {}),
    "413": ("TooLarge", "The body is too large (`too-large`).", {}),
    "421": ("UnknownHost", "The `Host` header names no host of this service (`unknown-host`).", {}),
    "429": ("Busy", "Too many requests wait (`busy`).", _RETRY),
    "431": ("HeadersTooLarge", f"More than {MAX_HEADERS} headers or {MAX_HEADER_BYTES} bytes of them.", {}),
    "500": ("Failed", "The service failed (`internal-error`); its log says why.", {}),
    "503": ("Unavailable", "The state or a ban list cannot be used, or the service is stopping.", _RETRY),
}
_NEEDS_TOKEN: Final[dict[str, Any]] = {
    "401": ("Unauthenticated", "No valid token (`unauthenticated`).", {}),
    "403": ("NotAllowed", "The caller has none of the roles (`not-allowed`), or may not do this.", {}),
}
_NEEDS_JSON: Final[dict[str, Any]] = {
    "415": ("WrongType", "The body is not sent as `application/json` (`wrong-type`).", {})
}
_PATH_PARAMETERS: Final = {
    "worker_id": text("The id of the worker.", WORKER, maxLength=128),
    "pending_id": text("The id of the hold (UUID): `pending_approval_id` of the decision.", UUID),
    "decision_id": text(
        "The id of a decision, receipt or hold, a correlation id, or the hash of a receipt (`sha256:…`).", UUID
    ),
    "sha256": text("SHA-256 of the reported package, 64 lower-case hex digits.", DIGEST),
    "name": text("The name of the list in the settings; with `.sig` behind it, its signatures.", "soc", maxLength=132),
}
_GRANT: Final = {
    "name": "x-wcp-grant",
    "in": "header",
    "description": "The grant of an approved hold, with the very same request. It is good once.",
    "schema": {"type": "string", "examples": [DIGEST]},
}
_ECHO: Final = {
    "name": "x-request-id",
    "in": "header",
    "description": "Your id of this request: 1 to 128 printable ASCII characters. The answer has the same one.",
    "schema": {"type": "string", "examples": [UUID]},
}
_KNOWN: Final = {
    "name": "if-none-match",
    "in": "header",
    "description": "The `ETag` of the last answer. When nothing has changed, the answer is 304 without a body.",
    "schema": {"type": "string", "examples": [f'"{DIGEST[:32]}"']},
}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": schema["description"], "schema": schema}


_FILTERS: Final = [
    _query("worker", text("Only those about this worker.", WORKER)),
    _query("tenant", text("Only those of this tenant.", "platform")),
    _query("outcome", one_of("Only decisions with this outcome.", "DISPATCH", "DENY", "STEWARD_HOLD")),
    _query("code", text("Only decisions with this code.", "DENY_WORKER_BANNED")),
    _query("kind", text("Only those of this kind: `decision`, `approval.held`, `worker.quarantined`, …", "decision")),
    _query("since", text("Not before this time: RFC 3339; without an offset it is UTC.", MOMENT)),
    _query("until", text("Before this time: RFC 3339; without an offset it is UTC.", MOMENT)),
    _query("limit", {
        "type": "integer", "description": "How many at most.", "minimum": 1, "maximum": MAX_SHOWN, "default": 50,
    }),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        tag: one of `TAGS`.
        name: for generated clients.
        summary: for people.
        roles: of which one is enough; none for an operation that needs no token.
        body: the name of a component; empty for none.
        answer: the name of a component; empty for text.
        status: of an answer that is no problem.
        kind: media type of that answer.
        parameters: in the query and the header.
        about: what else to know.
        also: by status, what else it can mean here, and the component of that answer.
        problems: by status, what a problem means here, beside what it means everywhere.
        open_as: what `open_to_all` must name so that nobody needs a token.
    """

    tag: str
    name: str
    summary: str
    roles: tuple[str, ...] = ()
    body: str = ""
    answer: str = ""
    status: str = "200"
    kind: str = _JSON
    parameters: tuple[dict[str, Any], ...] = ()
    about: str = ""
    also: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    open_as: str = ""

    def described(self) -> dict[str, Any]:
        """Return the operation as OpenAPI has it."""
        needs = f"Roles: {', '.join(f'`{role}`' for role in self.roles)}." if self.roles else "No token is needed."
        if self.open_as:
            needs += f' With `open_to_all = ["{self.open_as}"]` in its settings the Hall asks for no token.'
        found: dict[str, Any] = {
            "operationId": self.name,
            "tags": [self.tag],
            "summary": self.summary,
            "description": f"{self.about} {needs}".strip(),
            "x-wcp-roles": [*self.roles],
            "parameters": [*self.parameters],
            "responses": self._responses(),
        }
        if self.body:
            found["requestBody"] = {"required": True, "content": {_JSON: {"schema": ref(self.body)}}}
        if self.open_as or not self.roles:
            found["security"] = [{}, {"token": []}] if self.open_as else []
        return found

    def _responses(self) -> dict[str, Any]:
        needs_json = _NEEDS_JSON if self.body and self.tag != "gateways" else {}  # there it is 400, as AuthZEN says
        common = COMMON | (_NEEDS_TOKEN if self.roles else {}) | needs_json
        found: dict[str, Any] = {
            number: {"$ref": f"#/components/responses/{name}"} for number, (name, _, _) in common.items()
        }
        found |= {number: {"description": why, "content": _PROBLEM} for number, why in self.problems.items()}
        for number, (why, answer) in self.also.items():
            content = {_JSON: {"schema": ref(answer)}, **(_PROBLEM if number in common else {})}
            found[number] = {"description": why, "content": content}
        good: dict[str, Any] = {"description": self.summary}
        if self.status != "204":
            good["content"] = {self.kind: {"schema": ref(self.answer) if self.answer else {"type": "string"}}}
        if _KNOWN in self.parameters:
            good["headers"] = {"ETag": {"description": "Changes with the answer.", "schema": {"type": "string"}}}
            found["304"] = {"description": "Nothing has changed.", "headers": good["headers"]}
        return dict(sorted((found | {self.status: good}).items()))


_READERS: Final = ("reader", "router", "publisher", "banner", "operator")
_NO_WORKER: Final = {"404": "There is no such worker (`not-found`)."}
_NO_HOLD: Final = {"404": "There is no such hold, or it is another tenant's (`not-found`)."}
_ANSWERING: Final = {
    "403": "The caller is no `approver`, no person, or has no level (`not-allowed`, `not-a-person`).",
    "409": "There is no such hold, it does not wait any more, the caller's level is too low, or the caller asked for "
    "the work or enrolled the worker (`refused`).",
}
_PATHS: Final[dict[str, dict[str, Operation]]] = {
    "/wcp/route": {"post": Operation(
        "work", "route", "Decide on a request for work", roles=("router",),
        body="RouteInput", answer="RouteDecision", parameters=(_GRANT,),
        about="A denied and a held request are answered with 200, too: look at `outcome`. The receipt is on the disk "
        "before the answer goes out.",
        also={"400": ("The request is malformed: a denial (`DENY_INVALID_INPUT`), or a problem.", "RouteDecision")},
        problems={"403": "The caller is no `router` (`not-allowed`), or names another tenant (`other-tenant`)."},
    )},
    "/wcp/capabilities": {"get": Operation(
        "work", "capabilities", "What can be asked for", roles=("router", "reader", "operator"), answer="Capabilities",
    )},
    "/wcp/workers": {"get": Operation(
        "work", "workers", "Enrolled workers", roles=("router", "reader", "operator"), answer="Workers",
    )},
    "/wcp/workers/{worker_id}": {"get": Operation(
        "work", "worker", "One worker", roles=("router", "reader", "operator"), answer="Worker", problems=_NO_WORKER,
    )},
    "/wcp/health": {"get": Operation("machines", "health", "Health, as the protocol describes it", answer="Health")},
    "/health": {"get": Operation("machines", "registryHealth", "Health, as earlier clients ask", answer="Health")},
    "/wcp/approvals/pending": {"get": Operation(
        "approvals", "pendingApprovals", "Holds that wait", roles=("approver", "operator"),
        answer="Holds", parameters=(_KNOWN,),
    )},
    "/wcp/approvals/resolve": {"post": Operation(
        "approvals", "resolveApproval", "Answer a hold", roles=("approver",),
        body="Resolution", answer="Resolved", problems=_ANSWERING,
        about=f"A person only, up to the level of the token ({', '.join(LEVELS)}). Who asked for the work, or enrolled "
        "the worker, cannot approve it.",
    )},
    "/wcp/approvals/escalate": {"post": Operation(
        "approvals", "escalateApproval", "Hand a hold to the next level", roles=("approver",),
        body="Escalation", answer="Resolved", problems=_ANSWERING,
    )},
    "/wcp/approvals/{pending_id}": {"get": Operation(
        "approvals", "approval", "Poll a hold", roles=("router", "approver", "operator"),
        answer="Hold", problems=_NO_HOLD,
        about="A `router` sees its own holds only, and its grant once it is approved. While the hold waits, the answer "
        "has `Retry-After`: seconds until you ask again.",
    )},
    "/wcp/approvals/{pending_id}/history": {"get": Operation(
        "approvals", "approvalHistory", "Earlier answers to the same work, and what changed since",
        roles=("approver", "operator"), answer="History", problems=_NO_HOLD,
    )},
    "/access/v1/evaluation": {"post": Operation(
        "gateways", "evaluate", "One evaluation (AuthZEN)", roles=("router",),
        body="Evaluation", answer="Evaluated", parameters=(_GRANT, _ECHO),
    )},
    "/access/v1/evaluations": {"post": Operation(
        "gateways", "evaluateAll", "A batch of evaluations (AuthZEN)", roles=("router",),
        body="Evaluations", answer="AllEvaluated", parameters=(_ECHO,),
    )},
    "/.well-known/authzen-configuration": {"get": Operation(
        "gateways", "authzenConfiguration", "Where the AuthZEN endpoints are", answer="AuthZenConfiguration",
    )},
    "/api/v1/verify/{worker_id}": {"get": Operation(
        "registry", "standing", "Standing of a worker", roles=("reader", "router", "publisher", "operator"),
        answer="Standing", open_as="standing",
        about="The kept pair is verified again, with the policy, the bans and the time of now. A worker that nobody "
        "handed in is `unknown`.",
        problems={"404": "No worker can have such an id (`not-found`)."},
    )},
    "/api/v1/workers/{worker_id}/attest": {"put": Operation(
        "registry", "attest", "Hand in the pair of a worker", roles=("publisher",),
        body="Attestation", answer="Attested",
        about="Manifest and signatures are kept when they verify under the Hall's own policy. A claim without a pair "
        "is answered (`unknown`) and not kept.",
        problems={
            "403": "The caller is no `publisher` (`not-allowed`), or not of this namespace.",
            "404": "No worker can have such an id (`not-found`).",
            "409": "The pair does not verify (`refused`), the hash is another (`other-package`), or the Hall has no "
            "policy (`no-policy`).",
        },
    )},
    "/api/v1/ban-list": {"get": Operation(
        "registry", "bannedPackages", "Banned packages", roles=_READERS, answer="BanRows", open_as="bans",
        parameters=(
            _query("counted", one_of("`true`: all of them, with their number.", "true", "false")),
            _query("limit", {**text("How many you can read without `counted`.", "500"), "default": "500"}),
        ),
        problems={"422": "Without `counted`: there are more than `limit` (`too-long`)."},
    )},
    "/api/v1/ban-list/report": {"post": Operation(
        "registry", "reportPackage", "Report a package that should be banned", roles=_READERS,
        body="Report", answer="Reported", status="202",
        about="A report bans nothing. The ban authority reviews it.",
    )},
    "/api/v1/ban-list/reports": {"get": Operation(
        "registry", "reports", "Reports, for the ban authority", roles=("banner", "operator"), answer="Reports",
    )},
    "/api/v1/ban-list/reports/{sha256}": {"post": Operation(
        "registry", "reviewReport", "Confirm or dismiss a report", roles=("banner",), body="Review", answer="Reviewed",
        problems={
            "403": "The caller is no `banner` (`not-allowed`), or no person (`not-a-person`).",
            "409": "Nobody has reported that package, or it was reviewed already (`refused`).",
        },
    )},
    "/api/v1/ban-lists/{name}": {
        "get": Operation(
            "registry", "banList", "A signed ban list, or its signatures", roles=_READERS,
            answer="BanList", open_as="bans", parameters=(_KNOWN,),
            problems={"404": "There is no such list (`not-found`)."},
        ),
        "put": Operation(
            "registry", "putBanList", "Put a later signed list", roles=("banner",), body="SignedList", answer="ListPut",
            about="The list is checked as a verifier with the Hall's policy would check it.",
            problems={
                "404": "There is no such list (`not-found`).",
                "409": "The signatures are not good (`refused`), the list here is as new (`not-newer`), or nobody may "
                "sign lists (`no-ban-signers`).",
            },
        ),
    },
    "/api/v1/telemetry/decisions": {"post": Operation(
        "registry", "telemetry", "Counts of earlier clients, which are not kept",
        roles=("router", "reader", "publisher"), body="Counts", answer="Counted", status="202",
    )},
    "/admin/workers/{worker_id}": {
        "put": Operation(
            "operators", "enroll", "Enroll a worker", roles=("operator",),
            body="Enrolment", answer="Enrolled", status="201",
            parameters=(_query("replace", {
                **one_of("`true` replaces the record of an enrolled worker.", "true", "false"), "default": "false",
            }),),
            problems={"409": "The worker is enrolled, and `replace` is not `true` (`refused`)."},
        ),
        "delete": Operation(
            "operators", "withdraw", "Withdraw a worker", roles=("operator",), status="204", problems=_NO_WORKER,
        ),
    },
    "/admin/quarantine": {"get": Operation(
        "operators", "quarantined", "Workers in quarantine, and why", roles=("reader", "approver", "operator"),
        answer="InQuarantine", parameters=(_KNOWN,),
    )},
    "/admin/quarantine/{worker_id}": {
        "put": Operation(
            "operators", "quarantine", "Put a worker into quarantine", roles=("operator",),
            body="Quarantine", answer="Quarantined",
            about="From the next decision on it is denied, whether it is enrolled or not.",
        ),
        "delete": Operation(
            "operators", "clearQuarantine", "End a quarantine", roles=("operator",), status="204",
            parameters=(_query("reason", text("Why, for the receipt.", "looked at it", maxLength=MAX_REASON)),),
            problems={"404": "The worker is not in quarantine (`not-found`)."},
        ),
    },
    "/receipts": {"get": Operation(
        "operators", "receipts", "Newest receipts", roles=("reader", "operator"),
        answer="Receipts", parameters=(*_FILTERS, _KNOWN),
    )},
    "/receipts/head": {"get": Operation(
        "operators", "head", "The signed end of the receipts", roles=("reader", "operator"), answer="SignedBatch",
        problems={"409": "The Hall has no receipt key (`not-signed`)."},
        about="Keep it elsewhere: with it, a database that was set back is refused.",
    )},
    "/receipts/export": {"get": Operation(
        "operators", "exportReceipts", "All receipts as JSON Lines", roles=("reader", "operator"),
        kind="application/jsonl",
        about="`wcp-route receipts verify --export FILE` checks them.",
    )},
    "/receipts/{decision_id}": {"get": Operation(
        "operators", "receipt", "The receipts about one decision or hold", roles=("reader", "operator"),
        answer="ReceiptsOfOne", problems={"404": "There is no such receipt (`not-found`)."},
    )},
    "/receipts/{decision_id}/proof": {"get": Operation(
        "operators", "proof", "The bytes of a receipt, and the signed batch that lists their hash",
        roles=("reader", "operator"), answer="Proof", problems={
            "404": "There is no such decision (`not-found`).", "409": "The Hall has no receipt key (`not-signed`).",
        },
        about="By decision id only.",
    )},
    "/healthz": {"get": Operation("machines", "alive", "The process answers", kind="text/plain")},
    "/readyz": {"get": Operation(
        "machines", "ready", "Readiness with reasons", answer="Ready", also={"503": ("Something is missing.", "Ready")},
    )},
    "/metrics": {"get": Operation("machines", "metrics", "Counters for Prometheus", kind="text/plain")},
    "/openapi.json": {"get": Operation("machines", "openapi", "This document", answer="OpenApi")},
}  # fmt: skip


@functools.cache
def document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document; request, decision and record are made from the tables of fields."""
    paths: dict[str, Any] = {}
    for path, operations in _PATHS.items():
        named = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        inside = [{"name": name, "in": "path", "required": True, "schema": _PATH_PARAMETERS[name]} for name in named]
        inside = [{**one, "description": one["schema"]["description"]} for one in inside]  # type: ignore[index]
        paths[path] = {
            method: replace(one, parameters=(*inside, *one.parameters)).described()
            for method, one in operations.items()
        }
    schemas = {**COMPONENTS, "OpenApi": {"type": "object", "description": "OpenAPI 3.1."}}
    for name, file in (
        ("RouteInput", "route-input"),
        ("RouteDecision", "route-decision"),
        ("Enrolment", "registry-record"),
    ):
        # The definitions of a published schema become components beside it.
        schema = json.loads(json.dumps(schema_of(file)).replace('"#/$defs/', '"#/components/schemas/'))
        for each, found in {name: schema, **schema.pop("$defs", {})}.items():
            _explain(found)
            schemas[each] = {key: value for key, value in found.items() if key not in {"$schema", "$id", "title"}}
    reason = schemas["RouteDecision"]["properties"]["deny_reason_if_denied"]["anyOf"][0]
    reason["additionalProperties"] = True  # each code has its own
    schemas["RouteInput"]["description"] = "A request for work. `tenant_id` may be left out: it is the caller's name."
    schemas["RouteInput"]["required"].remove("tenant_id")
    schemas["Enrolment"]["properties"]["package_root"] = {
        "type": "string", "pattern": "^/", "maxLength": 4096, **MEANINGS["package_root"],
    }  # fmt: skip
    schemas["Enrolment"]["required"].append("package_root")
    responses = {
        name: {"description": about, "content": _PROBLEM, **({"headers": headers} if headers else {})}
        for name, about, headers in (COMMON | _NEEDS_TOKEN | _NEEDS_JSON).values()
    }
    token = {"type": "http", "scheme": "bearer", "description": "A token of the settings, or of the OpenID provider."}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wcp-route: the Hall over HTTP",
            "version": wcp_attest.__version__,
            "description": ABOUT,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"token": []}],
        "tags": [{"name": name, "description": about} for name, about in TAGS.items()],
        "paths": paths,
        "components": {"schemas": schemas, "responses": responses, "securitySchemes": {"token": token}},
    }


def _explain(schema: dict[str, Any]) -> None:
    """Give each member of a schema, at any depth, its description and example instead of its bare title."""
    for name, member in schema.get("properties", {}).items():
        member.pop("title", None)
        if name in MEANINGS:
            member.update(MEANINGS[name])
        for inner in (member, member.get("items", {}), *member.get("anyOf", ())):
            _explain(inner)
