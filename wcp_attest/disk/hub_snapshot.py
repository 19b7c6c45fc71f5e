"""Copy a snapshot of the Hugging Face hub's cache, whose files are links into `blobs/`, to a directory of plain files.

    models--acme--reader/snapshots/0e9f…/config.json   ->   ../../blobs/4a5c…

A package holds no link that leaves it, so a snapshot itself cannot be signed. Only links into the `blobs/` of the same
cache are followed. The name of a blob is the SHA-256 or the git object id of its content, and both are compared while
it is copied (huggingface_hub, "Understand caching").
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from typing import Final

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import private_directory

MAX_FILES: Final = 100_000  # of one snapshot
_TARGET: Final = re.compile(r"(?:\.\./)+blobs/([0-9a-f]{64}|[0-9a-f]{40})\Z")
_BLOCK: Final = 1 << 20


def is_hub_snapshot(root: str) -> bool:
    """Tell whether a directory is a snapshot with links into the blobs of its cache.

    Args:
        root: path of the directory.

    Returns:
        False also when it cannot be read.
    """
    try:
        names = os.listdir(root)
    except OSError:
        return False
    return any(_TARGET.match(os.readlink(path)) for name in names if os.path.islink(path := os.path.join(root, name)))


def copy_hub_snapshot(root: str, target: str) -> int:
    """Copy a snapshot to a new directory, with plain files in place of links.

    Args:
        root: the snapshot, `models--…/snapshots/<revision>`.
        target: path of the new directory; it must not exist, and appears only when everything is copied.

    Returns:
        How many files were copied.

    Raises:
        ConfigError: `target` exists, an entry is neither a file nor a link into the blobs of this cache, a blob is not
            what its name says, or something cannot be read or written.
    """
    if os.path.lexists(target):
        raise ConfigError(f"{target!r} exists already; name a new directory, or sign what is in it")
    source, blobs = os.path.realpath(root), os.path.realpath(os.path.join(root, "..", "..", "blobs"))
    with private_directory(os.path.dirname(os.path.abspath(target))) as folder:
        copy = os.path.join(folder, "snapshot")
        try:
            os.mkdir(copy)
            count = _copy_folder(source, copy, blobs)
            os.rename(copy, target)
        except OSError as problem:
            raise ConfigError(f"cannot copy the snapshot to {target!r}: {describe_os_error(problem)}") from None
    return count


def _copy_folder(source: str, target: str, blobs: str) -> int:
    """Copy a directory with everything below it; return how many files were copied."""
    waiting, count = [(source, target)], 0
    while waiting:
        folder, copy = waiting.pop()
        for name in sorted(os.listdir(folder)):
            path, place = os.path.join(folder, name), os.path.join(copy, name)
            mode, shown = os.lstat(path).st_mode, os.path.relpath(path, source)
            if stat.S_ISDIR(mode):
                os.mkdir(place)
                waiting.append((path, place))
                continue
            count += 1
            if count > MAX_FILES:
                raise ConfigError(f"the snapshot has more than {MAX_FILES} files")
            if stat.S_ISREG(mode):
                _copy_file(path, place)
                continue
            found = _TARGET.match(os.readlink(path)) if stat.S_ISLNK(mode) else None
            if found is None or os.path.realpath(os.path.dirname(os.path.join(folder, os.readlink(path)))) != blobs:
                raise ConfigError(f"{shown!r} of the snapshot is neither a file nor a link into the blobs of its cache")
            if found[1] not in _copy_file(os.path.join(blobs, found[1]), place):
                raise ConfigError(f"the blob of {shown!r} is not what its name says; download the model again")
    return count


def _copy_file(source: str, target: str) -> tuple[str, str]:
    """Copy a regular file and return its SHA-256 and its git object id, both as hex digits."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file, open(target, "xb", buffering=0) as copy:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{source!r} is not a regular file")
        sha256 = hashlib.sha256()
        git = hashlib.sha1(b"blob %d\0" % status.st_size, usedforsecurity=False)
        while block := file.read(_BLOCK):
            sha256.update(block)
            git.update(block)
            while block:  # a raw file may take less than it is given
                block = block[copy.write(block) :]
    return sha256.hexdigest(), git.hexdigest()
