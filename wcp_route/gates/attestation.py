"""Is the worker byte for byte what a trusted signer released, and is it not banned: asked of the package verifier.

Three ways to ask, all of which look at age and bans for every decision:

* `always`: the whole tree is read again for every decision.
* `sealed`: the package is copied while it is verified; the copy, which only the Hall may write to, is what gets
  dispatched. It closes the gap between hashing and running, and is read in full again every minute.
* `on-change`: the tree is read again when sizes, times or inodes differ. Whoever can set those defeats it; prod and
  edge refuse it.
"""

from __future__ import annotations

import dataclasses
import os
import re
import secrets
import shutil
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from wcp_attest import Expectation, Recheck, verify
from wcp_attest.base.errors import ConfigError
from wcp_attest.base.errors import DenyCode as AttestCode
from wcp_route.domain.codes import FROM_ATTEST, Code
from wcp_route.domain.values import GUARDED_ENVS
from wcp_route.gates.refusal import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest import Policy, Verdict, Verified
    from wcp_attest.bans import BanCheck
    from wcp_attest.policy import Condition
    from wcp_route.config import HallConfig
    from wcp_route.domain.values import WorkerRecord

FULL_EVERY: Final = 60.0  # seconds after which a copy or an unchanged tree is read in full again
MAX_WATCHED: Final = 10_000  # packages remembered; a fleet has fewer
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


class _Seen(threading.local):
    """The versions of the ban lists that the verification going on in this thread has opened."""

    versions: str = ""


@dataclass(frozen=True, slots=True)
class _Remembering:
    """A condition of the trust policy that remembers, for the receipt, which lists it opened."""

    condition: Condition
    seen: _Seen

    def open(self, *, now: float) -> BanCheck:
        check = self.condition.open(now=now)
        self.seen.versions = ", ".join(filter(None, (self.seen.versions, getattr(check, "versions", ""))))
        return check


class _Package(Protocol):
    """One enrolled worker's package, asked about again and again."""

    @property
    def path(self) -> str:
        """Where to run it from."""

    def verify(self, bans: tuple[BanCheck, ...], now: float) -> Verdict:
        """Say whether it may run now."""


@dataclass(frozen=True, slots=True)
class _Always:
    recheck: Recheck

    @property
    def path(self) -> str:
        return self.recheck.root

    def verify(self, bans: tuple[BanCheck, ...], now: float) -> Verdict:
        return self.recheck.verify(bans=bans, now=now)


@dataclasses.dataclass(slots=True)
class _Sealed:
    """A copy that only the Hall may write to."""

    recheck: Recheck
    read_at: float = 0.0

    @property
    def path(self) -> str:
        return self.recheck.root

    def verify(self, bans: tuple[BanCheck, ...], now: float) -> Verdict:
        if 0 <= now - self.read_at < FULL_EVERY:
            verdict = self.recheck.standing(bans=bans, now=now)
            if verdict.code != AttestCode.NOT_ACCEPTABLE:  # else another thread made it forget; read it again
                return verdict
        verdict = self.recheck.verify(bans=bans, now=now)
        self.read_at = now if verdict else 0.0
        return verdict


@dataclasses.dataclass(slots=True)
class _OnChange:
    recheck: Recheck
    read_at: float = 0.0
    stamps: tuple[object, ...] | None = None

    @property
    def path(self) -> str:
        return self.recheck.root

    def verify(self, bans: tuple[BanCheck, ...], now: float) -> Verdict:
        stamps = _stamps(self.recheck.root)  # before the reading, so that a change during it shows the next time
        if stamps is not None and stamps == self.stamps and 0 <= now - self.read_at < FULL_EVERY:
            verdict = self.recheck.standing(bans=bans, now=now)
            if verdict.code != AttestCode.NOT_ACCEPTABLE:
                return verdict
        verdict = self.recheck.verify(bans=bans, now=now)
        self.stamps, self.read_at = (stamps, now) if verdict else (None, 0.0)
        return verdict


def _stamps(root: str) -> tuple[object, ...] | None:
    """Return what `lstat` says of every entry, or none when the tree is too large or cannot be listed."""
    found: list[object] = []
    try:
        for path, status in _walk(root):
            found.append(
                (
                    path,
                    status.st_mode,
                    status.st_ino,
                    status.st_dev,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                )
            )
            if len(found) > MAX_STAMPED:
                return None
    except OSError:
        return None
    return tuple(found)


def _walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        yield folder, os.lstat(folder)
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda each: each.name)
        waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        for entry in entries:
            yield entry.path, entry.stat(follow_symlinks=False)


