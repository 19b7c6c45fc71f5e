"""Signed tree heads as C2SP signed notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.loopback_sigstore.keys import b64

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loopback_sigstore.merkle import Inclusion

DASH = "\N{EM DASH}"


def checkpoint(origin: str, name: str, key_id: bytes, tree: Inclusion, sign: Callable[[bytes], bytes]) -> str:
    """Sign a tree head.

    Args:
        origin: the log's unique name, the first line of the note.
        name: who signs, usually the same.
        key_id: the log id; its first four octets are the note's key hint.
        tree: the tree to sign.
        sign: makes the signature over the note's text.
    """
    text = f"{origin}\n{tree.size}\n{b64(tree.root)}\n"
    return f"{text}\n{DASH} {name} {b64(key_id[:4] + sign(text.encode()))}\n"
