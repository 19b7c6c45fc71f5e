"""`wcp-attest fix`: make the manifests of the next commit match their files."""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.failure_report import REFUSED
from wcp_attest.cli.option_groups import GroupedCommand
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.shared_options import as_argument
from wcp_attest.cli.staged_manifests import FOREIGN, checking_arguments, renewals, targets
from wcp_attest.cli.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.cli.staged_manifests import Renewal

MAX_NAMED = 3  # files with edits that are not staged


@click.command(cls=GroupedCommand)
@checking_arguments
@click.option("--add", is_flag=True, help="Stage the manifests that were written, too.")
@reporting("text")
def fix(out: Output, packages: tuple[str, ...], file: str | None, cache: bool | None, add: bool) -> int:
    """Rebuild stale manifests from the git index and write them into the work tree.

    A manifest that a merge left in conflict is resolved from the index, once all other files are merged. Nothing is
    signed, and without --add nothing is staged.

    Exit status 0: every staged manifest is up to date, or was made so with --add. Exit status 1: a manifest was
    written; stage it with `git add`.
    """
    found = renewals(targets(packages, file), cache, out, time.time())
    for renewal in found:
        _check(renewal)
    written = [renewal for renewal in found if renewal.data is not None]
    for renewal in written:
        _write(renewal)
    if add:
        from wcp_attest.advice.git_index import GitIndex

        for renewal in written:
            with GitIndex.open(renewal.directory, resolve=True) as index:
                index.stage(renewal.examination.place, renewal.data or b"")
    _note(out, found)
    if not written:
        out.note("every manifest is up to date")
        return 0
    text = "".join(f"REWROTE  {_manifest(renewal)}\n" for renewal in written)
    if not add:
        force = " -f" if any(renewal.examination.ignored for renewal in written) else ""
        places = shlex.join(as_argument(_manifest(renewal)) for renewal in written)
        text += f"to commit them:\n  git add{force} {places}\n"
    out.decide(text)
    return 0 if add else REFUSED


def _manifest(renewal: Renewal) -> str:
    return os.path.join(renewal.directory, renewal.examination.place)


def _check(renewal: Renewal) -> None:
    """Check that the manifest of a package can be written, before that of any package is.

    Raises:
        ConfigError: it cannot be, or must not: another program's file stands at its place.
    """
    from wcp_attest.build import MANIFEST_KIND
    from wcp_attest.disk.overwrite import check_place

    examination, directory = renewal.examination, renewal.directory
    if examination.ok:
        return
    if FOREIGN in examination.problems:
        raise ConfigError(f"{directory}: {FOREIGN}")
    if renewal.data is None:
        raise ConfigError(f"{directory}: no manifest can describe what is staged: " + "; ".join(examination.problems))
    if not os.path.isdir(directory):
        raise ConfigError(
            f"{directory!r} is in the index but not in the work tree; restore it first: `git restore"
            f" {shlex.quote(as_argument(directory))}`, or `git sparse-checkout add` in a sparse checkout"
        )
    place = _manifest(renewal)
    folder = os.path.dirname(place)
    check_place(place if os.path.lexists(folder) else folder, MANIFEST_KIND)  # a folder that is missing will be made


def _write(renewal: Renewal) -> None:
    from wcp_attest.build import MANIFEST_KIND
    from wcp_attest.disk.overwrite import only_writer, write_file

    os.makedirs(os.path.dirname(_manifest(renewal)) or os.curdir, exist_ok=True)
    with only_writer(renewal.directory):
        write_file(_manifest(renewal), renewal.data or b"", MANIFEST_KIND)


def _note(out: Output, found: Sequence[Renewal]) -> None:
    for renewal in found:
        if renewal.edited:
            names = ", ".join(renewal.edited[:MAX_NAMED])
            out.note(
                f"note: {renewal.directory}: {count(len(renewal.edited), 'file')} with edits that are not staged"
                f" ({names}); to include them, `git add -u {shlex.quote(as_argument(renewal.directory))}` first"
            )
        if renewal.signatures_in_conflict:
            out.note(
                f"note: {renewal.directory}: manifest.sig is in conflict, and neither side signs the new manifest;"
                " remove it with `git rm` and sign again before the release"
            )
