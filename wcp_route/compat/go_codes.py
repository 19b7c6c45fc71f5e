"""What the earlier Go SDK calls a denial, and what it is called here, for dashboards that match on both."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from wcp_route.domain.codes import Code

if TYPE_CHECKING:
    from collections.abc import Mapping

GO_CODES: Final[Mapping[str, Code]] = MappingProxyType(
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
