"""Build a manifest: what is in this tree, who does it say it is.

    manifest = build_manifest("my-worker", worker_id="org.acme.summarizer", worker_species_id="wrk.doc.summarizer",
                              worker_version="1.4.0")
    write_manifest("my-worker", manifest)

What is left out is decided by gitignore patterns, the last that matches wins: first the default `/.git`, then the lines
of `.wcpignore` at the root (an ordinary file of the package), then those the caller gives. The patterns that decided
something are recorded in the manifest; the others leave no trace, so the same tree and metadata give the same bytes.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import ConfigError
from wcp_attest.base.identity import AUTHORITIES, format_utc, id_problem, version_problem
from wcp_attest.disk.directory import describe_os_error
from wcp_attest.disk.excludes import GIT_FOLDER, read_ignore_file
from wcp_attest.disk.files import read_bounded, read_start
from wcp_attest.disk.options import ReadOptions
from wcp_attest.disk.overwrite import OutputKind, check_place, only_writer, write_file
from wcp_attest.disk.placement import choose_place
from wcp_attest.disk.read_tree import read_tree
from wcp_attest.package import ours
from wcp_attest.package.manifest import MANIFEST_NAME, SIGNATURE_NAME, Manifest, exclude_problem
from wcp_attest.package.provenance import BUILD_SOURCES
from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.disk.placement import PairPlace, Placement
    from wcp_attest.package.provenance import AiOrigin, BuildSource, SourceOrigin

DEFAULT_EXCLUDES: Final = (GIT_FOLDER,)
IGNORE_NAME: Final = ".wcpignore"
MAX_IGNORE_BYTES = 1024 * 1024  # twice what the most patterns take

_ADVICE = "move it away, or say `--placement folder`, which puts the pair into .wcp/"
MANIFEST_KIND: Final = OutputKind("a manifest of wcp-attest", ours.is_manifest, ours.MAX_READ, _ADVICE)
SIGNATURE_KIND: Final = OutputKind(
    "a signature file of wcp-attest", ours.is_signature_file, MAX_SIGNATURE_FILE_BYTES + 1, _ADVICE
)


def build_manifest(  # noqa: PLR0913  # each field of a manifest is the caller's to say, by its name
    root: str | os.PathLike[str],
    *,
    worker_id: str,
    worker_species_id: str,
    worker_version: str,
    build_source: BuildSource = "local",
    algorithm: HashAlgorithm = "sha256",
    excludes: Sequence[str] = (),
    built_at: float | None = None,
    ai: AiOrigin | None = None,
    source: SourceOrigin | None = None,
    options: ReadOptions | None = None,
    left_out: Callable[[Sequence[str]], None] | None = None,
    unmatched: Callable[[Sequence[str]], None] | None = None,
) -> Manifest:
    """Read a package and say what is in it.

    Args:
        root: the package directory; not a link to it.
        worker_id: who this is, `org.acme.summarizer`.
        worker_species_id: its place in the taxonomy, `wrk.doc.summarizer`.
        worker_version: 1 to 64 of `0-9A-Za-z.+_-`.
        build_source: where it is built.
        algorithm: of the package hash and of every file.
        excludes: further gitignore patterns; `!pattern` takes back what an earlier one excludes.
        built_at: the time to record, in seconds since the epoch; the clock by default.
        ai: what a model had to do with the code.
        source: where the code came from.
        options: how to read the tree.
        left_out: told the paths of bytecode that the manifest leaves out, if there is any. A tree that still holds it
            is denied by every verifier.
        unmatched: told which of `excludes` match nothing, if there are any: what they were meant for is shipped.

    Raises:
        ConfigError: an argument or `.wcpignore` cannot be used, or the tree is empty or not there.
        TreeUnsafe: the tree holds what cannot be signed (`wcp_attest.disk.read_tree.read_tree`).
    """
    check_metadata(worker_id, worker_species_id, worker_version, build_source)
    built_at_utc = format_utc(time.time() if built_at is None else built_at)
    package = os.fspath(root)
    patterns = exclude_patterns(package, excludes)
    options = options or ReadOptions()
    if options.placement is None:
        options = replace(options, placement=output_place(package).placement)
    reading = read_tree(package, algorithm=algorithm, excludes=patterns, options=options)
    if reading.bytecode_left and left_out is not None:
        left_out(reading.bytecode_left)
    idle = [pattern for pattern in excludes if {pattern, pattern.rstrip(" ")} & {*reading.unmatched}]
    if idle and unmatched is not None:
        unmatched(idle)
    return Manifest(
        worker_id=worker_id,
        worker_species_id=worker_species_id,
        worker_version=worker_version,
        built_at_utc=built_at_utc,
        build_source=build_source,
        package_hash=reading.package_hash,
        body=reading.body,
        hash_algorithm=algorithm,
        excludes=reading.excluded,
        ai=ai,
        source=source,
    )


def write_manifest(root: str | os.PathLike[str], manifest: Manifest, *, place: PairPlace | None = None) -> str:
    """Write `manifest.json` into a package. When writing fails, the old file is still there.

    Args:
        root: the package directory.
        manifest: what to write.
        place: where to; by default what `output_place` chooses.

    Returns:
        The path of the file.

    Raises:
        ConfigError: it cannot be written, or the file there belongs to another program; that is never overwritten.
    """
    place = output_place(root) if place is None else place
    with pair_directory(place), only_writer(place.directory):
        write_file(place.manifest, manifest.to_bytes(), MANIFEST_KIND)
    return place.manifest


def output_place(
    root: str | os.PathLike[str],
    placement: Placement | None = None,
    attestation: str | os.PathLike[str] | None = None,
) -> PairPlace:
    """Return where `manifest.json` and `manifest.sig` go, after checking that they may go there.

    Args:
        root: the package directory.
        placement: where they shall lie; None: where a pair lies, in `.wcp/` when another program's file has one of the
            two names in the root, else in the root.
        attestation: the directory of a detached pair; only its last part need not exist.

    Raises:
        ConfigError: another program's file, a link, a directory or a special file is there; nothing can be written
            there; or the wishes contradict each other. Nothing was changed.
    """
    kinds = {MANIFEST_NAME: MANIFEST_KIND, SIGNATURE_NAME: SIGNATURE_KIND}

    def is_ours(name: str, path: str) -> bool:
        try:
            return kinds[name].recognizes(read_start(path, kinds[name].limit))
        except OSError:
            return False

    package = os.fspath(root)
    outside = None if attestation is None else os.fspath(attestation)
    place = choose_place(package, wanted=placement, attestation=outside, is_ours=is_ours)
    if place.placement == "beside" or os.path.lexists(place.directory):
        check_place(place.manifest, MANIFEST_KIND)
        check_place(place.signatures, SIGNATURE_KIND)
    else:
        check_place(place.directory, MANIFEST_KIND)  # whether the directory above can be written to
    return place


@contextmanager
def pair_directory(place: PairPlace) -> Iterator[None]:
    """Make the directory of a pair where it is missing; remove it again when the block raises.

    Raises:
        ConfigError: it cannot be made.
    """
    made = False
    if place.placement != "beside" and not os.path.lexists(place.directory):
        try:
            os.mkdir(place.directory)
        except OSError as problem:
            raise ConfigError(f"cannot make the directory {place.directory!r}: {describe_os_error(problem)}") from None
        made = True
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):  # another process has put something there
                os.rmdir(place.directory)
        raise


def check_metadata(worker_id: str, worker_species_id: str, worker_version: str, build_source: str) -> None:
    """Check what the caller says about the worker, before anything is read.

    Raises:
        ConfigError: one of them is malformed, or the worker id has no namespace.
    """
    problem = id_problem(worker_id, segments=3)
    if problem is None and worker_id.partition(".")[0] not in AUTHORITIES:
        problem = "does not start with `org.` or `x.`, so it has no namespace that a policy could trust"
    if problem is not None:
        raise ConfigError(f"worker id {worker_id[:160]!r} {problem}; use the form org.acme.summarizer")
    problem = id_problem(worker_species_id)
    if problem is not None:
        raise ConfigError(f"species id {worker_species_id[:160]!r} {problem}; use the form wrk.doc.summarizer")
    problem = version_problem(worker_version)
    if problem is not None:
        raise ConfigError(f"worker version {worker_version[:80]!r} {problem}; use the form 1.4.0")
    if build_source not in BUILD_SOURCES:
        raise ConfigError(f"build source {build_source[:80]!r} is unknown; use one of {', '.join(BUILD_SOURCES)}")


def exclude_patterns(root: str, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the exclude patterns for a package, in order: the default, those of its `.wcpignore`, those given.

    Args:
        root: the package directory.
        given: patterns of the caller.

    Raises:
        ConfigError: `.wcpignore` cannot be read, or a pattern cannot be used.
    """
    path = os.path.join(root, IGNORE_NAME)
    ignore = b""
    if os.path.lexists(path):
        ignore = read_bounded(path, limit=MAX_IGNORE_BYTES, what=IGNORE_NAME)
    return combine_excludes(ignore, given)


def combine_excludes(ignore: bytes, given: Sequence[str]) -> tuple[str, ...]:
    """Return the exclude patterns in order: the default, those of a `.wcpignore`, those given.

    Args:
        ignore: content of the `.wcpignore`, empty when there is none.
        given: patterns of the caller.

    Raises:
        ConfigError: `.wcpignore` is not UTF-8, or a pattern cannot be used.
    """
    for pattern in given:
        if not pattern.strip() or pattern.startswith("#"):
            raise ConfigError(f"the exclude {pattern!r} matches nothing; write `\\#` for a name that starts with `#`")
    every = [*DEFAULT_EXCLUDES, *read_ignore_file(ignore, IGNORE_NAME), *given]
    patterns = tuple(reversed(dict.fromkeys(reversed(every))))  # of equal ones the last, which decides
    problem = exclude_problem(patterns)
    if problem is not None:
        raise ConfigError(f"the list of excludes {problem}")
    return patterns
