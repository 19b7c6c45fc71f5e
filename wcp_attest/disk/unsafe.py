"""Find the other entries that cannot be part of a package, after one was found.

Reading stops at the first. You want to know all of them at once, so the tree is walked again without reading a file:
names, kinds, link targets, set-id bits and, where they are strict, permissions.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from time import monotonic
from typing import TYPE_CHECKING

from wcp_attest.base.errors import MachineError, TreeUnsafe
from wcp_attest.disk.batches import as_error
from wcp_attest.disk.directory import Descent, FileProblem, native
from wcp_attest.disk.hashing import check_file
from wcp_attest.disk.walk import Run, Walk

if TYPE_CHECKING:
    from wcp_attest.disk.directory import TreeRoot
    from wcp_attest.disk.walk import Rules

MAX_NAMED = 8  # further entries; a message is one line
_SECONDS = 2.0  # after which no more are looked for


class _Enough(Exception):
    """Enough was found, or it took long enough."""


class _Survey(Walk):
    """A walk that goes on after an entry that cannot be part of a package."""

    def __init__(self, root: TreeRoot, rules: Rules, known: str) -> None:
        super().__init__(root, rules)
        self.found: list[str] = []
        self._known = known
        self._deadline = monotonic() + _SECONDS

    def refuse(self, problem: str) -> None:
        """Note what is wrong with an entry.

        Args:
            problem: the message about it.

        Raises:
            _Enough: enough was found.
        """
        if problem != self._known:
            self.found.append(problem)
        if len(self.found) > MAX_NAMED:
            raise _Enough

    def look(self, folder: int, run: Run, owner: int | None) -> None:
        """Look at files of one directory.

        Args:
            folder: descriptor of the directory.
            run: the files.
            owner: the id of the user who may own them when permissions are strict, else None.

        Raises:
            _Enough: enough was found, or it took long enough.
        """
        if monotonic() > self._deadline:
            raise _Enough
        for name in run.names:
            with suppress(OSError):  # it is gone or cannot be seen: the message stays as it is
                status = os.stat(native(name), dir_fd=folder, follow_symlinks=False)
                try:
                    check_file(run.folder.path + name, status, owner)
                except FileProblem as problem:
                    self.refuse(str(as_error(problem)))


def with_others(refusal: TreeUnsafe, root: TreeRoot, rules: Rules) -> TreeUnsafe:
    """Return an error that also names the other entries of the tree that cannot be part of a package.

    Args:
        refusal: what was found first.
        root: of the tree.
        rules: by which the tree was read.

    Returns:
        The error; it is `refusal` itself when nothing else was found. Whatever goes wrong here, the refusal stands.
    """
    survey = _Survey(root, rules, str(refusal))
    with (
        suppress(_Enough, TreeUnsafe, MachineError, FileProblem, OSError),
        closing(Descent(root.descriptor)) as descent,
    ):
        for step in survey:
            if isinstance(step, Run):
                survey.look(descent.open(step.folder.path, step.folder.identity), step, rules.owner)
    if not survey.found:
        return refusal
    more = ["and more"] if len(survey.found) > MAX_NAMED else []
    return TreeUnsafe("; ".join([str(refusal), *survey.found[:MAX_NAMED], *more]))
