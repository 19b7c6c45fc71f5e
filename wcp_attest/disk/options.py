"""How a tree is read, and the result, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from wcp_attest.package.entries import SEPARATOR

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from wcp_attest.disk.placement import Placement

Bytecode = Literal["leave", "include"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a read has come.

    Attributes:
        files_done: how many files were read.
        bytes_done: how many bytes were read, with those of files that are not finished.
        files_total: how many files there will be; None when that is not known.
        bytes_total: how many bytes they have; None when that is not known.
    """

    files_done: int
    bytes_done: int
    files_total: int | None = None
    bytes_total: int | None = None


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How a tree is read. No option makes a verifier accept a tree that it would deny by default.

    Attributes:
        jobs: how many processes hash at once, 1 to 256; 1 starts no other process; None lets the reader choose.
        progress: called from time to time in the thread that reads.
        executor: hashes the files instead of processes of this machine; it must see the tree under the same path.
        strict_permissions: also deny entries that the group or everyone may write, entries of other owners, and files
            with further hard links or with file capabilities.
        bytecode: when building, leave bytecode out of the manifest or include it as ordinary files.
        allow_twins: when building, allow names that differ only by case or Unicode normal form.
        placement: where the pair lies, whose two files are no entries; None: where one is found, else in the root.
        max_bytes: the most bytes of all files together. It holds only where no signed manifest says how large the files
            are: for a build, and for the older manifest (`awp.v1`).
        max_hole_bytes: likewise, the most bytes that take no room on the disk (holes). They cost the sender of a tree
            nothing, and its reader as much time as other bytes.
    """

    jobs: int | None = None
    progress: Callable[[Progress], None] | None = None
    executor: Executor | None = None
    strict_permissions: bool = False
    bytecode: Bytecode = "leave"
    allow_twins: bool = False
    placement: Placement | None = None
    max_bytes: int = 1 << 40
    max_hole_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Reading:
    """What a tree holds.

    Attributes:
        body: one rendered line an entry, in order (`wcp_attest.package.entries`), joined as in a manifest.
        package_hash: 64 lower-case hex digits (`wcp_attest.base.digest`).
        files: how many regular files there are.
        size: how many bytes they have together.
        excluded: the exclude patterns that decided something, in their order.
        bytecode_left: paths of bytecode that was left out, capped.
        unmatched: the exclude patterns that match nothing, in their order.
    """

    body: bytes = field(repr=False)
    package_hash: str
    files: int
    size: int
    excluded: tuple[str, ...] = ()
    bytecode_left: tuple[str, ...] = ()
    unmatched: tuple[str, ...] = ()

    @property
    def lines(self) -> tuple[bytes, ...]:
        """The lines, split anew each time."""
        return tuple(self.body.split(SEPARATOR))
