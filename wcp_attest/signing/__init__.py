"""Who signs and who is trusted: one thin adapter for each method, behind two small protocols.

A `Signer` makes a line of a signature file. A `TrustedSigner` is a signer that a policy trusts: it recognises the lines
that name it and verifies them. Both say who they are by a `SignedBy`. The adapters (`signing.hmac`, `signing.key`,
`signing.sigstore`) import their libraries when they are used.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.package.signature_file import Kind, Line

__all__ = ["SignedBy", "Signer", "SigstoreTrust", "TrustedSigner"]


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Who made a signature that was verified.

    Two of them are the same signer when `key_id`, `identity` and `issuer` are equal.

    Attributes:
        key_id: of a key, the SHA-256 of its DER SPKI, 64 lower-case hex digits; of a shared secret
            `hmac-sha256:<16 hex>`; empty for keyless.
        identity: of a Sigstore certificate, the subject alternative name; empty for keys.
        issuer: of a Sigstore certificate, the OIDC issuer; empty for keys.
        repository: of a Sigstore certificate, the URI of the repository whose run signed (the identity may be that of a
            shared workflow); empty where the certificate names none.
        names: of a Sigstore certificate, every URI in it that names a repository, workflow or run; bans are looked up
            by all of them.
    """

    key_id: str = ""
    identity: str = ""
    issuer: str = ""
    repository: str = field(default="", compare=False)
    names: tuple[str, ...] = field(default=(), compare=False)

    @property
    def kind(self) -> Kind:
        """The method: `hmac`, `key` or `sigstore`."""
        if self.identity:
            return "sigstore"
        return "hmac" if self.key_id.startswith("hmac-") else "key"

    def to_dict(self) -> JsonObject:
        """Return the signer as JSON values; empty texts become null."""
        return {
            "kind": self.kind,
            "key_id": self.key_id or None,
            "identity": self.identity or None,
            "issuer": self.issuer or None,
        }

    def __str__(self) -> str:
        """Return the signer in words."""
        if self.identity:
            return f"{self.identity} ({self.issuer})"
        return self.key_id if self.kind == "hmac" else f"key sha256:{self.key_id}"


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

        Raises:
            SignatureInvalid: it does not hold.
        """

    def made(self, line: Line) -> bool:
        """Tell whether a line names this signer, so that signing again replaces it."""


class TrustedSigner(Protocol):
    """A signer that a policy trusts, known by a key."""

    @property
    def key_id(self) -> str:
        """What a line's hint must be to name this signer."""

    def verify(self, line: Line) -> SignedBy:
        """Verify a line that names this signer.

        Raises:
            SignatureInvalid: the signature does not hold, or the payload type is not that of a Statement.
        """


@dataclass(frozen=True, slots=True)
class SigstoreTrust:
    """What keyless verification rests on.

    Attributes:
        trusted_root: the bytes of a pinned Sigstore trusted root (JSON); None takes the public-good root through TUF.
        require_timestamp: whether a signed timestamp (RFC 3161) is demanded even where the log vouches for the time.
        instance: which public instance to take the root of when none is pinned.
        file: where `trusted_root` was read from; no package that is verified may hold it.
    """

    trusted_root: bytes | None = None
    require_timestamp: bool = False
    instance: Literal["production", "staging"] = "production"
    file: str = field(default="", compare=False)
