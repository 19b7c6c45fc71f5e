"""Optional facts of a manifest about how a package came to be; the values of its smaller fields."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from wcp_attest.base.characters import refused_character
from wcp_attest.base.errors import ManifestMalformed

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject, JsonValue

BuildSource = Literal["local", "ci", "agent"]
BUILD_SOURCES: Final[tuple[BuildSource, ...]] = get_args(BuildSource)
MAX_TEXT = 512
_COMMIT = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")


@dataclass(frozen=True, slots=True)
class AiOrigin:
    """What a model had to do with the code.

    Attributes:
        generated: whether a model wrote it.
        service: whose service, e.g. the vendor's name.
        model: which model.
        session_fingerprint: what identifies the session to those who hold its record.
    """

    generated: bool
    service: str | None = None
    model: str | None = None
    session_fingerprint: str | None = None

    def __post_init__(self) -> None:
        _check_texts("ai", service=self.service, model=self.model, session_fingerprint=self.session_fingerprint)

    def to_json(self) -> JsonObject:
        """Return the field's value, keys in their fixed order."""
        texts = {"service": self.service, "model": self.model, "session_fingerprint": self.session_fingerprint}
        return {"generated": self.generated, **{name: text for name, text in texts.items() if text is not None}}

    @classmethod
    def from_json(cls, value: JsonValue) -> AiOrigin:
        """Read the field's value.

        Raises:
            ManifestMalformed: a key is unknown, missing or of the wrong type.
        """
        fields = _object("ai", value, {"generated", "service", "model", "session_fingerprint"})
        generated = fields.get("generated")
        if not isinstance(generated, bool):
            raise ManifestMalformed("manifest.json: the field 'ai' does not say whether the code was generated")
        return cls(generated, **_text_fields("ai", fields, "service", "model", "session_fingerprint"))


@dataclass(frozen=True, slots=True)
class SourceOrigin:
    """Where the code came from.

    Attributes:
        repository: its address.
        commit: a git commit id, 40 or 64 lower-case hex digits.
    """

    repository: str | None = None
    commit: str | None = None

    def __post_init__(self) -> None:
        _check_texts("source", repository=self.repository, commit=self.commit)
        if self.repository is None and self.commit is None:
            raise ManifestMalformed("manifest.json: the field 'source' is empty")
        if self.commit is not None and not _COMMIT.match(self.commit):
            raise ManifestMalformed("manifest.json: source.commit is not 40 or 64 lower-case hex digits")

    def to_json(self) -> JsonObject:
        """Return the field's value, keys in their fixed order."""
        texts = {"repository": self.repository, "commit": self.commit}
        return {name: text for name, text in texts.items() if text is not None}

    @classmethod
    def from_json(cls, value: JsonValue) -> SourceOrigin:
        """Read the field's value.

        Raises:
            ManifestMalformed: a key is unknown or of the wrong type, or none is given.
        """
        fields = _object("source", value, {"repository", "commit"})
        return cls(**_text_fields("source", fields, "repository", "commit"))


def is_text(text: str) -> bool:
    """Tell whether a text of a manifest is of 1 to `MAX_TEXT` printable characters."""
    return 0 < len(text) <= MAX_TEXT and refused_character(text) is None


def _check_texts(field: str, **texts: str | None) -> None:
    for name, text in texts.items():
        if text is not None and not is_text(text):
            raise ManifestMalformed(f"manifest.json: {field}.{name} is not 1 to {MAX_TEXT} printable characters")


def _object(field: str, value: JsonValue, known: set[str]) -> JsonObject:
    if not isinstance(value, dict):
        raise ManifestMalformed(f"manifest.json: the field {field!r} is not an object")
    unknown = sorted(set(value) - known)
    if unknown:
        raise ManifestMalformed(f"manifest.json: unknown field {field + '.' + unknown[0][:80]!r}")
    return value


def _text_fields(field: str, fields: JsonObject, *names: str) -> dict[str, str]:
    texts = {name: fields[name] for name in names if name in fields}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ManifestMalformed(f"manifest.json: {field}.{name} is not text")
    return {name: text for name, text in texts.items() if isinstance(text, str)}
