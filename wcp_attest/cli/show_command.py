"""`wcp-attest show`: what a manifest and its signatures say. It verifies nothing."""

from __future__ import annotations

import os
import shlex
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import ConfigError, VerificationError
from wcp_attest.cli import keyless_show
from wcp_attest.cli.awp1 import awp1_json, awp1_rows, is_awp1
from wcp_attest.cli.keyless_show import ShownPlace
from wcp_attest.cli.manifest_plan import manifest_json
from wcp_attest.cli.option_groups import GroupedCommand
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.shared_options import as_argument, attestation_option, require_result_outside
from wcp_attest.cli.text import human_size, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wcp_attest.advice.kinds.described import Described
    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.cli.text import Painter
    from wcp_attest.package.legacy_manifest import Awp1Manifest
    from wcp_attest.package.manifest import Manifest
    from wcp_attest.package.signature_file import Line
    from wcp_attest.package.statement import Statement

WARNING = "this verifies nothing: it repeats what the files claim; use `wcp-attest verify`"
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".zip", ".mcpb")
_MANIFEST_START = b'{\n"schema_version"'
_WORDS = {"hmac": "shared secret", "key": "key", "sigstore": "keyless (Sigstore)"}


@dataclass(frozen=True, slots=True)
class Claims:
    """What was read, none of it verified.

    Attributes:
        manifest: of the package, when its manifest was asked for and can be read.
        awp1: the same, when it is of the earlier schema.
        manifest_sha256: of its bytes.
        signatures: each line of the signature file with what its payload says, None where that is unreadable.
        problems: what could not be read, in words.
        described: what kind of package the directory says it is; None for files and unknown kinds.
    """

    manifest: Manifest | None = None
    awp1: Awp1Manifest | None = None
    manifest_sha256: str | None = None
    signatures: tuple[tuple[Line, Statement | None], ...] = ()
    problems: tuple[str, ...] = ()
    described: Described | None = None


@click.command(cls=GroupedCommand)
@click.argument("target", metavar="ROOT|FILE", type=click.Path())
@attestation_option
@click.option("--entries", is_flag=True, help="List every entry of the manifest, too.")
@reporting("text", "json")
def show(out: Output, /, target: str, attestation: str | None, entries: bool) -> None:
    """Tell what a package's manifest.json and manifest.sig say, or one of the two files. This verifies nothing."""
    directory, place = _place_of(target, attestation)
    if directory:
        require_result_outside(target, out)
    claims = _read(target, place, directory=directory)
    if out.format == "json":
        out.deliver_json("show", _as_json(claims, target, place, entries=entries))
    else:
        out.deliver(_as_text(claims, out.paint, place, entries=entries))
    out.note(WARNING)


def _place_of(target: str, attestation: str | None) -> tuple[bool, ShownPlace]:
    """Return whether the target is a directory, and where the files of the package lie, as far as that can be known.

    Raises:
        ConfigError: it cannot be opened, or is neither a package nor one of its two files.
    """
    from wcp_attest.disk.directory import describe_os_error
    from wcp_attest.disk.placement import FOLDER_NAME, find_place
    from wcp_attest.package.manifest import MANIFEST_NAME, SIGNATURE_NAME

    try:
        mode = os.stat(target).st_mode
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot open {target!r}: {describe_os_error(error)}") from None
    if stat.S_ISDIR(mode):
        place = find_place(target, attestation)
        return True, ShownPlace(target, place.manifest, place.signatures, attestation)
    if attestation is not None:
        raise click.UsageError("--attestation goes with ROOT; a FILE is shown as it is")
    if target.endswith(ARCHIVES) and not target.endswith(MANIFEST_NAME):
        command = shlex.join(["wcp-attest", "unpack", as_argument(target), "DIR"])
        raise ConfigError(
            f"{target!r} is an archive; `wcp-attest verify` checks it as it is, and `{command}` with your policy"
            " unpacks it, so that its directory can be shown"
        )
    folder = os.path.dirname(target) or "."
    root = os.path.dirname(folder) or "." if os.path.basename(folder) == FOLDER_NAME else folder
    manifest, signatures = (os.path.join(folder, name) for name in (MANIFEST_NAME, SIGNATURE_NAME))
    own = target if os.path.basename(target) != MANIFEST_NAME else signatures
    return False, ShownPlace(root, manifest, own)


def _read(target: str, place: ShownPlace, *, directory: bool) -> Claims:
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.package.manifest import MAX_MANIFEST_BYTES

    if not directory:
        data = read_bounded(target, limit=MAX_MANIFEST_BYTES, what="the file", follow=True)
        is_manifest = data.startswith(_MANIFEST_START) or is_awp1(data)
        return _claims(data, None) if is_manifest else _claims(None, data)
    follow = place.attestation is not None
    manifest = read_bounded(place.manifest, limit=MAX_MANIFEST_BYTES, what="the manifest", follow=follow)
    signatures = None
    if os.path.lexists(place.signatures):
        signatures = read_bounded(place.signatures, limit=MAX_MANIFEST_BYTES, what="the signatures", follow=follow)
    claims = _claims(manifest, signatures)
    from wcp_attest.advice.kinds import describe

    try:
        return replace(claims, described=describe(target))
    except ConfigError as problem:
        return replace(claims, problems=(*claims.problems, str(problem)))


