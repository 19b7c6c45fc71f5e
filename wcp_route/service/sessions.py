"""Sessions of people at the pages: a random cookie that no script reads, and a token in each form.

A session lives in this process and ends with it. The cookie goes to no other site (`SameSite=Strict`); a form that
changes something carries the session's own token and must come from this very origin.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from wcp_route.service.problems import Problem

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection, Request

    from wcp_route.service.principals import Principal

COOKIE: Final = "wcp_session"
SECONDS: Final = 8 * 3600
MAX_SESSIONS: Final = 10_000
MAX_OF_ONE: Final = 16  # of one principal, so that nobody takes the sessions of others
MAX_FIELDS: Final = 16  # of a form; ours have four at most


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in person.

    Attributes:
        principal: who.
        form_token: what each form must carry.
        until: monotonic seconds.
    """

    principal: Principal
    form_token: str
    until: float


class Sessions:
    """All sessions of this process."""

    def __init__(self) -> None:
        self._found: dict[str, Session] = {}
        self._lock = threading.Lock()

    def begin(self, principal: Principal) -> str:
        """Return the cookie of a new session, which lasts eight hours, or until the token of the principal ends.

        The oldest of many sessions of one principal ends.

        Args:
            principal: who signed in.

        Raises:
            Problem: 503, there are too many.
        """
        now, name = time.monotonic(), secrets.token_urlsafe(32)
        with self._lock:
            self._found = {key: one for key, one in self._found.items() if one.until > now}
            own = [key for key, one in self._found.items() if one.principal.name == principal.name]
            for key in own[: max(0, len(own) - MAX_OF_ONE + 1)]:
                del self._found[key]
            if len(self._found) >= MAX_SESSIONS:
                raise Problem(503, "busy", "too many people are signed in; try again later")
            lasts = min(SECONDS, principal.until - time.time())
            self._found[name] = Session(principal, secrets.token_urlsafe(32), now + lasts)
        return name

    def of(self, request: HTTPConnection) -> Session | None:
        """Return the session of a request; None when it has none or it has ended.

        Args:
            request: with its cookies.
        """
        found = self._found.get(request.cookies.get(COOKIE, ""))
        return found if found is not None and found.until > time.monotonic() else None

    def end(self, request: Request) -> None:
        """End the session of a request.

        Args:
            request: with its cookies.
        """
        with self._lock:
            self._found.pop(request.cookies.get(COOKIE, ""), None)

    def end_all(self) -> None:
        """End every session, because other people may do other things from now on."""
        with self._lock:
            self._found.clear()


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form that a browser sends from our own origin (`Sec-Fetch-Site`, `Origin`).

    Args:
        request: that posts the form.

    Raises:
        Problem: 403, it comes from a page of another site; 415, it is no form of ours; or 400, it cannot be read.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    own = {f"{scheme}://{request.headers['host']}" for scheme in ("http", "https")}
    if site not in {"same-origin", "none"} or (origin is not None and origin not in own):
        raise Problem(403, "other-site", "the form was sent by a page of another site")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Problem(415, "wrong-type", "send the form as the page has it")
    try:
        text = (await request.body()).decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise Problem(400, "malformed", "the form cannot be read") from None
    if len(fields := dict(pairs)) != len(pairs):
        raise Problem(400, "malformed", "a field of the form is there twice")
    return fields


async def form_of_session(request: Request, session: Session) -> dict[str, str]:
    """Return the fields of a form that comes from our own page.

    Args:
        request: that posts the form.
        session: of the person.

    Raises:
        Problem: as `form_of`; or 403, the form belongs to another session.
    """
    form = await form_of(request)
    if not hmac.compare_digest(form.get("form_token", "").encode(), session.form_token.encode()):
        raise Problem(403, "other-site", "the form does not belong to this session; open the page again")
    return form
