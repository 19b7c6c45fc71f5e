"""What was seen of each list before, so that its versions and times only go up.

    <state directory>/seen.json     {"schema_version":"wcp.bans.state.v1","lists":{"file:/etc/acme/bans.json":
                                     {"name":"acme-soc","version":7,"issued_at":"2026-03-01T12:00:00Z",
                                      "list_sha256":"9f86…"}}}
    <state directory>/lock          held while seen.json is replaced

An old list, sent again, hides the newest bans. So a list of a source is refused when its version is lower or its time
earlier than before, when its name differs, or when other bytes have the same version. A host that has no state yet does
not notice an old list; the list's expiry and the policy's `max_age` still bound its age.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.base import strictjson
from wcp_attest.base.digest import is_hex_digest
from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.disk.file_lock import exclusive
from wcp_attest.disk.files import is_there
from wcp_attest.disk.private_files import check_private_directory, open_regular, read_all, replace
from wcp_attest.trust.bans.document import Head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.base.strictjson import JsonObject

SCHEMA: Final = "wcp.bans.state.v1"
SEEN_NAME: Final = "seen.json"
MAX_STATE_BYTES: Final = 4 << 20
MAX_LISTS: Final = 10_000
LOCK_WAIT: Final = 10.0  # seconds; the lock is held for the time of one small write


@dataclass(frozen=True, slots=True)
class Seen:
    """One issue of a list.

    Attributes:
        head: of the list.
        list_sha256: of its bytes, 64 lower-case hex digits.
    """

    head: Head
    list_sha256: str

    def check_follows(self, last: Seen) -> None:
        """Check that this issue is the last one again or a later one.

        Args:
            last: the issue that was seen before.

        Raises:
            BansUnusable: it is rolled back, of another list, or differs under the same version.
        """
        new, old = self.head, last.head
        if new.name != old.name:
            raise BansUnusable(f"the source held list `{old.name}` before and now holds list `{new.name}`")
        if new.version < old.version or new.issued_at < old.issued_at:
            raise BansUnusable(
                f"list `{new.name}` is rolled back: version {new.version} after version {old.version} was seen"
            )
        if new.version == old.version and self.list_sha256 != last.list_sha256:
            raise BansUnusable(f"list `{new.name}` version {new.version} differs from the one seen under that version")


class RollbackGuard:
    """The issues seen of each source's list, kept in a directory that only this user writes.

    Args:
        directory: created on first use, readable by its owner only.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, SEEN_NAME)

    def accept(self, source: str, seen: Seen) -> None:
        """Check an issue against what was seen of the source, and remember it when it is newer.

        Args:
            source: a stable name of where the list comes from.
            seen: the issue, its signatures verified.

        Raises:
            BansUnusable: it is rolled back or another list; or the state cannot be read, locked or written.
        """
        last = self._load().get(source)
        if last is not None:
            seen.check_follows(last)
        if last == seen:
            return
        with locked(self._directory, wait=LOCK_WAIT):
            lists = self._load()
            if source in lists:
                seen.check_follows(lists[source])
            lists[source] = seen
            if len(lists) > MAX_LISTS:
                raise BansUnusable(f"the ban state file `{self._path}` holds more than {MAX_LISTS} lists; move it away")
            entries: JsonObject = {
                name: {**each.head.to_json(), "list_sha256": each.list_sha256} for name, each in sorted(lists.items())
            }
            replace(self._path, strictjson.dumps({"schema_version": SCHEMA, "lists": entries}) + b"\n")

    def _load(self) -> dict[str, Seen]:
        what = f"the ban state file `{self._path}`"
        if not is_there(self._path):
            return {}
        data = read_all(open_regular(self._path, what, private=True), MAX_STATE_BYTES, what)
        value = strictjson.loads_object(data, what=what, max_bytes=MAX_STATE_BYTES, error=BansUnusable)
        lists = value.get("lists")
        if (
            set(value) != {"schema_version", "lists"}
            or value["schema_version"] != SCHEMA
            or not isinstance(lists, dict)
        ):
            raise BansUnusable(f"{what} is not of schema {SCHEMA}; move it away to start over")
        found: dict[str, Seen] = {}
        try:
            for source, entry in lists.items():
                digest = entry.get("list_sha256") if isinstance(entry, dict) else None
                if not isinstance(entry, dict) or not isinstance(digest, str) or not is_hex_digest(digest):
                    raise BansUnusable(
                        f"{what} is damaged: no 64 hex digits of {source[:200]!r}; move it away to start over"
                    )
                found[source] = Seen(Head.from_json(entry), digest)
        except ConfigError as problem:
            raise BansUnusable(f"{what} is damaged: {problem}; move it away to start over") from None
        return found


class NoRollbackGuard(RollbackGuard):
    """Nothing was seen before and nothing is remembered; for a look at one list outside of any policy."""

    def accept(self, source: str, seen: Seen) -> None:
        """Accept every issue.

        Args:
            source: not used.
            seen: not used.
        """


@contextlib.contextmanager
def locked(directory: str, name: str = "lock", wait: float = LOCK_WAIT) -> Iterator[None]:
    """Hold a lock of a private directory.

    Args:
        directory: created when it is not there.
        name: of the lock file.
        wait: seconds after which waiting for another holder is given up.

    Raises:
        BansUnusable: the directory is not private, or the lock cannot be taken in time.
    """
    check_private_directory(directory)
    with exclusive(os.path.join(directory, name), wait=wait, error=BansUnusable):
        yield
