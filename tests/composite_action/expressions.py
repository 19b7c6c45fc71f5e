"""The expression language of workflows: what stands between `${{` and `}}`.

    evaluate("inputs.mode == 'sign' && steps.run.outputs.bundle || ''", contexts, functions)

A recursive-descent parser over the runner's tokens that evaluates as it goes; the side of `&&` and `||` that is not
taken is parsed and dropped. The object filter `*` is refused: no action here needs it, and wrong would be worse.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from operator import gt, lt
from typing import TYPE_CHECKING, Final

from tests.composite_action.functions import BUILT_IN, Function, FunctionError
from tests.composite_action.values import Context, Value, equal, lookup, ordered, to_number, truthy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_LENGTH: Final = 21_000  # the runner's limit on one expression
MAX_DEPTH: Final = 50  # and on its nesting

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<op>\|\||&&|==|!=|<=|>=|[<>!()\[\],*])|(?P<dot>\.)"
    r"|(?P<number>[-+0-9](?:[^\s()\[\],!<>=&|])*)|(?P<name>[A-Za-z_][A-Za-z0-9_-]*))"
)
_FRACTION = re.compile(r"\.\d[^\s()\[\],!<>=&|]*")
_LITERALS: Final[Mapping[str, Value]] = {
    "true": True,
    "false": False,
    "null": None,
    "NaN": math.nan,
    "Infinity": math.inf,
}
_COMPARE: Final[Mapping[str, Callable[[Value, Value], bool]]] = {
    "==": equal,
    "!=": lambda left, right: not equal(left, right),
    "<": lambda left, right: ordered(left, right, lt),
    ">": lambda left, right: ordered(left, right, gt),
    "<=": lambda left, right: equal(left, right) or ordered(left, right, lt),
    ">=": lambda left, right: equal(left, right) or ordered(left, right, gt),
}


class ExpressionError(Exception):
    """The expression is not one, or names a context or function that is not there."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str


def evaluate(text: str, contexts: Context, functions: Mapping[str, Function] | None = None) -> Value:
    """Evaluate one expression.

    Args:
        text: the expression, without `${{ }}`.
        contexts: what names mean; a name that is not among them is an error.
        functions: functions beside the built-in ones, by lower-case name.

    Raises:
        ExpressionError: the expression cannot be parsed or evaluated.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError("expression too long")
    named = {name.casefold(): value for name, value in contexts.items()}
    parser = _Parser(_tokens(text), named, {**BUILT_IN, **(functions or {})})
    try:
        value = parser.either(evaluating=True)
    except FunctionError as error:
        raise ExpressionError(str(error)) from error
    if parser.next.kind != "end":
        raise ExpressionError(f"unexpected symbol {parser.next.text!r} in {text!r}")
    return value


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    text = text.strip()
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            raise ExpressionError(f"unexpected symbol at {text[position:]!r}")
        token = _Token(found.lastgroup, found[found.lastgroup])
        dereferences = bool(tokens) and (tokens[-1].kind == "name" or tokens[-1].text in (")", "]", "*"))
        if token.kind == "dot" and not dereferences:
            found = _FRACTION.match(text, found.start("dot"))
            if found is None:
                raise ExpressionError(f"unexpected symbol '.' in {text!r}")
            token = _Token("number", found[0])
        tokens.append(token)
        position = found.end()
    return [*tokens, _Token("end", "")]


@dataclass(slots=True)
class _Parser:
    tokens: list[_Token]
    contexts: Context
    functions: Mapping[str, Function]
    position: int = 0
    depth: int = field(default=0)

    @property
    def next(self) -> _Token:
        return self.tokens[self.position]

    def _take(self, *wanted: str) -> str | None:
        if self.next.kind in ("op", "dot") and self.next.text in wanted:
            self.position += 1
            return self.tokens[self.position - 1].text
        return None

    def _expect(self, wanted: str) -> None:
        if not self._take(wanted):
            raise ExpressionError(f"expected {wanted!r}, found {self.next.text!r}")

    def either(self, *, evaluating: bool) -> Value:
        """Parse `a || b`, giving the first true operand or the last one."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExpressionError("expression nested too deeply")
        value = self._both(evaluating=evaluating)
        while self._take("||"):
            taken = evaluating and not truthy(value)
            other = self._both(evaluating=taken)
            value = other if taken else value
        self.depth -= 1
        return value

    def _both(self, *, evaluating: bool) -> Value:
        value = self._compared(("==", "!="), evaluating=evaluating)
        while self._take("&&"):
            taken = evaluating and truthy(value)
            other = self._compared(("==", "!="), evaluating=taken)
            value = other if taken else value
        return value

    def _compared(self, operators: tuple[str, ...], *, evaluating: bool) -> Value:
        def operand() -> Value:
            if "==" in operators:
                return self._compared(("<", "<=", ">", ">="), evaluating=evaluating)
            return self._negated(evaluating=evaluating)

        value = operand()
        while operator := self._take(*operators):
            value = _COMPARE[operator](value, operand())
        return value

    def _negated(self, *, evaluating: bool) -> Value:
        if self._take("!"):
            return not truthy(self._negated(evaluating=evaluating))
        return self._indexed(evaluating=evaluating)

    def _indexed(self, *, evaluating: bool) -> Value:
        literal = self.next.kind in ("text", "number") or self.next.text in _LITERALS
        value = self._primary(evaluating=evaluating)
        while not literal and (opened := self._take(".", "[")):
            if self.next.text == "*":
                raise ExpressionError("the object filter `*` is not supported here")
            if opened == ".":
                if self.next.kind != "name":
                    raise ExpressionError(f"expected a property name, found {self.next.text!r}")
                key: Value = self.next.text
                self.position += 1
            else:
                key = self.either(evaluating=evaluating)
                self._expect("]")
            value = lookup(value, key)
        return value

    def _primary(self, *, evaluating: bool) -> Value:
        if self._take("("):
            value = self.either(evaluating=evaluating)
            self._expect(")")
            return value
        token = self.next
        self.position += 1
        if token.kind == "text":
            return token.text[1:-1].replace("''", "'")
        if token.kind == "number":
            return _number(token.text)
        if token.kind == "name" and self._take("("):
            return self._call(token.text, evaluating=evaluating)
        if token.kind == "name" and token.text in _LITERALS:
            return _LITERALS[token.text]
        if token.kind == "name" and token.text.casefold() in self.contexts:
            return self.contexts[token.text.casefold()]
        what = "unrecognized named-value" if token.kind == "name" else "unexpected symbol"
        raise ExpressionError(f"{what}: {token.text!r}")

    def _call(self, name: str, *, evaluating: bool) -> Value:
        function = self.functions.get(name.casefold())
        if function is None:
            raise ExpressionError(f"unrecognized function: {name!r}")
        arguments: list[Value] = []
        while not self._take(")"):
            arguments.append(self.either(evaluating=evaluating))
            if not (self.next.text == ")" and self.next.kind == "op"):
                self._expect(",")
        if not function.least <= len(arguments) <= function.most:
            raise ExpressionError(f"wrong number of arguments for {name!r}: {len(arguments)}")
        return function.call(*arguments) if evaluating else None


def _number(text: str) -> float:
    value = to_number(text)
    if math.isnan(value):
        raise ExpressionError(f"unexpected symbol: {text!r}")
    return value
