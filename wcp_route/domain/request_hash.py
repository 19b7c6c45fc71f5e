"""The two hashes of a request: of its payload, and of the whole request without the credential (conformance row 15).

An approval is bound to the second hash; a receipt holds both. They are SHA-256 over canonical JSON (RFC 8785). Strict
ids need no escaping, so the payload is encoded once and the canonical envelope is built around it from fixed parts. A
test compares this short cut with `canonical_json`.
"""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.values import RouteInput

MAX_PAYLOAD_BYTES: Final = 1 << 20  # canonical; large data travels by reference


def envelope(request: RouteInput) -> JsonObject:
    """Return everything that a human approves: what is asked, without the credential, real or rehearsed (`dry_run`)."""
    blast = request.blast_radius
    return {
        "blast_radius": None if blast is None else asdict(blast),
        "blast_score": request.blast_score,
        "capability_id": request.capability_id,
        "chain_id": request.chain_id,
        "correlation_id": request.correlation_id,
        "data_label": request.data_label,
        "env": request.env,
        "policy_version": request.policy_version,
        "privilege_context": request.privilege_context,
        "qos_class": request.qos_class,
        "request": request.request,
        "tenant_id": request.tenant_id,
        "tenant_risk": request.tenant_risk,
    }


def fingerprints(request: RouteInput) -> tuple[str, str]:
    """Return `sha256:` of the payload and `sha256:` of the envelope.

    Raises:
        ConfigError: the payload is larger than 1 MiB, or holds what JSON cannot carry.
    """
    payload = canonical_json(request.request)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ConfigError(f"the payload is larger than {MAX_PAYLOAD_BYTES} bytes; send a reference")
    whole = _short(request, payload) or canonical_json(envelope(request))
    return "sha256:" + sha256(payload).hexdigest(), "sha256:" + sha256(whole).hexdigest()


def _short(request: RouteInput, payload: bytes) -> bytes | None:
    """Return the canonical envelope of the usual request; None for one with the rarer fields."""
    if request.reported or request.blast_radius is not None or request.privilege_context is not None:
        return None  # a reported id may need escaping; all other ids are strict
    score = "null" if request.blast_score is None else request.blast_score
    head = (
        f'{{"blast_radius":null,"blast_score":{score},"capability_id":"{request.capability_id}",'
        f'"chain_id":"{request.chain_id}","correlation_id":"{request.correlation_id}",'
        f'"data_label":"{request.data_label}","env":"{request.env}","policy_version":"{request.policy_version}",'
        f'"privilege_context":null,"qos_class":"{request.qos_class}","request":'
    )
    tail = f',"tenant_id":"{request.tenant_id}","tenant_risk":"{request.tenant_risk}"}}'
    return head.encode() + payload + tail.encode()
