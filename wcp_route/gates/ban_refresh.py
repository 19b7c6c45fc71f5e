"""Fetches ban lists from servers in the background while a Hall is open, so that no decision waits for a server.

Each source is asked twice per refresh interval (`refresh` in the policy's `[bans]`). Until the first round is over, and
after a fork, decisions ask the sources themselves, within their own deadline.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from wcp_attest.bans import BansCondition

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest import Policy
    from wcp_attest.bans import ListRefresher


class BanRefresh:
    """Asks the servers of one trust policy until `end` is called or the object is no longer referenced.

    Args:
        policy: the trust policy; with None no server is asked.

    Attributes:
        end: call it to stop asking; it does not wait for the current round.
    """

    def __init__(self, policy: Policy | None) -> None:
        conditions = () if policy is None else policy.conditions
        remote = [each for each in conditions if isinstance(each, BansCondition) and each.remote]
        self._refreshers = [each.refresher(each.refresh_seconds / 2).start(ask_now=False) for each in remote]
        self.end = weakref.finalize(self, _end, self._refreshers)

    def after_fork(self) -> None:
        """Stop asking in a forked child, because a fork does not copy the threads."""
        for refresher in self._refreshers:
            refresher.forget()


def _end(refreshers: Iterable[ListRefresher]) -> None:
    for refresher in refreshers:
        refresher.end()
