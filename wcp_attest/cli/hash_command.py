"""`wcp-attest hash`: the package hash of a tree, without writing anything."""

from __future__ import annotations

from typing import Literal

import click

from wcp_attest.cli.manifest_plan import unmatched_note
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Counter, Output, progress_option, reporting
from wcp_attest.cli.shared_options import jobs_option, require_package, root_argument


@click.command("hash", cls=GroupedCommand)
@root_argument
@grouped(
    "What is hashed",
    click.option("--algorithm", type=click.Choice(["sha256", "blake3"]), default="sha256", show_default=True),
    click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave out what a gitignore pattern matches."),
    click.option("--list", "listing", is_flag=True, help="List every entry, too."),
)
@jobs_option
@progress_option
@reporting("text", "json")
def hash_(
    out: Output,
    /,
    package: str,
    algorithm: Literal["sha256", "blake3"],
    exclude: tuple[str, ...],
    listing: bool,
    jobs: int | None,
    progress: bool | None,
) -> None:
    """Print the package hash of the tree in ROOT. It is computed, not verified.

    Names, sizes and contents of all files go into it. The entries of --list are those of the manifest that
    `wcp-attest build` would write.
    """
    from wcp_attest.build import exclude_patterns
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.read_tree import read_tree

    require_package(package, out)
    with Counter(progress, quiet=out.quiet, package=package) as counter:
        options = ReadOptions(jobs=jobs, progress=counter.callback)
        patterns = exclude_patterns(package, exclude)
        reading = read_tree(package, algorithm=algorithm, excludes=patterns, options=options)
    if unmatched := [pattern for pattern in exclude if pattern in reading.unmatched]:
        out.note(unmatched_note(unmatched))
    left = [f"what {', '.join(map(repr, reading.excluded))} excludes"] if reading.excluded else []
    if reading.bytecode_left:
        left.append("bytecode")
    if left:
        out.note(
            f"not in this hash: {' and '.join(left)}; to compare a tree with a signed manifest, use `wcp-attest verify`"
            " or `wcp-attest diff`"
        )
    lines = [line.decode() for line in reading.lines] if listing else []
    if out.format == "json":
        out.deliver_json(
            "hash",
            {
                "root": package,
                "hash_algorithm": algorithm,
                "package_hash": reading.package_hash,
                "files": reading.files,
                "bytes": reading.size,
                "excludes": [*reading.excluded],
                "entries": [*lines] if listing else None,
            },
        )
        return
    out.deliver("".join(f"{line}\n" for line in (*lines, f"{algorithm}:{reading.package_hash}")))
