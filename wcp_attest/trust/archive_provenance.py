"""The `[provenance]` table of a trust policy: an archive must also carry a build provenance of somebody named here.

    [provenance]
    kind = "slsa"                                  # or "pep740"
    builder = "https://github.com/actions/runner/github-hosted"
      [[provenance.signer]]
      [provenance.signer.sigstore]
      issuer = "https://token.actions.githubusercontent.com"
      repository = "acme/worker"

An extra condition: it can only refuse. The package in the archive must still be signed for its namespace. What is
compared is the SHA-256 of the archive's bytes, so a directory can never meet the condition.

Two forms are read: Sigstore bundles v0.3 with a SLSA provenance v1, one a line, as `gh attestation download` writes
them (https://slsa.dev/spec/v1.1/provenance), and the attestation and provenance objects of package indexes (PEP 740).
Neither counts as a signature of a package.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError, NotAcceptable, SignatureInvalid, TrustUnusable, VerificationError
from wcp_attest.package.signature_file import BUNDLE_TYPE, MAX_LINES, PAYLOAD_TYPE, parse_line, parse_lines
from wcp_attest.package.statement import STATEMENT_TYPE
from wcp_attest.signing.signature_lines import verify_line
from wcp_attest.signing.sigstore.signer_identity import SigstoreIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_attest.base.toml_table import Table
    from wcp_attest.package.signature_file import Line
    from wcp_attest.signing import SigstoreTrust, TrustedSigner
    from wcp_attest.trust.conditions import PackageFacts
    from wcp_attest.trust.policy import Policy

Kind = Literal["slsa", "pep740"]
SLSA: Final = "https://slsa.dev/provenance/v1"
PUBLISH: Final = "https://docs.pypi.org/attestations/publish/v1"
MAX_ATTESTATION_BYTES: Final = 16 << 20  # of a file of attestations
MAX_PREDICATE_BYTES: Final = 1 << 20  # of one statement; a provenance of GitHub has about 2 kB
MAX_SUBJECTS: Final = 10_000
SUFFIXES: Final[dict[Kind, str]] = {"slsa": ".intoto.jsonl", "pep740": ".publish.attestation"}


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that is being verified.

    Attributes:
        name: the name of the file, without its folder.
        sha256: of its bytes, 64 lower-case hex digits.
        attestations: the bytes of the file with the provenance, None when there is none.
    """

    name: str
    sha256: str
    attestations: bytes | None


