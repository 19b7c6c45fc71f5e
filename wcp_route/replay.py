"""Judge a past request again, by what was in force when it was decided, and compare every bit of the receipt.

    with open_state("hall.db", keys=[public_key], read_only=True) as state:
        past = past_decision(state.ledger, decision_id)
        replayed = replay(past, request, rules, trust_policy, config)
    for difference in replayed.differences: …

The ledger keeps digests of the request, the rules, the settings and the trust policy, not their content. You bring the
content; content with another digest is refused. What the ledger does not keep (ban lists, the sum of a chain, the
answer of a policy gate, a package that is gone) is taken from the receipt, and `taken` lists it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from wcp_attest import Expectation, PackageStore, verify
from wcp_attest.base.errors import ConfigError
from wcp_route.domain.canonical import canonical_json
from wcp_route.domain.clock import parse_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.request_hash import fingerprints
from wcp_route.domain.request_model import parse_request
from wcp_route.gates.attestation import Attested, Attestor
from wcp_route.gates.blast import UNNAMED
from wcp_route.gates.callbacks import Callbacks, Deadline
from wcp_route.gates.controls import Controls
from wcp_route.gates.deciding import Deciding, World, decided, evidence_of
from wcp_route.gates.pipeline import pass_gates
from wcp_route.gates.policy_gate import PolicyAnswer
from wcp_route.gates.refusal import Refusal
from wcp_route.hall_world import usable_rules
from wcp_route.storage.approval_events import checked_hold
from wcp_route.storage.holds import check_grant, hash_of
from wcp_route.storage.receipts.body import draft
from wcp_route.storage.receipts.receipt import ReceiptHead
from wcp_route.storage.state_errors import ApprovalError, ApprovalExpired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wcp_attest import Policy
    from wcp_attest.base.strictjson import JsonObject, JsonValue
    from wcp_route.config import HallConfig
    from wcp_route.domain.decision import Evidence, Hold, Redemption
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.domain.values import RouteInput
    from wcp_route.gates.policy_gate import PolicyContext, PolicyGate
    from wcp_route.rules.rules import RuleSet
    from wcp_route.storage.ledger_state import LedgerState
    from wcp_route.storage.past import PastDecision

SECONDS: Final = 60.0  # for one replay; a decision of its time had `decision_seconds`
_GRANT: Final = "the grant of that time"  # stands for a grant whose hash alone is kept
_NO_JUDGEMENT: Final = frozenset({Code.INTERNAL_ERROR, Code.RECEIPT_UNAVAILABLE, Code.INVALID_INPUT})
_UNAVAILABLE: Final = frozenset({"unavailable", "availability_check_failed"})
_NOT_AUTHENTICATED: Final = "the tenant is not the one that authenticated"


@dataclass(frozen=True, slots=True)
class ReplayDifference:
    """A field of the receipt that the replay gives another value.

    Attributes:
        name: of the field, `versions.rules` or `checks[8]`.
        recorded: what the receipt says; none when it lacks the field.
        judged: what the replay says.
    """

    name: str
    recorded: JsonValue
    judged: JsonValue


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of a replay.

    Attributes:
        recorded: the fields of the receipt.
        judged: the fields that a receipt of the replay has.
        differences: between the two; empty when both are the same, bit for bit.
        taken: what was not judged again but taken from the receipt, one line each.
    """

    recorded: JsonObject
    judged: JsonObject
    differences: tuple[ReplayDifference, ...]
    taken: tuple[str, ...]


