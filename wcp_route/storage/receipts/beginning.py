"""Where a ledger begins after old receipts were pruned: a statement, signed like a batch, in the only row of its table.

It names the last removed batch, so that the next batch can be checked. It also names the first event to read the state
from: from there on, pruning wrote the whole current state again.

    {"batch":1200,"batch_hash":"…","carried_prev":"…","carried_seq":9001,"position":88000,"pruned_at":"…",
     "schema":"wcp.ledger-origin.v1","spec_version":"0.2","state_hash":"…","state_seq":8000}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json, parse_canonical
from wcp_route.domain.clock import format_ms
from wcp_route.storage.receipts.receipt import SPEC_VERSION, ReceiptHead

ORIGIN_SCHEMA: Final = "wcp.ledger-origin.v1"
MAX_ORIGIN_BYTES: Final = 4096
_NUMBERS: Final = ("batch", "position", "state_seq", "carried_seq")
_TEXTS: Final = ("batch_hash", "state_hash", "carried_prev")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a ledger begins.

    Attributes:
        batch: the number of the last removed batch, 0 when nothing was pruned.
        batch_hash: SHA-256 of its statement, hex.
        position: the position of the last removed receipt.
        state: the last removed receipt of the state stream.
        carried_seq: the number of the first event that the state is read from.
        carried_prev: hash of the event before it.
        statement: the exact bytes, empty when nothing was pruned.
        key_id: the id of the key that should have signed; None for no signature.
        signature: raw Ed25519, 64 bytes; None for no signature.
    """

    batch: int = 0
    batch_hash: str = ""
    position: int = 0
    state: ReceiptHead = field(default_factory=ReceiptHead)
    carried_seq: int = 1
    carried_prev: str = ""
    statement: bytes = b""
    key_id: str | None = None
    signature: bytes | None = None

    def to_statement(self, at_ms: int) -> bytes:
        """Return the bytes to be signed.

        Args:
            at_ms: the time of pruning, milliseconds since 1970.
        """
        return canonical_json(
            {
                "schema": ORIGIN_SCHEMA,
                "spec_version": SPEC_VERSION,
                "batch": self.batch,
                "batch_hash": self.batch_hash,
                "position": self.position,
                "state_seq": self.state.seq,
                "state_hash": self.state.hash,
                "carried_seq": self.carried_seq,
                "carried_prev": self.carried_prev,
                "pruned_at": format_ms(at_ms),
            }
        )

    @classmethod
    def from_statement(cls, statement: bytes, key_id: str | None, signature: bytes | None) -> Origin:
        """Read a statement. This does not check the signature.

        Args:
            statement: the exact bytes.
            key_id: the id of the key that should have signed, SHA-256 of its DER SPKI in hex; None for no signature.
            signature: raw Ed25519, 64 bytes; None for no signature.

        Raises:
            ConfigError: it is not such a statement.
        """
        value = parse_canonical(statement, what="origin of the ledger", max_bytes=MAX_ORIGIN_BYTES)
        if (
            not isinstance(value, dict)
            or value.get("schema") != ORIGIN_SCHEMA
            or len(value) != len(_NUMBERS + _TEXTS) + 3
        ):
            raise ConfigError(f"origin of the ledger is not of {ORIGIN_SCHEMA}")
        numbers, texts = [value.get(name) for name in _NUMBERS], [value.get(name) for name in _TEXTS]
        if not all(type(one) is int and one >= 0 for one in numbers) or not all(isinstance(one, str) for one in texts):
            raise ConfigError("origin of the ledger has a field of another type")
        batch, position, seq, carried = (int(str(one)) for one in numbers)
        batch_hash, state_hash, before = map(str, texts)
        return cls(
            batch, batch_hash, position, ReceiptHead(seq, state_hash), carried, before, statement, key_id, signature
        )
