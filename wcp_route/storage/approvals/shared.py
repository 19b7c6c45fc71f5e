"""What a hold can become, as pure functions; the stores keep it and make each step happen once.

pending ─approve▶ approved ─redeem▶ redeemed          deny ▶ denied          ban or quarantine ▶ cancelled
    └─escalate▶ pending, at the next level            time ▶ pending or approved, but no good any more
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from wcp_attest.base.errors import ConfigError, Error
from wcp_route.domain.values import LEVELS

if TYPE_CHECKING:
    from wcp_route.domain.decision import Hold
    from wcp_route.domain.values import Level

MAX_PENDING: Final = 10_000  # more than people can look at; a caller that retries must not fill the disk
MAX_TEXT: Final = 500  # characters of an operator's name or reason

Action: TypeAlias = Literal["approve", "deny", "escalate"]
State: TypeAlias = Literal["pending", "approved", "denied", "cancelled", "redeemed"]
STATES: Final[tuple[State, ...]] = ("pending", "approved", "denied", "cancelled", "redeemed")

# One message for a grant that is unknown, used, or somebody else's: whoever guesses learns nothing.
NO_GRANT: Final = "the approval grant is not good for this request"


class ApprovalError(Error):
    """A hold cannot be made or resolved, or a grant is not good."""


class ApprovalExpired(ApprovalError):
    """It was good once; its time is over, which is a denial."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """What came of a hold when somebody spoke.

    Attributes:
        pending_id: which hold.
        state: `approved`, `denied`, or `escalated` (it still waits, for a higher level).
        grant_id: with `approved`, what the caller must bring along with the same request, once; else empty. It is
            shown here and nowhere again.
        level: who has spoken, or with `escalated` who must speak now.
        expires_at_ms: until when the grant is good, or the hold waits; milliseconds since 1970.
    """

    pending_id: str
    state: Literal["approved", "denied", "escalated"]
    grant_id: str
    level: Level
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A hold with what has become of it.

    Attributes:
        hold: as it was made, at its present level.
        state: what has become of it.
        grant_hash: SHA-256 of the grant, hex; empty until it is approved. The grant itself is not kept.
    """

    hold: Hold
    state: State = "pending"
    grant_hash: str = ""


class ApprovalStore(Protocol):
    """Keeps holds until a human has spoken or their time is over. Every step happens once, whoever else tries."""

    def hold(self, hold: Hold) -> None:
        """Keep a hold. Raises `ApprovalError` when there are too many, or its id is known."""

    def resolve(self, pending_id: str, action: Action, *, by: str, at_ms: int, reason: str = "") -> Resolution:
        """Approve, deny or escalate. Raises `ApprovalExpired`, `ApprovalError` when it does not wait any more."""

    def redeem(
        self, grant_id: str, *, input_hash: str, worker_id: str, level: Level | None, at_ms: int, use: bool
    ) -> Hold:
        """Use a grant up (`use`), or only look whether it is good. Raises `ApprovalExpired`, `ApprovalError`."""

    def pending(self, at_ms: int) -> tuple[Hold, ...]:
        """Return what waits and is not expired, oldest first."""

    def get(self, pending_id: str) -> Hold | None:
        """Return a hold, whatever has become of it."""

    def state(self, pending_id: str) -> State | None:
        """Tell what has become of a hold."""

    def cancel_for(self, worker_id: str, *, by: str, at_ms: int) -> int:
        """End all holds and unused grants for a worker that is banned or in quarantine; tell how many."""

    def close(self) -> None:
        """Let go of everything."""


def new_grant() -> str:
    """Return 256 random bits as 64 hex digits."""
    return secrets.token_hex(32)


def hash_of(grant_id: str) -> str:
    """Return what is kept of a grant."""
    return sha256(grant_id.encode(errors="surrogatepass")).hexdigest()


def check_speaker(by: str) -> None:
    """Refuse a resolution without a name to it.

    Raises:
        ConfigError: the name is empty, too long, or not printable.
    """
    if not by.strip() or len(by) > MAX_TEXT or not by.isprintable():
        raise ConfigError("say who resolves the hold: a printable name of at most 500 characters")


def resolved(
    entry: Entry | None, action: Action, *, pending_id: str, at_ms: int, grant_id: str
) -> tuple[Entry, Resolution]:
    """Return what a hold becomes when somebody speaks.

    Args:
        entry: the hold, none when its id is unknown.
        action: what was said.
        pending_id: the id that was asked for.
        at_ms: when, milliseconds since 1970.
        grant_id: the grant that an approval gives.

    Raises:
        ApprovalError: the id is unknown, the hold does not wait any more, or there is no higher level.
        ApprovalExpired: its time is over.
    """
    if entry is None:
        raise ApprovalError(f"there is no hold {pending_id[:80]!r}")
    hold = entry.hold
    if entry.state != "pending":
        raise ApprovalError(f"hold {hold.pending_id} is {entry.state} already")
    if at_ms >= hold.expires_at_ms:
        raise ApprovalExpired(f"hold {hold.pending_id} has expired; the request is denied and must be made again")
    if action == "approve":
        after = replace(entry, state="approved", grant_hash=hash_of(grant_id))
        return after, Resolution(hold.pending_id, "approved", grant_id, hold.level, hold.expires_at_ms)
    if action == "deny":
        after = replace(entry, state="denied")
        return after, Resolution(hold.pending_id, "denied", "", hold.level, hold.expires_at_ms)
    if action == "escalate":
        after = replace(entry, hold=replace(hold, level=_next(hold.level)))
        return after, Resolution(hold.pending_id, "escalated", "", after.hold.level, hold.expires_at_ms)
    raise ConfigError(f"{action!r} is no resolution; use approve, deny or escalate")


def redeemable(
    entry: Entry | None, grant_id: str, *, input_hash: str, worker_id: str, level: Level | None, at_ms: int
) -> Hold:
    """Return the hold that a grant was given for, if it is good for this request and this worker now.

    Args:
        entry: what is kept under the grant's hash; none when nothing is.
        grant_id: what the caller brought.
        input_hash: of the request it is brought with.
        worker_id: that the request would go to.
        level: who must say now; none when nobody must. What a lower level has approved is not good.
        at_ms: when, milliseconds since 1970.

    Raises:
        ApprovalError: it is not.
        ApprovalExpired: it would be, but its time is over.
    """
    if entry is None or entry.state != "approved" or not hmac.compare_digest(entry.grant_hash, hash_of(grant_id)):
        raise ApprovalError(NO_GRANT)
    hold = entry.hold
    if not input_hash or (hold.input_hash, hold.worker_id) != (input_hash, worker_id):
        raise ApprovalError(NO_GRANT)
    if level is not None and LEVELS.index(hold.level) < LEVELS.index(level):
        raise ApprovalError(NO_GRANT)
    if at_ms >= hold.expires_at_ms:
        raise ApprovalExpired("the approval has expired; the request must be made again")
    return hold


def _next(level: Level) -> Level:
    above = LEVELS[LEVELS.index(level) + 1 :]
    if not above:
        raise ApprovalError(f"there is no level above {level}; approve or deny")
    return above[0]
