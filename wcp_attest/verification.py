"""Verify a package, in the order of the design: cheap before expensive, signature before tree.

`attest` is the whole decision: its steps stand numbered beside the calls, and every other function of this module is
one of those steps. `verify` is the same for callers who want a `Verdict` instead of an exception.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import (
    Expired,
    IdentityMismatch,
    NotAcceptable,
    SignatureInvalid,
    SignatureMissing,
    SignerUntrusted,
    ThresholdNotMet,
    TrustUnusable,
    VerificationError,
)
from wcp_attest.base.identity import format_utc, namespace_of, parse_utc
from wcp_attest.disk.placement import PackagePair, find_place
from wcp_attest.disk.quick_check import is_exact
from wcp_attest.package.manifest import SCHEMA, Manifest
from wcp_attest.package.signature_file import parse_lines
from wcp_attest.package.statement import Statement
from wcp_attest.signing.signature_lines import Counted, distinct, named_by, verify_line
from wcp_attest.verdict import SEAL, Expectation, Question, Verdict, Verified, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.package.legacy_manifest import Awp1Manifest
    from wcp_attest.signing import SignedBy
    from wcp_attest.signing.signature_lines import ValidSignature
    from wcp_attest.trust.conditions import BanCheck
    from wcp_attest.trust.policy import Accept, Namespace, Policy

__all__ = ["Expectation", "attest", "verify"]

MAX_CLOCK_SKEW = 300  # seconds a signer's clock may be ahead of ours

_REPEATED = ("worker_id", "worker_species_id", "worker_version", "package_hash", "hash_algorithm")


@dataclass(frozen=True, slots=True)
class PackageProof:
    """What the two files of a package prove by themselves, without time, bans and tree.

    Attributes:
        pair: the two files.
        manifest: signed, parsed and acceptable.
        namespace: whose authority the package carries.
        counted: one signature for each distinct signer that counts towards the threshold.
        signers: the signers of every signature that is valid, whether it counts or not, and whom the lines name that
            could not be verified here; ban checks look at all of them.
    """

    pair: PackagePair
    manifest: Manifest
    namespace: str
    counted: tuple[PackageSignature, ...]
    signers: tuple[SignedBy, ...]


@dataclass(frozen=True, slots=True)
class PackageSignature(Counted):
    """A valid signature over this very manifest.

    Attributes:
        statement: what was signed.
        at: when, in seconds since the epoch: as a log or a timestamp authority proves, else as the statement says.
    """

    statement: Statement
    at: int

    @classmethod
    def of(cls, found: ValidSignature, statement: Statement) -> PackageSignature:
        """Join a valid signature and what it says.

        Args:
            found: the signature.
            statement: read from its payload.
        """
        return cls(found.by, found.entries, statement, statement.signed_at if found.at is None else found.at)


def verify(
    root: str | os.PathLike[str],
    policy: Policy,
    *,
    expect: Expectation | None = None,
    stage: str | os.PathLike[str] | None = None,
    bans: Sequence[BanCheck] = (),
    now: float | None = None,
    options: ReadOptions | None = None,
    attestation: str | os.PathLike[str] | None = None,
) -> Verdict:
    """Decide whether a package may run.

    Args:
        root: the package directory.
        policy: who is trusted for what (`wcp_attest.load_policy`).
        expect: what the worker must be, beyond what the policy says.
        stage: a directory to create with the very bytes that were verified; it must not exist.
        bans: ban checks beyond those of the policy.
        now: the time to judge by, in seconds since the epoch; the clock by default.
        options: how to read the tree.
        attestation: the directory that holds `manifest.json` and `manifest.sig`, for a package whose pair lies outside
            of it; by default they lie in its `.wcp/` or in its root.

    Returns:
        A verdict. Everything that is wrong with the package is a denial in it.

    Raises:
        ConfigError: the caller's mistake: `stage` exists, `root` is a link, the policy reads a file inside the package.
        TypeError: an argument has the wrong type.
    """
    question = Question.of(root, policy, expect=expect, bans=bans, now=now, options=options, attestation=attestation)
    staging = None if stage is None else os.fspath(stage)
    return judge(lambda: decide(question, stage=staging)[0])


def attest(
    root: str | os.PathLike[str],
    policy: Policy,
    *,
    expect: Expectation | None = None,
    stage: str | os.PathLike[str] | None = None,
    bans: Sequence[BanCheck] = (),
    now: float | None = None,
    options: ReadOptions | None = None,
    attestation: str | os.PathLike[str] | None = None,
) -> Verified:
    """Verify a package or raise why not; `verify` for callers who want the exception.

    Args: as `verify`.

    Raises:
        VerificationError: the package is refused, a leaf for each reason.
        ConfigError: the caller's mistake, as in `verify`.
        TypeError: an argument has the wrong type.
    """
    question = Question.of(root, policy, expect=expect, bans=bans, now=now, options=options, attestation=attestation)
    return decide(question, stage=None if stage is None else os.fspath(stage))[0]


def decide(
    question: Question,
    *,
    pair: PackagePair | None = None,
    stage: str | None = None,
    earlier: PackageProof | None = None,
    compare: Callable[[PackageProof], None] | None = None,
) -> tuple[Verified, PackageProof | None]:
    """Take every step of the decision, in order. Each step raises when the package fails it.

    Args:
        question: what to decide.
        pair: the two files, for a caller who has their bytes and compares the tree himself; by default they are read.
        stage: a new directory for a copy of the verified bytes, or None.
        earlier: what an earlier decision under the same policy proved; it stands while both files are the same.
        compare: compares the tree with the proof's manifest in place of step 7.

    Returns:
        The proof for the caller, and the part of it that holds as long as the two files do not change (None for
        `awp.v1`).

    Raises:
        VerificationError: the package is refused.
        ConfigError: the caller's mistake.
    """
    policy = question.policy
    # 0  Nothing that decides may lie inside the package, or the package would decide about itself.
    policy.check_outside(question.package)
    # 1  Find the pair and read it: regular files of bounded size.
    pair = pair or PackagePair.read(find_place(question.package, question.attestation))
    if pair.signatures is None:
        return _decide_legacy(question, pair.manifest, staged=stage is not None), None
    proof = earlier
    if proof is None or proof.pair != pair:
        # 2  Lines by signers that the policy knows. 3  Their signature over the DSSE encoding.
        # 4  Their statement: types, one subject, the SHA-256 of this manifest.
        signatures, missed, named = _valid_signatures(pair, policy)
        # 5  Only now is the manifest parsed: identity, namespace and its threshold, schema, excludes.
        manifest = Manifest.parse(pair.manifest)
        _check_identity(manifest, signatures, question.expect)
        namespace = policy.namespace(namespace_of(manifest.worker_id))
        counted = count_signers(namespace, signatures, missed)
        _check_acceptable(manifest, policy.accept)
        proof = PackageProof(pair, manifest, namespace.name, counted, (*(each.by for each in signatures), *named))
    # 6  What changes with time: age and bans, before a single file is opened.
    check_age_and_bans(question, proof)
    # 7  The tree against the manifest: every entry, none missing, none extra. A small tree that agrees is seen to agree
    #    in one pass; every other one is walked, and what differs is named.
    placement, options = pair.place.placement, question.options
    if compare is not None:
        compare(proof)
    elif stage is not None or not is_exact(question.package, proof.manifest, placement, options):
        from wcp_attest.disk.check_tree import check_tree

        options = replace(options, placement=placement)
        check_tree(question.package, proof.manifest, options=options, stage=stage, extra=pair.in_tree)
    # 8  The proof, made nowhere else and of nothing but what was checked above. `judge` makes the verdict of it.
    return proven(question, proof), proof


def proven(question: Question, proof: PackageProof) -> Verified:
    """Return the proof for the caller; call it last, after age, bans and tree."""
    manifest = proof.manifest
    return Verified(
        namespace=proof.namespace,
        worker_id=manifest.worker_id,
        worker_species_id=manifest.worker_species_id,
        worker_version=manifest.worker_version,
        package_hash=manifest.package_hash,
        hash_algorithm=manifest.hash_algorithm,
        manifest_sha256=proof.counted[0].statement.manifest_sha256,
        signers=tuple(signature.by for signature in proof.counted if _is_young(question, signature.at)),
        signed_at_utc=format_utc(max(each.statement.signed_at for each in proof.counted)),
        policy_digest=question.policy.digest,
        excludes=manifest.excludes,
        placement=proof.pair.place.placement,
        seal=SEAL,
    )


def _valid_signatures(
    pair: PackagePair, policy: Policy
) -> tuple[tuple[PackageSignature, ...], tuple[VerificationError, ...], tuple[SignedBy, ...]]:
    """Verify every line that names a signer the policy knows, and read what it signed.

    A line that names a trusted key must verify and must cover this manifest. A line by a key that the policy does not
    know is passed over, so that a second signer breaks nothing. A keyless line that does not verify counts for nothing
    and denies only where it is missed: which Sigstore instance it belongs to is not known before.

    Returns:
        The valid signatures, why each keyless line counts for nothing, and whom the lines name that were not verified.

    Raises:
        SignatureMissing: there is no signature.
        SignatureInvalid: a line is malformed, or one that names a trusted key does not hold over this manifest.
        SignerUntrusted: no signature is by a signer that the policy knows.
        TrustUnusable: what keyless verification needs is not available.
    """
    digest = sha256_hex(pair.manifest)
    valid: list[PackageSignature] = []
    missed: list[VerificationError] = []
    named: list[SignedBy | None] = []
    for line in parse_lines(pair.signatures or b""):
        try:
            found = verify_line(line, policy.keys, policy.identities, policy.sigstore)
            if found is None:
                named.append(named_by(line))
                continue
            statement = Statement.from_bytes(found.payload)
        except VerificationError as problem:
            if line.kind != "sigstore":
                raise
            missed.append(problem)
            named.append(named_by(line))
            continue
        if found.mismatch is not None:
            missed.append(found.mismatch)
        if statement.manifest_sha256 == digest:
            valid.append(PackageSignature.of(found, statement))
        elif found.entries:
            from wcp_attest.package.ours import conversion_of

            cause = conversion_of(pair.manifest, statement.manifest_sha256)
            raise SignatureInvalid(f"the signature by {found.by} is over another manifest.json than this one{cause}")
    if any(signature.entries for signature in valid):
        return tuple(valid), tuple(missed), tuple(filter(None, named))
    if missed:
        raise _unchecked(missed) or missed[0]
    raise SignerUntrusted("none of the signatures is by a signer that the policy names")


def count_signers(
    namespace: Namespace, signatures: Sequence[PackageSignature], missed: Sequence[VerificationError] = ()
) -> tuple[PackageSignature, ...]:
    """Return one signature for each distinct signer that the namespace trusts.

    Each entry of the policy counts once, and so does each person or machine: the same identity twice is one signer, and
    one that matches two entries is not two. Where only one of several can count, the latest does: the order of lines is
    not signed, and a signer who signs again means the new signature.

    Raises:
        SignerUntrusted: none of them is trusted for this namespace.
        ThresholdNotMet: there are fewer than the threshold.
        TrustUnusable: there are fewer, and one of the others could not be checked.
    """
    latest = sorted(signatures, key=lambda signature: signature.at, reverse=True)
    chosen = set(map(id, distinct(latest, {*namespace.keys, *namespace.identities})))
    counted = tuple(signature for signature in signatures if id(signature) in chosen)  # in the order of the file
    if not counted:
        others = ", ".join(str(signature.by) for signature in signatures)
        raise SignerUntrusted(f"signed by {others}; the policy does not trust them for namespace {namespace.name}")
    if len(counted) < namespace.threshold:
        if (unchecked := _unchecked(missed)) is not None:
            raise unchecked
        signed = f"{len(counted)} {'has' if len(counted) == 1 else 'have'} signed"
        besides = f"; a further signature does not count: {missed[0]}" if missed else ""
        others = namespace.others({entry for signature in counted for entry in signature.entries})
        signed += f": {', '.join(str(signature.by) for signature in counted)}; not yet: {others}{besides}"
        who = [signature.by for signature in counted]
        raise ThresholdNotMet(f"{namespace.name} needs {namespace.threshold} signers, {signed}", who)
    return counted


def _unchecked(problems: Sequence[VerificationError]) -> TrustUnusable | None:
    """Return why a line could not even be checked, if that happened: then nothing was found out about it."""
    return next((problem for problem in problems if isinstance(problem, TrustUnusable)), None)


def _check_identity(manifest: Manifest, signatures: Sequence[PackageSignature], expect: Expectation) -> None:
    """Compare the manifest with what its signers said of it and with what the caller expects.

    Raises:
        IdentityMismatch: they differ.
    """
    for signature in signatures:
        if not signature.entries:
            continue  # an untrusted signer's statement cannot deny a package
        for name in _REPEATED:
            said, found = getattr(signature.statement, name), getattr(manifest, name)
            if said != found:
                raise IdentityMismatch(f"the signed statement says {name} {said!r}, the manifest {found!r}")
    expect.check(manifest.worker_id, manifest.worker_species_id)


def _check_acceptable(manifest: Manifest, accept: Accept) -> None:
    """Compare the manifest with the policy's `[accept]` table."""
    if SCHEMA not in accept.schemas:
        raise NotAcceptable(f"the package has schema {SCHEMA}; the policy accepts {', '.join(accept.schemas)}")
    if manifest.excludes and not accept.excludes:
        patterns = ", ".join(repr(pattern) for pattern in manifest.excludes[:5])
        raise NotAcceptable(f"the manifest excludes {patterns} from what it covers; the policy accepts no exclude")