def _claims(manifest_data: bytes | None, signature_data: bytes | None) -> Claims:
    from wcp_attest.base.digest import sha256_hex
    from wcp_attest.package.legacy_manifest import parse as parse_awp1
    from wcp_attest.package.manifest import Manifest
    from wcp_attest.package.signature_file import parse_lines

    problems: list[str] = []
    manifest: Manifest | None = None
    awp1: Awp1Manifest | None = None
    lines: tuple[Line, ...] = ()
    try:
        if manifest_data is not None and is_awp1(manifest_data):
            awp1 = parse_awp1(manifest_data)
        elif manifest_data is not None:
            manifest = Manifest.parse(manifest_data)
    except VerificationError as problem:
        problems.append(str(problem))
    try:
        lines = () if signature_data is None else parse_lines(signature_data)
    except VerificationError as problem:
        problems.append(str(problem))
    if manifest is None and awp1 is None and not lines:
        raise ConfigError(f"nothing to show: {'; '.join(problems) or 'no manifest and no signature'}")
    digest = None if manifest_data is None else sha256_hex(manifest_data)
    return Claims(manifest, awp1, digest, tuple((line, _statement(line)) for line in lines), tuple(problems))


def _statement(line: Line) -> Statement | None:
    from wcp_attest.package.statement import Statement

    try:
        return Statement.from_bytes(line.envelope.payload)
    except VerificationError:
        return None


def _as_text(claims: Claims, paint: Painter, place: ShownPlace, *, entries: bool) -> str:
    lines = [paint("warn", "NOT VERIFIED"), *(f"  unreadable: {problem}" for problem in claims.problems)]
    rows: Iterable[tuple[str, str]] = ()
    if claims.manifest is not None:
        rows = _manifest_rows(claims.manifest, claims.manifest_sha256 or "")
    elif claims.awp1 is not None:
        rows = awp1_rows(claims.awp1)
    lines += [f"  {label:<10} {value}" for label, value in rows]
    if claims.manifest is not None and entries:
        lines += [f"    {line.decode('utf-8', 'replace')}" for line in claims.manifest.lines]
    for number, (line, statement) in enumerate(claims.signatures, start=1):
        lines += _signature_text(number, line, statement, claims, place)
    if claims.manifest is not None and not claims.signatures and not claims.problems:
        lines.append("  no signature")
    if (said := claims.described) is not None:
        words = " ".join(word for word in (said.kind, said.name, said.version) if word)
        lines.append(f"  calls itself {one_line(words)} ({said.source})")
    return "".join(f"{line}\n" for line in lines)


def _manifest_rows(manifest: Manifest, sha256: str) -> Iterable[tuple[str, str]]:
    rows = [
        ("worker", f"{manifest.worker_id} {manifest.worker_version}"),
        ("species", manifest.worker_species_id),
        ("built", f"{manifest.built_at_utc} ({manifest.build_source})"),
        ("package", f"{manifest.hash_algorithm}:{manifest.package_hash}"),
        ("manifest", f"sha256:{sha256}"),
        ("entries", str(manifest.count)),
        ("excludes", " ".join(manifest.excludes) or "none"),
    ]
    if manifest.ai is not None:
        rows.append(("ai", ", ".join(f"{name} {value}" for name, value in manifest.ai.to_json().items())))
    if manifest.source is not None:
        rows.append(("source", " ".join(str(value) for value in manifest.source.to_json().values())))
    return rows


def _signature_text(
    number: int, line: Line, statement: Statement | None, claims: Claims, place: ShownPlace
) -> Iterable[str]:
    who = f"{_WORDS[line.kind]} {'sha256:' if line.kind == 'key' else ''}{line.hint}".rstrip()
    lines = [f"  signature {number}: {who}, {human_size(len(line.raw))}"]
    worker_id = None
    if statement is None:
        lines.append("    its statement is not about a package, or malformed")
    else:
        worker_id = statement.worker_id
        lines.append(f"    says: {worker_id} {statement.worker_version}, signed at {statement.signed_at_utc}")
        if claims.manifest_sha256 not in {None, statement.manifest_sha256}:
            lines.append(f"    is about another manifest: sha256:{statement.manifest_sha256}")
    summary = keyless_show.summary_of(line)
    if summary is not None:
        lines += keyless_show.as_text(summary, keyless_show.commands_of(summary, place, number, worker_id))
    return lines


def _as_json(claims: Claims, target: str, place: ShownPlace, *, entries: bool) -> JsonObject:
    manifest = claims.manifest
    listed = None
    if manifest is not None and entries:
        listed = [line.decode("utf-8", "replace") for line in manifest.lines]
    return {
        "target": target,
        "verified": False,
        "manifest": None if manifest is None else manifest_json(manifest),
        "awp1_manifest": None if claims.awp1 is None else awp1_json(claims.awp1),
        "manifest_sha256": claims.manifest_sha256,
        "entries": None if listed is None else [*listed],
        "signatures": [
            _signature_json(number, line, statement, claims, place)
            for number, (line, statement) in enumerate(claims.signatures, start=1)
        ],
        "described": None
        if (said := claims.described) is None
        else {"kind": said.kind, "name": said.name, "version": said.version, "source": said.source},
        "problems": [*claims.problems],
    }


def _signature_json(
    number: int, line: Line, statement: Statement | None, claims: Claims, place: ShownPlace
) -> JsonObject:
    covers = None
    if statement is not None and claims.manifest_sha256 is not None:
        covers = statement.manifest_sha256 == claims.manifest_sha256
    summary = keyless_show.summary_of(line)
    worker_id = None if statement is None else statement.worker_id
    commands = None if summary is None else keyless_show.commands_of(summary, place, number, worker_id)
    return {
        "kind": line.kind,
        "key_id": line.hint or None,
        "covers_this_manifest": covers,
        "worker_id": worker_id,
        "worker_version": None if statement is None else statement.worker_version,
        "manifest_sha256": None if statement is None else statement.manifest_sha256,
        "signed_at_utc": None if statement is None else statement.signed_at_utc,
        "keyless": None if summary is None or commands is None else keyless_show.as_json(summary, commands),
    }
