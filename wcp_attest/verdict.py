"""The question and the answer of a verification; `judge` is the only place where an exception becomes a code.

A failure is raised inside, so that no caller can overlook it, and becomes a `Verdict` here, once. A pass can only
be made from a `Verified`, and only `wcp_attest.verification` makes those, after everything was checked.
"""

from __future__ import annotations

import os
import time
import warnings
from dataclasses import InitVar, dataclass, replace
from typing import TYPE_CHECKING, NoReturn, final

from wcp_attest.base.errors import (
    ConfigError,
    DenyCode,
    IdentityMismatch,
    ThresholdNotMet,
    TreeMismatch,
    VerificationError,
    package_missing,
)
from wcp_attest.base.site import code_page
from wcp_attest.disk.options import ReadOptions
from wcp_attest.trust.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wcp_attest.base.differences import Difference
    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.disk.placement import Placement
    from wcp_attest.signing import SignedBy
    from wcp_attest.trust.conditions import BanCheck

# Under these codes nothing was found out about the package: something that the decision needs is missing or broken.
UNDECIDED = frozenset({DenyCode.INTERNAL_ERROR, DenyCode.TRUST_UNUSABLE})
SEAL = object()  # opens the constructor of `Verified`; only `wcp_attest.verification` uses it (tests/test_house.py)


