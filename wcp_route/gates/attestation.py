"""Asks the package verifier whether a worker is byte for byte what a trusted signer released, and is not banned.

There are three ways to ask. All of them check age and bans for every decision:

* `always`: the whole tree is read again for every decision.
* `sealed`: the package is verified into a store (`wcp_attest.PackageStore`) that only the Hall may write to, and the
  entry in the store is dispatched. This closes the gap between hashing and running. The entry is hashed again every
  minute, or for every decision when others could change it.
* `on-change`: the tree is read again when sizes, times or inodes differ. An attacker who can set those is not detected,
  so prod and edge refuse this way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from wcp_attest import Expectation, PackageStore, Recheck, verify
from wcp_attest.base.errors import ConfigError
from wcp_attest.base.errors import DenyCode as AttestCode
from wcp_route.domain.codes import FROM_ATTEST, Code
from wcp_route.domain.values import GUARDED_ENVS
from wcp_route.gates.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest import Policy, Verdict, Verified
    from wcp_attest.bans import BanCheck, PackageFacts
    from wcp_attest.policy import Condition
    from wcp_route.config import HallConfig
    from wcp_route.domain.record import WorkerRecord

_log = logging.getLogger("wcp_route")
FULL_EVERY: Final = 60.0  # seconds after which a copy or an unchanged tree is read in full again
MAX_WATCHED: Final = 10_000  # packages remembered; a fleet has fewer
_SPOILT: Final = frozenset(
    {
        AttestCode.HASH_MISMATCH,
        AttestCode.TREE_UNSAFE,
        AttestCode.MANIFEST_MISSING,
        AttestCode.MANIFEST_MALFORMED,
        AttestCode.SIGNATURE_MISSING,
        AttestCode.SIG_INVALID,
    }
)  # the entry differs from what was sealed; it is made again
_CONFIRMED: Final = frozenset({AttestCode.HASH_MISMATCH, AttestCode.SIG_INVALID})  # a second reading can confirm these
_DIGEST: Final = re.compile(r"(?:sha256:|blake3:)?[0-9a-f]{64}")
_HMAC: Final = "hmac-"  # how the key ids of shared secrets begin
MAX_STAMPED: Final = 100_000  # entries whose time stamps are compared; larger trees are read in full


@dataclass(frozen=True, slots=True)
class Attested:
    """A worker that was attested for this decision.

    Attributes:
        verified: the package verifier's proof.
        path: where to run it from.
        bans: versions of the ban lists that were asked.
    """

    verified: Verified
    path: str
    bans: str = ""


class BansOfDecision:
    """The ban lists of the trust policy for one decision, a `BanCheck`: each is opened once, at its first use.

    Args:
        conditions: of the trust policy.
        now: the time of the decision, seconds since the epoch.
        held: checks that the conditions have open already; None: open them when the first package is checked.
    """

    __slots__ = ("_checks", "_conditions", "_now")

    def __init__(self, conditions: tuple[Condition, ...], now: float, held: tuple[BanCheck, ...] | None) -> None:
        self._conditions, self._now, self._checks = conditions, now, held

    @property
    def versions(self) -> str:
        """The version of each list that was asked, for the receipt; empty when none was asked."""
        return ", ".join(filter(None, (getattr(check, "versions", "") for check in self._checks or ())))

    def check_before(self, facts: PackageFacts) -> None:
        """Refuse a package that a ban names. Raises `Banned` and `BansUnusable`."""
        if self._checks is None:
            self._checks = tuple([condition.open(now=self._now) for condition in self._conditions])
        for check in self._checks:
            check.check_before(facts)

    def check_files(self, files: Iterable[tuple[str, str]], algorithm: Any) -> None:
        """Refuse a package that holds a banned file. Raises `Banned` and `BansUnusable`."""
        for check in self._checks or ():
            check.check_files(files, algorithm)


@dataclasses.dataclass(slots=True)
class _InPlace:
    """A package that is dispatched from where it was enrolled: `always`, or `on-change`.

    Attributes:
        recheck: reads the tree.
        on_change: whether an unchanged tree is not read again for `FULL_EVERY` seconds.
        read_at: when it was read in full, seconds since the epoch.
        stamps: what `lstat` said about every entry then.
    """

    recheck: Recheck
    on_change: bool
    read_at: float = 0.0
    stamps: tuple[object, ...] | None = None

    @property
    def path(self) -> str:
        """Where to run it from."""
        return self.recheck.root

    @property
    def read(self) -> tuple[str, str | None]:
        """What was read last, and the directory of its pair when that is outside the package."""
        return self.recheck.root, None

    def verify(self, bans: tuple[BanCheck, ...], now: float) -> Verdict:
        """Say whether it may run now."""
        if not self.on_change:
            return self.recheck.verify(bans=bans, now=now)
        stamps = _stamps(self.path)  # before the read, so that the next decision sees a change during it
        if stamps is not None and stamps == self.stamps and 0 <= now - self.read_at < FULL_EVERY:
            standing = self.recheck.known_standing(bans=bans, now=now)
            if standing is not None:
                return standing
        verdict = self.recheck.verify(bans=bans, now=now)
        self.stamps, self.read_at = (stamps, now) if verdict else (None, 0.0)
        return verdict


@dataclasses.dataclass(slots=True)
class _Sealed:
    """An entry of the Hall's store. A new release that is signed at the root gets a new entry.

    Time stamps of the root's pair only say when to look for a new release. They are not evidence: only a hashed entry
    is dispatched, and it is hashed again every minute, or at each use when others could change it.
    """

    store: PackageStore
    root: str
    policy: Policy
    expect: Expectation
    recheck: Recheck | None = None
    entry: str = ""
    stamps: tuple[object, ...] = ()
    read_at: float = 0.0
    read: tuple[str, str | None] = ("", None)
    path: str = ""
    warned: bool = False

    def verify(self, bans: tuple[BanCheck, ...], now: float) -> Verdict:
        """Say whether the entry may run now; seal a new release first."""
        stamps = _pair_stamps(self.root)
        if self.recheck is None or (any(stamps) and stamps != self.stamps):
            refusal = self._seal(bans, now)
            if refusal is not None:
                return refusal
            self.stamps = stamps
        recheck = self.recheck
        assert recheck is not None  # noqa: S101  # for the type checker: just made
        self.read = recheck.root, os.path.dirname(recheck.root)
        # Each parent, at each use; what only root can change, each time that the entry is hashed again.
        if 0 <= now - self.read_at < FULL_EVERY and self.store.changeable(self.entry, quick=True) is None:
            standing = recheck.known_standing(bans=bans, now=now)
            if standing is not None:
                return standing
        return self._hashed(recheck, bans, now)

    def _hashed(self, recheck: Recheck, bans: tuple[BanCheck, ...], now: float) -> Verdict:
        """Hash the entry and say whether it may run; make it again from the root when it is spoilt."""
        changeable = self.store.changeable(self.entry)
        if changeable is not None and not self.warned:
            self.warned = True
            _log.warning("%s is hashed again for every decision: %s", self.expect.worker_id, changeable)
        verdict = recheck.verify(bans=bans, now=now)
        if verdict.code in (*_SPOILT, AttestCode.INTERNAL_ERROR) and self._seal(bans, now) is None:
            # The entry was set aside, and is there again.
            verdict = verdict if self.recheck is None else self.recheck.verify(bans=bans, now=now)
        self.read_at = now if verdict and changeable is None else 0.0
        return verdict

    def _seal(self, bans: tuple[BanCheck, ...], now: float) -> Verdict | None:
        """Verify the root into the store; return the refusal if there is one."""
        try:
            verdict = self.store.admit(self.root, self.policy, expect=self.expect, bans=bans, now=now)
        except ConfigError as problem:
            raise Refusal(
                Code.INTERNAL_ERROR, f"the package of worker `{self.expect.worker_id}` cannot be sealed: {problem}"
            ) from None
        self.read = self.root, None
        if verdict.verified is None:
            return verdict
        entry = verdict.verified.manifest_sha256
        path = self.store.package_path(entry)
        self.read = path, os.path.dirname(path)
        if entry != self.entry or self.recheck is None:
            before, self.entry, self.read_at = self.entry, entry, 0.0
            self.recheck = Recheck(path, self.policy, expect=self.expect, attestation=os.path.dirname(path))
            self.path = self.recheck.root
            # Remove older releases of the worker, except the last one and those that something still runs from.
            others = [each for each in self.store.entries() if each.worker_id == self.expect.worker_id]
            others = [each for each in others if each.name not in {entry, before}]
            others.sort(key=lambda each: each.added_at_utc)
            for each in others if before else others[:-1]:
                with contextlib.suppress(ConfigError):  # another Hall may have done it
                    self.store.remove(each.name)
        return None


def _pair_stamps(root: str) -> tuple[object, ...]:
    """Return what the system says about the files that change with a new release."""
    found: list[object] = []
    for name in ("manifest.json", "manifest.sig", ".wcp/manifest.json", ".wcp/manifest.sig"):
        try:
            status = os.lstat(f"{root}/{name}")
        except OSError:
            found.append(None)
            continue
        found.append((status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return tuple(found)


def _stamps(root: str) -> tuple[object, ...] | None:
    """Return what `lstat` says about every entry, or None when the tree is too large or cannot be listed."""
    found: list[object] = []
    waiting = [root]
    try:
        while waiting:
            folder = waiting.pop()
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda each: each.name)
            if len(found) + len(entries) >= MAX_STAMPED:
                return None
            waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            statuses = [(entry.path, entry.stat(follow_symlinks=False)) for entry in entries]
            found += [
                (path, one.st_mode, one.st_ino, one.st_dev, one.st_size, one.st_mtime_ns, one.st_ctime_ns)
                for path, one in [(folder, os.lstat(folder)), *statuses]
            ]
    except OSError:
        return None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Attestor:
    """Asks the package verifier about workers. Safe to share between threads.

    Attributes:
        policy: who is trusted; without its conditions.
        config: the Hall's settings.
        bans: ban checks beyond those of the policy.
        conditions: of the trust policy, above all its ban lists.
    """

    policy: Policy
    config: HallConfig
    bans: tuple[BanCheck, ...] = ()
    conditions: tuple[Condition, ...] = ()
    _packages: dict[str, tuple[WorkerRecord, _InPlace | _Sealed]] = field(
        default_factory=dict, repr=False, compare=False
    )
    _held: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def create(cls, policy: Policy | None, config: HallConfig, bans: tuple[BanCheck, ...]) -> Attestor | None:
        """Return an attestor that opens the ban lists of a policy once per decision; None when attestation is off.

        Raises:
            ConfigError: there is no policy, or the directory for sealed copies cannot be used.
        """
        if config.unsafe_dispatch_workers_without_attestation:
            _log.warning("UNSAFE: this Hall dispatches workers without attestation; anything may run")
            return None
        if policy is None:
            raise ConfigError("a Hall needs a trust policy to attest workers by; load one with wcp_attest.load_policy")
        if config.attestation == "sealed":  # only the Hall may write where sealed copies go; others may read
            path = config.seal_directory
            try:
                os.makedirs(path, mode=0o700, exist_ok=True)
                status = os.lstat(path)
            except OSError as problem:
                raise ConfigError(f"cannot use the seal directory {path!r}: {problem.strerror}") from None
            ours = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if not ours or status.st_mode & 0o022:
                raise ConfigError(
                    f"the seal directory {path!r} must be a directory of this user that nobody else can write, such as "
                    "0700 or 0750"
                )
        held = tuple([getattr(condition, "held", None) for condition in policy.conditions])
        return cls(replace(policy, conditions=()), config, bans, policy.conditions, _held=held)

    @property
    def asks_bans(self) -> bool:
        """Whether any ban list is asked."""
        return bool(self.conditions or self.bans)

    def lists(self, now: float) -> BansOfDecision:
        """Return the ban lists of one decision; opening them may wait for a server.

        Args:
            now: the time of the decision, seconds since the epoch.
        """
        return BansOfDecision(self.conditions, now, None)

    def lists_now(self, now: float) -> BansOfDecision | None:
        """Return the ban lists of one decision that are open already, or None when asking the lists may block.

        Args:
            now: the time of the decision, seconds since the epoch.
        """
        if self.bans:
            return None  # the operator's own checks may wait for a server
        checks = [held(now=now) for held in self._held if held is not None]
        if len(checks) < len(self.conditions) or None in checks:
            return None
        return BansOfDecision(self.conditions, now, tuple(checks))

    def attest(self, worker: WorkerRecord, now: float, lists: BansOfDecision | None = None) -> Attested:
        """Verify a worker's package.

        Args:
            worker: an enrolled worker.
            now: seconds since the epoch.
            lists: the ban lists of this decision; they are opened when none are given.

        Raises:
            Refusal: the worker is not attested; the verifier's own code is in `attest_code`.
        """
        if not worker.package_root:
            raise Refusal(
                Code.WORKER_ATTESTATION_MISSING,
                f"worker `{worker.worker_id}` is enrolled without a package; enroll it with its package root",
            )
        lists = self.lists(now) if lists is None else lists
        bans = (*self.bans, lists) if self.conditions else self.bans
        package = self._package(worker)
        verdict = package.verify(bans, now)
        if verdict.verified is None:
            cause = ""
            if verdict.code in _CONFIRMED:  # read it a second time from the start: the result must be the same
                expect = Expectation(worker.worker_id, worker.worker_species_id)
                root, attestation = package.read
                again = verify(root, self.policy, expect=expect, bans=bans, now=now, attestation=attestation)
                if again.code == verdict.code:
                    cause = f"{verdict.code}: {_DIGEST.sub('…', again.message)}"
            raise _refused(worker, verdict, cause)
        _check_code_hash(worker, verdict.verified)
        convincing = any(not signer.key_id.startswith(_HMAC) for signer in verdict.verified.signers)
        if self.config.env in GUARDED_ENVS and not convincing:  # a shared secret convinces only those who share it
            raise Refusal(
                Code.WORKER_UNTRUSTED,
                f"worker `{worker.worker_id}` is signed with a shared secret only, which {self.config.env} refuses; "
                "sign it with a key or keyless as well",
                {"attest_code": None, "worker_id": worker.worker_id, "worker_species_id": worker.worker_species_id},
            )
        return Attested(verdict.verified, package.path, lists.versions)

    def _package(self, worker: WorkerRecord) -> _InPlace | _Sealed:
        """Return what is remembered about a worker's package; start afresh when the worker was enrolled again."""
        known = self._packages.get(worker.worker_id)
        if known is not None and (known[0] is worker or known[0] == worker):
            return known[1]
        expect, mode = Expectation(worker.worker_id, worker.worker_species_id), self.config.attestation
        package: _InPlace | _Sealed
        if mode == "sealed":
            # When only a group may read the store's directory, its entries are for that group.
            path = self.config.seal_directory
            status = os.stat(path)
            shared = status.st_mode & 0o050 and not status.st_mode & 0o005
            store = PackageStore(path, owner=os.geteuid(), group=status.st_gid if shared else None, private=True)
            package = _Sealed(store, worker.package_root, self.policy, expect)
        else:
            package = _InPlace(Recheck(worker.package_root, self.policy, expect=expect), mode == "on-change")
        if len(self._packages) >= MAX_WATCHED:
            self._packages.clear()
        self._packages[worker.worker_id] = (worker, package)
        return package


