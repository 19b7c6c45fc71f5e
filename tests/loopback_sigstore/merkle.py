"""The append-only Merkle tree of RFC 6962, recomputed from its leaves: short rather than fast."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from tests.loopback_sigstore.keys import sha256


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Where an entry stands in the tree, and the path that proves it."""

    index: int
    size: int
    root: bytes
    path: tuple[bytes, ...]


class MerkleTree:
    """A tree that starts with one leaf of its own.

    Index 0 is never handed out: a client that writes proto3 JSON leaves a zero out, and one that reads strictly
    refuses the bundle then.
    """

    def __init__(self) -> None:
        self._leaves = [_leaf(b"the first entry of this log")]
        self._lock = threading.Lock()

    def append(self, body: bytes) -> Inclusion:
        """Add an entry and prove its inclusion in the tree that it ends."""
        with self._lock:
            self._leaves.append(_leaf(body))
            leaves = list(self._leaves)
        index = len(leaves) - 1
        return Inclusion(index, len(leaves), _root(leaves), tuple(_path(index, leaves)))


def _leaf(body: bytes) -> bytes:
    return sha256(b"\0" + body)


def _split(size: int) -> int:
    """Return the largest power of two below `size` (RFC 6962 section 2.1)."""
    return 1 << ((size - 1).bit_length() - 1)


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    middle = _split(len(leaves))
    return sha256(b"\1" + _root(leaves[:middle]) + _root(leaves[middle:]))


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    middle = _split(len(leaves))
    if index < middle:
        return [*_path(index, leaves[:middle]), _root(leaves[middle:])]
    return [*_path(index - middle, leaves[middle:]), _root(leaves[:middle])]
