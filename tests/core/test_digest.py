"""Hash algorithms and the package hash."""

from __future__ import annotations

import hashlib

import pytest

from wcp_attest.base.digest import is_hex_digest, new_hasher, package_hash, sha256_hex
from wcp_attest.base.errors import ConfigError


def test_sha256_of_the_standard() -> None:
    # FIPS 180-4 example
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    hasher = new_hasher("sha256")
    hasher.update(b"a")
    hasher.update(memoryview(b"bc"))
    assert hasher.hexdigest() == expected == sha256_hex(b"abc") == hasher.digest().hex()


def test_blake3_of_its_paper() -> None:
    assert new_hasher("blake3").hexdigest() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


@pytest.mark.parametrize("algorithm", ["", "sha1", "md5", "SHA256", "sha512"])
def test_other_algorithms_are_refused(algorithm: str) -> None:
    with pytest.raises(ConfigError, match="use one of sha256, blake3"):
        new_hasher(algorithm)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        package_hash([], algorithm)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "\u0660" * 64])
def test_a_digest_has_one_spelling(text: str) -> None:
    assert is_hex_digest("0" * 64)
    assert not is_hex_digest(text)


def test_the_package_hash_is_over_one_record_a_file() -> None:
    files = [("a", 1, "11" * 32), ("é/b", 0, "22" * 32)]
    records = b"a\n1\n" + b"11" * 32 + b"\n" + "é/b\n0\n".encode() + b"22" * 32 + b"\n"
    assert package_hash(files) == hashlib.sha256(records).hexdigest()
    blake = new_hasher("blake3")
    blake.update(records)
    assert package_hash(files, "blake3") == blake.hexdigest()
    assert package_hash([]) == hashlib.sha256().hexdigest()
