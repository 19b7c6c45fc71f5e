"""How much a request can break, on the protocol's two scales, which are kept apart (conformance row 10).

*Situational*, 0 to 100: the data, the environment, and what the request says it does. The caller may raise this score
but not lower it.

    10                                  + 10 for P0
    + 20 INTERNAL or 40 RESTRICTED      + 15 when request.egress or request.external_call
    + 15 in prod or edge                + 15 when request.writes or request.mutates_state        at most 100

*Declared*, 0 to 25: five dimensions that the worker's record declares; the caller may raise each. The scores of a chain
are added up: requests with the same `chain_id`, or without one but with the same `correlation_id`.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from wcp_route.domain.record import BlastRadius
from wcp_route.domain.values import GUARDED_ENVS, MAX_SCORE

if TYPE_CHECKING:
    from wcp_route.domain.values import RouteInput

_LABEL: Final = {"PUBLIC": 0, "INTERNAL": 20, "RESTRICTED": 40}

MAX_CHAINS: Final = 100_000  # open at a time; a full table refuses new chains and does not forget old ones
MAX_CORRELATIONS: Final = 256  # sums kept per tenant; older ones are forgotten
MAX_TENANTS: Final = 1000  # with such sums; the tenant that has been silent for longest is forgotten
MAX_CHAINS_OF_TENANT: Final = 1000  # so that one tenant cannot fill the table for all
CHAIN_SECONDS: Final = 24 * 3600  # after the last request of a chain


def situational(request: RouteInput) -> int:
    """Return the situational score of a request, 0 to 100 (the formula stands at the head of this module).

    Args:
        request: what is asked, checked.
    """
    payload = request.request
    score = 10 + _LABEL[request.data_label]
    score += 15 if request.env in GUARDED_ENVS else 0
    score += 10 if request.qos_class == "P0" else 0
    score += 15 if payload.get("egress") or payload.get("external_call") else 0
    score += 15 if payload.get("writes") or payload.get("mutates_state") else 0
    score = min(score, MAX_SCORE)
    return score if request.blast_score is None else max(score, request.blast_score)


def declared(worker: BlastRadius, caller: BlastRadius | None) -> int:
    """Return the declared score, 0 to 25: the sum over the dimensions of the higher of the two values.

    Args:
        worker: what the worker's record declares.
        caller: what the request says; None when it says nothing.
    """
    if caller is None:
        return worker.total
    return BlastRadius(
        data=max(worker.data, caller.data),
        network=max(worker.network, caller.network),
        financial=max(worker.financial, caller.financial),
        time=max(worker.time, caller.time),
        reversibility=max(worker.reversibility, caller.reversibility),
    ).total


UNNAMED: Final = "\0"  # prefix of a correlation id that stands for a chain; no chain id begins with it


def chain_of(request: RouteInput) -> tuple[str, str] | None:
    """Return the chain that a request belongs to; None when it names neither a chain nor a correlation.

    A caller must not avoid the sum by leaving `chain_id` out, so such requests are grouped by their correlation id.

    Args:
        request: what is asked, checked.

    Returns:
        Tenant id and chain id.
    """
    if request.chain_id:
        return request.tenant_id, request.chain_id
    return (request.tenant_id, UNNAMED + request.correlation_id) if request.correlation_id else None


class Chains:
    """The sum of each open chain so far. Each Hall has its own: chains do not span processes."""

    def __init__(self) -> None:
        self._unnamed: OrderedDict[str, OrderedDict[str, tuple[int, int]]] = OrderedDict()
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[str, str], tuple[int, int]] = OrderedDict()
        self._of_tenant: dict[str, int] = {}

    def reserve(
        self, chain: tuple[str, str], score: int, limit: int | None, now_ms: int, *, keep: bool = True
    ) -> tuple[str, int]:
        """Add a score to a chain if the sum stays within the limit.

        Args:
            chain: tenant id and chain id.
            score: declared, 0 to 25.
            limit: the highest sum allowed; None for no limit.
            now_ms: milliseconds since 1970.
            keep: whether to add it; False only checks.

        Returns:
            Why the score does not fit (empty when it fits), and the sum with this score.
        """
        with self._lock:
            if chain[1].startswith(UNNAMED):
                return self._add_unnamed(chain, score, limit, now_ms, keep=keep)
            while self._open:  # 1. Forget chains that had no request for a day, oldest first.
                oldest, (_, at_ms) = next(iter(self._open.items()))
                if now_ms - at_ms <= CHAIN_SECONDS * 1000:
                    break
                self._drop(oldest)
            # 2. Check that the score fits under the limit and that there is room for a new chain.
            total = self._open.get(chain, (0, 0))[0] + score
            if limit is not None and total > limit:
                return f"the declared scores of the chain add up to {total}, allowed are {limit}", total
            if chain not in self._open:
                if self._of_tenant.get(chain[0], 0) >= MAX_CHAINS_OF_TENANT:
                    return f"the tenant has {MAX_CHAINS_OF_TENANT} open chains, the most it may have", total
                if len(self._open) >= MAX_CHAINS:
                    return f"this Hall has {MAX_CHAINS} open chains, the most it keeps", total
            if keep:  # 3. Add the score.
                if chain not in self._open:
                    self._of_tenant[chain[0]] = self._of_tenant.get(chain[0], 0) + 1
                self._open[chain] = (total, now_ms)
                self._open.move_to_end(chain)
            return "", total

    def _add_unnamed(
        self, chain: tuple[str, str], score: int, limit: int | None, now_ms: int, *, keep: bool
    ) -> tuple[str, int]:
        """Add to the sum of a correlation id. When there are too many, the oldest are forgotten; none is refused."""
        of_tenant = self._unnamed.get(chain[0], OrderedDict())
        before, at_ms = of_tenant.get(chain[1], (0, now_ms))
        total = score + (before if now_ms - at_ms <= CHAIN_SECONDS * 1000 else 0)
        if limit is not None and total > limit:
            return (
                f"the declared scores of the requests with this correlation id add up to {total}, allowed are {limit}",
                total,
            )
        if keep:
            of_tenant[chain[1]] = (total, now_ms)
            of_tenant.move_to_end(chain[1])
            self._unnamed[chain[0]] = of_tenant
            self._unnamed.move_to_end(chain[0])
            for kept, most in ((of_tenant, MAX_CORRELATIONS), (self._unnamed, MAX_TENANTS)):
                if len(kept) > most:
                    kept.popitem(last=False)
        return "", total

    def release(self, chain: tuple[str, str], score: int) -> None:
        """Take back what was reserved for a request that was not dispatched.

        Args:
            chain: tenant id and chain id, as for `reserve`.
            score: the declared score that was added.
        """
        with self._lock:
            if chain[1].startswith(UNNAMED):
                of_tenant = self._unnamed.get(chain[0], OrderedDict())
                if chain[1] in of_tenant:
                    total, at_ms = of_tenant[chain[1]]
                    of_tenant[chain[1]] = (max(0, total - score), at_ms)
                return
            total, at_ms = self._open.get(chain, (score, 0))
            if total > score:
                self._open[chain] = (total - score, at_ms)
            elif chain in self._open:
                self._drop(chain)

    def _drop(self, chain: tuple[str, str]) -> None:
        del self._open[chain]
        left = self._of_tenant.get(chain[0], 1) - 1
        if left:
            self._of_tenant[chain[0]] = left
        else:
            self._of_tenant.pop(chain[0], None)


class Rates:
    """How many requests each tenant made in the current second. Each Hall counts for itself.

    Args:
        per_second: the most that one tenant may make; None for no limit.
    """

    def __init__(self, per_second: int | None) -> None:
        self._per_second = per_second
        self._lock = threading.Lock()
        self._second = 0
        self._made: dict[str, int] = {}

    def admits(self, tenant_id: str) -> bool:
        """Count one request of a tenant, and tell whether it may be decided.

        Args:
            tenant_id: the tenant that sent the request.
        """
        if self._per_second is None:
            return True
        second = int(time.monotonic())
        with self._lock:
            if second != self._second or len(self._made) > MAX_CHAINS:
                self._second = second
                self._made.clear()
            made = self._made[tenant_id] = self._made.get(tenant_id, 0) + 1
        return made <= self._per_second
