"""Which stored manifests a list would refuse, and why: what an operator wants to know before and after a ban.

Nothing is verified here: the manifests and signature files are taken for what they say. Whoever signed is taken from
the signature file beside a manifest, where there is one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import BansUnusable, ConfigError, Error, VerificationError
from wcp_attest.disk.files import read_bounded
from wcp_attest.disk.placement import find_place
from wcp_attest.package.entries import File
from wcp_attest.package.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, SIGNATURE_NAME, Manifest
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES, Line, parse_lines
from wcp_attest.signing import SignedBy
from wcp_attest.trust.conditions import PackageFacts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wcp_attest.trust.bans.ban_check import Bans, Hit

MAX_DEPTH: Final = 64  # directories below the one given; stores of manifests are shallow
MAX_MANIFESTS: Final = 10_000_000
_AWP1: Final = b'"awp.v1"'


@dataclass(frozen=True, slots=True)
class Impact:
    """What lists say of one stored manifest.

    Attributes:
        path: of the manifest.
        worker_id: as it says, empty when it could not be read.
        worker_version: as it says, empty when it could not be read.
        hits: the bans that hit it.
        problem: why it could not be judged, else empty.
    """

    path: str
    worker_id: str
    worker_version: str
    hits: tuple[Hit, ...] = ()
    problem: str = ""


def find_manifests(places: Iterable[str]) -> Iterator[str]:
    """Yield the paths of manifests: those given, and every `manifest.json` below the directories given, sorted.

    Args:
        places: files and directories; links to directories are not followed below those.

    Raises:
        ConfigError: a directory cannot be read, is nested too deeply, or there are too many manifests.
    """
    count = 0
    for place in places:
        for path in _below(place, 0) if os.path.isdir(place) else (place,):
            count += 1
            if count > MAX_MANIFESTS:
                raise ConfigError(f"there are more than {MAX_MANIFESTS} manifests; give fewer at once")
            yield path


def _below(folder: str, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise ConfigError(f"{folder!r} is nested more than {MAX_DEPTH} levels deep")
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as problem:
        raise ConfigError(f"cannot read the directory {folder!r}: {(problem.strerror or '').lower()}") from None
    # Where the pair lies in `.wcp/`, a manifest.json beside that folder is another program's file or a covered one.
    covered = find_place(folder).placement == "folder"
    for entry in found:
        if covered and entry.name == MANIFEST_NAME:
            continue
        if entry.name == MANIFEST_NAME and not entry.is_dir(follow_symlinks=False):
            yield entry.path
        elif entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, depth + 1)


def impact_on(bans: Bans, path: str) -> Impact:
    """Tell what lists say of one stored manifest.

    Args:
        bans: the lists.
        path: of the manifest; its signatures are taken from the `manifest.sig` beside it.
    """
    try:
        data = read_bounded(path, limit=MAX_MANIFEST_BYTES, what="the manifest", follow=True)
        facts, files = _read(data, path, names_files=any(each.index.names_files for each in bans.opened))
    except Error as problem:
        return Impact(path, "", "", problem=str(problem))
    try:
        hits = (*bans.hits(facts), *bans.file_hits(files, facts.hash_algorithm))
        return Impact(path, facts.worker_id, facts.worker_version, hits)
    except BansUnusable as problem:
        return Impact(path, facts.worker_id, facts.worker_version, problem=str(problem))


def _read(data: bytes, path: str, *, names_files: bool) -> tuple[PackageFacts, list[tuple[str, str]]]:
    if _AWP1 in data[:4096]:
        from wcp_attest.package import legacy_manifest as awp1

        old = awp1.parse(data)
        if names_files:
            raise ConfigError("a manifest of schema awp.v1 lists no files, so file bans cannot be judged; verify tells")
        return PackageFacts(sha256_hex(data), old.package_hash, "sha256", old.worker_id, old.worker_version), []
    manifest = Manifest.parse(data)
    entries = manifest.entries() if names_files else {}
    facts = PackageFacts(
        manifest_sha256=sha256_hex(data),
        package_hash=manifest.package_hash,
        hash_algorithm=manifest.hash_algorithm,
        worker_id=manifest.worker_id,
        worker_version=manifest.worker_version,
        signers=tuple(_signers(os.path.join(os.path.dirname(path), SIGNATURE_NAME))),
    )
    return facts, [(name, entry.digest) for name, entry in entries.items() if isinstance(entry, File)]


def _signers(path: str) -> Iterator[SignedBy]:
    """Yield whom the lines of a signature file name, unverified."""
    if not os.path.lexists(path):
        return
    try:
        lines = parse_lines(read_bounded(path, limit=MAX_SIGNATURE_FILE_BYTES, what="the signatures", follow=True))
        for line in lines:
            yield _named(line)
    except VerificationError as problem:
        raise ConfigError(f"the signatures beside it cannot be read: {problem}") from None


def _named(line: Line) -> SignedBy:
    if line.kind != "sigstore":
        return SignedBy(key_id=line.hint)
    from wcp_attest.signing.sigstore.bundle import signer_of
    from wcp_attest.signing.sigstore.bundle_summary import claims_in

    return signer_of(claims_in(line))
