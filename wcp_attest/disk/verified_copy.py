"""Write what was hashed into a new directory, so that what was checked is what runs.

The copy grows in a private directory beside its place and is renamed into it only when everything agreed. On any
failure it is removed. Owners, times and modes are not those of the tree: files are 0666 or 0777 and directories 0777,
all reduced by the umask like other files of yours, unless the caller names other rights of files.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import FOLDER_FLAGS, Descent, FileProblem, native
from wcp_attest.disk.files import temporary_name, write_all
from wcp_attest.disk.walk import Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType

    from wcp_attest.disk.walk import Run

_COPY = "copy"  # within the private directory, so that the copy itself has the modes that the umask leaves


class Stage:
    """A copy of a tree in the making; a context manager that removes it unless `finish` was reached.

    Args:
        target: where the copy goes; must not exist, nor lie inside the tree.
        root: the tree.
        rights: of the files of the copy, as in `wcp_attest.disk.hashing.Task`.

    Raises:
        ConfigError: the copy cannot be made there.
    """

    def __init__(self, target: str, root: str, rights: tuple[int, int, int | None] | None = None) -> None:
        self.descriptor = -1
        self.rights = rights
        self._target = target
        self._made: set[str] = {""}
        plain = os.path.abspath(target)
        self._parent, self._name = os.path.split(plain)
        self._temporary = os.path.join(self._parent, temporary_name(self._name))
        if not self._name or os.path.lexists(plain):
            raise ConfigError(f"cannot stage into {target!r}: it exists already; name a new directory")
        inside, real = os.path.realpath(self._parent), os.path.realpath(root)
        if os.path.commonpath([inside, real]) == real:
            raise ConfigError(f"cannot stage into {target!r}: it lies inside the package; name a directory beside it")

    def __enter__(self) -> Self:
        try:
            os.mkdir(self._temporary, 0o700)
            os.mkdir(os.path.join(self._temporary, _COPY))
            self.descriptor = os.open(os.path.join(self._temporary, _COPY), FOLDER_FLAGS)
            self._descent = Descent(self.descriptor)
        except BaseException as problem:
            self._discard()
            if isinstance(problem, OSError):
                raise self._failed(problem) from None
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def prepared(self, walk: Iterable[Run | Link]) -> Iterator[Run | Link]:
        """Pass the steps of a walk on, each when the directory for its copy stands; links are made at once."""
        for step in walk:
            if isinstance(step, Link):
                self._make_link(step)
            else:
                self._make_folder(step.folder.path)
            yield step

    def make_folders(self, paths: Iterable[str]) -> None:
        """Make empty directories.

        Raises:
            ConfigError: one cannot be made.
        """
        for path in paths:
            self._make_folder(path + "/")

    def finish(self, extra: Mapping[str, bytes]) -> None:
        """Add further files and put the copy in its place.

        Args:
            extra: contents by path.

        Raises:
            ConfigError: it cannot be done, or something has taken the place meanwhile.
        """
        try:
            for path, data in extra.items():
                above, slash, name = path.rpartition("/")
                self._make_folder(above + slash)
                self._write(self._descent.open(above + slash, None) if above else self.descriptor, name, data)
            if os.path.lexists(os.path.join(self._parent, self._name)):
                raise ConfigError(f"cannot stage into {self._target!r}: it exists already; name a new directory")
            os.rename(os.path.join(self._temporary, _COPY), os.path.join(self._parent, self._name))
        except (OSError, FileProblem) as problem:
            raise self._failed(problem) from None

    def _make_folder(self, path: str) -> None:
        if path in self._made:
            return
        above, _, name = path[:-1].rpartition("/")
        above = above and above + "/"
        self._make_folder(above)
        try:
            parent = self._descent.open(above, None)
            os.mkdir(native(name), dir_fd=parent)
        except (OSError, FileProblem) as problem:
            raise self._failed(problem) from None
        self._made.add(path)

    def _make_link(self, link: Link) -> None:
        above, _, name = link.path.rpartition("/")
        above = above and above + "/"
        self._make_folder(above)
        try:
            os.symlink(native(link.target), native(name), dir_fd=self._descent.open(above, None))
        except (OSError, FileProblem) as problem:
            raise self._failed(problem) from None

    def _write(self, folder: int, name: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o666, dir_fd=folder)
        try:
            write_all(descriptor, data)
        finally:
            os.close(descriptor)

    def _discard(self) -> None:
        if self.descriptor >= 0:
            self._descent.close()
            os.close(self.descriptor)
            self.descriptor = -1
        if self._temporary:
            import shutil

            shutil.rmtree(self._temporary, ignore_errors=True)

    def _failed(self, problem: OSError | FileProblem) -> ConfigError:
        text = problem.reason if isinstance(problem, FileProblem) else problem.strerror
        reason = (text or str(problem)).lower()
        return ConfigError(f"cannot stage into {self._target!r}: {reason}; nothing was staged")
