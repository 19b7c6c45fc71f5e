"""What a manifest says about a package: from options, else the configuration, else the last manifest."""

from __future__ import annotations

import os
import re
import shlex
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from wcp_attest.base.errors import ConfigError, TreeUnsafe, VerificationError
from wcp_attest.cli.option_groups import combine, grouped
from wcp_attest.cli.shared_options import as_argument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.advice.project_config import PackageConfig
    from wcp_attest.base.digest import HashAlgorithm
    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.cli.output import Output
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.placement import PairPlace
    from wcp_attest.package.legacy_manifest import Awp1Manifest
    from wcp_attest.package.manifest import Manifest
    from wcp_attest.package.provenance import AiOrigin, BuildSource, SourceOrigin

POINTER_START = b"version https://git-lfs.github.com/spec/v1\n"
POINTER_SIZES = (110, 200)  # bytes; a pointer without extensions has 120 to 140
MAX_POINTERS = 1000  # small files that are looked at
EPOCH_VARIABLE = "SOURCE_DATE_EPOCH"  # https://reproducible-builds.org/specs/source-date-epoch/


class BuildFlags(NamedTuple):
    """What the command line says about a package, as it was given."""

    worker_id: str | None = None
    species_id: str | None = None
    worker_version: str | None = None
    exclude: tuple[str, ...] = ()
    algorithm: HashAlgorithm | None = None
    built_at: str | None = None
    build_source: BuildSource | None = None
    bytecode: Literal["leave", "include"] | None = None
    allow_twins: bool = False
    ai_generated: bool | None = None
    ai_service: str | None = None
    ai_model: str | None = None
    ai_session_fingerprint: str | None = None
    source_repository: str | None = None
    source_commit: str | None = None
    fresh: bool = False
    namespace: str | None = None

    @property
    def given(self) -> bool:
        """Whether any of them is given, so that the manifest is built again."""
        return self != BuildFlags()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a manifest needs beside the tree.

    Attributes:
        built_at: seconds since the epoch; None for now, which alone is no reason to replace a manifest.
        bytecode_may_stay: whether the user said that bytecode is left out although it is there.
        commit_is_old: whether `source.commit` comes from the earlier manifest; it then holds for the same tree only.
    """

    worker_id: str
    species_id: str
    worker_version: str
    build_source: BuildSource = "local"
    algorithm: HashAlgorithm = "sha256"
    excludes: tuple[str, ...] = ()
    built_at: int | None = None
    ai: AiOrigin | None = None
    source: SourceOrigin | None = None
    bytecode: Literal["leave", "include"] = "leave"
    allow_twins: bool = False
    commit_is_old: bool = False
    bytecode_may_stay: bool = False


build_options = combine(
    grouped(
        "Who the worker is",
        click.option("--worker-id", metavar="ID", help="The worker id, such as org.acme.summarizer."),
        click.option("--species-id", metavar="ID", help="The species id, such as wrk.doc.summarizer."),
        click.option("--worker-version", metavar="VERSION", help="The version, such as 1.4.0."),
        click.option(
            "--namespace",
            metavar="NAME",
            help="Take the ids from the package itself: a skill, plugin, MCP bundle, model or Python project.",
        ),
    ),
    grouped(
        "Contents of the manifest",
        click.option(
            "--exclude", multiple=True, metavar="PATTERN", help="Leave out what a gitignore pattern matches; recorded."
        ),
        click.option("--algorithm", type=click.Choice(["sha256", "blake3"]), help="Of all digests; sha256 by default."),
        click.option(
            "--bytecode",
            type=click.Choice(["leave", "include"]),
            help="List bytecode as ordinary files, or leave it out of the manifest.",
        ),
        click.option("--allow-twins", is_flag=True, help="Allow names that differ only by case or normal form."),
        click.option("--fresh", is_flag=True, help="Take nothing from the existing manifest.json."),
    ),
    grouped(
        "Where it comes from",
        click.option("--build-source", type=click.Choice(["local", "ci", "agent"]), help="Where it is built."),
        click.option(
            "--built-at", metavar="UTC", help=f"As 2026-11-22T14:00:00Z; by default {EPOCH_VARIABLE} or the clock."
        ),
        click.option("--source-repository", metavar="URL", help="The repository of the code."),
        click.option("--source-commit", metavar="SHA", help="The commit of the code."),
        click.option("--ai-generated/--no-ai-generated", default=None, help="Whether a model wrote the code."),
        click.option("--ai-service", metavar="NAME", help="The provider of the model."),
        click.option("--ai-model", metavar="NAME", help="The model."),
        click.option("--ai-session-fingerprint", metavar="TEXT", help="What identifies the session."),
    ),
)


def existing_manifest(place: PairPlace) -> Manifest | None:
    """Return the manifest of a pair, or None when there is none that can be read."""
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.package.manifest import MAX_MANIFEST_BYTES, Manifest

    if not os.path.lexists(place.manifest):
        return None
    try:
        return Manifest.parse(read_bounded(place.manifest, limit=MAX_MANIFEST_BYTES, what="the manifest"))
    except VerificationError:
        return None


def plan_of(flags: BuildFlags, package: str, existing: Manifest | None, out: Output) -> Plan:
    """Complete what the command line says from the configuration and from the manifest that stands there.

    Args:
        flags: the command line.
        package: the package directory.
        existing: the manifest that stands there.
        out: where to say what was taken.

    Raises:
        ConfigError: something that is needed is missing or malformed.
    """
    from wcp_attest.advice.project_config import find_config
    from wcp_attest.legacy_tree import found_in

    if flags.namespace is not None:
        flags = with_ids_of_package(flags, package, out)
    configuration = find_config(package)
    configured = configuration.package(package) if configuration else None
    taken = _Taken(configured, *((None, None) if flags.fresh else (existing, found_in(package))))
    source, commit_is_old = _source(flags, taken.earlier)
    plan = Plan(
        worker_id=taken.text("--worker-id", flags.worker_id, "worker_id", "worker_id"),
        species_id=taken.text("--species-id", flags.species_id, "species_id", "worker_species_id"),
        worker_version=taken.text("--worker-version", flags.worker_version, "worker_version", "worker_version"),
        build_source=flags.build_source or taken.build_source(),
        algorithm=flags.algorithm or taken.algorithm(),
        excludes=flags.exclude or taken.excludes(),
        built_at=_built_at(flags.built_at),
        ai=_ai(flags, taken.earlier),
        source=source,
        bytecode=flags.bytecode or taken.bytecode(),
        allow_twins=flags.allow_twins,
        commit_is_old=commit_is_old,
        bytecode_may_stay="leave" in (flags.bytecode, configured.bytecode if configured else None),
    )
    if taken.said:
        out.note(f"taken over: {', '.join(taken.said)}")
    return plan


def with_ids_of_package(flags: BuildFlags, package: str, out: Output) -> BuildFlags:
    """Fill in what the command line leaves open with what the package says of itself, and say so.

    Raises:
        ConfigError: it is of no known kind, or its description gives no ids or no version.
    """
    from wcp_attest.advice.kinds import READERS, describe, proposed_ids

    described = describe(package)
    if described is None or flags.namespace is None:
        raise ConfigError(
            f"--namespace: {package!r} is none of {', '.join(READERS)};"
            " give --worker-id, --species-id and --worker-version"
        )
    ids = proposed_ids(described, flags.namespace)
    version = ids.worker_version if flags.worker_version is None else flags.worker_version
    if version is None:
        raise ConfigError(f"{described.source} of this {described.kind} names no version; give --worker-version")
    filled = flags._replace(
        worker_id=ids.worker_id if flags.worker_id is None else flags.worker_id,
        species_id=ids.worker_species_id if flags.species_id is None else flags.species_id,
        worker_version=version,
    )
    out.note(f"{described.kind} ({described.source}): {filled.worker_id} {version}, species {filled.species_id}")
    return filled


def build(
    package: str, plan: Plan, existing: Manifest | None, options: ReadOptions, out: Output, *, to_sign: bool = False
) -> Manifest:
    """Read a package and return its manifest: the one that stands there, when nothing but the time would change.

    Args:
        package: the package directory.
        plan: what the manifest says beside the tree.
        existing: the manifest that stands there.
        options: how to read the tree.
        out: takes notes.
        to_sign: whether the manifest will be signed, so that a tree that every verifier denies is refused.

    Raises:
        ConfigError: the metadata is malformed, or the tree empty.
        TreeUnsafe: the tree holds what cannot be signed.
    """
    from wcp_attest.build import build_manifest

    def left_out(paths: Sequence[str]) -> None:
        command = shlex.join(["wcp-attest", "clean", as_argument(package)])
        if to_sign and not plan.bytecode_may_stay:
            raise TreeUnsafe(
                f"the tree holds bytecode, first {paths[0]!r}, and verify denies a tree with bytecode that its manifest"
                f" does not list; not signed. `{command}` removes it, --bytecode include lists it, --bytecode leave"
                " signs the package without it"
            )
        out.note(
            f"bytecode is left out of the manifest, first {paths[0]!r}; verify denies this very tree while it is there:"
            f" `{command}` removes it"
        )

    manifest = build_manifest(
        package,
        worker_id=plan.worker_id,
        worker_species_id=plan.species_id,
        worker_version=plan.worker_version,
        build_source=plan.build_source,
        algorithm=plan.algorithm,
        excludes=plan.excludes,
        built_at=plan.built_at,
        ai=plan.ai,
        source=plan.source,
        options=replace(options, bytecode=plan.bytecode, allow_twins=plan.allow_twins),
        left_out=left_out,
        unmatched=lambda patterns: out.note(unmatched_note(patterns)),
    )
    if (
        existing is not None
        and plan.built_at is None
        and replace(manifest, built_at_utc=existing.built_at_utc) == existing
    ):
        return existing
    if plan.commit_is_old:
        source = plan.source
        named = source is not None and source.repository is not None
        return replace(manifest, source=replace(source, commit=None) if source is not None and named else None)
    return manifest


def note_lfs_pointers(package: str, manifest: Manifest, out: Output) -> None:
    """Say so when files of the package are Git LFS pointers: what is signed is the pointer, not the content."""
    from wcp_attest.disk.files import read_start
    from wcp_attest.package.entries import SEPARATOR, File, parse_line

    pointers = []
    body = manifest.body
    for found in islice(re.finditer(rb'"size":1[0-9]{2}[,}]', body), MAX_POINTERS):  # no quoted path can hold that
        start, end = body.rfind(SEPARATOR, 0, found.start()), body.find(SEPARATOR, found.end())
        line = body[start + len(SEPARATOR) if start >= 0 else 0 : end if end >= 0 else len(body)]
        path, entry = parse_line(line, manifest.hash_algorithm)
        with suppress(OSError, ValueError):
            small = isinstance(entry, File) and entry.size in range(*POINTER_SIZES)
            if small and read_start(os.path.join(package, path), POINTER_SIZES[1]).startswith(POINTER_START):
                pointers.append(path)
    if pointers:
        out.note(
            f"warning: {len(pointers)} of the files are Git LFS pointers, first {pointers[0]!r}: the pointer is in the"
            " manifest, not the content; run `git lfs pull` and build again"
        )


def unmatched_note(patterns: Sequence[str]) -> str:
    """Return what to say of exclude patterns that match nothing.

    Args:
        patterns: at least one.
    """
    named = ", ".join(map(repr, patterns[:5])) + (" and more" if len(patterns) > 5 else "")
    return (
        f"no entry matches the exclude {named}; patterns are relative to the package, as in gitignore: "
        "without `./`, without the path to the package, without a comment behind"
    )


class _Taken:
    """Takes what options leave open from the configuration, then from an earlier manifest, and remembers what."""

    def __init__(self, configured: PackageConfig | None, earlier: Manifest | None, awp1: Awp1Manifest | None) -> None:
        self.configured, self.earlier, self.awp1 = configured, earlier, awp1
        self.said: list[str] = []

    def text(self, option: str, given: str | None, configured_name: str, manifest_name: str) -> str:
        if given is not None:
            return given
        value: str | None = getattr(self.configured, configured_name, None)
        value = value or getattr(self.earlier or self.awp1, manifest_name, None)
        if value is None:
            raise ConfigError(
                f"{option} is needed: there is no manifest.json to take it from, or none that can be read"
            )
        self.said.append(f"{manifest_name} {value}")
        return value

    def build_source(self) -> BuildSource:
        earlier = self.earlier or self.awp1
        return "local" if earlier is None else earlier.build_source

    def algorithm(self) -> HashAlgorithm:
        if self.configured is not None and self.configured.algorithm is not None:
            return self.configured.algorithm
        return self.earlier.hash_algorithm if self.earlier else "sha256"

    def excludes(self) -> tuple[str, ...]:
        if self.configured is not None:  # what is configured is complete; an earlier manifest adds nothing
            return self.configured.exclude
        if self.earlier is None or not self.earlier.excludes:
            return ()
        self.said.append(f"excludes {' '.join(self.earlier.excludes)}")
        return self.earlier.excludes

    def bytecode(self) -> Literal["leave", "include"]:
        if self.configured is not None and self.configured.bytecode is not None:
            return self.configured.bytecode
        from wcp_attest.package.names import is_bytecode

        names = (line.partition(b'":')[0].decode().split("/") for line in (self.earlier.lines if self.earlier else ()))
        if not any(is_bytecode(name) for path in names for name in path):
            return "leave"
        self.said.append("bytecode include")
        return "include"


def _built_at(text: str | None) -> int | None:
    from wcp_attest.base.identity import parse_utc

    if text is not None:
        seconds = parse_utc(text)
        if seconds is None:
            raise ConfigError(f"--built-at {text[:80]!r} is not of the form 2026-11-22T14:00:00Z")
        return seconds
    epoch = os.environ.get(EPOCH_VARIABLE)
    if epoch is None:
        return None
    if not (epoch.isascii() and epoch.isdigit() and len(epoch) <= 12):
        raise ConfigError(f"{EPOCH_VARIABLE} {epoch[:80]!r} is not a number of seconds since 1970")
    return int(epoch)


def _ai(flags: BuildFlags, earlier: Manifest | None) -> AiOrigin | None:
    from wcp_attest.package.provenance import AiOrigin

    before = earlier.ai if earlier else None
    texts = (flags.ai_service, flags.ai_model, flags.ai_session_fingerprint)
    if flags.ai_generated is None and texts == (None, None, None):
        return before
    generated = flags.ai_generated if flags.ai_generated is not None else True
    try:
        return AiOrigin(generated, *texts)
    except VerificationError as problem:
        raise ConfigError(_as_option(problem)) from None


def _source(flags: BuildFlags, earlier: Manifest | None) -> tuple[SourceOrigin | None, bool]:
    """Return where the code comes from, and whether its commit is an earlier one."""
    from wcp_attest.package.provenance import SourceOrigin

    before = earlier.source if earlier else None
    repository, commit = flags.source_repository, flags.source_commit
    if before is not None:
        repository = before.repository if repository is None else repository
        commit = before.commit if commit is None else commit
    if repository is None and commit is None:
        return None, False
    try:
        return SourceOrigin(repository, commit), flags.source_commit is None and commit is not None
    except VerificationError as problem:
        raise ConfigError(_as_option(problem)) from None


def _as_option(problem: VerificationError) -> str:
    return str(problem).removeprefix("manifest.json: ")


def manifest_json(manifest: Manifest) -> JsonObject:
    """Return the header of a manifest as JSON, with the number of entries in place of the entries."""
    return {
        "worker_id": manifest.worker_id,
        "worker_species_id": manifest.worker_species_id,
        "worker_version": manifest.worker_version,
        "built_at_utc": manifest.built_at_utc,
        "build_source": manifest.build_source,
        "hash_algorithm": manifest.hash_algorithm,
        "package_hash": manifest.package_hash,
        "excludes": [*manifest.excludes],
        "ai": None if manifest.ai is None else manifest.ai.to_json(),
        "source": None if manifest.source is None else manifest.source.to_json(),
        "entries": manifest.count,
    }
