"""Verify the same package again and again, redoing what can have changed since.

A router verifies a worker before every dispatch. What the two files of a package prove depends on their bytes and the
policy only: as long as the bytes on disk are the very same, the signatures need no second look. Age, bans and the
whole tree do. Only a success is remembered, and not for long.

    package = Recheck("my-worker", policy)
    verdict = package.verify()        # reads everything
    verdict = package.verify()        # reads the two files and the tree again, trusts no time stamp
    verdict = package.standing()      # age and bans only: for a copy that no other user can write to
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wcp_attest.base.errors import DenyCode
from wcp_attest.verdict import Question, Verdict, judge
from wcp_attest.verification import check_age_and_bans, decide, proven

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.trust.conditions import BanCheck
    from wcp_attest.trust.policy import Policy
    from wcp_attest.verdict import Expectation, Verified
    from wcp_attest.verification import PackageProof

MAX_SECONDS = 300.0  # how long signatures are remembered: a Sigstore root that changes on disk is seen by then


@dataclass(frozen=True, slots=True)
class _Remembered:
    proof: PackageProof
    since: float

    def is_recent(self, now: float) -> bool:
        """Tell whether it may still be used; not when the clock was set back, or it would be remembered for long."""
        return 0 <= now - self.since <= MAX_SECONDS


class Recheck:
    """One package, verified repeatedly. Safe to share between threads.

    Args:
        root: the package directory.
        policy: who is trusted for what.
        expect: what the worker must be.
        options: how to read the tree.
        attestation: the directory of a detached pair, or None.

    Raises:
        TypeError: an argument has the wrong type.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        policy: Policy,
        *,
        expect: Expectation | None = None,
        options: ReadOptions | None = None,
        attestation: str | os.PathLike[str] | None = None,
    ) -> None:
        self._question = Question.of(
            root, policy, expect=expect, bans=(), now=None, options=options, attestation=attestation
        )
        self.root = self._question.package
        self._remembered: _Remembered | None = None

    def verify(self, *, bans: Sequence[BanCheck] = (), now: float | None = None) -> Verdict:
        """Decide whether the package may run, as `wcp_attest.verify` does.

        Args:
            bans: ban checks beyond those of the policy.
            now: seconds since the epoch; the clock by default.

        Returns:
            Always a verdict: what `wcp_attest.verify` raises as the caller's mistake is a denial with
            `ATTEST_INTERNAL_ERROR` here.
        """
        question = self._ask(bans, now)
        verdict = judge(lambda: self._decide(question), mistakes_raise=False)
        if not verdict:
            self._remembered = None
        return verdict

    def standing(self, *, bans: Sequence[BanCheck] = (), now: float | None = None) -> Verdict:
        """Decide whether a package that was verified a moment ago is still of age and not banned; nothing is read.

        Denied when there was no such moment, or it is too long ago. `known_standing` tells that apart.
        """
        found = self.known_standing(bans=bans, now=now)
        if found is None:
            message = "the package was not verified within the last minutes; verify it again"
            found = Verdict(None, DenyCode.NOT_ACCEPTABLE, message)
        return found

    def known_standing(self, *, bans: Sequence[BanCheck] = (), now: float | None = None) -> Verdict | None:
        """Decide what `standing` does, or return None when the package must be verified again first.

        Args:
            bans: ban checks beyond those of the policy.
            now: seconds since the epoch; the clock by default.
        """
        question, remembered = self._ask(bans, now), self._remembered
        if remembered is None or not remembered.is_recent(question.now):
            return None
        proof = remembered.proof

        def stand() -> Verified:
            check_age_and_bans(question, proof)
            return proven(question, proof)

        return judge(stand, mistakes_raise=False)

    def _ask(self, bans: Sequence[BanCheck], now: float | None) -> Question:
        return replace(self._question, bans=tuple(bans), now=time.time() if now is None else now)

    def _decide(self, question: Question) -> Verified:
        remembered = self._remembered
        if remembered is not None and not remembered.is_recent(question.now):
            remembered = None
        verified, proof = decide(question, earlier=None if remembered is None else remembered.proof)
        if proof is not None and (remembered is None or proof is not remembered.proof):
            self._remembered = _Remembered(proof, question.now)
        return verified
