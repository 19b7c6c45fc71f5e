"""Receipts as JSON Lines, for keeping and verifying without the state file.

Each batch is its DSSE envelope (its bare statement when it is unsigned), then its receipts in order. You can check it
with SHA-256, Ed25519 and RFC 8785.

    {"batch":{"payload":"eyJi…","payloadType":"application/vnd.wcp.receipt-batch.v2+json","signatures":[…]}}
    {"receipt":{"artifact_hash":"sha256:…", … }}
"""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import TYPE_CHECKING, BinaryIO, Final

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json, parse_canonical
from wcp_route.storage.receipts.beginning import Origin
from wcp_route.storage.receipts.chain import Batch, BatchStatement, ChainRow
from wcp_route.storage.receipts.sign import MAX_HEAD_BYTES, SignedHead
from wcp_route.storage.state_errors import ReceiptsBroken

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.base.strictjson import JsonObject

MAX_LINE_BYTES: Final = MAX_HEAD_BYTES + 1024  # the longest is a signed batch; receipts are shorter

_BATCH, _STATEMENT, _RECEIPT = b'{"batch":', b'{"statement":', b'{"receipt":'
_ORIGIN = b'{"origin":'


def batch_line(batch: Batch) -> bytes:
    """Return the line of a batch.

    Args:
        batch: as the table holds it.
    """
    if batch.key_id is None or batch.signature is None:
        return _STATEMENT + batch.statement + b"}\n"
    return _BATCH + SignedHead(batch.statement, batch.key_id, batch.signature).to_bytes() + b"}\n"


def origin_line(origin: Origin) -> bytes:
    """Return the line that says where the receipts begin, after earlier ones were pruned.

    Args:
        origin: where the ledger begins.
    """
    signature = base64.b64encode(origin.signature or b"").decode()
    value: JsonObject = {
        "key_id": origin.key_id or "",
        "signature": signature,
        "statement": base64.b64encode(origin.statement).decode(),
    }
    return _ORIGIN + canonical_json(value) + b"}\n"


def receipt_line(row: ChainRow) -> bytes:
    """Return the line of a receipt.

    Args:
        row: as the table holds it.

    Raises:
        ReceiptsBroken: the body holds a line break, so it is not canonical JSON.
    """
    if b"\n" in row.body:
        raise ReceiptsBroken("unreadable", row.position, "its body is not canonical JSON")
    return _RECEIPT + row.body + b"}\n"


def listed(batch: Batch) -> int:
    """Return how many receipts a batch lists; 0 when it cannot be read.

    Args:
        batch: as the table holds it.
    """
    try:
        return len(BatchStatement.from_bytes(batch.statement).hashes)
    except ConfigError:
        return 0


class ExportLines:
    """Reads an export from front to back, one line ahead.

    Args:
        file: opened in binary mode.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._number = 0
        self._position = 0
        self._line = self._read()

    def origin(self) -> Origin:
        """Take the first line if it says where the receipts begin; otherwise return an empty `Origin`.

        Raises:
            ReceiptsBroken: it cannot be read.
        """
        line = self._line or b""
        if not line.startswith(_ORIGIN):
            return Origin()
        try:
            match parse_canonical(line[len(_ORIGIN) : -1], what="the origin", max_bytes=MAX_LINE_BYTES):
                case {"key_id": str(key_id), "signature": str(signature), "statement": str(statement), **rest} if (
                    not rest
                ):
                    data = base64.b64decode(statement, validate=True)
                    origin = Origin.from_statement(
                        data, key_id or None, base64.b64decode(signature, validate=True) or None
                    )
                case _:
                    raise self._unreadable("it is not an origin")
        except (ConfigError, ValueError) as problem:
            raise self._unreadable(str(problem)) from None
        self._position = origin.position
        self._line = self._read()
        return origin

    def batch(self, number: int) -> Batch | None:
        """Take the next line if it is a batch; otherwise return None.

        Args:
            number: the number of the batch by its place, from 1.

        Raises:
            ReceiptsBroken: the line is not a valid line of an export.
        """
        line = self._line or b""
        if line.startswith(_STATEMENT):
            self._line = self._read()
            return Batch(number, line[len(_STATEMENT) : -1], None, None)
        if line.startswith(_BATCH):
            try:
                signed = SignedHead.from_bytes(line[len(_BATCH) : -1])
            except ConfigError as problem:
                raise self._unreadable(str(problem)) from None
            self._line = self._read()
            return Batch(number, signed.statement, signed.key_id, signed.signature)
        return None

    def rows(self) -> Iterator[ChainRow]:
        """Take the receipts up to the next batch.

        Raises:
            ReceiptsBroken: a line is not a valid line of an export.
        """
        while self._line is not None and not self._line.startswith((_STATEMENT, _BATCH)):
            try:
                value = parse_canonical(self._line, what="the line", max_bytes=MAX_LINE_BYTES)
            except ConfigError as problem:
                raise self._unreadable(str(problem)) from None
            match value:
                case {"receipt": {"stream": str(stream), "seq": int(seq)}, **rest} if not rest:
                    body = self._line[len(_RECEIPT) : -1]
                case _:
                    raise self._unreadable("the line is neither a batch nor a receipt")
            self._position += 1
            self._line = self._read()
            yield ChainRow(self._position, stream, seq, sha256(body).hexdigest(), body, None)

    def _read(self) -> bytes | None:
        """Return the next line without its line break; None after the last. An empty line is not the end."""
        line = self._file.readline(MAX_LINE_BYTES + 1)
        self._number += 1
        if len(line) > MAX_LINE_BYTES:
            raise self._unreadable(f"the line is longer than {MAX_LINE_BYTES} bytes")
        return line.removesuffix(b"\n") if line else None

    def _unreadable(self, detail: str) -> ReceiptsBroken:
        return ReceiptsBroken("unreadable", self._position + 1, f"line {self._number}: {detail}")
