"""Values of expressions and the runner's coercions between them.

The rules are those of JavaScript's abstract comparison, except that strings compare without case and that objects
are never turned into primitives (`EvaluationResult.cs` and `ExpressionUtility.cs` of the runner).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

Value: TypeAlias = "bool | float | str | Sequence[Value] | Mapping[str, Value] | None"
Context: TypeAlias = "Mapping[str, Value]"

_DECIMAL = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\Z", re.ASCII)
_INT32_MAX = 2**31 - 1


def kind(value: Value) -> str:
    """Name the kind of a value as the runner prints it."""
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return "Boolean"
    if isinstance(value, float):
        return "Number"
    if isinstance(value, str):
        return "String"
    return "Object" if isinstance(value, Mapping) else "Array"


def truthy(value: Value) -> bool:
    """Tell whether a value counts as true: not null, false, 0, NaN or the empty string."""
    if isinstance(value, float):
        return value != 0 and not math.isnan(value)
    return value is not None and value is not False and value != ""


def to_string(value: Value) -> str:
    """Turn a value into text, as `${{ }}` does."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _number_to_string(value)
    return value if isinstance(value, str) else kind(value)


def _number_to_string(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else format(value, ".15g")


def to_number(value: Value) -> float:
    """Turn a value into a number; what is none becomes NaN."""
    if value is None:
        return 0.0
    if isinstance(value, (bool, float)):
        return float(value)
    return _string_to_number(value.strip()) if isinstance(value, str) else math.nan


def _string_to_number(text: str) -> float:
    if not text:
        return 0.0
    if _DECIMAL.match(text):
        return float(text)
    for prefix, base, digits in (("0x", 16, r"[0-9a-fA-F]+"), ("0o", 8, r"[0-7]+")):
        if text.startswith(prefix) and re.fullmatch(digits, text[2:]):
            number = int(text[2:], base)
            return float(number) if number <= _INT32_MAX else math.nan
    return {"Infinity": math.inf, "-Infinity": -math.inf}.get(text, math.nan)


def _coerce(left: Value, right: Value) -> tuple[Value, Value]:
    kinds = kind(left), kind(right)
    if kinds[0] == kinds[1]:
        return left, right
    if set(kinds) == {"Number", "String"}:
        return to_number(left), to_number(right)
    if kinds[0] in ("Boolean", "Null"):
        return _coerce(to_number(left), right)
    if kinds[1] in ("Boolean", "Null"):
        return _coerce(left, to_number(right))
    return left, right


def equal(left: Value, right: Value) -> bool:
    """Compare as `==` does."""
    left, right = _coerce(left, right)
    if kind(left) != kind(right):
        return False
    if isinstance(left, str) and isinstance(right, str):
        return left.upper() == right.upper()
    return left is right if kind(left) in ("Object", "Array") else left == right


def ordered(left: Value, right: Value, relation: Callable[[float | str, float | str], bool]) -> bool:
    """Compare as `<` and `>` do; what cannot be ordered is false."""
    left, right = _coerce(left, right)
    if isinstance(left, str) and isinstance(right, str):
        return relation(left.upper(), right.upper())
    if isinstance(left, (bool, float)) and isinstance(right, (bool, float)):
        return relation(float(left), float(right))
    return False


def lookup(container: Value, key: Value) -> Value:
    """Index into an object (names without regard to case) or an array; what is absent is null."""
    if isinstance(container, Mapping):
        wanted = to_string(key).casefold()
        return next((value for name, value in container.items() if name.casefold() == wanted), None)
    if isinstance(container, Sequence) and not isinstance(container, str):
        index = to_number(key)
        return container[int(index)] if 0 <= index < len(container) else None
    return None
