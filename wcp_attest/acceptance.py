"""Signed, but is it what was asked for: identity, schema, excludes, age and bans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wcp_attest.base.errors import Expired, IdentityMismatch, NotAcceptable
from wcp_attest.base.identity import format_utc
from wcp_attest.package.entries import File
from wcp_attest.package.manifest import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from wcp_attest.package.manifest import Manifest
    from wcp_attest.package.statement import Statement
    from wcp_attest.trust.conditions import BanCheck
    from wcp_attest.trust.policy import Accept, Policy
    from wcp_attest.verdict import Verified

MAX_CLOCK_SKEW = 300  # seconds a signer's clock may be ahead of ours

_REPEATED = ("worker_id", "worker_species_id", "worker_version", "package_hash", "hash_algorithm")


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the caller knows about the package beforehand; it tightens the policy and never loosens it.

    Attributes:
        worker_id: the worker it must be, or None.
        species_id: the species it must be of, or None.
    """

    worker_id: str | None = None
    species_id: str | None = None

    def check(self, worker_id: str, species_id: str) -> None:
        """Compare with what the manifest says.

        Raises:
            IdentityMismatch: it is another worker or species.
        """
        for name, expected, found in (
            ("worker id", self.worker_id, worker_id),
            ("species id", self.species_id, species_id),
        ):
            if expected is not None and expected != found:
                raise IdentityMismatch(f"the package is of {name} {found!r}, expected {expected!r}")


def check_identity(manifest: Manifest, statements: Sequence[Statement], expect: Expectation) -> None:
    """Compare the manifest with what its signers said of it and with what the caller expects.

    Raises:
        IdentityMismatch: they differ.
    """
    for statement in statements:
        for name in _REPEATED:
            said, found = getattr(statement, name), getattr(manifest, name)
            if said != found:
                raise IdentityMismatch(f"the signed statement says {name} {said!r}, the manifest {found!r}")
    expect.check(manifest.worker_id, manifest.worker_species_id)


def check_acceptable(manifest: Manifest, accept: Accept) -> None:
    """Compare the manifest with the policy's `[accept]` table.

    Raises:
        NotAcceptable: its schema is not accepted, or it excludes something where nothing may be excluded.
    """
    if SCHEMA not in accept.schemas:
        raise NotAcceptable(f"the package is of schema {SCHEMA}; the policy accepts {', '.join(accept.schemas)}")
    if manifest.excludes and not accept.excludes:
        patterns = ", ".join(repr(pattern) for pattern in manifest.excludes[:5])
        raise NotAcceptable(f"the manifest excludes {patterns} from what it covers; the policy accepts no exclude")


def check_age(signed_at: Sequence[int], accept: Accept, *, now: float) -> None:
    """Compare the times of the counted signatures with the policy.

    Args:
        signed_at: seconds since the epoch.
        accept: the policy's `[accept]` table.
        now: seconds since the epoch.

    Raises:
        Expired: one is older than the policy allows, or lies in the future.
    """
    for at in signed_at:
        if at > now + MAX_CLOCK_SKEW:
            raise Expired(f"a signature is dated {format_utc(at)}, which is in the future; check both clocks")
        if accept.max_age is not None and now - at > accept.max_age:
            raise Expired(
                f"a signature is of {format_utc(at)}, older than the policy's max_age; sign the package again"
            )


def check_bans(
    verified: Verified,
    files: Callable[[], Sequence[tuple[str, str]]],
    policy: Policy,
    bans: Sequence[BanCheck],
    *,
    now: float,
) -> None:
    """Ask every ban check about a package whose signatures hold, before its tree is read.

    Args:
        verified: what is known of the package.
        files: returns path and digest of every file; the manifest is signed, so the tree must have these.
        policy: its conditions are asked.
        bans: further checks.
        now: seconds since the epoch.

    Raises:
        Banned: a ban names the package.
        BansUnusable: what was asked for cannot be relied on.
    """
    if not bans and not policy.conditions:
        return
    from wcp_attest.trust.conditions import PackageFacts

    facts = PackageFacts(
        manifest_sha256=verified.manifest_sha256,
        package_hash=verified.package_hash,
        hash_algorithm=verified.hash_algorithm,
        worker_id=verified.worker_id,
        worker_version=verified.worker_version,
        signers=verified.signers,
    )
    checks = [*bans, *(condition.open(now=now) for condition in policy.conditions)]
    for check in checks:
        check.check_before(facts)
    digests = files()
    for check in checks:
        check.check_files(digests, verified.hash_algorithm)


def digests_of(manifest: Manifest) -> list[tuple[str, str]]:
    """Return path and digest of every file that a manifest lists.

    Raises:
        ManifestMalformed: an entry of it is.
    """
    return [(path, entry.digest) for path, entry in manifest.entries().items() if isinstance(entry, File)]
