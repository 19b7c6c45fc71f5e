"""`wcp-attest ban check` and `impact`: whether lists can be used, and which packages they hit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import BansUnusable, ConfigError
from wcp_attest.cli import ban_lists
from wcp_attest.cli.ban_lists import list_argument
from wcp_attest.cli.failure_report import REFUSED, UNDECIDED
from wcp_attest.cli.option_groups import GroupedCommand, grouped
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.text import count
from wcp_attest.cli.trust import POLICY_VARIABLE, TrustFlags, keyless_options, public_key_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from wcp_attest.advice.ban_impact import Impact
    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.trust.bans.bans_table import BansCondition
    from wcp_attest.trust.bans.feeds import VerifiedList
    from wcp_attest.trust.bans.signed_list import ListSigners


@click.command(cls=GroupedCommand)
@click.argument("file", metavar="[LIST]", type=click.Path(), required=False)
@grouped(
    "Trust",
    click.option(
        "--policy", envvar=POLICY_VARIABLE, show_envvar=True, type=click.Path(), help="The trust policy (TOML)."
    ),
    public_key_option(multiple=True, help="Of LIST: trust this key."),
    click.option("--hmac", is_flag=True, help="Of LIST: trust the shared secret in WCP_ATTEST_HMAC_KEY."),
    click.option("--hmac-file", multiple=True, type=click.Path(), metavar="FILE", help="Of LIST: trust this secret."),
    click.option("--threshold", type=click.IntRange(1), default=1, help="Of LIST: how many of them must have signed."),
)
@keyless_options
@reporting("text", "json")
def check(out: Output, /, file: str | None, policy: str | None, **trust: Any) -> int:
    """Check that ban lists can be used: signed by signers you trust for lists, fresh, and not rolled back.

    With LIST, that list is checked with the keys given, or with the signers in the policy's [bans]; earlier versions
    are not remembered. Without LIST, every source of the policy is checked exactly as `wcp-attest verify` does.

    Exit status 0: all can be used. Exit status 1: one cannot.
    """
    threshold = trust.pop("threshold")
    flags = TrustFlags(**trust)
    rows = list(_check_policy(policy, flags) if file is None else _check_list(file, policy, flags, threshold))
    ok = all(row["ok"] for row in rows)
    if out.format == "json":
        out.deliver_json("ban-check", {"ok": ok, "lists": list(rows)})
    else:
        out.decide("".join(_row_text(out, row) for row in rows))
    return 0 if ok else REFUSED


def _check_policy(policy: str | None, flags: TrustFlags) -> Iterator[JsonObject]:
    if policy is None:
        raise click.UsageError(f"nothing to check: give a LIST, or --policy FILE (or {POLICY_VARIABLE})")
    if flags.given:
        raise click.UsageError("--public-key, --hmac, --identity and the like are for one LIST; a policy names its own")
    condition = _condition(policy)
    verifier = condition.verifier_at(now=ban_lists.now())
    for feed in condition.feeds:
        try:
            yield _row(feed.open(verifier))
        except BansUnusable as problem:
            yield {"source": feed.name, "ok": False, "message": str(problem)}


def _check_list(file: str, policy: str | None, flags: TrustFlags, threshold: int) -> Iterator[JsonObject]:
    from wcp_attest.trust.bans.feeds.file_feed import FileFeed
    from wcp_attest.trust.bans.list_verifier import ListVerifier
    from wcp_attest.trust.bans.rollback_guard import NoRollbackGuard

    signers = _signers(policy, flags, threshold)
    feed = FileFeed(os.path.abspath(file))
    max_age = _condition(policy).max_age if policy is not None else ban_lists.MAX_LIFETIME
    try:
        yield _row(feed.open(ListVerifier(signers, max_age, NoRollbackGuard(""), ban_lists.now())))
    except BansUnusable as problem:
        yield {"source": feed.name, "ok": False, "message": str(problem)}


def _signers(policy: str | None, flags: TrustFlags, threshold: int) -> ListSigners:
    from wcp_attest.cli.trust import identities_of, keys_of, sigstore_trust_of
    from wcp_attest.trust.bans.signed_list import ListSigners

    if flags.given:
        if policy is not None:
            raise click.UsageError("a policy and --public-key, --hmac, --identity and the like exclude each other")
        return ListSigners(keys_of(flags), identities_of(flags), threshold, sigstore_trust_of(flags))
    if policy is None:
        raise click.UsageError("who may have signed it? give --public-key FILE, --identity, --hmac or --policy FILE")
    signers = _condition(policy).signers
    if signers is None:
        raise ConfigError(f"the policy {policy!r} names no signer of ban lists")
    return signers


def _condition(policy: str) -> BansCondition:
    from wcp_attest.trust.bans.bans_table import BansCondition
    from wcp_attest.trust.policy_file import load_policy

    for condition in load_policy(policy).conditions:
        if isinstance(condition, BansCondition):
            return condition
    raise ConfigError(f"the policy {policy!r} has no [bans]; nothing is banned by it")


def _row(opened: VerifiedList) -> JsonObject:
    head = opened.index.head.to_json()
    digest = opened.index.list_sha256
    return {"source": opened.source, "ok": True, "message": opened.note, **head, "list_sha256": digest}


def _row_text(out: Output, row: JsonObject) -> str:
    if not row["ok"]:
        return f"{out.paint('bad', 'UNUSABLE')}  {row['message']}\n"
    note = f"\n    {row['message']}" if row["message"] else ""
    return (
        f"{out.paint('good', 'OK')}  {row['source']}: {row['name']} version {row['version']}, "
        f"issued {row['issued_at']}, expires {row['expires_at']}{note}\n"
    )


@click.command(cls=GroupedCommand)
@list_argument
@click.argument("places", metavar="MANIFEST|DIR...", nargs=-1, required=True, type=click.Path())
@click.option("--compiled", is_flag=True, help="LIST is a compiled one.")
@reporting("text", "json")
def impact(out: Output, /, file: str, places: tuple[str, ...], compiled: bool) -> int:
    """Tell which stored manifests LIST would refuse. Nothing is verified, neither LIST nor the manifests.

    In a DIR, every manifest.json below it is judged, also that of a detached pair. Those of other programs are passed
    over and counted.

    Exit status 0: LIST would refuse none. Exit status 1: some. Exit status 2: some could not be judged.
    """
    from wcp_attest.advice.ban_impact import find_manifests, impact_on
    from wcp_attest.trust.bans.ban_check import Bans
    from wcp_attest.trust.bans.feeds import VerifiedList

    if compiled:
        from wcp_attest.trust.bans.compiled import CompiledBans

        with ban_lists.as_input():
            bans = Bans([VerifiedList(file, CompiledBans.open(file))])
    else:
        from wcp_attest.base.digest import sha256_hex
        from wcp_attest.trust.bans.lookup import index_list

        data, listed = ban_lists.read_list(file)
        bans = Bans([VerifiedList(file, index_list(listed, sha256_hex(data)))])
    judged = foreign = 0
    found: list[Impact] = []
    for path in find_manifests(places):
        result = impact_on(bans, path)
        if result.foreign and path in places:
            raise ConfigError(f"{path!r} is the manifest of another program; nothing was judged")
        foreign += result.foreign
        judged += not result.foreign
        if result.hits or result.problem:
            found.append(result)
    if not judged:
        raise ConfigError("there is no manifest.json of a package in the places given; nothing was judged")
    _report_impact(out, file, (judged, foreign), found)
    if any(result.problem for result in found):
        return UNDECIDED
    return REFUSED if found else 0


def _report_impact(out: Output, file: str, counts: tuple[int, int], found: Sequence[Impact]) -> None:
    judged, foreign = counts
    hit = [result for result in found if result.hits]
    unread = [result for result in found if result.problem]
    if out.format == "json":
        value: JsonObject = {"file": file, "judged": judged, "foreign": foreign, "verified": False}
        value["refused"] = [
            {
                "path": result.path,
                "worker_id": result.worker_id,
                "worker_version": result.worker_version,
                "bans": [{**each.ban.to_json(), "path": each.path} for each in result.hits],
            }
            for result in hit
        ]
        value["undecided"] = [{"path": result.path, "message": result.problem} for result in unread]
        out.deliver_json("ban-impact", value)
        return
    lines = [
        f"{result.path}  {result.worker_id} {result.worker_version}\n"
        + "".join(f"    {each}\n" for each in result.hits)
        for result in hit
    ]
    lines += [f"{result.path}  could not be judged: {result.problem}\n" for result in unread]
    lines.append(f"{len(hit)} of {count(judged, 'manifest')} would be refused, {len(unread)} could not be judged\n")
    out.deliver("".join(lines))
    if foreign:
        out.note(f"passed over {count(foreign, 'file')} called manifest.json of other programs")
