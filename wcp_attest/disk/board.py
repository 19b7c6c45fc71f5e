"""Pieces of work: all of them in order, and those that wait for somebody to do them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from wcp_attest.base.errors import Error
from wcp_attest.disk.batches import split

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.disk.batches import Done, Job

AHEAD = 32  # jobs drawn from the walk while helpers start or are busy


class Piece:
    """A job, or what is left of one after a part of it was given back; `result` is set when it is done.

    Attributes:
        number: that nothing else has.
        job: what is to be done.
        heavy: whether a large file is known to be in it.
        result: what came of it.
        following: what was given back of it and comes next in order.
    """

    __slots__ = ("following", "heavy", "job", "number", "result")

    def __init__(self, number: int, job: Job) -> None:
        self.number = number
        self.job = job
        self.heavy = False
        self.result: Done | Error | None = None
        self.following: Piece | None = None


class Board:
    """All pieces of work: in order, and those to be handed out."""

    def __init__(self, jobs: Iterator[Job]) -> None:
        self._jobs = jobs
        self._ready: deque[Job] = deque()
        self._again: deque[Piece] = deque()
        self._order: deque[Piece] = deque()
        self._count = 0

    @property
    def empty(self) -> bool:
        """Whether everything was handed out, done and yielded."""
        return not self._order

    @property
    def heavy(self) -> bool:
        """Whether a piece waits that is known to be heavy."""
        return any(piece.heavy for piece in self._again)

    def take(self, *, light: bool = False) -> Piece | None:
        """Return the next piece of work, or None when there is none; if so asked, one not known to be heavy."""
        for piece in self._again:
            if not (light and piece.heavy):
                self._again.remove(piece)
                return piece
        if not self._ready and not self.prepare():
            return None
        job = self._ready.popleft()
        piece = self._new(job)
        self._order.append(piece)
        return piece

    def prepare(self) -> bool:
        """Draw one more job before anybody is free for it; return whether there was one and room for it."""
        job = next(self._jobs, None) if len(self._ready) < AHEAD else None
        if job is not None:
            self._ready.append(job)
        return job is not None

    def give_back(self, piece: Piece) -> None:
        """Take a piece back that nobody has begun."""
        self._again.append(piece)

    def shorten(self, piece: Piece, part: int, index: int) -> None:
        """Take back what follows one file of a piece."""
        piece.job, rest = split(piece.job, part, index)
        if rest is not None:
            following = self._new(rest)
            following.following, piece.following = piece.following, following
            self._again.append(following)

    def finished(self) -> Iterator[Done]:
        """Yield, in order, what was done and not yet yielded; raise what failed when its turn comes."""
        while self._order and self._order[0].result is not None:
            piece = self._order.popleft()
            if isinstance(piece.result, Error):
                raise piece.result
            if piece.following is not None:
                self._order.appendleft(piece.following)
            if piece.result is not None:
                yield piece.result

    def _new(self, job: Job) -> Piece:
        self._count += 1
        return Piece(self._count, job)
