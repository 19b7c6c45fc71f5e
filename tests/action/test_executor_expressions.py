"""The executor's expressions: the runner's rules, and agreement with GitHub's own library."""

from __future__ import annotations

import fcntl
import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.composite_action.expressions import ExpressionError, evaluate
from tests.composite_action.functions import Function
from tests.composite_action.templates import condition, interpolate
from tests.composite_action.values import to_string
from tests.drawn import examples

REFERENCE = Path(__file__).parents[1] / "js-expressions"
CONTEXTS: dict[str, object] = {
    "inputs": {
        "mode": "Sign",
        "empty": "",
        "path": "a b",
        "Number": "7",
        "list": ["x", "Y"],
        "nested": {"A-b_c": "deep"},
    },
    "github": {"ref": "refs/tags/v1.0", "event": {"pull_request": {"head": {"repo": {"fork": True}}}}},
    "steps": {"run": {"outputs": {"verified": "true"}, "outcome": "failure"}},
}
WORKED_EXAMPLES = {
    "inputs.mode == 'sign'": "true",
    "inputs.MODE != 'verify'": "true",
    "inputs['nested'].a-B_c": "deep",
    "inputs.none": "",
    "inputs.none.deeper['x']": "",
    "github.event.pull_request.head.repo.fork": "true",
    "steps.run.outputs.verified == true": "false",
    "steps.run.outputs.verified == 'true' && 'yes' || 'no'": "yes",
    "'' || null || 0 || 'last'": "last",
    "'a' && '' && 'c'": "",
    "'it''s'": "it's",
    "1 == '1'": "true",
    "null == 0": "true",
    "null == ''": "true",
    "true == 1": "true",
    "'abc' < 'ABD'": "true",
    "'x' > 1": "false",
    "0x10": "16",
    "-1.50": "-1.5",
    ".5": "0.5",
    "+1": "1",
    "1e3": "1000",
    "NaN == NaN": "false",
    "!NaN": "true",
    "!!'x'": "true",
    "(1 < 2) == true": "true",
    "1 < 2 == 2 > 1": "true",
    "true && false || true": "true",
    "inputs.list[1]": "Y",
    "inputs.list[7]": "",
    "inputs.list['1']": "Y",
    "inputs.list": "Array",
    "inputs": "Object",
    "format('{0}-{1}-{0} {{}}', 'a', 2)": "a-2-a {}",
    "contains('Hello', 'ELL')": "true",
    "contains(inputs.list, 'y')": "true",
    "contains(inputs, 'x')": "false",
    "startsWith(github.ref, 'REFS/tags/')": "true",
    "endsWith(github.ref, '.0')": "true",
    "join(inputs.list, '; ')": "x; Y",
    "join(inputs.list)": "x,Y",
    "join('one', '/')": "one",
    "fromJSON('[1, 2]')[1]": "2",
    'fromJSON(\'{"a": {"b": 3}}\').a.b': "3",
    "toJSON('a\"b')": '"a\\"b"',
    "toJSON(1)": "1",
    "toJSON(inputs.list)": '[\n  "x",\n  "Y"\n]',
    "1 == 1.0": "true",
    "'7' == inputs.number": "true",
    "inputs.number + 1": None,
    "inputs.number > 6": "true",
    "true.x": None,
    "unknown.x": None,
    "unknown('x')": None,
    "contains('x')": None,
    "format('{1}', 'a')": None,
    "format('{', 'a')": None,
    "inputs.": None,
    "inputs.mode ==": None,
    "== 'x'": None,
    "(1": None,
    "1)": None,
    "'open": None,
    '"double"': None,
    "a b": None,
    "1 = 1": None,
    "1 & 1": None,
    "inputs['mode'": None,
    "fromJSON('nope')": None,
    "$x": None,
    "": None,
}


def _here(expression: str) -> str | None:
    try:
        return to_string(evaluate(expression, CONTEXTS))  # type: ignore[arg-type]
    except ExpressionError:
        return None


