"""The cases of the shared secret once more, signed by a key: for implementations that know no shared secrets."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.vectors.cases import HMAC, PACKAGE, Case, case, every, key, policy
from tests.vectors.packages import SECRET, SIGNED_AT, key_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "ed25519"
TRUST = policy(key(NAME))


def by_key() -> tuple[Case, ...]:
    """Return the twin of each case whose lines are good ones by the secret, and malformed lines of a key."""
    return (*twins(), *signature_denials())


def twins() -> Iterator[Case]:
    """Yield each case with the same payloads signed by a key instead."""
    for one in every():
        lines = None if one.signatures is None else _resigned(one.signatures)
        if lines is None or HMAC not in one.policy or "[[namespace.signer]]\nkey" in one.policy:
            continue
        trusted = one.policy.replace(HMAC, key(NAME))
        yield replace(one, name=f"key-{one.name}", why=f"{one.why}; by a key", signatures=lines, policy=trusted)


def _resigned(signatures: bytes) -> bytes | None:
    """Return lines by the key over the same payloads; None where a line is no good one by the shared secret."""
    from wcp_attest.signing.hmac import HmacSecret

    lines = []
    for raw in signatures.removesuffix(b"\n").split(b"\n"):
        try:
            line = json.loads(raw)
            payload = base64.b64decode(line["payload"], validate=True)
        except (ValueError, KeyError, TypeError):
            return None
        if HmacSecret(SECRET.encode()).sign(payload) != raw:
            return None
        lines.append(key_line(NAME, payload))
    return b"".join(lines)


def signature_denials() -> Iterator[Case]:
    """Yield signatures by a key that are malformed, wrong, or by another key."""
    good = PACKAGE.key_line(NAME)
    malformed = {
        "truncated": good[: len(good) // 2],
        "two-lines-in-one": good.rstrip(b"\n") + good,
        "blank-line": good + b"\n" + good,
        "two-signatures": _edited(good, lambda e: e["signatures"].append(e["signatures"][0])),
        "no-signatures": _edited(good, lambda e: e.update(signatures=[])),
        "base64": good.replace(b'"payload":"', b'"payload":" ', 1),
        "base64-urlsafe": _edited(good, lambda e: e["signatures"][0].update(sig="_-" + e["signatures"][0]["sig"][2:])),
        "unknown-field": _edited(good, lambda e: e.update(extra=1)),
        "other-bundle": good.replace(b"v0.3", b"v0.2"),
        "twice": good.replace(b'{"mediaType"', b'{"mediaType":"application/json","mediaType"', 1),
        "no-hint": good.replace(b'{"hint":', b'{"hints":', 1),
    }
    for name, data in malformed.items():
        if data == good:
            raise AssertionError(name)
        yield _case(f"signature-{name}", "a line that is malformed", "SIG_INVALID", data)
    changed = {
        "changed": _edited(good, lambda e: e["signatures"][0].update(sig=base64.b64encode(bytes(64)).decode())),
        "short": _edited(good, lambda e: e["signatures"][0].update(sig=base64.b64encode(bytes(32)).decode())),
        "payload": _edited(
            good, lambda e: e.update(payload=base64.b64encode(PACKAGE.statement(package_hash="0" * 64)).decode())
        ),
        "type": _edited(good, lambda e: e.update(payloadType="text/plain")),
    }
    for name, data in changed.items():
        yield _case(f"signature-{name}", "a signature that does not hold", "SIG_INVALID", data)
    two = policy(key(NAME), key("p256"), threshold=2)
    twice = good + PACKAGE.key_line(NAME, signed_at=SIGNED_AT + 1)
    yield replace(_case("threshold", "two of two keys", "", good + PACKAGE.key_line("p256")), policy=two)
    yield replace(_case("threshold-not-met", "one of two keys", "THRESHOLD_NOT_MET", good), policy=two)
    yield replace(_case("threshold-same-twice", "the same key twice", "THRESHOLD_NOT_MET", twice), policy=two)
    stranger = good + PACKAGE.key_line("ed25519-other")
    yield _case("stranger-beside", "a line by a key that the policy does not know", "", stranger)


def _case(name: str, why: str, code: str, signatures: bytes) -> Case:
    return case(f"key-{name}", f"{why}; by a key", code, signatures=signatures, policy=TRUST)


def _edited(line: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Return a line with something changed in its envelope."""
    fields = json.loads(line)
    change(fields["dsseEnvelope"])
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"
