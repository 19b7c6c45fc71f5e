"""What to do about a denial: chosen by what was found, not by its code alone."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final

from wcp_attest.base.differences import Change
from wcp_attest.base.errors import DenyCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.verdict import Verdict

# What the cause of a difference says, and what to do then. The order is that of the advice.
_BY_CAUSE: Final = (
    ("line endings", "In git, put `* -text` into the package's .gitattributes, then check out again."),
    ("execute bit", "Unpack or copy with modes: `tar -xpf`, `unzip` or `cp -a`; or restore the mode that is named."),
    ("links preserved", "Copy with links preserved: `cp -a` or `rsync -a`; zip with `-y`."),
    ("without symbolic links", "Unpack with `unzip` or `tar`, or check out with `git config core.symlinks true`."),
    ("Git LFS", "Fetch the contents: `git lfs pull`."),
    ("git repository", "Verify an export without `.git` (`git archive`), or sign the package in a checkout."),
    ("interrupted", "Fetch or copy the package again; it arrived incomplete."),
    ("cut off", "Fetch or copy the package again; it arrived incomplete."),
)


def advice_for(verdict: Verdict, root: str) -> tuple[str, ...]:
    """Return what to do about a denial, most likely first.

    Args:
        verdict: the denial.
        root: the package, as the user named it.
    """
    from wcp_attest.deny_code_help import explain

    if verdict.code is None:
        return ()
    general = explain(verdict.code).fix
    chosen = list(_found(verdict, root))
    if verdict.code is DenyCode.HASH_MISMATCH and chosen:
        # The general advice on line endings and bytecode is replaced by that on what was found.
        general = tuple(line for line in general if "-text" not in line and "bytecode" not in line)
    if verdict.code is DenyCode.TREE_UNSAFE and "cannot be read" in verdict.message:
        general = ("Make it readable for this user (`chmod`), or verify as a user who may read it.", *general[1:])
    return tuple(dict.fromkeys((*chosen, *general)))


def _found(verdict: Verdict, root: str) -> Iterator[str]:
    causes = "\n".join({difference.cause for difference in verdict.differences})
    if any(difference.change is Change.BYTECODE or "clean" in difference.cause for difference in verdict.differences):
        command = shlex.join(["wcp-attest", "clean", root])
        yield f"Remove the bytecode: `{command}`; run workers with `PYTHONDONTWRITEBYTECODE=1`."
    yield from (line for cause, line in _BY_CAUSE if cause in causes)
    if os.path.islink(os.path.join(root, "..data")):
        place = shlex.quote(os.path.join(root, "..data"))
        yield (
            "This is a mount of links, as Kubernetes makes of a ConfigMap or Secret; give the directory that holds the"
            f' real files: "$(readlink -f {place})".'
        )
