"""Answers and requests of a registry as values: the union of the forms that registries and their clients use.

Answers may carry further fields, which are ignored; a field that is read must be of its type, and an answer must be
about what was asked. Digests are lower-case hex inside; an optional `sha256:` and any case are accepted.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError
from wcp_attest.base.identity import id_problem, version_problem
from wcp_attest.net.https_errors import RegistryAnswerError, RegistryIncompleteError

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue

Status = Literal["active", "revoked", "banned", "unknown"]
STATUSES: Final = frozenset({"active", "revoked", "banned", "unknown"})
MAX_ANSWER_BYTES: Final = 8 << 20  # a page of a ban list is at most some hundred kB
MAX_PAIR_BYTES: Final = 4 << 20  # manifest and signatures, some 30,000 files; base64 makes a third more of it
MAX_TEXT: Final = 2000  # characters of one field
UNCONFIRMED: Final = frozenset({"pending", "rejected", "withdrawn"})  # a report is not yet, or no longer, a ban
_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})\Z")
_LIST_KEYS = ("bans", "ban_list", "entries", "items")
_CURSOR_KEYS = ("next", "next_url", "next_cursor", "cursor")


@dataclass(frozen=True, slots=True)
class VerifyResponse:
    """What a registry says of a worker.

    Attributes:
        worker_id: that was asked for.
        status: `banned` also where the registry says both `active` and `banned`.
        current_hash: package hash, 64 lower-case hex digits; None when the registry gives none.
        ban_reason: why it is banned.
        attested_at: as the registry spells it.
        ai_generated: whether it is said to be made by an AI; the next three say which.
        ai_service: service.
        ai_model: model.
        ai_session_fingerprint: session.
        manifest: the bytes of the worker's `manifest.json`, None when the registry keeps none.
        signatures: the bytes of its `manifest.sig`; None exactly when the manifest is. That the registry sent them
            proves nothing: check both with `wcp_attest.pair.check_pair`.
    """

    worker_id: str
    status: Status
    current_hash: str | None = None
    ban_reason: str | None = None
    attested_at: str | None = None
    ai_generated: bool = False
    ai_service: str | None = None
    ai_model: str | None = None
    ai_session_fingerprint: str | None = None
    manifest: bytes | None = None
    signatures: bytes | None = None

    @property
    def banned(self) -> bool:
        """Whether the registry bans it."""
        return self.status == "banned"

    @classmethod
    def from_json(cls, value: JsonObject, worker_id: str) -> VerifyResponse:
        """Read an answer about a worker.

        Args:
            value: the parsed JSON.
            worker_id: that was asked for.

        Returns:
            The answer; a worker that is both active and banned is banned.

        Raises:
            RegistryAnswerError: it is malformed, or about another worker.
        """
        status = value.get("status")
        # An answer that names no worker may be about any; only a refusal is taken from it.
        if value.get("worker_id", None if status == "active" else worker_id) != worker_id:
            raise RegistryAnswerError(f"asked for {worker_id}, the registry answered for another worker or for none")
        if not isinstance(status, str) or status not in STATUSES:
            raise RegistryAnswerError(f"the registry gives the unknown status {str(status)[:40]!r} for {worker_id}")
        digest = _text(value, "current_hash")
        manifest, signatures = _file(value, "manifest"), _file(value, "signatures")
        if (manifest is None) != (signatures is None):
            raise RegistryAnswerError(f"the registry gives half of the pair of {worker_id}: a manifest or signatures")
        return cls(
            worker_id=worker_id,
            status="banned" if _flag(value, "banned") else cast("Status", status),
            current_hash=None if digest is None else _digest(digest),
            ban_reason=_text(value, "ban_reason"),
            attested_at=_text(value, "attested_at"),
            ai_generated=_flag(value, "ai_generated"),
            ai_service=_text(value, "ai_service"),
            ai_model=_text(value, "ai_model"),
            ai_session_fingerprint=_text(value, "ai_session_fingerprint") or _text(value, "ai_session_id"),
            manifest=manifest,
            signatures=signatures,
        )


@dataclass(frozen=True, slots=True)
class BanEntry:
    """One row of a registry's ban list.

    Attributes:
        sha256: 64 lower-case hex digits; of what is not said, so it is taken for anything that has this digest.
        reason: why.
        reported_at: as the registry spells it.
        source: who reported it.
        review_status: as the registry spells it, None when it does not say.
    """

    sha256: str
    reason: str
    reported_at: str
    source: str
    review_status: str | None = None

    @property
    def in_force(self) -> bool:
        """Whether it is a ban: every row is, except one that the registry itself calls not confirmed."""
        return (self.review_status or "").lower() not in UNCONFIRMED


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a ban list.

    Attributes:
        entries: the rows.
        following: what leads to the next page: a URL, path, query or cursor; None on the last.
        total: how many rows the whole list has, None when the registry does not say.
        last: whether the page says that none follows: `has_more` is false, or a cursor is there and null.
    """

    entries: tuple[BanEntry, ...]
    following: str | None
    total: int | None
    last: bool = False

    @classmethod
    def from_bytes(cls, body: bytes) -> Page:
        """Read a page: a bare array of rows, or an object with the array and a cursor.

        Args:
            body: the bytes of the answer.

        Returns:
            The rows, and what is known of further pages.

        Raises:
            RegistryAnswerError: it is malformed.
            RegistryIncompleteError: the registry says that there is more, and not where.
        """
        value = strictjson.loads(body, what=_WHAT, max_bytes=MAX_ANSWER_BYTES, floats=True, error=RegistryAnswerError)
        if isinstance(value, list):
            return cls(tuple(map(_entry, value)), None, None)
        fields: JsonObject = value if isinstance(value, dict) else {}
        lists = [fields[key] for key in _LIST_KEYS if key in fields]
        if len(lists) != 1 or not isinstance(rows := lists[0], list):  # of two, one would be left out in silence
            raise RegistryAnswerError("the registry's ban list is neither an array nor an object with exactly one")
        following = next((text for key in _CURSOR_KEYS if (text := _text(fields, key))), None)
        if following is None and _flag(fields, "has_more"):
            raise RegistryIncompleteError("the registry's ban list has more pages, and the registry does not say where")
        total = fields.get("total")
        if total is not None and (not isinstance(total, int) or isinstance(total, bool)):
            raise RegistryAnswerError("the registry's ban list has a `total` that is no number")
        last = fields.get("has_more") is False or any(key in fields for key in _CURSOR_KEYS)
        return cls(tuple(map(_entry, rows)), following, total, last and following is None)


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a registry is up.

    Attributes:
        ok: as it says.
        version: as it says, empty when it does not.
    """

    ok: bool
    version: str

    @classmethod
    def from_json(cls, value: JsonObject) -> Health:
        """Read the answer: `ok: true`, or `status: "ok"` as Hall servers spell it.

        Args:
            value: the parsed JSON.

        Returns:
            Whether the registry is up.

        Raises:
            RegistryAnswerError: it is malformed.
        """
        return cls(_flag(value, "ok") or value.get("status") == "ok", _text(value, "version") or "")


@dataclass(frozen=True, slots=True)
class Submission:
    """An attestation to tell a registry.

    Attributes:
        worker_id: whose.
        worker_species_id: taxonomy.
        worker_version: version.
        package_hash: SHA-256, 64 lower-case hex digits.
        label: for people, or None.
        manifest_path: where the manifest is kept, or None.
        ai_generated: whether an AI made it; the next three say which.
        ai_service: service, or None.
        ai_model: model, or None.
        ai_session_fingerprint: session, or None.
        manifest: the bytes of `manifest.json`, so that a registry can check the claim; None sends the claim alone.
        signatures: the bytes of `manifest.sig`; given exactly when the manifest is.

    Raises:
        ConfigError: a field is malformed, or the pair is incomplete or larger than 4 MiB.
    """

    worker_id: str
    worker_species_id: str
    worker_version: str
    package_hash: str
    label: str | None = None
    manifest_path: str | None = None
    ai_generated: bool = False
    ai_service: str | None = None
    ai_model: str | None = None
    ai_session_fingerprint: str | None = None
    manifest: bytes | None = None
    signatures: bytes | None = None

    def __post_init__(self) -> None:
        check_worker_id(self.worker_id)
        check_digest(self.package_hash)
        problem = version_problem(self.worker_version)
        if problem:
            raise ConfigError(f"worker version {self.worker_version[:80]!r} {problem}")
        if (self.manifest is None) != (self.signatures is None):
            raise ConfigError("a registry takes both files of the pair or neither")
        if len(self.manifest or b"") + len(self.signatures or b"") > MAX_PAIR_BYTES:
            raise ConfigError(
                f"the pair is larger than {MAX_PAIR_BYTES} bytes, more than a registry takes; use --no-pair"
            )

    def to_json(self) -> JsonObject:
        """Return the union of the three bodies that registries expect; what is None is left out."""
        fields: JsonObject = {
            "worker_id": self.worker_id,
            "worker_species_id": self.worker_species_id,
            "worker_version": self.worker_version,
            "sha256": self.package_hash,
            "package_hash": self.package_hash,
            "label": self.label,
            "manifest_path": self.manifest_path,
            "ai_generated": self.ai_generated,
            "ai_service": self.ai_service,
            "ai_model": self.ai_model,
            "ai_session_id": self.ai_session_fingerprint,
            "ai_session_fingerprint": self.ai_session_fingerprint,
            "manifest": None if self.manifest is None else b64encode(self.manifest).decode(),
            "signatures": None if self.signatures is None else b64encode(self.signatures).decode(),
        }
        return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class AttestationResponse:
    """What a registry answers to an attestation.

    Attributes:
        worker_id: whose.
        package_hash: as registered, 64 lower-case hex digits.
        id: of the record, empty when the registry gives none; so are the next three.
        namespace: of the worker.
        attested_at: as the registry spells it.
        status: as the registry spells it.
    """

    worker_id: str
    package_hash: str
    id: str = ""
    namespace: str = ""
    attested_at: str = ""
    status: str = ""

    @classmethod
    def from_json(cls, value: JsonObject, submission: Submission) -> AttestationResponse:
        """Read the answer.

        Args:
            value: the parsed JSON.
            submission: what was sent.

        Returns:
            What the registry recorded.

        Raises:
            RegistryAnswerError: it is malformed, or the registry recorded something else.
        """
        digest = _text(value, "package_hash") or _text(value, "sha256")
        if digest is None or _text(value, "worker_id") is None:
            raise RegistryAnswerError(
                f"the registry does not say what it recorded for {submission.worker_id}: no `worker_id` or no hash"
            )
        if _text(value, "worker_id") != submission.worker_id or _digest(digest) != submission.package_hash:
            raise RegistryAnswerError(f"the registry recorded something else than was sent for {submission.worker_id}")
        number = value.get("id")
        return cls(
            submission.worker_id,
            submission.package_hash,
            id=str(number) if isinstance(number, int | str) else "",
            namespace=_text(value, "namespace") or "",
            attested_at=_text(value, "attested_at") or "",
            status=_text(value, "status") or "",
        )


_WHAT = "the registry's answer"


def parse_object(body: bytes) -> JsonObject:
    """Parse an answer that must be an object.

    Args:
        body: the bytes of the answer.

    Returns:
        The object.

    Raises:
        RegistryAnswerError: it is not strict JSON, or no object.
    """
    value = strictjson.loads(body, what=_WHAT, max_bytes=MAX_ANSWER_BYTES, floats=True, error=RegistryAnswerError)
    if not isinstance(value, dict):
        raise RegistryAnswerError(f"{_WHAT} is not an object")
    return value


def check_worker_id(worker_id: str) -> str:
    """Return `worker_id` if it is one.

    Args:
        worker_id: such as `org.acme.summarizer`.

    Raises:
        ConfigError: it is not; a species id, for one, is not.
    """
    problem = id_problem(worker_id, segments=3)
    if problem is None and not worker_id.startswith(("org.", "x.")):
        problem = "does not start with `org.` or `x.`; a registry is asked by worker id, not by species"
    if problem is not None:
        raise ConfigError(f"worker id {worker_id[:160]!r} {problem}")
    return worker_id


def check_digest(text: str) -> str:
    """Return a SHA-256 as 64 lower-case hex digits.

    Args:
        text: hex in any case, with or without `sha256:`.

    Raises:
        ConfigError: it is none.
    """
    found = _DIGEST.match(text.lower())
    if found is None:
        raise ConfigError(f"{text[:100]!r} is not a SHA-256: 64 hex digits, optionally after `sha256:`")
    return found[1]


def _entry(value: JsonValue) -> BanEntry:
    if not isinstance(value, dict):
        raise RegistryAnswerError("a row of the registry's ban list is not an object")
    digest = _text(value, "sha256")
    if digest is None:
        raise RegistryAnswerError("a row of the registry's ban list has no sha256")
    return BanEntry(
        _digest(digest),
        reason=_text(value, "reason") or "",
        reported_at=_text(value, "reported_at") or "",
        source=_text(value, "source") or "",
        review_status=_text(value, "review_status"),
    )


def _digest(text: str) -> str:
    try:
        return check_digest(text)
    except ConfigError as problem:
        raise RegistryAnswerError(f"in {_WHAT}, {problem}") from None


def _text(value: JsonObject, field: str) -> str | None:
    text = value.get(field)
    if text is not None and (not isinstance(text, str) or len(text) > MAX_TEXT):
        raise RegistryAnswerError(f"`{field}` in {_WHAT} is not a text of at most {MAX_TEXT} characters")
    return text or None


def _file(value: JsonObject, field: str) -> bytes | None:
    """Read a file in base64 (RFC 4648, section 4), in the one spelling that encoding it gives."""
    text = value.get(field)
    if text is None:
        return None
    try:
        data = b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        data = b""
    if not data or len(data) > MAX_PAIR_BYTES or b64encode(data).decode() != text:
        raise RegistryAnswerError(f"`{field}` in {_WHAT} is not a file of at most {MAX_PAIR_BYTES} bytes in base64")
    return data


def _flag(value: JsonObject, field: str) -> bool:
    flag = value.get(field)
    if flag is not None and not isinstance(flag, bool):
        raise RegistryAnswerError(f"`{field}` in {_WHAT} is neither true nor false")
    return bool(flag)
