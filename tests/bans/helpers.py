"""Bans and lists that tests of this room share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from wcp_attest.signing import SignedBy
from wcp_attest.signing.hmac import HmacSecret
from wcp_attest.trust.bans.ban import Ban, Kind, make_ban
from wcp_attest.trust.bans.document import BanList, Head
from wcp_attest.trust.bans.list_verifier import ListVerifier
from wcp_attest.trust.bans.rollback_guard import RollbackGuard, Seen
from wcp_attest.trust.bans.signed_list import ListSigners, sign_list
from wcp_attest.trust.conditions import PackageFacts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from wcp_attest.signing import Signer

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


SECRET = HmacSecret(b"the security team's shared secret")
OTHER = HmacSecret(b"the secret of somebody else altogether")
MAX_AGE = 30 * 86_400


def signed(document: bytes, *signers: Signer, head: Head = HEAD) -> bytes:
    """Sign a list as its signers would."""
    seen = Seen(head, sha256(document).hexdigest())
    return sign_list(seen, signers or (SECRET,), b"")[0]


def head(version: int, *, issued: int = NOW, lifetime: int = WEEK, name: str = "acme-soc") -> Head:
    return Head(name, version, issued, issued + lifetime)


@dataclass(frozen=True)
class Place:
    """A directory with a list, its signatures, and the state of whoever checks it."""

    root: Path

    @property
    def path(self) -> Path:
        return self.root / "bans.json"

    @property
    def state(self) -> str:
        return str(self.root / "state")

    def put(self, bans: Iterable[Ban] = (), head: Head = HEAD, *signers: Signer) -> bytes:
        """Write a list and its signatures."""
        document = list_bytes(bans, head)
        self.path.write_bytes(document)
        (self.root / "bans.json.sig").write_bytes(signed(document, *signers, head=head))
        return document

    def admission(self, now: float = NOW + 60, *, signers: ListSigners | None = None) -> ListVerifier:
        return ListVerifier(signers or ListSigners((SECRET,)), MAX_AGE, RollbackGuard(self.state), now)


def facts(**changes: Any) -> PackageFacts:
    known: dict[str, Any] = {
        "manifest_sha256": digest(1),
        "package_hash": digest(2),
        "hash_algorithm": "sha256",
        "worker_id": "org.acme.summarizer",
        "worker_version": "1.4.0",
        "signers": (SignedBy(key_id=digest(3)),),
    }
    return PackageFacts(**{**known, **changes})
