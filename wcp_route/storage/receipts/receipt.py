"""One evidence receipt: what it says, and its place in a chain.

    body    = canonical JSON (RFC 8785) of every field below; the chain's own fields are among them
    hash    = SHA-256 of body

    {"artifact_hash":"sha256:…", …, "prev_receipt_hash":"sha256:…", …, "seq":7, "spec_version":"0.2", "stream":"acme"}

The first receipt of a stream has `seq` 1 and a null `prev_receipt_hash`; every other names the hash of the one before.
`receipt_hash` goes along when a receipt is shown or exported, and is not part of what is hashed. The minimum of spec
5.7 (`correlation_id`, `dispatched_at`, `worker_id`, `capability_id`, `policy_decision`, `controls_verified`,
`artifact_hash`) stands at the top level. `wcp_route/schemas/receipt.json` says the same as a JSON Schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_attest.base.errors import ConfigError, Error
from wcp_route.domain.canonical import parse_canonical
from wcp_route.storage.database import StateError

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

SCHEMA: Final = "wcp.receipt.v1"
SPEC_VERSION: Final = "0.2"  # of the protocol; pinned, because it is hashed along
MAX_RECEIPT_BYTES: Final = 256 << 10  # a receipt is 2 kB; a request's longest ids and reasons stay far below this


class ReceiptError(StateError):
    """Receipts could not be made durable; what they are about must not be acknowledged."""


class ReceiptsBroken(Error):
    """The receipts are not what was written.

    Attributes:
        kind: `edited`, `deleted`, `truncated`, `reordered`, `forked`, `unsealed` (in no batch), `unreadable`, or
            `signature`.
        position: of the first bad receipt in the store, from 1; where it should have stood when it is gone.
        stream: whose chain, empty when it cannot be told.
        seq: its number in that chain, 0 when it cannot be told.
    """

    def __init__(self, kind: str, position: int, detail: str, *, stream: str = "", seq: int = 0) -> None:
        name = f" ({stream} {seq})" if stream else ""
        super().__init__(f"receipt {position}{name} is the first bad one, {kind}: {detail}")
        self.kind, self.position, self.stream, self.seq = kind, position, stream, seq


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


class Head(NamedTuple):
    """The end of a stream: the number and hash of its last receipt; 0 and empty before the first."""

    seq: int = 0
    hash: str = ""

    @property
    def name(self) -> str:
        """How the next receipt names it in the database."""
        return f"{self.seq:016x}:{self.hash}"


def parse_body(body: bytes, *, what: str) -> JsonObject:
    """Return the fields of a stored body.

    Raises:
        ConfigError: it is not a canonical object of this schema and version.
    """
    value = parse_canonical(body, what=what, max_bytes=MAX_RECEIPT_BYTES)
    if not isinstance(value, dict) or value.get("schema") != SCHEMA or value.get("spec_version") != SPEC_VERSION:
        raise ConfigError(f"{what} is not a receipt of {SCHEMA} for protocol version {SPEC_VERSION}")
    return value
