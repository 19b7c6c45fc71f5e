"""`wcp-attest ban new`, `add`, `remove` and `sign`: the life of a list, one version at a time."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli import ban_lists
from wcp_attest.cli.ban_lists import SubjectFlags, expires_option, list_argument, subject_options
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.signers import NOBODY_SIGNS, SignerFlags, check_bundle_path, signer_options, signers_of
from wcp_attest.cli.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.signing import SignedBy, Signer
    from wcp_attest.trust.bans.ban import Ban
    from wcp_attest.trust.bans.document import BanList

_SIGNER_NAMES = SignerFlags._fields


@click.command(cls=GroupedCommand)
@list_argument
@click.option("--name", required=True, metavar="NAME", help="Which list this is, of a-z 0-9 . -, such as acme-prod.")
@click.option("--expires", default="7d", show_default=True, metavar="SPAN", help="How long a version may be used.")
@reporting("text", "json")
def new(out: Output, /, file: str, name: str, expires: str) -> None:
    """Start an empty list in LIST, version 1. Sign it before you use it."""
    from wcp_attest.trust.bans.document import BanList, Head

    issued_at = ban_lists.now()
    head = Head(name, 1, issued_at, issued_at + ban_lists.span(expires))
    listed = BanList.make(Head.from_json(head.to_json()), ())
    with ban_lists.editing(file):
        if os.path.lexists(file):
            raise ConfigError(f"{file!r} exists; a list is never overwritten, or its version would go back")
        ban_lists.write_list(file, None, listed)
    _report(out, file, listed, (), added=(), removed=())


@click.command(cls=GroupedCommand)
@list_argument
@subject_options
@grouped(
    "What the list says",
    click.option("--reason", required=True, metavar="TEXT", help="Why, for people who meet the ban."),
    click.option("--source", metavar="TEXT", help="Who says so; by default the name of the list."),
    click.option("--reference", default="", metavar="URL", help="A page that says more."),
    expires_option,
)
@signer_options
@reporting("text", "json")
def add(
    out: Output,
    /,
    file: str,
    reason: str,
    source: str | None,
    reference: str,
    expires: str | None,
    **options: Any,
) -> None:
    """Ban a package, file, worker or signer: write the next version of LIST with it.

    A ban of the same subject is replaced. With --key, --sigstore or another signer the new version is signed as well,
    and LIST and LIST.sig are replaced together. Without a signer, LIST and its signatures no longer fit:
    every verifier that reads LIST denies all packages until you sign it.

    \b
      wcp-attest ban add bans.json --worker org.acme.summarizer --reason "leaks its prompt" --key soc.key
    """
    from wcp_attest.base.identity import format_utc

    signers, bundle_out = _signers(file, options)
    subjects = ban_lists.subjects_of(SubjectFlags(**options))
    with ban_lists.editing(file):
        before, listed = ban_lists.read_list(file)
        bans = ban_lists.bans_of(
            SubjectFlags(**options),
            subjects,
            reason=reason,
            banned_at=format_utc(ban_lists.now()),
            source=source or listed.head.name,
            reference=reference,
        )
        following = _issue(listed, (*listed.bans, *bans), expires)
        made_by = _write(file, before, following, signers, bundle_out)
    _report(out, file, following, made_by, added=bans, removed=())


@click.command(cls=GroupedCommand)
@list_argument
@subject_options
@grouped("What the list says", expires_option)
@signer_options
@reporting("text", "json")
def remove(out: Output, /, file: str, expires: str | None, **options: Any) -> None:
    """Lift bans: write the next version of LIST without them.

    A subject must be given as it was banned, with the same --versions or --issuer. With --key, --sigstore or another
    signer the new version is signed as well.
    """
    from wcp_attest.base.identity import format_utc

    signers, bundle_out = _signers(file, options)
    flags = SubjectFlags(**options)
    wanted = ban_lists.bans_of(
        flags, ban_lists.subjects_of(flags), reason="lifted", banned_at=format_utc(0), source="-"
    )
    lifted = {ban.sort_key() for ban in wanted}
    with ban_lists.editing(file):
        before, listed = ban_lists.read_list(file)
        removed = [ban for ban in listed.bans if ban.sort_key() in lifted]
        missing = lifted - {ban.sort_key() for ban in removed}
        if missing:
            names = ", ".join(str(ban) for ban in wanted if ban.sort_key() in missing)
            raise ConfigError(f"not on the list: {names}; `wcp-attest ban show` prints what is")
        following = _issue(listed, [ban for ban in listed.bans if ban.sort_key() not in lifted], expires)
        made_by = _write(file, before, following, signers, bundle_out)
    _report(out, file, following, made_by, added=(), removed=removed)


@click.command(cls=GroupedCommand)
@list_argument
@signer_options
@grouped(
    "What the list says",
    click.option("--renew", is_flag=True, help="Write the next version with the same bans first, fresh for --expires."),
    expires_option,
)
@reporting("text", "json")
def sign(out: Output, /, file: str, renew: bool, expires: str | None, **options: Any) -> None:
    """Sign LIST: write LIST.sig.

    Signatures of others over this very version stay, so that several can sign one list; those over another version are
    dropped.
    """
    if expires is not None and not renew:
        raise click.UsageError("--expires belongs to --renew: what is signed cannot change")
    signers, bundle_out = _signers(file, options)
    if not signers:
        raise click.UsageError(NOBODY_SIGNS)
    with ban_lists.editing(file):
        before, listed = ban_lists.read_list(file)
        if renew:
            listed = _issue(listed, listed.bans, expires)
            signatures, made_by = ban_lists.sign_bytes(file, listed, listed.to_bytes(), signers, bundle_out)
            ban_lists.write_list(file, before, listed, signatures)
        elif ban_lists.now() >= listed.head.expires_at:
            raise ConfigError(
                f"{file!r} has expired, no verifier would accept it; use --renew, or `wcp-attest ban add`"
            )
        else:
            signatures, made_by = ban_lists.sign_bytes(file, listed, before, signers, bundle_out)
            ban_lists.write_signatures(file, before, signatures)
    if out.format == "json":
        value = ban_lists.list_json(file, listed)
        value["signers"] = [str(signer) for signer in made_by]
        value["signatures"] = signatures.count(b"\n")
        out.deliver_json("ban-sign", value)
        return
    names = "".join(f"  signed by  {signer}\n" for signer in made_by)
    out.decide(f"{out.paint('good', 'SIGNED')}  {file}  {ban_lists.headline(listed)}\n{names}")
    out.note(f"publish {file} and {file}.sig together")


def _signers(file: str, options: dict[str, Any]) -> tuple[tuple[Signer, ...], str | None]:
    """Take the options of signers out of the others; check where the bundle is to go before anything is written.

    Returns:
        The signers, none when no option names one; and the file for the bundle.
    """
    from wcp_attest.disk.overwrite import check_place

    flags = SignerFlags(**{name: options.pop(name) for name in _SIGNER_NAMES})
    if flags.bundle_out is not None:
        for taken in (file, file + ".sig"):
            if os.path.realpath(flags.bundle_out) == os.path.realpath(taken):
                raise ConfigError(f"--bundle-out {flags.bundle_out!r} would overwrite {taken!r}; name another place")
        check_bundle_path(flags.bundle_out)
    check_place(*ban_lists.signature_place(file))
    given = any(value not in {None, False, ()} for value in flags)
    return (signers_of(flags) if given else ()), flags.bundle_out


def _write(
    file: str, before: bytes, following: BanList, signers: Sequence[Signer], bundle_out: str | None
) -> tuple[SignedBy, ...]:
    """Write the next version of a list, with its signatures if there are signers."""
    if not signers:
        ban_lists.write_list(file, before, following)
        return ()
    signatures, made_by = ban_lists.sign_bytes(file, following, following.to_bytes(), signers, bundle_out)
    ban_lists.write_list(file, before, following, signatures)
    return made_by


def _issue(listed: BanList, bans: Sequence[Ban], expires: str | None) -> BanList:
    lifetime = listed.head.expires_at - listed.head.issued_at if expires is None else ban_lists.span(expires)
    return listed.issue(now=ban_lists.now(), lifetime=lifetime, bans=bans)


def _report(
    out: Output,
    file: str,
    listed: BanList,
    made_by: Sequence[SignedBy],
    *,
    added: Sequence[Ban],
    removed: Sequence[Ban],
) -> None:
    if out.format == "json":
        value = ban_lists.list_json(file, listed)
        value["added"] = [ban.to_json() for ban in added]
        value["removed"] = [ban.to_json() for ban in removed]
        value["signers"] = [str(signer) for signer in made_by]
        out.deliver_json("ban-edit", value)
        return
    changes = [f"  banned  {ban}\n" for ban in added] + [f"  lifted  {ban}\n" for ban in removed]
    changes += [f"  signed by  {signer}\n" for signer in made_by]
    headline = f"wrote {file}: {ban_lists.headline(listed)}, {count(len(listed.bans), 'ban')}\n"
    out.decide("".join([headline, *changes]))
    if made_by:
        out.note(f"publish {file} and {file}.sig together")
        return
    out.note(f"not signed yet: {shlex.join(['wcp-attest', 'ban', 'sign', file, '--key', 'KEY'])}")
    if os.path.lexists(os.path.realpath(file) + ".sig"):
        out.note(f"{file}.sig no longer fits: every verifier that reads {file} denies until you sign it")
