"""Hash algorithms, lower-case hex, and the package hash.

The package hash binds names, sizes and contents of all *files* of a package, in byte order of their paths:

    H( "code/bootstrap.py\\n" "612\\n" "9f86d081…\\n"  "requirements.lock\\n" "0\\n" "e3b0c442…\\n"  … )

where H is the manifest's algorithm. With SHA-256 it equals the hash of schema `awp.v1`, so registries, ban lists and
older verifiers agree on it. No path holds a newline (`entries.path_problem`), so the records can be read in one way
only.
"""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast, get_args

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from hashlib import _Hash

Hasher: TypeAlias = "_Hash"  # of `hashlib`, or one of `blake3`, which has the same methods
HashAlgorithm = Literal["sha256", "blake3"]
ALGORITHMS: Final[tuple[HashAlgorithm, ...]] = get_args(HashAlgorithm)

_HEX = re.compile(r"[0-9a-f]{64}\Z")


def new_hasher(algorithm: HashAlgorithm) -> Hasher:
    """Start a hash.

    Args:
        algorithm: `sha256` (FIPS 180-4) or `blake3` (256-bit output).

    Returns:
        An object that takes bytes with `update` and gives the digest with `digest` and `hexdigest`.

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
    """Tell whether a text is a 256-bit digest in the one spelling of this toolkit: 64 lower-case hex digits.

    Args:
        text: any text.
    """
    return _HEX.match(text) is not None


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 (FIPS 180-4) of bytes as 64 lower-case hex digits.

    Args:
        data: any bytes.
    """
    return sha256(data).hexdigest()


def package_hash(files: Iterable[tuple[str, int, str]], algorithm: HashAlgorithm = "sha256") -> str:
    """Return the package hash of files given in byte order of their paths.

    Args:
        files: `(path, size in bytes, hex digest)` of every file.
        algorithm: the algorithm of the digests and of the result.

    Returns:
        64 lower-case hex digits.

    Raises:
        ConfigError: the algorithm is unknown.
    """
    hasher = new_hasher(algorithm)
    hasher.update("".join([f"{path}\n{size}\n{digest}\n" for path, size, digest in files]).encode())
    return hasher.hexdigest()
