"""Signatures by a key: Ed25519, or ECDSA on P-256 and P-384, through `cryptography`.

The key fixes the algorithm, the message never chooses: Ed25519 (RFC 8032), or ECDSA on P-256 or P-384 with SHA-256
(FIPS 186-5; the reason stands in docs/adr/0006), signatures in DER. Files: private keys as PEM (PKCS#8, encrypted or
not) or OpenSSH; public keys as PEM (SubjectPublicKeyInfo) or one line of OpenSSH. A key's id is the SHA-256 of its DER
SubjectPublicKeyInfo.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import ConfigError, SignatureInvalid
from wcp_attest.package.signature_file import PAYLOAD_TYPE, Envelope, Line, pae, render_key
from wcp_attest.signing import SignedBy

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    PublicKey: TypeAlias = Ed25519PublicKey | EllipticCurvePublicKey
    PrivateKey: TypeAlias = Ed25519PrivateKey | EllipticCurvePrivateKey

MAX_KEY_FILE_BYTES = 64 * 1024
KEY_TYPES = ("ed25519", "p256", "p384")
_CURVES = ("secp256r1", "secp384r1")
# An Ed25519 public key is 12 bytes that never change and 32 more, an unencrypted private one 16 and 32 (RFC 8410): one
# line of PEM. Reading that line here spares the usual package the import of every other key format.
_ED25519_SPKI = bytes.fromhex("302a300506032b6570032100")
_ED25519_PEM = re.compile(
    rb"-----BEGIN PUBLIC KEY-----\r?\n(MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}=)\r?\n-----END PUBLIC KEY-----\s*\Z"
)
_ED25519_PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
_ED25519_PRIVATE_PEM = re.compile(
    rb"-----BEGIN PRIVATE KEY-----\r?\n(MC4CAQAwBQYDK2VwBCIEI[A-P][A-Za-z0-9+/]{42})\r?\n-----END PRIVATE KEY-----\s*\Z"
)
_SUPPORTED = "use Ed25519, ECDSA P-256 or ECDSA P-384"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that a policy believes.

    Attributes:
        spki: its DER SubjectPublicKeyInfo.
    """

    spki: bytes = field(repr=False)

    @classmethod
    def from_file_bytes(cls, data: bytes, *, what: str = "the public key") -> TrustedKey:
        """Read a public key file.

        Args:
            data: PEM or one OpenSSH line.
            what: its name, for messages.

        Raises:
            ConfigError: it is not a public key, or of an unsupported type.
        """
        ed25519 = _ED25519_PEM.match(data)
        if ed25519 is not None:
            return cls(a2b_base64(ed25519[1]))
        return cls(_spki(_supported_public(_load_public(data, what), what)))

    @property
    def key_id(self) -> str:
        """SHA-256 of the DER SPKI, 64 lower-case hex digits."""
        return sha256_hex(self.spki)

    def verify(self, line: Line) -> SignedBy:
        """Verify a line that names this key.

        Raises:
            SignatureInvalid: the signature does not hold, or the payload type is not that of a Statement.
        """
        envelope = line.envelope
        if line.kind != "key" or line.hint != self.key_id or not _holds(self.spki, envelope):
            raise SignatureInvalid(f"the signature by key sha256:{self.key_id} does not hold over its statement")
        if envelope.payload_type != PAYLOAD_TYPE:
            raise SignatureInvalid(
                f"the signature by key sha256:{self.key_id} covers something that is not a statement"
            )
        return SignedBy(key_id=self.key_id)


@dataclass(frozen=True, slots=True)
class KeySigner:
    """A private key that signs.

    Attributes:
        private: the key, of a supported type; `from_file_bytes` makes sure.
    """

    private: PrivateKey = field(repr=False)

    @classmethod
    def from_file_bytes(cls, data: bytes, passphrase: bytes | None = None, *, what: str = "the key") -> KeySigner:
        """Read a private key file.

        Args:
            data: PEM (PKCS#8) or OpenSSH.
            passphrase: of an encrypted key, else None.
            what: its name, for messages.

        Raises:
            ConfigError: it is not a private key, of an unsupported type, or the passphrase is wrong or missing.
        """
        ed25519 = _ED25519_PRIVATE_PEM.match(data)
        if ed25519 is not None:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            return cls(Ed25519PrivateKey.from_private_bytes(a2b_base64(ed25519[1])[len(_ED25519_PKCS8) :]))
        return cls(_supported_private(_load_private(data, passphrase, what), what))

    @property
    def trusted(self) -> TrustedKey:
        """The public half."""
        return TrustedKey(_spki(self.private.public_key()))

    def sign(self, payload: bytes) -> bytes:
        """Sign a Statement and return the line."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        message = pae(PAYLOAD_TYPE, payload)
        if isinstance(self.private, Ed25519PrivateKey):
            signature = self.private.sign(message)
        else:
            signature = self.private.sign(message, _ecdsa())
        return render_key(Envelope(payload, signature), self.trusted.key_id)

    def made(self, line: Line) -> bool:
        """Tell whether the line names this key."""
        return line.kind == "key" and line.hint == self.trusted.key_id

    def check(self, line: Line) -> SignedBy:
        """Verify a line that this key made.

        Raises:
            SignatureInvalid: it does not hold.
        """
        return self.trusted.verify(line)

    def to_pem(self, passphrase: bytes | None) -> bytes:
        """Return the private key as PEM (PKCS#8), encrypted when a passphrase is given."""
        from cryptography.hazmat.primitives import serialization as form

        protection = form.BestAvailableEncryption(passphrase) if passphrase else form.NoEncryption()
        return self.private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, protection)

    def public_pem(self) -> bytes:
        """Return the public key as PEM (SubjectPublicKeyInfo)."""
        from cryptography.hazmat.primitives import serialization as form

        return self.private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


