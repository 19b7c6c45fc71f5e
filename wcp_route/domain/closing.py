"""A base class for objects that a `with` block closes at its end."""

from __future__ import annotations

from typing import Self


class Closing:
    """A context manager that returns itself and is closed when the block ends, also after an error."""

    __slots__ = ()

    def close(self) -> None:
        """Release all resources."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