def check_age_and_bans(question: Question, proof: PackageProof) -> None:
    """Check what changes with time.

    Raises:
        Expired: a signature is too old, or a signature or the manifest is dated in the future.
        Banned: a ban names the package.
        BansUnusable: a ban list that the policy asks for cannot be used.
    """
    manifest = proof.manifest
    built_at = parse_utc(manifest.built_at_utc) or 0
    _check_age(question, [signature.at for signature in proof.counted], built_at, proof.namespace)
    # The manifest is signed and the tree must match it, so its digests tell of banned files before any is opened.
    _check_bans(
        question, manifest, proof.counted[0].statement.manifest_sha256, proof.signers, lambda: digests(manifest)
    )


def _check_age(question: Question, signed_at: Sequence[int], built_at: int, namespace: str) -> None:
    """Check the times of the manifest and of the counted signatures: the threshold must be met by those of age."""
    latest = question.now + MAX_CLOCK_SKEW
    if built_at > latest:
        raise Expired(f"the manifest was built at {format_utc(built_at)}, which is in the future; check both clocks")
    for at in signed_at:
        if at > latest:
            raise Expired(f"a signature is dated {format_utc(at)}, which is in the future; check both clocks")
    old = sorted(at for at in signed_at if not _is_young(question, at))
    if old and len(signed_at) - len(old) < question.policy.namespace(namespace).threshold:
        raise Expired(
            f"a signature of {format_utc(old[-1])} is older than the policy's max_age; sign the package again"
        )