def replay(
    past: PastDecision,
    request: RouteInput | bytes | JsonValue,
    rules: RuleSet | bytes | JsonValue,
    trust_policy: Policy | None,
    config: HallConfig,
    *,
    policy_gate: PolicyGate | None = None,
    principal: str | None = None,
) -> Replayed:
    """Judge a request again as it was judged then.

    Args:
        past: the decision, from the ledger.
        request: what was asked; its hash must be the recorded one. The credential may be left out.
        rules: in force then; the digest must be the recorded one.
        trust_policy: in force then; the digest must be the recorded one. None takes attestation from the receipt.
        config: the settings in force then; the digest must be the recorded one.
        policy_gate: asks the policy again; None takes its answer from the receipt.
        principal: the tenant that the transport authenticated then; only needed when the receipt does not name it.

    Returns:
        The recorded and the new fields, and their differences.

    Raises:
        ConfigError: an argument is not what was in force, or the receipt records no judgement: the Hall failed, or
            could not read the input.
    """
    fields, taken = past.fields, list[str]()
    code, versions = fields.get("deny_code"), cast("JsonObject", fields["versions"])
    if code in _NO_JUDGEMENT or not fields["input_hash"]:
        raise ConfigError(f"the receipt is of no judgement ({code}): there is nothing to judge once more")
    parsed = parse_request(request)
    request_hash, input_hash = fingerprints(parsed)
    compiled = usable_rules(rules, config)
    given = {
        "request": (input_hash, fields["input_hash"]),
        "rules": (compiled.digest, versions["rules"]),
        "settings": (config.digest(), versions["config"]),
        "trust policy": ("" if trust_policy is None else trust_policy.digest, versions["trust_policy"]),
    }
    if trust_policy is None and not config.unsafe_dispatch_workers_without_attestation:
        taken.append("attestation: no trust policy was given")
        del given["trust policy"]
    for what, (now, then) in given.items():
        if now != then:
            raise ConfigError(f"these are not the {what} of that decision: given {now or 'none'}, recorded {then}")
    said = _Recorded(past, config, trust_policy, taken)
    world = _world_of(past, said, compiled, config, policy_gate)
    world = replace(world, config=said.config_for(parsed))
    principal = said.principal(principal)
    callbacks = Callbacks(SECONDS)
    case = Deciding(
        world=world,
        snapshot=past.registry.snapshot(),
        request=parsed,
        input_hash=input_hash,
        request_hash=request_hash,
        now_ms=parse_ms(str(fields["dispatched_at"])),
        grant_id=said.grant_id(),
        principal=principal,
        callbacks=callbacks,
        chains=cast("Any", said),
        rates=cast("Any", said),
        new_id=lambda: str(fields["pending_approval_id"]),
        config=world.config,
        deadline=Deadline.after(SECONDS),
    )
    try:
        refusal = pass_gates(case)
    finally:
        callbacks.close()
    evidence = evidence_of(case, decided(case, refusal, str(fields["decision_id"]), str(fields["task_id"])))
    judged = _as_receipt(past, evidence)
    differences = tuple(_differences(fields, judged))
    if not differences and canonical_json(judged) != past.receipt.body:
        differences = (ReplayDifference("body", f"sha256:{past.receipt.hash}", None),)
    return Replayed(fields, judged, differences, tuple(dict.fromkeys(taken)))


def _world_of(
    past: PastDecision, said: _Recorded, rules: RuleSet, config: HallConfig, policy_gate: PolicyGate | None
) -> World:
    """Return what the decision was made by: what is given, and what the receipt says in the place of the rest."""
    fields, versions = past.fields, cast("JsonObject", past.fields["versions"])
    active = cast("JsonObject", past.approvals.active.get(config.env, {}))
    known = all(active.get(name) == versions[name] for name in ("rules", "config", "trust_policy"))
    if active.get("approvals") == "elsewhere" and (fields["pending_approval_id"] or fields["grant_hash"]):
        raise ConfigError("that Hall kept its holds elsewhere, so the ledger does not tell which were in force")
    if not known:
        said.taken.append("what else was in force: the ledger has no start of that Hall with these rules and settings")
        active = {"policy_gate": "", "availability": True, "approvals": "ledger"}  # the receipt shows what was asked
    gate = policy_gate
    if policy_gate is None and said.answers_for_the_gate():
        gate = said
        said.taken.append("the answer of the policy gate")
    elif policy_gate is None and active["policy_gate"]:
        gate = said
    return World(
        config=config,
        controls=Controls(config),
        rules=rules,
        registry=cast("Any", said),
        attestor=None if config.unsafe_dispatch_workers_without_attestation else cast("Any", said),
        policy_gate=gate,
        availability=said.is_available if active["availability"] else None,
        approvals=cast("Any", said) if active["approvals"] else None,
        trust_policy_digest=str(versions["trust_policy"]),
        config_digest=str(versions["config"]),
        keeps_receipts=True,
        holds_with_receipts=True,
    )


