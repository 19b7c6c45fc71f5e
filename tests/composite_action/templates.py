"""Text with `${{ … }}` in it, and the contexts that each field of `action.yml` may use.

The allowed names are those of the runner's `action_yaml.json`: a default may not read `inputs`, an output may, and
`secrets` is nowhere, which is why an action takes a secret as an input.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tests.composite_action.expressions import ExpressionError, evaluate
from tests.composite_action.values import Context, Value, to_string, truthy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.composite_action.functions import Function

_JOB: Final = frozenset({"github", "strategy", "matrix", "job", "runner"})
CONTEXTS: Final[Mapping[str, frozenset[str]]] = {
    "default": _JOB,
    "step": _JOB | {"inputs", "steps", "env"},
    "output": _JOB | {"inputs", "steps", "env"},
}
STATUS_FUNCTIONS: Final = ("always", "cancelled", "failure", "success")

_OPEN, _CLOSE = "${{", "}}"
_STATUS_CALL = re.compile(rf"\b({'|'.join(STATUS_FUNCTIONS)})\s*\(", re.IGNORECASE)
_TEXT = re.compile(r"'(?:[^']|'')*'")


def _allowed(field: str, contexts: Context) -> Context:
    return {name: contexts.get(name, {}) for name in CONTEXTS[field]}


def interpolate(text: str, field: str, contexts: Context) -> str:
    """Replace each `${{ expression }}` in `text` by its value as a string.

    Args:
        text: a scalar of `action.yml`.
        field: which of `CONTEXTS` applies.
        contexts: the values of all contexts.

    Raises:
        ExpressionError: an expression is malformed, unclosed, or names a context that the field does not have.
    """
    parts, position = [], 0
    while (start := text.find(_OPEN, position)) >= 0:
        end = _end_of_expression(text, start + len(_OPEN))
        parts += [
            text[position:start],
            to_string(evaluate(text[start + len(_OPEN) : end], _allowed(field, contexts))),
        ]
        position = end + len(_CLOSE)
    return "".join([*parts, text[position:]])


def _end_of_expression(text: str, start: int) -> int:
    """Find the closing braces that are not inside a quoted string."""
    position = start
    while position < len(text):
        if text.startswith(_CLOSE, position):
            return position
        quoted = _TEXT.match(text, position)
        position = quoted.end() if quoted else position + 1
    raise ExpressionError(f"the expression is not closed: {text[start:]!r}")


def condition(text: str, contexts: Context, functions: Mapping[str, Function]) -> bool:
    """Evaluate an `if:`, with the `success()` that it implies when it calls no status function.

    Raises:
        ExpressionError: the condition cannot be evaluated.
    """
    text = text.strip()
    if text.startswith(_OPEN) and text.endswith(_CLOSE) and text.count(_OPEN) == 1:
        text = text[len(_OPEN) : -len(_CLOSE)]
    elif _OPEN in text:
        raise ExpressionError(f"an `if` is one expression, found text around it: {text!r}")
    if not text.strip():
        text = "success()"
    elif not _STATUS_CALL.search(_TEXT.sub("''", text)):
        text = f"success() && ({text})"
    value: Value = evaluate(text, _allowed("step", contexts), functions)
    return truthy(value)
