"""`wcp-attest clean`: remove bytecode and the temporary files of an interrupted command.

The tree is walked by directory descriptors and no link is followed, so nothing outside ROOT can be removed even while
somebody moves directories about. What a manifest lists is part of the package and stays.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from wcp_attest.base.errors import ConfigError, ManifestMalformed
from wcp_attest.cli.options import require_package, root_argument
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.text import count, one_line
from wcp_attest.disk.files import is_leftover
from wcp_attest.package.names import is_bytecode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.base.strictjson import JsonValue

MAX_DEPTH = 200  # one descriptor a level
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@click.command()
@root_argument
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
@reporting("text", "json")
def clean(out: Output, /, package: str, dry_run: bool) -> None:
    """Remove bytecode (`__pycache__/`, `*.pyc`) and left-over temporary files from ROOT.

    Bytecode runs instead of its source and may differ from it, so a package that holds any that is not listed in its
    manifest is refused. What the manifest lists is kept. No link is followed.
    """
    require_package(package, out)
    sweep = Sweep(kept=_listed(package), dry_run=dry_run)
    try:
        root = os.open(package, _DIRECTORY)
    except OSError as error:
        raise ConfigError(f"cannot open the directory {package!r}: {error.strerror}") from None
    try:
        sweep.directory(root, "", inside_cache=False)
    finally:
        os.close(root)
    if out.format == "json":
        removed: list[JsonValue] = [*sorted(sweep.removed)]
        out.deliver_json("clean", {"root": package, "dry_run": dry_run, "removed": removed})
        return
    done = "would remove" if dry_run else "removed"
    out.decide("".join(f"{done} {one_line(path)}\n" for path in sorted(sweep.removed)))
    out.note(f"{count(len(sweep.removed), 'entry')} {'to remove' if dry_run else 'removed'}")


def _listed(package: str) -> frozenset[str]:
    """Return the paths that the manifest lists; none when there is no manifest that can be read."""
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.package.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest

    path = os.path.join(package, MANIFEST_NAME)
    if not os.path.lexists(path):
        return frozenset()
    try:
        manifest = Manifest.parse(read_bounded(path, limit=MAX_MANIFEST_BYTES, what=MANIFEST_NAME))
        return frozenset(manifest.entries())
    except (ConfigError, ManifestMalformed):
        return frozenset()


@dataclass(slots=True)
class Sweep:
    """One walk that removes.

    Attributes:
        kept: paths that stay.
        dry_run: whether nothing is removed in fact.
        removed: the paths removed, directories with a `/` at their end.
    """

    kept: frozenset[str]
    dry_run: bool
    removed: list[str] = field(default_factory=list)

    def directory(self, descriptor: int, prefix: str, *, inside_cache: bool) -> bool:
        """Clean one directory and return whether it holds nothing any more.

        Args:
            descriptor: the open directory.
            prefix: its path below the root, empty or ending in `/`.
            inside_cache: whether everything in it is bytecode.

        Raises:
            ConfigError: something cannot be read or removed, or the tree is too deep.
        """
        if prefix.count("/") > MAX_DEPTH:
            raise ConfigError(f"{prefix!r} is nested more than {MAX_DEPTH} levels deep")
        empty = True
        for name, is_directory in self._entries(descriptor, prefix):
            path = prefix + name
            cache = inside_cache or is_bytecode(name)
            if is_directory:
                gone = self._subdirectory(descriptor, name, path, cache=cache)
            else:
                doomed = cache or (not prefix and is_leftover(name))
                gone = doomed and path not in self.kept and self._remove(descriptor, name, path)
            empty = empty and gone
        return empty

    def _entries(self, descriptor: int, prefix: str) -> Iterator[tuple[str, bool]]:
        try:
            with os.scandir(descriptor) as listing:
                entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
        except OSError as error:
            raise ConfigError(f"cannot read the directory {prefix or '.'!r}: {error.strerror}") from None
        return iter(sorted(entries))

    def _subdirectory(self, parent: int, name: str, path: str, *, cache: bool) -> bool:
        try:
            child = os.open(name, _DIRECTORY, dir_fd=parent)
        except OSError as error:
            raise ConfigError(f"cannot open the directory {path!r}: {error.strerror}") from None
        try:
            empty = self.directory(child, path + "/", inside_cache=cache)
        finally:
            os.close(child)
        return cache and empty and path not in self.kept and self._remove(parent, name, path + "/")

    def _remove(self, parent: int, name: str, path: str) -> bool:
        if not self.dry_run:
            try:
                if path.endswith("/"):
                    os.rmdir(name, dir_fd=parent)
                else:
                    os.unlink(name, dir_fd=parent)
            except OSError as error:
                raise ConfigError(f"cannot remove {path!r}: {error.strerror}") from None
        self.removed.append(path)
        return True