@dataclass(frozen=True, slots=True, init=False)
class Expectation:
    """What the caller knows about the package beforehand; it tightens the policy and never loosens it.

    Attributes:
        worker_id: the worker it must be, or None.
        worker_species_id: the species it must be of, or None. The earlier spelling `species_id` is deprecated.
    """

    worker_id: str | None
    worker_species_id: str | None

    def __init__(
        self, worker_id: str | None = None, worker_species_id: str | None = None, *, species_id: str | None = None
    ) -> None:
        if species_id is not None:
            if worker_species_id is not None:
                raise TypeError("`species_id` is the earlier spelling of `worker_species_id`; give one of them")
            warnings.warn("Expectation(species_id=…) is spelled worker_species_id", DeprecationWarning, stacklevel=2)
        object.__setattr__(self, "worker_id", worker_id)
        object.__setattr__(self, "worker_species_id", species_id if worker_species_id is None else worker_species_id)

    @property
    def species_id(self) -> str | None:
        """The earlier spelling of `worker_species_id`; deprecated."""
        return self.worker_species_id

    def check(self, worker_id: str, species_id: str) -> None:
        """Compare with what the manifest says.

        Raises:
            IdentityMismatch: it is another worker or species.
        """
        for name, expected, found in (
            ("worker id", self.worker_id, worker_id),
            ("species id", self.worker_species_id, species_id),
        ):
            if expected is not None and expected != found:
                raise IdentityMismatch(f"the package has {name} {found!r}, expected {expected!r}")


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be decided: one package, by one policy, at one moment. Made by `Question.of`.

    Attributes:
        package: the package directory.
        policy: who is trusted for what.
        expect: what the caller knows beforehand.
        bans: ban checks beyond those of the policy.
        now: seconds since the epoch.
        options: how to read the tree; the policy's `permissions = "strict"` is already in it.
        attestation: the directory of a detached pair, or None.
    """

    package: str
    policy: Policy
    expect: Expectation
    bans: tuple[BanCheck, ...]
    now: float
    options: ReadOptions
    attestation: str | None = None

    @classmethod
    def of(
        cls,
        root: str | os.PathLike[str],
        policy: Policy,
        *,
        expect: Expectation | None,
        bans: Iterable[BanCheck],
        now: float | None,
        options: ReadOptions | None,
        attestation: str | os.PathLike[str] | None = None,
    ) -> Question:
        """Fill in what the caller left out, and check what the caller gave.

        Raises:
            TypeError: an argument has the wrong type.
        """
        expect, options = expect or Expectation(), options or ReadOptions()
        moment, checks = time.time() if now is None else now, tuple(bans)
        given = (
            (policy, Policy, "a Policy", "; load_policy(path) reads one from a file"),
            (expect, Expectation, "a Expectation", ""),
            (options, ReadOptions, "a ReadOptions", ""),
            (moment, (int, float), "a number of seconds", ""),
        )
        for value, kind, wanted, advice in given:
            if not isinstance(value, kind):
                raise TypeError(f"expected {wanted}, got a {type(value).__name__}{advice}")
        if not all(hasattr(check, "check_before") and hasattr(check, "check_files") for check in checks):
            raise TypeError("`bans` takes ban checks, such as the one that wcp_attest.bans.load_bans returns")
        package, detached = os.fspath(root), None if attestation is None else os.fspath(attestation)
        paths: tuple[object, ...] = (package, detached or "")
        if not all(isinstance(path, str) for path in paths):
            raise TypeError("paths must be text or path objects, not bytes")
        if policy.accept.permissions == "strict":
            options = replace(options, strict_permissions=True)
        return cls(package, policy, expect, checks, moment, options, detached)


@final
@dataclass(frozen=True, slots=True)
class Verified:
    """A package that was verified. A function that takes one needs no second check.

    It cannot be made, changed, copied to another content or unpickled: `dataclasses.replace` and the constructor raise,
    `copy` and `deepcopy` return the same object, `pickle` raises. To hand a result to another process, send
    `Verdict.to_dict()` or the path, and verify there.

    Attributes:
        namespace: whose authority the package carries.
        worker_id: from the signed manifest; so are the next four.
        worker_species_id: taxonomy, confers nothing.
        worker_version: version.
        package_hash: 64 lower-case hex digits.
        hash_algorithm: of the package hash.
        manifest_sha256: of the bytes of `manifest.json`, 64 lower-case hex digits.
        signers: the distinct trusted signers that were counted.
        signed_at_utc: the latest time of signing among them, `2026-11-22T14:00:05Z`.
        policy_digest: SHA-256 of the policy file, empty for a policy built in memory.
        schema: of the manifest, `awp.v2` or `awp.v1`.
        excludes: gitignore patterns of what the signer left out; the signature does not cover what they match.
        placement: where the manifest and its signatures were read: `beside`, `folder` or `detached`.
    """

    namespace: str
    worker_id: str
    worker_species_id: str
    worker_version: str
    package_hash: str
    hash_algorithm: HashAlgorithm
    manifest_sha256: str
    signers: tuple[SignedBy, ...]
    signed_at_utc: str
    policy_digest: str = ""
    schema: str = "awp.v2"
    excludes: tuple[str, ...] = ()
    placement: Placement = "beside"
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not SEAL:
            raise TypeError("only wcp_attest.verify makes a Verified")

    def __init_subclass__(cls) -> NoReturn:
        raise TypeError("Verified cannot be subclassed")

    def __copy__(self) -> Verified:
        """Return this object, which cannot change."""
        return self

    def __deepcopy__(self, memo: object) -> Verified:
        """Return this object, which cannot change."""
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Verified cannot be pickled: send Verdict.to_dict(), or verify the package again there")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a Verified cannot be pickled")

    def __setstate__(self, state: object) -> NoReturn:
        raise TypeError("a Verified cannot be unpickled")

    def to_dict(self) -> JsonObject:
        """Return what is known of the package, as the `package` of `Verdict.to_dict`."""
        return {
            "namespace": self.namespace,
            "worker_id": self.worker_id,
            "worker_species_id": self.worker_species_id,
            "worker_version": self.worker_version,
            "hash_algorithm": self.hash_algorithm,
            "package_hash": self.package_hash,
            "manifest_sha256": self.manifest_sha256,
            "signed_at_utc": self.signed_at_utc,
            "policy_sha256": self.policy_digest or None,
            "excludes": [*self.excludes],
            "placement": self.placement,
        }

    @property
    def trust_statement(self) -> str:
        """Who attests the package, when and what, built from signed data only."""
        return (
            f"Package attested by namespace {self.namespace} at {self.signed_at_utc}; "
            f"package hash {self.hash_algorithm}:{self.package_hash}."
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to whether a package may run.

    Attributes:
        verified: the proof, when it may; None when it may not.
        code: why not; None when it may.
        message: one line for people.
        differences: how the tree differs from the manifest, sorted and capped.
        total_differences: how many differences there are.
        signers: who signed and counts: of a pass as in its proof; of a threshold that is not met, who has signed so
            far. They allow nothing; `ok` alone says whether the package may run.
    """

    verified: Verified | None = None
    code: DenyCode | None = None
    message: str = ""
    differences: tuple[Difference, ...] = ()
    total_differences: int = 0
    signers: tuple[SignedBy, ...] = ()

    def __post_init__(self) -> None:
        if (self.verified is None) == (self.code is None):
            raise TypeError("a verdict is either a proof or a code")
        if self.verified is not None and not isinstance(self.verified, Verified):
            raise TypeError("the proof of a verdict is a Verified, which only wcp_attest.verify makes")

    @property
    def ok(self) -> bool:
        """Whether the package may run."""
        return self.verified is not None

    def __bool__(self) -> bool:
        """Whether the package may run."""
        return self.ok

    def __str__(self) -> str:
        """Return the answer as one line: `DENIED ATTEST_HASH_MISMATCH: the tree is not …`."""
        if self.verified is not None:
            return f"VERIFIED {self.verified.worker_id} {self.verified.worker_version}: {self.message}"
        return f"{'DENIED' if self.decided else 'UNDECIDED, hence DENIED'} {self.code}: {self.message}"

    def to_dict(self, root: str | os.PathLike[str] = "") -> JsonObject:
        """Return the answer as `wcp-attest verify --format json` prints it (schema `verify-result.json`).

        Args:
            root: the package, to be named in the result and in its advice.
        """
        from wcp_attest.deny_code_help import advice_for

        package, verified = os.fspath(root), self.verified
        advice = () if self.code is None else advice_for(self.code, self.message, self.differences, package)
        return {
            "schema_version": 1,
            "kind": "verify-result",
            "ok": self.ok,
            "exit_status": 0 if self.ok else 1 if self.decided else 2,
            "root": package,
            "code": None if self.code is None else self.code.value,
            "code_url": None if self.code is None else code_page(self.code.value),
            "message": self.message,
            "trust_statement": None if verified is None else verified.trust_statement,
            "package": None if verified is None else verified.to_dict(),
            "signers": [each.to_dict() for each in (verified or self).signers],
            "differences": [{**difference.to_dict()} for difference in self.differences],
            "differences_total": self.total_differences,
            "content": None if verified is None else "hashed",
            "next": [*advice],
        }

    @property
    def decided(self) -> bool:
        """Whether anything was found out; False when something that the decision needs was missing or broken."""
        return self.code not in UNDECIDED


