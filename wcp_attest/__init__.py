"""Sign a worker package, verify it fail closed against a trust policy and ban lists.

    from wcp_attest import Policy, load_policy, verify
    verdict = verify("my-worker", load_policy("policy.toml"))
    if not verdict:
        raise SystemExit(f"{verdict.code}: {verdict.message}")

Names are imported when they are first used, so that `import wcp_attest` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wcp_attest.base.differences import Change as Change
    from wcp_attest.base.differences import Difference as Difference
    from wcp_attest.base.errors import ConfigError as ConfigError
    from wcp_attest.base.errors import DenyCode as DenyCode
    from wcp_attest.base.errors import Error as Error
    from wcp_attest.base.errors import SigningError as SigningError
    from wcp_attest.base.errors import VerificationError as VerificationError
    from wcp_attest.build import build_manifest as build_manifest
    from wcp_attest.build import write_manifest as write_manifest
    from wcp_attest.compat import PackageAttestationVerifier as PackageAttestationVerifier
    from wcp_attest.compat import canonical_package_hash as canonical_package_hash
    from wcp_attest.disk.options import Progress as Progress
    from wcp_attest.disk.options import ReadOptions as ReadOptions
    from wcp_attest.package.manifest import Manifest as Manifest
    from wcp_attest.pair import SignedManifest as SignedManifest
    from wcp_attest.pair import check_pair as check_pair
    from wcp_attest.recheck import Recheck as Recheck
    from wcp_attest.run_package import load_module as load_module
    from wcp_attest.run_package import verified as verified
    from wcp_attest.scaffold import scaffold_package as scaffold_package
    from wcp_attest.sign_package import SignResult as SignResult
    from wcp_attest.sign_package import sign as sign
    from wcp_attest.signing import SignedBy as SignedBy
    from wcp_attest.signing import Signer as Signer
    from wcp_attest.signing import SigstoreTrust as SigstoreTrust
    from wcp_attest.signing import TrustedSigner as TrustedSigner
    from wcp_attest.signing.hmac import HmacSecret as HmacSecret
    from wcp_attest.signing.key import KeySigner as KeySigner
    from wcp_attest.signing.key import TrustedKey as TrustedKey
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity as SigstoreIdentity
    from wcp_attest.store import PackageStore as PackageStore
    from wcp_attest.store import StoredPackage as StoredPackage
    from wcp_attest.trust.policy import Accept as Accept
    from wcp_attest.trust.policy import Namespace as Namespace
    from wcp_attest.trust.policy import Policy as Policy
    from wcp_attest.trust.policy_file import load_policy as load_policy
    from wcp_attest.trust.policy_file import parse_policy as parse_policy
    from wcp_attest.verdict import Expectation as Expectation
    from wcp_attest.verdict import Verdict as Verdict
    from wcp_attest.verdict import Verified as Verified
    from wcp_attest.verification import attest as attest
    from wcp_attest.verification import verify as verify

__version__ = "0.1.0"

_HOMES = {
    "base.differences": ("Change", "Difference"),
    "base.errors": ("ConfigError", "DenyCode", "Error", "SigningError", "VerificationError"),
    "build": ("build_manifest", "write_manifest"),
    "compat": ("PackageAttestationVerifier", "canonical_package_hash"),
    "disk.options": ("Progress", "ReadOptions"),
    "package.manifest": ("Manifest",),
    "pair": ("SignedManifest", "check_pair"),
    "recheck": ("Recheck",),
    "run_package": ("load_module", "verified"),
    "scaffold": ("scaffold_package",),
    "sign_package": ("SignResult", "sign"),
    "signing": ("SignedBy", "Signer", "SigstoreTrust", "TrustedSigner"),
    "signing.hmac": ("HmacSecret",),
    "signing.key": ("KeySigner", "TrustedKey"),
    "signing.sigstore.signer_identity": ("SigstoreIdentity",),
    "trust.policy": ("Accept", "Namespace", "Policy"),
    "trust.policy_file": ("load_policy", "parse_policy"),
    "store": ("PackageStore", "StoredPackage"),
    "verdict": ("Expectation", "Verdict", "Verified"),
    "verification": ("attest", "verify"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: PLE0604  # the table above is the one list of public names
    "__version__",
    *_HOME_OF,
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'wcp_attest' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"wcp_attest.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, imported or not."""
    return sorted(__all__)
