"""What `check` and `fix` share: which packages are meant, and whether their staged manifests match the staged files.

Packages may be nested: an outer one lists the manifest of an inner one like any other file. `fix` therefore goes from
the inside to the outside and takes each manifest that it will write as if it were staged already.
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import click

from wcp_attest.base.errors import ConfigError, ManifestMalformed, VerificationError
from wcp_attest.cli import cache_option
from wcp_attest.cli.option_groups import READING, combine, grouped
from wcp_attest.cli.shared_options import as_argument

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wcp_attest.advice.git_index import GitIndex
    from wcp_attest.advice.project_config import PackageConfig
    from wcp_attest.base.differences import Difference
    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.cli.output import Output
    from wcp_attest.package.entries import Entry
    from wcp_attest.package.manifest import Manifest
    from wcp_attest.package.provenance import AiOrigin, BuildSource, SourceOrigin


OTHERS_NAME: Final = "manifest.json or manifest.sig in the root is another program's file, and stays as it is"
FOREIGN: Final = "manifest.json is another program's file, not a manifest of wcp-attest; it is left alone"
MAX_COMPARED: Final = 64 * 1024 * 1024  # bytes of a file that is compared with what is staged of it
MAX_LISTED: Final = 1000  # differences of one package that are named; all are counted


@dataclass(frozen=True, slots=True)
class Target:
    """A package to look at: its directory, and what is configured for it, if anything is."""

    directory: str
    configured: PackageConfig | None


@dataclass(frozen=True, slots=True)
class Examination:
    """What the index holds of a package, and what its manifest should say.

    Attributes:
        target: the package.
        expected: the manifest that fits; None when the index holds what no manifest can describe.
        current: the staged manifest; None when there is none, or it cannot be read.
        problems: what is wrong beside the entries, one line each.
        differences: between the staged manifest and the staged files, capped.
        total: how many differences there are.
        notes: what is not wrong here and may be elsewhere, one line each.
        ignored: whether a `.gitignore` keeps `git add` from taking the manifest.
        place: the manifest's path in the package.
    """

    target: Target
    expected: Manifest | None
    current: Manifest | None
    problems: tuple[str, ...] = ()
    differences: tuple[Difference, ...] = ()
    total: int = 0
    notes: tuple[str, ...] = ()
    ignored: bool = False
    place: str = "manifest.json"

    @property
    def ok(self) -> bool:
        """Whether the manifest of the next commit matches its files."""
        return not self.problems and not self.differences

    @property
    def repairable(self) -> bool:
        """Whether `fix` can write the manifest that fits."""
        return not self.ok and self.expected is not None and FOREIGN not in self.problems


checking_arguments = combine(
    click.argument("packages", nargs=-1, metavar="[ROOT]...", type=click.Path()),
    grouped(
        READING,
        click.option("--config", "file", metavar="FILE", type=click.Path(), help="The configuration file to use."),
        cache_option.option,
    ),
)


def targets(packages: Sequence[str], file: str | None) -> list[Target]:
    """Return the packages that are meant: those named, or else all that are configured.

    Args:
        packages: directories as they were given.
        file: a configuration file; None to look for one from the current directory upwards.

    Raises:
        ConfigError: nothing is named and nothing configured, or the configuration cannot be used.
    """
    from wcp_attest.advice.project_config import find_config, load_config

    config = find_config(os.curdir) if file is None else load_config(file)
    if packages:
        return [Target(directory, config.package(directory) if config else None) for directory in packages]
    if config is None:
        raise ConfigError(
            "nothing to check: name a package, or configure one in wcp-attest.toml ([[package]], path = …)"
        )
    return [Target(os.path.relpath(config.place(package)), package) for package in config.packages]


def examine_all(targets: Sequence[Target], cache: bool | None, out: Output) -> list[Examination]:
    """Compare the staged manifests of packages with the staged files; nothing may be in conflict.

    Args:
        targets: the packages.
        cache: what the command line says of a cache of digests.
        out: gets the message when the cache cannot be used.

    Raises:
        ConfigError: git fails, nothing is tracked there, the worker's identity is not configured, or there is no place
            for the cache.
    """
    from wcp_attest.advice.git_index import GitIndex

    remembered = cache_option.cache_of(cache, out, [target.directory for target in targets])
    examinations = []
    for target in targets:
        with GitIndex.open(target.directory) as index:
            examinations.append(examine(index, target, remembered))
    return examinations


def renewals(targets: Sequence[Target], cache: bool | None, out: Output, now: float) -> list[Renewal]:
    """Say for each package whether its manifest matches its files, and what `fix` writes otherwise.

    Args:
        targets: the packages.
        cache: what the command line says of a cache of digests.
        out: gets the message when the cache cannot be used.
        now: seconds since the epoch, the time of the new manifests.

    Raises:
        ConfigError: as `examine_all`; or a manifest is in conflict and its sides differ in what no file decides.
    """
    from wcp_attest.advice.git_index import GitIndex

    remembered = cache_option.cache_of(cache, out, [target.directory for target in targets])
    written: dict[str, bytes] = {}  # by the path from the top of the repository
    found = []
    for target in sorted(targets, key=lambda target: -os.path.realpath(target.directory).count(os.sep)):
        with GitIndex.open(target.directory, resolve=True) as index:
            renewal = _renewal(index, target, remembered, written, now)
        if renewal.data is not None:
            path = _pair_path(index, "manifest.json")
            written[f"{index.prefix}/{path}" if index.prefix else path] = renewal.data
        found.append(renewal)
    return found


def _renewal(
    index: GitIndex, target: Target, cache: cache_option.CacheChoice | None, written: Mapping[str, bytes], now: float
) -> Renewal:
    """Say what to do for one package, where the manifests of packages inside it are about to be written."""
    start = f"{index.prefix}/" if index.prefix else ""
    for path, inner in written.items():
        if path.startswith(start):
            index.replace(path.removeprefix(start), inner)
    pair = {_pair_path(index, "manifest.json"), _pair_path(index, "manifest.sig")}
    unresolved = next((path for path in index.unmerged if "/" in path and path not in pair), None)
    if unresolved is not None:
        raise ConfigError(f"{start + unresolved!r} is not merged yet; run `wcp-attest fix` on its package, too")
    examination = examine(index, target, cache)
    data = renewed(examination, now).to_bytes() if examination.repairable else None
    edited = () if data is not None else tuple(index.edited(target.directory, MAX_COMPARED))
    return Renewal(
        examination, data, edited, signatures_in_conflict=_pair_path(index, "manifest.sig") in index.unmerged
    )


def examine(index: GitIndex, target: Target, cache: cache_option.CacheChoice | None) -> Examination:
    """Compare the staged manifest of one package with its staged files.

    Raises:
        ConfigError: git fails, or the worker's identity is not configured.
    """
    from wcp_attest.advice.git_index_manifest import Unsignable

    place = _pair_path(index, "manifest.json")
    current, problem = _staged_manifest(index, target)
    try:
        expected, notes = _expected(index, target, current, cache)
    except Unsignable as unsignable:
        return Examination(target, None, current, unsignable.problems, place=place)
    if current is None:
        return Examination(
            target, expected, None, (problem,), notes=notes, ignored=index.is_ignored(place), place=place
        )
    problems = (*((problem,) if problem else ()), *_header_problems(current, expected))
    differences = _differences(current, expected)
    if not problems and not differences:
        notes = (*notes, *_signature_notes(index))
    return Examination(
        target, expected, current, problems, differences[:MAX_LISTED], len(differences), notes, place=place
    )


@dataclass(frozen=True, slots=True)
class Renewal:
    """What `fix` does for one package.

    Attributes:
        examination: of the package.
        data: the manifest to write; None when the staged one is right, or none can be written.
        edited: files with edits that are not staged, looked for only when nothing is to be written.
        signatures_in_conflict: whether `manifest.sig` is not merged.
    """

    examination: Examination
    data: bytes | None
    edited: tuple[str, ...] = ()
    signatures_in_conflict: bool = False

    @property
    def directory(self) -> str:
        """The directory of the package."""
        return self.examination.target.directory


def repair(examinations: Sequence[Examination]) -> str:
    """Return the command that repairs what a command can repair, empty when that is nothing."""
    wrong = [item for item in examinations if item.repairable]
    roots = [as_argument(item.target.directory) for item in wrong]
    if not roots:
        return ""
    # Where another program's file has the name, the first manifest is written by a command that says where it goes.
    first = [root for root, item in zip(roots, wrong, strict=True) if item.current is None and item.place[:1] == "."]
    commands = [f"wcp-attest build --placement folder {shlex.quote(root)}" for root in first]
    if others := [root for root in roots if root not in first]:
        commands.append(f"wcp-attest fix {shlex.join(others)}")
    manifests = [os.path.join(root, item.place) for root, item in zip(roots, wrong, strict=True)]
    force = " -f" if any(item.ignored for item in wrong) else ""
    commands.append(f"git add{force} {shlex.join(manifests)}")
    # `git commit -a` and `git commit PATH` show a hook an index of their own, and the real one lacks their edits.
    if os.path.basename(os.environ.get("GIT_INDEX_FILE", "index")) != "index":
        commands.insert(0, f"git add -u {shlex.join(roots)}")
    return "; ".join(commands)


def _pair_path(index: GitIndex, name: Literal["manifest.json", "manifest.sig"]) -> str:
    from wcp_attest.advice.git_index_manifest import pair_folder_in

    return pair_folder_in(index) + name


def _staged_manifest(index: GitIndex, target: Target) -> tuple[Manifest | None, str]:
    from wcp_attest.advice.git_index import LINK
    from wcp_attest.package.manifest import MAX_MANIFEST_BYTES, Manifest
    from wcp_attest.package.ours import is_manifest

    if _pair_path(index, "manifest.json") in index.unmerged:
        return _conflicted_manifest(index, target), "manifest.json is in conflict"
    staged = index.files.get(_pair_path(index, "manifest.json"))
    if staged is None:
        path = _pair_path(index, "manifest.json")
        return None, f"{path} is not in the index" + (f" ({OTHERS_NAME})" if path != "manifest.json" else "")
    if staged.mode == LINK:
        return None, "manifest.json is a symbolic link"
    data = index.read(_pair_path(index, "manifest.json"), MAX_MANIFEST_BYTES)
    if data and not is_manifest(data):
        return None, FOREIGN
    try:
        manifest = Manifest.from_bytes(data)
    except ManifestMalformed as problem:
        return None, str(problem)
    return manifest, ""


def _conflicted_manifest(index: GitIndex, target: Target) -> Manifest | None:
    """Merge the fields of a manifest in conflict; its entries follow from what is staged.

    Raises:
        ConfigError: the sides differ in a field, and no configuration says what it is.
    """
    from wcp_attest.package.manifest import MAX_MANIFEST_BYTES, Manifest
    from wcp_attest.package.manifest_merge import MergeConflict, Sides, merge_header

    sides: dict[int, Manifest] = {}
    for stage, version in index.unmerged[_pair_path(index, "manifest.json")].items():
        with suppress(ManifestMalformed):
            sides[stage] = Manifest.parse(
                index.read_version(_pair_path(index, "manifest.json"), version, MAX_MANIFEST_BYTES)
            )
    if 2 not in sides or 3 not in sides:  # one side deleted it, or it is no manifest there
        return sides.get(2) or sides.get(3)
    merged, conflicts = merge_header(Sides(sides.get(1), sides[2], sides[3]))
    if conflicts and target.configured is None:
        raise MergeConflict([f"{target.directory}: {conflicts[0]}; say what it is in wcp-attest.toml", *conflicts[1:]])
    return merged


@dataclass(frozen=True, slots=True)
class _NoManifest:
    """What stands for the staged manifest of a package that has none yet; the attributes are those of `Manifest`."""

    worker_id: str = ""
    worker_species_id: str = ""
    worker_version: str = ""
    built_at_utc: str = "1970-01-01T00:00:00Z"
    build_source: BuildSource = "local"
    hash_algorithm: HashAlgorithm = "sha256"
    excludes: tuple[str, ...] = ()
    ai: AiOrigin | None = None
    source: SourceOrigin | None = None

    def entries(self) -> dict[str, Entry]:
        """Return what is listed: nothing."""
        return {}


def _expected(
    index: GitIndex, target: Target, current: Manifest | None, cache: cache_option.CacheChoice | None
) -> tuple[Manifest, tuple[str, ...]]:
    from wcp_attest.advice.git_index_manifest import read_staged
    from wcp_attest.advice.project_config import PackageConfig
    from wcp_attest.build import IGNORE_NAME, MAX_IGNORE_BYTES, combine_excludes
    from wcp_attest.package.manifest import Manifest
    from wcp_attest.package.names import bytecode_among, folded

    ignore = index.read(IGNORE_NAME, MAX_IGNORE_BYTES) if IGNORE_NAME in index.files else b""
    config = target.configured or PackageConfig(os.curdir)
    before = current or _NoManifest()
    # What is configured is complete; only where nothing is does the staged manifest say what is left out.
    given = target.configured.exclude if target.configured else before.excludes
    algorithm = config.algorithm or before.hash_algorithm
    # What the signer of the staged manifest allowed stays allowed, where no configuration says otherwise.
    listed = before.entries().keys()
    bytecode = config.bytecode or ("include" if any(bytecode_among(path.split("/")) for path in listed) else "leave")
    twins = len(set(map(folded, listed))) < len(listed) if config.allow_twins is None else config.allow_twins
    with cache_option.remembered_blobs(cache, index, target.directory, algorithm):
        staged = read_staged(
            index,
            algorithm=algorithm,
            excludes=combine_excludes(ignore, given),
            bytecode=bytecode,
            allow_twins=twins,
        )
    reading = staged.reading
    try:
        expected = Manifest(
            worker_id=_said("worker_id", config.worker_id, before.worker_id),
            worker_species_id=_said("species_id", config.species_id, before.worker_species_id),
            worker_version=_said("worker_version", config.worker_version, before.worker_version),
            built_at_utc=before.built_at_utc,
            build_source=before.build_source,
            package_hash=reading.package_hash,
            body=reading.body,
            hash_algorithm=algorithm,
            excludes=reading.excluded,
            ai=before.ai,
            source=before.source,
        )
    except ManifestMalformed as problem:
        raise ConfigError(f"the configuration is unusable: {problem}") from None
    return expected, _checkout_notes(index, staged.converted)


def _said(key: str, configured: str | None, before: str) -> str:
    text = configured or before
    if not text:
        raise ConfigError(f"the `{key}` is not known; add it to [[package]] in wcp-attest.toml")
    return text


def _header_problems(current: Manifest, expected: Manifest) -> tuple[str, ...]:
    names = ("worker_id", "worker_species_id", "worker_version", "hash_algorithm", "excludes")
    found = []
    for name in names:
        says, should = (
            " ".join(value) or "none" if isinstance(value, tuple) else str(value)
            for value in (getattr(current, name), getattr(expected, name))
        )
        if says != should:
            found.append(f"manifest.json says {name} {says}; it is {should}")
    return tuple(found)


def _differences(current: Manifest, expected: Manifest) -> tuple[Difference, ...]:
    from wcp_attest.disk.explain_differences import difference_of

    if current.body == expected.body or current.hash_algorithm != expected.hash_algorithm:
        return ()
    before, after = current.entries(), expected.entries()
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    return tuple(difference_of(path, before.get(path), after.get(path)) for path in changed)


def _checkout_notes(index: GitIndex, converted: int) -> tuple[str, ...]:
    """Say where a checkout or an archive of these files would hold something else, on this machine or on others."""
    advice = "put `* -text` or `* text eol=lf` into the package's .gitattributes"
    notes = []
    if index.converts_line_endings_here():
        notes.append(f"git on this machine checks text out with CRLF, and verification of that would fail; {advice}")
    elif converted:
        notes.append(f"{converted} files are checked out with CRLF on some machines; {advice}")
    if local := index.local_attributes:
        notes.append(
            f"{local} says what git converts in this clone, and no other clone has that file;"
            " put what holds for the package into its .gitattributes"
        )
    if index.takes_attributes_of_another_tree():
        notes.append(
            "git on this machine converts files by the attributes of the tree that the setting `attr.tree` names, and a"
            " package signed here may differ from other checkouts; `git config --unset attr.tree`"
        )
    if names := index.archived_otherwise:
        notes.append(
            f"`git archive` changes or leaves out {len(names)} files, first {names[0]!r} (export-subst or"
            " export-ignore); the package in such an archive is not the one that is signed"
        )
    return tuple(notes)


def _signature_notes(index: GitIndex) -> tuple[str, ...]:
    """Say so when a staged signature is over another manifest; who signs, and when, is not for a hook to decide."""
    from wcp_attest.base.digest import sha256_hex
    from wcp_attest.package.manifest import MAX_MANIFEST_BYTES
    from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES, parse_lines
    from wcp_attest.package.statement import Statement

    if _pair_path(index, "manifest.sig") not in index.files:
        return ()
    digest = sha256_hex(index.read(_pair_path(index, "manifest.json"), MAX_MANIFEST_BYTES))
    try:
        lines = parse_lines(index.read(_pair_path(index, "manifest.sig"), MAX_SIGNATURE_FILE_BYTES))
        signed = {Statement.from_bytes(line.envelope.payload).manifest_sha256 for line in lines}
    except VerificationError as problem:
        return (f"manifest.sig is unusable: {problem}",)
    return (
        () if digest in signed else ("manifest.sig signs an earlier manifest.json; sign again before it is released",)
    )


def renewed(examination: Examination, now: float) -> Manifest:
    """Return the manifest to write, built now and here; the commit that an earlier one came from is not this one.

    Args:
        examination: of a package that can be described.
        now: seconds since the epoch.

    Raises:
        ConfigError: the package cannot be described.
    """
    from wcp_attest.base.identity import format_utc

    expected = examination.expected
    if expected is None:
        raise ConfigError("; ".join(examination.problems))
    source = expected.source
    if source is not None:
        source = replace(source, commit=None) if source.repository else None
    return replace(expected, built_at_utc=format_utc(now), build_source="local", source=source)
