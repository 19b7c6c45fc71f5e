"""Rule tests: which rule matches which request, as expected by hand or as recorded before (golden snapshots).

    {"tests": [{"test_id": "prod-summary", "input": {…a request…}, "expect": {"expected_rule_id": "prod-summaries"}}]}
    {"snapshots": [{"test_id": "prod-summary", "matched_rule_id": "prod-summaries"}]}

Only rules are asked. A request that no rule matches gives `NO_MATCH`.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from wcp_attest.base.errors import ConfigError
from wcp_route.domain.decision import NO_MATCH
from wcp_route.domain.request_model import parse_request
from wcp_route.domain.wire_model import Model, Token, WireError, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wcp_route.rules.rules import RuleSet

MAX_BYTES: Final = 16 << 20


class ExpectModel(Model):
    """What is expected."""

    expected_rule_id: Token


class TestModel(Model):
    """One test."""

    __test__ = False  # for collectors of tests that go by names

    test_id: Token
    input: dict[str, Any]
    expect: ExpectModel | None = None


class TestsModel(Model):
    """A file of tests."""

    __test__ = False

    tests: list[TestModel] = Field(min_length=1)


class SnapshotModel(Model):
    """One recorded answer."""

    test_id: Token
    matched_rule_id: Token


class GoldensModel(Model):
    """A file of recorded answers."""

    snapshots: list[SnapshotModel]


def read_tests(data: bytes) -> tuple[TestModel, ...]:
    """Read tests.

    Raises:
        WireError: the shape is wrong.
        ConfigError: two tests have the same id.
    """
    tests = read(TestsModel, data, what="rule tests", max_bytes=MAX_BYTES).tests
    if len({test.test_id for test in tests}) != len(tests):
        raise ConfigError("two rule tests have the same test_id; rename one")
    return tuple(tests)


def read_goldens(data: bytes) -> dict[str, str]:
    """Read recorded answers, by test id.

    Raises:
        WireError: the shape is wrong.
    """
    found = read(GoldensModel, data, what="goldens", max_bytes=MAX_BYTES).snapshots
    return {snapshot.test_id: snapshot.matched_rule_id for snapshot in found}


def run_tests(rules: RuleSet, tests: Sequence[TestModel]) -> dict[str, str]:
    """Return which rule matches each test.

    Raises:
        WireError: a test's input is not a request.
    """
    matched: dict[str, str] = {}
    for place, test in enumerate(tests):
        try:
            rule = rules.match(parse_request(test.input))
        except WireError as problem:
            raise WireError(f"test `{test.test_id}`: {problem}", f"/tests/{place}/input{problem.pointer}") from None
        matched[test.test_id] = NO_MATCH if rule is None else rule.rule_id
    return matched


def compare(
    tests: Sequence[TestModel], matched: Mapping[str, str], goldens: Mapping[str, str] | None
) -> tuple[str, ...]:
    """Return in words what differs from what is expected and, when given, from what was recorded."""
    problems = [
        f"{test.test_id}: matched {matched[test.test_id]}, expected {test.expect.expected_rule_id}"
        for test in tests
        if test.expect is not None and test.expect.expected_rule_id != matched[test.test_id]
    ]
    if goldens is not None:
        for name in sorted(matched.keys() | goldens.keys()):
            now, before = matched.get(name, "nothing: the test is gone"), goldens.get(name, "nothing")
            if now != before:
                problems.append(f"{name}: matched {now}, recorded was {before}")
    return tuple(problems)


def write_goldens(path: str, matched: Mapping[str, str]) -> None:
    """Record answers, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    snapshots = [{"test_id": name, "matched_rule_id": matched[name]} for name in sorted(matched)]
    text = json.dumps({"snapshots": snapshots}, indent=2) + "\n"
    directory = os.path.dirname(os.path.abspath(path))
    try:
        with tempfile.NamedTemporaryFile("w", dir=directory, prefix=".goldens-", delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError as problem:
        raise ConfigError(f"cannot write {path!r}: {problem.strerror}") from None