def judge(check: Callable[[], Verified], *, mistakes_raise: bool = True) -> Verdict:
    """Run a check and turn what comes of it into a verdict.

    Args:
        check: returns the proof or raises.
        mistakes_raise: whether a `ConfigError`, the caller's mistake, is raised. False makes a denial of it, for
            programs that need an answer in every case.

    Returns:
        A pass for a `Verified`, otherwise a denial: with the error's own code for a `VerificationError`, with
        `ATTEST_INTERNAL_ERROR` for everything else, `MemoryError` and `RecursionError` included.

    Raises:
        ConfigError: the check raised it, and mistakes are raised.
    """
    try:
        verified = check()
        return Verdict(verified=verified, message=verified.trust_statement, signers=verified.signers)
    except TreeMismatch as refusal:
        return Verdict(None, refusal.code, str(refusal), refusal.differences, refusal.total)
    except ThresholdNotMet as refusal:
        return Verdict(None, refusal.code, str(refusal), signers=refusal.signers)
    except VerificationError as refusal:
        return Verdict(None, refusal.code, str(refusal))
    except ConfigError as problem:
        if mistakes_raise:
            raise
        return Verdict(None, DenyCode.INTERNAL_ERROR, str(problem))
    except Exception as problem:  # the one broad except: an unforeseen error is a denial, never a pass
        missing = package_missing(problem)
        if missing is not None and mistakes_raise:
            raise missing from None
        import logging

        logging.getLogger("wcp_attest").exception("verification failed unexpectedly")
        return Verdict(None, DenyCode.INTERNAL_ERROR, f"verification failed unexpectedly: {type(problem).__name__}")