def _reference(expressions: list[str]) -> list[str | None]:
    node = shutil.which("node")
    if node is None:
        pytest.skip("LOUD SKIP: Node.js is not installed, expressions are not compared with @actions/expressions")
    with (REFERENCE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process of the tests installs, the others wait
        if not (REFERENCE / "node_modules").is_dir():
            npm = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(npm, cwd=REFERENCE, capture_output=True, text=True, timeout=120, check=False)
            if done.returncode:
                pytest.skip(
                    f"LOUD SKIP: `npm ci` in {REFERENCE} failed, expressions are not compared: {done.stderr[-200:]}"
                )
    asked = json.dumps([{"expression": expression, "contexts": CONTEXTS} for expression in expressions])
    done = subprocess.run(
        [node, "evaluate.mjs"], cwd=REFERENCE, input=asked, capture_output=True, text=True, timeout=60, check=True
    )
    return [answer.get("text") for answer in json.loads(done.stdout)]


@pytest.mark.parametrize(("expression", "expected"), WORKED_EXAMPLES.items())
def test_worked_examples(expression: str, expected: str | None) -> None:
    assert _here(expression) == expected


def test_github_s_own_library_agrees_on_every_worked_example() -> None:
    answers = dict(zip(WORKED_EXAMPLES, _reference(list(WORKED_EXAMPLES)), strict=True))
    # The library answers an empty expression with nothing at all and the runner refuses it; the rest is equal.
    assert {text: answer for text, answer in answers.items() if answer != _here(text)} == {}


_ATOMS = st.sampled_from(
    (
        *("true", "false", "null", "0", "1", "-2.5", "''", "'a'", "'A'", "'1'", "'x y'"),
        *("inputs.mode", "inputs.none", "inputs.list", "github.event"),
    )
)
_EXPRESSIONS = st.recursive(
    _ATOMS,
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||", "==", "!=", "<", ">", "<=", ">="]), inner),
        st.builds("!{}".format, inner),
        st.builds("contains({}, {})".format, inner, inner),
        st.builds("startsWith({}, {})".format, inner, inner),
        st.builds("join({})".format, inner),
    ),
    max_leaves=8,
)


@settings(max_examples=examples(5))
@given(st.lists(_EXPRESSIONS, min_size=200, max_size=200))
def test_github_s_own_library_agrees_on_generated_expressions(expressions: list[str]) -> None:
    assert [_here(expression) for expression in expressions] == _reference(expressions)


@given(st.text(max_size=40))
def test_no_text_crashes_the_parser(text: str) -> None:
    _here(text)


def test_nesting_is_bounded() -> None:
    with pytest.raises(ExpressionError, match="nested"):
        evaluate("(" * 60 + "1" + ")" * 60, {})
    with pytest.raises(ExpressionError, match="too long"):
        evaluate("1" * 30_000, {})


def test_the_side_not_taken_is_not_called() -> None:
    called: list[object] = []
    functions = {"touch": Function(0, 0, lambda: called.append(1))}
    assert evaluate("false && touch() || 'kept'", {}, functions) == "kept"
    assert evaluate("'kept' || touch()", {}, functions) == "kept"
    assert called == []


def test_interpolation_minds_quoted_braces() -> None:
    contexts = {"inputs": {"a": "1"}}
    assert interpolate("x${{ inputs.a }}y${{ '}}' }}z", "step", contexts) == "x1y}}z"
    with pytest.raises(ExpressionError, match="not closed"):
        interpolate("${{ inputs.a }", "step", contexts)


@pytest.mark.parametrize("text", ["${{ secrets.KEY }}", "${{ vars.X }}", "${{ needs.a }}"])
def test_contexts_that_an_action_does_not_have_are_refused(text: str) -> None:
    with pytest.raises(ExpressionError, match="unrecognized named-value"):
        interpolate(text, "step", {"secrets": {"KEY": "s"}, "vars": {}, "needs": {}})


def test_a_default_cannot_read_inputs() -> None:
    with pytest.raises(ExpressionError, match="unrecognized named-value"):
        interpolate("${{ inputs.a }}", "default", {"inputs": {"a": "1"}})


@pytest.mark.parametrize(
    ("text", "ok", "expected"),
    [
        ("", True, True),
        ("", False, False),
        ("inputs.a == '1'", True, True),
        ("inputs.a == '1'", False, False),
        ("${{ inputs.a == '1' }}", True, True),
        ("always() && inputs.a == '1'", False, True),
        ("failure()", False, True),
        ("inputs.a == 'always()'", False, False),
        ("!cancelled()", False, True),
    ],
)
def test_a_condition_implies_success(text: str, *, ok: bool, expected: bool) -> None:
    functions = {
        "always": Function(0, 0, lambda: True),
        "cancelled": Function(0, 0, lambda: False),
        "failure": Function(0, 0, lambda: not ok),
        "success": Function(0, 0, lambda: ok),
    }
    assert condition(text, {"inputs": {"a": "1"}}, functions) is expected


def test_numbers_print_as_the_runner_prints_them() -> None:
    assert [to_string(number) for number in (1.0, 1.5, -0.25, 1e21, math.inf, -math.inf, math.nan)] == [
        "1", "1.5", "-0.25", "1e+21", "Infinity", "-Infinity", "NaN",
    ]  # fmt: skip
