"""Write what was hashed into a new directory, so that what was checked is what runs.

The copy is written in a private directory beside its place and is renamed to it only when everything agreed. On any
failure it is removed. Owners, times and modes are not those of the tree: files are 0666 or 0777 and directories 0777,
reduced by the umask, unless the caller gives other rights for the files.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Self

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import CREATE_FLAGS, FOLDER_FLAGS, Descent, FileProblem, describe_os_error, native
from wcp_attest.disk.files import remove_directory, temporary_name, write_all
from wcp_attest.disk.walk import Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from wcp_attest.disk.walk import Run

_COPY = "copy"  # inside the private directory, so that the copy itself gets the mode that the umask leaves


class Stage:
    """A copy of a tree that is being written; a context manager that removes it unless `finish` was called.

    Args:
        target: path of the copy; it must not exist, nor be inside the tree.
        root: path of the tree.
        rights: of the files of the copy, as in `wcp_attest.disk.hashing.Task`.

    Attributes:
        descriptor: of the directory that takes the files.
        rights: as given.
        empty: the paths of the empty directories, to be set before `finish`.

    Raises:
        ConfigError: the copy cannot be made there.
    """

    def __init__(self, target: str, root: str, rights: tuple[int, int, int | None] | None = None) -> None:
        self._opened = ExitStack()
        self.rights = rights
        self.empty: Sequence[str] = ()
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
        except OSError as problem:
            raise self._failed(problem) from None
        try:
            os.mkdir(os.path.join(self._temporary, _COPY))
            self.descriptor = os.open(os.path.join(self._temporary, _COPY), FOLDER_FLAGS)
            self._opened.callback(os.close, self.descriptor)
            self._descent = self._opened.enter_context(closing(Descent(self.descriptor)))
        except BaseException as problem:
            self.__exit__()
            if isinstance(problem, OSError):
                raise self._failed(problem) from None
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._opened.close()
        finally:
            remove_directory(self._temporary)

    def prepared(self, walk: Iterable[Run | Link]) -> Iterator[Run | Link]:
        """Make the directories and links of the copy while the tree is walked.

        Args:
            walk: the steps of the walk.

        Yields:
            The same steps, each when the directory for its copy is there; a link is made at once.

        Raises:
            ConfigError: something cannot be made.
        """
        for step in walk:
            folder, _, name = (step.path if isinstance(step, Link) else step.folder.path).rpartition("/")
            self._make_folder(folder and folder + "/")
            if isinstance(step, Link):
                try:
                    parent = self._descent.open(folder and folder + "/", None)
                    os.symlink(native(step.target), native(name), dir_fd=parent)
                except (OSError, FileProblem) as problem:
                    raise self._failed(problem) from None
            yield step

    def finish(self, extra: Mapping[str, bytes]) -> None:
        """Add the empty directories and further files, and put the copy in its place.

        Args:
            extra: the bytes of further files, by path.

        Raises:
            ConfigError: it cannot be done, or something has taken the place meanwhile.
        """
        for path in self.empty:
            self._make_folder(path + "/")
        try:
            for path, data in extra.items():
                folder, slash, name = path.rpartition("/")
                self._make_folder(folder + slash)
                descriptor = os.open(name, CREATE_FLAGS, 0o666, dir_fd=self._descent.open(folder + slash, None))
                try:
                    write_all(descriptor, data)
                finally:
                    os.close(descriptor)
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

    def _failed(self, problem: OSError | FileProblem) -> ConfigError:
        reason = problem.reason if isinstance(problem, FileProblem) else describe_os_error(problem)
        return ConfigError(f"cannot stage into {self._target!r}: {reason}; nothing was staged")
