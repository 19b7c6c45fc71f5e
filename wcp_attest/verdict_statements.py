"""A verdict as two signed statements, for programs that trust this verifier and do not verify the package themselves.

    lines = verdict_lines(verified, policy, [KeySigner.load("verifier.key")])

One line is a Simple Verification Result (in-toto attestation framework, predicate svr v0.2), the other a Verification
Summary Attestation (SLSA 1.x, predicate verification_summary v1). Both are about the bytes of `manifest.json` by their
SHA-256 and are signed as the lines of `manifest.sig` are. Only a pass becomes a statement: who reads one must check
the signer, the verifier's id, the digest and the time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError, VerificationError
from wcp_attest.base.identity import format_utc
from wcp_attest.package.manifest import MANIFEST_NAME
from wcp_attest.package.signature_file import parse_lines
from wcp_attest.package.statement import read, render
from wcp_attest.signing.signature_lines import make_lines
from wcp_attest.trust.archive_provenance import ProvenanceCondition
from wcp_attest.trust.bans.bans_table import BansCondition
from wcp_attest.trust.registry.registry_table import RegistryCondition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.signing import Signer
    from wcp_attest.trust.policy import Policy
    from wcp_attest.verdict import Verified

SVR_PREDICATE: Final = "https://in-toto.io/attestation/svr/v0.2"
VSA_PREDICATE: Final = "https://slsa.dev/verification_summary/v1"
VERIFIER_ID: Final = "https://workerclassprotocol.dev/verifier/wcp-attest/v1"
PACKAGE_VERIFIED: Final = "WCP_PACKAGE_VERIFIED"
MAX_URI: Final = 2048  # characters


@dataclass(frozen=True, slots=True)
class VerdictNames:
    """What the statements call the verifier and the package.

    Attributes:
        verifier: a URI of yours for this verifier; consumers accept only a pair of signer and verifier that they know.
        resource: the URI from which consumers fetch the package; by default `pkg:generic/<worker id>@<version>`.

    Raises:
        ConfigError: one of them is no URI.
    """

    verifier: str = VERIFIER_ID
    resource: str | None = None

    def __post_init__(self) -> None:
        for what, uri in (("the verifier's id", self.verifier), ("the resource", self.resource)):
            if uri is None:
                continue
            scheme, colon, rest = uri.partition(":")
            plain = uri.isascii() and uri.isprintable() and " " not in uri and len(uri) <= MAX_URI
            if not (plain and colon and rest and scheme[:1].isalpha()):
                raise ConfigError(f"{what} must be a URI such as https://acme.example/verifier/v1, not {uri[:80]!r}")


def verdict_lines(
    verified: Verified,
    policy: Policy,
    signers: Sequence[Signer],
    *,
    names: VerdictNames | None = None,
    now: float | None = None,
) -> tuple[bytes, ...]:
    """Sign what was verified as an SVR and as a VSA.

    Args:
        verified: the proof of a pass.
        policy: the policy it passed under.
        signers: who signs, at least one; `KeySigner` and the other signers of `sign`.
        names: what the statements call the verifier and the package.
        now: the time of the verification in seconds since the epoch; the clock by default.

    Returns:
        The lines of a verdict file without newlines: for each signer an SVR, then for each a VSA.

    Raises:
        ConfigError: no signer is given, or one is given twice.
        SigningError: a signature could not be made.
    """
    names, moment = names or VerdictNames(), format_utc(time.time() if now is None else now)
    # A policy made of options has no file, hence no digest; the VSA must name one, the SVR has an empty list then.
    digest = verified.policy_digest
    described: JsonObject = {"uri": f"urn:wcp:policy:{digest or 'options'}"}
    if digest:
        described["digest"] = {"sha256": digest}
    svr: JsonObject = {
        "verifier": {"id": names.verifier, "policies": [described] if digest else []},
        "timeCreated": moment,
        "properties": [*_properties(verified, policy)],
    }
    purl = f"pkg:generic/{verified.worker_id}@{verified.worker_version}"
    vsa: JsonObject = {
        "verifier": {"id": names.verifier, "version": {"wcp-attest": version("wcp-attest")}},
        "timeVerified": moment,
        "resourceUri": names.resource or purl,
        "policy": described,
        "verificationResult": "PASSED",
        # How the package was built is not looked at, so nothing is said about a level of the build track.
        "verifiedLevels": ["SLSA_BUILD_LEVEL_UNEVALUATED", PACKAGE_VERIFIED],
    }
    lines: list[bytes] = []
    for kind, predicate in ((SVR_PREDICATE, svr), (VSA_PREDICATE, vsa)):
        statement = render(
            name=MANIFEST_NAME, sha256=verified.manifest_sha256, predicate_type=kind, predicate=predicate
        )
        lines += make_lines(signers, statement)[0]
    return tuple(lines)


def _properties(verified: Verified, policy: Policy) -> list[str]:
    """Return what was checked, each with the prefix of this verifier."""
    found = [PACKAGE_VERIFIED, f"WCP_NAMESPACE_{verified.namespace}", f"WCP_SIGNERS_{len(verified.signers)}"]
    found += [f"WCP_SIGNER_{signer.key_id or signer.identity}" for signer in verified.signers]
    kinds = {type(condition) for condition in policy.conditions}
    names = {
        BansCondition: "WCP_BANS_CHECKED",
        RegistryCondition: "WCP_REGISTRY_ACTIVE",
        ProvenanceCondition: "WCP_PROVENANCE_VERIFIED",
    }
    return found + [name for kind, name in names.items() if kind in kinds]


def is_verdict_file(data: bytes) -> bool:
    """Tell whether a file holds verdict statements and nothing else, so that a new verdict may replace it.

    Args:
        data: the whole file.
    """
    try:
        for line in parse_lines(data):
            try:
                read(line.envelope.payload, name=MANIFEST_NAME, predicate_type=SVR_PREDICATE)
            except VerificationError:
                read(line.envelope.payload, name=MANIFEST_NAME, predicate_type=VSA_PREDICATE)
    except VerificationError:
        return False
    return True