def _check_code_hash(worker: WorkerRecord, verified: Verified) -> None:
    """Refuse a record whose declared code hash is not that of the attested package."""
    declared = worker.attestation
    if declared is None:
        return
    if declared.code_hash in (f"sha256:{verified.manifest_sha256}", f"sha256:{verified.package_hash}"):
        return
    raise Refusal(
        Code.WORKER_ATTESTATION_INVALID_HASH,
        f"the record of worker `{worker.worker_id}` declares a code_hash that is not its package's; "
        "enroll it again with the hash of its manifest, or without one",
        {"worker_id": worker.worker_id, "worker_species_id": worker.worker_species_id},
    )


def _refused(worker: WorkerRecord, verdict: Verdict, cause: str = "") -> Refusal:
    """Translate a verdict. The verifier's message may hold digests, so it goes into the receipt, not the reply."""
    attest_code = verdict.code
    if attest_code is None:
        return Refusal(Code.INTERNAL_ERROR, "the package verifier gave neither proof nor reason")
    code = FROM_ATTEST.get(attest_code, Code.INTERNAL_ERROR)
    return Refusal(
        code,
        f"worker `{worker.worker_id}` is not attested: {attest_code.value}; `wcp-attest explain` says what to do",
        {
            "attest_code": attest_code.value,
            "worker_id": worker.worker_id,
            "worker_species_id": worker.worker_species_id,
        },
        digests=(("attest_message", verdict.message[:1024]),),
        cause=cause,
    )
