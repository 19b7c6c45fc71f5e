"""Which stored manifests a list would refuse, and why: what an operator wants to know before and after a ban.

Nothing is verified here: what manifests and signature files say is taken as it stands. The signers are those that the
signature file beside a manifest names, where there is one. That is the same for the three places of a pair: a package's
root, its `.wcp/`, and a directory of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from wcp_attest.base import strictjson
from wcp_attest.base.digest import sha256_hex
from wcp_attest.base.errors import ConfigError, Error, VerificationError
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.files import is_there, read_bounded
from wcp_attest.disk.placement import find_place
from wcp_attest.package.entries import File
from wcp_attest.package.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, SIGNATURE_NAME, Manifest
from wcp_attest.package.ours import MAX_READ, is_manifest
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES, parse_lines
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
        foreign: whether it is the manifest.json of another program, so that no ban is about it.
    """

    path: str
    worker_id: str
    worker_version: str
    hits: tuple[Hit, ...] = ()
    problem: str = ""
    foreign: bool = False


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
        raise ConfigError(f"cannot read the directory {folder!r}: {describe_os_error(problem)}") from None
    # Where the pair lies in `.wcp/`, a manifest.json beside that folder is another program's file or a covered one.
    covered = find_place(folder).placement == "folder"
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(entry.path, depth + 1)
        elif entry.name == MANIFEST_NAME and not covered:
            yield entry.path


def impact_on(bans: Bans, path: str) -> Impact:
    """Tell what lists say of one stored manifest.

    Args:
        bans: the lists.
        path: of the manifest; its signatures are taken from the `manifest.sig` beside it.
    """
    worker = ("", "")
    try:
        data = read_bounded(path, limit=MAX_MANIFEST_BYTES, what="the manifest", follow=True)
        if _is_foreign(data):
            return Impact(path, *worker, foreign=True)
        facts, files = _read(data, path, names_files=any(each.index.names_files for each in bans.opened))
        worker = (facts.worker_id, facts.worker_version)
        return Impact(path, *worker, (*bans.hits(facts), *bans.file_hits(files, facts.hash_algorithm)))
    except Error as problem:
        return Impact(path, *worker, problem=str(problem))


def _is_foreign(data: bytes) -> bool:
    """Tell whether a file is a JSON object of another program; what is damaged may have been one of ours."""
    try:
        fields = strictjson.loads_object(data[:MAX_READ], what=MANIFEST_NAME, max_bytes=MAX_READ)
    except ConfigError:
        return False
    return "schema_version" not in fields and not is_manifest(data[:MAX_READ])


def _read(data: bytes, path: str, *, names_files: bool) -> tuple[PackageFacts, list[tuple[str, str]]]:
    signers = tuple(_signers(os.path.join(os.path.dirname(path), SIGNATURE_NAME)))
    if _AWP1 in data[:4096]:
        from wcp_attest.package import legacy_manifest

        old = legacy_manifest.parse(data)
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
        signers=signers,
        excludes=manifest.excludes,
    )
    return facts, [(name, entry.digest) for name, entry in entries.items() if isinstance(entry, File)]


def _signers(path: str) -> Iterator[SignedBy]:
    """Yield the signers that the lines of a signature file name. Nothing is verified."""
    if not is_there(path):
        return
    try:
        lines = parse_lines(read_bounded(path, limit=MAX_SIGNATURE_FILE_BYTES, what="the signatures", follow=True))
        for line in lines:
            if line.kind != "sigstore":
                yield SignedBy(key_id=line.hint)
                continue
            from wcp_attest.signing.sigstore.bundle import signer_of
            from wcp_attest.signing.sigstore.bundle_summary import claims_in

            yield signer_of(claims_in(line))
    except VerificationError as problem:
        raise ConfigError(f"the signatures beside it cannot be read: {problem}") from None
