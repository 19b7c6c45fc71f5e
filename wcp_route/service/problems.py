"""Errors as `application/problem+json` (RFC 9457). A problem says what to do, and nothing about other tenants."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BODY = 1 << 20  # bytes of a body, as `limits` counts them and `context` reads them
TYPE_BASE = "https://workerclassprotocol.dev/problems/"


class Problem(Exception):
    """A request that is answered with a problem.

    Args:
        status: the HTTP status.
        code: the last part of its type: `unauthenticated`, `not-allowed`, …
        detail: one sentence.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, dict(headers or {})

    def response(self) -> JSONResponse:
        """Return the answer."""
        body = {
            "type": TYPE_BASE + self.code,
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        return JSONResponse(body, self.status, self.headers, media_type="application/problem+json")


def not_found() -> Problem:
    """Return 404, both for what does not exist and for what the caller may not see."""
    return Problem(404, "not-found", "there is nothing of that name here, or you may not see it")
