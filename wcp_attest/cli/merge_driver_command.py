"""`wcp-attest merge-driver`: merge manifests for git, so that branches that touch one package do not stop there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import ConfigError, VerificationError
from wcp_attest.cli.failure_report import REFUSED
from wcp_attest.cli.option_groups import GroupedCommand
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.text import one_line

if TYPE_CHECKING:
    from wcp_attest.package.manifest import Manifest


@click.command("merge-driver", cls=GroupedCommand)
@click.argument("base", metavar="BASE", type=click.Path())
@click.argument("ours", metavar="OURS", type=click.Path())
@click.argument("theirs", metavar="THEIRS", type=click.Path())
@click.argument("name", metavar="[NAME]", default="manifest.json")
@reporting("text")
def merge_driver(out: Output, base: str, ours: str, theirs: str, name: str) -> int:
    """Merge three manifests and write the result to OURS. Git calls this; see `docs/howto/pre-commit.md`.

    \b
      git config merge.wcp-attest.driver "wcp-attest merge-driver %O %A %B %P"
      echo "manifest.json merge=wcp-attest" >> .gitattributes

    Each entry is taken from the side that changed it, the package hash is computed from the result, and the time is the
    newer one. No file of the package is read. Exit status 1: both sides changed the same entry or field, or one of the
    manifests cannot be read; OURS is left as it is.
    """
    from wcp_attest.build import MANIFEST_KIND
    from wcp_attest.disk.overwrite import write_file
    from wcp_attest.package.manifest_merge import Sides, merge_manifests

    try:
        sides = Sides(_read(base, "the common ancestor", empty=True), _side(ours, "ours"), _side(theirs, "theirs"))
        merged = merge_manifests(sides)
    except (ConfigError, VerificationError) as problem:
        out.note(
            f"{one_line(name)} is left in conflict: {one_line(str(problem))}\n"
            "merge the other files, `git add` them, then run `wcp-attest fix`"
        )
        return REFUSED
    write_file(ours, merged.to_bytes(), MANIFEST_KIND)
    return 0


def _side(path: str, which: str) -> Manifest:
    manifest = _read(path, which)
    if manifest is None:
        raise ConfigError(f"{which}: the file is empty")
    return manifest


def _read(path: str, which: str, *, empty: bool = False) -> Manifest | None:
    """Read one manifest; None for an empty file, where that is allowed.

    Raises:
        ConfigError: it cannot be read, or is no manifest in its one accepted spelling.
    """
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.package.manifest import MAX_MANIFEST_BYTES, Manifest

    data = read_bounded(path, limit=MAX_MANIFEST_BYTES, what="the manifest")
    if empty and not data:
        return None
    try:
        return Manifest.from_bytes(data)
    except VerificationError as problem:
        raise ConfigError(f"{which}: {problem}") from None
