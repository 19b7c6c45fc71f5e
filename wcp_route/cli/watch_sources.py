"""Where `wcp-route watch` looks: a state that it opens itself, or a Hall that answers over HTTP.

Both tell the same things and take the same answers. Over HTTP the token says who answers and what they may see. The
Hall's word is checked as that of a stranger: size, time, types and lengths are bounded, and a redirect to another
server is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from urllib.parse import quote, urlencode

from wcp_attest.base import strictjson
from wcp_attest.base.errors import ConfigError, Error

if TYPE_CHECKING:
    from wcp_attest.net.https import HttpReply
    from wcp_route.domain.values import Level
    from wcp_route.storage.state import State

Deed: TypeAlias = Literal["approve", "deny", "clear"]

HALL_SECONDS: Final = 5.0  # for all requests of one look, or for one answer
MAX_REPLY_BYTES: Final = 8 << 20  # of one list; 10,000 holds have about 6 MiB
MAX_TEXT: Final = 1000  # characters of any value that is shown
MAX_TAG: Final = 200  # characters of an entity tag
_REFUSALS: Final = frozenset({400, 401, 403, 404, 409, 413, 415, 421})


@dataclass(frozen=True, slots=True)
class WatchedHold:
    """A request that waits.

    Attributes:
        pending_id: of the hold.
        level: who must answer.
        worker_id: what would be dispatched.
        asked: for what, and by whom.
        expires_at_ms: milliseconds since 1970.
        reason: why it waits.
    """

    pending_id: str
    level: str
    worker_id: str
    asked: str
    expires_at_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class WatchedWorker:
    """A worker in quarantine: which one, since when (milliseconds since 1970), and why."""

    worker_id: str
    since_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Watched:
    """What one look found.

    Attributes:
        name: of the state, or the address of the Hall.
        waiting: holds, oldest first.
        quarantined: by worker id.
        decisions: members of the last receipts, newest first.
        at_ms: when, milliseconds since 1970, by the clock of this machine.
        hidden: why the caller sees nothing of a part, by the name of the part.
    """

    name: str
    waiting: tuple[WatchedHold, ...]
    quarantined: tuple[WatchedWorker, ...]
    decisions: tuple[dict[str, Any], ...]
    at_ms: int
    hidden: dict[str, str] = field(default_factory=dict)


class WatchedState:
    """A state that is opened here.

    Args:
        address: of the state.
        store: the same, open for reading.
        receipt_key: signs the receipts of answers.
        by: who answers.
        authority: up to which level they may approve.
        decisions: how many of the last ones to show.
    """

    def __init__(
        self, address: str, store: State, *, receipt_key: str | None, by: str, authority: Level, decisions: int
    ) -> None:
        self._address, self._store, self._receipt_key = address, store, receipt_key
        self._by, self._authority, self._decisions = by, authority, decisions
        self.name = store.ledger.database.name

    def look(self) -> Watched:
        """Look once.

        Raises:
            StateError: the state cannot be read.
        """
        from wcp_route.domain.clock import now_ms
        from wcp_route.storage.receipts import last

        now, barred = now_ms(), self._store.registry.snapshot().quarantined
        last_ones = last(self._address, self._decisions, kind="decision") if self._decisions else ()
        holds = self._store.approvals.pending(now)
        return Watched(
            name=self.name,
            waiting=tuple(
                WatchedHold(
                    one.pending_id, one.level, one.worker_id,
                    f"{one.capability_id} for {one.requester or one.tenant_id}", one.expires_at_ms, one.reason,
                )
                for one in holds
            ),
            quarantined=tuple(WatchedWorker(name, one.at_ms, one.reason) for name, one in sorted(barred.items())),
            decisions=tuple(one.to_dict() for one in last_ones),
            at_ms=now,
        )  # fmt: skip

    def answer(self, deed: Deed, name: str, reason: str) -> list[str]:
        """Answer a hold, or clear a worker.

        Args:
            deed: what to do.
            name: the pending id, or the worker id.
            reason: goes into the receipt.

        Returns:
            What to tell; with an approval its grant, which is told once.

        Raises:
            Error: it was refused, or the state cannot be written.
        """
        from wcp_route.cli.opening import opened_state, os_user
        from wcp_route.domain.clock import now_ms
        from wcp_route.storage.approvals import Approver

        via = f"os-user:{os_user()}"
        with opened_state(self._address, receipt_key=self._receipt_key, on_a_screen=True) as store:
            if deed == "clear":
                done = store.registry.clear(name, by=self._by, at_ms=now_ms(), via=via, reason=reason)
                return [f"{name} {'is cleared' if done else 'was not in quarantine any more'}"]
            who = Approver(self._by, self._authority, via)
            answered = store.approvals.resolve(name, deed, by=who, at_ms=now_ms(), reason=reason)
        if answered.grant_id:
            return [f"{name} is {answered.state}; the grant, good once and shown here only:", answered.grant_id]
        human = "; no worker is dispatched: a human does the work" if deed == "approve" else ""
        return [f"{name} is {answered.state}{human}"]


class WatchedService:
    """A Hall that answers over HTTP (`wcp-route serve`).

    Args:
        url: of the Hall; https, or http to this very machine.
        token_file: the file with the caller's token; None for a Hall that asks for none.
        decisions: how many of the last ones to show.
        ca_file: certificates to trust instead of those of the system.

    Raises:
        ConfigError: the URL, the token file or the certificates cannot be used.
    """

    def __init__(self, url: str, *, token_file: str | None, decisions: int, ca_file: str | None) -> None:
        from wcp_attest.net.https import Transport
        from wcp_attest.registry import Credentials

        if "?" in url:
            raise ConfigError("the URL of the Hall must not carry a query")
        self.name = url.rstrip("/")
        self._transport = Transport(url, timeout=HALL_SECONDS, ca_file=ca_file)
        if token_file == "-":  # noqa: S105  # a path
            raise ConfigError("the token cannot come from standard input, where the keys come from; name a file")
        self._headers = {} if token_file is None else Credentials.from_token_file(token_file).headers()
        self._paths = {"pending": "/wcp/approvals/pending", "quarantined": "/admin/quarantine"}
        if decisions:
            self._paths["receipts"] = f"/receipts?kind=decision&limit={decisions}"
        self._kept: dict[str, tuple[str, HttpReply]] = {}  # by path: the entity tag and its answer

    def look(self) -> Watched:
        """Look once; what has not changed since the last look is not sent again.

        Raises:
            RegistryError: no complete answer came in time, or it cannot be used.
            ConfigError: the token may see nothing of what is shown.
        """
        import time

        from wcp_route.domain.clock import now_ms

        until, hidden = time.monotonic() + HALL_SECONDS, {}
        rows: dict[str, list[Any]] = {}
        for name, path in self._paths.items():
            found = self._list(path, name, until)
            if isinstance(found, str):
                hidden[name] = found
            else:
                rows[name] = found
        if not rows:
            raise ConfigError(f"the Hall shows nothing to this token: {hidden['pending']}")
        return Watched(
            name=self.name,
            waiting=tuple(
                WatchedHold(
                    _text(one, "pending_approval_id"), _text(one, "supervisor_level"), _text(one, "worker_id"),
                    f"{_text(one, 'capability_id')} for {_text(one, 'tenant_id')}",
                    _moment(one, "approval_expires_at_ms"), _text(one, "reason"),
                )
                for one in rows.get("pending", ())
            ),
            quarantined=tuple(
                WatchedWorker(_text(one, "worker_id"), _moment(one, "since_ms"), _text(one, "reason"))
                for one in rows.get("quarantined", ())
            ),
            decisions=tuple(_receipt(one) for one in rows.get("receipts", ())),
            at_ms=now_ms(),
            hidden=hidden,
        )  # fmt: skip

    def answer(self, deed: Deed, name: str, reason: str) -> list[str]:
        """Answer a hold, or clear a worker, as the one whose token it is.

        Args:
            deed: what to do.
            name: the pending id, or the worker id.
            reason: goes into the receipt.

        Returns:
            What to tell. The grant of an approval goes to the requester, who asks the Hall for it.

        Raises:
            Error: it was refused, or it is not known whether it was done.
        """
        from wcp_attest.net.https import Request
        from wcp_attest.registry import RegistryUnreachable

        if deed == "clear":
            path, body = f"/admin/quarantine/{quote(name, safe='')}?{urlencode({'reason': reason})}", None
        else:
            asked: strictjson.JsonObject = {"pending_approval_id": name, "decision": deed, "reason": reason}
            path, body = "/wcp/approvals/resolve", strictjson.dumps(asked)
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        request = Request(
            self.name + path, "DELETE" if body is None else "POST", headers, body, MAX_REPLY_BYTES, refusals=_REFUSALS
        )
        try:
            reply = self._transport.request(request)
        except RegistryUnreachable as problem:
            raise ConfigError(f"{problem}; it may have been done: see whether it still waits") from None
        if reply.status not in {200, 204}:
            raise ConfigError(_refusal(reply))
        if deed == "clear":
            return [f"{name} is cleared"]
        state = _text(strictjson.loads_object(reply.body, what="the answer", max_bytes=MAX_REPLY_BYTES), "state")
        grant = "; the requester finds the grant when it asks the Hall for this hold" if state == "approved" else ""
        return [f"{name} is {state}{grant}"]

    def _list(self, path: str, name: str, until: float) -> list[Any] | str:
        """Return the rows of a list; a line that says why when the caller may not see them."""
        from wcp_attest.net.https import Request
        from wcp_attest.registry import RegistryAnswerError

        kept = self._kept.get(path)
        headers = self._headers | ({} if kept is None else {"If-None-Match": kept[0]})
        request = Request(
            self.name + path, headers=headers, max_bytes=MAX_REPLY_BYTES, types=frozenset({"application/json"}),
            refusals=_REFUSALS,
        )  # fmt: skip
        reply = self._transport.request(request, until=until)
        if reply.status == 403:
            return _refusal(reply)
        if reply.status == 304 and kept is not None:
            reply = kept[1]
        if reply.status != 200:
            raise RegistryAnswerError(f"{self.name}{path}: {_refusal(reply)}", reply.status)
        what = f"the answer of {self.name}{path}"
        found = strictjson.loads(
            reply.body, what=what, max_bytes=MAX_REPLY_BYTES, floats=True, error=RegistryAnswerError
        )
        rows = found.get(name) if isinstance(found, dict) else None
        if not isinstance(rows, list):
            raise RegistryAnswerError(f"{what} has no list `{name}`; is it a Hall?")
        tag = reply.headers.get("etag", "")
        if 0 < len(tag) <= MAX_TAG and tag.isascii() and tag.isprintable():
            self._kept[path] = (tag, reply)
        return rows


Watching: TypeAlias = WatchedState | WatchedService


def _text(row: object, name: str) -> str:
    """Return a member that is text; it is shown, so it is cut to a line's length, and `printable` escapes the rest."""
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, str):
        raise Error(f"the Hall's answer cannot be used: `{name}` is not text")
    return value[:MAX_TEXT]


def _moment(row: object, name: str) -> int:
    from wcp_route.domain.clock import LATEST_MS

    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LATEST_MS:
        raise Error(f"the Hall's answer cannot be used: `{name}` is not a time in milliseconds since 1970")
    return value


def _receipt(row: object) -> dict[str, Any]:
    body = row.get("receipt") if isinstance(row, dict) else None
    if not isinstance(body, dict):
        raise Error("the Hall's answer cannot be used: a receipt is not an object")
    return {name: str(value)[:MAX_TEXT] for name, value in body.items() if isinstance(value, str)}


def _refusal(reply: HttpReply) -> str:
    """Return what the Hall says about a refusal (RFC 9457), or the status when it says nothing that can be read."""
    try:
        found = strictjson.loads_object(reply.body, what="the answer", max_bytes=1 << 16)
        return _text(found, "detail")
    except Error:
        return f"refused with status {reply.status}"
