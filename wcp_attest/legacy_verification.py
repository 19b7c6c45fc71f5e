"""Verify a package of the predecessors' schema `awp.v1`, whose HMAC stands inside its manifest.

It must be allowed by name, and it counts as the one signature of a shared secret, so it can never satisfy a policy that
asks for a key, for Sigstore, or for two signers. Nothing outside its seven signed fields is believed or repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_attest.acceptance import check_age, check_bans
from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import NotAcceptable, SignatureInvalid, SignatureMissing, SignerUntrusted, ThresholdNotMet
from wcp_attest.base.identity import namespace_of
from wcp_attest.package import legacy_manifest as awp1
from wcp_attest.signing import SignedBy
from wcp_attest.signing.hmac import HmacSecret
from wcp_attest.verdict import SEAL, Verified

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.acceptance import Expectation
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.package.legacy_manifest import Awp1Manifest
    from wcp_attest.trust.conditions import BanCheck
    from wcp_attest.trust.policy import Namespace, Policy


def attest_awp1(
    package: str,
    data: bytes,
    policy: Policy,
    expect: Expectation,
    bans: Sequence[BanCheck],
    *,
    now: float,
    options: ReadOptions,
) -> Verified:
    """Verify a package that has no `manifest.sig`.

    Args:
        package: its directory.
        data: the bytes of its `manifest.json`.
        policy: who is believed.
        expect: what the caller expects.
        bans: ban checks beyond the policy's.
        now: seconds since the epoch.
        options: how to read the tree.

    Raises:
        SignatureMissing: the policy does not accept `awp.v1`, so a signature file is missed.
        VerificationError: the package is refused, a leaf for each reason.
    """
    if "awp.v1" not in policy.accept.schemas:
        why = "sign the package with `wcp-attest sign`"
        if b'"awp.v1"' in data[: awp1.MAX_BYTES]:
            why = "manifest.json says that it is of schema awp.v1, which must be accepted by name"
        raise SignatureMissing(f"manifest.sig is missing; {why}")
    manifest = awp1.parse(data)
    expect.check(manifest.worker_id, manifest.worker_species_id)
    namespace = policy.namespace(namespace_of(manifest.worker_id))
    signer = _verify_secret(manifest, namespace)
    check_age([manifest.built_at], policy.accept, now=now)
    verified = Verified(
        namespace=namespace.name,
        worker_id=manifest.worker_id,
        worker_species_id=manifest.worker_species_id,
        worker_version=manifest.worker_version,
        package_hash=manifest.package_hash,
        hash_algorithm="sha256",
        manifest_sha256=sha256_hex(data),
        signers=(signer,),
        signed_at_utc=manifest.built_at_utc,
        policy_digest=policy.digest,
        schema=awp1.SCHEMA,
        seal=SEAL,
    )
    # The old manifest lists no files, so here, and only here, the tree is read before single files can be looked up.
    check_bans(verified, lambda: awp1.check_tree(package, manifest, options), policy, bans, now=now)
    if not bans and not policy.conditions:
        awp1.check_tree(package, manifest, options)
    return verified


def refuse_stage() -> None:
    """Refuse to stage a package of this schema.

    Raises:
        NotAcceptable: always; its manifest does not say what each file must be.
    """
    raise NotAcceptable("a package of schema awp.v1 cannot be staged; sign it again as awp.v2")


def _verify_secret(manifest: Awp1Manifest, namespace: Namespace) -> SignedBy:
    secrets = [key for key in namespace.keys if isinstance(key, HmacSecret)]
    if not secrets:
        raise SignerUntrusted(f"awp.v1 is signed by a shared secret; the policy trusts none for {namespace.name}")
    if namespace.threshold > 1:
        raise ThresholdNotMet(
            f"awp.v1 carries one signature; namespace {namespace.name} asks for {namespace.threshold}"
        )
    for secret in secrets:
        try:
            awp1.check_signature(manifest, secret.secret)
        except SignatureInvalid:
            continue
        return SignedBy(key_id=secret.key_id)
    raise SignatureInvalid("the HMAC inside manifest.json does not hold: wrong secret or changed manifest")
