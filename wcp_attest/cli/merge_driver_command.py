"""`wcp-attest merge-driver`: merge manifests for git, so that branches that touch one package do not stop there."""

from __future__ import annotations

import os

import click

from wcp_attest.base.errors import ConfigError, VerificationError
from wcp_attest.cli.failure_report import REFUSED
from wcp_attest.cli.option_groups import GroupedCommand
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.text import one_line

ANCESTOR = "the common ancestor"
MAX_CONFLICTS = 127  # that `git merge-file` counts in its exit status; a higher one is a failure


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
    manifests cannot be read; OURS is left as it is. A `manifest.json` of another program is merged line by line, as git
    does without a driver.
    """
    from wcp_attest.build import MANIFEST_KIND
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.disk.overwrite import write_file
    from wcp_attest.package.manifest import MAX_MANIFEST_BYTES, Manifest
    from wcp_attest.package.manifest_merge import Sides, merge_manifests
    from wcp_attest.package.ours import is_manifest

    try:
        files = {
            which: read_bounded(path, limit=MAX_MANIFEST_BYTES, what="the manifest")
            for which, path in ((ANCESTOR, base), ("ours", ours), ("theirs", theirs))
        }
        if not any(map(is_manifest, filter(None, files.values()))):
            return _merge_lines(out, ours, base, theirs, name)
        manifests: dict[str, Manifest] = {}
        for which, data in files.items():
            if not data and which == ANCESTOR:  # both branches added the package
                continue
            try:
                manifests[which] = Manifest.from_bytes(data)
            except VerificationError as problem:
                raise ConfigError(f"{which}: {problem}") from None
        merged = merge_manifests(Sides(manifests.get(ANCESTOR), manifests["ours"], manifests["theirs"]))
    except (ConfigError, VerificationError) as problem:
        out.note(
            f"{one_line(name)} is left in conflict: {one_line(str(problem))}\n"
            "merge the other files, `git add` them, then run `wcp-attest fix`"
        )
        return REFUSED
    write_file(ours, merged.to_bytes(), MANIFEST_KIND)
    return 0


def _merge_lines(out: Output, ours: str, base: str, theirs: str, name: str) -> int:
    """Merge another program's file as git does, with conflict markers where both sides changed the same lines."""
    from wcp_attest.advice.git_command import Git, deadline

    labels = ("-L", "ours", "-L", "base", "-L", "theirs")
    files = [os.path.abspath(path) for path in (ours, base, theirs)]  # not `-x`, which git would take for an option
    process = Git(None).start("merge-file", "--quiet", *labels, *files)
    with process, deadline(process):
        process.communicate()
    if process.returncode == 0:
        return 0
    said = "git merged it line by line and left conflicts in it"
    if not 0 < process.returncode <= MAX_CONFLICTS:  # a binary file, say
        said = "git cannot merge it line by line; it is left as it is"
    out.note(f"{one_line(name)} is another program's file; {said}")
    return REFUSED
