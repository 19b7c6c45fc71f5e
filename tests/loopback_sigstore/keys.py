"""Keys of the instance: how they are made, named and used."""

from __future__ import annotations

import base64
import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

P256Key = ec.EllipticCurvePrivateKey
Ed25519Key = ed25519.Ed25519PrivateKey


def new_p256() -> P256Key:
    """Make an ECDSA key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def new_ed25519() -> Ed25519Key:
    """Make an Ed25519 key."""
    return ed25519.Ed25519PrivateKey.generate()


def sign_p256(key: P256Key, data: bytes) -> bytes:
    """Sign with ECDSA over SHA-256; the signature is DER."""
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def spki(key: P256Key | Ed25519Key) -> bytes:
    """Return the DER SubjectPublicKeyInfo of the public half."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: P256Key) -> bytes:
    """Return the log id of RFC 6962 and Rekor v1: SHA-256 of the SubjectPublicKeyInfo."""
    return sha256(spki(key))


def note_key_id(name: str, key: Ed25519Key) -> bytes:
    """Return the key id of a signed note (C2SP), the log id of Rekor v2: SHA-256(name, newline, 0x01, raw key)."""
    return sha256(name.encode() + b"\n\x01" + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def sha256(data: bytes) -> bytes:
    """Return the 32 octets of the SHA-256 of `data`."""
    return hashlib.sha256(data).digest()


def b64(data: bytes) -> str:
    """Return standard base64 with padding, as JSON texts of Sigstore use it."""
    return base64.b64encode(data).decode()
