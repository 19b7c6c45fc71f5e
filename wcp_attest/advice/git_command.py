"""Git as a child process: read only, without network, locks or helpers, with bounded output and time.

The repository belongs to the caller but what lies in it may not: no file of it may choose a program to run here or
send git over the network, so the settings that do are overridden. What a surrounding git hook puts into the
environment to say which repository and which index are meant (`GIT_DIR`, `GIT_INDEX_FILE`, object directories) stays.
"""

from __future__ import annotations

import os
import stat
import subprocess
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.base.child_environment import bare_environment
from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import IO

MAX_OUTPUT: Final = 256 * 1024 * 1024  # bytes of one listing: about two million paths
DEADLINE: Final = 600.0  # seconds for one git process; a listing takes less than a second
_CHUNK: Final = 1 << 20
_MAX_PROBLEM: Final = 4096  # bytes of git's own words that are looked at

_SETTINGS: Final = ("-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false", "-c", "core.hooksPath=/dev/null")
_ADDED: Final = {
    "GIT_ALLOW_PROTOCOL": "",  # no transport at all; a git that does not know GIT_NO_LAZY_FETCH obeys this
    "GIT_NO_LAZY_FETCH": "1",  # a partial clone does not fetch what is missing; it is reported as missing
    "GIT_NO_REPLACE_OBJECTS": "1",  # replacements stay on this machine; what is committed is what others get
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}
_REMOVED: Final = frozenset(
    f"GIT_{name}"
    for name in ("ATTR_SOURCE", "GLOB_PATHSPECS", "ICASE_PATHSPECS", "LITERAL_PATHSPECS", "NOGLOB_PATHSPECS", "PREFIX")
)


# Files that git reads on its own, below its folder. Where one of them is a FIFO, git would wait without end.
_READ_BY_GIT: Final = (
    "HEAD",
    "commondir",
    "config",
    "config.worktree",
    "index",
    "info/attributes",
    "info/exclude",
    "info/grafts",
    "objects/info/alternates",
    "packed-refs",
    "shallow",
)


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for git: what git itself uses, without what would change our arguments."""
    kept = bare_environment(base, git=True)
    return {name: kept[name] for name in kept if name not in _REMOVED and not name.startswith("GIT_TRACE")} | _ADDED


def refuse_special_files(folder: str) -> None:
    """Refuse a repository in which git would have to read a FIFO or a device.

    Args:
        folder: a directory of its work tree.

    Raises:
        ConfigError: a file that git reads by itself is no regular file.
    """
    place = os.path.realpath(folder)
    while not os.path.lexists(os.path.join(place, ".git")):
        if place == os.path.dirname(place):
            return
        place = os.path.dirname(place)
    folders = [os.environ.get("GIT_DIR") or os.path.join(place, ".git")]
    if os.path.isfile(folders[0]):  # a linked work tree or a submodule: the file says where the folder is
        folders[0] = os.path.join(place, _first_line(folders[0]).removeprefix("gitdir: "))
    _require_regular(os.path.join(folders[0], "commondir"))
    common = _first_line(os.path.join(folders[0], "commondir"))
    if common:
        folders.append(os.path.join(folders[0], common))
    for git_folder in folders:
        _require_regular(git_folder, directory=True)
        for name in _READ_BY_GIT:
            _require_regular(os.path.join(git_folder, name))


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.readline(4096).rstrip("\n")
    except OSError:
        return ""


def _require_regular(path: str, *, directory: bool = False) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # not there; or git says itself why it cannot read it
    if not (stat.S_ISDIR(mode) if directory else stat.S_ISREG(mode)):
        kind = "directory" if directory else "regular file"
        raise ConfigError(f"git would have to read {path!r}, which is not a {kind}; remove it")


@dataclass(frozen=True, slots=True)
class Git:
    """Git in one repository.

    Attributes:
        directory: where git looks for the repository; None for the current directory, which counts when a hook has
            set `GIT_DIR`, because git then takes the current directory for the top of the work tree.
    """

    directory: str | None

    def start(self, *arguments: str, errors: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start git with pipes for standard input and output.

        Args:
            arguments: of the command line.
            errors: where standard error goes; not a pipe, which git could fill while we read the other one.

        Raises:
            ConfigError: git is not installed.
        """
        try:
            return subprocess.Popen(
                ["git", *_SETTINGS, *arguments],
                cwd=self.directory,
                env=environment(os.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        except OSError as error:
            raise ConfigError(f"git cannot be started ({error.strerror}); install it or put it on PATH") from error

    def output(self, *arguments: str, given: bytes = b"") -> bytes:
        """Run git to its end and return its standard output.

        Args:
            arguments: of the command line.
            given: standard input.

        Raises:
            ConfigError: git is not installed, fails, or says more than `MAX_OUTPUT` bytes.
        """
        with tempfile.TemporaryFile() as errors:
            process = self.start(*arguments, errors=errors)
            with process, deadline(process), feeding(process, given):
                data = b"".join(chunks(process, None))
            status = process.wait()
            errors.seek(0)
            said = errors.read(_MAX_PROBLEM).decode("utf-8", "replace").splitlines()
        if status:
            raise ConfigError(f"`git {arguments[0]}` failed: {said[0] if said else f'status {status}'}")
        return data


@contextmanager
def deadline(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process that has not ended after `DEADLINE`, or when the block raises."""
    timer = threading.Timer(DEADLINE, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()


@contextmanager
def feeding(process: subprocess.Popen[bytes], given: bytes) -> Iterator[None]:
    """Write git's standard input in a thread, and close it, while the block reads what git says."""

    def feed() -> None:
        with suppress(BrokenPipeError):  # git ended early; its exit status says why
            assert process.stdin is not None  # noqa: S101 (started with a pipe, above)
            with process.stdin:
                process.stdin.write(given)

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    try:
        yield
    except BaseException:
        process.kill()  # otherwise the thread would wait without end for git to read
        raise
    finally:
        feeder.join()


def chunks(process: subprocess.Popen[bytes], size: int | None) -> Iterator[bytes]:
    """Yield the next `size` bytes of git's standard output, or all that is left, in parts.

    Raises:
        ConfigError: it ends before `size` bytes, or all that is left is more than `MAX_OUTPUT` bytes.
    """
    assert process.stdout is not None  # noqa: S101 (started with a pipe, above)
    left = MAX_OUTPUT if size is None else size
    while left > 0 or size is None:
        part = process.stdout.read(min(max(left, 1), _CHUNK))
        left -= len(part)
        if not part and size is None:
            return
        if not part:
            raise ConfigError("git ended before it had given the whole file")
        if left < 0:
            raise ConfigError(f"git lists more than {MAX_OUTPUT} bytes; the package has too many files")
        yield part
