"""What a hold can become, as pure functions over the ledger's state; the ledger makes each step happen once.

pending ─approve▶ approved ─redeem▶ redeemed          deny ▶ denied          ban, quarantine or enrolment ▶ cancelled
    └─escalate▶ pending, at the next level            time ▶ pending or approved, but no good any more

An approval at `gatekeeper` gives a grant. At `executor` and `incident_commander` a human does the work, so an approval
there gives none. What a human denied or took over stays so for the same request.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.values import LEVELS
from wcp_route.storage.state_errors import ApprovalError, ApprovalExpired

if TYPE_CHECKING:
    from wcp_route.domain.decision import Hold, Redemption
    from wcp_route.domain.values import Level

MAX_PENDING: Final = 10_000  # more than people can look at; a caller that retries must not fill the disk
MAX_PENDING_OF_TENANT: Final = 500  # one tenant must not use up what all have
MAX_TEXT: Final = 500  # characters of an operator's name or reason

Action: TypeAlias = Literal["approve", "deny", "escalate"]
HoldState: TypeAlias = Literal["pending", "approved", "denied", "cancelled", "redeemed"]

# One message for a grant that is unknown, used, or somebody else's: a guess tells nothing.
NO_GRANT: Final = "the approval grant is not good for this request"
HUMAN_ACTS: Final = frozenset({"executor", "incident_commander"})  # levels at which a human does the work


@dataclass(frozen=True, slots=True)
class Approver:
    """Who answers a hold, as whatever authenticated them says.

    Attributes:
        name: the authenticated name; the requester and the enroller of the worker cannot approve.
        level: up to which level this person may approve.
        via: how the name is known: `os-user`, `token`, `oidc`, `library`, …
    """

    name: str
    level: Level = "gatekeeper"
    via: str = "library"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What came of a hold when somebody answered.

    Attributes:
        pending_id: which hold.
        state: `approved`, `denied`, or `escalated` (it still waits, for a higher level).
        grant_id: with `approved`, what the caller must bring along with the same request, once; else empty. Empty, too,
            when a human does the work. It is shown here and nowhere again.
        level: who has answered, or with `escalated` who must answer now.
        expires_at_ms: until when the grant is good, or the hold waits; milliseconds since 1970.
    """

    pending_id: str
    state: Literal["approved", "denied", "escalated"]
    grant_id: str
    level: Level
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class HoldEntry:
    """A hold with what has become of it.

    Attributes:
        hold: as it was made, at its present level.
        state: what has become of it.
        grant_hash: SHA-256 of the grant, hex; empty until it is approved. The grant itself is not kept.
        by: who answered last.
    """

    hold: Hold
    state: HoldState = "pending"
    grant_hash: str = ""
    by: str = ""


new_grant: Final = partial(secrets.token_hex, 32)  # 256 random bits as 64 hex digits


def hash_of(grant_id: str) -> str:
    """Return what is kept of a grant.

    Args:
        grant_id: the grant, 64 hex digits; empty for none.
    """
    return sha256(grant_id.encode(errors="surrogatepass")).hexdigest()


def check_name(name: str) -> None:
    """Refuse an answer or a change without a name to it.

    Args:
        name: of who answers or changes something.

    Raises:
        ConfigError: the name is empty, too long, or not printable.
    """
    if not name.strip() or len(name) > MAX_TEXT or not name.isprintable():
        raise ConfigError("say who does it: a printable name of at most 500 characters")


def check_answer(
    entry: HoldEntry | None, pending_id: str, action: Action, by: Approver, *, enroller: str, at_ms: int
) -> HoldEntry:
    """Return the hold, unless this person cannot give this answer to it now.

    Args:
        entry: what is kept under the id; None when nothing is.
        pending_id: which hold was meant, for messages.
        action: the answer.
        by: who gives it.
        enroller: who enrolled the worker; empty when it is not enrolled any more.
        at_ms: when, milliseconds since 1970.

    Raises:
        ApprovalExpired: its time is over.
        ApprovalError: the id is unknown, the hold does not wait any more, the person asked for it or enrolled the
            worker, or may not approve at this level, or there is no higher level.
        ConfigError: the action is none.
    """
    if action not in ("approve", "deny", "escalate"):
        raise ConfigError(f"{action!r} is no answer; use approve, deny or escalate")
    if entry is None:
        raise ApprovalError(f"there is no hold {pending_id[:80]!r}")
    hold = entry.hold
    if entry.state != "pending":
        raise ApprovalError(f"hold {hold.pending_id} is {entry.state} already")
    if action == "escalate" and hold.level == LEVELS[-1]:
        raise ApprovalError(f"there is no level above {hold.level}; approve or deny")
    others = (
        (hold.requester, "asked for it and cannot approve it"),
        (enroller, "enrolled the worker and cannot approve its request"),
    )
    for other, said in others if action == "approve" else ():  # capitals and spaces around do not make another name
        if other and by.name.strip().casefold() == other.strip().casefold():
            raise ApprovalError(f"{by.name} {said}; somebody else must")
    if action == "approve" and LEVELS.index(by.level) < LEVELS.index(hold.level):
        raise ApprovalError(f"{by.name} may approve up to level {by.level}; this hold needs {hold.level}")
    if at_ms >= hold.expires_at_ms:
        raise ApprovalExpired(f"hold {hold.pending_id} has expired; the request is denied and must be made again")
    return entry


def check_grant(entry: HoldEntry | None, wanted: Redemption, record_digest: str) -> Hold:
    """Return the hold that a grant was given for, if it is good for this very request now.

    Args:
        entry: what is kept under the grant's hash; none when nothing is.
        wanted: the grant and what it is brought for.
        record_digest: of the worker's record as it is enrolled now.

    Raises:
        ApprovalError: it is not good.
        ApprovalExpired: it would be, but its time is over.
    """
    known = entry is not None and entry.state == "approved" and bool(entry.grant_hash)
    if entry is None or not known or not hmac.compare_digest(entry.grant_hash, hash_of(wanted.grant_id)):
        raise ApprovalError(NO_GRANT)
    hold = entry.hold
    approved = (hold.input_hash, hold.worker_id, hold.rule_id, hold.rules_digest, hold.manifest_sha256)
    brought = (wanted.input_hash, wanted.worker_id, wanted.rule_id, wanted.rules_digest, wanted.manifest_sha256)
    if not wanted.input_hash or approved != brought or hold.record_digest != record_digest:
        raise ApprovalError(NO_GRANT)
    if wanted.level is not None and LEVELS.index(hold.level) < LEVELS.index(wanted.level):
        raise ApprovalError(NO_GRANT)
    if wanted.at_ms >= hold.expires_at_ms:
        raise ApprovalExpired("the approval has expired; the request must be made again")
    return hold
