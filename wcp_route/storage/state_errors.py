"""Errors of a Hall's state. This module imports no database."""

from __future__ import annotations

from wcp_attest.base.errors import ConfigError, Error


class StateError(ConfigError):
    """The state cannot be used: missing, locked, full, damaged, readable by others, or not one of ours."""


class StateBusy(StateError):
    """Another process wrote to the state for longer than the caller could wait."""


class RegistryError(ConfigError):
    """The worker is enrolled already, or the registry takes no more."""


class ReceiptError(StateError):
    """Receipts could not be made durable; do not acknowledge their decisions or changes."""


class ApprovalError(Error):
    """A hold cannot be made or resolved, or a grant is not valid."""


class ApprovalExpired(ApprovalError):
    """A hold or grant has expired; this is a denial."""


class ApprovalDenied(ApprovalError):
    """A human has denied or taken over exactly this request; no human is asked again."""


class StateMoved(ApprovalError):
    """The registry, a hold or a grant has changed since the decision was made; decide again."""


class ReceiptsBroken(Error):
    """The receipts are not what was written.

    Attributes:
        kind: `edited`, `deleted`, `truncated`, `reordered`, `forked`, `unsealed` (in no batch), `unreadable`, or
            `signature`.
        position: the place of the first bad receipt in the store, from 1; when it is missing, the place it should have.
        stream: the stream of its chain, empty when it is not known.
        seq: its number in that chain, 0 when it is not known.
    """

    def __init__(self, kind: str, position: int, detail: str, *, stream: str = "", seq: int = 0) -> None:
        name = f" ({stream} {seq})" if stream else ""
        super().__init__(f"receipt {position}{name} is the first bad one, {kind}: {detail}")
        self.kind, self.position, self.stream, self.seq = kind, position, stream, seq
