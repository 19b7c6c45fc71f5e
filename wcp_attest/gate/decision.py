"""The gate itself: one package, one policy, one answer."""

from __future__ import annotations

import os
import stat
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from wcp_attest.base.errors import DenyCode
from wcp_attest.gate.claude_code import ClaudeCode
from wcp_attest.gate.generic import Generic
from wcp_attest.gate.openclaw import OpenClaw
from wcp_attest.gate.request import Answer, RequestError
from wcp_attest.verdict import judge
from wcp_attest.verification import attest

if TYPE_CHECKING:
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.gate.request import Decision
    from wcp_attest.trust.policy import Policy

# Which words a host understands. Each class has `read`, `answer` and `failure`.
ADAPTERS: Final[dict[str, type[OpenClaw | ClaudeCode | Generic]]] = {
    "openclaw": OpenClaw,
    "claude-code": ClaudeCode,
    "json": Generic,
}


def decide(
    path: str, policy: Policy, *, unsigned: Literal["warn", "block"] = "block", options: ReadOptions | None = None
) -> Answer:
    """Decide about one package, a directory or an archive.

    Args:
        path: of the package.
        policy: the operator's.
        unsigned: what a package without any signature gets.
        options: how to read the tree.

    Raises:
        ConfigError: the package cannot be read, or the policy lies inside it.
    """
    try:
        mode = os.stat(path, follow_symlinks=False).st_mode
    except (OSError, ValueError):
        raise RequestError(f"there is no package at {path!r}") from None
    if stat.S_ISREG(mode):
        from wcp_attest.pack import verify_archive

        verdict = judge(partial(verify_archive, path, policy, options=options))
    else:
        verdict = judge(partial(attest, path, policy, options=options))
    decision: Decision = "allow" if verdict.ok else "block"
    if verdict.code in {DenyCode.SIGNATURE_MISSING, DenyCode.MANIFEST_MISSING}:
        decision = unsigned
    signed = verdict.verified
    reason = f"{verdict.code}: {verdict.message}" if signed is None else signed.trust_statement
    return Answer(path, decision, verdict, reason)
