"""`build --schema awp.v1`: the predecessors' manifest, which carries its signature inside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from wcp_attest.errors import ConfigError, SigningError

if TYPE_CHECKING:
    from wcp_attest.cli.building import Plan
    from wcp_attest.cli.output import Output
    from wcp_attest.signing.hmac import HmacSecret
    from wcp_attest.strictjson import JsonObject
    from wcp_attest.tree import ReadOptions


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
    from wcp_attest import Accept, Namespace, Policy, awp1, verify
    from wcp_attest.identity import namespace_of
    from wcp_attest.manifest import MANIFEST_NAME, SIGNATURE_NAME
    from wcp_attest.tree.files import write_atomic

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
    write_atomic(path, data)
    if os.path.lexists(signatures):
        os.unlink(signatures)
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
