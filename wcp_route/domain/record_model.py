"""Reading a registry record as it comes over the wire, and its checksum."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from wcp_attest.base import strictjson
from wcp_route.domain.record import WorkerRecord, model_of, value_of
from wcp_route.domain.wire_model import WireError, read

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject

MAX_RECORD_BYTES: Final = 256 << 10  # the largest catalogue record is a few kB
_WHAT: Final = "registry record"

RecordModel: Any = model_of(WorkerRecord, "RecordModel")


def read_record(data: bytes | JsonObject) -> WorkerRecord:
    """Read a record from outside: its shape, and its `artifact_hash` when it has one.

    That hash is a checksum without a key: it detects accidental changes and proves nothing about the author.

    Args:
        data: JSON text, or the parsed object.

    Raises:
        WireError: the shape is wrong (with a pointer), or the checksum does not match.
    """
    if isinstance(data, bytes):
        data = strictjson.loads_object(data, what=_WHAT, max_bytes=MAX_RECORD_BYTES, error=WireError)
    record = parse_record(data)
    if record.artifact_hash and record.artifact_hash != artifact_hash(data):
        raise WireError(
            f"{_WHAT} at `/artifact_hash`: is not the hash of the other fields; "
            "the record was edited after it was hashed: check the edit, then leave the field out or renew it",
            "/artifact_hash",
        )
    return record


def parse_record(data: bytes | JsonObject) -> WorkerRecord:
    """Read a record that a registry has checked and stored; as `read_record`, without the checksum.

    Raises:
        WireError: the shape is wrong.
    """
    return value_of(WorkerRecord, read(RecordModel, data, what=_WHAT, max_bytes=MAX_RECORD_BYTES))


def artifact_hash(data: JsonObject) -> str:
    """Return the checksum of a record: over the record without that field, keys sorted, compact, ASCII-escaped."""
    rest = {name: value for name, value in data.items() if name != "artifact_hash"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return "sha256:" + sha256(text.encode("ascii")).hexdigest()
