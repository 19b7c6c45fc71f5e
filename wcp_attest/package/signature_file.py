"""The signature file: JSON Lines, one signature a line.

A line by a key is a Sigstore bundle v0.3 whose `publicKey.hint` is the SHA-256 of the key's DER SPKI. A keyless line is
such a bundle with a certificate. A line by a shared secret is a bare DSSE envelope:

    {"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":"4a7c…"}},
     "dsseEnvelope":{"payload":"eyJf…","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEUC…"}]}}
    {"payload":"eyJf…","payloadType":"application/vnd.in-toto+json",
     "signatures":[{"keyid":"hmac-sha256:0d9f62c1a0b35e77","sig":"pZ1c…"}]}

(each on one line). What is signed is the DSSE pre-authentication encoding of payload type and payload. The hint and the
key id are not trusted: they only help to find the key, and the key decides the algorithm.

Formats: DSSE v1.0.2 (secure-systems-lab/dsse, protocol.md), Sigstore bundle v0.3 (sigstore/protobuf-specs).
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from wcp_attest.base import strictjson
from wcp_attest.base.errors import SignatureInvalid, SignatureMissing

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
BUNDLE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
HMAC_PREFIX: Final = "hmac-sha256:"
MAX_SIGNATURE_FILE_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 1024 * 1024  # a keyless bundle is about 6 kB
MAX_LINES = 64  # each line costs a signature check

Kind = Literal["hmac", "key", "sigstore"]


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope with its one signature.

    Attributes:
        payload: the signed bytes.
        signature: raw, as the algorithm makes it.
        payload_type: what the payload is.
        keyid: an unsigned hint; may be empty.
    """

    payload: bytes
    signature: bytes
    payload_type: str = PAYLOAD_TYPE
    keyid: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One signature of a signature file, parsed but not verified.

    Attributes:
        kind: which kind of signer it names.
        hint: the key id it names (`hmac-sha256:…` or 64 hex digits), empty for keyless.
        envelope: the DSSE envelope.
        raw: the line as it stands, without its newline.
    """

    kind: Kind
    hint: str
    envelope: Envelope
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedBy:
    """Who made a signature that was verified.

    Two of them are the same signer when `key_id`, `identity` and `issuer` are equal.

    Attributes:
        key_id: of a key, the SHA-256 of its DER SPKI, 64 lower-case hex digits; of a shared secret
            `hmac-sha256:<16 hex>`; empty for keyless.
        identity: of a Sigstore certificate, the subject alternative name; empty for keys.
        issuer: of a Sigstore certificate, the OIDC issuer; empty for keys.
        repository: of a Sigstore certificate, the URI of the repository whose run signed; empty where the certificate
            names none. The identity may be that of a shared workflow in another repository.
        names: of a Sigstore certificate, every URI in it that names a repository, workflow or run. Bans are looked up
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
        """Return the signer as JSON values.

        Returns:
            `kind`, `key_id`, `identity` and `issuer`; an empty text is null.
        """
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


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the DSSE pre-authentication encoding (protocol.md, v1.0.2), the bytes that are signed.

    Args:
        payload_type: a media type.
        payload: any bytes.

    Returns:
        `DSSEv1 <length> <type> <length> <payload>`, the lengths in decimal bytes.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def parse_lines(data: bytes, *, what: str = "manifest.sig") -> tuple[Line, ...]:
    """Read a signature file.

    Args:
        data: its bytes.
        what: its name, for messages.

    Returns:
        The lines in order, from 1 to `MAX_LINES` of them.

    Raises:
        SignatureMissing: it holds no signature.
        SignatureInvalid: it is too large or a line of it is malformed.
    """
    if len(data) > MAX_SIGNATURE_FILE_BYTES:
        raise SignatureInvalid(f"{what} is larger than {MAX_SIGNATURE_FILE_BYTES} bytes")
    if not data.strip():
        raise SignatureMissing(f"{what} holds no signature; sign the package with `wcp-attest sign`")
    if data.count(b"\n") > MAX_LINES:
        raise SignatureInvalid(f"{what} holds more than {MAX_LINES} lines")
    raws = data.removesuffix(b"\n").split(b"\n")
    return tuple(parse_line(raw, what=f"{what} line {number}") for number, raw in enumerate(raws, start=1))


def parse_line(raw: bytes, *, what: str = "the signature") -> Line:
    """Read one line of a signature file.

    Args:
        raw: the line, without its newline.
        what: the line in words, for messages.

    Returns:
        The line, not verified.

    Raises:
        SignatureInvalid: it is neither a Sigstore bundle v0.3 with a DSSE envelope nor a bare HMAC envelope.
    """
    fields = strictjson.loads_object(raw, what=what, max_bytes=MAX_LINE_BYTES, error=SignatureInvalid)
    if "mediaType" not in fields:
        envelope = _envelope(fields, what)
        if not envelope.keyid.startswith(HMAC_PREFIX):
            raise SignatureInvalid(f"{what} is neither a Sigstore bundle nor an HMAC envelope")
        return Line("hmac", envelope.keyid, envelope, raw)
    sealed, material = fields.get("dsseEnvelope"), fields.get("verificationMaterial")
    if fields["mediaType"] != BUNDLE_TYPE or len(fields) != 3 or not isinstance(sealed, dict):
        raise SignatureInvalid(f"{what} is not a Sigstore bundle v0.3 with a DSSE envelope")
    envelope = _envelope(sealed, what)
    match material:
        case {"publicKey": {"hint": str(hint), **others}, **more} if not others and not more:
            return Line("key", hint, envelope, raw)
        case {"certificate": _, **more} if "publicKey" not in more:
            return Line("sigstore", "", envelope, raw)
    raise SignatureInvalid(f"{what} names neither exactly one public key nor a certificate")


def render_signature(envelope: Envelope, hint: str = "") -> bytes:
    """Write the line of a signature.

    Args:
        envelope: the signed envelope; for a shared secret, with its key id.
        hint: for a key, the SHA-256 of its DER SPKI, 64 lower-case hex digits; empty for a shared secret.

    Returns:
        The line, without newline.
    """
    keyid: JsonObject = {"keyid": envelope.keyid} if envelope.keyid else {}
    fields: JsonObject = {
        "payload": _base64(envelope.payload),
        "payloadType": envelope.payload_type,
        "signatures": [{**keyid, "sig": _base64(envelope.signature)}],
    }
    if not hint:
        return strictjson.dumps(fields)
    material: JsonObject = {"publicKey": {"hint": hint}}
    return strictjson.dumps({"mediaType": BUNDLE_TYPE, "verificationMaterial": material, "dsseEnvelope": fields})


def _envelope(fields: JsonObject, what: str) -> Envelope:
    match fields:
        case {"payload": str(payload), "payloadType": str(kind), "signatures": [{"sig": str(sig), **hint}], **others}:
            keyid = hint.pop("keyid", "")
            if not others and not hint and isinstance(keyid, str):
                return Envelope(_unbase64(payload, what), _unbase64(sig, what), kind, keyid)
    raise SignatureInvalid(f"{what} does not hold a DSSE envelope with exactly one signature")


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()


def _unbase64(text: str, what: str) -> bytes:
    """Decode base64 (RFC 4648, section 4) in its one canonical spelling: decoders differ on every other one."""
    try:
        data = a2b_base64(text, strict_mode=True)
    except (Base64Error, ValueError):
        data = None
    if not data or _base64(data) != text:
        raise SignatureInvalid(f"{what} holds malformed base64")
    return data
