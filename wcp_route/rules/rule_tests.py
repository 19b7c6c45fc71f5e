"""Rule tests: compare the result of a request with a written expectation or an earlier record (golden snapshots).

    {"tests": [{"test_id": "prod-summary", "input": {…a request…}, "expect": {"expected_rule_id": "prod-summaries"}},
               {"test_id": "held", "input": {…}, "principal": "acme", "expect": {"outcome": "STEWARD_HOLD",
                "deny_code": "DENY_REQUIRES_HUMAN_APPROVAL", "worker_id": "org.acme.doc-summarizer"}}]}
    {"snapshots": [{"test_id": "prod-summary", "matched_rule_id": "prod-summaries"}]}

Without a Hall only the rules are asked, and a request that no rule matches gives `NO_MATCH`. With a Hall each test is a
whole decision as `Hall.explain` returns it: nothing is held, recorded or dispatched. A test must have an expectation or
a recorded answer; a test without both would always pass, so it is an error.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from pydantic import Field

from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.overwrite import OutputKind, write_file
from wcp_route.domain.decision import NO_MATCH
from wcp_route.domain.request_model import parse_request
from wcp_route.domain.wire_model import Model, Token, WireError, read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from wcp_attest.base.strictjson import JsonObject
    from wcp_route.domain.decision import RouteDecision
    from wcp_route.rules.rules import RuleSet

MAX_BYTES: Final = 16 << 20


class RuleAnswer(NamedTuple):
    """What became of a test; only rules were asked when there is no outcome."""

    matched_rule_id: str
    outcome: str | None = None
    deny_code: str | None = None
    worker_id: str | None = None

    def __str__(self) -> str:
        said = [self.outcome, self.deny_code, self.worker_id]
        return ", ".join([self.matched_rule_id, *filter(None, said)])

    def differs_from(self, recorded: RuleAnswer) -> bool:
        """Tell whether the rule differs, or the decision where both have one.

        Args:
            recorded: an earlier answer to the same test.
        """
        both = self.outcome is not None and recorded.outcome is not None
        return self != recorded if both else self.matched_rule_id != recorded.matched_rule_id


class ExpectModel(Model):
    """What is expected; what is left out may be anything."""

    expected_rule_id: Token | None = None
    outcome: Literal["DISPATCH", "DENY", "STEWARD_HOLD"] | None = None
    deny_code: Token | None = None
    worker_id: Token | None = None


class TestModel(Model):
    """One test."""

    __test__ = False  # for collectors of tests that go by names

    test_id: Token
    input: dict[str, Any]
    principal: Token | None = None
    expect: ExpectModel | None = None

    @property
    def wanted(self) -> dict[str, Any]:
        """What is expected, by the name of the expectation; empty when nothing is."""
        return {} if self.expect is None else self.expect.model_dump(exclude_unset=True)


class TestsModel(Model):
    """A file of tests."""

    __test__ = False

    tests: list[TestModel] = Field(min_length=1)


class SnapshotModel(Model):
    """One recorded answer."""

    test_id: Token
    matched_rule_id: Token
    outcome: Token | None = None
    deny_code: Token | None = None
    worker_id: Token | None = None


class GoldensModel(Model):
    """A file of recorded answers."""

    snapshots: list[SnapshotModel]


def read_tests(data: bytes) -> tuple[TestModel, ...]:
    """Read tests.

    Args:
        data: JSON text.

    Raises:
        WireError: the shape is wrong.
        ConfigError: two tests have the same id.
    """
    tests = read(TestsModel, data, what="rule tests", max_bytes=MAX_BYTES).tests
    if len({test.test_id for test in tests}) != len(tests):
        raise ConfigError("two rule tests have the same test_id; rename one")
    return tuple(tests)


def read_goldens(data: bytes) -> dict[str, RuleAnswer]:
    """Read recorded answers.

    Args:
        data: JSON text.

    Returns:
        The answers by test id.

    Raises:
        WireError: the shape is wrong.
        ConfigError: two answers are of the same test.
    """
    found = read(GoldensModel, data, what="goldens", max_bytes=MAX_BYTES).snapshots
    if len({one.test_id for one in found}) != len(found):
        raise ConfigError("two goldens have the same test_id; record them again with --update")
    return {one.test_id: RuleAnswer(one.matched_rule_id, one.outcome, one.deny_code, one.worker_id) for one in found}


def run_tests(
    rules: RuleSet, tests: Sequence[TestModel], decide: Callable[[JsonObject, str | None], RouteDecision] | None = None
) -> dict[str, RuleAnswer]:
    """Return what becomes of each test.

    Args:
        rules: compiled.
        tests: what to ask.
        decide: makes the whole decision on an input for a principal; None asks the rules alone.

    Raises:
        WireError: a test's input is not a request, and only rules are asked.
        ConfigError: a test expects an outcome, a code or a worker, and only rules are asked.
    """
    answers: dict[str, RuleAnswer] = {}
    for place, test in enumerate(tests):
        if decide is not None:
            made = decide(test.input, test.principal)
            code = None if made.code is None else made.code.value
            answers[test.test_id] = RuleAnswer(made.matched_rule_id, made.outcome, code, made.worker_id or None)
            continue
        if test.wanted.keys() - {"expected_rule_id"}:
            raise ConfigError(f"test `{test.test_id}` expects a decision; give --config, so that a Hall can make it")
        try:
            rule = rules.match(parse_request(test.input))
        except WireError as problem:
            raise WireError(f"test `{test.test_id}`: {problem}", f"/tests/{place}/input{problem.pointer}") from None
        answers[test.test_id] = RuleAnswer(NO_MATCH if rule is None else rule.rule_id)
    return answers


def compare(
    tests: Sequence[TestModel], answers: Mapping[str, RuleAnswer], goldens: Mapping[str, RuleAnswer] | None
) -> tuple[str, ...]:
    """Return in words what differs from what is expected and from what was recorded.

    Args:
        tests: the tests that were run.
        answers: what became of each, by test id.
        goldens: what was recorded before, by test id; None when nothing is to be compared.

    Returns:
        One sentence for each difference; empty when all tests pass.
    """
    problems = []
    for test in tests:
        if not test.wanted and test.test_id not in (goldens or {}):
            problems.append(f"{test.test_id}: expects nothing, so it could not fail; add `expect` or record an answer")
        for name, value in test.wanted.items():
            field, said = ("matched_rule_id", "matched") if name == "expected_rule_id" else (name, name)
            found = getattr(answers[test.test_id], field)
            if found != value:
                problems.append(f"{test.test_id}: {said} {found}, expected {value}")
    if goldens is not None:
        problems += _changed(answers, goldens)
    return tuple(problems)


def _changed(answers: Mapping[str, RuleAnswer], goldens: Mapping[str, RuleAnswer]) -> Iterator[str]:
    """Yield in words what differs from what was recorded; a test without a record and a record without a test do."""
    for name in sorted(answers.keys() | goldens.keys()):
        now, before = answers.get(name), goldens.get(name)
        if now is None or before is None or now.differs_from(before):
            yield f"{name}: matched {now or 'the test is gone'}, recorded was {before or 'nothing'}"


def untested(rules: RuleSet, answers: Mapping[str, RuleAnswer]) -> tuple[str, ...]:
    """Return the ids of the rules that no test matches, in their order.

    Args:
        rules: compiled.
        answers: what became of each test, by test id.
    """
    matched = {answer.matched_rule_id for answer in answers.values()}
    return tuple(rule.rule_id for rule in rules.rules if rule.rule_id not in matched)


def write_goldens(path: str, answers: Mapping[str, RuleAnswer]) -> None:
    """Record answers, whole or not at all.

    Args:
        path: of the file; earlier goldens there are replaced, any other file is not.
        answers: what became of each test, by test id.

    Raises:
        ConfigError: the file cannot be written, or there is one that holds no goldens.
    """
    snapshots = [
        {"test_id": name, **{field: value for field, value in answers[name]._asdict().items() if value is not None}}
        for name in sorted(answers)
    ]
    write_file(path, f"{json.dumps({'snapshots': snapshots}, indent=2)}\n".encode(), _GOLDENS)


def _are_goldens(data: bytes) -> bool:
    """Tell whether a file was written by `write_goldens`, or by hand in its form."""
    try:
        read(GoldensModel, data, what="goldens", max_bytes=MAX_BYTES)
    except WireError:
        return False
    return True


_GOLDENS: Final = OutputKind("a file of goldens", _are_goldens, MAX_BYTES)
