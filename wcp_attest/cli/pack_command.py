"""`wcp-attest pack` and `wcp-attest unpack`: a package as one file, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from wcp_attest.cli import verdicts
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Counter, Output, progress_option, reporting
from wcp_attest.cli.shared_options import (
    archive_options,
    attestation_option,
    jobs_option,
    require_outside,
    require_package,
    root_argument,
)
from wcp_attest.cli.text import count, one_line
from wcp_attest.cli.trust import TrustFlags, policy_of, trust_options

if TYPE_CHECKING:
    from wcp_attest.verdict import Verified


@click.command(cls=GroupedCommand)
@root_argument
@grouped(
    "Archive",
    click.option(
        "-o",
        "--archive",
        metavar="FILE",
        type=click.Path(),
        required=True,
        help="The file to write: .tar, .tar.gz, .tgz, .zip or .mcpb. It must not exist.",
    ),
)
@attestation_option
@jobs_option
@progress_option
@reporting("text", "json", to_file=False)
def pack(
    out: Output,
    /,
    package: str,
    archive: str,
    attestation: str | None,
    jobs: int | None,
    progress: bool | None,
) -> None:
    """Write the signed package in ROOT as one archive.

    The tree is compared with its manifest while it is read. The archive holds what the manifest lists and the
    signatures, nothing else. The same package gives the same bytes on every machine with the same zlib.

    \b
      wcp-attest pack my-worker -o my-worker-1.4.0.tar.gz
    """
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.pack import pack as pack_package

    require_package(package, out)
    require_outside(package, [archive], "which writing it there would change; name another place")
    with Counter(progress, quiet=out.quiet) as counter:
        reading = ReadOptions(jobs=jobs, progress=counter.callback)
        packed = pack_package(package, archive, attestation=attestation, options=reading)
    manifest = packed.manifest
    if out.format == "json":
        out.deliver_json(
            "pack-result",
            {
                "ok": True,
                "root": package,
                "archive": packed.path,
                "format": packed.kind,
                "bytes": packed.size,
                "worker_id": manifest.worker_id,
                "worker_version": manifest.worker_version,
                "package_hash": manifest.package_hash,
                "entries": manifest.count,
            },
        )
        return
    out.decide(
        f"{out.paint('good', 'PACKED')}  {one_line(packed.path)}\n"
        f"  worker     {manifest.worker_id} {manifest.worker_version}\n"
        f"  contents   {count(manifest.count, 'entry')}, {count(packed.size, 'byte')} as {packed.kind}\n"
    )


@click.command(cls=GroupedCommand)
@click.argument("archive", metavar="FILE", type=click.Path())
@click.argument("directory", metavar="DIR", type=click.Path())
@trust_options
@archive_options
@jobs_option
@progress_option
@reporting("text", "json")
def unpack(
    out: Output,
    /,
    archive: str,
    directory: str,
    provenance: str | None,
    max_size: int | None,
    jobs: int | None,
    progress: bool | None,
    **trust: Any,
) -> int:
    """Unpack FILE into the new directory DIR, which appears only when the package in it is verified.

    FILE is a tar, tar.gz or zip archive with a signed package in it, at its root or in its only folder. Entries that
    could leave the directory, hide, or expand without end are refused by name. Exit statuses are those of `verify`.

    \b
      wcp-attest unpack my-worker-1.4.0.tar.gz /srv/my-worker --policy policy.toml
    """
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.pack import unpack as unpack_archive
    from wcp_attest.verdict import Expectation, judge

    flags = TrustFlags(**trust)
    policy = policy_of(flags, out)
    with Counter(progress, quiet=out.quiet) as counter:
        reading = ReadOptions(jobs=jobs, progress=counter.callback)

        def attempt() -> Verified:
            expect = Expectation(flags.worker_id, flags.species_id)
            return unpack_archive(
                archive, directory, policy, provenance=provenance, expect=expect, options=reading, max_bytes=max_size
            )

        verdict = judge(attempt)
    if out.format == "json":
        out.deliver_json("verify-result", verdict.to_dict(archive))
    else:
        out.decide(verdicts.as_text(verdict, archive, out.paint))
    if verdict.ok:
        out.note(f"unpacked what was verified into {directory}")
    return verdicts.exit_status(verdict)
