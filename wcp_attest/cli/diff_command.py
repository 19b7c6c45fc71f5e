"""`wcp-attest diff`: how a tree differs from its manifest. It verifies nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import TreeMismatch
from wcp_attest.cli import cache_option, difference_text
from wcp_attest.cli.awp1 import refuse_awp1
from wcp_attest.cli.failure_report import REFUSED
from wcp_attest.cli.option_groups import GroupedCommand
from wcp_attest.cli.output import Counter, Output, progress_option, reporting
from wcp_attest.cli.shared_options import attestation_option, jobs_option, require_package, root_argument
from wcp_attest.cli.text import count

if TYPE_CHECKING:
    from wcp_attest.base.differences import Difference
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.package.manifest import Manifest

WARNING = "this verifies nothing: who changed the tree can change manifest.json, too; use `wcp-attest verify`"


@click.command(cls=GroupedCommand)
@root_argument
@attestation_option
@jobs_option
@progress_option
@cache_option.option
@difference_text.option
@reporting("text", "json")
def diff(
    out: Output,
    /,
    package: str,
    attestation: str | None,
    jobs: int | None,
    progress: bool | None,
    cache: bool | None,
    every: bool,
) -> int:
    """Compare the tree in ROOT with its manifest.json. No signature is checked, so this verifies nothing.

    Exit status 0: they agree. Exit status 1: they differ.
    """
    from wcp_attest.base.errors import ManifestMissing
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.placement import find_place
    from wcp_attest.package.manifest import MAX_MANIFEST_BYTES, Manifest

    require_package(package, out)
    place = find_place(package, attestation)
    if place.placement == "beside":
        refuse_awp1(package)
    remembered = cache_option.cache_of(cache, out, [package])
    data = read_bounded(
        place.manifest,
        limit=MAX_MANIFEST_BYTES,
        what="the manifest",
        missing=ManifestMissing,
        follow=place.placement == "detached",
    )
    # With a cache every entry is looked up by its path anyway, so the manifest is checked there.
    manifest = Manifest.from_bytes(data) if remembered is None else Manifest.parse(data)
    found: tuple[Difference, ...] = ()
    total = 0
    with Counter(progress, quiet=out.quiet) as counter:
        try:
            options = ReadOptions(jobs=jobs, progress=counter.callback, placement=place.placement)
            _compare(package, manifest, remembered, options)
        except TreeMismatch as mismatch:
            found, total = mismatch.differences, mismatch.total
    if out.format == "json":
        out.deliver_json(
            "diff",
            {
                "root": package,
                "verified": False,
                "same": total == 0,
                "differences": difference_text.as_json(found),
                "differences_total": total,
            },
        )
    else:
        summary = f"{count(total, 'difference')}" if total else f"no difference in {count(manifest.count, 'entry')}"
        out.decide(f"{package}: {summary}\n{difference_text.as_text(found, total, out.paint, every=every)}")
    out.note(WARNING)
    return REFUSED if total else 0


def _compare(package: str, manifest: Manifest, cache: cache_option.CacheChoice | None, options: ReadOptions) -> None:
    """Raise `TreeMismatch` when the tree differs."""
    if cache is None:
        from wcp_attest.disk.check_tree import check_tree

        check_tree(package, manifest, options=options)
        return
    from wcp_attest.advice.cached_diff import compare_tree

    compare_tree(package, manifest, cache=cache.directory, report=cache.report, options=options)
