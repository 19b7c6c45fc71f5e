"""How a package was made: the optional fields `ai` and `source` of a manifest, and the values of `build_source`."""

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
    """What a model had to do with the code; each text has 1 to `MAX_TEXT` printable characters.

    Attributes:
        generated: whether a model wrote the code.
        service: who runs the model, such as the name of the vendor.
        model: the name of the model.
        session_fingerprint: what identifies the session for those who keep a record of it.

    Raises:
        ManifestMalformed: a text is empty, too long or not printable.
    """

    generated: bool
    service: str | None = None
    model: str | None = None
    session_fingerprint: str | None = None

    def __post_init__(self) -> None:
        _check_texts("ai", service=self.service, model=self.model, session_fingerprint=self.session_fingerprint)

    def to_json(self) -> JsonObject:
        """Return the value of the field `ai`, keys in their fixed order."""
        texts = {"service": self.service, "model": self.model, "session_fingerprint": self.session_fingerprint}
        return {"generated": self.generated, **{name: text for name, text in texts.items() if text is not None}}

    @classmethod
    def from_json(cls, value: JsonValue) -> AiOrigin:
        """Read the value of the field `ai`.

        Args:
            value: as the JSON reader gives it.

        Returns:
            The value.

        Raises:
            ManifestMalformed: a key is unknown, missing or of the wrong type.
        """
        texts, generated = _read("ai", value, ("service", "model", "session_fingerprint"), "generated")
        if not isinstance(generated, bool):
            raise ManifestMalformed("manifest.json: the field 'ai' does not say whether the code was generated")
        return cls(generated, **texts)


@dataclass(frozen=True, slots=True)
class SourceOrigin:
    """Where the code came from.

    Attributes:
        repository: its address, 1 to `MAX_TEXT` printable characters.
        commit: a git commit id, 40 or 64 lower-case hex digits.

    Raises:
        ManifestMalformed: both are None, or one is malformed.
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
        """Return the value of the field `source`, keys in their fixed order."""
        texts = {"repository": self.repository, "commit": self.commit}
        return {name: text for name, text in texts.items() if text is not None}

    @classmethod
    def from_json(cls, value: JsonValue) -> SourceOrigin:
        """Read the value of the field `source`.

        Args:
            value: as the JSON reader gives it.

        Returns:
            The value.

        Raises:
            ManifestMalformed: a key is unknown or of the wrong type, or there is none.
        """
        texts, _ = _read("source", value, ("repository", "commit"))
        return cls(**texts)


def is_text(text: str) -> bool:
    """Tell whether a text may stand in a manifest: 1 to `MAX_TEXT` printable characters.

    Args:
        text: any text.
    """
    return 0 < len(text) <= MAX_TEXT and refused_character(text) is None


def _check_texts(field: str, **texts: str | None) -> None:
    for name, text in texts.items():
        if text is not None and not is_text(text):
            raise ManifestMalformed(f"manifest.json: {field}.{name} is not 1 to {MAX_TEXT} printable characters")


def _read(
    field: str, value: JsonValue, names: tuple[str, ...], other: str | None = None
) -> tuple[dict[str, str], JsonValue]:
    """Read an object whose keys are `names`, which are texts and may be missing, and `other`, which is anything."""
    if not isinstance(value, dict):
        raise ManifestMalformed(f"manifest.json: the field {field!r} is not an object")
    texts: dict[str, str] = {}
    for name, found in sorted(value.items()):
        if name in names and isinstance(found, str):
            texts[name] = found
        elif name in names:
            raise ManifestMalformed(f"manifest.json: {field}.{name} is not text")
        elif name != other:
            raise ManifestMalformed(f"manifest.json: unknown field {field + '.' + name[:80]!r}")
    return texts, None if other is None else value.get(other)
