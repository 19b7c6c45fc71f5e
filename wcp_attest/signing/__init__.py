"""Signers, and the signers that a policy trusts: one adapter for each method, behind two small protocols.

A `Signer` makes a line of a signature file. A `TrustedSigner` is a signer that a policy trusts: it recognises the lines
that name it and verifies them. Both say who they are by a `SignedBy`. The adapters (`signing.hmac`, `signing.key`,
`signing.sigstore`) import their libraries when they are used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from wcp_attest.package.signature_file import SignedBy

if TYPE_CHECKING:
    from wcp_attest.package.signature_file import Line

__all__ = ["SignedBy", "Signer", "SigstoreTrust", "TrustedSigner"]


class Signer(Protocol):
    """Somebody who can sign."""

    def sign(self, payload: bytes) -> bytes:
        """Sign a Statement.

        Args:
            payload: the bytes of an in-toto Statement.

        Returns:
            One line of a signature file, without newline.

        Raises:
            SigningError: the signature could not be made.
        """

    def check(self, line: Line) -> SignedBy:
        """Verify a line that this signer made.

        Args:
            line: of a signature file.

        Returns:
            Who signed.

        Raises:
            SignatureInvalid: its signature is not valid.
        """

    def made(self, line: Line) -> bool:
        """Tell whether a line names this signer. Signing again replaces such a line.

        Args:
            line: of a signature file.
        """


class TrustedSigner(Protocol):
    """A signer that a policy trusts, known by a key."""

    @property
    def key_id(self) -> str:
        """The hint of a line that names this signer: `hmac-sha256:` and 16 hex digits, or 64 hex digits of a key."""

    def verify(self, line: Line) -> SignedBy:
        """Verify a line that names this signer.

        Args:
            line: of a signature file.

        Returns:
            Who signed.

        Raises:
            SignatureInvalid: the signature is not valid, or the payload type is not that of a Statement.
        """


@dataclass(frozen=True, slots=True)
class SigstoreTrust:
    """What keyless verification rests on.

    Attributes:
        trusted_root: the bytes of a pinned Sigstore trusted root (JSON); None takes the public-good root through TUF.
        require_timestamp: whether a signed timestamp (RFC 3161) is demanded even where the log proves the time.
        instance: which public instance to take the root of when none is pinned.
        file: where `trusted_root` was read from; no package that is verified may hold it.
    """

    trusted_root: bytes | None = None
    require_timestamp: bool = False
    instance: Literal["production", "staging"] = "production"
    file: str = field(default="", compare=False)
