"""Verify a package, in the order of the design: cheap before expensive, signature before tree.

    1 signature file: size, strict JSON, shape      5 the manifest is parsed; identity, schema, age, excludes
    2 a known signer?                               6 bans: manifest, package, files, worker, signer
    3 the signature over the DSSE encoding          7 the tree against the manifest, entry by entry
    4 statement: types, one subject, its digest     8 `verdict.judge` makes a code of whatever was raised

Steps 1 to 4 are `wcp_attest.signatures`, 5 is `wcp_attest.acceptance`, 6 is asked of `wcp_attest.trust.bans`, and 7 is
`wcp_attest.disk`.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wcp_attest.acceptance import Expectation, check_acceptable, check_age, check_bans, check_identity, digests_of
from wcp_attest.base.identity import format_utc, namespace_of, parse_utc
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.options import ReadOptions
from wcp_attest.package.manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest
from wcp_attest.signatures import PackageFiles, count_signers, verified_signatures
from wcp_attest.verdict import SEAL, Verdict, Verified, judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.signatures import Signed
    from wcp_attest.trust.conditions import BanCheck
    from wcp_attest.trust.policy import Policy

__all__ = ["Expectation", "attest", "verify"]


def verify(
    root: str | os.PathLike[str],
    policy: Policy,
    *,
    expect: Expectation | None = None,
    stage: str | os.PathLike[str] | None = None,
    bans: Sequence[BanCheck] = (),
    now: float | None = None,
    options: ReadOptions | None = None,
) -> Verdict:
    """Decide whether a package may run.

    Args:
        root: the package directory.
        policy: who is believed.
        expect: what the worker must be, beyond what the policy says.
        stage: a directory to create with the very bytes that were verified; it must not exist.
        bans: ban checks beyond those of the policy.
        now: the time to judge by, in seconds since the epoch; the clock by default.
        options: how to read the tree.

    Returns:
        A verdict. Every failure is a denial in it; nothing is raised but KeyboardInterrupt and SystemExit.
    """
    return judge(lambda: attest(root, policy, expect=expect, stage=stage, bans=bans, now=now, options=options))


def attest(
    root: str | os.PathLike[str],
    policy: Policy,
    *,
    expect: Expectation | None = None,
    stage: str | os.PathLike[str] | None = None,
    bans: Sequence[BanCheck] = (),
    now: float | None = None,
    options: ReadOptions | None = None,
) -> Verified:
    """Verify a package or raise why not; `verify` for those who want the exception.

    Args: as `verify`.

    Raises:
        VerificationError: the package is refused, a leaf for each reason.
        ConfigError: the arguments cannot be used.
    """
    package = os.fspath(root)
    expected = expect or Expectation()
    moment = time.time() if now is None else now
    reading = options or ReadOptions()
    if policy.accept.permissions == "strict":
        reading = replace(reading, strict_permissions=True)
    files = PackageFiles.read(package)
    if files.signatures is None:
        from wcp_attest.legacy_verification import attest_awp1, refuse_stage

        if stage is not None:
            refuse_stage()
        return attest_awp1(package, files.manifest, policy, expected, bans, now=moment, options=reading)
    signed = signed_package(files, policy, expected)
    check_standing(signed, policy, bans, now=moment)
    copies = {MANIFEST_NAME: files.manifest, SIGNATURE_NAME: files.signatures}
    staging = None if stage is None else os.fspath(stage)
    check_tree(package, signed.manifest, options=reading, stage=staging, extra=copies)
    return signed.verified


@dataclass(frozen=True, slots=True)
class SignedPackage:
    """What the two files of a package prove before anybody looks at time, bans or tree.

    Attributes:
        manifest: signed, parsed, acceptable.
        signed_at: when each counted signer signed, in seconds since the epoch.
        verified: what to hand out once time, bans and tree agree as well.
    """

    manifest: Manifest
    signed_at: tuple[int, ...]
    verified: Verified


def signed_package(files: PackageFiles, policy: Policy, expect: Expectation) -> SignedPackage:
    """Do what depends on nothing but the bytes of the two files and the policy: steps 1 to 5 without age.

    Raises:
        VerificationError: the package is refused.
    """
    signed, missed = verified_signatures(files, policy)
    manifest = Manifest.parse(files.manifest)
    check_identity(manifest, [signature.statement for signature in signed], expect)
    namespace = policy.namespace(namespace_of(manifest.worker_id))
    counted = count_signers(namespace, signed, missed)
    check_acceptable(manifest, policy.accept)
    verified = _verified(manifest, namespace.name, counted, policy)
    return SignedPackage(manifest, tuple(signature.at for signature in counted), verified)


def check_standing(signed: SignedPackage, policy: Policy, bans: Sequence[BanCheck], *, now: float) -> None:
    """Do what changes with time: age and bans.

    Raises:
        Expired: a signature is too old, or dated in the future.
        Banned: a ban names the package.
        BansUnusable: what was asked for cannot be relied on.
    """
    check_age(signed.signed_at, policy.accept, now=now)
    check_bans(signed.verified, lambda: digests_of(signed.manifest), policy, bans, now=now)


def _verified(manifest: Manifest, namespace: str, counted: Sequence[Signed], policy: Policy) -> Verified:
    latest = max(parse_utc(signature.statement.signed_at_utc) or 0 for signature in counted)
    return Verified(
        namespace=namespace,
        worker_id=manifest.worker_id,
        worker_species_id=manifest.worker_species_id,
        worker_version=manifest.worker_version,
        package_hash=manifest.package_hash,
        hash_algorithm=manifest.hash_algorithm,
        manifest_sha256=counted[0].statement.manifest_sha256,
        signers=tuple(signature.by for signature in counted),
        signed_at_utc=format_utc(latest),
        policy_digest=policy.digest,
        excludes=manifest.excludes,
        seal=SEAL,
    )
