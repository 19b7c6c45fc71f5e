"""`wcp-attest gate`: what a host asks before it installs or loads a package."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from wcp_attest.base.errors import Error
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.text import json_text, printable
from wcp_attest.cli.trust import TrustFlags, policy_of, trust_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class _OutOfTime(BaseException):
    """The host waits no longer. No `Exception`: nothing on the way may take it for a denial of its own."""


@click.command(cls=GroupedCommand)
@grouped(
    "Question and answer",
    click.option("--host", type=click.Choice(["openclaw", "claude-code", "json"]), required=True, help="Who asks."),
    click.option(
        "--unsigned",
        type=click.Choice(["block", "warn"]),
        default="block",
        show_default=True,
        help="What a package without any signature gets; `warn` where the host lets a person decide.",
    ),
    click.option(
        "--timeout",
        type=click.FloatRange(0.1, 3600),
        default=8.0,
        show_default=True,
        metavar="SECONDS",
        help="Answer no after this time; keep it below the host's own limit.",
    ),
)
@trust_options
def gate(host: str, unsigned: Literal["block", "warn"], timeout: float, **trust: Any) -> int:
    """Read one request from standard input, verify what it names under your policy, and answer as the host expects.

    The answer is no when the request is malformed or of an unknown version, when time runs out, and when anything goes
    wrong.

    \b
      wcp-attest gate --host openclaw --policy /etc/wcp/policy.toml < request.json
    """
    from wcp_attest.gate.decision import ADAPTERS, decide
    from wcp_attest.gate.request import MAX_REQUEST_BYTES

    adapter = ADAPTERS[host]()
    try:
        with _deadline(timeout):
            # The request comes first: the form of a refusal may depend on it.
            paths = adapter.read(sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1))
            policy = policy_of(TrustFlags(**trust))
            reply = adapter.answer([decide(path, policy, unsigned=unsigned) for path in paths])
    except _OutOfTime:
        reply = adapter.failure(f"no answer within {timeout:g} seconds")
    except (Error, click.ClickException, OSError, MemoryError, RecursionError) as problem:
        reply = adapter.failure(problem.format_message() if isinstance(problem, click.ClickException) else str(problem))
    if reply.out is not None:
        sys.stdout.write(json_text(reply.out, indent=None))
    sys.stdout.flush()
    with contextlib.suppress(OSError):
        sys.stderr.write(printable(reply.err))
        sys.stderr.flush()
    return reply.status


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