def _as_receipt(past: PastDecision, evidence: Evidence) -> JsonObject:
    """Return the fields of the receipt that the replay would have, at the place in the chain of the recorded one."""
    fields, previous = past.fields, past.fields["prev_receipt_hash"]
    head = ReceiptHead(past.receipt.seq - 1, "" if previous is None else str(previous).removeprefix("sha256:"))
    if "principal" not in fields:  # of a version that did not record it
        evidence = replace(evidence, principal=None)
    judged: JsonObject = json.loads(draft(evidence).body(head))
    judged["receipt_id"] = fields["receipt_id"]
    if judged["grant_hash"]:
        judged["grant_hash"] = fields["grant_hash"]
    return judged


def _differences(recorded: JsonValue, judged: JsonValue, name: str = "") -> Iterator[ReplayDifference]:
    if isinstance(recorded, dict) and isinstance(judged, dict):
        for key in sorted({*recorded, *judged}):
            yield from _differences(recorded.get(key), judged.get(key), f"{name}.{key}" if name else key)
    elif isinstance(recorded, list) and isinstance(judged, list) and len(recorded) == len(judged):
        for number, pair in enumerate(zip(recorded, judged, strict=True)):
            yield from _differences(*pair, f"{name}[{number}]")
    elif recorded != judged:
        yield ReplayDifference(name, recorded, judged)


@dataclass(frozen=True, slots=True)
class _Proof:
    """What a receipt says of an attested package that cannot be read any more; it opens nothing."""

    namespace: str
    manifest_sha256: str
    package_hash: str
    signers: tuple[str, ...]


