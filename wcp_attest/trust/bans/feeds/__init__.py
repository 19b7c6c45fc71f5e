"""Where lists come from. Each module is one kind of source; those that need the network are imported when used.

A feed brings bytes and says why it cannot; `wcp_attest.trust.bans.list_verifier` decides whether they are admitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

if TYPE_CHECKING:
    from wcp_attest.trust.bans.list_verifier import ListVerifier
    from wcp_attest.trust.bans.lookup import BanIndex

DEFAULT_TIMEOUT: Final = 20.0  # seconds in which a source has to bring its whole list; 64 MiB need some 27 Mbit/s


class SourceDown(Exception):
    """A source gave no complete answer; its cached copy may be used while it is fresh."""


@dataclass(frozen=True, slots=True)
class VerifiedList:
    """An admitted list.

    Attributes:
        source: the stable name of the source.
        index: the list.
        note: what an operator should know (`the source is down …`), else empty.
        ask_again_at: when the source is to be asked again, in seconds since the epoch; None for a file, which is read
            again when it changes.
        usable_until: when the source's own metadata expires, in seconds since the epoch; infinite where it has none.
    """

    source: str
    index: BanIndex
    note: str = ""
    ask_again_at: float | None = None
    usable_until: float = inf


class Feed(Protocol):
    """One source of a list.

    Attributes:
        remote: whether opening may ask a server.
    """

    remote: ClassVar[bool]

    @property
    def name(self) -> str:
        """The stable name of the source: its kind, a colon, and its place."""

    @property
    def files(self) -> tuple[str, ...]:
        """The local files that the list is read from."""

    def open(self, verifier: ListVerifier) -> VerifiedList:
        """Get the list, from the source or its cache, and have it admitted.

        Args:
            verifier: the conditions of this moment.

        Returns:
            The admitted list.

        Raises:
            BansUnusable: there is no list that is admitted.
        """
