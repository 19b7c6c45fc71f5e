"""The earlier SDKs' schema `awp.v1` on the command line: `build --schema awp.v1`, and what to say of one found."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.package.legacy_manifest import Awp1Manifest

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
    from wcp_attest.legacy_tree import found_in

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
