"""A FastAPI service that answers by the Hall: 200 dispatched, 202 held for a human, 403 denied."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse

from wcp_route import Hall, to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MAX_BODY = 1 << 20


def make_app(hall: Hall, tenant_of: Callable[[str], str | None]) -> FastAPI:
    """Return the application.

    Args:
        hall: who decides; closed when the application ends.
        tenant_of: returns the tenant of an Authorization header, none for nobody.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with hall:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/tasks")
    async def task(
        request: Request, authorization: Annotated[str, Header()] = "", x_wcp_grant: Annotated[str, Header()] = ""
    ) -> JSONResponse:
        tenant = tenant_of(authorization)
        if tenant is None:
            raise HTTPException(401)
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY:
                raise HTTPException(413)
        decision = await hall.aroute(body, principal=tenant, grant=x_wcp_grant)
        status = 200
        if decision.denied:
            status = 202 if decision.outcome == "STEWARD_HOLD" else 403
        answer: dict[str, Any] = to_wire(decision)  # without `package_path`: that is for this process alone
        return JSONResponse(answer, status)

    return app
