"""The predecessors' schema `awp.v1` on the command line: `build --schema awp.v1`, and what to say of one found."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Final, Literal

from wcp_attest.base.errors import ConfigError, SigningError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.cli.building import Plan
    from wcp_attest.cli.output import Output
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.package.legacy_manifest import Awp1Manifest
    from wcp_attest.signing.hmac import HmacSecret

MAX_BYTES: Final = (
    64 * 1024
)  # `wcp_attest.package.legacy_manifest.MAX_BYTES`, not imported: most packages have no such manifest


def is_awp1(manifest: bytes) -> bool:
    """Tell whether a manifest says that it is of this schema."""
    return len(manifest) <= MAX_BYTES and b'"awp.v1"' in manifest


def refuse_awp1(package: str) -> None:
    """Say what to do instead where a list of entries or a `manifest.sig` is needed.

    Raises:
        ConfigError: the manifest of the package is of this schema.
    """
    from wcp_attest.package.legacy_manifest import found_in

    if found_in(package) is None:
        return
    command = shlex.join(["wcp-attest", "build", package])
    raise ConfigError(
        "manifest.json is of schema awp.v1, which lists no entries and carries its signature inside;"
        f" `{command}` makes it awp.v2, and with `--schema awp.v1 --hmac` signs it anew as it is"
    )


def awp1_rows(manifest: Awp1Manifest) -> Iterable[tuple[str, str]]:
    """Return what a manifest says, as labels and values."""
    return [
        ("worker", f"{manifest.worker_id} {manifest.worker_version}"),
        ("species", manifest.worker_species_id),
        ("built", f"{manifest.built_at_utc} ({manifest.build_source})"),
        ("package", f"sha256:{manifest.package_hash}"),
        ("schema", "awp.v1, which lists no entries"),
        ("signature", "a shared secret, inside the manifest" if manifest.signature else "none"),
    ]


def awp1_json(manifest: Awp1Manifest) -> JsonObject:
    """Return what a manifest says as JSON."""
    return {
        "worker_id": manifest.worker_id,
        "worker_species_id": manifest.worker_species_id,
        "worker_version": manifest.worker_version,
        "built_at_utc": manifest.built_at_utc,
        "build_source": manifest.build_source,
        "package_hash": manifest.package_hash,
        "signed": bool(manifest.signature),
    }


def build_awp1(
    out: Output,
    package: str,
    plan: Plan,
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
    from wcp_attest.package import legacy_manifest as awp1
    from wcp_attest.package.manifest import MANIFEST_NAME, SIGNATURE_NAME

    _refuse_unsayable(plan)
    data = awp1.build(
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
        out.deliver_json("build-result", {**result, "manifest_schema": awp1.SCHEMA})
        return
    out.decide(f"{out.paint('good', 'BUILT')}  {path}  (schema awp.v1)\n  {verdict.verified.trust_statement}\n")


def _refuse_unsayable(plan: Plan) -> None:
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
