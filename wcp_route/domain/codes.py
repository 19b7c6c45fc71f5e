"""Why a request is refused or held: one closed table of codes.

The names are those of the earlier Python SDK; what the Go SDK calls otherwise is understood on input (`canonical`).
Each code says what happened, in one place, so telemetry, receipts, replies and documentation cannot differ.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import DenyCode as AttestCode

if TYPE_CHECKING:
    from collections.abc import Mapping


class Code(StrEnum):
    """Why a request is not dispatched. The values are stable: programs and dashboards may match on them."""

    # identity and input
    INVALID_INPUT = "DENY_INVALID_INPUT"
    MISSING_TENANT_ID = "DENY_MISSING_TENANT_ID"
    UNKNOWN_TENANT = "DENY_UNKNOWN_TENANT"
    ENV_NOT_ALLOWED = "DENY_ENV_NOT_ALLOWED"
    # rule
    SHADOW_RULES_DETECTED = "DENY_SHADOW_RULES_DETECTED"
    NO_MATCHING_RULE = "DENY_NO_MATCHING_RULE"
    MISSING_CORRELATION_ID = "DENY_MISSING_CORRELATION_ID"
    MISSING_POLICY_VERSION = "DENY_MISSING_POLICY_VERSION"
    MISSING_REQUIRED_CONTROLS = "DENY_MISSING_REQUIRED_CONTROLS"
    # worker
    NO_AVAILABLE_WORKER = "DENY_NO_AVAILABLE_WORKER"
    WORKER_QUARANTINED = "DENY_WORKER_QUARANTINED"
    WORKER_BANNED = "DENY_WORKER_BANNED"
    WORKER_REVOKED = "DENY_WORKER_REVOKED"
    BANLIST_STALE = "DENY_BANLIST_STALE"
    BANLIST_ROLLBACK = "DENY_BANLIST_ROLLBACK"
    ATTESTATION_UNCONFIGURED = "DENY_ATTESTATION_UNCONFIGURED"
    WORKER_ATTESTATION_MISSING = "DENY_WORKER_ATTESTATION_MISSING"
    WORKER_ATTESTATION_INVALID_HASH = "DENY_WORKER_ATTESTATION_INVALID_HASH"
    WORKER_HASH_UNAVAILABLE = "DENY_WORKER_HASH_UNAVAILABLE"
    WORKER_TAMPERED = "DENY_WORKER_TAMPERED"
    WORKER_UNTRUSTED = "DENY_WORKER_UNTRUSTED"
    PRIVILEGE_ENVELOPE_UNCONFIGURED = "DENY_PRIVILEGE_ENVELOPE_UNCONFIGURED"
    PRIVILEGE_ENVELOPE_VIOLATED = "DENY_PRIVILEGE_ENVELOPE_VIOLATED"
    # consequence
    CHAIN_BLAST_EXCEEDED = "DENY_CHAIN_BLAST_EXCEEDED"
    REQUIRES_HUMAN = "DENY_REQUIRES_HUMAN"
    POLICY_GATE_UNCONFIGURED = "DENY_POLICY_GATE_UNCONFIGURED"
    POLICY_GATE = "DENY_POLICY_GATE"
    POLICY_GATE_INVALID_RESPONSE = "DENY_POLICY_GATE_INVALID_RESPONSE"
    REQUIRES_HUMAN_APPROVAL = "DENY_REQUIRES_HUMAN_APPROVAL"
    APPROVAL_EXPIRED = "DENY_APPROVAL_EXPIRED"
    APPROVAL_INVALID = "DENY_APPROVAL_INVALID"
    # the router itself
    RECEIPT_UNAVAILABLE = "DENY_RECEIPT_UNAVAILABLE"
    INTERNAL_ERROR = "DENY_INTERNAL_ERROR"


# What the Go SDK says, and what it means here (also in its published vectors, tests/route/vectors).
ALIASES: Final[Mapping[str, Code]] = MappingProxyType(
    {
        "MISSING_CORRELATION_ID": Code.MISSING_CORRELATION_ID,
        "NO_AVAILABLE_WORKER": Code.NO_AVAILABLE_WORKER,
        "NO_WORKER_FOR_CAPABILITY": Code.NO_AVAILABLE_WORKER,
        "INVALID_BLAST_SCORE": Code.INVALID_INPUT,
        "INVALID_CAPABILITY_ID": Code.INVALID_INPUT,
        "INVALID_CORRELATION_ID": Code.INVALID_INPUT,
        "MISSING_CAPABILITY_ID": Code.INVALID_INPUT,
        "INVALID_ENV": Code.INVALID_INPUT,
        "INVALID_DATA_LABEL": Code.INVALID_INPUT,
        "INVALID_TENANT_RISK": Code.INVALID_INPUT,
        "INVALID_QOS_CLASS": Code.INVALID_INPUT,
        "INVALID_CONFIGURATION": Code.INTERNAL_ERROR,
        "POLICY_GATE_DENIED": Code.POLICY_GATE,
        "DENY_BLAST_SCORE_EXCEEDED": Code.REQUIRES_HUMAN,
        "DENY_PRIVILEGE_ENVELOPE_DENIED": Code.PRIVILEGE_ENVELOPE_VIOLATED,
    }
)

# What the package verifier says, as the router says it. The verifier's own code goes along as `attest_code`.
FROM_ATTEST: Final[Mapping[AttestCode, Code]] = MappingProxyType(
    {
        AttestCode.MANIFEST_MISSING: Code.WORKER_ATTESTATION_MISSING,
        AttestCode.SIGNATURE_MISSING: Code.WORKER_ATTESTATION_MISSING,
        AttestCode.MANIFEST_MALFORMED: Code.WORKER_TAMPERED,
        AttestCode.MANIFEST_ID_MISMATCH: Code.WORKER_TAMPERED,
        AttestCode.HASH_MISMATCH: Code.WORKER_TAMPERED,
        AttestCode.SIG_INVALID: Code.WORKER_TAMPERED,
        AttestCode.TREE_UNSAFE: Code.WORKER_TAMPERED,
        AttestCode.SIGNER_UNTRUSTED: Code.WORKER_UNTRUSTED,
        AttestCode.THRESHOLD_NOT_MET: Code.WORKER_UNTRUSTED,
        AttestCode.NAMESPACE_INVALID: Code.WORKER_UNTRUSTED,
        AttestCode.EXPIRED: Code.WORKER_UNTRUSTED,
        AttestCode.NOT_ACCEPTABLE: Code.WORKER_UNTRUSTED,
        AttestCode.BANNED: Code.WORKER_BANNED,
        AttestCode.BANS_UNUSABLE: Code.BANLIST_STALE,
        AttestCode.TRUST_UNUSABLE: Code.ATTESTATION_UNCONFIGURED,
        AttestCode.INTERNAL_ERROR: Code.INTERNAL_ERROR,
    }
)

# Failures that say something about the worker itself; a trust root that cannot be read does not.
QUARANTINING: Final = frozenset({Code.WORKER_ATTESTATION_MISSING, Code.WORKER_TAMPERED, Code.WORKER_UNTRUSTED})

_CODES: Final = {code.value: code for code in Code}


def canonical(text: str) -> Code | None:
    """Return the code that `text` names, in this table's spelling or in the Go SDK's; none when it names nothing."""
    return _CODES.get(text) or ALIASES.get(text)
