"""What can go wrong with a Hall's state, as errors that carry no database with them."""

from __future__ import annotations

from wcp_attest.base.errors import ConfigError, Error


class StateError(ConfigError):
    """The state cannot be used: missing, locked, full, damaged, readable by others, or of another kind."""


class StateBusy(StateError):
    """Another process writes to the state for longer than the caller could wait."""


class RegistryError(ConfigError):
    """The worker is enrolled already, or the registry takes no more."""


class ReceiptError(StateError):
    """Receipts could not be made durable; what they are about must not be acknowledged."""


class ApprovalError(Error):
    """A hold cannot be made or resolved, or a grant is not good."""


class ApprovalExpired(ApprovalError):
    """It was good once; its time is over, which is a denial."""


class ApprovalDenied(ApprovalError):
    """A human has denied this very request, or has taken it over; it is not asked again."""


class StateMoved(ApprovalError):
    """A decision was made from a hold or a grant that has changed since; decide again."""


class ReceiptsBroken(Error):
    """The receipts are not what was written.

    Attributes:
        kind: `edited`, `deleted`, `truncated`, `reordered`, `forked`, `unsealed` (in no batch), `unreadable`, or
            `signature`.
        position: of the first bad receipt in the store, from 1; where it should have stood when it is gone.
        stream: whose chain, empty when it cannot be told.
        seq: its number in that chain, 0 when it cannot be told.
    """

    def __init__(self, kind: str, position: int, detail: str, *, stream: str = "", seq: int = 0) -> None:
        name = f" ({stream} {seq})" if stream else ""
        super().__init__(f"receipt {position}{name} is the first bad one, {kind}: {detail}")
        self.kind, self.position, self.stream, self.seq = kind, position, stream, seq
