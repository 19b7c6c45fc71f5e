"""Lines of a signature file, whatever they are about: make them, verify them, count who made them.

A package and a ban list are signed by the same lines, so the rules are here once: a line that names a known key must
hold, a line by somebody unknown is passed over, and each entry of a policy and each person or machine counts once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from wcp_attest.base.errors import ConfigError, SignerUntrusted, SigningError, VerificationError
from wcp_attest.package.signature_file import parse_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from wcp_attest.package.signature_file import Line
    from wcp_attest.signing import SignedBy, Signer, SigstoreTrust, TrustedSigner
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity

    Entry: TypeAlias = TrustedSigner | SigstoreIdentity


@dataclass(frozen=True, slots=True)
class Holding:
    """A line that holds.

    Attributes:
        by: who made it.
        payload: what they signed.
        entries: the entries of the policy that they match; a keyless signer can match several.
        at: the proven time in seconds since the epoch, None when nothing but the signer says when.
    """

    by: SignedBy
    payload: bytes
    entries: tuple[Entry, ...]
    at: int | None = None


def verify_line(
    line: Line, keys: Iterable[TrustedSigner], identities: Sequence[SigstoreIdentity], trust: SigstoreTrust
) -> Holding | None:
    """Verify one line.

    Args:
        line: parsed.
        keys: the keys and secrets that are believed.
        identities: the keyless signers that are believed.
        trust: what keyless verification rests on.

    Returns:
        What holds, or None when the line names nobody known.

    Raises:
        SignatureInvalid: it names somebody known and does not hold.
        SignerUntrusted: it is a keyless line that holds, by somebody else.
        TrustUnusable: what keyless verification rests on cannot be had.
    """
    if line.kind == "sigstore":
        return _verify_keyless(line, identities, trust) if identities else None
    matching = tuple(key for key in keys if key.key_id == line.hint)
    return Holding(matching[0].verify(line), line.envelope.payload, matching) if matching else None


def _verify_keyless(line: Line, identities: Sequence[SigstoreIdentity], trust: SigstoreTrust) -> Holding:
    from wcp_attest.signing.sigstore.bundle import verify_bundle

    bundle = verify_bundle(line, trust)
    matching: list[SigstoreIdentity] = []
    mismatches: list[SignerUntrusted] = []
    for identity in identities:
        try:
            identity.matches(bundle.claims)
            matching.append(identity)
        except SignerUntrusted as problem:
            mismatches.append(problem)
    if not matching:
        raise mismatches[0]
    return Holding(bundle.by, line.envelope.payload, tuple(matching), bundle.at)


class Counted(Protocol):
    """Something that somebody signed, with the entries of the policy that they match."""

    @property
    def by(self) -> SignedBy:
        """Who signed."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries that they match."""


_C = TypeVar("_C", bound=Counted)


def distinct(signed: Iterable[_C], entries: AbstractSet[Entry]) -> tuple[_C, ...]:
    """Return one signature for each distinct signer, as many as the entries allow.

    The same signer twice is one, and one that matches two entries is not two. Where entries overlap they are shared out
    so that as many signers as possible count (augmenting paths, Kuhn 1955).

    Args:
        signed: signatures that hold.
        entries: the entries of the policy that may be counted.
    """
    first: dict[SignedBy, _C] = {}
    for signature in signed:
        first.setdefault(signature.by, signature)
    holders: dict[Entry, _C] = {}
    return tuple(signature for signature in first.values() if _place(signature, entries, holders, set()))


def _place(signature: _C, entries: AbstractSet[Entry], holders: dict[Entry, _C], tried: set[Entry]) -> bool:
    """Give a signature an entry of its own, moving others where their entries overlap."""
    for entry in signature.entries:
        if entry in entries and entry not in tried:
            tried.add(entry)
            holder = holders.get(entry)
            if holder is None or _place(holder, entries, holders, tried):
                holders[entry] = signature
                return True
    return False


def make_lines(signers: Sequence[Signer], payload: bytes) -> tuple[tuple[bytes, ...], tuple[SignedBy, ...]]:
    """Sign a Statement, and verify each line as a stranger would: from its bytes.

    Args:
        signers: who signs, at least one.
        payload: the bytes of the Statement.

    Returns:
        The lines, without newlines, and who made them.

    Raises:
        ConfigError: no signer is given, or one is given twice.
        SigningError: a signature could not be made, or does not verify.
    """
    if not signers:
        raise ConfigError("no signer is given; sign with a key, a shared secret or Sigstore")
    made: dict[SignedBy, bytes] = {}
    for signer in signers:
        raw = signer.sign(payload)
        try:
            line = parse_line(raw)
            by = signer.check(line)
        except VerificationError as problem:
            raise SigningError(f"the new signature does not verify, nothing was written: {problem}") from problem
        if line.envelope.payload != payload:
            raise SigningError("the new signature covers other bytes than were given, nothing was written")
        if by in made:
            raise ConfigError(f"the same signer is given twice: {by}")
        made[by] = raw
    return tuple(made.values()), tuple(made)
