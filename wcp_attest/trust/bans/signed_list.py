"""Signatures of a list: the same lines as those of a package, over a statement about the list's exact bytes.

    bans.json          the list
    bans.json.sig      JSON Lines, one signature a line, over this in-toto Statement (package.signature_file):

    {"_type":"https://in-toto.io/Statement/v1",
     "subject":[{"name":"ban-list.json","digest":{"sha256":"7d86…"}}],
     "predicateType":"https://workerclassprotocol.dev/attestation/ban-list/v1",
     "predicate":{"name":"acme-soc","version":7,"issued_at":"2026-03-01T12:00:00Z","expires_at":"2026-03-08T12:00:00Z"}}

So every signer and every client of packages can sign and check lists, and several may sign one list. The statement
holds the version, the times and the digest of the list, so the compiled form of a long list is checked without reading
the list. Type and subject name differ from those of a package, so neither statement passes for the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import BansUnusable, ConfigError, SignatureInvalid, VerificationError
from wcp_attest.package import statement
from wcp_attest.package.signature_file import MAX_LINES, parse_lines
from wcp_attest.signing import SigstoreTrust
from wcp_attest.signing.signature_lines import Counted, distinct, make_lines, verify_line
from wcp_attest.trust.bans.document import Head
from wcp_attest.trust.bans.rollback_guard import Seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.signing import SignedBy, Signer, TrustedSigner
    from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity

PREDICATE: Final = "https://workerclassprotocol.dev/attestation/ban-list/v1"
SUBJECT: Final = "ban-list.json"
SIGNATURE_SUFFIX: Final = ".sig"


@dataclass(frozen=True, slots=True)
class ListSigners:
    """Who may sign lists.

    Attributes:
        keys: trusted keys and shared secrets.
        identities: trusted keyless signers.
        threshold: how many distinct ones of them must have signed.
        sigstore: what keyless verification rests on.

    Raises:
        ConfigError: there are no signers, one is listed twice, or the threshold cannot be met.
    """

    keys: tuple[TrustedSigner, ...] = ()
    identities: tuple[SigstoreIdentity, ...] = ()
    threshold: int = 1
    sigstore: SigstoreTrust = field(default_factory=SigstoreTrust)

    def __post_init__(self) -> None:
        count = len(self.keys) + len(self.identities)
        if not count:
            raise ConfigError("the policy names no signer of ban lists; name one as [[bans.signer]]")
        if len({key.key_id for key in self.keys}) + len(set(self.identities)) != count:
            raise ConfigError("the same signer of ban lists is named twice; a signer counts once")
        if not 1 <= self.threshold <= count:
            raise ConfigError(f"a threshold of {self.threshold} with {count} signers of ban lists; use 1 to {count}")

    def verify(self, signatures: bytes, *, what: str) -> Seen:
        """Verify the signatures of a list, without the list.

        A line by a known key must be valid. A line by an unknown key is skipped. A keyless line that is not valid
        does not count.

        Args:
            signatures: the bytes of the signature file.
            what: its name, for messages.

        Returns:
            Head and digest of the list that the counted signers have signed.

        Raises:
            BansUnusable: fewer than the threshold signed, a line is malformed, a trusted key's is not valid, or
                trusted signers signed different lists.
        """
        try:
            found, problem = self._read(signatures, what)
        except VerificationError as refusal:
            raise BansUnusable(f"{what}: {refusal}") from None
        counted = distinct(found, {*self.keys, *self.identities})
        if len(counted) < self.threshold:
            said = problem if not counted else f"{len(counted)} of the {self.threshold} signers asked for have signed"
            raise BansUnusable(f"{what}: {said}")
        if len({one.said for one in found}) != 1:
            raise BansUnusable(f"{what}: its signatures are over different lists; sign the list again")
        return counted[0].said

    def _read(self, signatures: bytes, what: str) -> tuple[list[_Found], str]:
        """Return what the lines by known signers say, and why the last keyless one that does not count does not."""
        found: list[_Found] = []
        problem = "none of its signatures is by a signer of ban lists that the policy names"
        for line in parse_lines(signatures, what=what):
            try:
                valid = verify_line(line, self.keys, self.identities, self.sigstore)
                if valid is not None and valid.mismatch is not None:
                    raise valid.mismatch
                if valid is not None:
                    found.append(_Found(valid.by, valid.entries, read_statement(valid.payload)))
            except VerificationError as refusal:
                if line.kind != "sigstore":
                    raise
                problem = str(refusal)
        return found, problem


@dataclass(frozen=True, slots=True)
class _Found(Counted):
    said: Seen


def statement_of(seen: Seen) -> bytes:
    """Return the bytes that a signer of a list signs: an in-toto Statement v1.

    Args:
        seen: head and digest of the list.
    """
    return statement.render(
        name=SUBJECT, sha256=seen.list_sha256, predicate_type=PREDICATE, predicate=seen.head.to_json()
    )


def read_statement(payload: bytes) -> Seen:
    """Read the payload of a verified signature.

    Args:
        payload: the bytes of the Statement.

    Returns:
        Head and digest of the list that it is about.

    Raises:
        SignatureInvalid: it is not a statement about a list, or a field is missing, unknown or malformed.
    """
    digest, predicate = statement.read(payload, name=SUBJECT, predicate_type=PREDICATE)
    try:
        head = Head.from_json(predicate)
    except ConfigError as problem:
        raise SignatureInvalid(f"the signed statement: {problem}") from None
    if set(predicate) != set(head.to_json()):
        raise SignatureInvalid("the signed statement's predicate has unknown fields")
    return Seen(head, digest)


def sign_list(seen: Seen, signers: Sequence[Signer], earlier: bytes) -> tuple[bytes, tuple[SignedBy, ...]]:
    """Sign a list.

    Args:
        seen: head and digest of the list.
        signers: who signs, at least one.
        earlier: the signature file as it stands, empty when there is none. Lines over this very list stay, except those
            of the same signers; all others are dropped.

    Returns:
        The new signature file, and who signed now.

    Raises:
        ConfigError: no signer is given, one is given twice, or there would be too many signatures.
        SigningError: a signature could not be made, or does not verify.
    """
    payload = statement_of(seen)
    lines, made_by = make_lines(signers, payload)
    try:
        before = [line for line in parse_lines(earlier) if line.envelope.payload == payload]
    except VerificationError:
        before = []
    kept = [line.raw for line in before if not any(signer.made(line) for signer in signers)]
    if len(kept) + len(lines) > MAX_LINES:
        raise ConfigError(f"the list would have more than {MAX_LINES} signatures")
    return b"".join(line + b"\n" for line in (*kept, *lines)), made_by
