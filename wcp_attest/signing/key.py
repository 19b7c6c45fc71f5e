"""Signatures by a key: Ed25519, ECDSA on P-256 and P-384, or ML-DSA-65, through `cryptography`.

The key fixes the algorithm, the message never chooses: Ed25519 (RFC 8032), ECDSA on P-256 or P-384 with SHA-256
(FIPS 186-5; the reason stands in docs/adr/0006) and signatures in DER, or ML-DSA-65 (FIPS 204, pure, with an empty
context). A key's id is the SHA-256 of its DER SubjectPublicKeyInfo. What key files may look like stands in `key_files`.
"""

from __future__ import annotations

import os
import re
from binascii import a2b_base64
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import ConfigError, SignatureInvalid
from wcp_attest.disk.files import absolute, read_bounded
from wcp_attest.package.signature_file import PAYLOAD_TYPE, Envelope, Line, pae, render_signature
from wcp_attest.signing import SignedBy

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

    PublicKey: TypeAlias = Ed25519PublicKey | EllipticCurvePublicKey | MLDSA65PublicKey
    PrivateKey: TypeAlias = Ed25519PrivateKey | EllipticCurvePrivateKey | MLDSA65PrivateKey

MAX_KEY_FILE_BYTES = 64 * 1024
KeyType = Literal["ed25519", "p256", "p384", "ml-dsa-65"]
KEY_TYPES: tuple[KeyType, ...] = get_args(KeyType)
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
# For a key of small order, one constant signature holds over every message (RFC 8032 section 5.1.7 does not refuse
# them; Chalkias et al., "Taming the many EdDSAs", 2020). These are the y coordinates of the eight points of small
# order, with the sign bit masked. A y of p or more is a second spelling of another key.
_ED25519_P: Final = 2**255 - 19
_ED25519_WEAK_Y: Final = frozenset(
    {
        0,
        1,
        _ED25519_P - 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    }
)
_NO_MLDSA = "the installed `cryptography` has no ML-DSA-65; install a newer version of it, from its wheels"


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key that a policy trusts.

    Attributes:
        spki: its DER SubjectPublicKeyInfo.
        file: where it was read from, if from a file; no package that is verified may hold it.

    Raises:
        ConfigError: it is an Ed25519 key for which anybody can make signatures.
    """

    spki: bytes = field(repr=False)
    file: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.spki.startswith(_ED25519_SPKI):
            y = int.from_bytes(self.spki[len(_ED25519_SPKI) :], "little") & (2**255 - 1)
            if y >= _ED25519_P or y in _ED25519_WEAK_Y:
                raise ConfigError(
                    "the public key is not a sound Ed25519 key (small order or not canonical): anybody could sign"
                    " with it; make a key with `wcp-attest keygen`"
                )

    @classmethod
    def from_file_bytes(cls, data: bytes, *, what: str = "the public key") -> TrustedKey:
        """Read a public key file that holds one key.

        Args:
            data: the bytes of the file: PEM, or one line as OpenSSH writes it.
            what: its name, for messages.

        Returns:
            The key, without the place it was read from.

        Raises:
            ConfigError: it is not a public key, of an unsupported type, or holds several.
        """
        keys = cls.all_from_file_bytes(data, what=what)
        if len(keys) > 1:
            raise ConfigError(f"{what} holds {len(keys)} public keys; each signer needs a file of its own")
        return keys[0]

    @classmethod
    def all_from_file_bytes(cls, data: bytes, *, what: str = "the public key") -> tuple[TrustedKey, ...]:
        """Read every public key of a file.

        Args:
            data: the bytes of the file: PEM, or lines as OpenSSH writes them.
            what: its name, for messages.

        Returns:
            At least one key, in the order of the file.

        Raises:
            ConfigError: it holds no public key, one of an unsupported type, or something else beside.
        """
        ed25519 = _ED25519_PEM.match(data)
        if ed25519 is not None:
            return (cls(a2b_base64(ed25519[1])),)
        from wcp_attest.signing.key_files import load_public_keys

        return tuple(cls(_spki(_supported_public(key, what))) for key in load_public_keys(data, what))

    @classmethod
    def all_from_file(cls, path: str | os.PathLike[str]) -> tuple[TrustedKey, ...]:
        """Read every public key of a file.

        Args:
            path: PEM or OpenSSH lines, at most 64 KiB; it may be a link, or a pipe that a shell opened (`<(…)`).

        Returns:
            At least one key, in the order of the file; each knows the file's absolute path.

        Raises:
            ConfigError: it cannot be read, or as `all_from_file_bytes`.
        """
        file = os.fspath(path)
        data = read_bounded(file, limit=MAX_KEY_FILE_BYTES, what="the public key", follow=True, pipe=True)
        return tuple(replace(key, file=absolute(file)) for key in cls.all_from_file_bytes(data, what=file))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> TrustedKey:
        """Read a file that holds one public key.

        Args:
            path: PEM or one OpenSSH line; it may be a link, or a pipe that a shell opened (`<(…)`).

        Returns:
            The key; it knows the file's absolute path.

        Raises:
            ConfigError: it cannot be read, is not a public key, is of an unsupported type, or holds several.
        """
        keys = cls.all_from_file(path)
        if len(keys) > 1:
            raise ConfigError(f"{os.fspath(path)} holds {len(keys)} public keys; use TrustedKey.all_from_file")
        return keys[0]

    @property
    def key_id(self) -> str:
        """SHA-256 of the DER SPKI, 64 lower-case hex digits."""
        return sha256_hex(self.spki)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Tell whether a signature is this key's over a message.

        Args:
            signature: as the algorithm makes it: 64 bytes of Ed25519, DER of ECDSA, 3309 bytes of ML-DSA-65.
            message: the bytes that were signed, not a digest of them.

        Raises:
            ConfigError: `cryptography` is not installed, and this is no Ed25519 key.
        """
        try:
            from cryptography.exceptions import InvalidSignature
        except ModuleNotFoundError:
            if not self.spki.startswith(_ED25519_SPKI):
                raise ConfigError(
                    "without `cryptography`, only Ed25519 keys verify; install it, or the wheel"
                ) from None
            from wcp_attest.signing import ed25519

            return ed25519.verifies(self.spki[len(_ED25519_SPKI) :], signature, message)
        try:
            if self.spki.startswith(_ED25519_SPKI):
                from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

                Ed25519PublicKey.from_public_bytes(self.spki[len(_ED25519_SPKI) :]).verify(signature, message)
                return True
            from cryptography.hazmat.primitives.serialization import load_der_public_key

            key = _supported_public(load_der_public_key(self.spki), "the public key")
            arguments = (_ecdsa(),) if hasattr(key, "curve") else ()
            key.verify(signature, message, *arguments)
        except InvalidSignature:
            return False
        return True

    def verify(self, line: Line) -> SignedBy:
        """Verify a line that names this key.

        Args:
            line: of a signature file.

        Returns:
            The key's id, as the signer.

        Raises:
            ConfigError: `cryptography` is not installed, and this is no Ed25519 key.
            SignatureInvalid: the line does not name this key, the signature is not valid, or the payload type is not
                that of a Statement.
        """
        envelope = line.envelope
        message = pae(envelope.payload_type, envelope.payload)
        if line.kind != "key" or line.hint != self.key_id or not self.verifies(envelope.signature, message):
            raise SignatureInvalid(f"the signature by key sha256:{self.key_id} is not valid for its statement")
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
    def from_file(cls, path: str | os.PathLike[str], passphrase: bytes | None = None) -> KeySigner:
        """Read a private key file.

        Args:
            path: PEM or OpenSSH; it may be a link, or a pipe that a shell opened (`<(…)`).
            passphrase: of an encrypted key, else None.

        Returns:
            The private key.

        Raises:
            ConfigError: it cannot be read, is not a private key, is of an unsupported type, or the passphrase is wrong
                or missing.
        """
        file = os.fspath(path)
        data = read_bounded(file, limit=MAX_KEY_FILE_BYTES, what="the key", follow=True, pipe=True)
        return cls.from_file_bytes(data, passphrase, what=file)

    @classmethod
    def from_file_bytes(cls, data: bytes, passphrase: bytes | None = None, *, what: str = "the key") -> KeySigner:
        """Read a private key file.

        Args:
            data: PEM or OpenSSH; its public key may stand beside it.
            passphrase: of an encrypted key; an unencrypted one needs none.
            what: its name, for messages.

        Returns:
            The private key.

        Raises:
            ConfigError: it is not one private key, of an unsupported type, or the passphrase is wrong or missing.
        """
        ed25519 = _ED25519_PRIVATE_PEM.match(data)
        if ed25519 is not None:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

            return cls(Ed25519PrivateKey.from_private_bytes(a2b_base64(ed25519[1])[len(_ED25519_PKCS8) :]))
        from wcp_attest.signing.key_files import load_private_key

        key = load_private_key(data, passphrase, what)
        _supported_public(key.public_key() if hasattr(key, "public_key") else key, what)
        return cls(cast("PrivateKey", key))

    @property
    def trusted(self) -> TrustedKey:
        """The public half."""
        return TrustedKey(_spki(self.private.public_key()))

    def sign(self, payload: bytes) -> bytes:
        """Sign a Statement.

        Args:
            payload: the bytes of an in-toto Statement.

        Returns:
            One line of a signature file, without newline: a Sigstore bundle v0.3 that names the key by its id.
        """
        message = pae(PAYLOAD_TYPE, payload)
        # An elliptic key takes the hash of ECDSA; the others fix theirs.
        arguments = (_ecdsa(),) if hasattr(self.private, "curve") else ()
        signature = self.private.sign(message, *arguments)
        return render_signature(Envelope(payload, signature), self.trusted.key_id)

    def made(self, line: Line) -> bool:
        """Tell whether the line names this key.

        Args:
            line: of a signature file.
        """
        return line.kind == "key" and line.hint == self.trusted.key_id

    def check(self, line: Line) -> SignedBy:
        """Verify a line that this key made.

        Args:
            line: of a signature file.

        Returns:
            The key's id, as the signer.

        Raises:
            SignatureInvalid: its signature is not valid.
        """
        return self.trusted.verify(line)

    def to_pem(self, passphrase: bytes | None) -> bytes:
        """Return the private key as PEM (PKCS#8, RFC 5958).

        Args:
            passphrase: encrypts the key, with the best cipher and key derivation that `cryptography` offers; None or
                empty writes it in the clear.
        """
        from cryptography.hazmat.primitives import serialization as form

        protection = form.BestAvailableEncryption(passphrase) if passphrase else form.NoEncryption()
        return self.private.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, protection)

    def public_pem(self) -> bytes:
        """Return the public key as PEM (SubjectPublicKeyInfo)."""
        from cryptography.hazmat.primitives import serialization as form

        return self.private.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


