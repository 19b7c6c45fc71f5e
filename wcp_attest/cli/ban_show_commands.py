"""`wcp-attest ban show`, `diff` and `compile`: look at lists, and make them quick to search. They verify nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wcp_attest.cli import ban_lists
from wcp_attest.cli.ban_lists import list_argument
from wcp_attest.cli.failure_report import REFUSED
from wcp_attest.cli.option_groups import GroupedCommand
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.text import count

if TYPE_CHECKING:
    from wcp_attest.trust.bans.ban import Ban

WARNING = "this verifies nothing; use `wcp-attest ban check`"


@click.command(cls=GroupedCommand)
@list_argument
@reporting("text", "json")
def show(out: Output, /, file: str) -> None:
    """Print what LIST says. No signature is checked, so this verifies nothing."""
    _, listed = ban_lists.read_list(file)
    if out.format == "json":
        value = {**ban_lists.list_json(file, listed), "verified": False}
        out.deliver_json("ban-show", {**value, "entries": [ban.to_json() for ban in listed.bans]})
        return
    out.deliver(f"{ban_lists.headline(listed)}, {count(len(listed.bans), 'ban')}\n" + "".join(map(_line, listed.bans)))
    out.note(WARNING)


@click.command(cls=GroupedCommand)
@click.argument("old", metavar="OLD", type=click.Path())
@click.argument("new", metavar="NEW", type=click.Path())
@reporting("text", "json")
def diff(out: Output, /, old: str, new: str) -> int:
    """Compare two lists.

    Exit status 0: they ban the same. Exit status 1: they do not.
    """
    before, after = ({ban.sort_key(): ban for ban in ban_lists.read_list(path)[1].bans} for path in (old, new))
    added = [ban for key, ban in after.items() if key not in before]
    removed = [ban for key, ban in before.items() if key not in after]
    changed = [ban for key, ban in after.items() if key in before and before[key] != ban]
    same = not (added or removed or changed)
    if out.format == "json":
        groups = {"added": added, "removed": removed, "changed": changed}
        out.deliver_json(
            "ban-diff",
            {
                "old": old,
                "new": new,
                "same": same,
                **{name: [b.to_json() for b in bans] for name, bans in groups.items()},
            },
        )
    else:
        marks = (("-", removed), ("+", added), ("~", changed))
        out.deliver("".join(f"{mark} {_line(ban).lstrip()}" for mark, bans in marks for ban in bans))
    return 0 if same else REFUSED


@click.command("compile", cls=GroupedCommand)
@list_argument
@click.argument("target", metavar="COMPILED", type=click.Path())
@click.option("--check", is_flag=True, help="Write nothing; check that COMPILED is whole and was made from LIST.")
@reporting("text", "json")
def compile_(out: Output, /, file: str, target: str, check: bool) -> None:
    """Compile LIST into COMPILED, in which any number of digests is searched in microseconds.

    The policy names both: `file = "LIST"`, `compiled = "COMPILED"`. Compile again whenever LIST changes; until then the
    compiled form is refused.
    """
    from wcp_attest.trust.bans.compiled import CompiledBans
    from wcp_attest.trust.bans.list_compiler import check_compiled, compile_list

    if check:
        check_compiled(file, target)
    else:
        with ban_lists.as_input():
            compile_list(file, target)
    with CompiledBans.open(target) as compiled:
        head, digests, digest = compiled.head, len(compiled), compiled.list_sha256
        others = sum(1 for _ in compiled.others)
    if out.format == "json":
        value = {"file": file, "compiled": target, **head.to_json(), "list_sha256": digest}
        out.deliver_json("ban-compile", {**value, "digests": digests, "others": others, "written": not check})
        return
    done = "is whole and made from" if check else "made from"
    out.decide(f"{target}: {done} {file}, {head.name} version {head.version}, {count(digests + others, 'ban')}\n")


def _line(ban: Ban) -> str:
    more = f"  {ban.reference}" if ban.reference else ""
    return f"  {ban}  {ban.banned_at}  {ban.source}: {ban.reason}{more}\n"
