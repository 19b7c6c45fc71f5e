"""The vectors: this verifier answers as each of them expects, and the generator writes them without a difference."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.vectors.generate import documents
from tests.vectors.packages import materialise_case
from wcp_attest.base.errors import DenyCode
from wcp_attest.trust.policy_file import parse_policy
from wcp_attest.verdict import Expectation
from wcp_attest.verification import verify

if TYPE_CHECKING:
    from wcp_attest.trust.policy import Policy
    from wcp_attest.verdict import Verdict

VECTORS = Path(__file__).parents[1] / "vectors"
CASES = sorted((VECTORS / "cases").glob("*.json"))


def policy_of(vector: dict[str, Any]) -> Policy:
    return parse_policy(
        vector["policy"].encode(),
        read=lambda name, limit, what: (VECTORS / name).read_bytes(),
        environ=vector["environment"],
    )


def run(vector: dict[str, Any], root: Path) -> Verdict:
    package, pair = materialise_case(vector, root)
    wanted = vector["expect"]
    expect = Expectation(wanted.get("worker_id"), wanted.get("species_id"))
    return verify(package, policy_of(vector), expect=expect, now=vector["now"], attestation=pair)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_answer_is_the_expected_one(path: Path, tmp_path: Path) -> None:
    vector = json.loads(path.read_bytes())
    verdict = run(vector, tmp_path / "package")
    found: dict[str, Any] = {"ok": verdict.ok}
    if verdict.code is not None:
        found["code"] = verdict.code
    if "differences" in vector["expected"]:
        found["differences"] = [[difference.path, difference.change] for difference in verdict.differences]
    assert found == vector["expected"], verdict.message


def test_the_generator_writes_no_difference() -> None:
    written = {
        str(path.relative_to(VECTORS)): path.read_bytes()
        for folder in ("cases", "keys")
        for path in (VECTORS / folder).iterdir()
    }
    assert documents() == written  # make vectors


def test_another_process_writes_the_same() -> None:
    program = (
        "import hashlib; from tests.vectors.generate import documents; "
        "print(hashlib.sha256(repr(sorted(documents().items())).encode()).hexdigest())"
    )
    command = [sys.executable, "-c", program]
    digests = {
        subprocess.run(
            command, cwd=VECTORS.parents[1], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=120
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_every_code_that_a_package_alone_can_earn_has_a_vector() -> None:
    earned = {json.loads(path.read_bytes())["expected"].get("code") for path in CASES}
    elsewhere = {DenyCode.BANNED, DenyCode.BANS_UNUSABLE, DenyCode.TRUST_UNUSABLE, DenyCode.INTERNAL_ERROR}
    assert earned == {None, *DenyCode} - elsewhere


def test_no_verdict_but_a_pass_names_a_package(tmp_path: Path) -> None:
    passed = [path for path in CASES if json.loads(path.read_bytes())["expected"]["ok"]]
    assert len(passed) > 10
    for path in passed:
        verdict = run(json.loads(path.read_bytes()), tmp_path / path.stem)
        assert verdict.verified is not None
        assert verdict.message == (
            f"Package attested by namespace org.acme at {verdict.verified.signed_at_utc}; "
            f"package hash {verdict.verified.hash_algorithm}:{verdict.verified.package_hash}."
        )
