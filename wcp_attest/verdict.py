"""The decision: the one place where what was raised becomes a code.

Inside, a failure is raised; here it becomes a `Verdict`, once. A pass can only be made from a `Verified`, and only
`wcp_attest.verify` makes those.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError, DenyCode, TreeMismatch, VerificationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.base.differences import Difference
    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.signing import SignedBy

# Nothing was found out about the package under these codes: a piece that the decision needs is missing or broken.
UNDECIDED = frozenset({DenyCode.INTERNAL_ERROR, DenyCode.TRUST_UNUSABLE})


@dataclass(frozen=True, slots=True)
class Verified:
    """A package that was verified. Whoever holds one needs no second check.

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
        excludes: gitignore patterns of what the signer left out; nobody vouches for what they match.
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
    seal: object = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.seal is not SEAL:
            raise TypeError("only wcp_attest.verify makes a Verified")

    @property
    def trust_statement(self) -> str:
        """Who attests the package, when and what, built from signed data only."""
        return (
            f"Package attested by namespace {self.namespace} at {self.signed_at_utc}; "
            f"package hash {self.hash_algorithm}:{self.package_hash}."
        )


SEAL = object()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to whether a package may run.

    Attributes:
        verified: the proof, when it may; None when it may not.
        code: why not; None when it may.
        message: one line for people.
        differences: how the tree differs from the manifest, sorted and capped.
        total_differences: how many differences there are.
    """

    verified: Verified | None = None
    code: DenyCode | None = None
    message: str = ""
    differences: tuple[Difference, ...] = ()
    total_differences: int = 0

    def __post_init__(self) -> None:
        if (self.verified is None) == (self.code is None):
            raise TypeError("a verdict is either a proof or a code")

    @property
    def ok(self) -> bool:
        """Whether the package may run."""
        return self.verified is not None

    def __bool__(self) -> bool:
        """Whether the package may run."""
        return self.ok

    @property
    def decided(self) -> bool:
        """Whether anything was found out; False when a piece that the decision needs was missing or broke."""
        return self.code not in UNDECIDED


def judge(check: Callable[[], Verified]) -> Verdict:
    """Run a check and turn whatever comes of it into a verdict.

    Args:
        check: returns the proof or raises.

    Returns:
        A pass for a `Verified`, otherwise a denial: with the error's own code for a `VerificationError`, with
        `ATTEST_INTERNAL_ERROR` for everything else, `MemoryError` and `RecursionError` included.
    """
    try:
        verified = check()
        return Verdict(verified=verified, message=verified.trust_statement)
    except TreeMismatch as refusal:
        return Verdict(None, refusal.code, str(refusal), refusal.differences, refusal.total)
    except VerificationError as refusal:
        return Verdict(None, refusal.code, str(refusal))
    except ConfigError as problem:
        return Verdict(None, DenyCode.INTERNAL_ERROR, str(problem))
    except Exception as problem:  # the one broad except: an error nobody foresaw is a denial, never a pass
        import logging

        logging.getLogger("wcp_attest").exception("verification failed unexpectedly")
        return Verdict(None, DenyCode.INTERNAL_ERROR, f"verification failed unexpectedly: {type(problem).__name__}")
