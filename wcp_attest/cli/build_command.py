"""`wcp-attest build`: write the manifest of a package."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

import click

from wcp_attest.base.errors import ConfigError, SigningError
from wcp_attest.cli import manifest_plan, secrets
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Counter, Output, progress_option, reporting
from wcp_attest.cli.shared_options import (
    jobs_option,
    output_place,
    placement_options,
    require_outside,
    require_package,
    root_argument,
)
from wcp_attest.cli.text import count

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.placement import PairPlace, Placement
    from wcp_attest.package.manifest import Manifest
    from wcp_attest.signing.hmac import HmacSecret


@click.command(cls=GroupedCommand)
@root_argument
@manifest_plan.build_options
@grouped(
    "Schema awp.v1",
    click.option(
        "--schema",
        type=click.Choice(["awp.v2", "awp.v1"]),
        default="awp.v2",
        show_default=True,
        help="awp.v1 is for earlier verifiers; it carries its signature inside and needs --hmac or --hmac-file.",
    ),
    click.option("--hmac", is_flag=True, help=f"For awp.v1: the shared secret in {secrets.HMAC_VARIABLE}."),
    click.option("--hmac-file", type=click.Path(), metavar="FILE", help="For awp.v1: a shared secret in a file."),
    click.option(
        "--order",
        type=click.Choice(["bytes", "parts"]),
        help="For awp.v1, where the earlier verifiers disagree: the order of the Go or of the Python one.",
    ),
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
    flags = manifest_plan.BuildFlags(**identity)
    if schema == "awp.v1":
        if hmac == (hmac_file is not None):
            raise click.UsageError("--schema awp.v1 needs exactly one of --hmac and --hmac-file")
    elif hmac or hmac_file or order:
        raise click.UsageError("--hmac, --hmac-file and --order belong to --schema awp.v1; `wcp-attest sign` signs")
    require_outside(package, (hmac_file,), "where it would be shipped with it; keep secrets elsewhere")
    existing = manifest_plan.existing_manifest(place)
    plan = manifest_plan.plan_of(flags, package, existing, out)
    with only_writer(package), Counter(progress, quiet=out.quiet, package=package) as counter:
        options = ReadOptions(jobs=jobs, progress=counter.callback, placement=place.placement)
        if schema == "awp.v1":
            secret = secrets.hmac_secrets(hmac, () if hmac_file is None else (hmac_file,))[0]
            _build_awp1(out, package, plan, secret, order, options)
            return
        _build(out, package, plan, existing, options, place)


def _build(
    out: Output,
    package: str,
    plan: manifest_plan.Plan,
    existing: Manifest | None,
    options: ReadOptions,
    place: PairPlace,
) -> None:
    from wcp_attest.base.digest import sha256_hex
    from wcp_attest.build import write_manifest
    from wcp_attest.package.manifest import SCHEMA, SIGNATURE_NAME

    manifest = manifest_plan.build(package, plan, existing, options, out)
    manifest_plan.note_lfs_pointers(package, manifest, out)
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
                **manifest_plan.manifest_json(manifest),
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


def _build_awp1(
    out: Output,
    package: str,
    plan: manifest_plan.Plan,
    secret: HmacSecret,
    order: Literal["bytes", "parts"] | None,
    options: ReadOptions,
) -> None:
    """Build, write and verify a manifest of schema `awp.v1`; a `manifest.sig` that stands there is removed.

    Raises:
        ConfigError: the plan asks for what the schema cannot say, or the file cannot be written.
        SigningError: what was written does not verify.
    """
    from wcp_attest import Accept, Namespace, Policy, verify
    from wcp_attest.base.identity import namespace_of
    from wcp_attest.build import MANIFEST_KIND, output_place
    from wcp_attest.disk.overwrite import only_writer, write_file
    from wcp_attest.legacy_tree import build
    from wcp_attest.package.manifest import MANIFEST_NAME, SIGNATURE_NAME

    _refuse_unsayable(plan)
    data = build(
        package,
        worker_id=plan.worker_id,
        worker_species_id=plan.species_id,
        worker_version=plan.worker_version,
        secret=secret,
        build_source=plan.build_source,
        built_at=plan.built_at,
        order=order,
        options=options,
    )
    path, signatures = os.path.join(package, MANIFEST_NAME), os.path.join(package, SIGNATURE_NAME)
    with only_writer(package):
        output_place(package, "beside")
        write_file(path, data, MANIFEST_KIND)
        removed = os.path.lexists(signatures)
        if removed:
            os.unlink(signatures)
    if removed:
        out.note(f"removed {SIGNATURE_NAME}, which does not cover the new manifest")
    policy = Policy((Namespace(namespace_of(plan.worker_id), (secret,)),), accept=Accept(schemas=("awp.v1",)))
    verdict = verify(package, policy, options=options)
    if verdict.verified is None:
        raise SigningError(f"what was written does not verify: {verdict.message}")
    if out.format == "json":
        package_hash = verdict.verified.package_hash
        result: JsonObject = {"root": package, "manifest": path, "changed": True, "package_hash": package_hash}
        out.deliver_json("build-result", {**result, "manifest_schema": "awp.v1"})
        return
    out.decide(f"{out.paint('good', 'BUILT')}  {path}  (schema awp.v1)\n  {verdict.verified.trust_statement}\n")


def _refuse_unsayable(plan: manifest_plan.Plan) -> None:
    said = {
        "--algorithm blake3": plan.algorithm != "sha256",
        "--exclude": bool(plan.excludes),
        "--bytecode": plan.bytecode != "leave",
        "--ai-*": plan.ai is not None,
        "--source-*": plan.source is not None,
    }
    for option, given in said.items():
        if given:
            raise ConfigError(
                f"schema awp.v1 cannot say {option}; use --schema awp.v2, or --fresh to take nothing over"
            )
