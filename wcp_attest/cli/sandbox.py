"""The command line of bubblewrap for `run --sandbox bwrap`: everything is read-only, and there is no network."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.store import StoredPackage

_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SETTINGS = (
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/localtime",
)
_NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl", "/etc/ca-certificates", "/etc/pki")


def bubblewrap(held: StoredPackage, program: str, writable: Sequence[str], *, network: bool) -> list[str]:
    """Return bubblewrap and its arguments, up to and with the program.

    Args:
        held: the package; it is seen under the same path, read-only.
        program: path of the program.
        writable: directories that may be written.
        network: whether there is one.

    Raises:
        ConfigError: bubblewrap is not installed, or a directory is none.
    """
    tool = next(
        (path for path in ("/usr/bin/bwrap", "/usr/local/bin/bwrap", "/bin/bwrap") if os.path.exists(path)), None
    )
    if tool is None:
        raise ConfigError("bubblewrap is not installed; install it (`apt install bubblewrap`), or leave out --sandbox")
    arguments = [tool, "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr"]
    if network:
        arguments.append("--share-net")
    for path in _SYSTEM:
        if os.path.islink(path):
            arguments += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            arguments += ["--ro-bind", path, path]
    for path in (*_SETTINGS, *(_NETWORK if network else ())):
        arguments += ["--ro-bind-try", path, path]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]  # noqa: S108  # a new one, in the sandbox
    program = os.path.abspath(program)
    for path in sorted({_installation(program), _installation(os.path.realpath(program))}):
        if not path.startswith(("/usr/", held.path + "/")) and path != held.path:
            arguments += ["--ro-bind", path, path]
    arguments += ["--ro-bind", held.path, held.path]
    for path in _writable(writable, held.path):
        arguments += ["--bind", path, path]
    return [*arguments, "--chdir", os.getcwd(), "--", program]


def _writable(folders: Sequence[str], package: str) -> list[str]:
    """Return the absolute paths of directories that may be written.

    Raises:
        ConfigError: one is no directory, or holds the package, or lies in it.
    """
    paths = []
    for folder in folders:
        path = os.path.abspath(folder)
        if not os.path.isdir(path):
            raise ConfigError(f"--writable {folder!r} is not a directory")
        if os.path.commonpath([path, package]) in {path, package}:
            raise ConfigError(f"--writable {folder!r} would let the command change the package")
        paths.append(path)
    return paths


def _installation(program: str) -> str:
    """Return what a program needs beside itself: the prefix of an interpreter, else only its own file."""
    prefix = os.path.dirname(os.path.dirname(program))
    library = os.path.join(prefix, "lib")
    interpreter = prefix not in {"", "/"} and os.path.isdir(library) and os.path.basename(program).startswith("python")
    return prefix if interpreter else program