class _Recorded:
    """Stands, for one replay, in the place of everything that no ledger keeps, and answers as the receipt has it."""

    asks_bans: bool

    def __init__(self, past: PastDecision, config: HallConfig, policy: Policy | None, taken: list[str]) -> None:
        self._fields, self._config, self.taken = past.fields, config, taken
        self._state: LedgerState = past.approvals
        self._code = None if past.fields["deny_code"] is None else Code(str(past.fields["deny_code"]))
        self._checks = cast("list[dict[str, Any]]", past.fields["checks"])
        self._policy = policy
        self.asks_bans = any(check["name"] == "bans" and check["outcome"] == "pass" for check in self._checks)
        if self.asks_bans:
            taken.append("the ban lists: asked then, as recorded; lists of that time are not kept")

    def config_for(self, request: RouteInput) -> HallConfig:
        """Return the settings; without the tenant's credential when it was accepted then and is not brought now."""
        config, tenant = self._config, request.tenant_id
        accepted = any(check["name"] == "tenant" and check["outcome"] == "pass" for check in self._checks)
        if not accepted or request.tenant_credential is not None or tenant not in config.tenant_credentials:
            return config
        self.taken.append("the tenant's credential, which no ledger keeps")
        others = {name: value for name, value in config.tenant_credentials.items() if name != tenant}
        return replace(config, tenant_credentials=others, require_credential=False)

    def principal(self, given: str | None) -> str | None:
        """Return the tenant that was authenticated; `given` only counts where the receipt does not name it."""
        recorded = cast("str | None", self._fields.get("principal"))
        if recorded is not None and given not in (None, recorded):
            raise ConfigError(f"this is not the principal of that decision: given {given!r}, recorded {recorded!r}")
        known = recorded if given is None else given
        if known is None and self._fields["deny_message"] == _NOT_AUTHENTICATED:
            self.taken.append("who was authenticated")
            return ""
        return known

    def grant_id(self) -> str:
        """Return a grant that stands for the one that came along; empty when none did."""
        brought = self._fields["grant_hash"] or self._code in (Code.APPROVAL_EXPIRED, Code.APPROVAL_INVALID)
        return _GRANT if brought else ""

    def answers_for_the_gate(self) -> bool:
        """Tell whether the policy gate answered then, so that the receipt holds its answer."""
        wrong = self._code == Code.POLICY_GATE_INVALID_RESPONSE
        return wrong or self._fields["policy_decision"] != "NOT_EVALUATED"

    def _refused(self, check: dict[str, Any]) -> Refusal:
        """Return the recorded refusal: of the whole request, or of a worker that was passed over."""
        digests = tuple(sorted(check.get("digests", {}).items()))
        if self._code is None or check["detail"] != self._fields["deny_message"]:
            return Refusal(Code.NO_AVAILABLE_WORKER, check["detail"], digests=digests)
        cause = "as recorded" if self._fields["quarantined"] else ""
        extras = cast("JsonObject", self._fields["deny_extras"])
        return Refusal(self._code, str(self._fields["deny_message"]), extras, digests=digests, cause=cause)

    # the package verifier

    def attest(self, worker: WorkerRecord, now: float, lists: object = None) -> Attested:
        """Verify the package once more where it is still there, without ban lists; else answer as recorded."""
        del lists
        mine = worker.worker_id == self._fields["worker_id"]
        about = [each for each in self._checks if each["name"] == "attestation" and each["outcome"] == "deny"]
        named = [each for each in about if f"`{worker.worker_id}`" in each.get("detail", "")]
        if named and not (mine and self._fields["package_hash"]):
            self.taken.append(f"the refusal of the package of {worker.worker_id}")
            raise self._refused(named[-1])
        if not mine:
            return self._provider(worker)
        proof = self._proof()
        if not proof.package_hash:
            raise Refusal(Code.WORKER_ATTESTATION_MISSING, "the receipt names no attested package")
        bans = str(cast("JsonObject", self._fields["versions"])["bans"])
        verified = self._verified(worker, proof, now)
        return Attested(cast("Any", verified or proof), worker.package_root, bans)

    def _proof(self) -> _Proof:
        passed = [each for each in self._checks if each["name"] == "attestation" and each["outcome"] == "pass"]
        check = passed[-1] if passed else {}
        return _Proof(
            namespace=check.get("detail", ""),
            manifest_sha256=check.get("digests", {}).get("manifest_sha256", ""),
            package_hash=str(self._fields["package_hash"]),
            signers=tuple(map(str, cast("list[str]", self._fields["signers"]))),
        )

    def _verified(self, worker: WorkerRecord, proof: _Proof, now: float) -> object | None:
        """Return the proof of a package that is still what it was; none, and a line, when it is not there."""
        if self._policy is None:
            return None
        policy, config = replace(self._policy, conditions=()), replace(self._config, attestation="always")
        found: str
        try:
            verified = Attestor(policy, config).attest(worker, now).verified
            if verified.package_hash == proof.package_hash:
                return verified
            found = "another package stands there now"
        except Refusal as refusal:
            found = str(dict(refusal.extras).get("attest_code") or refusal.code.value)
        directory = self._config.seal_directory
        if directory and proof.manifest_sha256:
            path = PackageStore(directory).package_path(proof.manifest_sha256)
            expect = Expectation(worker.worker_id, worker.worker_species_id)
            attestation = path.rpartition("/")[0]
            sealed = verify(path, policy, expect=expect, now=now, attestation=attestation).verified
            if sealed is not None and sealed.package_hash == proof.package_hash:
                return sealed
        self.taken.append(f"the package of {worker.worker_id}: {found}")
        return None

    def _provider(self, worker: WorkerRecord) -> Attested:
        """Take from the receipt whether a worker could provide a control; no receipt names its package."""
        self.taken.append(f"whether {worker.worker_id}, which provides a control, was attested")
        missing = cast("JsonObject", self._fields["deny_extras"]).get("missing")
        if self._code == Code.MISSING_REQUIRED_CONTROLS and {*cast("list[str]", missing)} & {
            *worker.currently_implements
        }:
            raise Refusal(Code.WORKER_ATTESTATION_MISSING, "as recorded")
        return Attested(cast("Any", self._proof()), worker.package_root)

    # what counts and answers

    def is_available(self, worker: WorkerRecord) -> bool:
        """Tell whether a worker could take work then."""
        skipped = {
            str(each["worker_species_id"]): each["skip_reason"]
            for each in cast("list[dict[str, Any]]", self._fields["candidates"])
        }
        if skipped.get(worker.worker_species_id) in _UNAVAILABLE:
            self.taken.append(f"which workers of {worker.worker_species_id} were available")
            if skipped[worker.worker_species_id] == "availability_check_failed":
                raise ConfigError("as recorded")
            return False
        chosen = str(self._fields["worker_id"])
        earlier = worker.worker_species_id == self._fields["worker_species_id"] and worker.worker_id < chosen
        if earlier:
            self.taken.append(f"that {worker.worker_id} was not available")
        return not earlier

    def admits(self, tenant_id: str) -> bool:
        """Tell whether the tenant asked no more often than it may."""
        if self._code == Code.TENANT_LIMIT:
            self.taken.append(f"how often {tenant_id} had asked")
        return self._code != Code.TENANT_LIMIT

    def reserve(
        self, chain: tuple[str, str], score: int, limit: int | None, now_ms: int, *, keep: bool = True
    ) -> tuple[str, int]:
        """Return what the chain added up to then, and whether that was too much."""
        del now_ms, keep
        self.taken.append(f"what the chain {chain[1].removeprefix(UNNAMED)} had added up to")
        if self._code == Code.CHAIN_BLAST_EXCEEDED:
            extras = cast("JsonObject", self._fields["deny_extras"])
            return str(self._fields["deny_message"]), int(str(extras.get("blast_declared", score)))
        declared = self._fields["blast_declared"]
        total = score if declared is None else int(str(declared))
        over = limit is not None and total > limit
        return f"the declared scores of the chain add up to {total}, allowed are {limit}" if over else "", total

    def evaluate(self, context: PolicyContext) -> PolicyAnswer:
        """Answer as the policy gate did."""
        del context
        if self._code == Code.POLICY_GATE_INVALID_RESPONSE:
            return cast("PolicyAnswer", object())
        said, level = str(self._fields["policy_decision"]), self._fields["supervisor_level"]
        version = str(cast("JsonObject", self._fields["versions"])["policy"])
        asked = cast("Any", level) if said == "REQUIRE_HUMAN" else None
        return PolicyAnswer(cast("Any", said), version, str(self._fields["policy_reason"]), asked)

    # holds and grants

    def look(self, hold: Hold) -> tuple[Hold, bool]:
        """Return the hold that was in force, or the new one."""
        entry = self._state.in_force(hold.input_hash, hold.worker_id, hold.created_at_ms)
        return (checked_hold(self._state, hold), True) if entry is None else (entry.hold, False)

    def redeem(self, wanted: Redemption, *, use: bool) -> Hold:
        """Check the grant that was used; of one that was refused nothing is kept."""
        del use
        if self._code in (Code.APPROVAL_EXPIRED, Code.APPROVAL_INVALID):
            self.taken.append("that the grant which was brought was not good")
            refused: Callable[[str], ApprovalError] = ApprovalError
            if self._code == Code.APPROVAL_EXPIRED:
                refused = ApprovalExpired
            raise refused("as recorded")
        grant_hash = str(self._fields["grant_hash"]).removeprefix("sha256:")
        entry = self._state.holds.get(self._state.granted.get(grant_hash, ""))
        if entry is not None:
            entry = replace(entry, grant_hash=hash_of(wanted.grant_id))
        return check_grant(entry, wanted, self._state.record_digest(wanted.worker_id))

    def cancel_for(self, *_: object, **__: object) -> int:
        """Do nothing: what a decision changed then is in the ledger."""
        return 0

    quarantine = cancel_for