@dataclass(frozen=True, slots=True)
class Attestor:
    """Asks the package verifier about workers. Safe to share between threads.

    Attributes:
        policy: who is believed, and which bans are asked.
        config: the Hall's settings.
        bans: ban checks beyond those of the policy.
    """

    policy: Policy
    config: HallConfig
    bans: tuple[BanCheck, ...] = ()
    _packages: dict[str, tuple[WorkerRecord, _Package]] = field(default_factory=dict, repr=False, compare=False)
    _seen: _Seen = field(default_factory=_Seen, repr=False, compare=False)

    @classmethod
    def create(cls, policy: Policy, config: HallConfig, bans: tuple[BanCheck, ...]) -> Attestor:
        """Return an attestor that tells which ban lists were asked."""
        seen = _Seen()
        conditions = tuple(_Remembering(condition, seen) for condition in policy.conditions)
        return cls(replace(policy, conditions=conditions), config, bans, _seen=seen)

    def attest(self, worker: WorkerRecord, now: float) -> Attested:
        """Verify a worker's package.

        Args:
            worker: an enrolled worker.
            now: seconds since the epoch.

        Raises:
            Refusal: it is not attested; with the verifier's own code as `attest_code`.
        """
        if not worker.package_root:
            raise Refusal(
                Code.WORKER_ATTESTATION_MISSING,
                f"worker `{worker.worker_id}` is enrolled without a package; enroll it with its package root",
            )
        self._seen.versions = ""
        package = self._package(worker, now)
        verdict = package.verify(self.bans, now)
        if verdict.verified is None:
            cause = self._confirmed_cause(worker, package.path, verdict, now) if verdict.code in _CONFIRMED else ""
            raise _refused(worker, verdict, cause)
        _check_code_hash(worker, verdict.verified)
        if self.config.env in GUARDED_ENVS and not _convinces_others(verdict.verified):
            raise Refusal(
                Code.WORKER_UNTRUSTED,
                f"worker `{worker.worker_id}` is signed with a shared secret only, which {self.config.env} refuses; "
                "sign it with a key or keyless as well",
                {"attest_code": None, "worker_id": worker.worker_id, "worker_species_id": worker.worker_species_id},
            )
        return Attested(verdict.verified, package.path, self._seen.versions)

    @property
    def asks_bans(self) -> bool:
        """Whether any ban list is asked."""
        return bool(self.policy.conditions or self.bans)

    def _confirmed_cause(self, worker: WorkerRecord, root: str, verdict: Verdict, now: float) -> str:
        """Read the package a second time from the start, and return what is wrong if that comes to the same."""
        expect = Expectation(worker.worker_id, worker.worker_species_id)
        again = verify(root, self.policy, expect=expect, bans=self.bans, now=now)
        if again.code != verdict.code:
            return ""
        return f"{verdict.code}: {_DIGEST.sub('…', again.message)}"

    def _package(self, worker: WorkerRecord, now: float) -> _Package:
        """Return what is remembered of a worker's package, unless it was enrolled anew since."""
        known = self._packages.get(worker.worker_id)
        if known is not None and (known[0] is worker or known[0] == worker):
            return known[1]
        package = self._open(worker, now)
        if len(self._packages) >= MAX_WATCHED:
            self._packages.clear()
        self._packages[worker.worker_id] = (worker, package)
        return package

    def _open(self, worker: WorkerRecord, now: float) -> _Package:
        expect = Expectation(worker.worker_id, worker.worker_species_id)
        if self.config.attestation == "sealed":
            return _Sealed(Recheck(self._seal(worker, expect, now), self.policy, expect=expect))
        recheck = Recheck(worker.package_root, self.policy, expect=expect)
        return _Always(recheck) if self.config.attestation == "always" else _OnChange(recheck)

    def _seal(self, worker: WorkerRecord, expect: Expectation, now: float) -> str:
        """Copy a package while it is verified, and return the path of the one copy that its release has."""
        fresh = os.path.join(self.config.seal_directory, f"{worker.worker_id}-{secrets.token_hex(8)}.new")
        try:
            verdict = verify(worker.package_root, self.policy, expect=expect, stage=fresh, bans=self.bans, now=now)
        except ConfigError as problem:
            raise Refusal(
                Code.INTERNAL_ERROR, f"the package of worker `{worker.worker_id}` cannot be verified: {problem}"
            ) from None
        if verdict.verified is None:
            raise _refused(worker, verdict)
        target = os.path.join(self.config.seal_directory, f"{worker.worker_id}-{verdict.verified.manifest_sha256[:32]}")
        try:
            os.rename(fresh, target)
        except OSError:  # made before; it is verified like any other before it is used
            shutil.rmtree(fresh, ignore_errors=True)
        return target


def _convinces_others(verified: Verified) -> bool:
    """Tell whether anybody signed who does not share the secret with whoever verifies (conformance row 21)."""
    return any(not signer.key_id.startswith(_HMAC) for signer in verified.signers)


def check_seal_directory(path: str) -> None:
    """Make sure that nobody but the Hall can write where sealed copies go.

    Raises:
        ConfigError: it is not a directory of ours that is closed to others.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as problem:
        raise ConfigError(f"cannot use the seal directory {path!r}: {problem.strerror}") from None
    if not os.path.isdir(path) or os.path.islink(path) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ConfigError(f"the seal directory {path!r} must be a directory of this user with mode 0700")


def _check_code_hash(worker: WorkerRecord, verified: Verified) -> None:
    """Refuse a record that declares a code hash other than that of the attested package."""
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
