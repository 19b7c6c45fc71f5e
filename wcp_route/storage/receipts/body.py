"""Writing a receipt's body, fast: the canonical text directly, without a tree of values in between.

The fields are written in sorted order, each name beside its value as JSON. A test compares the result with the RFC 8785
library for evidence of every kind, so this code does not sort or check.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from json.encoder import encode_basestring as text  # exactly the escapes of RFC 8785 section 3.2.2.2
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json
from wcp_route.domain.clock import format_ms
from wcp_route.domain.ids import new_id_at
from wcp_route.storage.ledger_state import STATE_STREAM
from wcp_route.storage.receipts.receipt import (
    MAX_RECEIPT_BYTES,
    SCHEMA,
    SPEC_VERSION,
    ReceiptHead,
    ReceiptIndex,
    column_text,
    index_of,
    key_of,
)
from wcp_route.storage.state_errors import ReceiptError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.decision import Check, Evidence, RouteDecision

NOT_EVALUATED: Final = "NOT_EVALUATED"  # policy_decision when an earlier check refused or no gate was wanted

MAX_CHECKS: Final = 4096  # checks whose texts are kept
_STREAM = re.compile(r"[!-~]{1,128}\Z")
_FLAGS: Final[Mapping[bool | None, str]] = {True: "true", False: "false", None: "null"}


class Draft(NamedTuple):
    """A receipt without a place in a chain yet: its text, with gaps for the two fields that depend on the place.

    Attributes:
        stream: the stream of its chain.
        before: the text up to the value of `prev_receipt_hash`.
        between: the text from there to the value of `seq`.
        after: the rest of the text.
        found_by: the columns to find it by.
        event: its fields when it changes the ledger's state; None otherwise.
        registry: the registry version that must be in force when it is written; 0 for any version.
    """

    stream: str
    before: str
    between: str
    after: str
    found_by: ReceiptIndex
    event: JsonObject | None = None
    registry: int = 0

    def body(self, head: ReceiptHead) -> bytes:
        """Return the body of the receipt that follows `head` in its stream.

        Args:
            head: the last receipt of its stream.

        Raises:
            ReceiptError: it contains text that UTF-8 cannot encode, or is too large.
        """
        previous = f'"{head.named}"' if head.seq else "null"
        try:
            body = f"{self.before}{previous}{self.between}{head.seq + 1}{self.after}".encode()
        except UnicodeEncodeError:
            raise ReceiptError("the receipt cannot be written: it holds half a surrogate pair") from None
        if len(body) > MAX_RECEIPT_BYTES:
            raise ReceiptError(f"the receipt has {len(body)} bytes, more than {MAX_RECEIPT_BYTES}")
        return body


def draft(evidence: Evidence, *, current: bool = False) -> Draft:
    """Write the parts of a receipt that do not depend on its place in the chain.

    Args:
        evidence: the content of the receipt.
        current: whether the registry version of the decision must still be in force when the receipt is written. It
            is not required of a decision that quarantined its worker, because that changed the registry.

    Raises:
        ReceiptError: the name of the stream is not valid, or the decision contains a value that JSON cannot hold.
    """
    decision = evidence.decision
    if evidence.stream == STATE_STREAM:
        raise ReceiptError("a decision has no place among the events")
    try:
        before = f'{{{_before_previous(evidence, decision)},"prev_receipt_hash":'
        who = evidence.principal
        if who is not None and not who.isascii():  # half a surrogate pair, from a token, must not suppress the receipt
            who = who.encode(errors="replace").decode()
        principal = "" if who is None else f',"principal":{text(who)}'
        between = (
            f'{principal},"privilege_envelope_ok":{_FLAGS[decision.privilege_envelope_ok]}'
            f',"qos_class":{_or_null(decision.qos_class)}'
            f',"quarantined":{_FLAGS[decision.quarantined]}'
            f',"receipt_id":"{new_id_at(decision.decided_at_ms)}"'
            f',"schema":"{SCHEMA}"'
            ',"seq":'
        )
        after = (
            f',"signers":{_texts(evidence.signers)}'
            f',"spec_version":"{SPEC_VERSION}"'
            f',"stream":{_stream(evidence.stream)}'
            f',"supervisor_level":{_or_null(decision.supervisor_level)}'
            f',"task_id":{text(decision.task_id)}'
            f',"tenant_id":{text(decision.tenant_id)}'
            f',"tenant_risk":{_or_null(decision.tenant_risk)}'
            f',"versions":{_versions(_parts(evidence.versions))}'
            f',"worker_attestation_checked":{_FLAGS[decision.worker_attestation_checked]}'
            f',"worker_attestation_valid":{_FLAGS[decision.worker_attestation_valid]}'
            f',"worker_id":{text(decision.worker_id)}'
            f',"worker_species_id":{text(decision.worker_species_id)}}}'
        )
    except ReceiptError:
        raise
    except ConfigError as problem:
        raise ReceiptError(f"the receipt cannot be written: {problem}") from None
    found_by = ReceiptIndex(
        "decision",
        decision.decided_at_ms,
        column_text(decision.tenant_id),
        column_text(decision.worker_id),
        decision.outcome,
        "" if decision.reason is None else decision.reason.code.value,
        key_of(decision.decision_id),
        key_of(decision.correlation_id),
    )
    registry = evidence.versions.registry if current and not decision.quarantined else 0
    return Draft(evidence.stream, before, between, after, found_by, registry=registry)


def draft_event(event: JsonObject) -> Draft:
    """Write the parts of an event that do not depend on its place in the chain.

    Args:
        event: its fields.

    Raises:
        ReceiptError: it contains a value that JSON cannot hold.
    """
    try:
        parts = [
            canonical_json({name: value for name, value in event.items() if low < name < high}).decode()[1:-1]
            for low, high in (("", "prev_receipt_hash"), ("prev_receipt_hash", "seq"), ("seq", "~"))
        ]
        index = index_of(event)
    except ConfigError as problem:
        raise ReceiptError(f"the event cannot be written: {problem}") from None
    before, between, after = parts
    return Draft(
        str(event["stream"]),
        f'{{{before},"prev_receipt_hash":',
        f',{between},"seq":',
        f",{after}}}",
        index,
        event if event["stream"] == STATE_STREAM else None,
    )


def _before_previous(evidence: Evidence, decision: RouteDecision) -> str:
    """Write the fields before `prev_receipt_hash` in the order. Hints of candidates have no effect and are left out."""
    expires, reason, grant = decision.approval_expires_at_ms, decision.reason, evidence.grant_id
    candidates = [
        f'{{"skip_reason":{text(one.skip_reason)},"worker_species_id":{text(one.worker_species_id)}}}'
        for one in decision.candidates
    ]
    if reason is None:
        denied = '"deny_code":null,"deny_extras":{},"deny_message":null'
    else:
        extras = canonical_json(dict(reason.extras)).decode()
        denied = f'"deny_code":{text(reason.code)},"deny_extras":{extras},"deny_message":{text(reason.message)}'
    grant_hash = f"sha256:{sha256(grant.encode()).hexdigest()}" if grant else ""  # the grant itself is a bearer token
    return (
        f'"approval_expires_at":{"null" if expires is None else _time(expires)}'
        f',"artifact_hash":{text(decision.request_hash)}'
        f',"blast_declared":{_or_null(decision.blast_declared)}'
        f',"blast_gate_passed":{_FLAGS[decision.blast_gate_passed]}'
        f',"blast_score":{_or_null(decision.blast_score)}'
        f',"candidates":[{",".join(candidates)}]'
        f',"capability_id":{text(decision.capability_id)}'
        f',"checks":[{_checks(evidence.checks)}]'
        f',"controls_required":{_texts(decision.required_controls)}'
        f',"controls_verified":{_texts(evidence.controls_verified)}'
        f',"correlation_id":{text(decision.correlation_id)}'
        f',"data_label":{_or_null(decision.data_label)}'
        f',"decision_id":{text(decision.decision_id)}'
        f',"denied":{_FLAGS[decision.denied]}'
        f",{denied}"
        f',"dispatched_at":{_time(decision.decided_at_ms)}'
        f',"dry_run":{_FLAGS[decision.dry_run]}'
        f',"env":{_or_null(decision.env)}'
        f',"grant_hash":"{grant_hash}"'
        f',"input_hash":{text(decision.input_hash)}'
        f',"matched_rule_id":{text(decision.matched_rule_id)}'
        f',"outcome":{text(decision.outcome)}'
        f',"package_hash":{text(evidence.package_hash)}'
        f',"pending_approval_id":{text(decision.pending_approval_id)}'
        f',"policy_decision":{text(decision.policy_decision or NOT_EVALUATED)}'
        f',"policy_reason":{text(decision.policy_reason)}'
    )


# The texts of checks, each written once: most gates say the same thing, as the same value, time after time. Checks are
# known by their identity, which nothing else can have while they are kept beside their text.
_written: dict[int, tuple[Check, str]] = {}


def _checks(checks: Sequence[Check]) -> str:
    """Return the texts of checks, with commas between them."""
    found: list[str] = []
    for check in checks:
        known = _written.get(id(check))
        if known is not None:
            found.append(known[1])
            continue
        detail = f'"detail":{text(check.detail)},' if check.detail else ""
        # The gates name their digests in ASCII, so that any order of the names is the same order.
        digests = ",".join([f"{text(name)}:{text(value)}" for name, value in sorted(check.digests)])
        digests = f'"digests":{{{digests}}},' if digests else ""
        found.append(f'{{{detail}{digests}"name":{text(check.name)},"outcome":{text(check.outcome)}}}')
        if not check.digests:  # those differ from worker to worker
            if len(_written) >= MAX_CHECKS:
                _written.clear()
            _written[id(check)] = (check, found[-1])
    return ",".join(found)


_parts = attrgetter("bans", "config", "policy", "registry", "rules", "trust_policy")


@lru_cache(maxsize=64)  # they change when somebody changes something, not with every decision
def _versions(parts: tuple[str, str, str, int, str, str]) -> str:
    bans, config, policy, registry, rules, trust_policy = parts
    return (
        f'{{"bans":{text(bans)}'
        f',"config":{text(config)}'
        f',"policy":{text(policy)}'
        f',"registry":{registry}'
        f',"rules":{text(rules)}'
        f',"trust_policy":{text(trust_policy)}}}'
    )


@lru_cache(maxsize=4096)
def _stream(name: str) -> str:
    if _STREAM.match(name) is None:
        raise ReceiptError(f"{name[:140]!r} cannot name a stream; use 1 to 128 printable characters")
    return text(name)


@lru_cache(maxsize=4096)  # lists of controls, and of signers
def _texts(items: tuple[str, ...]) -> str:
    return f"[{','.join([text(item) for item in items])}]"


@lru_cache(maxsize=64)  # decisions come many to a millisecond
def _time(milliseconds: int) -> str:
    return f'"{format_ms(milliseconds)}"'


def _or_null(item: str | int | None) -> str:
    if isinstance(item, str):
        return text(item)
    return "null" if item is None else str(item)