def generate(key_type: Literal["ed25519", "p256", "p384"] = "ed25519") -> KeySigner:
    """Make a new key.

    Args:
        key_type: `ed25519`, `p256` or `p384`.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if key_type == "ed25519":
        return KeySigner(ed25519.Ed25519PrivateKey.generate())
    return KeySigner(ec.generate_private_key(ec.SECP256R1() if key_type == "p256" else ec.SECP384R1()))


def _holds(spki: bytes, envelope: Envelope) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        if spki.startswith(_ED25519_SPKI):
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

            Ed25519PublicKey.from_public_bytes(spki[len(_ED25519_SPKI) :]).verify(envelope.signature, envelope.pae())
        else:
            key = _elliptic(spki)
            key.verify(envelope.signature, envelope.pae(), _ecdsa())
    except InvalidSignature:
        return False
    return True


def _elliptic(spki: bytes) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = _supported_public(load_der_public_key(spki), "the public key")
    if not isinstance(key, EllipticCurvePublicKey):
        raise ConfigError(f"the public key is of an unsupported type; {_SUPPORTED}")
    return key


def _ecdsa() -> ECDSA:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.hashes import SHA256

    return ECDSA(SHA256())


def _spki(key: PublicKey) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if isinstance(key, Ed25519PublicKey):
        return _ED25519_SPKI + key.public_bytes_raw()
    from cryptography.hazmat.primitives import serialization as form

    return key.public_bytes(form.Encoding.DER, form.PublicFormat.SubjectPublicKeyInfo)


def _supported_public(key: object, what: str) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if isinstance(key, Ed25519PublicKey) or (isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES):
        return key
    raise ConfigError(f"{what} is of an unsupported type; {_SUPPORTED}")


def _supported_private(key: object, what: str) -> PrivateKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if isinstance(key, Ed25519PrivateKey) or (isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES):
        return key
    raise ConfigError(f"{what} is of an unsupported type; {_SUPPORTED}")


def _load_public(data: bytes, what: str) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key, load_ssh_public_key

    if b"PRIVATE KEY-----" in data:
        raise ConfigError(f"{what} is a private key; give the public one, and keep this one off hosts that verify")
    try:
        return load_pem_public_key(data) if b"-----BEGIN" in data else load_ssh_public_key(data.strip())
    except UnsupportedAlgorithm:
        raise ConfigError(f"{what} is not a public key of a supported type; {_SUPPORTED}") from None
    except ValueError:
        raise ConfigError(f"{what} is not a public key in PEM or OpenSSH form") from None


def _load_private(data: bytes, passphrase: bytes | None, what: str) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    if b"ENCRYPTED SIGSTORE PRIVATE KEY" in data or b"ENCRYPTED COSIGN PRIVATE KEY" in data:
        raise ConfigError(f"{what} is in cosign's own format; make a key with `wcp-attest keygen`")
    if b"-----BEGIN PUBLIC KEY" in data or data.startswith((b"ssh-", b"ecdsa-")):
        raise ConfigError(f"{what} is a public key; signing needs the private one")
    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        return load(data, passphrase or None)
    except UnsupportedAlgorithm:
        raise ConfigError(f"{what} is of an unsupported type or cipher; {_SUPPORTED}") from None
    except TypeError:
        if passphrase:
            return _load_private(data, None, what)
        raise ConfigError(f"{what} is encrypted; give its passphrase by --passphrase-file or prompt") from None
    except ValueError:
        wrong = "its passphrase is wrong, or it is not" if passphrase else "it is not"
        raise ConfigError(f"{what} cannot be read: {wrong} a private key in PEM (PKCS#8) or OpenSSH form") from None
