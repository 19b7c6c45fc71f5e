"""`wcp-attest clean`: remove bytecode and the temporary files of an interrupted command.

The tree is walked by directory descriptors and no link is followed, so nothing outside ROOT can be removed even while
another program moves directories. What a manifest lists is part of a package and stays, also that of a package inside
ROOT. Version control keeps its files under names that may look like bytecode, so its folders are not entered. The whole
tree is looked at before the first file is removed.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import click

from wcp_attest.base.errors import ConfigError, ManifestMalformed
from wcp_attest.cli.option_groups import GroupedCommand
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.shared_options import require_package, root_argument
from wcp_attest.cli.text import count, one_line
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import is_leftover
from wcp_attest.package.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest
from wcp_attest.package.names import is_bytecode

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonValue

MAX_DEPTH: Final = 200  # one descriptor a level
MAX_FOREIGN_BYTES: Final = 4 * 1024 * 1024  # of another program's manifest.json, which is read to tell it apart
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_VERSION_CONTROL: Final = frozenset((".git", ".hg", ".svn", ".bzr", ".jj"))
_BARE_REPOSITORY: Final = frozenset(("HEAD", "objects", "refs"))  # how git itself recognises one
_PLACES: Final = ("", ".wcp")  # folders of a package that may hold its manifest


@click.command(cls=GroupedCommand)
@root_argument
@click.option("-n", "--dry-run", is_flag=True, help="Print what would be removed, and remove nothing.")
@reporting("text", "json")
def clean(out: Output, /, package: str, dry_run: bool) -> None:
    """Remove bytecode (`__pycache__/`, `*.pyc`) and left-over temporary files from ROOT.

    Bytecode runs instead of its source and may differ from it, so a package that holds any that is not listed in its
    manifest is refused. What a manifest lists is kept, also that of a package inside ROOT. When a manifest cannot be
    read, nothing is removed. Links are not followed, and folders of version control are not entered.
    """
    require_package(package, out)
    try:
        root = os.open(package, _DIRECTORY)
    except OSError as error:
        raise ConfigError(f"cannot open the directory {package!r}: {describe_os_error(error)}") from None
    try:
        sweep = Sweep()
        sweep.directory(root, "", inside_cache=False)
        if not dry_run:
            sweep = Sweep(kept=sweep.kept, doomed=frozenset(sweep.removed))
            try:
                sweep.directory(root, "", inside_cache=False)
            except ConfigError as problem:
                raise ConfigError(f"{problem}; removed before that: {count(len(sweep.removed), 'entry')}") from None
    finally:
        os.close(root)
    paths = sorted(sweep.removed)
    if out.format == "json":
        removed: list[JsonValue] = [*paths]
        out.deliver_json("clean", {"root": package, "dry_run": dry_run, "removed": removed})
        return
    done = "would remove" if dry_run else "removed"
    out.decide("".join(f"{done} {one_line(path)}\n" for path in paths))
    out.note(f"{count(len(paths), 'entry')} {'to remove' if dry_run else 'removed'}")


@dataclass(slots=True)
class Sweep:
    """One walk: the first one finds what to remove, the second removes exactly that.

    Attributes:
        kept: paths that manifests list.
        doomed: the paths to remove; None for the first walk, which removes nothing.
        removed: the paths found or removed, directories with a `/` at their end.
    """

    kept: set[str] = field(default_factory=set)
    doomed: frozenset[str] | None = None
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
        entries = _entries_of(descriptor, prefix)
        if {name for name, _ in entries} >= _BARE_REPOSITORY:
            return False
        if self.doomed is None:
            for folder in _PLACES:
                self._keep_what_is_listed(descriptor, folder, prefix)
        empty = True
        for name, is_directory in entries:
            path = prefix + name
            cache = inside_cache or is_bytecode(name)
            if name.lower() in _VERSION_CONTROL:
                gone = False
            elif is_directory:
                gone = self._subdirectory(descriptor, name, path, cache=cache)
            else:
                doomed = cache or (prefix in ("", ".wcp/") and is_leftover(name))
                gone = doomed and path not in self.kept and self._remove(descriptor, name, path)
            empty &= gone
        return empty

    def _keep_what_is_listed(self, folder: int, place: str, prefix: str) -> None:
        """Read the manifest in a directory, if it has one, and keep what that lists.

        Raises:
            ConfigError: it cannot be read, so what belongs to the package is not known.
        """
        path = f"{place}/{MANIFEST_NAME}" if place else MANIFEST_NAME
        try:
            data = _read_at(folder, path)
            if data is None or not _lists_entries(data, top=not prefix):
                return
            self.kept.update(prefix + listed for listed in Manifest.parse(data).entries())
        except (OSError, ValueError, ManifestMalformed) as problem:
            reason = describe_os_error(problem) if isinstance(problem, OSError) else str(problem)
            raise ConfigError(
                f"{prefix + path!r} cannot be read ({reason}), so which files belong to the package is not known;"
                " nothing was removed. Restore or rebuild the manifest first"
            ) from None

    def _subdirectory(self, parent: int, name: str, path: str, *, cache: bool) -> bool:
        try:
            child = os.open(name, _DIRECTORY, dir_fd=parent)
        except OSError as error:
            raise ConfigError(f"cannot open the directory {path!r}: {describe_os_error(error)}") from None
        try:
            empty = self.directory(child, path + "/", inside_cache=cache)
        finally:
            os.close(child)
        return cache and empty and path not in self.kept and self._remove(parent, name, path + "/")

    def _remove(self, parent: int, name: str, path: str) -> bool:
        if self.doomed is not None:
            if path not in self.doomed:
                return False
            try:
                if path.endswith("/"):
                    os.rmdir(name, dir_fd=parent)
                else:
                    os.unlink(name, dir_fd=parent)
            except FileNotFoundError:  # another program was faster
                return True
            except OSError as error:
                raise ConfigError(f"cannot remove {path!r}: {describe_os_error(error)}") from None
        self.removed.append(path)
        return True


def _entries_of(descriptor: int, prefix: str) -> list[tuple[str, bool]]:
    """Return the names in an open directory, sorted, each with whether it is a directory itself.

    Raises:
        ConfigError: it cannot be read, or is nested too deep.
    """
    if prefix.count("/") > MAX_DEPTH:
        raise ConfigError(f"{prefix!r} is nested more than {MAX_DEPTH} levels deep")
    try:
        with os.scandir(descriptor) as listing:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing)
    except OSError as error:
        raise ConfigError(f"cannot read the directory {prefix or '.'!r}: {describe_os_error(error)}") from None


def _read_at(folder: int, path: str) -> bytes | None:
    """Read a file below an open directory; None when there is none.

    Raises:
        OSError: it is a link or a special file, or cannot be read.
        ValueError: it is too large.
    """
    try:
        place = os.open(os.path.dirname(path) or ".", _DIRECTORY, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        descriptor = os.open(os.path.basename(path), _FILE, dir_fd=place)
    except FileNotFoundError:
        return None
    finally:
        os.close(place)
    with open(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            return None
        if not stat.S_ISREG(mode):
            raise ValueError("not a regular file")
        data = file.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise ValueError(f"larger than {MAX_MANIFEST_BYTES} bytes")
    return data


def _lists_entries(data: bytes, *, top: bool) -> bool:
    """Tell whether a `manifest.json` must be read for what it lists; another program's lists nothing of a package.

    Args:
        data: the file.
        top: whether it is that of ROOT: what is damaged there may have been a manifest, wherever else it must look so.

    Raises:
        ManifestMalformed: it may be a manifest and cannot be read.
    """
    from wcp_attest.base.strictjson import loads_object

    if data.startswith(b'{\n"schema_version":"awp.v2",\n'):
        return True
    try:
        fields = loads_object(data, what="it", max_bytes=MAX_FOREIGN_BYTES)
    except ConfigError as problem:
        if top or b'"awp.v' in data[:MAX_FOREIGN_BYTES]:
            raise ManifestMalformed(str(problem)) from None
        return False
    schema = fields.get("schema_version")
    return isinstance(schema, str) and schema.startswith("awp.") and schema != "awp.v1"  # awp.v1 covers no bytecode