def _is_young(question: Question, at: int) -> bool:
    """Tell whether the policy's `max_age` allows a signature of that time."""
    max_age = question.policy.accept.max_age
    return max_age is None or question.now - at <= max_age


def _check_bans(
    question: Question,
    manifest: Manifest | Awp1Manifest,
    manifest_sha256: str,
    signers: tuple[SignedBy, ...],
    files: Callable[[], Iterable[tuple[str, str]]],
) -> None:
    """Ask every ban check about the package, then about its files."""
    if not question.bans and not question.policy.conditions:
        return
    from wcp_attest.trust.conditions import PackageFacts

    facts = PackageFacts(
        manifest_sha256=manifest_sha256,
        package_hash=manifest.package_hash,
        hash_algorithm=manifest.hash_algorithm,
        worker_id=manifest.worker_id,
        worker_version=manifest.worker_version,
        signers=signers,
        excludes=getattr(manifest, "excludes", ()),  # `awp.v1` has none
    )
    checks = [*question.bans, *(condition.open(now=question.now) for condition in question.policy.conditions)]
    for check in checks:
        check.check_before(facts)
    for check in checks:
        check.check_files(files(), manifest.hash_algorithm)


def digests(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield path and digest of every file of a manifest; its entries are parsed only for a check that bans files."""
    from wcp_attest.package.entries import File

    yield from ((path, entry.digest) for path, entry in manifest.entries().items() if isinstance(entry, File))


def _decide_legacy(question: Question, data: bytes, *, staged: bool) -> Verified:
    """Decide about a package without `manifest.sig`: it may have the earlier schema `awp.v1`, with its HMAC inside.

    It must be allowed by name, and it counts as the one signature of a shared secret, so it can never satisfy a policy
    that asks for a key, for Sigstore, or for two signers. Only its seven signed fields are used.

    Raises:
        SignatureMissing: the policy does not accept `awp.v1`, so a signature file is missing.
        VerificationError: the package is refused, a leaf for each reason.
    """
    from wcp_attest import legacy_tree
    from wcp_attest.package import legacy_manifest

    policy = question.policy
    if "awp.v1" not in policy.accept.schemas:
        why = "sign the package with `wcp-attest sign`"
        if b'"awp.v1"' in data[: legacy_manifest.MAX_BYTES]:
            why = "manifest.json says that it has schema awp.v1, which the policy must accept by name"
        raise SignatureMissing(f"manifest.sig is missing; {why}")
    if staged:
        raise NotAcceptable("a package of schema awp.v1 cannot be staged; sign it again as awp.v2")
    # 2 to 5  This schema signs its own fields, so they are parsed first, and nothing is used before its HMAC holds.
    manifest = legacy_manifest.parse(data)
    question.expect.check(manifest.worker_id, manifest.worker_species_id)
    namespace = policy.namespace(namespace_of(manifest.worker_id))
    signer = _legacy_signer(manifest, namespace)
    # 6a Age.
    _check_age(question, [manifest.built_at], manifest.built_at, namespace.name)
    # 7  The tree, before bans: this schema lists no files, so their digests are known only from the tree.
    files = legacy_tree.check_tree(question.package, manifest, question.options)
    # 6b Bans.
    digest = sha256_hex(data)
    _check_bans(question, manifest, digest, (signer,), lambda: files)
    # 8  The proof.
    return Verified(
        namespace=namespace.name,
        worker_id=manifest.worker_id,
        worker_species_id=manifest.worker_species_id,
        worker_version=manifest.worker_version,
        package_hash=manifest.package_hash,
        hash_algorithm=manifest.hash_algorithm,
        manifest_sha256=digest,
        signers=(signer,),
        signed_at_utc=manifest.built_at_utc,
        policy_digest=policy.digest,
        schema=legacy_manifest.SCHEMA,
        seal=SEAL,
    )


def _legacy_signer(manifest: Awp1Manifest, namespace: Namespace) -> SignedBy:
    from wcp_attest.package import legacy_manifest
    from wcp_attest.signing import SignedBy
    from wcp_attest.signing.hmac import HmacSecret

    secrets = [key for key in namespace.keys if isinstance(key, HmacSecret)]
    if not secrets:
        raise SignerUntrusted(f"awp.v1 is signed by a shared secret; the policy trusts none for {namespace.name}")
    if namespace.threshold > 1:
        raise ThresholdNotMet(
            f"awp.v1 carries one signature; namespace {namespace.name} needs {namespace.threshold} signers"
        )
    for secret in secrets:
        try:
            legacy_manifest.check_signature(manifest, secret.secret)
        except SignatureInvalid:
            continue
        return SignedBy(key_id=secret.key_id)
    raise SignatureInvalid("the HMAC inside manifest.json does not hold: wrong secret or changed manifest")
