"""The earlier SDK's two hash callbacks, checked after the worker's package and never in its place."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_route.domain.codes import Code
from wcp_route.gates.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_route.domain.record import WorkerRecord
    from wcp_route.gates.attestation import Attested, Attestor, BansOfDecision

_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class LegacyHashes:
    """An attestor that asks the callbacks about a worker whose package was attested.

    Attributes:
        inner: attests the package.
        registered: returns the hash that a species should have, 64 lower-case hex digits.
        current: returns the hash that it has now.
    """

    inner: Attestor
    registered: Callable[[str], object] | None
    current: Callable[[str], object] | None

    @property
    def asks_bans(self) -> bool:
        """Whether any ban list is asked."""
        return self.inner.asks_bans

    def lists_now(self, now: float) -> None:
        """Return None, so that the decision is made under its deadline: a callback may take any time.

        Args:
            now: the time of the decision, seconds since the epoch.
        """
        del now

    def attest(self, worker: WorkerRecord, now: float, lists: BansOfDecision | None = None) -> Attested:
        """Attest a worker's package, then compare the two hashes.

        Args:
            worker: an enrolled worker.
            now: seconds since the epoch.
            lists: the ban lists of this decision.

        Raises:
            Refusal: the package is not attested, a callback is missing, or the hashes are none or differ.
        """
        attested = self.inner.attest(worker, now, lists)
        if self.registered is None or self.current is None:
            raise Refusal(Code.ATTESTATION_UNCONFIGURED, "one of the two hash callbacks is missing")
        who = {"worker_id": worker.worker_id, "worker_species_id": worker.worker_species_id}
        found = []
        for name, callback in (("registered", self.registered), ("present", self.current)):
            given = callback(worker.worker_species_id)  # one that raises or hangs fails the gate, which denies
            if given is None:
                message = f"the {name} hash of worker `{worker.worker_id}` is not known"
                raise Refusal(Code.WORKER_ATTESTATION_MISSING, message, who)
            if not isinstance(given, str) or not _HASH.fullmatch(given):
                message = f"the {name} hash of worker `{worker.worker_id}` is not 64 lower-case hex digits"
                raise Refusal(Code.WORKER_ATTESTATION_INVALID_HASH, message, who)
            found.append(given)
        if found[0] != found[1]:
            message = f"worker `{worker.worker_id}` has another hash now than the one registered"
            raise Refusal(Code.WORKER_TAMPERED, message, who, digests=(("registered", found[0]), ("present", found[1])))
        return attested
