"""Guard a Python tool in this process: it runs only when the Hall dispatches the request it is called for.

    @guard(hall, lambda text: {"capability_id": "cap.doc.summarize", "request": {"text": text}, …})
    def summarize(text: str) -> str: …

    with guarded(hall, request) as decision:
        run(decision.package_path)

What the Hall attests is the enrolled package of the worker. A tool that is imported from elsewhere is only as good as
the import path: import it from `decision.package_path`, or enroll the directory it comes from.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from wcp_attest.base.errors import Error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.domain.decision import RouteDecision
    from wcp_route.domain.values import RouteInput
    from wcp_route.hall import Hall

P = ParamSpec("P")
R = TypeVar("R")


class NotDispatched(Error):
    """The Hall did not dispatch the request, so the tool did not run.

    Attributes:
        decision: why.
    """

    def __init__(self, decision: RouteDecision) -> None:
        reason = decision.reason
        super().__init__("a dry run runs nothing" if reason is None else f"{reason.code.value}: {reason.message}")
        self.decision = decision


@contextmanager
def guarded(
    hall: Hall, request: RouteInput | bytes | JsonValue, *, grant: str = "", principal: str | None = None
) -> Iterator[RouteDecision]:
    """Run a block only when the Hall dispatches `request`.

    Args: as `Hall.route`.

    Raises:
        NotDispatched: it is denied, held, or a dry run; the block does not run.
    """
    decision = hall.route(request, grant=grant, principal=principal)
    _check(decision)
    yield decision


def guard(
    hall: Hall, describe: Callable[P, RouteInput | bytes | JsonValue]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for a tool: a function, a coroutine function or an asynchronous generator.

    Args:
        hall: who decides.
        describe: makes the request from the arguments of the call; its exceptions are raised by the call.
    """

    def decorate(tool: Callable[P, R]) -> Callable[P, R]:
        @wraps(tool)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with guarded(hall, describe(*args, **kwargs)):
                return tool(*args, **kwargs)

        @wraps(tool)
        async def await_call(*args: P.args, **kwargs: P.kwargs) -> Any:
            _check(await hall.aroute(describe(*args, **kwargs)))
            return await cast("Awaitable[Any]", tool(*args, **kwargs))

        @wraps(tool)
        async def iterate_call(*args: P.args, **kwargs: P.kwargs) -> Any:
            _check(await hall.aroute(describe(*args, **kwargs)))
            async for each in cast("AsyncIterator[Any]", tool(*args, **kwargs)):
                yield each

        if inspect.iscoroutinefunction(tool):
            return cast("Callable[P, R]", await_call)
        return cast("Callable[P, R]", iterate_call) if inspect.isasyncgenfunction(tool) else call

    return decorate


def _check(decision: RouteDecision) -> None:
    if decision.denied or decision.outcome != "DISPATCH" or decision.dry_run:
        raise NotDispatched(decision)
