"""`--cache`: where `diff`, `check` and `fix` remember digests, if you ask for it. No other command uses it."""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.option_groups import READING, grouped
from wcp_attest.cli.shared_options import require_outside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from wcp_attest.advice.git_index import GitIndex
    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.cli.output import Output

VARIABLE = "WCP_ATTEST_CACHE"

option = grouped(
    READING,
    click.option(
        "--cache/--no-cache",
        default=None,
        help=f"Remember digests and hash only what changed; on when {VARIABLE} names a directory.",
    ),
)


class CacheChoice(NamedTuple):
    """Where digests are remembered, and how the user learns that this place cannot be used."""

    directory: str
    report: Callable[[str], None]


def cache_of(wanted: bool | None, out: Output, packages: Iterable[str]) -> CacheChoice | None:
    """Return the cache that the user asked for, if any.

    Args:
        wanted: what the command line says; None leaves it to `WCP_ATTEST_CACHE`.
        out: gets the message when the cache cannot be used.
        packages: directories that it must not lie in, because it would change them.

    Raises:
        ConfigError: it lies in a package, or there is no place for it.
    """
    named = os.environ.get(VARIABLE, "")
    if not (wanted or (wanted is None and named)):
        return None
    directory = os.path.abspath(named or _usual_place())
    for package in packages:
        require_outside(package, [directory], f"which it would change; name another place in {VARIABLE}")
    said: set[str] = set()

    def report(text: str) -> None:
        if text not in said:
            said.add(text)
            out.note(f"note: {text}")

    return CacheChoice(directory, report)


def remembered_blobs(
    cache: CacheChoice | None, index: GitIndex, package: str, algorithm: HashAlgorithm
) -> AbstractContextManager[None]:
    """Return a context in which an index knows the blobs that were hashed before; without a cache it does nothing.

    Args:
        cache: as the user asked for.
        index: of the package.
        package: path of the package's directory.
        algorithm: of the digests.
    """
    if cache is None:
        return nullcontext()
    from wcp_attest.advice.git_blobs import remembered

    return remembered(index, package, algorithm, cache=cache.directory, report=cache.report, now=time.time())


def _usual_place() -> str:
    if os.environ.get("XDG_CACHE_HOME"):
        return os.path.join(os.environ["XDG_CACHE_HOME"], "wcp-attest")
    if os.environ.get("HOME"):
        return os.path.join(os.environ["HOME"], ".cache", "wcp-attest")
    raise ConfigError(f"no place for the cache: set {VARIABLE} to a directory")