def generate(key_type: KeyType = "ed25519") -> KeySigner:
    """Make a new key.

    Args:
        key_type: `ed25519`, `p256`, `p384` or `ml-dsa-65`.

    Returns:
        The private key; `to_pem` and `public_pem` give its files.

    Raises:
        ConfigError: the installed `cryptography` cannot make such a key.
    """
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519

    if key_type == "ed25519":
        return KeySigner(ed25519.Ed25519PrivateKey.generate())
    if key_type == "ml-dsa-65":
        from cryptography.exceptions import UnsupportedAlgorithm

        try:
            from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

            return KeySigner(MLDSA65PrivateKey.generate())
        except (ImportError, UnsupportedAlgorithm):
            raise ConfigError(_NO_MLDSA) from None
    return KeySigner(ec.generate_private_key(ec.SECP256R1() if key_type == "p256" else ec.SECP384R1()))


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
    """Return a key of `cryptography` if its type is one of `KEY_TYPES`.

    Raises:
        ConfigError: it is not; the message names the type, such as `RSA`, `Ed448` or `secp256k1`.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if isinstance(key, Ed25519PublicKey) or (isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES):
        return key
    with suppress(ImportError):  # an older `cryptography` can hold no such key
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

        if isinstance(key, MLDSA65PublicKey):
            return key
    curve = getattr(getattr(key, "curve", None), "name", "")
    kind = curve or type(key).__name__.strip("_").removesuffix("PublicKey").removesuffix("PrivateKey")
    raise ConfigError(f"{what} is of an unsupported type ({kind}); use Ed25519, ECDSA P-256, ECDSA P-384 or ML-DSA-65")
