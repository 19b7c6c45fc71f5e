"""Ed25519 in plain Python: it says what RFC 8032 and OpenSSL say, of good signatures and of crafted ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.drawn import examples
from wcp_attest.signing.ed25519 import verifies

P, ORDER = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
# RFC 8032 section 7.1, tests 1 to 3: public key, message, signature.
RFC = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


WYCHEPROOF = json.loads((Path(__file__).parents[1] / "vectors" / "ed25519.json").read_bytes())["tests"]


def openssl(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def test_answers_the_vectors_of_wycheproof_and_openssl_agrees() -> None:
    assert len(WYCHEPROOF) == 151
    for case in WYCHEPROOF:
        key, message, signature = (bytes.fromhex(case[name]) for name in ("key", "message", "signature"))
        assert verifies(key, signature, message) is case["valid"], case["id"]
        assert openssl(key, signature, message) is case["valid"], case["id"]


@pytest.mark.parametrize(("key", "message", "signature"), RFC)
def test_accepts_the_vectors_of_the_rfc_and_none_with_a_bit_changed(key: str, message: str, signature: str) -> None:
    public, data, signed = map(bytes.fromhex, (key, message, signature))
    assert verifies(public, signed, data)
    for at in range(0, 512, 37):
        changed = bytearray(signed)
        changed[at // 8] ^= 1 << at % 8
        assert not verifies(public, bytes(changed), data)
    assert not verifies(public, signed, data + b"x")


@settings(max_examples=examples(40))
@given(seed=st.binary(min_size=32, max_size=32), message=st.binary(max_size=300), flip=st.integers(-1, 511))
def test_agrees_with_openssl_on_signatures_with_and_without_a_changed_bit(
    seed: bytes, message: bytes, flip: int
) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public, signature = private.public_key().public_bytes_raw(), bytearray(private.sign(message))
    if flip >= 0:
        signature[flip // 8] ^= 1 << flip % 8
    assert verifies(public, bytes(signature), message) is openssl(public, bytes(signature), message) is (flip < 0)


SEED = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"seed").digest())
KEY, GOOD = SEED.public_key().public_bytes_raw(), SEED.sign(b"message")
SCALARS = [0, 1, ORDER - 1, ORDER, ORDER + 1, P, 2**255 - 1, 2**256 - 1]
POINTS = [0, 1, P - 1, P, P + 1, 2**255 - 1, 2**255, 2**255 + 1, 2**256 - 1]


@pytest.mark.parametrize(
    "signature",
    [
        GOOD[:32] + (int.from_bytes(GOOD[32:], "little") + ORDER).to_bytes(32, "little"),  # malleable
        GOOD[:63], GOOD + b"\0", b"", bytes(64), GOOD[32:] + GOOD[:32],
        *(GOOD[:32] + scalar.to_bytes(32, "little") for scalar in SCALARS),
        *(point.to_bytes(32, "little") + GOOD[32:] for point in POINTS),
        *(point.to_bytes(32, "little") + scalar.to_bytes(32, "little") for point in POINTS for scalar in SCALARS),
    ],
)  # fmt: skip
def test_refuses_crafted_signatures_as_openssl_does(signature: bytes) -> None:
    assert verifies(KEY, GOOD, b"message")
    assert not verifies(KEY, signature, b"message")
    assert not openssl(KEY, signature, b"message")


@pytest.mark.parametrize(
    "key", [b"", KEY[:31], KEY + b"\0", *(point.to_bytes(32, "little") for point in (P, P + 1, 2**255 - 1, 2))]
)
def test_refuses_what_is_no_point(key: bytes) -> None:
    assert not verifies(key, GOOD, b"message")
