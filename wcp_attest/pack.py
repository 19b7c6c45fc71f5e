"""A package as one file, and back: `pack` writes an archive, `unpack` verifies before anything has its final name.

    pack("my-worker", "my-worker-1.4.0.tar.gz")
    unpack("my-worker-1.4.0.tar.gz", "/srv/my-worker", policy)

`pack` copies the tree while it compares it with its manifest, and packs the copy: the bytes compared are the bytes
packed, and what the manifest does not list is not in the archive. `unpack` takes the archive apart in a private
directory beside its target, verifies there, and renames the directory only when the package is verified.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError, ManifestMissing, SignatureMissing, TreeUnsafe
from wcp_attest.base.identity import parse_utc
from wcp_attest.disk.archive import copy_hashed, create, extract, refuse_twins
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import private_directory, read_bounded
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.placement import PAIR_FOLDERS, PAIR_NAMES, PackagePair, find_place
from wcp_attest.package.manifest import Manifest
from wcp_attest.trust.archive_provenance import MAX_ATTESTATION_BYTES, Archive, asks_for_provenance, for_archive
from wcp_attest.trust.archive_provenance import SUFFIXES as SUFFIXES_OF_PROVENANCE
from wcp_attest.verification import attest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from wcp_attest.disk.archive import Format
    from wcp_attest.trust.policy import Policy
    from wcp_attest.verdict import Expectation, Verified

SUFFIXES: Final[dict[str, Format]] = {
    ".tar": "tar",
    ".tar.gz": "tar.gz",
    ".tgz": "tar.gz",
    ".zip": "zip",
    ".mcpb": "zip",
}
_FOLDER_MODE: Final = 0o755  # as `mkdir` makes; it was private while it grew


@dataclass(frozen=True, slots=True)
class Packed:
    """An archive that was written.

    Attributes:
        path: of the archive.
        kind: `tar`, `tar.gz` or `zip`.
        size: in bytes.
        manifest: of the package in it.
    """

    path: str
    kind: Format
    size: int
    manifest: Manifest


def kind_of_name(path: str) -> Format:
    """Return which archive a file name asks for.

    Raises:
        ConfigError: the name ends in none of the known suffixes.
    """
    for suffix, kind in SUFFIXES.items():
        if path.lower().endswith(suffix):
            return kind
    raise ConfigError(f"{path!r} does not say which archive to write; end it in {', '.join(SUFFIXES)}")


def pack(
    root: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    attestation: str | os.PathLike[str] | None = None,
    options: ReadOptions | None = None,
) -> Packed:
    """Write a signed package as one archive.

    Args:
        root: the package directory.
        target: the file to write; its suffix says which archive. It must not exist.
        attestation: the directory of a detached pair, which the archive takes up in `.wcp/`.
        options: how to read the tree.

    Returns:
        What was written. The same package gives the same bytes.

    Raises:
        TreeMismatch: the tree differs from its manifest.
        TreeUnsafe: two paths differ only by letter case or Unicode form.
        SignatureMissing: the package is not signed.
        VerificationError: the manifest or the signature file is missing or malformed.
        ConfigError: the suffix is unknown, the target exists or cannot be written.
    """
    package, path = os.fspath(root), os.fspath(target)
    kind = kind_of_name(path)
    if os.path.lexists(path):
        raise ConfigError(f"{path!r} exists already; remove it or name another file")
    pair = PackagePair.read(find_place(package, None if attestation is None else os.fspath(attestation)))
    if pair.signatures is None:
        raise SignatureMissing("the package is not signed, so nothing could be verified when it is unpacked; sign it")
    manifest = Manifest.parse(pair.manifest)
    seen: dict[str, str] = {}
    for listed in manifest.entries():
        refuse_twins(listed, seen)  # a signer may allow them, and an archive is unpacked anywhere
    reading = replace(options or ReadOptions(), placement=pair.place.placement)
    # A detached pair travels in `.wcp/`: an archive has no directory beside it.
    in_folder = [PAIR_FOLDERS["folder"] + name for name in PAIR_NAMES]
    files = pair.in_tree or dict(zip(in_folder, (pair.manifest, pair.signatures), strict=True))
    with private_directory(os.path.dirname(os.path.abspath(path))) as folder:
        copy, draft = os.path.join(folder, "package"), os.path.join(folder, "archive")
        check_tree(package, manifest, options=reading, stage=copy, extra=files)
        try:
            create(copy, draft, kind, moment=parse_utc(manifest.built_at_utc) or 0)
            os.link(draft, path)  # unlike a rename, this never replaces what another program put there meanwhile
        except OSError as problem:
            raise ConfigError(f"cannot write {path!r}: {describe_os_error(problem)}") from None
        return Packed(path, kind, os.stat(draft).st_size, manifest)


def verify_archive(
    path: str | os.PathLike[str],
    policy: Policy,
    *,
    provenance: str | os.PathLike[str] | None = None,
    expect: Expectation | None = None,
    options: ReadOptions | None = None,
    max_bytes: int | None = None,
    stage: str | os.PathLike[str] | None = None,
    attestation: str | os.PathLike[str] | None = None,
) -> Verified:
    """Verify the package in an archive, in a private directory that is removed afterwards.

    Args:
        path: of the archive.
        policy: who is trusted.
        provenance: the file with the provenance that the policy asks for; by default it stands beside the archive, as
            `NAME.intoto.jsonl` or `NAME.publish.attestation`.
        expect: what the worker must be.
        options: how to read the tree.
        max_bytes: as `disk.archive.extract`.
        stage: a new directory for a copy of what was verified.
        attestation: the directory of a detached pair; by default the pair is in the archive.

    Raises:
        VerificationError: the archive or the package in it is refused.
        ConfigError: it is no archive, or a file cannot be read or written.
    """
    with (
        _proven(path, policy, provenance) as (archive, asked),
        unpacked(archive, max_bytes=max_bytes) as root,
        _about_the_archive(path) if attestation is None else nullcontext(),
    ):
        return attest(root, asked, expect=expect, options=options, stage=stage, attestation=attestation)


@contextmanager
def _proven(
    path: str | os.PathLike[str], policy: Policy, provenance: str | os.PathLike[str] | None
) -> Iterator[tuple[str, Policy]]:
    """Bind a policy that asks for provenance to the archive: to a private copy, so that nobody can change it later.

    Yields:
        The file to unpack, and the policy to judge by.
    """
    kind = asks_for_provenance(policy)
    if kind is None:
        if provenance is not None:
            raise ConfigError("the policy has no [provenance], so a provenance would not be looked at; leave it out")
        yield os.fspath(path), policy
        return
    beside = os.fspath(path) + SUFFIXES_OF_PROVENANCE[kind]
    attestations = None
    if provenance is not None or os.path.lexists(beside):
        named = beside if provenance is None else os.fspath(provenance)
        attestations = read_bounded(named, limit=MAX_ATTESTATION_BYTES, what="the provenance", follow=True)
    with private_directory(tempfile.gettempdir()) as folder:
        copy = os.path.join(folder, "archive")
        sha256 = copy_hashed(os.fspath(path), copy)
        yield copy, for_archive(policy, Archive(os.path.basename(os.fspath(path)), sha256, attestations))


@contextmanager
def unpacked(path: str | os.PathLike[str], *, beside: str | None = None, max_bytes: int | None = None) -> Iterator[str]:
    """Take an archive apart in a private directory that goes when the block ends.

    Args:
        path: of the archive.
        beside: the directory to work in; by default the system's for temporary files.
        max_bytes: as `disk.archive.extract`.

    Yields:
        The root of the package: the directory itself, or the only directory in it.

    Raises:
        TreeUnsafe: a member cannot be part of a package, or the archive is damaged.
        ConfigError: it is no archive, or it cannot be read or written.
    """
    with private_directory(beside or tempfile.gettempdir()) as folder:
        root = os.path.join(folder, "package")
        os.mkdir(root)
        extract(os.fspath(path), root, max_bytes=max_bytes)
        names = os.listdir(root)
        if len(names) == 1 and os.path.isdir(inner := os.path.join(root, names[0])) and not os.path.islink(inner):
            root = inner  # `tar -cf x.tar my-worker` puts everything into one folder
        elif not names:
            raise TreeUnsafe("the archive is empty")
        yield root


def unpack(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    policy: Policy,
    *,
    provenance: str | os.PathLike[str] | None = None,
    expect: Expectation | None = None,
    options: ReadOptions | None = None,
    max_bytes: int | None = None,
    now: float | None = None,
) -> Verified:
    """Unpack an archive into a new directory, which appears only when the package in it is verified.

    Args:
        path: of the archive.
        target: the directory to make; it must not exist.
        policy: who is trusted.
        provenance: as `verify_archive`.
        expect: what the worker must be.
        options: how to read the tree.
        max_bytes: as `disk.archive.extract`.
        now: the time to judge by, seconds since the epoch.

    Raises:
        VerificationError: the archive or the package in it is refused; nothing was unpacked.
        ConfigError: it is no archive, or the target exists or cannot be written.
    """
    place = os.path.abspath(os.fspath(target))
    if os.path.lexists(place):
        raise ConfigError(f"{os.fspath(target)!r} exists already; name a new directory")
    with (
        _proven(path, policy, provenance) as (archive, asked),
        unpacked(archive, beside=os.path.dirname(place), max_bytes=max_bytes) as root,
    ):
        with _about_the_archive(path):
            verified = attest(root, asked, expect=expect, options=options, now=now)
        try:
            os.chmod(root, _FOLDER_MODE)
            os.mkdir(place)  # claims the name; renaming onto an empty directory then replaces it at once
            os.rename(root, place)
        except OSError as problem:
            raise ConfigError(f"cannot unpack into {os.fspath(target)!r}: {describe_os_error(problem)}") from None
    return verified


@contextmanager
def _about_the_archive(path: str | os.PathLike[str]) -> Iterator[None]:
    """Say of the archive what would else be said of a private directory that is gone when it is read."""
    try:
        yield
    except ManifestMissing:
        raise ManifestMissing(
            f"{os.fspath(path)!r} holds no signed package: no manifest.json at its root or in its only folder. Sign the"
            " directory, then pack it"
        ) from None
