"""Check a manifest and its signatures without the tree: for registries and hosts that see the two files alone.

    signed = check_pair(manifest, signatures, policy)          # raises what `attest` would raise
    signed.worker_id, signed.package_hash, signed.entries

The result says who signed what. It is not a `Verified`: the tree was not checked, so nothing may run because of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from wcp_attest.base.errors import SignatureInvalid, SignatureMissing
from wcp_attest.disk.placement import PackagePair, PairPlace
from wcp_attest.verdict import Question
from wcp_attest.verification import decide

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.package.entries import Entry
    from wcp_attest.package.provenance import AiOrigin
    from wcp_attest.trust.policy import Policy
    from wcp_attest.verdict import Expectation


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """What a pair says, signed by signers that the policy trusts for its namespace.

    Attributes:
        worker_id: from the manifest; so are the next four.
        worker_species_id: taxonomy, confers nothing.
        worker_version: version.
        package_hash: 64 lower-case hex digits.
        hash_algorithm: of the package hash and of the entries.
        manifest_sha256: of the bytes of the manifest, 64 lower-case hex digits.
        signers: the distinct signers that counted, in words.
        signed_at_utc: the latest time of signing among them.
        entries: by path.
        ai: what the signer says of the model that wrote it, or None.
    """

    worker_id: str
    worker_species_id: str
    worker_version: str
    package_hash: str
    hash_algorithm: HashAlgorithm
    manifest_sha256: str
    signers: tuple[str, ...]
    signed_at_utc: str
    entries: Mapping[str, Entry]
    ai: AiOrigin | None


def check_pair(
    manifest: bytes,
    signatures: bytes,
    policy: Policy,
    *,
    expect: Expectation | None = None,
    now: float | None = None,
) -> SignedManifest:
    """Check a pair under a policy: signers, threshold, identity, schema, age and bans. No tree is looked at.

    Args:
        manifest: the bytes of `manifest.json`.
        signatures: the bytes of `manifest.sig`.
        policy: who is trusted.
        expect: what the worker must be.
        now: the time to judge by, seconds since the epoch.

    Raises:
        VerificationError: the pair is refused, a leaf for each reason.
        ConfigError: the policy cannot be used.
    """
    if not signatures:
        raise SignatureMissing("there is no signature")
    question = Question.of("", policy, expect=expect, bans=(), now=now, options=None)  # there is no package
    pair = PackagePair(manifest, signatures, PairPlace("detached", ""))
    verified, proof = decide(question, pair=pair, compare=lambda _: None)
    if proof is None:
        raise SignatureInvalid("an `awp.v1` manifest proves nothing without its tree")
    return SignedManifest(
        worker_id=verified.worker_id,
        worker_species_id=verified.worker_species_id,
        worker_version=verified.worker_version,
        package_hash=verified.package_hash,
        hash_algorithm=verified.hash_algorithm,
        manifest_sha256=verified.manifest_sha256,
        signers=tuple(str(signer) for signer in verified.signers),
        signed_at_utc=verified.signed_at_utc,
        entries=proof.manifest.entries(),
        ai=proof.manifest.ai,
    )
