"""`verify --stage-link NAME`: a new directory at each start, and a link that names the last good one."""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import remove_directory, temporary_name

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_KEPT = 100_000  # numbers; a link that was renewed this often is cleared up by its user


@contextmanager
def private_stage(link: str) -> Iterator[str]:
    """Choose a new name beside a link, for a copy that no other start looks at.

    Yields:
        The path. What is still there when the block ends was not published, and is removed.

    Raises:
        ConfigError: something that is not a link has the link's name, or the place cannot be read.
    """
    if os.path.lexists(link) and not os.path.islink(link):
        raise ConfigError(f"{link!r} exists and is no link; name a link that may be replaced, or use --stage")
    folder, name = os.path.split(os.path.abspath(link))
    _next_number(folder, name)
    path = os.path.join(folder, temporary_name(name))
    try:
        yield path
    finally:
        remove_directory(path)


def publish(link: str, staged: str) -> str:
    """Move a copy to the next of `NAME.1`, `NAME.2`, and let the link name it.

    None of them is ever used twice, also when several starts publish at once. The link names the old copy or this one,
    never nothing.

    Args:
        link: `NAME`.
        staged: the copy, which `private_stage` named.

    Returns:
        The directory that holds the copy now.

    Raises:
        ConfigError: the copy cannot be moved, or the link not be replaced.
    """
    folder, name = os.path.split(os.path.abspath(link))
    temporary = os.path.join(folder, temporary_name(name))
    try:
        place = _numbered(staged, folder, name)
        os.symlink(os.path.basename(place), temporary)
        try:
            if os.path.lexists(link):
                os.readlink(link)  # fails for what is not a link, which is never replaced
            os.replace(temporary, os.path.join(folder, name))
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as problem:
        raise ConfigError(f"cannot replace the link {link!r}: {describe_os_error(problem)}") from None
    return place


def _numbered(staged: str, folder: str, name: str) -> str:
    """Rename a copy to the first number that is free, also of another start that looks for one at the same time."""
    for number in range(_next_number(folder, name), MAX_KEPT + 1):
        place = os.path.join(folder, f"{name}.{number}")
        try:
            os.rename(staged, place)  # fails where a directory with anything in it stands, and every copy has something
        except OSError as problem:
            if problem.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                raise
        else:
            return place
    raise _full(name)


def _next_number(folder: str, name: str) -> int:
    numbered = re.compile(re.escape(name) + r"\.([1-9][0-9]{0,5})\Z")
    try:
        numbers = [int(found[1]) for found in map(numbered.match, os.listdir(folder)) if found]
    except OSError as problem:
        raise ConfigError(f"cannot read {folder!r}: {describe_os_error(problem)}") from None
    number = max(numbers, default=0) + 1
    if number > MAX_KEPT:
        raise _full(name)
    return number


def _full(name: str) -> ConfigError:
    return ConfigError(f"{name!r} was staged {MAX_KEPT} times; remove old copies {name}.1, {name}.2, …")
