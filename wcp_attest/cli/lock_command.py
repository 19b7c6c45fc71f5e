"""`wcp-attest lock`: pin the packages that a project loads."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.failure_report import REFUSED
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Counter, Output, progress_option, reporting
from wcp_attest.cli.shared_options import jobs_option
from wcp_attest.cli.text import count, one_line
from wcp_attest.cli.trust import TrustFlags, policy_of, trust_options
from wcp_attest.cli.verdicts import exit_status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.strictjson import JsonValue
    from wcp_attest.lock import LockChange, Observed
    from wcp_attest.package.lock_file import LockedPackage

LOCK_NAME: Final = "wcp.lock"


@click.command(cls=GroupedCommand)
@click.argument("packages", metavar="[DIR]...", nargs=-1, type=click.Path())
@grouped(
    "Lock file",
    click.option(
        "-o",
        "--lock-file",
        metavar="FILE",
        type=click.Path(),
        default=LOCK_NAME,
        show_default=True,
        help="The lock file.",
    ),
    click.option("--check", "checking", is_flag=True, help="Change nothing; status 1 when something differs."),
    click.option("--upgrade", is_flag=True, help="Show what changed in locked packages, then lock it as it stands."),
    click.option("--dry-run", is_flag=True, help="With --upgrade: show what would change, and write nothing."),
)
@trust_options
@jobs_option
@progress_option
@reporting("text", "json", to_file=False)
def lock(  # a command's parameters are its options
    out: Output,
    /,
    packages: tuple[str, ...],
    lock_file: str,
    checking: bool,
    upgrade: bool,
    dry_run: bool,
    jobs: int | None,
    progress: bool | None,
    **trust: Any,
) -> int:
    """Pin digest, version and signer of each package that a project loads, in wcp.lock.

    Only packages that verify under your policy are locked. Without DIR, all packages in the lock file are checked.

    \b
      wcp-attest lock skills/pdf-forms plugins/reports --policy policy.toml
      wcp-attest lock --check --policy policy.toml          in CI, or as a pre-commit hook
      wcp-attest lock --upgrade --policy policy.toml        after a package was replaced on purpose
    """
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.overwrite import OutputKind, check_place, check_unchanged, only_writer, write_file
    from wcp_attest.lock import changes_of, observe, refused_of
    from wcp_attest.package.lock_file import MAX_LOCK_BYTES, render_lock

    if checking and (packages or upgrade):
        raise click.UsageError("--check looks at what is locked; give neither DIR nor --upgrade with it")
    if dry_run and not upgrade:
        raise click.UsageError("--dry-run goes with --upgrade")
    place = os.path.abspath(lock_file)
    folder = os.path.dirname(place)
    kind = OutputKind("a lock file of wcp-attest", _is_lock, limit=MAX_LOCK_BYTES)
    if not checking:
        check_place(place, kind)
    before, locked = _locked_before(place, lock_file, packages)
    policy = policy_of(TrustFlags(**trust))
    given = [_relative(package, folder) for package in packages]
    paths = list(dict.fromkeys([*(package.path for package in locked), *given]))
    with Counter(progress, quiet=out.quiet) as counter:
        found = observe(folder, paths, policy, ReadOptions(jobs=jobs, progress=counter.callback))
    changes = changes_of(locked, found)
    refused = refused_of(changes, found, upgrade=upgrade)
    data = render_lock(tuple(one.package for one in found if one.package is not None))
    if not refused and not checking and not dry_run and data != before:
        with only_writer(folder):
            check_unchanged(place, before)
            write_file(place, data, kind)
    _report(out, lock_file, changes, refused, found)
    # Of several statuses the highest counts: what could not be decided, before what is refused.
    return max(REFUSED, *(exit_status(one.verdict) for one in found)) if refused else 0


def _locked_before(
    place: str, lock_file: str, packages: Sequence[str]
) -> tuple[bytes | None, tuple[LockedPackage, ...]]:
    """Return the bytes of the lock file, None when there is none, and what it locks.

    Raises:
        ConfigError: it cannot be read or is malformed, or it locks nothing and no package is named either.
    """
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.package.lock_file import MAX_LOCK_BYTES, parse_lock

    data = None
    if os.path.lexists(place):
        data = read_bounded(place, limit=MAX_LOCK_BYTES, what="lock file")
    locked = () if data is None else parse_lock(data, lock_file)
    if not locked and not packages:
        raise ConfigError(f"there is no {lock_file!r} that locks anything; name the directories to lock")
    return data, locked


def _is_lock(data: bytes) -> bool:
    from wcp_attest.package.lock_file import parse_lock

    try:
        parse_lock(data, LOCK_NAME)
    except ConfigError:
        return False
    return True


def _report(
    out: Output, lock_file: str, changes: Sequence[LockChange], refused: Sequence[LockChange], found: Sequence[Observed]
) -> None:
    if out.format == "json":
        rows: list[JsonValue] = [
            {"path": change.path, "change": change.kind, "before": change.before, "after": change.after}
            for change in changes
        ]
        out.deliver_json(
            "lock-result",
            {"ok": not refused, "lock_file": lock_file, "packages": len(found), "changes": rows},
        )
        return
    head = out.paint("bad", "STALE") if refused else out.paint("good", "LOCKED")
    lines = [f"{head}  {one_line(lock_file)}: {count(len(found), 'package')}\n"]
    lines += [f"  {one_line(str(change))}\n" for change in changes]
    out.decide("".join(lines))
    if refused and all(change.kind not in {"refused", "unsigned"} for change in refused):
        out.note("if the changes are meant, `wcp-attest lock --upgrade` locks the packages as they stand")


def _relative(package: str, folder: str) -> str:
    from wcp_attest.package.entries import path_problem

    path = os.path.relpath(os.path.abspath(package), folder)
    if path == ".." or path.startswith("../"):
        raise ConfigError(
            f"{package!r} is outside the directory of the lock file; put the lock file above all packages"
        )
    problem = None if path == os.curdir else path_problem(path)
    if problem is not None:  # no lock file with such a path could be read
        raise ConfigError(f"the path {path!r} {problem}; rename the directory")
    return path
