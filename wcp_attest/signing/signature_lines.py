"""Lines of a signature file, of packages and of ban lists: make them, verify them, count who made them.

A package and a ban list are signed by the same lines, so the rules are here once: a line that names a known key must
be valid, a line by an unknown key is skipped, and each entry of a policy and each person or machine counts once.
"""

from __future__ import annotations

from binascii import a2b_base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError, SignatureInvalid, SignerUntrusted, SigningError, VerificationError
from wcp_attest.package.signature_file import MAX_LINE_BYTES, SignedBy, parse_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from wcp_attest.package.signature_file import Line
    from wcp_attest.signing import Signer, SigstoreTrust, TrustedSigner
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity

    Entry: TypeAlias = TrustedSigner | SigstoreIdentity


@dataclass(frozen=True, slots=True)
class Counted:
    """A valid signature, as far as counting signers needs to know it.

    Attributes:
        by: who made it.
        entries: the entries of the policy that it matches. A keyless signer can match several, or none: then the
            signature is valid and counts for nothing.
    """

    by: SignedBy
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class ValidSignature(Counted):
    """A line whose signature is valid.

    Attributes:
        payload: what was signed.
        at: the proven time in seconds since the epoch, None when only the signer says when.
        mismatch: of a keyless line that matches no entry, why not.
    """

    payload: bytes
    at: int | None = None
    mismatch: SignerUntrusted | None = None


def verify_line(
    line: Line, keys: Iterable[TrustedSigner], identities: Sequence[SigstoreIdentity], trust: SigstoreTrust
) -> ValidSignature | None:
    """Verify one line.

    Args:
        line: parsed.
        keys: the trusted keys and shared secrets.
        identities: the trusted keyless signers.
        trust: what keyless verification needs.

    Returns:
        The valid signature, or None when the line names no known key, or is keyless and no keyless signer is trusted.

    Raises:
        SignatureInvalid: it names a known key and its signature is not valid.
        TrustUnusable: what keyless verification needs is not available.
    """
    if line.kind == "sigstore":
        return _verify_keyless(line, identities, trust) if identities else None
    # The hint only selects which keys are tried; what counts is which of them verify.
    entries: list[Entry] = []
    signer, problem = None, None
    for key in keys:
        if key.key_id == line.hint:
            try:
                signer = key.verify(line)
                entries.append(key)
            except SignatureInvalid as failed:
                problem = failed
    if signer is not None:
        return ValidSignature(signer, tuple(entries), line.envelope.payload)
    if problem is not None:
        raise problem
    return None


def _verify_keyless(line: Line, identities: Sequence[SigstoreIdentity], trust: SigstoreTrust) -> ValidSignature:
    from wcp_attest.signing.sigstore.bundle import verify_bundle

    bundle = verify_bundle(line, trust)
    matching: list[SigstoreIdentity] = []
    mismatch: SignerUntrusted | None = None
    for identity in identities:
        try:
            identity.matches(bundle.claims)
            matching.append(identity)
        except SignerUntrusted as problem:
            mismatch = mismatch or problem
    return ValidSignature(bundle.by, tuple(matching), line.envelope.payload, bundle.at, None if matching else mismatch)


def named_by(line: Line) -> SignedBy | None:
    """Return whom a line names as its signer. Nothing is verified, so such a name may only refuse, by a ban.

    Args:
        line: parsed.

    Returns:
        The signer, or None when the line names nobody that can be read.
    """
    if line.kind != "sigstore":
        return SignedBy(key_id=line.hint)
    material = strictjson.loads_object(line.raw, what="the line", max_bytes=MAX_LINE_BYTES)["verificationMaterial"]
    match material:
        case {"certificate": {"rawBytes": str(encoded)}}:
            try:
                from wcp_attest.signing.sigstore.bundle import signer_of
                from wcp_attest.signing.sigstore.certificate import claims_of, load_certificate

                return signer_of(claims_of(load_certificate(a2b_base64(encoded))))
            except (ModuleNotFoundError, ValueError, SignatureInvalid):
                return None
    return None


_C = TypeVar("_C", bound=Counted)


def distinct(signatures: Iterable[_C], entries: AbstractSet[Entry]) -> tuple[_C, ...]:
    """Return one signature for each distinct signer, as many as the entries allow.

    The same signer twice is one, and one that matches two entries is not two. Where entries overlap they are shared out
    so that as many signers as possible count (augmenting paths, Kuhn 1955).

    Args:
        signatures: valid ones.
        entries: the entries of the policy that may be counted.
    """
    first: dict[SignedBy, _C] = {}
    for signature in signatures:
        if not entries.isdisjoint(signature.entries):
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
