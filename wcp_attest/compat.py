"""The names that programs written for the earlier SDKs call, answered by this verifier.

    ok, deny_code, meta = PackageAttestationVerifier(
        "/opt/workers/summarizer", "/opt/workers/summarizer/manifest.json", "org.acme.summarizer", "wrk.doc.summarizer"
    ).verify()

The secret comes from the environment and is trusted for the namespace of the expected worker id, nothing else is: a
package passes when it is of schema `awp.v1` with that secret's HMAC inside, or of schema `awp.v2` with a line by it in
`manifest.sig`. New programs use `wcp_attest.verify` with a policy, which knows keys, Sigstore and bans.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from wcp_attest.base.errors import ConfigError, DenyCode, ManifestMissing, SignatureMissing, TreeUnsafe, TrustUnusable
from wcp_attest.base.identity import format_utc, namespace_of
from wcp_attest.package.manifest import MANIFEST_NAME
from wcp_attest.signing.hmac import HmacSecret
from wcp_attest.trust.policy import Accept, Namespace, Policy
from wcp_attest.verdict import Expectation, judge
from wcp_attest.verification import attest

if TYPE_CHECKING:
    from wcp_attest.verdict import Verified

SECRET_VARIABLE = "WCP_ATTEST_HMAC_KEY"  # noqa: S105  # the name of a variable, not a secret


class Attestation(NamedTuple):
    """The answer, in the shape of the earlier SDKs.

    Attributes:
        ok: whether the package may run.
        deny_code: why not, an `ATTEST_…` text; None when it may.
        meta: when it may, `package_hash`, `manifest_schema`, `attested_at_utc`, `verified_at_utc` and
            `trust_statement`, all from signed data; when not, `message` and `differences`.
    """

    ok: bool
    deny_code: DenyCode | None
    meta: dict[str, object]


class PackageAttestationVerifier:
    """Verifies one package against a shared secret.

    Args:
        package_root: the package directory.
        manifest_path: its `manifest.json`; a manifest anywhere else is not looked at.
        worker_id: who it must be; its first two segments are the namespace.
        worker_species_id: the species it must be of.
        secret_env: the name of the environment variable with the secret.
    """

    def __init__(
        self,
        package_root: str | os.PathLike[str],
        manifest_path: str | os.PathLike[str],
        worker_id: str,
        worker_species_id: str,
        secret_env: str = SECRET_VARIABLE,
    ) -> None:
        self.package_root = os.fspath(package_root)
        self.manifest_path = os.fspath(manifest_path)
        self.worker_id = worker_id
        self.worker_species_id = worker_species_id
        self.secret_env = secret_env

    def verify(self) -> Attestation:
        """Verify the package as it stands now; nothing is raised but KeyboardInterrupt and SystemExit."""
        verdict = judge(self._attest, mistakes_raise=False)
        if verdict.verified is None:
            reasons: dict[str, object] = {
                "message": verdict.message,
                "differences": [each.path for each in verdict.differences],
            }
            return Attestation(ok=False, deny_code=verdict.code, meta=reasons)
        return Attestation(ok=True, deny_code=None, meta=_facts(verdict.verified))

    def _attest(self) -> Verified:
        if os.path.abspath(self.manifest_path) != os.path.join(os.path.abspath(self.package_root), MANIFEST_NAME):
            raise ManifestMissing(f"{self.manifest_path!r} is not the {MANIFEST_NAME} of {self.package_root!r}")
        secret = os.environb.get(os.fsencode(self.secret_env), b"")
        if not secret:
            raise SignatureMissing(f"the environment variable {self.secret_env} holds no secret to verify with")
        try:
            namespace = Namespace(namespace_of(self.worker_id), keys=(HmacSecret(secret),))
        except ConfigError as problem:
            raise TrustUnusable(str(problem)) from None
        policy = Policy((namespace,), accept=Accept(schemas=("awp.v2", "awp.v1")))
        return attest(self.package_root, policy, expect=Expectation(self.worker_id, self.worker_species_id))


def canonical_package_hash(package_root: str | os.PathLike[str]) -> str:
    """Return the SHA-256 package hash of a whole tree: of every file in it but the pair in the root.

    It is the earlier SDKs' hash, and the `package_hash` of an `awp.v2` package that excludes nothing. No pattern is
    taken from the tree, and a tree that holds what the hash does not cover is refused. Otherwise an attacker who can
    write to the tree could hide files from a comparison with a known hash.

    Args:
        package_root: the package directory.

    Raises:
        ConfigError: it is empty, absent or a link.
        TreeUnsafe: the tree holds a link, an empty directory, bytecode or a `.git`, which the hash does not cover, or
            what cannot be signed.
    """
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.read_tree import read_tree
    from wcp_attest.package.entries import File, parse_line
    from wcp_attest.package.names import is_bytecode

    options = ReadOptions(bytecode="include", allow_twins=True, placement="beside")
    reading = read_tree(os.fspath(package_root), excludes=(), options=options)
    uncovered = []
    for path, entry in (parse_line(line, "sha256") for line in reading.lines):
        names = path.split("/")
        if not isinstance(entry, File) or ".git" in names or any(map(is_bytecode, names)):
            uncovered.append(path)
    if uncovered:
        shown = ", ".join(repr(path) for path in uncovered[:5])
        raise TreeUnsafe(f"the package hash does not cover {len(uncovered)} entries: {shown}; remove them")
    return reading.package_hash


def _facts(verified: Verified) -> dict[str, object]:
    return {
        "package_hash": verified.package_hash,
        "manifest_schema": verified.schema,
        "attested_at_utc": verified.signed_at_utc,
        "verified_at_utc": format_utc(time.time()),
        "trust_statement": verified.trust_statement,
    }
