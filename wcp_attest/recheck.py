"""Verify the same package again and again, redoing what can have changed since.

A router verifies a worker before every dispatch. What the two files of a package prove depends on their bytes and the
policy only: as long as the bytes on disk are the very same, the signatures need no second look. Age, bans and the
whole tree do. Only a success is remembered, and not for long.

    package = Recheck("my-worker", policy)
    verdict = package.verify()        # reads everything
    verdict = package.verify()        # reads the two files and the tree again, trusts no time stamp
    verdict = package.standing()      # age and bans only: for a copy that nobody else can write to
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wcp_attest.acceptance import Expectation
from wcp_attest.base.errors import NotAcceptable
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.quick_check import is_same, shape_of
from wcp_attest.signatures import PackageFiles
from wcp_attest.verdict import Verdict, Verified, judge
from wcp_attest.verification import SignedPackage, attest, check_standing, signed_package

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.disk.quick_check import Folder
    from wcp_attest.trust.conditions import BanCheck
    from wcp_attest.trust.policy import Policy

MAX_SECONDS = 300.0  # how long signatures are remembered: a Sigstore root that changes on disk is seen by then


@dataclass(frozen=True, slots=True)
class _Known:
    files: PackageFiles
    signed: SignedPackage
    until: float
    shape: Folder | None = None


class Recheck:
    """One package, verified repeatedly. Safe to share between threads.

    Args:
        root: the package directory.
        policy: who is believed.
        expect: what the worker must be.
        options: how to read the tree.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        policy: Policy,
        *,
        expect: Expectation | None = None,
        options: ReadOptions | None = None,
    ) -> None:
        self.root = os.fspath(root)
        self._policy = policy
        self._expect = expect or Expectation()
        options = options or ReadOptions()
        strict = policy.accept.permissions == "strict"
        self._options = replace(options, strict_permissions=True) if strict else options
        self._known: _Known | None = None

    def verify(self, *, bans: Sequence[BanCheck] = (), now: float | None = None) -> Verdict:
        """Decide whether the package may run, as `wcp_attest.verify` does.

        Args:
            bans: ban checks beyond those of the policy.
            now: seconds since the epoch; the clock by default.
        """
        moment = time.time() if now is None else now
        verdict = judge(lambda: self._attest(bans, moment))
        if not verdict:
            self._known = None
        return verdict

    def standing(self, *, bans: Sequence[BanCheck] = (), now: float | None = None) -> Verdict:
        """Decide whether a package that was verified a moment ago is still of age and not banned; nothing is read.

        Denied when there was no such moment, or it is too long ago.
        """
        moment = time.time() if now is None else now
        return judge(lambda: self._stand(bans, moment))

    def _attest(self, bans: Sequence[BanCheck], now: float) -> Verified:
        files = PackageFiles.read(self.root)
        if files.signatures is None:
            return attest(self.root, self._policy, expect=self._expect, bans=bans, now=now, options=self._options)
        known = self._known
        if known is None or known.files != files or now > known.until:
            known = _Known(files, signed_package(files, self._policy, self._expect), now + MAX_SECONDS)
        check_standing(known.signed, self._policy, bans, now=now)
        if known.shape is None or not is_same(self.root, known.shape):
            check_tree(self.root, known.signed.manifest, options=self._options)
            shape = None if self._options.strict_permissions else shape_of(known.signed.manifest)
            self._known = replace(known, shape=shape)
        return known.signed.verified

    def _stand(self, bans: Sequence[BanCheck], now: float) -> Verified:
        known = self._known
        if known is None or now > known.until:
            raise NotAcceptable("the package was not verified within the last minutes; verify it again")
        check_standing(known.signed, self._policy, bans, now=now)
        return known.signed.verified
