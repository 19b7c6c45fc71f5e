"""Everything that can go wrong, as types.

Inside the toolkit a failure is raised, so that no caller can overlook it. One function, `wcp_attest.verdict.judge`,
turns it into a decision. There are three families:

* `VerificationError`: the package is refused. Every subclass declares its `DenyCode`.
* `SigningError`: a signature could not be made.
* `ConfigError`: the caller made a mistake, or an input cannot be used (a missing file, a bad policy, a wrong
  passphrase). Nothing was decided; the command line exits with status 2.
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
    """The caller made a mistake, or an input cannot be used; nothing was decided."""


class SigningError(Error):
    """A signature could not be made, or what was made does not verify."""


class VerificationError(Error):
    """The package is refused.

    Attributes:
        code: the stable reason; each subclass declares its own.
    """

    code: ClassVar[DenyCode] = DenyCode.INTERNAL_ERROR


class MachineError(VerificationError):
    """This machine could not read something: it has no descriptors or memory left, or a disk failed.

    It says nothing about the package: nothing was decided, and the command line exits with status 2.
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
    """A signature is malformed, or is not one of the bytes that it claims to cover."""

    code = DenyCode.SIG_INVALID


class SignerUntrusted(VerificationError):
    """The policy names none of the signers for this namespace."""

    code = DenyCode.SIGNER_UNTRUSTED


class ThresholdNotMet(VerificationError):
    """Fewer distinct trusted signers signed than the policy asks for.

    Args:
        message: one line that says how many are needed and names those who signed.
        signers: those who signed and count, as `wcp_attest.signing.SignedBy`.
    """

    code = DenyCode.THRESHOLD_NOT_MET

    def __init__(self, message: str, signers: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.signers = tuple(signers)


class NamespaceInvalid(VerificationError):
    """The worker id yields no namespace, or one that the policy does not know."""

    code = DenyCode.NAMESPACE_INVALID


class TreeUnsafe(VerificationError):
    """The tree holds what no package may hold (a device, a link that leaves it), or changed while it was read."""

    code = DenyCode.TREE_UNSAFE


class Banned(VerificationError):
    """A ban names this package, one of its files, its worker, its signer or its namespace."""

    code = DenyCode.BANNED


class BansUnusable(VerificationError):
    """A ban list that the policy asks for is missing, stale, rolled back, unsigned or malformed."""

    code = DenyCode.BANS_UNUSABLE


class TrustUnusable(VerificationError):
    """What the decision needs to know whom to trust is not available: a trusted root, the network for it, or a key."""

    code = DenyCode.TRUST_UNUSABLE


class Expired(VerificationError):
    """The signature is older than the policy allows, or dated in the future."""

    code = DenyCode.EXPIRED


class NotAcceptable(VerificationError):
    """The package is signed and intact, but the policy's `[accept]` table does not allow its kind."""

    code = DenyCode.NOT_ACCEPTABLE


def package_missing(error: BaseException) -> ConfigError | None:
    """Return the error that tells which Python package of another project is not installed.

    The zipapp holds no compiled packages, and a program may have left out some of the requirements of the wheel.

    Args:
        error: what was raised.

    Returns:
        The error to report; None when `error` is something else, or a module of this project is missing.
    """
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if not name or name.startswith(("wcp_attest", "wcp_route")):
        return None
    package = name.partition(".")[0]
    return ConfigError(
        f"this needs the Python package {package!r}, which is not installed; install the wheel of wcp-attest"
    )
