"""`wcp-route enroll | withdraw | list | quarantine`."""

from __future__ import annotations

import os
from dataclasses import replace

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.command_table import StrictCommand
from wcp_route.cli.files import read_file
from wcp_route.cli.opening import (
    by_option,
    create_option,
    key_option,
    opened_state,
    os_user,
    state_option,
    trust_option,
)
from wcp_route.cli.say import answer, format_option, note, say_json, table


@click.command(cls=StrictCommand)
@click.argument("record", metavar="RECORD")
@click.option("--package", metavar="DIR", required=True, help="The package tree that is verified and dispatched.")
@click.option("--replace", "replacing", is_flag=True, help="Replace the worker's earlier record.")
@create_option
@by_option
@state_option
@trust_option
@key_option
@format_option
def enroll(
    record: str,
    package: str,
    replacing: bool,
    by: str,
    state: str,
    trust_path: str | None,
    receipt_key: str | None,
    form: str,
) -> int:
    """Enroll the worker of a record. With --policy its package is verified first, and refused at once if it fails."""
    from wcp_route.domain.record_model import MAX_RECORD_BYTES, read_record

    worker = read_record(read_file(record, limit=MAX_RECORD_BYTES, what="registry record"))
    root = os.path.abspath(package)
    if not os.path.isdir(root) or os.path.islink(root):
        raise ConfigError(f"{package!r} is not a directory; give the package directory itself")
    if trust_path is not None:
        from wcp_attest import Expectation, load_policy, verify

        expect = Expectation(worker.worker_id, worker.worker_species_id)
        verdict = verify(root, load_policy(trust_path), expect=expect)
        if not verdict:
            refused = f"{worker.worker_id} is refused: {verdict.code}: {verdict.message}"
            known = {"worker_id": worker.worker_id, "attest_code": str(verdict.code), "message": verdict.message}
            answer(form, "worker-enrolled", refused, done=False, **known)
            return 1 if verdict.decided else 2
    else:
        note("the package was not verified now (no --policy); it is verified before every dispatch")
    with_package = replace(worker, package_root=root)
    with opened_state(state, receipt_key=receipt_key) as store:
        store.registry.enroll(with_package, replace=replacing, by=by, via=f"os-user:{os_user()}")
    answer(form, "worker-enrolled", f"{worker.worker_id} is enrolled", done=True, worker_id=worker.worker_id)
    return 0


@click.command(cls=StrictCommand)
@click.argument("worker_id")
@by_option
@state_option
@key_option
@format_option
def withdraw(worker_id: str, by: str, state: str, receipt_key: str | None, form: str) -> int:
    """Take a worker out of the registry. Exit 1 when it is not there."""
    with opened_state(state, receipt_key=receipt_key) as store:
        gone = store.registry.withdraw(worker_id, by=by, via=f"os-user:{os_user()}")
    text = f"{worker_id} {'is withdrawn' if gone else 'was not enrolled'}"
    answer(form, "worker-withdrawn", text, done=gone, worker_id=worker_id)
    return 0 if gone else 1


@click.command("list", cls=StrictCommand)
@state_option
@format_option
def list_(state: str, form: str) -> int:
    """List enrolled workers and their standing."""
    from wcp_route.domain.clock import format_ms

    with opened_state(state, read_only=True) as store:
        snapshot = store.registry.snapshot()
    rows = []
    for worker_id in sorted(snapshot.workers):
        worker, held = snapshot.workers[worker_id], snapshot.quarantined.get(worker_id)
        standing = "enrolled" if held is None else f"quarantined since {format_ms(held.at_ms)}: {held.reason}"
        rows.append((worker_id, worker.worker_species_id, standing, worker.package_root))
    if form == "json":
        names = ("worker_id", "worker_species_id", "standing", "package_root")
        say_json([dict(zip(names, row, strict=True)) for row in rows], "worker-list")
    elif rows:
        table(rows)
    else:
        note("no worker is enrolled; start with `wcp-route enroll`")
    return 0


@click.command(cls=StrictCommand)
@click.argument("worker_id")
@click.option("--clear", "clearing", is_flag=True, help="The worker may be used again.")
@click.option("--reason", default="by an operator", help="Why; goes into the receipt.")
@by_option
@state_option
@key_option
@format_option
def quarantine(
    worker_id: str, clearing: bool, reason: str, by: str, state: str, receipt_key: str | None, form: str
) -> int:
    """Put a worker into quarantine, or clear it when you know why it failed."""
    from wcp_route.domain.clock import now_ms
    from wcp_route.domain.wire_model import check_worker_id

    try:
        check_worker_id(worker_id)
    except ValueError as problem:
        raise ConfigError(f"{worker_id[:200]!r} is no worker id: it {problem}") from None
    via = f"os-user:{os_user()}"
    with opened_state(state, receipt_key=receipt_key) as store:
        if not clearing:
            if store.registry.lookup(worker_id) is None:
                note(f"{worker_id} is not enrolled here; it is put into quarantine anyway")
            store.registry.quarantine(worker_id, reason, by=by, at_ms=now_ms(), via=via)
            answer(form, "worker-quarantined", f"{worker_id} is in quarantine", done=True, worker_id=worker_id)
            return 0
        cleared = store.registry.clear(worker_id, by=by, at_ms=now_ms(), via=via, reason=reason)
    text = f"{worker_id} {'is cleared' if cleared else 'was not in quarantine'}"
    answer(form, "worker-cleared", text, done=cleared, worker_id=worker_id)
    return 0 if cleared else 1
