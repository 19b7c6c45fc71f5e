"""`wcp-attest fix`: make the manifest of the next commit true."""

from __future__ import annotations

import os
import time

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.failures import REFUSED
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.staging import FOREIGN, Examination, examine_all, renewed, staging_arguments, targets


@click.command()
@staging_arguments
@reporting("text")
def fix(out: Output, packages: tuple[str, ...], file: str | None, cache: bool | None) -> int:
    """Rebuild stale manifests from the git index and write them into the work tree.

    Nothing is staged and nothing signed. Exit status 1 says that a manifest was written and wants `git add`, 0 that
    every one in the index was up to date.
    """
    from wcp_attest.build import write_manifest

    examinations = examine_all(targets(packages, file), cache, out)
    stale = [examination for examination in examinations if not examination.ok]
    for examination in stale:
        _check(examination)
    for examination in stale:
        write_manifest(examination.target.directory, renewed(examination, time.time()))
    written = [os.path.join(examination.target.directory, "manifest.json") for examination in stale]
    if not written:
        out.note("every manifest is up to date")
        return 0
    import shlex

    out.decide(
        "".join(f"REWROTE  {path}\n" for path in written) + f"to commit them:\n  git add {shlex.join(written)}\n"
    )
    return REFUSED


def _check(examination: Examination) -> None:
    """Check that the manifest of a package can be written, before that of any package is.

    Raises:
        ConfigError: it cannot be, or must not: another program's file stands at its place.
    """
    from wcp_attest.build import MANIFEST_KIND
    from wcp_attest.disk.overwrite import check_place

    directory = examination.target.directory
    if FOREIGN in examination.problems:
        raise ConfigError(f"{directory}: {FOREIGN}")
    if examination.expected is None:
        raise ConfigError(f"{directory}: no manifest can describe what is staged: " + "; ".join(examination.problems))
    if not os.path.isdir(directory):
        raise ConfigError(f"{directory!r} is in the index but not in the work tree; restore it first")
    check_place(os.path.join(directory, "manifest.json"), MANIFEST_KIND)
