"""One evidence receipt: what it says, and its place in a chain.

    body    = canonical JSON (RFC 8785) of every field below; the chain's own fields are among them
    hash    = SHA-256 of body

    {"artifact_hash":"sha256:…", …, "prev_receipt_hash":"sha256:…", …, "seq":7, "spec_version":"0.2", "stream":"acme"}

The first receipt of a stream has `seq` 1 and a null `prev_receipt_hash`; every other names the hash of the one before.
`receipt_hash` is added when a receipt is shown or exported; it is not hashed. The minimum of spec
5.7 (`correlation_id`, `dispatched_at`, `worker_id`, `capability_id`, `policy_decision`, `controls_verified`,
`artifact_hash`) stands at the top level. `wcp_route/schemas/receipt.json` says the same as a JSON Schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import parse_canonical
from wcp_route.domain.clock import parse_ms
from wcp_route.storage.ledger_state import EVENT_SCHEMA

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

SCHEMA: Final = "wcp.receipt.v1"
SPEC_VERSION: Final = "0.2"  # of the protocol; pinned, because it is hashed along
MAX_COLUMN: Final = 200  # characters of a name in a column; the body has all of it
MAX_BATCH: Final = 1024  # receipts that one transaction makes durable
MAX_STATEMENT_BYTES: Final = MAX_BATCH * 80 + 4096  # of a batch; 67 bytes a hash
MAX_RECEIPT_BYTES: Final = 256 << 10  # a receipt is 2 kB; a request's longest ids and reasons stay far below this


@dataclass(frozen=True, slots=True)
class Receipt:
    """A receipt as it is stored.

    Attributes:
        position: its place in the store, from 1, over all streams.
        stream: whose chain it is in.
        seq: its number in that chain, from 1.
        hash: SHA-256 of `body`, 64 lower-case hex digits.
        body: the exact bytes.
    """

    position: int
    stream: str
    seq: int
    hash: str
    body: bytes

    def to_dict(self) -> JsonObject:
        """Return the fields with the `receipt_hash`, as they are shown and exported.

        Raises:
            ConfigError: the body is not a receipt.
        """
        return {**parse_body(self.body, what=f"receipt {self.position}"), "receipt_hash": f"sha256:{self.hash}"}


class ReceiptHead(NamedTuple):
    """The end of a stream: the number and hash of its last receipt; 0 and empty before the first."""

    seq: int = 0
    hash: str = ""

    @property
    def named(self) -> str | None:
        """The name in the next receipt and in a batch: `sha256:…`, None before the first."""
        return f"sha256:{self.hash}" if self.seq else None


class ReceiptIndex(NamedTuple):
    """What a receipt can be found by; every column repeats or digests a field of the body."""

    kind: str
    at_ms: int
    tenant_id: str
    worker_id: str
    outcome: str
    code: str
    decision_key: int
    correlation_key: int


def key_of(name: str) -> int:
    """Return the 64-bit key to look up a name. Compare what is found with the whole name.

    Args:
        name: an id, or a hash in hex.
    """
    return int.from_bytes(sha256(name.encode(errors="surrogatepass")).digest()[:8], "big", signed=True)


def column_text(text: str) -> str:
    """Return text as a column can hold it: short, and without the zero that PostgreSQL refuses.

    Args:
        text: any text.
    """
    return text[:MAX_COLUMN].replace("\0", "\N{REPLACEMENT CHARACTER}")


def index_of(fields: JsonObject) -> ReceiptIndex:
    """Return what a receipt with these fields is found by.

    Args:
        fields: of the body.

    Raises:
        ConfigError: its time is not valid.
    """
    if fields.get("schema") == EVENT_SCHEMA:
        hold = fields.get("hold")
        held = hold if isinstance(hold, dict) else {}
        return ReceiptIndex(
            kind=column_text(str(fields.get("kind"))),
            at_ms=parse_ms(str(fields.get("at"))),
            tenant_id=column_text(str(held.get("tenant_id", fields.get("tenant_id", "")))),
            worker_id=column_text(str(held.get("worker_id", fields.get("worker_id", "")))),
            outcome="",
            code="",
            decision_key=key_of(str(held.get("pending_id", fields.get("pending_id", fields.get("decision_id", ""))))),
            correlation_key=key_of(str(held.get("correlation_id", ""))),
        )
    return ReceiptIndex(
        kind="decision",
        at_ms=parse_ms(str(fields.get("dispatched_at"))),
        tenant_id=column_text(str(fields.get("tenant_id"))),
        worker_id=column_text(str(fields.get("worker_id"))),
        outcome=column_text(str(fields.get("outcome"))),
        code=column_text(str(fields.get("deny_code") or "")),
        decision_key=key_of(str(fields.get("decision_id"))),
        correlation_key=key_of(str(fields.get("correlation_id"))),
    )


def parse_body(body: bytes, *, what: str) -> JsonObject:
    """Return the fields of a stored body.

    Args:
        body: the exact bytes.
        what: what is read, for messages.

    Raises:
        ConfigError: it is not a canonical object of this schema and version.
    """
    value = parse_canonical(body, what=what, max_bytes=MAX_RECEIPT_BYTES)
    known = isinstance(value, dict) and value.get("schema") in (SCHEMA, EVENT_SCHEMA)
    if not isinstance(value, dict) or not known or value.get("spec_version") != SPEC_VERSION:
        raise ConfigError(f"{what} is not a receipt of {SCHEMA} or {EVENT_SCHEMA}, protocol version {SPEC_VERSION}")
    return value
