"""`verify --stage-link NAME`: a new directory at each start, and a link that names the last good one."""

from __future__ import annotations

import os
import re

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import describe_os_error

MAX_KEPT = 100_000  # numbers; a link that was renewed this often is cleared up by its user


def next_stage(link: str) -> str:
    """Return the directory for the next copy: `NAME.1`, `NAME.2`, and so on; none of them is ever reused.

    Raises:
        ConfigError: something that is not a link has the name, or the place cannot be read.
    """
    if os.path.lexists(link) and not os.path.islink(link):
        raise ConfigError(f"{link!r} exists and is no link; name a link that may be replaced, or use --stage")
    folder, name = os.path.split(os.path.abspath(link))
    numbered = re.compile(re.escape(name) + r"\.([1-9][0-9]{0,5})\Z")
    try:
        numbers = [int(found[1]) for found in map(numbered.match, os.listdir(folder)) if found]
    except OSError as problem:
        raise ConfigError(f"cannot read {folder!r}: {describe_os_error(problem)}") from None
    number = max(numbers, default=0) + 1
    if number > MAX_KEPT:
        raise ConfigError(f"{link!r} was staged {MAX_KEPT} times; remove old copies {name}.1, {name}.2, …")
    return os.path.join(folder, f"{name}.{number}")


def point_to(link: str, stage: str) -> None:
    """Let a link name a staged copy: afterwards it names the old one or this one, never nothing.

    Raises:
        ConfigError: it cannot be replaced.
    """
    folder, name = os.path.split(os.path.abspath(link))
    temporary = os.path.join(folder, f".{name}.{os.urandom(8).hex()}.wcp-tmp")
    try:
        os.symlink(os.path.basename(stage), temporary)
        try:
            if os.path.lexists(link):
                os.readlink(link)  # fails for what is not a link, which is never replaced
            os.replace(temporary, os.path.join(folder, name))
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as problem:
        raise ConfigError(f"cannot replace the link {link!r}: {describe_os_error(problem)}") from None