@dataclass(frozen=True, slots=True)
class ProvenanceCondition:
    """The provenance that a policy asks for; a `Condition`.

    Attributes:
        kind: which attestations count.
        keys: whose attestations count.
        identities: whose keyless attestations count.
        sigstore: what keyless verification needs.
        builder: the builder that a SLSA provenance must name, None for any.
        archive: what is being verified, filled in by `for_archive`; None for a directory.

    Raises:
        ConfigError: nobody's attestations count, or the builder is named for a kind that names none.
    """

    kind: Kind
    keys: tuple[TrustedSigner, ...]
    identities: tuple[SigstoreIdentity, ...]
    sigstore: SigstoreTrust
    builder: str | None = None
    archive: Archive | None = None

    def __post_init__(self) -> None:
        if not self.keys and not self.identities:
            raise ConfigError("[provenance] names no [[provenance.signer]]")
        if self.kind == "pep740" and (self.keys or self.builder is not None):
            raise ConfigError("[provenance] of kind pep740 is keyless and names no builder; it takes sigstore signers")

    @property
    def fetches_root(self) -> bool:
        """Whether signers are verified by the root of a public Sigstore instance, which is fetched."""
        return bool(self.identities) and self.sigstore.trusted_root is None

    @property
    def files(self) -> tuple[str, ...]:
        """The files of the keys."""
        return tuple(path for key in self.keys if (path := getattr(key, "file", "")))

    def open(self, *, now: float) -> ProvenanceCondition:
        """Return the condition itself, which is ready.

        Args:
            now: not used: provenance has no age.
        """
        del now
        return self

    def check_before(self, facts: PackageFacts) -> None:
        """Refuse an archive without the provenance that the policy asks for, and every directory.

        Args:
            facts: not used: the condition is about the archive's bytes.

        Raises:
            NotAcceptable: there is no such provenance over this archive.
            TrustUnusable: what keyless verification needs is not available.
        """
        del facts
        wanted = f"the policy asks for a {self.kind} provenance of the archive"
        if self.archive is None:
            raise NotAcceptable(f"{wanted}, and this is a directory; verify the archive with --provenance FILE")
        if self.archive.attestations is None:
            raise NotAcceptable(
                f"{wanted}, and none is given; give --provenance FILE, or put it beside the archive as"
                f" {self.archive.name}{SUFFIXES[self.kind]}"
            )
        # Every refusal becomes NotAcceptable, so that it is not taken for one of the package's own signatures.
        problems: list[VerificationError] = []
        data = self.archive.attestations
        try:
            lines = parse_lines(data, what="the file of provenance") if self.kind == "slsa" else _pep740_lines(data)
            for line in lines:
                try:
                    self._check(line, self.archive)
                except VerificationError as problem:
                    problems.append(problem)
                else:
                    return
        except VerificationError as malformed:
            raise NotAcceptable(f"{wanted}: {malformed}") from None
        for each in problems:
            if isinstance(each, TrustUnusable):
                raise each  # it could not be checked, so nothing was found out
        raise NotAcceptable(f"{wanted}: {problems[0]}")

    def check_files(self, files: Iterable[tuple[str, str]], algorithm: HashAlgorithm) -> None:
        """Do nothing: the provenance is of the archive.

        Args:
            files: not used.
            algorithm: not used.
        """

    def _check(self, line: Line, archive: Archive) -> None:
        """Check one attestation: its signature, who made it, and that it is about these bytes.

        Raises:
            VerificationError: it does not count, or cannot be checked.
        """
        # 1  The signature, by somebody that the policy names here.
        found = verify_line(line, self.keys, self.identities, self.sigstore)
        if found is None:
            raise SignatureInvalid("an attestation is by a signer that [provenance] does not name")
        if found.mismatch is not None:
            raise found.mismatch
        # 2  The statement, only now: about the bytes of this archive.
        statement = strictjson.loads_object(
            found.payload, what="the provenance", max_bytes=MAX_PREDICATE_BYTES, error=SignatureInvalid
        )
        if statement.get("_type") != STATEMENT_TYPE:
            raise SignatureInvalid("the provenance is not an in-toto Statement v1")
        names = _names_of(archive.sha256, statement.get("subject"))
        if not names:
            raise SignatureInvalid(f"the provenance is not about this archive, which has sha256:{archive.sha256}")
        # 3  What it says, by its kind.
        kind, predicate = statement.get("predicateType"), statement.get("predicate")
        if self.kind == "pep740":
            if kind not in {PUBLISH, SLSA}:
                raise SignatureInvalid(f"the attestation is of type {str(kind)[:120]!r}, not {PUBLISH}")
            if names != [archive.name]:
                raise SignatureInvalid(f"the attestation is of {names[0][:120]!r}, and the file is {archive.name!r}")
        elif kind != SLSA:
            raise SignatureInvalid(f"the attestation is of type {str(kind)[:120]!r}, not {SLSA}")
        elif self.builder is not None and _builder_of(predicate) != self.builder:
            raise SignatureInvalid(
                f"the provenance names the builder {_builder_of(predicate)[:120]!r}, not {self.builder!r}"
            )


def asks_for_provenance(policy: Policy) -> Kind | None:
    """Return which provenance a policy asks for, or None.

    Args:
        policy: the operator's.
    """
    return next((each.kind for each in policy.conditions if isinstance(each, ProvenanceCondition)), None)


