"""`wcp-attest sign`: sign a package, building its manifest where that is needed."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import TreeMismatch, TreeUnsafe
from wcp_attest.cli import manifest_plan
from wcp_attest.cli.awp1 import refuse_awp1
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Counter, Output, progress_option, reporting
from wcp_attest.cli.shared_options import (
    as_argument,
    jobs_option,
    output_place,
    placement_options,
    require_outside,
    require_package,
    root_argument,
)
from wcp_attest.cli.signers import SignerFlags, check_bundle_path, is_file, signer_options, signers_of, write_bundle
from wcp_attest.cli.text import count, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.placement import PairPlace, Placement
    from wcp_attest.package.manifest import Manifest
    from wcp_attest.sign_package import SignResult
    from wcp_attest.signing import Signer

_SIGNER_NAMES = SignerFlags._fields


@click.command(cls=GroupedCommand)
@root_argument
@signer_options
@manifest_plan.build_options
@placement_options
@grouped(
    "Contents of the manifest",
    click.option(
        "--hf-snapshot",
        metavar="DIR",
        type=click.Path(),
        help="ROOT is a snapshot in the Hugging Face cache: copy it to the new DIR, links followed, and sign the copy.",
    ),
)
@jobs_option
@progress_option
@reporting("text", "json")
def sign(
    out: Output,
    /,
    package: str,
    placement: Placement | None,
    attestation: str | None,
    hf_snapshot: str | None,
    jobs: int | None,
    progress: bool | None,
    **options: Any,
) -> None:
    """Sign the package in ROOT and check what was written.

    The manifest.json that stands there is signed as it is, so that a further signature joins those before; the same
    signer's earlier signature is replaced. The manifest is built when there is none, or when options say what it
    should say. A tree that no longer matches its manifest is not signed: look at the differences, then build.

    \b
      wcp-attest sign my-worker --key acme.key --worker-id org.acme.summarizer \\
        --species-id wrk.doc.summarizer --worker-version 1.4.0
      wcp-attest sign my-worker --key second.key
      wcp-attest sign my-worker --sigstore --bundle-out my-worker.sigstore.json
    """
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.overwrite import only_writer

    signing = SignerFlags(**{name: options.pop(name) for name in _SIGNER_NAMES})
    flags = manifest_plan.BuildFlags(**options)
    require_package(package, out)
    if hf_snapshot is not None:
        flags = _copy_snapshot(out, package, hf_snapshot, flags)
        package = hf_snapshot
    place = output_place(package, placement, attestation, out)
    check_bundle_path(signing.bundle_out, package)
    token = None if signing.identity_token in {"-", "env"} else signing.identity_token
    secret_files = (*filter(is_file, signing.key), *signing.hmac_file, signing.passphrase_file, token)
    require_outside(package, secret_files, "where it would be shipped with it; keep secrets elsewhere")
    if signing.sigstore and signing.trust_config is None:
        from wcp_attest.signing.sigstore.trusted_root import public_root_folders

        kept = "where the copy of Sigstore's public root would be kept; set HOME or XDG_DATA_HOME and XDG_CACHE_HOME"
        require_outside(package, public_root_folders(), kept)
    signers = signers_of(signing)
    with only_writer(package), Counter(progress, quiet=out.quiet, package=package) as counter:
        reading = ReadOptions(jobs=jobs, progress=counter.callback, placement=place.placement)
        manifest = _manifest(out, package, flags, reading, place)
        result = _sign(package, signers, manifest, reading, attestation)
    if signing.bundle_out is not None:
        write_bundle(signing.bundle_out, result.lines)
    manifest_plan.note_lfs_pointers(package, result.manifest, out)
    _report(out, package, result, verify_command(package, result, signing))


def _manifest(
    out: Output, package: str, flags: manifest_plan.BuildFlags, options: ReadOptions, place: PairPlace
) -> Manifest | None:
    """Return the manifest to write and sign, or None for the one that stands there."""
    if not flags.given and os.path.lexists(place.manifest):
        if place.placement == "beside":
            refuse_awp1(package)
        return None
    existing = manifest_plan.existing_manifest(place)
    plan = manifest_plan.plan_of(flags, package, existing, out)
    try:
        return manifest_plan.build(package, plan, existing, options, out, to_sign=True)
    except TreeUnsafe as refusal:
        from wcp_attest.disk.hub_snapshot import is_hub_snapshot

        if not is_hub_snapshot(package):
            raise
        raise TreeUnsafe(
            f"{refusal}. This is a snapshot in the Hugging Face cache; --hf-snapshot DIR copies it to a new directory"
            " with its links followed, and signs the copy"
        ) from None


def _copy_snapshot(out: Output, package: str, target: str, flags: manifest_plan.BuildFlags) -> manifest_plan.BuildFlags:
    """Copy a snapshot, and take its ids from the cache, where its path names repository and revision."""
    from wcp_attest.disk.hub_snapshot import copy_hub_snapshot

    require_outside(package, [target], "which would copy the copy; name a directory elsewhere")
    if flags.namespace is not None:
        flags = manifest_plan.with_ids_of_package(flags, package, out)._replace(namespace=None)
    copied = copy_hub_snapshot(package, target)
    out.note(f"copied {count(copied, 'file')} of the snapshot to {target}")
    return flags


def _sign(
    package: str,
    signers: Sequence[Signer],
    manifest: Manifest | None,
    options: ReadOptions,
    attestation: str | None,
) -> SignResult:
    from wcp_attest.sign_package import sign as sign_package

    try:
        return sign_package(package, signers, manifest=manifest, options=options, attestation=attestation)
    except TreeMismatch as refusal:
        command = shlex.join(["wcp-attest", "build", as_argument(package)])
        message = f"{refusal}; not signed. Look at each difference; if all are meant, `{command}` and sign again"
        raise TreeMismatch(message, refusal.differences, refusal.total) from None


def verify_command(package: str, result: SignResult, flags: SignerFlags) -> str:
    """Return the command that verifies what was just signed, ready for a shell."""
    words = ["wcp-attest", "verify", as_argument(package), "--worker-id", result.manifest.worker_id]
    for path in flags.key:
        public = as_argument(path + ".pub")
        words += ["--public-key", public if os.path.lexists(public) else f"PUBLIC-KEY-OF-{path}"]
    if flags.hmac:
        words.append("--hmac")
    for path in flags.hmac_file:
        words += ["--hmac-file", as_argument(path)]
    for signer in result.signers:
        if signer.kind == "sigstore":
            words += ["--identity", signer.identity, "--issuer", signer.issuer]
    if flags.trust_config is not None:
        words += ["--trusted-root", flags.trust_config]
    if flags.staging:
        words.append("--staging")
    if result.place.placement == "detached":
        words += ["--attestation", as_argument(result.place.directory)]
    return shlex.join(words)


def _report(out: Output, package: str, result: SignResult, command: str) -> None:
    manifest = result.manifest
    if result.dropped:
        out.note(f"dropped {count(result.dropped, 'signature')} that did not cover this manifest")
    if out.format == "json":
        out.deliver_json(
            "sign-result",
            {
                "ok": True,
                "root": package,
                "manifest_sha256": result.manifest_sha256,
                "signed_at_utc": result.signed_at_utc,
                "signers": [signer.to_dict() for signer in result.signers],
                "signatures_kept": result.kept,
                "signatures_dropped": result.dropped,
                "verify_command": command,
                "package": manifest_plan.manifest_json(manifest),
            },
        )
        return
    if out.mute:
        return  # counting 100,000 entries takes longer than all the rest
    lines = [
        f"{out.paint('good', 'SIGNED')}  {one_line(package)}",
        f"  worker     {manifest.worker_id} {manifest.worker_version} ({manifest.worker_species_id})",
        f"  package    {manifest.hash_algorithm}:{manifest.package_hash}, {count(manifest.count, 'entry')}",
        *(f"  signed by  {signer}" for signer in result.signers),
        f"  signed at  {result.signed_at_utc}"
        + (f", beside {count(result.kept, 'earlier signature')}" if result.kept else ""),
        f"  verify     {command}",
    ]
    out.decide("".join(f"{line}\n" for line in lines))
