"""Tell files that wcp-attest wrote from files of other programs that only have the same name.

Browser extensions, MCP bundles and web applications have files called `manifest.json`, too. A command replaces or
deletes such a file only when it can be read as one of ours. A file that is damaged so that it cannot be read is not.
"""

from __future__ import annotations

import re
from typing import Final

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError, VerificationError
from wcp_attest.package.manifest import MAX_HEADER_BYTES
from wcp_attest.package.signature_file import parse_lines
from wcp_attest.package.statement import Statement

CONVERTED: Final = (
    "its line endings were converted to CRLF; in git, put `manifest.json -text` into .gitattributes or run"
    " `git config core.autocrlf false`, then check out again"
)
SCHEMAS: Final = ("awp.v1", "awp.v2")
MAX_READ: Final = MAX_HEADER_BYTES  # bytes that are enough to recognise a manifest by
_SPACE = rb"[ \t\r\n]{0,64}"
_MARK = b"\xef\xbb\xbf"  # that editors put before UTF-8
_CONFLICT = rb"(?:<{7}[^\n]{0,200}\n)?"  # that git leaves where two branches differ
_HEAD = re.compile(
    _MARK.join((b"(?:", b")?"))
    + rb'CS\{SC"schema_version"S:S"awp\.v[12]"S,SC"worker_id"S:S"'.replace(b"C", _CONFLICT).replace(b"S", _SPACE)
)


def is_manifest(data: bytes) -> bool:
    """Tell whether a file is a manifest of this project, in its accepted spelling or reformatted by another program.

    Args:
        data: the file, or its first `MAX_READ` bytes.

    Returns:
        Whether `schema_version`, of `awp.v1` or `awp.v2`, and `worker_id` stand at the start, as we write them, maybe
        behind a byte order mark or the first mark of a merge conflict; or among the fields of the JSON object, in a
        file that another program has reformatted.
    """
    if _HEAD.match(data) is not None:
        return True
    try:
        fields = strictjson.loads_object(data.removeprefix(_MARK), what="manifest.json", max_bytes=MAX_HEADER_BYTES)
    except ConfigError:
        return False
    if not fields:
        return True  # `{}` holds nothing that could be lost
    return fields.get("schema_version") in SCHEMAS and isinstance(fields.get("worker_id"), str)


def conversion_of(data: bytes, manifest_sha256: str) -> str:
    """Say why a manifest may not be the one that was signed.

    Args:
        data: the manifest that is there.
        manifest_sha256: of the one that was signed, 64 lower-case hex digits.

    Returns:
        The reason and what to do, behind a colon; empty when it is not known.
    """
    from wcp_attest.base.digest import sha256_hex

    if b"\r\n" in data and sha256_hex(data.replace(b"\r\n", b"\n")) == manifest_sha256:
        return f": {CONVERTED}"
    reformatted = _HEAD.match(data) is not None and not data.startswith(b'{\n"schema_version":"awp.v')
    return ": another program has reformatted it; restore the file that was signed" if reformatted else ""


def is_signature_file(data: bytes) -> bool:
    """Tell whether a file holds signatures of packages and nothing else.

    Args:
        data: the whole file.

    Returns:
        True also for an empty file, which holds nothing that could be lost.
    """
    try:
        for line in parse_lines(data) if data else ():
            Statement.from_bytes(line.envelope.payload)
    except VerificationError:
        return False
    return True


def is_signature_lines(data: bytes) -> bool:
    """Tell whether a file holds signature lines in the format of `manifest.sig`, whatever they sign.

    Args:
        data: the whole file.

    Returns:
        True also for an empty file.
    """
    try:
        return not data or bool(parse_lines(data))
    except VerificationError:
        return False
