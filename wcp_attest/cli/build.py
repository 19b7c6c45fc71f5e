"""`wcp-attest build`: write the manifest of a package."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import click

from wcp_attest.cli import building, secrets
from wcp_attest.cli.options import (
    jobs_option,
    output_place,
    placement_options,
    require_outside,
    require_package,
    root_argument,
)
from wcp_attest.cli.output import Counter, Output, progress_option, reporting
from wcp_attest.cli.text import count

if TYPE_CHECKING:
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.placement import PairPlace, Placement
    from wcp_attest.package.manifest import Manifest


@click.command()
@root_argument
@building.build_options
@click.option(
    "--schema",
    type=click.Choice(["awp.v2", "awp.v1"]),
    default="awp.v2",
    show_default=True,
    help="awp.v1 is for earlier verifiers; it carries its signature inside and needs --hmac or --hmac-file.",
)
@click.option("--hmac", is_flag=True, help=f"For awp.v1: the shared secret in {secrets.HMAC_VARIABLE}.")
@click.option("--hmac-file", type=click.Path(), metavar="FILE", help="For awp.v1: a shared secret in a file.")
@click.option(
    "--order",
    type=click.Choice(["bytes", "parts"]),
    help="For awp.v1, where the earlier verifiers disagree: the order of the Go or of the Python one.",
)
@placement_options
@jobs_option
@progress_option
@reporting("text", "json")
def build(
    out: Output,
    /,
    package: str,
    placement: Placement | None,
    attestation: str | None,
    schema: str,
    hmac: bool,
    hmac_file: str | None,
    order: Literal["bytes", "parts"] | None,
    jobs: int | None,
    progress: bool | None,
    **identity: Any,
) -> None:
    """Write ROOT/manifest.json: what is in the package, and who it says it is.

    What the options leave out is taken from the existing manifest.json, so that a rebuild needs no options. When only
    the time would change, the file is left as it is. A manifest proves nothing before it is signed.

    \b
      wcp-attest build my-worker --worker-id org.acme.summarizer \\
        --species-id wrk.doc.summarizer --worker-version 1.4.0
    """
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.overwrite import only_writer

    require_package(package, out)
    if schema == "awp.v1" and (attestation is not None or placement not in {None, "beside"}):
        raise click.UsageError("a manifest of schema awp.v1 lies in ROOT; --placement and --attestation are for awp.v2")
    place = output_place(package, "beside" if schema == "awp.v1" else placement, attestation, out)
    flags = building.BuildFlags(**identity)
    if schema == "awp.v2" and (hmac or hmac_file or order):
        raise click.UsageError("--hmac, --hmac-file and --order belong to --schema awp.v1; `wcp-attest sign` signs")
    if schema == "awp.v1" and hmac == (hmac_file is not None):
        raise click.UsageError("--schema awp.v1 needs exactly one of --hmac and --hmac-file")
    require_outside(package, (hmac_file,), "where it would be shipped with it; keep secrets elsewhere")
    existing = building.existing_manifest(place)
    plan = building.plan_of(flags, package, existing, out)
    with only_writer(package), Counter(progress, quiet=out.quiet) as counter:
        options = ReadOptions(jobs=jobs, progress=counter.callback, placement=place.placement)
        if schema == "awp.v1":
            from wcp_attest.cli.awp1 import build_awp1

            secret = secrets.hmac_secrets(hmac, () if hmac_file is None else (hmac_file,))[0]
            build_awp1(out, package, plan, secret, order, options)
            return
        _build(out, package, plan, existing, options, place)


def _build(
    out: Output,
    package: str,
    plan: building.Plan,
    existing: Manifest | None,
    options: ReadOptions,
    place: PairPlace,
) -> None:
    from wcp_attest.base.digest import sha256_hex
    from wcp_attest.build import write_manifest
    from wcp_attest.package.manifest import SCHEMA, SIGNATURE_NAME

    manifest = building.build(package, plan, existing, options, out)
    building.note_lfs_pointers(package, manifest, out)
    changed = manifest is not existing
    path = write_manifest(package, manifest, place=place) if changed else place.manifest
    if out.format == "json":
        out.deliver_json(
            "build-result",
            {
                "root": package,
                "manifest": path,
                "changed": changed,
                "manifest_schema": SCHEMA,
                "manifest_sha256": sha256_hex(manifest.to_bytes()),
                **building.manifest_json(manifest),
            },
        )
        return
    out.decide(
        f"{out.paint('good', 'BUILT' if changed else 'UP TO DATE')}  {path}\n"
        f"  {manifest.worker_id} {manifest.worker_version} ({manifest.worker_species_id})\n"
        f"  {count(manifest.count, 'entry')}, package hash {manifest.hash_algorithm}:{manifest.package_hash}\n"
    )
    if manifest.excludes:
        out.note(f"left out, and recorded as excluded: {', '.join(map(repr, manifest.excludes))}")
    if changed and os.path.lexists(place.signatures):
        out.note(f"the signatures in {SIGNATURE_NAME} do not cover the new manifest; sign it again")
