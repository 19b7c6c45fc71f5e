"""What the clients of a worker registry call: /api/v1/…, all three bodies of the earlier clients.

The registry cannot forge. It keeps a pair (manifest and signatures) only when the pair is valid under the Hall's own
trust policy, and returns it, so that a client checks the signers itself. A body without a pair is only a claim: the
registry answers it, and the worker stays `unknown`. A dishonest server can withhold a pair but cannot invent one.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final

from starlette.routing import Route

from wcp_attest import check_pair
from wcp_attest.base.errors import Banned, BansUnusable, ConfigError, Expired, VerificationError
from wcp_attest.base.identity import namespace_of
from wcp_route.service.context import CanonicalJSON, context_of, endpoint, json_of, principal_of, working
from wcp_route.service.pair_store import MAX_PAIR_BYTES, WORKER_ID
from wcp_route.service.problems import Problem, not_found

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from wcp_attest import Policy, SignedManifest
    from wcp_route.service.context import Context

SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


def _standing(context: Context, worker_id: str) -> dict[str, Any]:
    """Say what is known of a worker now: the kept pair is judged again, with today's policy, bans and clock."""
    body: dict[str, Any] = {"worker_id": worker_id, "status": "unknown", "banned": False, "ai_generated": False}
    pair = context.pairs.get(worker_id)
    if pair is None or context.trust is None:
        return body
    signed: SignedManifest | None = None
    try:
        signed = check_pair(*pair, context.trust)
    except Banned as refusal:
        body |= {"status": "banned", "banned": True, "ban_reason": str(refusal)[:500]}
    except (BansUnusable, ConfigError) as problem:  # an unreachable list never means "not banned"
        raise Problem(503, "bans-unusable", str(problem)[:300], {"retry-after": "30"}) from None
    except (Expired, VerificationError) as refusal:
        body |= {"status": "revoked", "ban_reason": str(refusal)[:500]}
    if signed is not None:
        body |= {"status": "active", "current_hash": signed.package_hash, "attested_at": signed.signed_at_utc}
        if signed.ai is not None:
            body |= {
                "ai_generated": signed.ai.generated,
                "ai_service": signed.ai.service,
                "ai_model": signed.ai.model,
                "ai_session_fingerprint": signed.ai.session_fingerprint,
            }
    if worker_id in context.state.registry.snapshot().quarantined and body["status"] == "active":
        body["status"] = "revoked"
    return body | {
        name: base64.b64encode(part).decode() for name, part in zip(("manifest", "signatures"), pair, strict=True)
    }


@endpoint
async def verify(request: Request) -> Response:
    """GET /api/v1/verify/{worker}.

    Roles: `reader`, `router`, `publisher`, `operator`; nobody needs a token where `open_to_all` names `standing`.

    Problems: 401, 403, or 503 when bans cannot be known.
    """
    context = context_of(request)
    principal_of(request, "reader", "router", "publisher", "operator", open_as="standing")
    return CanonicalJSON(await working(lambda: _standing(context, request.path_params["worker_id"])))


@endpoint
async def attest(request: Request) -> Response:
    """PUT /api/v1/workers/{worker}/attest: a pair is kept when it is good; anything else is a claim.

    Roles: `publisher`.

    Problems: 400 a malformed body or another worker's manifest, 401, 403 another namespace, or 409 when the pair is
    not good or the one that is kept was signed later.
    """
    context, principal = context_of(request), principal_of(request, "publisher")
    worker_id, body = request.path_params["worker_id"], await json_of(request)
    if not WORKER_ID.match(worker_id):
        raise not_found()
    digest = body.get("package_hash", body.get("sha256"))
    if digest is not None and (not isinstance(digest, str) or not SHA256.match(digest.lower())):
        raise Problem(400, "malformed", "the hash must be 64 hex digits")
    if body.get("worker_id", worker_id) != worker_id:
        raise Problem(400, "malformed", "the body names another worker than the path")
    answer = {
        "id": worker_id,
        "worker_id": worker_id,
        "sha256": digest,
        "package_hash": digest,
        "namespace": ".".join(worker_id.split(".")[:2]),
        "attested_at": None,
        "status": "unknown",
    }
    if "manifest" not in body and "signatures" not in body:
        return CanonicalJSON(answer)  # with 200, because the earlier Go client takes 202 for a failure
    pair = [decoded(body, name) for name in ("manifest", "signatures")]
    if context.trust is None:
        raise Problem(409, "no-policy", "this Hall has no trust policy, so no pair can be checked")
    trust = context.trust

    def keep() -> SignedManifest:
        signed = check_pair(pair[0], pair[1], trust)
        if signed.worker_id != worker_id:
            raise Problem(400, "other-worker", f"the manifest is of {signed.worker_id}")
        if namespace_of(worker_id) not in principal.namespaces and "operator" not in principal.roles:
            raise Problem(
                403, "other-namespace", f"you publish for {', '.join(principal.namespaces) or 'no namespace'}"
            )
        if digest is not None and digest.lower() != signed.package_hash:
            raise Problem(409, "other-package", "the hash in the body is not the one that the manifest states")
        kept = _kept(context, worker_id, trust)
        if kept is not None and kept.signed_at_utc > signed.signed_at_utc:
            raise Problem(409, "not-newer", f"here is a good pair that was signed later, at {kept.signed_at_utc}")
        context.pairs.put(worker_id, pair[0], pair[1])
        return signed

    signed = await working(keep)
    answer |= {
        "sha256": signed.package_hash,
        "package_hash": signed.package_hash,
        "attested_at": signed.signed_at_utc,
        "status": "active",
    }
    return CanonicalJSON(answer)


def _kept(context: Context, worker_id: str, trust: Policy) -> SignedManifest | None:
    """Return what is kept of a worker when it is still good: an older pair must not take its place."""
    pair = context.pairs.get(worker_id)
    try:
        return None if pair is None else check_pair(*pair, trust)
    except (ConfigError, VerificationError):
        return None


def decoded(body: dict[str, Any], name: str) -> bytes:
    """Return the bytes of a file that a body carries in base64.

    Args:
        body: the body.
        name: of the field.

    Raises:
        Problem: 400, it is missing, too long, or no base64.
    """
    value = body.get(name)
    if not isinstance(value, str) or len(value) > MAX_PAIR_BYTES:
        raise Problem(400, "malformed", f"`{name}` must be the file in base64")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise Problem(400, "malformed", f"`{name}` is not base64") from None


@endpoint
async def decisions(request: Request) -> Response:
    """POST /api/v1/telemetry/decisions: earlier clients send counts; they are looked at and not kept.

    Roles: `router`, `reader`, `publisher`.

    Problems: 400 a malformed body, 401 or 403.
    """
    principal_of(request, "router", "reader", "publisher")
    body = await json_of(request)
    if not isinstance(body.get("decisions"), list):
        raise Problem(400, "malformed", "`decisions` must be a list")
    return CanonicalJSON({"received": len(body["decisions"])}, 202)


ROUTES: Final = [
    Route("/api/v1/verify/{worker_id}", verify),
    Route("/api/v1/workers/{worker_id}/attest", attest, methods=["PUT"]),
    Route("/api/v1/telemetry/decisions", decisions, methods=["POST"]),
]
