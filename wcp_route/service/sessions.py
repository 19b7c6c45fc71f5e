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

from wcp_route.service.problems import Problem

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import HTTPConnection, Request

    from wcp_route.service.principals import Principal

COOKIE: Final = "wcp_session"
SECONDS: Final = 8 * 3600
MAX_SESSIONS: Final = 10_000


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
        """Return the cookie of a new session, which lasts eight hours.

        Args:
            principal: who signed in.

        Raises:
            Problem: 503, there are too many.
        """
        now, name = time.monotonic(), secrets.token_urlsafe(32)
        with self._lock:
            self._found = {key: one for key, one in self._found.items() if one.until > now}
            if len(self._found) >= MAX_SESSIONS:
                raise Problem(503, "busy", "too many people are signed in")
            self._found[name] = Session(principal, secrets.token_urlsafe(32), now + SECONDS)
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


def check_form(request: Request, session: Session, form: FormData) -> None:
    """Check that a form comes from our own page.

    Args:
        request: that posts it.
        session: of the person.
        form: with `form_token`.

    Raises:
        Problem: 403, another origin, or a form of another session.
    """
    check_origin(request)
    given = form.get("form_token")
    if not isinstance(given, str) or not hmac.compare_digest(given, session.form_token):
        raise Problem(403, "other-site", "the form does not belong to this session; open the page again")


def check_origin(request: Request) -> None:
    """Check that a browser sends the request from our own origin (`Sec-Fetch-Site`, `Origin`).

    Args:
        request: that changes something.

    Raises:
        Problem: 403, it comes from a page of another site.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin")
    own = {f"{scheme}://{request.headers['host']}" for scheme in ("http", "https")}
    if site not in {"same-origin", "none"} or (origin is not None and origin not in own):
        raise Problem(403, "other-site", "the form was sent by a page of another site")
