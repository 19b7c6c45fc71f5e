"""Packages with the earlier SDKs' manifest, schema `awp.v1`: find one, check its tree, build one.

The format, and what its package hash covers, are in `wcp_attest.package.legacy_manifest`.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError, Error, TreeMismatch
from wcp_attest.base.identity import format_utc
from wcp_attest.disk.files import read_bounded
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.read_tree import read_tree
from wcp_attest.package.entries import File, parse_line
from wcp_attest.package.legacy_manifest import (
    MAX_BYTES,
    SCHEMA,
    Awp1Manifest,
    package_hashes,
    parse,
    uncovered_difference,
)
from wcp_attest.package.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from wcp_attest.package.entries import Entry
    from wcp_attest.package.legacy_manifest import Order
    from wcp_attest.package.provenance import BuildSource
    from wcp_attest.signing.hmac import HmacSecret

MAX_LISTED: Final = 100  # uncovered entries named in one refusal


def found_in(package: str) -> Awp1Manifest | None:
    """Return the manifest of this schema in a package directory, unverified.

    Args:
        package: path of the directory.

    Returns:
        The manifest, or None when there is none that can be read.
    """
    try:
        return parse(read_bounded(os.path.join(package, MANIFEST_NAME), limit=MAX_BYTES, what=MANIFEST_NAME))
    except Error:
        return None


def check_tree(
    root: str | os.PathLike[str], manifest: Awp1Manifest, options: ReadOptions
) -> tuple[tuple[str, str], ...]:
    """Compare a tree with a manifest whose HMAC was verified.

    Args:
        root: the package directory.
        manifest: verified before.
        options: how to read the tree.

    Returns:
        Path and SHA-256 (64 lower-case hex digits) of every file, which the manifest itself does not list.

    Raises:
        TreeMismatch: the tree has another hash, or holds something that the hash does not cover.
        TreeUnsafe: the tree cannot be read safely, or is larger than `options` allow.
        MachineError: this machine cannot read it; nothing was decided.
    """
    try:
        entries = _read(root, options)
    except ConfigError as problem:
        raise TreeMismatch(f"{problem}, manifest.json says it holds some") from None
    found = (uncovered_difference(path, entry) for path, entry in entries.items())
    uncovered = [difference for difference in found if difference is not None]
    if uncovered:
        raise TreeMismatch(
            f"the tree holds {len(uncovered)} entries that the hash of {SCHEMA} does not cover",
            uncovered[:MAX_LISTED],
            len(uncovered),
        )
    hashes = package_hashes(entries)
    if manifest.package_hash not in hashes.values():
        raise TreeMismatch(
            f"the files have package hash {hashes['bytes']}, manifest.json says {manifest.package_hash}; "
            f"{SCHEMA} cannot tell which file differs"
        )
    return tuple((path, entry.digest) for path, entry in entries.items() if isinstance(entry, File))


def build(  # noqa: PLR0913  # each is a field of the manifest, given by its name
    root: str | os.PathLike[str],
    *,
    worker_id: str,
    worker_species_id: str,
    worker_version: str,
    secret: HmacSecret,
    build_source: BuildSource = "local",
    built_at: float | None = None,
    order: Order | None = None,
    options: ReadOptions | None = None,
) -> bytes:
    """Read a package and return its signed manifest of schema `awp.v1`. It has no `manifest.sig` beside it.

    Args:
        root: the package directory.
        worker_id: who this is, `org.acme.summarizer`.
        worker_species_id: its place in the taxonomy.
        worker_version: 1 to 64 of `0-9A-Za-z.+_-`.
        secret: the shared secret.
        build_source: where it is built.
        built_at: the time to record, in seconds since the epoch; the clock by default.
        order: which of the earlier verifiers must accept it where they disagree: `bytes` (Go) or `parts` (Python).
        options: how to read the tree.

    Returns:
        The bytes of `manifest.json`.

    Raises:
        ConfigError: an argument cannot be used, the tree is empty or not there, it holds something that the hash does
            not cover, or the earlier verifiers disagree about it and no order was chosen.
        TreeUnsafe: the tree holds what cannot be signed.
    """
    from wcp_attest.build import check_metadata

    check_metadata(worker_id, worker_species_id, worker_version, build_source)
    at = format_utc(time.time() if built_at is None else built_at)
    draft = Awp1Manifest(worker_id, worker_species_id, worker_version, "0" * 64, at, build_source)
    entries = _read(root, options or ReadOptions())
    uncovered = [path for path, entry in entries.items() if uncovered_difference(path, entry)]
    if uncovered:
        shown = ", ".join(repr(path) for path in uncovered[:5])
        raise ConfigError(
            f"{SCHEMA} does not cover {len(uncovered)} entries: {shown}; remove them or sign the package as awp.v2"
        )
    hashes = package_hashes(entries)
    if order is None and len(set(hashes.values())) > 1:
        raise ConfigError(
            "the earlier verifiers disagree about the order of these files; choose order `bytes` for those in Go or "
            "`parts` for those in Python"
        )
    return replace(draft, package_hash=hashes[order or "bytes"]).signed_with(secret.secret).to_bytes()


def _read(root: str | os.PathLike[str], options: ReadOptions) -> dict[str, Entry]:
    """Read everything in a tree, with nothing left out."""
    every = replace(options, bytecode="include", allow_twins=True, placement="beside")
    reading = read_tree(os.fspath(root), excludes=(), options=every)
    return dict(parse_line(line, "sha256") for line in reading.lines)
