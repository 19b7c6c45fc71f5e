"""From a rule's species to one enrolled worker (conformance rows 12 to 14).

Candidates are species; attestation, bans, quarantine and receipts use worker ids. A worker is skipped only for reasons
that are unrelated to trust: it does not declare the capability, may not run in this environment, or is not available.
The first remaining worker is judged. If it is refused, the request is denied: trying the next one could turn a ban or a
missing control into a dispatch. Only `fall_through_to_next_attested_worker` allows that.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from wcp_attest.base.errors import Error
from wcp_route.domain.clock import format_ms
from wcp_route.domain.codes import Code
from wcp_route.domain.decision import Check
from wcp_route.gates.callbacks import CallbackFailed
from wcp_route.gates.refusal import Refusal

if TYPE_CHECKING:
    from wcp_route.domain.record import WorkerRecord
    from wcp_route.gates.deciding import Deciding

_INVALID: Final = frozenset({Code.WORKER_TAMPERED, Code.WORKER_UNTRUSTED})
BY: Final = "hall"  # the name under which the router itself puts a worker into quarantine
_log = logging.getLogger("wcp_route")

_BANS: Final = Check("bans", "pass")
_NO_BANS: Final = Check("bans", "off", "the trust policy names no ban list")
_QUARANTINE: Final = Check("quarantine", "pass")
_CONTROLS: Final = Check("worker_controls", "pass")
_found = lru_cache(maxsize=4096)(lambda worker_id: Check("worker", "pass", worker_id))
_OFF: Final = Check("attestation", "off", "UNSAFE: this Hall dispatches workers without attestation")


def find_workers(case: Deciding) -> Check:
    """List the enrolled workers that could take the request, in rank order."""
    eligible: list[WorkerRecord] = []
    marked = []
    for candidate in case.matched.candidates:
        found, why = _of_species(case, candidate.worker_species_id, taken=bool(eligible))
        eligible += found
        marked.append(replace(candidate, skip_reason=why) if why else candidate)
    case.candidates = tuple(marked)
    case.eligible = tuple(eligible)
    if not eligible:
        raise Refusal(Code.NO_AVAILABLE_WORKER, "no enrolled worker of the rule's species can take this request")
    return _found(eligible[0].worker_id)


def _of_species(case: Deciding, species: str, *, taken: bool) -> tuple[list[WorkerRecord], str]:
    """Return the workers of one species that could take the request, or why there are none."""
    falls_through = case.config.fall_through_to_next_attested_worker
    if taken and not falls_through:
        return [], "already_selected"
    why = "unavailable"
    found: list[WorkerRecord] = []
    for worker in case.snapshot.species.get(species, ()):
        problem = _problem(case, worker)
        if problem is None:
            found.append(worker)
            if not falls_through:
                break
        else:
            why = problem
    return found, "" if found else why


def _problem(case: Deciding, worker: WorkerRecord) -> str | None:
    """Return why a worker is skipped, or None."""
    if case.request.capability_id not in worker.capabilities:
        return "capability_not_declared"
    if case.request.env not in worker.allowed_environments:
        return "env_not_allowed"
    available = case.world.availability
    if available is None:
        return None
    left = case.availability_seconds
    if left is None:
        left = case.availability_seconds = case.config.callback_seconds  # for all checks of one decision together
    began = time.monotonic()
    try:
        answer = case.callbacks.call(
            "availability check", lambda: available(worker), seconds=min(left, case.deadline.remaining())
        )
    except CallbackFailed:
        return "availability_check_failed"
    finally:
        case.availability_seconds = max(0.0, left - (time.monotonic() - began))
    return None if answer is True else "unavailable"


def choose_worker(case: Deciding) -> Check:
    """Take the first worker, and refuse the request if it is refused; or fall through to the next attested one."""
    falls_through = case.config.fall_through_to_next_attested_worker
    for worker in case.eligible:
        case.worker = case.selected = worker
        try:
            return _judge(case, worker)
        except Refusal as refusal:
            if not falls_through or worker is case.eligible[-1]:
                raise
            case.checks.append(Check("attestation", "deny", refusal.message, refusal.digests))
    raise Refusal(Code.NO_AVAILABLE_WORKER, "no worker was found")


def _judge(case: Deciding, worker: WorkerRecord) -> Check:
    """Refuse a worker that lacks a control, is in quarantine or is not attested."""
    # 1. The controls that the rule requires on the worker, and those that the worker requires.
    rule, controls = case.matched, case.world.controls
    enforced = rule.preconditions.deny_if_missing_required_controls or case.config.enforce_required_controls
    missing = controls.missing_on(rule.required_controls, worker) if enforced else []
    missing += controls.missing_on(worker.required_controls, worker)
    missing += controls.missing_around(worker.required_controls, case.snapshot, lambda each: may_provide(case, each))
    if missing:
        raise Refusal(
            Code.MISSING_REQUIRED_CONTROLS,
            f"worker `{worker.worker_id}` lacks {', '.join(missing)}",
            {"missing": [*sorted(set(missing))], "worker_id": worker.worker_id},
        )
    # 2. Quarantine.
    barred = case.snapshot.quarantined.get(worker.worker_id)
    if barred is not None:
        since = format_ms(barred.at_ms)
        raise Refusal(
            Code.WORKER_QUARANTINED,
            f"worker `{worker.worker_id}` is in quarantine since {since}; an operator has to clear it",
            {"worker_id": worker.worker_id, "worker_species_id": worker.worker_species_id},
        )
    case.checks += [_CONTROLS, _QUARANTINE]
    # 3. The package itself, and the packages of workers that provide the controls around it.
    attestor = case.world.attestor
    if attestor is None:
        return _OFF
    case.attestation_checked = True
    case.attestation_valid = None
    try:
        attested = case.attested = attestor.attest(worker, case.now_ms / 1000, case.lists)
    except Refusal as refusal:
        case.attestation_valid = False if refusal.code in _INVALID else None
        _isolate(case, worker, refusal)
        raise
    case.attestation_valid = True
    _check_providers(case, worker)
    case.checks.append(_BANS if attestor.asks_bans else _NO_BANS)
    proof = attested.verified
    digests = (("manifest_sha256", proof.manifest_sha256), ("package_hash", proof.package_hash))
    return Check("attestation", "pass", proof.namespace, digests)


def may_provide(case: Deciding, worker: WorkerRecord) -> bool:
    """Tell whether a worker may prove to provide a control; a candidate of the rule is attested later."""
    for candidate in case.candidates:
        if candidate.worker_species_id == worker.worker_species_id:
            return True
    return _is_attested(case, worker)


def _check_providers(case: Deciding, worker: WorkerRecord) -> None:
    """Refuse when a control around the worker is provided only by workers whose packages are not attested."""
    required = case.controls_verified + worker.required_controls
    missing = case.world.controls.missing_around(
        required, case.snapshot, lambda provider: provider is worker or _is_attested(case, provider)
    )
    if missing:
        case.controls_verified = ()
        names = ", ".join(missing)
        raise Refusal(
            Code.MISSING_REQUIRED_CONTROLS, f"no attested worker provides {names}", {"missing": [*sorted(set(missing))]}
        )


def _is_attested(case: Deciding, worker: WorkerRecord) -> bool:
    """Tell whether a worker is what a trusted signer released."""
    attestor = case.world.attestor
    if attestor is None:
        return True
    try:
        attestor.attest(worker, case.now_ms / 1000, case.lists)
    except Refusal:
        return False
    return True


def _isolate(case: Deciding, worker: WorkerRecord, refusal: Refusal) -> None:
    """Put a worker with wrong files or signatures into quarantine, and cancel the holds that wait for it.

    Only a fault that was read twice counts (`Refusal.cause`). A fault of the machine, a policy without the signer, a
    package that is being moved, or a ban refuses requests only as long as it lasts, and needs no quarantine.
    """
    failed = bool(refusal.cause)
    if case.changes_nothing or (not failed and refusal.code != Code.WORKER_BANNED):
        return
    world = case.world

    def isolate() -> None:
        if failed:
            cause = f"{refusal.code.value}: {refusal.cause}"
            world.registry.quarantine(worker.worker_id, cause, by=BY, at_ms=case.now_ms)
            case.quarantined = True
        if world.approvals is not None:
            world.approvals.cancel_for(worker.worker_id, by=BY, at_ms=case.now_ms)

    try:
        case.wait_for("registry", isolate)
    except Error:  # the request is refused anyway, and so will be the next one
        _log.exception("worker %s could not be put into quarantine", worker.worker_id)
