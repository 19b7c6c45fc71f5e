"""Bans and lists that tests of this room share."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING

from wcp_attest.bans.document import BanList, Head
from wcp_attest.bans.model import Ban, Kind, make_ban

if TYPE_CHECKING:
    from collections.abc import Iterable

HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
NOW = 1_772_366_400  # 2026-03-01T12:00:00Z
WEEK = 7 * 86_400
HEAD = Head("acme-soc", 7, NOW, NOW + WEEK)
WHY = {"reason": "exfiltrates tokens", "banned_at": "2026-03-01T12:00:00Z", "source": "acme-soc"}
URL = "https://acme.example/advisories/7"


def ban(kind: str, subject: str, **more: str) -> Ban:
    return make_ban(Kind(kind), subject, **{**WHY, **more})


def digest(number: int) -> str:
    return sha256(b"%d" % number).hexdigest()


def list_bytes(bans: Iterable[Ban] = (), head: Head = HEAD) -> bytes:
    return BanList.make(head, bans).to_bytes()


def by_hand(data: bytes) -> bytes:
    """Lay the same list out in another way."""
    return json.dumps(json.loads(data), indent=4, sort_keys=True).encode()


EVERY_KIND = (
    ban("manifest", HEX),
    ban("package", HEX, reference=URL),
    ban("package", "blake3:" + HEX),
    ban("file", HEX),
    ban("worker", "org.acme.summarizer"),
    ban("worker", "org.acme.summarizer", versions=">=1.2,<1.4.3"),
    ban("key", HEX),
    ban("key", "hmac-sha256:0123456789abcdef"),
    ban("identity", "https://github.com/acme/worker/*", issuer="https://token.example"),
    ban("namespace", "x.mallory"),
)