def for_archive(policy: Policy, archive: Archive) -> Policy:
    """Return a policy that knows which archive is being verified.

    Args:
        policy: the operator's.
        archive: what it is asked about.
    """
    conditions = tuple(
        replace(condition, archive=archive) if isinstance(condition, ProvenanceCondition) else condition
        for condition in policy.conditions
    )
    return replace(policy, conditions=conditions)


def parse_provenance_table(
    table: Table, signer: Callable[[Table], TrustedSigner | SigstoreIdentity], sigstore: SigstoreTrust
) -> ProvenanceCondition:
    """Read the `[provenance]` table.

    Args:
        table: the table; keys that are left over in it are refused here.
        signer: reads one `[[provenance.signer]]`, as it reads one of a namespace.
        sigstore: what keyless verification needs.

    Returns:
        The condition; it does not know the archive yet.

    Raises:
        ConfigError: it is malformed.
    """
    named = table.text("kind")
    kind = next((known for known in SUFFIXES if known == named), None)
    if kind is None:
        raise table.wrong("kind", "`slsa` or `pep740`")
    builder = table.text("builder") if "builder" in table else None
    signers = [signer(each) for each in table.tables("signer")]
    table.finish()
    return ProvenanceCondition(
        kind,
        tuple(each for each in signers if not isinstance(each, SigstoreIdentity)),
        tuple(each for each in signers if isinstance(each, SigstoreIdentity)),
        sigstore,
        builder,
    )


def _names_of(sha256: str, subjects: JsonValue) -> list[str]:
    """Return the names of the subjects that have this digest.

    Raises:
        SignatureInvalid: there are no subjects, or too many.
    """
    if not isinstance(subjects, list) or not 0 < len(subjects) <= MAX_SUBJECTS:
        raise SignatureInvalid(f"the provenance is not about 1 to {MAX_SUBJECTS} subjects")
    names = []
    for each in subjects:
        match each:
            case {"digest": {"sha256": str(digest)}, **others} if digest == sha256:
                names.append(str(others.get("name", "")))
    return names


def _builder_of(predicate: JsonValue) -> str:
    match predicate:
        case {"runDetails": {"builder": {"id": str(builder)}}}:
            return builder
    return ""


def _pep740_lines(data: bytes) -> tuple[Line, ...]:
    """Read one attestation object of PEP 740, or the provenance object of an index, which holds several.

    The same certificate, log entries and envelope make a Sigstore bundle; in that form they are verified, in memory.

    Raises:
        SignatureInvalid: it is malformed.
    """
    what = "the attestation"
    fields = strictjson.loads_object(data, what=what, max_bytes=MAX_ATTESTATION_BYTES, error=SignatureInvalid)
    if fields.get("version") != 1 or isinstance(fields["version"], bool):
        raise SignatureInvalid(f"{what} is not of version 1 of PEP 740")
    found: list[JsonValue] = [fields]
    if "attestation_bundles" in fields:
        bundles = fields["attestation_bundles"]
        listed = bundles if isinstance(bundles, list) else ()
        inner = [each.get("attestations") for each in listed if isinstance(each, dict)]
        found = [one for each in inner if isinstance(each, list) for one in each]
    if not 0 < len(found) <= MAX_LINES:
        raise SignatureInvalid(f"{what} file does not hold 1 to {MAX_LINES} attestations")
    return tuple(parse_line(strictjson.dumps(_as_bundle(each, what)), what=what) for each in found)


def _as_bundle(attestation: JsonValue, what: str) -> JsonObject:
    match attestation:
        case {
            "version": 1,
            "verification_material": {"certificate": str(certificate), "transparency_entries": [*entries]},
            "envelope": {"statement": str(statement), "signature": str(signature)},
        }:
            return {
                "mediaType": BUNDLE_TYPE,
                "verificationMaterial": {"certificate": {"rawBytes": certificate}, "tlogEntries": entries},
                "dsseEnvelope": {
                    "payload": statement,
                    "payloadType": PAYLOAD_TYPE,
                    "signatures": [{"sig": signature}],
                },
            }
    raise SignatureInvalid(f"{what} is not an attestation object of PEP 740")
