"""Hash algorithms, lower-case hex, and the package hash.

The package hash binds names, sizes and contents of all *files* of a package, in byte order of their paths:

    H( "code/bootstrap.py\\n" "612\\n" "9f86d081…\\n"  "requirements.lock\\n" "0\\n" "e3b0c442…\\n"  … )

where H is the manifest's algorithm. With SHA-256 it equals the hash of schema `awp.v1`, so registries, ban lists and
older verifiers agree on it. Newlines cannot occur in a path (`manifest.path_problem`), so the records are unambiguous.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast, get_args

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

HashAlgorithm = Literal["sha256", "blake3"]
ALGORITHMS: Final[tuple[HashAlgorithm, ...]] = get_args(HashAlgorithm)

_HEX = re.compile(r"[0-9a-f]{64}\Z")


class Hasher(Protocol):
    """What `hashlib` and `blake3` objects have in common."""

    def update(self, data: bytes | bytearray | memoryview, /) -> object:
        """Take more bytes."""

    def digest(self) -> bytes:
        """Return the digest of what was taken so far."""

    def hexdigest(self) -> str:
        """Return the same in lower-case hex."""


def new_hasher(algorithm: HashAlgorithm) -> Hasher:
    """Start a hash.

    Args:
        algorithm: `sha256` (FIPS 180-4) or `blake3` (256-bit output).

    Raises:
        ConfigError: the algorithm is unknown.
    """
    if algorithm == "sha256":
        return sha256()
    if algorithm == "blake3":
        from blake3 import blake3

        return cast("Hasher", blake3())
    raise ConfigError(f"unknown hash algorithm `{algorithm}`; use one of {', '.join(ALGORITHMS)}")


def is_hex_digest(text: str) -> bool:
    """Tell whether `text` is a 256-bit digest in the one spelling used inside: 64 lower-case hex digits."""
    return _HEX.match(text) is not None


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hex digits."""
    return sha256(data).hexdigest()


def package_hash(files: Iterable[tuple[str, int, str]], algorithm: HashAlgorithm = "sha256") -> str:
    """Return the package hash of files given in byte order of their paths.

    Args:
        files: `(path, size in bytes, hex digest)` of every file.
        algorithm: the algorithm of the digests and of the result.

    Raises:
        ConfigError: the algorithm is unknown.
    """
    hasher = new_hasher(algorithm)
    hasher.update("".join([f"{path}\n{size}\n{digest}\n" for path, size, digest in files]).encode())
    return hasher.hexdigest()
