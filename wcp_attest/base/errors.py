"""Everything that can go wrong, as types.

Inside the toolkit a failure is raised, so no caller can overlook it; `wcp_attest.verdict.judge` turns it into a
decision once, at the rim. Three audiences, three families:

* `VerificationError`: the package is refused. Every leaf declares its `DenyCode`.
* `SigningError`: a signature could not be made.
* `ConfigError`: the caller's own mistake, or input that cannot be used (a missing file, a bad policy, a wrong
  passphrase). Nothing was decided; a command line exits with status 2.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.differences import Difference


class DenyCode(StrEnum):
    """Why a package is refused. The values are stable: programs and dashboards may match on them."""

    MANIFEST_MISSING = "ATTEST_MANIFEST_MISSING"
    MANIFEST_MALFORMED = "ATTEST_MANIFEST_MALFORMED"
    MANIFEST_ID_MISMATCH = "ATTEST_MANIFEST_ID_MISMATCH"
    HASH_MISMATCH = "ATTEST_HASH_MISMATCH"
    SIGNATURE_MISSING = "ATTEST_SIGNATURE_MISSING"
    SIG_INVALID = "ATTEST_SIG_INVALID"
    SIGNER_UNTRUSTED = "ATTEST_SIGNER_UNTRUSTED"
    THRESHOLD_NOT_MET = "ATTEST_THRESHOLD_NOT_MET"
    NAMESPACE_INVALID = "ATTEST_NAMESPACE_INVALID"
    TREE_UNSAFE = "ATTEST_TREE_UNSAFE"
    BANNED = "ATTEST_BANNED"
    BANS_UNUSABLE = "ATTEST_BANS_UNUSABLE"
    TRUST_UNUSABLE = "ATTEST_TRUST_UNUSABLE"
    EXPIRED = "ATTEST_EXPIRED"
    NOT_ACCEPTABLE = "ATTEST_NOT_ACCEPTABLE"
    INTERNAL_ERROR = "ATTEST_INTERNAL_ERROR"


class Error(Exception):
    """Base of every error this toolkit raises on purpose."""


class ConfigError(Error):
    """The caller's own mistake or an input that cannot be used; nothing was decided."""


class SigningError(Error):
    """A signature could not be made, or what was made does not verify."""


class VerificationError(Error):
    """The package is refused.

    Attributes:
        code: the stable reason, declared by each leaf.
    """

    code: ClassVar[DenyCode] = DenyCode.INTERNAL_ERROR


class MachineError(VerificationError):
    """This machine could not read something: no descriptors or memory left, an input or output error.

    It says nothing about the package; nothing was decided.
    """

    code = DenyCode.INTERNAL_ERROR


class ManifestMissing(VerificationError):
    """`manifest.json` is absent or unreadable."""

    code = DenyCode.MANIFEST_MISSING


class ManifestMalformed(VerificationError):
    """`manifest.json` is not in the one accepted spelling of its schema."""

    code = DenyCode.MANIFEST_MALFORMED


class IdentityMismatch(VerificationError):
    """The manifest names another worker, species or version than the signer or the caller does."""

    code = DenyCode.MANIFEST_ID_MISMATCH


class TreeMismatch(VerificationError):
    """The tree is not what the manifest says.

    Args:
        message: one line that summarises the differences.
        differences: every difference found, sorted by path and capped.
        total: how many differences there are, listed or not.
    """

    code = DenyCode.HASH_MISMATCH

    def __init__(self, message: str, differences: Sequence[Difference] = (), total: int = 0) -> None:
        super().__init__(message)
        self.differences = tuple(differences)
        self.total = max(total, len(self.differences))


class SignatureMissing(VerificationError):
    """`manifest.sig` is absent, unreadable or holds no signature."""

    code = DenyCode.SIGNATURE_MISSING


class SignatureInvalid(VerificationError):
    """A signature is malformed, or does not hold over what it claims to cover."""

    code = DenyCode.SIG_INVALID


class SignerUntrusted(VerificationError):
    """The signatures are by signers that the policy does not name for this namespace."""

    code = DenyCode.SIGNER_UNTRUSTED


class ThresholdNotMet(VerificationError):
    """Fewer distinct trusted signers signed than the policy asks for.

    Args:
        message: one line that names them and those who have not.
        signers: those who have signed and count, as `wcp_attest.signing.SignedBy`.
    """

    code = DenyCode.THRESHOLD_NOT_MET

    def __init__(self, message: str, signers: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.signers = tuple(signers)


class NamespaceInvalid(VerificationError):
    """The worker id yields no namespace, or one that the policy does not know."""

    code = DenyCode.NAMESPACE_INVALID


class TreeUnsafe(VerificationError):
    """The tree holds what must not be there or cannot be read safely: devices, bytecode, links out, races."""

    code = DenyCode.TREE_UNSAFE


class Banned(VerificationError):
    """A ban names this package, one of its files, its worker, its signer or its namespace."""

    code = DenyCode.BANNED


class BansUnusable(VerificationError):
    """A ban list that the policy asks for is missing, stale, rolled back, unsigned or malformed."""

    code = DenyCode.BANS_UNUSABLE


class TrustUnusable(VerificationError):
    """The trust material needed for the decision cannot be had: no trusted root, no network for it, a missing key."""

    code = DenyCode.TRUST_UNUSABLE


class Expired(VerificationError):
    """The signature is older than the policy allows, or dated in the future."""

    code = DenyCode.EXPIRED


class NotAcceptable(VerificationError):
    """Signed and intact, but of a kind that the policy's `[accept]` table does not allow."""

    code = DenyCode.NOT_ACCEPTABLE


def package_missing(error: BaseException) -> ConfigError | None:
    """Return the mistake that an import of somebody else's package shows which is not installed, or None.

    The zipapp has no compiled packages, and of the wheel's requirements a program may have left some out.
    """
    if (
        not isinstance(error, ModuleNotFoundError)
        or not error.name
        or error.name.startswith(("wcp_attest", "wcp_route"))
    ):
        return None
    package = error.name.partition(".")[0]
    return ConfigError(f"this needs the Python package {package!r}, which is not here; install the wheel of wcp-attest")
