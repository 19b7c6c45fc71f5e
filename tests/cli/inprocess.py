"""Commands run in this process, for tests that need many of them; the environment and the directory are the test's."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from wcp_attest.cli import main

if TYPE_CHECKING:
    from pathlib import Path

ID = ("--worker-id", "org.acme.w", "--species-id", "wrk.doc.w", "--worker-version", "1.0.0")


@dataclass(frozen=True)
class Ran:
    """What one command printed, and its exit status."""

    status: int
    out: str
    err: str


def wcp(*arguments: object, cwd: Path | None = None) -> Ran:
    """Run one command."""
    out, err = io.StringIO(), io.StringIO()
    place = contextlib.chdir(cwd) if cwd else contextlib.nullcontext()
    with place, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    assert "Traceback" not in err.getvalue()
    assert "internal error" not in err.getvalue(), err.getvalue()
    return Ran(status, out.getvalue(), err.getvalue())


def ok(*arguments: object, cwd: Path | None = None) -> Ran:
    """Run one command, which must end with status 0."""
    ran = wcp(*arguments, cwd=cwd)
    assert ran.status == 0, ran
    return ran
