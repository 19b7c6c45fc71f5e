"""Which compliance level a worker's record reaches: Basic, Standard, Full.

    Basic      a worker id, a species, capabilities, a risk tier
    Standard   + required and implemented controls, allowed environments, an audit log and default deny among them
    Full       + all five blast dimensions, a privilege envelope, idempotency, and an artifact hash or receipts

It reads any record, also a malformed one, because its purpose is to list what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from wcp_route.domain.record import BlastRadius

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue

ComplianceLevel: TypeAlias = Literal["none", "basic", "standard", "full"]
LEVELS: Final[tuple[ComplianceLevel, ...]] = ("none", "basic", "standard", "full")


@dataclass(frozen=True, slots=True)
class Compliance:
    """What a record reaches.

    Attributes:
        level: the highest level whose requirements are all met.
        missing: by level, the requirements that are not met, in words.
    """

    level: ComplianceLevel
    missing: tuple[tuple[ComplianceLevel, tuple[str, ...]], ...]


def check_compliance(record: JsonObject) -> Compliance:
    """Tell which level a record reaches.

    Args:
        record: the parsed object; it may be malformed or incomplete.

    Returns:
        The level, and what is missing for the levels.
    """
    named = ("worker_id", "worker_species_id", "capabilities", "risk_tier")
    missing: tuple[tuple[ComplianceLevel, tuple[str, ...]], ...] = (
        ("basic", tuple(name for name in named if not record.get(name))),
        ("standard", tuple(_standard(record))),
        ("full", tuple(_full(record))),
    )
    level: ComplianceLevel = "none"
    for name, lacking in missing:
        if lacking:
            break
        level = name
    return Compliance(level, missing)


def _standard(record: JsonObject) -> list[str]:
    fields = ("required_controls", "currently_implements", "allowed_environments")
    lacking = [name for name in fields if not record.get(name)]
    names = [_folded(name) for field in fields[:2] for name in _texts(record.get(field))]
    if not any("audit-log" in name for name in names):
        lacking.append("a control with an audit log")
    if not any("default-deny" in name or "deny-default" in name for name in names):
        lacking.append("a control with default deny")
    return lacking


def _full(record: JsonObject) -> list[str]:
    blast = record.get("blast_radius")
    dimensions = [
        name for name in (each.name for each in fields(BlastRadius)) if not isinstance(blast, dict) or name not in blast
    ]
    lacking = [f"blast_radius.{name}" for name in dimensions]
    lacking += [name for name in ("privilege_envelope", "idempotency") if not record.get(name)]
    receipts = any("evidence-receipt" in _folded(name) for name in _texts(record.get("currently_implements")))
    if not record.get("artifact_hash") and not receipts:
        lacking.append("artifact_hash, or a control with evidence receipts")
    return lacking


def _texts(value: JsonValue) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _folded(name: str) -> str:
    return name.replace("_", "-").replace(".", "-")
