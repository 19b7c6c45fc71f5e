"""The states of a hold, as pure functions over the ledger's state. The ledger makes each step happen once.

pending ─approve▶ approved ─redeem▶ redeemed          deny ▶ denied          ban, quarantine or enrolment ▶ cancelled
    └─escalate▶ pending, at the next level            time ▶ pending or approved, but no longer valid

An approval at `gatekeeper` gives a grant. At `executor` and `incident_commander` a human does the work, so an approval
there gives no grant. A request that a human denied or took over stays denied or taken over.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, TypeAlias
from unicodedata import normalize

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.values import LEVELS
from wcp_route.storage.state_errors import ApprovalError, ApprovalExpired

if TYPE_CHECKING:
    from wcp_route.domain.decision import Hold, Redemption
    from wcp_route.domain.values import Level

MAX_PENDING: Final = 10_000  # more than people can review; a caller that retries must not fill the disk
MAX_PENDING_OF_TENANT: Final = 500  # one tenant must not use up the limit for all
MAX_TEXT: Final = 500  # characters of an operator's name or reason

Action: TypeAlias = Literal["approve", "deny", "escalate"]
HoldState: TypeAlias = Literal["pending", "approved", "denied", "cancelled", "redeemed"]

# The same message for a grant that is unknown, used, or of another caller, so that a guess learns nothing.
NO_GRANT: Final = "the approval grant is not good for this request"
HUMAN_ACTS: Final = frozenset({"executor", "incident_commander"})  # levels at which a human does the work


@dataclass(frozen=True, slots=True)
class Approver:
    """The person who answers a hold, as the authentication names them.

    Attributes:
        name: the authenticated name; the requester and the enroller of the worker cannot approve.
        level: the highest level at which this person may approve.
        via: how the name was authenticated: `os-user`, `token`, `oidc`, `library`, …
    """

    name: str
    level: Level = "gatekeeper"
    via: str = "library"


@dataclass(frozen=True, slots=True)
class Resolution:
    """The result of an answer to a hold.

    Attributes:
        pending_id: the id of the hold, a UUID.
        state: `approved`, `denied`, or `escalated` (it still waits, now at a higher level).
        grant_id: with `approved`, the grant that the caller sends once with the same request. Empty in the other states
            and when a human does the work. The grant is shown only here.
        level: the level of the hold; with `escalated`, the new level.
        expires_at_ms: when the grant or the hold expires, milliseconds since 1970.
    """

    pending_id: str
    state: Literal["approved", "denied", "escalated"]
    grant_id: str
    level: Level
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class HoldEntry:
    """A hold with its state.

    Attributes:
        hold: the hold as it was made, with its current level.
        state: its state.
        grant_hash: SHA-256 of the grant, hex; empty when there is no grant. The grant itself is not stored.
        by: the person who answered last.
    """

    hold: Hold
    state: HoldState = "pending"
    grant_hash: str = ""
    by: str = ""


new_grant: Final = partial(secrets.token_hex, 32)  # 256 random bits as 64 hex digits


def hash_of(grant_id: str) -> str:
    """Return the SHA-256 of a grant in hex; only this is stored.

    Args:
        grant_id: the grant, 64 hex digits; empty for none.
    """
    return sha256(grant_id.encode(errors="surrogatepass")).hexdigest()


def check_name(name: str) -> None:
    """Refuse an answer or a change without a valid name.

    Args:
        name: the name of the person who answers or changes something.

    Raises:
        ConfigError: the name is empty, too long, or not printable.
    """
    if not name.strip() or len(name) > MAX_TEXT or not name.isprintable():
        raise ConfigError("say who does it: a printable name of at most 500 characters")


def _folded(name: str) -> str:
    """Return a name without what makes no other person: letter case, width, accents as marks of their own, spaces."""
    return "".join(normalize("NFKC", normalize("NFKC", name).casefold()).split())


def _check_approver(hold: Hold, by: Approver, enroller: str) -> None:
    """Refuse an approval by who asked for it or enrolled the worker (four eyes), or below the level of the hold."""
    others = (
        (hold.requester, "asked for it and cannot approve it"),
        (enroller, "enrolled the worker and cannot approve its request"),
    )
    for other, said in others:
        if other and _folded(by.name) == _folded(other):
            raise ApprovalError(f"{by.name} {said}; somebody else must")
    if LEVELS.index(by.level) < LEVELS.index(hold.level):
        raise ApprovalError(f"{by.name} may approve up to level {by.level}; this hold needs {hold.level}")


def check_answer(
    entry: HoldEntry | None, pending_id: str, action: Action, by: Approver, *, enroller: str, at_ms: int
) -> HoldEntry:
    """Return the hold if this person can give this answer now.

    Args:
        entry: the stored hold; None when the id is unknown.
        pending_id: the id of the hold, for messages.
        action: the answer.
        by: the person who answers.
        enroller: the person who enrolled the worker; empty when it is no longer enrolled.
        at_ms: the time of the answer, milliseconds since 1970.

    Raises:
        ApprovalExpired: the hold has expired.
        ApprovalError: the id is unknown; the hold no longer waits; this person made the request, enrolled the worker
            or may not approve at this level; or there is no higher level.
        ConfigError: `action` is not one of the three.
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
    if action == "approve":
        _check_approver(hold, by, enroller)
    if at_ms >= hold.expires_at_ms:
        raise ApprovalExpired(f"hold {hold.pending_id} has expired; the request is denied and must be made again")
    return entry


def check_grant(entry: HoldEntry | None, wanted: Redemption, record_digest: str) -> Hold:
    """Return the hold of a grant, if the grant is valid for exactly this request now.

    Args:
        entry: the hold stored under the grant's hash; None when the hash is unknown.
        wanted: the grant and the request it is used for.
        record_digest: the digest of the worker's current record.

    Raises:
        ApprovalError: the grant is not valid for this request.
        ApprovalExpired: the grant is for this request but has expired.
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
