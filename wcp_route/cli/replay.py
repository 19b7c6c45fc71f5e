"""`wcp-route replay`: judge a past request once more, and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import ConfigError
from wcp_attest.cli.command_table import StrictCommand
from wcp_route.cli.files import read_file
from wcp_route.cli.opening import (
    MAX_KEY_BYTES,
    cedar_option,
    config_option,
    hall_state_option,
    head_option,
    key_option,
    load_cedar,
    read_config_file,
    read_head,
    read_receipt_key,
    read_rules_file,
    rules_option,
    trust_option,
)
from wcp_route.cli.say import format_option, note, say, say_json

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonValue
    from wcp_route.replay import Replayed
    from wcp_route.storage.receipts import ReceiptKey

MAX_SHOWN = 200  # characters of a value in text


@click.command(cls=StrictCommand)
@click.argument("decision", metavar="DECISION")
@click.argument("request", metavar="[REQUEST]", default="-")
@config_option
@rules_option
@hall_state_option
@trust_option
@cedar_option
@key_option
@click.option("--key", "keys", metavar="FILE", multiple=True, help="A public key whose signatures are trusted.")
@click.option("--allow-unsigned", is_flag=True, help="Accept an unsigned ledger.")
@head_option
@click.option("--principal", help="The tenant that was authenticated then.")
@format_option
def replay(  # one for each option
    decision: str,
    request: str,
    config_path: str,
    rules_path: str,
    state: str,
    trust_path: str | None,
    cedar: str | None,
    receipt_key: str | None,
    keys: tuple[str, ...],
    allow_unsigned: bool,
    head: str | None,
    principal: str | None,
    form: str,
) -> int:
    """Judge the request of a past DECISION once more, by what was in force then.

    DECISION is a decision id, the hash of its receipt, or stream/number. REQUEST is the request as it was (JSON).
    Rules, settings and trust policy must be those of that time; others are refused. The ledger is not changed.

    Exit status 0: the same answer, bit for bit. 1: another one, or a receipt that is not what was sealed.
    """
    from wcp_attest import load_policy
    from wcp_route.domain.request_model import MAX_REQUEST_BYTES
    from wcp_route.replay import replay as judge
    from wcp_route.storage.past import past_decision
    from wcp_route.storage.receipts import ReceiptKey
    from wcp_route.storage.state import open_state

    trusted: list[ReceiptKey] = [
        ReceiptKey.from_file_bytes(read_file(path, limit=MAX_KEY_BYTES, what="receipt key"), what="receipt key")
        for path in keys
    ]
    signer = read_receipt_key(receipt_key)
    if signer is not None:
        trusted.append(signer.public)
    if not trusted and not allow_unsigned:
        raise ConfigError("no receipt key: give --key FILE, or --allow-unsigned for an unsigned ledger")
    data = read_file(request, limit=MAX_REQUEST_BYTES, what="request")
    config, rules = read_config_file(config_path), read_rules_file(rules_path)
    policy = None if trust_path is None else load_policy(trust_path)
    kept = read_head(head)
    with open_state(state, keys=trusted, head=kept, create=False, read_only=True, guarded=not allow_unsigned) as opened:
        past = past_decision(opened.ledger, decision)
    gate = None if cedar is None else load_cedar(cedar)
    found = judge(past, data, rules, policy, config, policy_gate=gate, principal=principal)
    _show(found, form, corrected=past.corrected)
    return 1 if found.differences else 0


def _show(found: Replayed, form: str, *, corrected: bool) -> None:
    if form == "json":
        differences: list[JsonValue] = [
            {"name": one.name, "recorded": one.recorded, "judged": one.judged} for one in found.differences
        ]
        same = not differences
        say_json(
            {"same": same, "differences": differences, "as_recorded": [*found.taken], "corrected": corrected}, "replay"
        )
        return
    code = found.judged["deny_code"]
    say(f"{found.judged['outcome']}{'' if code is None else f'  {code}'}")
    for one in found.differences:
        say(f"DIFFERS  {one.name}: recorded {one.recorded!r:.{MAX_SHOWN}}, judged {one.judged!r:.{MAX_SHOWN}}")
    for line in found.taken:
        note(f"as recorded: {line}")
    if corrected:
        note(
            "the caller was told DENY_RECEIPT_UNAVAILABLE instead: the receipt came too late, and a correction says so"
        )
    say("not the same" if found.differences else "the same, bit for bit")
