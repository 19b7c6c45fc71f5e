"""`wcp-attest ban new`, `add`, `remove` and `sign`: the life of a list, one version at a time."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli import ban_lists
from wcp_attest.cli.ban_lists import SubjectFlags, expires_option, list_argument, subject_options
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.signers import SignerFlags, signer_options, signers_of
from wcp_attest.cli.text import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.signing import SignedBy
    from wcp_attest.trust.bans.ban import Ban
    from wcp_attest.trust.bans.document import BanList

_SIGNER_NAMES = SignerFlags._fields


@click.command()
@list_argument
@click.option("--name", required=True, metavar="NAME", help="Which list this is, of a-z 0-9 . -, such as acme-prod.")
@click.option("--expires", default="7d", show_default=True, metavar="SPAN", help="How long a version may be used.")
@reporting("text", "json")
def new(out: Output, /, file: str, name: str, expires: str) -> None:
    """Start an empty list in LIST, version 1. It is of no use before it is signed."""
    from wcp_attest.trust.bans.document import BanList, Head

    if os.path.lexists(file):
        raise ConfigError(f"{file!r} exists; a list is never overwritten, or its version would go back")
    issued_at = ban_lists.now()
    head = Head(name, 1, issued_at, issued_at + ban_lists.span(expires))
    listed = BanList.make(Head.from_json(head.to_json()), ())
    ban_lists.write_list(file, None, listed)
    _report(out, file, listed, added=(), removed=())


@click.command()
@list_argument
@subject_options
@click.option("--reason", required=True, metavar="TEXT", help="Why, for whoever meets the ban.")
@click.option("--source", metavar="TEXT", help="Who says so; by default the name of the list.")
@click.option("--reference", default="", metavar="URL", help="Where more is to be read.")
@expires_option
@reporting("text", "json")
def add(
    out: Output,
    /,
    file: str,
    reason: str,
    source: str | None,
    reference: str,
    expires: str | None,
    **subjects: Any,
) -> None:
    """Ban somebody or something: write the next version of LIST with it.

    A ban of the same subject is replaced. The signatures no longer fit then: sign again.
    """
    from wcp_attest.base.identity import format_utc

    before, listed = ban_lists.read_list(file)
    bans = ban_lists.bans_of(
        SubjectFlags(**subjects),
        reason=reason,
        banned_at=format_utc(ban_lists.now()),
        source=source or listed.head.name,
        reference=reference,
    )
    following = _issue(listed, (*listed.bans, *bans), expires)
    ban_lists.write_list(file, before, following)
    _report(out, file, following, added=bans, removed=())


@click.command()
@list_argument
@subject_options
@expires_option
@reporting("text", "json")
def remove(out: Output, /, file: str, expires: str | None, **subjects: Any) -> None:
    """Lift bans: write the next version of LIST without them.

    A subject must be given as it was banned, with the same --versions or --issuer.
    """
    from wcp_attest.base.identity import format_utc

    before, listed = ban_lists.read_list(file)
    wanted = ban_lists.bans_of(SubjectFlags(**subjects), reason="lifted", banned_at=format_utc(0), source="-")
    lifted = {ban.sort_key() for ban in wanted}
    removed = [ban for ban in listed.bans if ban.sort_key() in lifted]
    missing = lifted - {ban.sort_key() for ban in removed}
    if missing:
        names = ", ".join(str(ban) for ban in wanted if ban.sort_key() in missing)
        raise ConfigError(f"not on the list: {names}; `wcp-attest ban show` prints what is")
    following = _issue(listed, [ban for ban in listed.bans if ban.sort_key() not in lifted], expires)
    ban_lists.write_list(file, before, following)
    _report(out, file, following, added=(), removed=removed)


@click.command()
@list_argument
@signer_options
@click.option("--renew", is_flag=True, help="Write the next version with the same bans first, fresh for --expires.")
@expires_option
@reporting("text", "json")
def sign(out: Output, /, file: str, renew: bool, expires: str | None, **signing: Any) -> None:
    """Sign LIST: write LIST.sig.

    Signatures of others over this very version stay, so that several can sign one list; those over another version are
    dropped.
    """
    from wcp_attest.base.digest import sha256_hex
    from wcp_attest.disk.files import read_bounded
    from wcp_attest.disk.overwrite import OutputKind, check_place, only_writer, unchanged, write_file
    from wcp_attest.package.ours import is_signature_lines
    from wcp_attest.package.signature_file import MAX_SIGNATURE_FILE_BYTES
    from wcp_attest.trust.bans.signed_list import SIGNATURE_SUFFIX, sign_list
    from wcp_attest.trust.bans.state import Seen

    if expires is not None and not renew:
        raise click.UsageError("--expires belongs to --renew: what is signed cannot change")
    before, listed = ban_lists.read_list(file)
    data = before
    if renew:
        listed = _issue(listed, listed.bans, expires)
        data = listed.to_bytes()
    elif ban_lists.now() >= listed.head.expires_at:
        raise ConfigError(f"{file!r} has expired, nobody would accept it; use --renew, or `wcp-attest ban add`")
    target = os.path.realpath(file) + SIGNATURE_SUFFIX
    kind = OutputKind("a signature file of wcp-attest", is_signature_lines, MAX_SIGNATURE_FILE_BYTES + 1)
    check_place(target, kind)
    earlier = None
    if os.path.lexists(target):
        earlier = read_bounded(target, limit=MAX_SIGNATURE_FILE_BYTES, what="the signatures")
    signers = signers_of(SignerFlags(**{name: signing[name] for name in _SIGNER_NAMES}))
    signatures, made_by = sign_list(Seen(listed.head, sha256_hex(data)), signers, earlier or b"")
    if renew:
        ban_lists.write_list(file, before, listed)
    with only_writer(os.path.dirname(target)):
        unchanged(target, earlier)
        write_file(target, signatures, kind)
    _report_signed(out, file, listed, made_by, signatures)


def _report_signed(out: Output, file: str, listed: BanList, made_by: Sequence[SignedBy], signatures: bytes) -> None:
    if out.format == "json":
        value = ban_lists.list_json(file, listed)
        value["signers"] = [str(signer) for signer in made_by]
        value["signatures"] = signatures.count(b"\n")
        out.deliver_json("ban-sign", value)
        return
    signers = "".join(f"  signed by  {signer}\n" for signer in made_by)
    out.decide(f"{out.paint('good', 'SIGNED')}  {file}  {ban_lists.headline(listed)}\n{signers}")
    out.note(f"publish {file} and {file}.sig together")


def _issue(listed: BanList, bans: Sequence[Ban], expires: str | None) -> BanList:
    lifetime = listed.head.expires_at - listed.head.issued_at if expires is None else ban_lists.span(expires)
    return listed.issue(now=ban_lists.now(), lifetime=lifetime, bans=bans)


def _report(out: Output, file: str, listed: BanList, *, added: Sequence[Ban], removed: Sequence[Ban]) -> None:
    if out.format == "json":
        value = ban_lists.list_json(file, listed)
        value["added"] = [ban.to_json() for ban in added]
        value["removed"] = [ban.to_json() for ban in removed]
        out.deliver_json("ban-edit", value)
        return
    changes = [f"  banned  {ban}\n" for ban in added] + [f"  lifted  {ban}\n" for ban in removed]
    headline = f"wrote {file}: {ban_lists.headline(listed)}, {count(len(listed.bans), 'ban')}\n"
    out.decide("".join([headline, *changes]))
    out.note(f"not signed yet: {shlex.join(['wcp-attest', 'ban', 'sign', file, '--key', 'KEY'])}")
