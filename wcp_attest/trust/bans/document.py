"""A ban list as a document: JSON with one ban a line, the same list always the same bytes.

    {
    "schema_version":"wcp.bans.v1",
    "name":"acme-soc",
    "version":7,
    "issued_at":"2026-03-01T12:00:00Z",
    "expires_at":"2026-03-08T12:00:00Z",
    "bans":[
    {"kind":"package","subject":"sha256:9f86…","reason":"exfiltrates tokens","banned_at":"2026-03-01T12:00:00Z",…},
    {"kind":"namespace","subject":"org.evil","reason":…}
    ]
    }

`name` tells one publisher's lists apart, so that a list for staging cannot be served in place of the one for
production; `version` only grows. Reading takes any layout of the same JSON, because operators edit their own lists by
hand during an incident. A signature is over the exact bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from wcp_attest.base import strictjson
from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.base.identity import format_utc, parse_utc
from wcp_attest.trust.bans.ban import Ban, ban_from_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest.base.strictjson import JsonObject, JsonValue

SCHEMA: Final = "wcp.bans.v1"
MAX_LIST_BYTES = 64 << 20  # about 300,000 bans, read in some seconds; above that a list is used in its compiled form
MAX_SOURCE_BYTES: Final = 16 << 30  # of a list to compile, some 80 million bans; a longer one could fill the disk
MAX_VERSION = 2**53 - 1  # the largest integer that every JSON reader keeps exactly
MAX_CLOCK_SKEW: Final = 300  # seconds an issuer's clock may be ahead of ours, as for signatures of packages
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}\Z")
_FIELDS: Final = {"schema_version", "name", "version", "issued_at", "expires_at", "bans"}


@dataclass(frozen=True, slots=True)
class Head:
    """What a list says of itself.

    Attributes:
        name: of the list, 1 to 64 of `a-z0-9.-`.
        version: grows with every issue.
        issued_at: seconds since the epoch.
        expires_at: seconds since the epoch, after `issued_at`.

    Raises:
        ConfigError: the name is another one, the version is out of range, or the list expires before it is issued.
    """

    name: str
    version: int
    issued_at: int
    expires_at: int

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ConfigError(f"name {self.name[:80]!r} of the ban list is not 1 to 64 of a-z 0-9 . -")
        if not 1 <= self.version <= MAX_VERSION:
            raise ConfigError(f"version of the ban list is not a whole number from 1 to {MAX_VERSION}")
        if self.issued_at >= self.expires_at:
            raise ConfigError("the ban list expires before it is issued")

    def to_json(self) -> JsonObject:
        """Return the four fields as a list spells them, times as `2026-03-01T12:00:00Z`."""
        return {
            "name": self.name,
            "version": self.version,
            "issued_at": format_utc(self.issued_at),
            "expires_at": format_utc(self.expires_at),
        }

    @classmethod
    def from_json(cls, value: JsonObject) -> Head:
        """Read the four fields of an object. The caller checks its further fields.

        Args:
            value: the parsed JSON of a list, or of a predicate about one.

        Returns:
            The head.

        Raises:
            ConfigError: a field is missing or malformed, or the list expires before it is issued.
        """
        name, version = value.get("name"), value.get("version")
        if not isinstance(name, str):
            raise ConfigError(f"name {str(name)[:80]!r} of the ban list is not 1 to 64 of a-z 0-9 . -")
        if not isinstance(version, int) or isinstance(version, bool):
            raise ConfigError(f"version of the ban list is not a whole number from 1 to {MAX_VERSION}")
        times: list[int] = []
        for field in ("issued_at", "expires_at"):
            text = value.get(field)
            seconds = parse_utc(text) if isinstance(text, str) else None
            if seconds is None:
                raise ConfigError(f"{field} of the ban list is not of the form 2026-03-01T12:00:00Z")
            times.append(seconds)
        return cls(name, version, *times)


@dataclass(frozen=True, slots=True)
class BanList:
    """A list: its head and its bans, sorted by subject, each subject once.

    Attributes:
        head: name, version and times.
        bans: may be empty: a signed and fresh list without bans says that nothing is banned.
    """

    head: Head
    bans: tuple[Ban, ...]

    @classmethod
    def make(cls, head: Head, bans: Iterable[Ban]) -> BanList:
        """Make a list.

        Args:
            head: name, version and times.
            bans: in any order; of two with the same subject the later one stays.

        Returns:
            The list, sorted, each subject once.
        """
        by_subject = {ban.sort_key(): ban for ban in bans}
        return cls(head, tuple(by_subject[key] for key in sorted(by_subject)))

    @classmethod
    def from_bytes(cls, data: bytes, *, what: str = "the ban list") -> BanList:
        """Read a list.

        Args:
            data: the document, at most 64 MiB.
            what: its name, for messages.

        Returns:
            The list, sorted, each subject once.

        Raises:
            BansUnusable: too large, not strict JSON, another schema, a field unknown, missing or malformed.
        """
        value = strictjson.loads_object(data, what=what, max_bytes=MAX_LIST_BYTES, error=BansUnusable)
        try:
            bans = check_shape(value)
            return cls.make(Head.from_json(value), map(ban_from_json, bans))
        except ConfigError as problem:
            raise BansUnusable(f"{what}: {problem}") from None

    def to_bytes(self) -> bytes:
        """Return the list in the one layout that is written."""
        return b"".join(layout(self.head, self.bans))

    def issue(self, *, now: int, lifetime: int, bans: Iterable[Ban]) -> BanList:
        """Return the next version of this list.

        Args:
            now: the time of issue in seconds since the epoch; where it is earlier than this list's own, that is taken.
            lifetime: seconds until it expires.
            bans: all bans of the next version.

        Raises:
            ConfigError: every reader would refuse the next version: the list is dated in the future, its version
                cannot grow, or it expires beyond the year 9999.
        """
        if self.head.issued_at > now + MAX_CLOCK_SKEW:
            raise ConfigError(
                f"the ban list is dated {format_utc(self.head.issued_at)}, which is in the future; check the clock, or "
                "make a new list under another name"
            )
        if self.head.version >= MAX_VERSION:
            raise ConfigError(f"version {MAX_VERSION} of the ban list is the last; make a new list under another name")
        issued_at = max(now, self.head.issued_at)
        format_utc(issued_at + lifetime)  # refuses what no list can say
        head = replace(self.head, version=self.head.version + 1, issued_at=issued_at, expires_at=issued_at + lifetime)
        return BanList.make(head, bans)


def check_shape(value: JsonObject) -> list[JsonValue]:
    """Check that an object has exactly the fields of a list of this schema.

    Args:
        value: the parsed JSON.

    Returns:
        Its entries, not yet read.

    Raises:
        ConfigError: it is of another schema, a field is unknown or missing, or `bans` is not a list.
    """
    if value.get("schema_version") != SCHEMA:
        raise ConfigError(f"schema_version {str(value.get('schema_version'))[:40]!r} is not {SCHEMA}")
    wrong = _FIELDS ^ value.keys()
    if wrong:
        raise ConfigError(f"unknown or missing fields: {', '.join(sorted(wrong))[:200]}")
    bans = value["bans"]
    if not isinstance(bans, list):
        raise ConfigError("`bans` is not a list")
    return bans


def layout(head: Head, bans: Iterable[Ban]) -> Iterable[bytes]:
    """Yield the one layout of a list that is written, piece by piece.

    Args:
        head: of the list.
        bans: sorted by `Ban.sort_key`, unique.
    """
    yield b'{\n"schema_version":' + strictjson.dumps(SCHEMA)
    for field, value in head.to_json().items():
        yield b",\n" + strictjson.dumps(field) + b":" + strictjson.dumps(value)
    yield b',\n"bans":['
    comma = b"\n"
    for ban in bans:
        yield comma + strictjson.dumps(ban.to_json())
        comma = b",\n"
    yield b"\n]\n}\n"
