"""Options and arguments that several commands share."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.option_groups import READING, combine, grouped
from wcp_attest.cli.output import Misplaced

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest.cli.output import Output
    from wcp_attest.disk.placement import PairPlace, Placement

PAIR = "Place of manifest.json and manifest.sig"
root_argument = click.argument("package", metavar="ROOT", type=click.Path())
attestation_option = grouped(
    PAIR,
    click.option(
        "--attestation",
        metavar="DIR",
        type=click.Path(),
        help="The directory of manifest.json and manifest.sig, when they lie outside of the package.",
    ),
)
jobs_option = grouped(
    READING,
    click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1, 256),
        metavar="N",
        help="Parallel hashing processes (default: automatic).",
    ),
)
archive_options = grouped(
    "Archive",
    click.option("--max-size", type=click.IntRange(1), metavar="BYTES", help="How far an archive may expand."),
    click.option(
        "--provenance",
        metavar="FILE",
        type=click.Path(),
        help="The build provenance of the archive, where the policy asks for one; by default it stands beside it.",
    ),
)
placement_options = combine(
    grouped(
        PAIR,
        click.option(
            "--placement",
            type=click.Choice(["beside", "folder", "detached"]),
            help="Where the two files go: in ROOT, in ROOT/.wcp/, or in --attestation DIR. By default in ROOT, and in"
            " .wcp/ when another program's file has one of the two names.",
        ),
    ),
    attestation_option,
)


def output_place(package: str, placement: Placement | None, attestation: str | None, out: Output) -> PairPlace:
    """Return where a command writes `manifest.json` and `manifest.sig`, and say so when that is not the root.

    Raises:
        ConfigError: nothing may be written there.
    """
    from wcp_attest.build import output_place as chosen

    place = chosen(package, placement, attestation)
    if placement is None and place.placement == "folder" and not os.path.lexists(place.manifest):
        out.note("the root holds another program's manifest.json or manifest.sig: the pair goes into .wcp/")
    return place


def as_argument(path: str) -> str:
    """Return a path so that a command line does not read it as an option."""
    return f"./{path}" if path.startswith("-") else path


def require_outside(
    package: str, paths: Iterable[str | None], why: str, *, error: type[ConfigError] = ConfigError
) -> None:
    """Refuse files inside the package that do not belong there.

    Args:
        package: the package directory.
        paths: files that the command line names; None is none.
        why: what would come of it, for the message.
        error: what to raise.

    Raises:
        ConfigError: `error`, when one of them lies inside the package.
    """
    root = os.path.realpath(package)
    for path in paths:
        if path is not None and os.path.commonpath([root, os.path.realpath(path)]) == root:
            raise error(f"{path!r} lies inside the package, {why}")


def require_package(path: str, out: Output) -> None:
    """Check that a package can be read here, is a directory and not a link to one, and that no result goes into it.

    All commands look at the same tree, and writing a result must not change a tree that was just signed or verified.

    Raises:
        ConfigError: it is something else, or is not there, or the result would change it.
    """
    if os.open not in os.supports_dir_fd:
        raise ConfigError("packages are read on Linux and macOS only: this system has no directory descriptors")
    _require_directory(path)
    require_result_outside(path, out)


def require_result_outside(package: str, out: Output) -> None:
    """Refuse to write the result into the package, which that would change.

    Raises:
        ConfigError: it would be written there.
    """
    why = "which writing the result there would change; name another place"
    require_outside(package, [out.file], why, error=Misplaced)


def _require_directory(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError) as error:
        from wcp_attest.disk.directory import describe_os_error

        raise ConfigError(f"cannot open the package directory {path!r}: {describe_os_error(error)}") from None
    if stat.S_ISLNK(mode):
        raise ConfigError(f"{path!r} is a symbolic link; give the package directory itself")
    if not stat.S_ISDIR(mode):
        raise ConfigError(f"{path!r} is not a directory; give the directory that holds the package")
