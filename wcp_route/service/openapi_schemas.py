"""The objects of the OpenAPI document that are made for HTTP alone: bodies and answers.

The request for work, the decision and the record of a worker are not here. They come from the tables that read and
write them (`wcp_route.json_schemas`).
"""

from __future__ import annotations

from typing import Any, Final

from wcp_route.domain.values import LEVELS
from wcp_route.service.openapi_words import DIGEST, MEANINGS, MOMENT, UUID, WORKER
from wcp_route.storage.registry import MAX_REASON

MOMENT_MS: Final = 1795872038779


def text(about: str, example: str = "", **more: Any) -> dict[str, Any]:
    """Return the schema of a text.

    Args:
        about: what it means.
        example: of it; empty for none.
        more: further keywords, such as `maxLength`.
    """
    return {"type": "string", "description": about, **({"examples": [example]} if example else {}), **more}


def one_of(about: str, *values: str) -> dict[str, Any]:
    """Return the schema of a text that has one of the values.

    Args:
        about: what it means.
        values: all that it can be.
    """
    return {"type": "string", "description": about, "enum": [*values]}


def listed(about: str, items: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the schema of a list.

    Args:
        about: what it means.
        items: schema of each item.
        more: further keywords, such as `maxItems`.
    """
    return {"type": "array", "description": about, "items": items, **more}


def made_of(about: str, optional: tuple[str, ...] = (), /, **members: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an object.

    Args:
        about: what it is.
        optional: the members that may be absent.
        members: by name.
    """
    needed = [name for name in members if name not in optional]
    return {"type": "object", "description": about, "required": needed, "properties": members}


def ref(name: str) -> dict[str, str]:
    """Return a reference to one of the components.

    Args:
        name: of the component.
    """
    return {"$ref": f"#/components/schemas/{name}"}


_FLAG: Final = {"type": "boolean"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_MS: Final = {"type": "integer", "minimum": 0, "examples": [MOMENT_MS]}
_HEX: Final = {"pattern": "^[0-9a-fA-F]{64}$"}
_TRUE: Final = {"const": True, "description": "Always true."}
_FILE: Final = {"contentEncoding": "base64"}
REASON: Final = text(
    f"Why, for people: one line of at most {MAX_REASON} characters. It goes into the receipt.",
    "seen in the logs",
    maxLength=MAX_REASON,
)
NEEDED_REASON: Final = {**REASON, "minLength": 1}
HOW_MANY: Final = {**_COUNT, "description": "How many there are in the list."}

_PENDING_ID: Final = text("The id of the hold (UUID).", UUID)
_LEVEL: Final = one_of("Which level must answer; at `executor` and above a person does the work.", *LEVELS)
_SHA256: Final = text("SHA-256 of the package, 64 hex digits.", DIGEST)
_REVIEW: Final = one_of("What the ban authority says.", "pending", "confirmed", "dismissed")
_ROW: Final = made_of(
    "A receipt and its place.",
    seq={"type": "integer", "minimum": 1, "description": "Its number in the stream."},
    stream=text("The chain that it is in: a tenant, or `!state` for the Hall's own.", "platform"),
    receipt={"type": "object", "description": "What was hashed. Its members: schema `receipt` of this project."},
)
_AI: Final = {
    "ai_service": "Which service made it, as the manifest says.",
    "ai_model": "Which model made it, as the manifest says.",
    "ai_session_fingerprint": "In which session it was made, as the manifest says.",
}
_EVALUATION: Final[dict[str, Any]] = {
    "subject": ref("AuthZenPart"),
    "action": made_of("What is done. It is recorded; no decision depends on it.", name=text("Its name.", "invoke")),
    "resource": ref("AuthZenPart"),
    "context": {
        "type": "object",
        "description": "The other fields of a request for work: `data_label`, `tenant_risk`, `qos_class`, "
        "`correlation_id`, `request`, …; they may stand in `resource.properties`, too.",
        "examples": [{"data_label": "INTERNAL", "tenant_risk": "low", "qos_class": "P2"}],
    },
}

COMPONENTS: Final[dict[str, dict[str, Any]]] = {
    "Problem": made_of(
        "An error (RFC 9457). Programs look at `code`, people at `detail`.",
        type=text("A URI that ends in the code.", "https://workerclassprotocol.dev/problems/not-found"),
        title=text("The name of the status.", "Not Found"),
        status={"type": "integer", "minimum": 400, "maximum": 599, "description": "HTTP status.", "examples": [404]},
        code=text("Which error it is. New codes may come.", "not-found"),
        detail=text("One sentence: what is wrong, and what to do.", "there is nothing of that name here"),
    ),
    "Capabilities": made_of(
        "What can be asked for.",
        capabilities=listed("By id.", made_of(
            "One capability.",
            capability_id=MEANINGS["capability_id"],
            worker_species=listed("The species that can do it, sorted.", {"type": "string"}),
        )),
        count=HOW_MANY,
    ),
    "Worker": made_of(
        "What a tenant may know of a worker: no path, no hash, no secret.",
        **{name: MEANINGS[name] for name in ("worker_id", "worker_species_id")},
        capabilities=listed(MEANINGS["capabilities"]["description"], {"type": "string"}),
        risk_tier=one_of("How risky the worker is.", "low", "medium", "high", "critical"),
        allowed_environments=listed(MEANINGS["allowed_environments"]["description"], {"type": "string"}),
        status=one_of("A worker in quarantine is not dispatched.", "active", "quarantined"),
    ),
    "Workers": made_of("The enrolled workers.", workers=listed("By id.", ref("Worker")), count=HOW_MANY),
    "Health": made_of(
        "Whether the service works.",
        ok={**_FLAG, "description": "Whether nothing is wrong."},
        status=one_of("`degraded`: changed files cannot be used; the earlier ones are in force.", "ok", "degraded"),
        version=text("The version of the program.", "0.1.0"),
    ),
    "Hold": made_of(
        "A request that waits for a person, or waited.",
        ("grant",),
        pending_approval_id=_PENDING_ID,
        state=one_of(
            "`redeemed`: its grant was used. `cancelled`: the worker was banned, quarantined or enrolled again.",
            "pending", "approved", "denied", "cancelled", "redeemed", "expired",
        ),
        supervisor_level=_LEVEL,
        code=MEANINGS["code"],
        reason=text("Why a person must answer.", "the rule always wants a human"),
        worker_id=MEANINGS["worker_id"],
        capability_id=MEANINGS["capability_id"],
        tenant_id=MEANINGS["tenant_id"],
        correlation_id=MEANINGS["correlation_id"],
        rule_id=text("The rule that matched.", "rule-1"),
        blast_score={"type": ["integer", "null"], "minimum": 0, "maximum": 100, **MEANINGS["blast_score"]},
        tenant_risk=MEANINGS["tenant_risk"],
        data_label=MEANINGS["data_label"],
        policy_version=MEANINGS["policy_version"],
        created_at_ms={**_MS, "description": "When it was asked for, milliseconds since 1970."},
        approval_expires_at_ms={**_MS, "description": "When the hold and its grant end, milliseconds since 1970."},
        grant=text("For its requester, once approved: send it as `x-wcp-grant` with the very same request.", DIGEST),
    ),
    "Holds": made_of("What waits for a person.", pending=listed("Oldest first.", ref("Hold")), count=HOW_MANY),
    "Escalation": made_of("Which hold, and why.", ("reason",), pending_approval_id=_PENDING_ID, reason=REASON),
    "Resolution": made_of(
        "An answer to a hold.",
        ("reason",),
        pending_approval_id=_PENDING_ID,
        decision=one_of("`escalate` hands it to the next higher level.", "approve", "deny", "escalate"),
        reason=REASON,
    ),
    "Resolved": made_of(
        "The hold afterwards.",
        pending_approval_id=_PENDING_ID,
        state=one_of("`escalated`: it still waits, at the next level.", "approved", "denied", "escalated"),
        supervisor_level=_LEVEL,
        approval_expires_at_ms={**_MS, "description": "When the hold and its grant end, milliseconds since 1970."},
    ),
    "History": made_of(
        "What was answered before to the same worker and capability.",
        answers=listed("Newest first, at most five.", made_of(
            "One answer.",
            at=text("When: RFC 3339, UTC.", MOMENT),
            by=text("Who answered.", "ada"),
            reason=text("Why.", "looked at it"),
            outcome=one_of("What was answered.", "approved", "denied"),
        )),
        changed={
            "type": ["array", "null"],
            "items": {"type": "string"},
            "description": "What is not as at the last approval, in words; null when nobody has approved it.",
            "examples": [["the package"]],
        },
        events=listed("What happened to the worker since then, newest first, at most ten.", made_of(
            "One event.",
            at=text("When: RFC 3339, UTC.", MOMENT),
            kind=one_of(
                "What.", "worker.enrolled", "worker.withdrawn", "worker.quarantined", "worker.cleared"
            ),
            by=text("Who did it.", "olga"),
        )),
        complete={**_FLAG, "description": "Whether nothing is so old that it was not looked at: 1,000 of a kind are."},
    ),
    "AuthZenPart": made_of(
        "A subject, which is recorded only, or a resource: the capability.",
        ("properties",),
        type=text("Of which kind.", "capability", minLength=1),
        id=text("Which one. Of a resource: the capability id.", "cap.doc.summarize", minLength=1),
        properties={"type": "object", "description": "Further fields of the request for work; see `context`."},
    ),
    "Evaluation": made_of("A request for access (AuthZEN 1.0, section 6.1).", ("context",), **_EVALUATION),
    "Evaluations": made_of(
        "A batch (AuthZEN 1.0, section 7.1). What an evaluation leaves out is taken from the members beside the list.",
        (*_EVALUATION, "evaluations", "options"),
        **_EVALUATION,
        evaluations=listed(
            "Without the list, the members beside it are a single evaluation.", {"type": "object"}, maxItems=100
        ),
        options=made_of(
            "How the batch is evaluated.",
            ("evaluations_semantic",),
            evaluations_semantic={
                **one_of("After which answer to stop.", "execute_all", "deny_on_first_deny", "permit_on_first_permit"),
                "default": "execute_all",
            },
        ),
    ),
    "Evaluated": made_of(
        "A decision in AuthZEN's words (section 6.2).",
        decision={**_FLAG, "description": "Whether the worker may run. A hold is `false`."},
        context=made_of(
            "Why.",
            ("outcome", "decision_id", "worker_id", "reason", "pending_approval_id", "error"),
            outcome=MEANINGS["outcome"],
            decision_id=MEANINGS["decision_id"],
            worker_id=MEANINGS["worker_id"],
            reason=made_of("Why not.", code=MEANINGS["deny_code"], message=MEANINGS["message"]),
            pending_approval_id=MEANINGS["pending_approval_id"],
            error=made_of(
                "In a batch: this evaluation is malformed.",
                status={"type": "integer", "description": "As of a single evaluation.", "examples": [400]},
                message=text("What is wrong.", "`resource` must be an object with type and id"),
            ),
        ),
    ),
    "AllEvaluated": made_of(
        "The answers to a batch; to a single evaluation its own answer.",
        ("evaluations", "decision", "context"),
        evaluations=listed("In the order of the batch; shorter when it stopped.", ref("Evaluated")),
        decision={**_FLAG, "description": "As in `Evaluated`, when the batch had no list."},
        context={"type": "object", "description": "As in `Evaluated`, when the batch had no list."},
    ),
    "AuthZenConfiguration": made_of(
        "Where the endpoints are (AuthZEN 1.0, section 9).",
        **{
            name: text(about, f"https://hall.example{path}")
            for name, about, path in (
                ("policy_decision_point", "The address of the Hall.", ""),
                ("access_evaluation_endpoint", "For one evaluation.", "/access/v1/evaluation"),
                ("access_evaluations_endpoint", "For a batch.", "/access/v1/evaluations"),
            )
        },
    ),
    "Standing": made_of(
        "What the registry knows of a worker now. Verify `manifest` and `signatures` yourself.",
        ("ban_reason", "current_hash", "attested_at", *_AI, "manifest", "signatures"),
        worker_id=MEANINGS["worker_id"],
        status=one_of(
            "`unknown`: no pair is kept. `revoked`: it does not verify any more, or is in quarantine.",
            "active", "unknown", "revoked", "banned",
        ),
        banned={**_FLAG, "description": "Whether a ban list names the worker or its package."},
        ban_reason=text("Why it is banned or revoked.", "stolen"),
        current_hash=_SHA256,
        attested_at=text("When the pair was signed: RFC 3339, UTC.", "2026-11-28T13:20:38Z"),
        ai_generated={**_FLAG, "description": "Whether the signed manifest says that an AI made it."},
        **{name: {"type": ["string", "null"], "description": about} for name, about in _AI.items()},
        manifest=text("`manifest.json` in base64.", **_FILE),
        signatures=text("`manifest.sig` in base64.", **_FILE),
    ),
    "Attestation": made_of(
        "A pair to keep. Without `manifest` and `signatures` it is a claim, which is answered and not kept.",
        ("worker_id", "manifest", "signatures", "package_hash", "sha256"),
        worker_id=text("The same id as in the path.", WORKER),
        manifest=text("`manifest.json` in base64.", **_FILE),
        signatures=text("`manifest.sig` in base64.", **_FILE),
        package_hash=text("The hash that the manifest states, 64 hex digits.", DIGEST, **_HEX),
        sha256=text("The same, as earlier clients name it.", DIGEST, **_HEX),
    ),
    "Attested": made_of(
        "What became of it.",
        id=MEANINGS["worker_id"],
        worker_id=MEANINGS["worker_id"],
        sha256={"type": ["string", "null"], "description": "The same as `package_hash`."},
        package_hash={"type": ["string", "null"], "description": "SHA-256 of the package; of a claim, as claimed."},
        namespace=text("The first two parts of the worker id.", "org.example"),
        attested_at={"type": ["string", "null"], "description": "When it was signed: RFC 3339, UTC; of a claim null."},
        status=one_of("`unknown`: a claim, which is not kept.", "active", "unknown"),
    ),
    "BanRows": {
        "description": "Every banned package of the lists that the Hall serves, whole: a bare list, or with "
        "`counted=true` an object that says how many there are.",
        "anyOf": [
            made_of(
                "The rows.",
                entries=listed("All of them.", ref("BanRow")),
                total={**_COUNT, "description": "How many there are."},
                has_more={"const": False, "description": "Always false: nothing is left out."},
            ),
            {"type": "array", "items": ref("BanRow")},
        ],
    },
    "BanRow": made_of(
        "A banned package.",
        sha256=_SHA256,
        reason=text("Why.", "stolen"),
        reported_at=text("When it was banned: RFC 3339, UTC.", "2026-11-01T00:00:00Z"),
        source=text("Who says so.", "example-soc"),
        review_status={"const": "confirmed", "description": "Always `confirmed`: the list is signed."},
    ),
    "Report": made_of(
        "A package that should be banned.",
        ("evidence_url",),
        sha256=text("SHA-256 of the package, 64 hex digits.", DIGEST, **_HEX),
        reason=NEEDED_REASON,
        evidence_url=text("A page that says more.", "https://soc.example/1", maxLength=MAX_REASON),
    ),
    "Reported": made_of("What is kept.", sha256=_SHA256, review_status=_REVIEW),
    "Reports": made_of(
        "The reports.",
        reports=listed("Oldest first.", made_of(
            "One report.",
            sha256=_SHA256,
            reason=text("Why it should be banned.", "sends documents away"),
            reported_by=text("Who reported it.", "rita"),
            reported_at_ms={**_MS, "description": "When, milliseconds since 1970."},
            evidence_url=text("A page that says more; empty for none."),
            review_status=_REVIEW,
            reviewed_by=text("Who reviewed it; empty while it is pending."),
            review=text("Why; empty while it is pending."),
            listed={**_FLAG, "description": "Whether a list that this Hall serves bans the package by now."},
        )),
        count=HOW_MANY,
    ),
    "Review": made_of(
        "What the ban authority says.",
        ("reason",),
        decision=one_of("Neither bans anything: only a signed list does.", "confirm", "dismiss"),
        reason=REASON,
    ),
    "Reviewed": made_of(
        "The report afterwards.",
        ("next",),
        sha256=_SHA256,
        review_status=_REVIEW,
        next=text("After `confirm`: the command that adds the ban to a list, on the machine that has the key."),
    ),
    "BanList": {"type": "object", "description": "Byte for byte as it was signed. Its members: schema `bans`."},
    "SignedList": made_of(
        "A later version of the list and its signatures.",
        list=text("The list (`bans.json`) in base64.", **_FILE),
        signatures=text("Its signatures (`bans.json.sig`) in base64.", **_FILE),
    ),
    "ListPut": made_of(
        "What is served now.",
        name=text("Of the list, as in the path.", "soc"),
        version={"type": "integer", "minimum": 1, "description": "Of the list."},
        by=text("Who put it.", "soc"),
    ),
    "Enrolled": made_of("It is enrolled.", worker_id=MEANINGS["worker_id"], enrolled=_TRUE),
    "Quarantine": made_of("Why the worker must not run.", reason=NEEDED_REASON),
    "Quarantined": made_of(
        "It is in quarantine. When it was already, the first reason stays.",
        worker_id=MEANINGS["worker_id"],
        quarantined=_TRUE,
    ),
    "InQuarantine": made_of(
        "The workers in quarantine.",
        quarantined=listed("By id.", made_of(
            "One worker.",
            worker_id=MEANINGS["worker_id"],
            reason=text("Why.", "looked odd"),
            by=text("Who did it.", "olga"),
            since_ms={**_MS, "description": "Since when, milliseconds since 1970."},
        )),
        count=HOW_MANY,
    ),
    "Receipts": made_of("Receipts.", receipts=listed("Newest first.", _ROW), count=HOW_MANY),
    "ReceiptsOfOne": made_of("The receipts about one decision or hold.", receipts=listed("Newest first.", _ROW)),
    "SignedBatch": made_of(
        "A batch of receipts: a DSSE envelope.",
        payloadType={"const": "application/vnd.wcp.receipt-batch.v2+json", "description": "Its type."},
        payload=text("The batch in base64: JSON, whose `hashes` are the SHA-256 of each receipt in it.", **_FILE),
        signatures=listed("Of the Hall's receipt key.", made_of(
            "One signature.",
            keyid=text("SHA-256 of the public key.", DIGEST),
            sig=text("Ed25519, in base64.", **_FILE),
        )),
    ),
    "Proof": made_of(
        "A receipt that can be verified alone.", body=text("Its bytes in base64.", **_FILE), batch=ref("SignedBatch")
    ),
    "Counts": made_of("Counts of an earlier client.", decisions=listed("Anything.", {"type": "object"})),
    "Counted": made_of("They are not kept.", received={**_COUNT, "description": "How many there were."}),
    "Ready": made_of(
        "Whether the service can decide.",
        ready={**_FLAG, "description": "Whether nothing is missing."},
        missing={
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "Why not: `bans`, `database`, `oidc`, `receipts`, `reload`, each with a sentence. Readers "
            "and operators see the reason in full.",
            "examples": [{"bans": "a ban list is missing or stale"}],
        },
    ),
}  # fmt: skip
