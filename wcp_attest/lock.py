"""Pin the packages that a project loads, and find out what became of them since.

`observe` verifies each package under the operator's policy: only a verified package is ever locked. `changes_of`
compares what was locked with what is there, and names each change by its kind, so that a reviewer sees at once whether
a package was upgraded, downgraded, signed by another signer, or lost its signature.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from wcp_attest.base.errors import ConfigError, DenyCode
from wcp_attest.package.lock_file import LockedPackage
from wcp_attest.trust.bans.versions import Comparison, Specifier
from wcp_attest.verification import verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.trust.policy import Policy
    from wcp_attest.verdict import Verdict

ChangeKind = Literal["added", "removed", "unsigned", "refused", "worker", "older", "newer", "content", "signer"]


@dataclass(frozen=True, slots=True)
class LockChange:
    """What became of one package.

    Attributes:
        path: of the package, relative to the lock file.
        kind: `unsigned` where it was signed; `refused` by the policy; another `worker`; an `older` or `newer` version;
            other `content` under the same version; another `signer`; `added`; `removed`.
        before: what is locked, in words; empty for what was added.
        after: what is there, in words; empty for what was removed.
    """

    path: str
    kind: ChangeKind
    before: str
    after: str

    def __str__(self) -> str:
        arrow = " -> ".join(text for text in (self.before, self.after) if text)
        return f"{self.path}: {self.kind}: {arrow}"


@dataclass(frozen=True, slots=True)
class Observed:
    """One package as it stands.

    Attributes:
        path: relative to the lock file.
        verdict: under the policy.
        package: what would be locked; None when it is refused.
    """

    path: str
    verdict: Verdict
    package: LockedPackage | None


def observe(folder: str, paths: Iterable[str], policy: Policy, options: ReadOptions) -> tuple[Observed, ...]:
    """Verify packages.

    Args:
        folder: the directory of the lock file.
        paths: of the packages, relative to it, `/`-separated.
        policy: the operator's.
        options: how to read the trees.

    Raises:
        ConfigError: a package cannot be read.
    """
    found = []
    for path in paths:
        root = os.path.join(folder, *path.split("/"))
        if not os.path.isdir(root):
            raise ConfigError(f"{path!r} is not a directory; it is needed, or take it out of the lock file")
        verdict = verify(root, policy, options=options)
        verified = verdict.verified
        package = (
            None
            if verified is None
            else LockedPackage(
                path,
                verified.worker_id,
                verified.worker_version,
                verified.manifest_sha256,
                tuple(sorted(str(signer) for signer in verified.signers)),
            )
        )
        found.append(Observed(path, verdict, package))
    return tuple(found)


def changes_of(locked: Sequence[LockedPackage], found: Sequence[Observed]) -> tuple[LockChange, ...]:
    """Return what differs between a lock file and the packages as they stand, sorted by path."""
    before = {package.path: package for package in locked}
    after = {one.path: one for one in found}
    changes = []
    for path in sorted(before.keys() | after.keys(), key=str.encode):
        old, one = before.get(path), after.get(path)
        if one is None:
            changes.append(LockChange(path, "removed", _in_words(before[path]), ""))
        elif one.package is None:
            code = one.verdict.code
            kind: ChangeKind = (
                "unsigned" if code in {DenyCode.SIGNATURE_MISSING, DenyCode.MANIFEST_MISSING} else "refused"
            )
            changes.append(LockChange(path, kind, _in_words(old) if old else "", f"{code}: {one.verdict.message}"))
        elif old is None:
            changes.append(LockChange(path, "added", "", _in_words(one.package)))
        else:
            changes += _changes_between(old, one.package)
    return tuple(changes)


def refused_of(changes: Sequence[LockChange], found: Sequence[Observed], *, upgrade: bool) -> list[LockChange]:
    """Return the changes because of which nothing may be written.

    Args:
        changes: as `changes_of` returns them.
        found: the packages as they stand.
        upgrade: whether changes of what is locked are meant. A package that the policy refuses never is.
    """
    denied = {one.path for one in found if one.package is None}
    return [change for change in changes if change.path in denied or (change.kind != "added" and not upgrade)]


def _changes_between(old: LockedPackage, new: LockedPackage) -> list[LockChange]:
    path, changes = old.path, []
    if old.worker_id != new.worker_id:
        changes.append(LockChange(path, "worker", old.worker_id, new.worker_id))
    if old.worker_version != new.worker_version:
        older = Specifier((Comparison("<", old.worker_version),)).matches(new.worker_version)
        changes.append(LockChange(path, "older" if older else "newer", old.worker_version, new.worker_version))
    elif old.manifest_sha256 != new.manifest_sha256:
        changes.append(LockChange(path, "content", f"sha256:{old.manifest_sha256}", f"sha256:{new.manifest_sha256}"))
    if old.signers != new.signers:
        changes.append(LockChange(path, "signer", ", ".join(old.signers), ", ".join(new.signers)))
    return changes


def _in_words(package: LockedPackage) -> str:
    return f"{package.worker_id} {package.worker_version} by {', '.join(package.signers)}"
