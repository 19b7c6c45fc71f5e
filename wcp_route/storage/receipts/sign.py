"""Signatures on receipts: Ed25519 over the statement of each batch, as a DSSE envelope.

Only a head that you exported and keep elsewhere shows that receipts were cut off at the end. The store alone cannot
show it. It is one line of JSON that any DSSE tool can check:

    {"payload":"eyJiYX…","payloadType":"application/vnd.wcp.receipt-batch.v2+json",
     "signatures":[{"keyid":"4a7c…","sig":"pZ1c…"}]}

The key id is the SHA-256 of the key's DER SubjectPublicKeyInfo. It only helps to find the key: the verifier gives the
trusted keys. No key is read from the store.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Protocol

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json, parse_canonical
from wcp_route.storage.receipts.receipt import MAX_STATEMENT_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PAYLOAD_TYPE: Final = "application/vnd.wcp.receipt-batch.v2+json"
MAX_HEAD_BYTES: Final = 2 * MAX_STATEMENT_BYTES  # base64 and the envelope around it
_MAX_KEY_BYTES: Final = 64 << 10


class ReceiptSigner(Protocol):
    """Signs batch statements; an HSM can stand behind it."""

    @property
    def key_id(self) -> str:
        """SHA-256 of the public key's DER SubjectPublicKeyInfo, lower-case hex."""

    def sign(self, statement: bytes, /) -> bytes:
        """Return the Ed25519 signature over the statement's pre-authentication encoding (`pae`)."""


@dataclass(frozen=True, slots=True)
class ReceiptKey:
    """A public key whose batches are trusted.

    Attributes:
        spki: its DER SubjectPublicKeyInfo.
    """

    spki: bytes = field(repr=False)

    @classmethod
    def from_file_bytes(cls, data: bytes, *, what: str = "the receipt key") -> ReceiptKey:
        """Read a public key file, PEM or OpenSSH.

        Args:
            data: the exact bytes.
            what: what is read, for messages.

        Raises:
            ConfigError: it is not an Ed25519 public key.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        from wcp_attest import TrustedKey

        spki = TrustedKey.from_file_bytes(data, what=what).spki
        if not isinstance(load_der_public_key(spki), Ed25519PublicKey):
            raise ConfigError(f"{what} is not an Ed25519 key, and receipts are signed by Ed25519")
        return cls(spki)

    @property
    def key_id(self) -> str:
        """SHA-256 of the DER SPKI, lower-case hex."""
        return sha256(self.spki).hexdigest()

    def verifies(self, statement: bytes, signature: bytes) -> bool:
        """Return whether this key made `signature` over `statement`.

        Args:
            statement: the exact bytes of a batch statement.
            signature: raw Ed25519, 64 bytes.
        """
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_der_public_key

        key = load_der_public_key(self.spki)
        if not isinstance(key, Ed25519PublicKey):
            return False
        try:
            key.verify(signature, pae(statement))
        except InvalidSignature:
            return False
        return True


class KeyFileSigner:
    """Signs with an Ed25519 private key held in memory.

    Args:
        private: the key.

    Attributes:
        public: the key's public half.
        key_id: SHA-256 of its DER SPKI, lower-case hex.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        self._private = private
        self.public = ReceiptKey(private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
        self.key_id = self.public.key_id

    @classmethod
    def from_file_bytes(
        cls, data: bytes, passphrase: bytes | None = None, *, what: str = "the receipt key"
    ) -> KeyFileSigner:
        """Read a private key file, PEM (PKCS#8) or OpenSSH; `wcp-attest keygen` makes one.

        Args:
            data: the exact bytes.
            passphrase: of an encrypted key; None when it has none.
            what: what is read, for messages.

        Raises:
            ConfigError: it is not an Ed25519 private key, or the passphrase is wrong or missing.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        from wcp_attest import KeySigner

        if len(data) > _MAX_KEY_BYTES:
            raise ConfigError(f"{what} is larger than {_MAX_KEY_BYTES} bytes")
        private = KeySigner.from_file_bytes(data, passphrase, what=what).private
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigError(f"{what} is not an Ed25519 key, and receipts are signed by Ed25519")
        return cls(private)

    def sign(self, statement: bytes) -> bytes:
        """Return the signature over the statement's pre-authentication encoding.

        Args:
            statement: the exact bytes of a batch statement.
        """
        return self._private.sign(pae(statement))


@dataclass(frozen=True, slots=True)
class SignedHead:
    """A batch statement with its signature, outside the store.

    Attributes:
        statement: the exact bytes.
        key_id: which key is said to have signed.
        signature: raw Ed25519.
    """

    statement: bytes
    key_id: str
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return the DSSE envelope, one line."""
        payload, signature = base64.b64encode(self.statement).decode(), base64.b64encode(self.signature).decode()
        return canonical_json(
            {
                "payload": payload,
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"keyid": self.key_id, "sig": signature}],
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> SignedHead:
        """Read an envelope. This does not check the signature.

        Args:
            data: the exact bytes.

        Raises:
            ConfigError: it is not the envelope of a batch statement.
        """
        wrong = ConfigError("the head is not a DSSE envelope of a receipt batch; export it again")
        match parse_canonical(data.strip(), what="the head", max_bytes=MAX_HEAD_BYTES):
            case {
                "payload": str(payload),
                "payloadType": str(kind),
                "signatures": [{"keyid": str(key_id), "sig": str(signature), **rest}],
                **more,
            } if kind == PAYLOAD_TYPE and not rest and not more:
                try:
                    raw = [binascii.a2b_base64(text, strict_mode=True) for text in (payload, signature)]
                except (binascii.Error, ValueError):
                    raise wrong from None
                return cls(raw[0], key_id, raw[1])
            case _:
                raise wrong


def is_signed_by(keys: Mapping[str, ReceiptKey], statement: bytes, key_id: str | None, signature: bytes | None) -> bool:
    """Return whether the key with this id is among `keys` and signed the statement.

    Args:
        keys: the trusted public keys, by key id.
        statement: the exact bytes of a batch statement.
        key_id: the id of the key that should have signed, SHA-256 of its DER SPKI in hex; None for no signature.
        signature: raw Ed25519, 64 bytes; None for no signature.
    """
    key = keys.get(key_id or "")
    return key is not None and signature is not None and key.verifies(statement, signature)


def pae(statement: bytes) -> bytes:
    """Return the DSSE pre-authentication encoding (DSSE v1), the bytes that are signed.

    Args:
        statement: the exact bytes of a batch statement.
    """
    return b"DSSEv1 %d %b %d %b" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(statement), statement)
