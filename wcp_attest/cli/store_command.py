"""`wcp-attest store`: keep verified packages, and hand them out by worker id."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from wcp_attest.base.errors import ConfigError, MachineError, VerificationError
from wcp_attest.cli import verdicts
from wcp_attest.cli.failure_report import REFUSED
from wcp_attest.cli.option_groups import CommandGroup, combine, grouped
from wcp_attest.cli.output import Output, reporting
from wcp_attest.cli.shared_options import attestation_option, jobs_option, root_argument
from wcp_attest.cli.trust import TrustFlags, policy_of, trust_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.store import PackageStore, StoredPackage
    from wcp_attest.store_entries import StoreEntry
    from wcp_attest.verdict import Verified

STORE = "Store"
store_option = grouped(
    STORE,
    click.option(
        "--store",
        envvar="WCP_ATTEST_STORE",
        show_envvar=True,
        metavar="DIR",
        type=click.Path(),
        help="The store; by default your own, below XDG_STATE_HOME.",
    ),
)
group_option = grouped(
    STORE, click.option("--group", metavar="NAME", help="Only this group may read what is added (0550, 0440).")
)
entry_argument = click.argument("entry", metavar="ENTRY")
store_options = combine(
    store_option,
    grouped(
        STORE,
        click.option("--store-owner", metavar="USER", help="Who keeps the store, if it is not root."),
        click.option("--require-hashed", is_flag=True, help="Hash also what only the store's owner can change."),
    ),
)


def owner_id(name: str | None) -> int:
    """Return the id of the user who keeps a store; root by default.

    Raises:
        ConfigError: there is no such user.
    """
    import pwd

    if name is None:
        return 0
    try:
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ConfigError(f"--store-owner: there is no user {name!r} here") from None


def _group_id(name: str | None) -> int | None:
    import grp

    if name is None:
        return None
    try:
        return int(name) if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"--group: there is no group {name!r} here") from None


def _open(path: str | None, *, owner: str | None = None, group: str | None = None) -> PackageStore:
    from wcp_attest.run_package import default_store
    from wcp_attest.store import PackageStore

    place = default_store(os.environ) if path is None else path
    return PackageStore(place, owner=owner_id(owner), group=_group_id(group), private=path is None)


@click.group(cls=CommandGroup, no_args_is_help=False)
def store() -> None:
    """Keep verified packages, and hand them out by worker id.

    \b
      wcp-attest store add my-worker --store /var/lib/wcp/store --policy policy.toml
      wcp-attest store path org.acme.summarizer --store /var/lib/wcp/store --policy policy.toml
      wcp-attest store gc --keep 2 --store /var/lib/wcp/store
    """


@store.command()
@root_argument
@attestation_option
@trust_options
@store_option
@group_option
@jobs_option
@reporting("text", "json")
def add(
    out: Output,
    /,
    package: str,
    attestation: str | None,
    store: str | None,
    group: str | None,
    jobs: int | None,
    **trust: Any,
) -> int:
    """Verify a package and keep a copy of what was verified."""
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.verdict import Expectation

    flags = TrustFlags(**trust)
    policy = policy_of(flags, out)
    place = _open(store, group=group)
    attempt = partial(
        place.add,
        package,
        policy,
        expect=Expectation(flags.worker_id, flags.species_id),
        options=ReadOptions(jobs=jobs),
        attestation=attestation,
    )
    return _hand_out(out, attempt, package)


@store.command()
@click.argument("worker", metavar="WORKER[@VERSION]")
@trust_options
@store_options
@jobs_option
@reporting("text", "json")
def path(
    out: Output,
    /,
    worker: str,
    store: str | None,
    store_owner: str | None,
    require_hashed: bool,
    jobs: int | None,
    **trust: Any,
) -> int:
    """Verify the newest entry of a worker that the policy allows, and print the path of its package."""
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.store_entries import split_worker
    from wcp_attest.verdict import Expectation

    flags = TrustFlags(**trust)
    policy = policy_of(flags, out)
    worker_id, version = split_worker(worker)
    place = _open(store, owner=store_owner)
    attempt = partial(
        place.newest,
        worker_id,
        version,
        policy,
        expect=Expectation(flags.worker_id or worker_id, flags.species_id),
        options=ReadOptions(jobs=jobs),
        require_hashed=require_hashed,
    )
    return _hand_out(out, attempt, worker)


def _hand_out(out: Output, attempt: Callable[[], StoredPackage], named: str) -> int:
    """Print where a verified package lies, or why it is refused."""
    from wcp_attest.verdict import judge

    found: list[StoredPackage] = []

    def check() -> Verified:
        found.append(attempt())
        return found[0].verified

    verdict = judge(check)
    for held in found:
        held.close()
    if out.format == "json":
        value = verdict.to_dict(named)
        if found:
            value |= {"content": found[0].content, "path": found[0].path}
        out.deliver_json("verify-result", value)
    elif found:
        for line in found[0].passed_over:
            out.note(f"passed over {line}")
        out.decide(f"{found[0].path}\n")
    else:
        out.note(verdicts.as_text(verdict, named, out.paint).rstrip("\n"))
    return verdicts.exit_status(verdict)


@store.command(name="list")
@store_option
@reporting("text", "json")
def list_(out: Output, /, store: str | None) -> int:
    """List the entries, as they describe themselves; nothing is verified."""
    place = _open(store)
    entries = list(place.entries())
    _deliver(out, place, [(entry, "unverified") for entry in entries])
    return 0


@store.command()
@click.argument("entry", metavar="[ENTRY]", required=False)
@grouped(
    STORE,
    click.option(
        "--from", "source", metavar="ROOT", type=click.Path(), help="Make a spoilt entry again from this package."
    ),
)
@trust_options
@store_option
@reporting("text", "json")
def check(out: Output, /, entry: str | None, source: str | None, store: str | None, **trust: Any) -> int:
    """Hash entries again. A spoilt one is set aside, and made anew with --from and a policy.

    Whom the policy trusts is not asked here; `store path` and `run` ask at every use.
    """
    place = _open(store)
    names = place.names() if entry is None else [place.resolve(entry)]
    described = {each.name: each for each in place.entries()}
    found: list[tuple[StoreEntry, str]] = []
    for name in names:
        state = "good"
        try:
            place.check(name)
        except MachineError:
            raise
        except VerificationError as problem:
            out.note(f"{name[:16]}… is spoilt and was set aside: {problem}")
            place.set_aside(name)
            state = "set aside"
            if source is not None:
                held = place.add(source, policy_of(TrustFlags(**trust), out))
                held.close()
                state = "made anew" if held.entry == name else state
        found.append((described[name], state))
    _deliver(out, place, found)
    return REFUSED if any(state == "set aside" for _, state in found) else 0


@store.command()
@entry_argument
@store_option
@reporting("text", "json")
def remove(out: Output, /, entry: str, store: str | None) -> int:
    """Remove an entry, named by at least 8 digits, unless somebody runs from it."""
    place = _open(store)
    name = place.resolve(entry)
    described = {each.name: each for each in place.entries()}[name]
    gone = place.remove(name)
    _deliver(out, place, [(described, "removed" if gone else "in use")])
    return 0 if gone else REFUSED


@store.command()
@grouped(
    "What is removed",
    click.option(
        "--keep", type=click.IntRange(0, 10_000), metavar="N", help="Keep the newest N entries of each worker."
    ),
    click.option("--older-than", metavar="SPAN", help="Remove what was added longer ago: 12h, 30d, 8w."),
    click.option("--dry-run", is_flag=True, help="Only print what would be removed."),
)
@store_option
@reporting("text", "json")
def gc(out: Output, /, keep: int | None, older_than: str | None, dry_run: bool, store: str | None) -> int:
    """Remove old entries, what killed commands left behind, and spoilt entries; nothing that is in use."""
    from wcp_attest.cli.ban_lists import span

    place = _open(store)
    if keep is None and older_than is None:
        raise click.UsageError("say what is to go: --keep N, --older-than SPAN, or both")
    limit = None if older_than is None else time.time() - span(older_than)
    found: list[tuple[StoreEntry, str]] = []
    for entry, goes in _aged(place, keep, limit):
        if not goes:
            found.append((entry, "kept"))
        elif dry_run:
            found.append((entry, "would go"))
        else:
            found.append((entry, "removed" if place.remove(entry.name) else "in use"))
    if not dry_run:
        place.collect()
    _deliver(out, place, found)
    return 0


def _aged(place: PackageStore, keep: int | None, limit: float | None) -> Iterator[tuple[StoreEntry, bool]]:
    """Yield the entries of each worker, newest first, and whether each is to go.

    It goes when it is not among the newest `keep` and was added before `limit`; None sets no condition.
    """
    from wcp_attest.base.identity import parse_utc
    from wcp_attest.store_entries import newest_first

    entries = list(place.entries())
    for worker in sorted({entry.worker_id for entry in entries}):
        for rank, entry in enumerate(newest_first(each for each in entries if each.worker_id == worker)):
            added = parse_utc(entry.added_at_utc) or 0
            yield entry, (keep is None or rank >= keep) and (limit is None or added < limit)


def _deliver(out: Output, place: PackageStore, found: list[tuple[StoreEntry, str]]) -> None:
    if out.format == "json":
        rows: list[JsonObject] = [
            {
                "entry": entry.name,
                "path": entry.path,
                "worker_id": entry.worker_id or None,
                "worker_version": entry.worker_version or None,
                "built_at_utc": entry.built_at_utc or None,
                "added_at_utc": entry.added_at_utc or None,
                "state": state,
            }
            for entry, state in found
        ]
        out.deliver_json("store-entries", {"store": place.path, "entries": [*rows]})
        return
    lines = [
        f"{entry.name[:16]}  {state:<10}  {entry.worker_id or '(unreadable)'} {entry.worker_version}".rstrip() + "\n"
        for entry, state in found
    ]
    out.deliver("".join(lines) or "no entries\n")
