"""What is signed: a small in-toto Statement about the exact bytes of one document.

    {"_type":"https://in-toto.io/Statement/v1",
     "subject":[{"name":"manifest.json","digest":{"sha256":"7d86…"}}],
     "predicateType":"https://workerclassprotocol.dev/attestation/package/v1",
     "predicate":{"worker_id":"org.acme.summarizer","worker_species_id":"wrk.doc.summarizer","worker_version":"1.4.0",
                  "package_hash":"0c5f…","hash_algorithm":"sha256","signed_at_utc":"2026-11-22T14:00:05Z"}}

The statement covers `manifest.json` by the SHA-256 of its bytes, so a verifier never has to bring JSON into a canonical
form, and any client of the in-toto and Sigstore formats can check the manifest as an ordinary blob. The predicate
repeats the identity for policy engines that do not read the manifest. Format: in-toto Attestation Framework,
Statement v1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from wcp_attest.base import strictjson
from wcp_attest.base.digest import ALGORITHMS, HashAlgorithm, is_hex_digest, sha256_hex
from wcp_attest.base.errors import SignatureInvalid
from wcp_attest.base.identity import parse_utc
from wcp_attest.package.manifest import MANIFEST_NAME, Manifest

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PACKAGE_PREDICATE: Final = "https://workerclassprotocol.dev/attestation/package/v1"
MAX_STATEMENT_BYTES = 64 * 1024  # ours are under 1 kB

_FIELDS = ("worker_id", "worker_species_id", "worker_version", "package_hash", "hash_algorithm", "signed_at_utc")


def render(*, name: str, sha256: str, predicate_type: str, predicate: JsonObject) -> bytes:
    """Return the bytes of a Statement v1 with one subject.

    Args:
        name: of the subject.
        sha256: of the subject's bytes, 64 lower-case hex digits.
        predicate_type: a URI that tells what the predicate means.
        predicate: what is said about the subject.

    Returns:
        The payload to sign.
    """
    return strictjson.dumps(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": name, "digest": {"sha256": sha256}}],
            "predicateType": predicate_type,
            "predicate": predicate,
        }
    )


def read(payload: bytes, *, name: str, predicate_type: str) -> tuple[str, JsonObject]:
    """Read a verified payload as a Statement v1 with one subject.

    Args:
        payload: bytes whose signature was verified before.
        name: the name that the subject must have.
        predicate_type: the predicate type that it must have.

    Returns:
        The SHA-256 of the subject, 64 lower-case hex digits, and the predicate.

    Raises:
        SignatureInvalid: it is another kind of statement, or about something else.
    """
    what = "the signed statement"
    fields = strictjson.loads_object(payload, what=what, max_bytes=MAX_STATEMENT_BYTES, error=SignatureInvalid)
    if fields.get("_type") != STATEMENT_TYPE:
        raise SignatureInvalid(f"{what} is not an in-toto Statement v1")
    if set(fields) != {"_type", "subject", "predicateType", "predicate"}:
        raise SignatureInvalid(f"{what} has unknown or missing fields")
    if fields["predicateType"] != predicate_type:
        raise SignatureInvalid(f"{what} is of type {str(fields['predicateType'])[:120]!r}, expected {predicate_type!r}")
    match fields["subject"], fields["predicate"]:
        case [{"name": str(found), "digest": {"sha256": str(digest), **others}, **more}], dict(predicate) if not more:
            if found == name and not others and is_hex_digest(digest):
                return digest, predicate
    raise SignatureInvalid(f"{what} is not about exactly one {name!r} with a sha256 digest")


@dataclass(frozen=True, slots=True)
class Statement:
    """What a signer says of a package.

    Attributes:
        manifest_sha256: of the bytes of `manifest.json`, 64 lower-case hex digits.
        worker_id: as in the manifest.
        worker_species_id: as in the manifest.
        worker_version: as in the manifest.
        package_hash: as in the manifest, 64 lower-case hex digits.
        hash_algorithm: of the package hash, as in the manifest.
        signed_at_utc: `2026-11-22T14:00:05Z`, by the signer's clock.
    """

    manifest_sha256: str
    worker_id: str
    worker_species_id: str
    worker_version: str
    package_hash: str
    hash_algorithm: HashAlgorithm
    signed_at_utc: str

    @property
    def signed_at(self) -> int:
        """When it was signed, by the signer's clock, in seconds since the epoch."""
        return parse_utc(self.signed_at_utc) or 0

    @classmethod
    def of(cls, manifest: Manifest, manifest_bytes: bytes, *, signed_at_utc: str) -> Statement:
        """Make the statement about a manifest.

        Args:
            manifest: the manifest.
            manifest_bytes: its bytes, which are what the signature covers.
            signed_at_utc: the time of signing, `2026-11-22T14:00:05Z`.

        Returns:
            The statement.
        """
        repeated = {name: getattr(manifest, name) for name in _FIELDS[:-1]}
        return cls(manifest_sha256=sha256_hex(manifest_bytes), signed_at_utc=signed_at_utc, **repeated)

    def to_bytes(self) -> bytes:
        """Return the bytes to sign."""
        predicate: JsonObject = {name: getattr(self, name) for name in _FIELDS}
        return render(
            name=MANIFEST_NAME, sha256=self.manifest_sha256, predicate_type=PACKAGE_PREDICATE, predicate=predicate
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> Statement:
        """Read the payload of a verified signature.

        Args:
            payload: the signed bytes.

        Returns:
            The statement; its fields other than `hash_algorithm` and `signed_at_utc` are texts of any form.

        Raises:
            SignatureInvalid: it is not a package statement, or a field is missing, unknown or of the wrong form.
        """
        digest, predicate = read(payload, name=MANIFEST_NAME, predicate_type=PACKAGE_PREDICATE)
        if set(predicate) != set(_FIELDS):
            raise SignatureInvalid("the signed statement's predicate has unknown or missing fields")
        texts = {name: text for name, text in predicate.items() if isinstance(text, str)}
        if len(texts) != len(_FIELDS):
            raise SignatureInvalid("the signed statement's predicate holds something that is not text")
        if texts["hash_algorithm"] not in ALGORITHMS or parse_utc(texts["signed_at_utc"]) is None:
            raise SignatureInvalid("the signed statement's hash_algorithm or signed_at_utc is malformed")
        algorithm = cast("HashAlgorithm", texts.pop("hash_algorithm"))
        return cls(manifest_sha256=digest, hash_algorithm=algorithm, **texts)
