"""Change the text of a policy and leave everything else in it as it is: comments, order, spelling.

TOML has no one form, so each change is made on lines and then proven: the changed text is parsed again and must say
exactly what the old one said with that one change. A text that cannot be changed in this way (signers in an inline
array, say) is refused, and a person has to edit it.
"""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from wcp_attest.base import toml_table as stricttoml
from wcp_attest.base.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADER: Final = re.compile(r"[ \t]*\[{1,2}[ \t]*([A-Za-z0-9_.\"' \t-]{1,200}?)[ \t]*\]{1,2}[ \t]*(?:#.*)?\r?\n?\Z")
_LINE: Final = re.compile(r"[^\n]*\n|[^\n]+")
_THRESHOLD: Final = re.compile(r"([ \t]*threshold[ \t]*=[ \t]*)[0-9]+")
_BY_HAND: Final = "the policy's text cannot be changed without touching other parts of it; edit it by hand"


class _Header(NamedTuple):
    line: int
    path: tuple[str, ...]
    array: bool


def quoted(text: str) -> str:
    """Return a TOML basic string (TOML 1.0).

    Args:
        text: what it says.

    Raises:
        ConfigError: the text holds characters that are not printable.
    """
    if not text.isprintable():
        raise ConfigError(f"{text[:80]!r} holds characters that are not printable")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def signer_line(signer: Mapping[str, object]) -> str:
    """Return the one line below `[[namespace.signer]]` that names a signer.

    Args:
        signer: `{"key": path}`, `{"hmac": {…}}` or `{"sigstore": {…}}`.

    Raises:
        ConfigError: a text in it holds characters that are not printable.
    """
    ((kind, value),) = signer.items()
    if isinstance(value, dict):
        return f"{kind} = {{ {', '.join(f'{name} = {quoted(str(text))}' for name, text in value.items())} }}"
    return f"{kind} = {quoted(str(value))}"


def add_signer(text: str, namespace: int, signer: Mapping[str, object]) -> str:
    """Return the text with one more signer behind those of a namespace.

    Args:
        text: of a policy that can be parsed.
        namespace: which `[[namespace]]`, counted from 0.
        signer: as for `signer_line`.

    Raises:
        ConfigError: the text cannot be changed safely.
    """
    lines = _LINE.findall(text)
    headers, start, end = _span(lines, namespace)
    own = [header for header in headers if start <= header.line < end and header.path == ("namespace", "signer")]
    indent = re.match(r"[ \t]*", lines[own[-1].line])[0] if own else "  "  # type: ignore[index]  # matches always
    at = _last_meaning(lines, start, end) + 1
    break_ = "\r\n" if "\r\n" in text else "\n"
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += break_
    lines[at:at] = [f"{indent}[[namespace.signer]]{break_}", f"{indent}{signer_line(signer)}{break_}"]
    expected, table = _parse(text, namespace)
    _signers(table).append(copy.deepcopy(dict(signer)))
    return _proven("".join(lines), expected)


def remove_signer(text: str, namespace: int, signer: int) -> str:
    """Return the text without one signer of a namespace.

    Args:
        text: of a policy that can be parsed.
        namespace: which `[[namespace]]`, counted from 0.
        signer: which of its signers, counted from 0.

    Raises:
        ConfigError: it is the only one, or the text cannot be changed safely.
    """
    lines = _LINE.findall(text)
    headers, start, end = _span(lines, namespace)
    inside = [header for header in headers if start < header.line < end]
    own = [header for header in inside if header.array and header.path == ("namespace", "signer")]
    if signer >= len(own):
        raise ConfigError(_BY_HAND)
    if len(own) == 1:
        raise ConfigError("this is the only signer of its namespace, which must have one; add another one first")
    first = own[signer].line
    following = [header.line for header in inside if header.line > first and header.path[:2] != ("namespace", "signer")]
    following += [header.line for header in own[signer + 1 :]]
    last = _last_meaning(lines, first, min(following, default=end))
    del lines[first : last + 1]
    expected, table = _parse(text, namespace)
    del _signers(table)[signer]
    return _proven("".join(lines), expected)


def set_threshold(text: str, namespace: int, threshold: int) -> str:
    """Return the text with another threshold of a namespace.

    Args:
        text: of a policy that can be parsed.
        namespace: which `[[namespace]]`, counted from 0.
        threshold: how many distinct signers must have signed.

    Raises:
        ConfigError: the text cannot be changed safely.
    """
    expected, table = _parse(text, namespace)
    if table.get("threshold", 1) == threshold:
        return text
    lines = _LINE.findall(text)
    headers, start, end = _span(lines, namespace)
    break_ = "\r\n" if "\r\n" in text else "\n"
    first = min([header.line for header in headers if start < header.line < end], default=end)
    for number in range(start + 1, first):
        found = _THRESHOLD.match(lines[number])
        if found is not None:
            lines[number] = f"{found[1]}{threshold}{lines[number][found.end() :]}"
            break
    else:
        lines.insert(start + 1, f"threshold = {threshold}{break_}")
    table["threshold"] = threshold
    return _proven("".join(lines), expected)


def _span(lines: list[str], namespace: int) -> tuple[list[_Header], int, int]:
    """Return all headers, and the lines from a namespace's header to the one that ends it."""
    headers = [
        _Header(number, tuple(part.strip().strip("\"'") for part in found[1].split(".")), line.lstrip()[:2] == "[[")
        for number, line in enumerate(lines)
        if (found := _HEADER.match(line)) is not None
    ]
    starts = [header.line for header in headers if header.path == ("namespace",) and header.array]
    if namespace >= len(starts):
        raise ConfigError(_BY_HAND)
    start = starts[namespace]
    ends = [header.line for header in headers if header.line > start and header.path[:1] != ("namespace",)]
    return headers, start, min([*ends, *starts[namespace + 1 :]], default=len(lines))


def _last_meaning(lines: list[str], start: int, end: int) -> int:
    """Return the last line of a range that is neither blank nor a comment: what follows belongs to the next header."""
    return max(number for number in range(start, end) if lines[number].strip() and lines[number].strip()[0] != "#")


def _parse(text: str, namespace: int) -> tuple[dict[str, object], dict[str, object]]:
    """Return what a policy says, and in it one of its namespaces."""
    policy: dict[str, object] = stricttoml.loads(text.encode(), "the policy")
    tables = policy.get("namespace")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(_BY_HAND)
    return policy, tables[namespace]


def _proven(text: str, expected: dict[str, object]) -> str:
    """Return the text if it says what is expected; a change on lines can hit something else."""
    try:
        same = stricttoml.loads(text.encode(), "the policy") == expected
    except ConfigError:
        same = False
    if not same:
        raise ConfigError(_BY_HAND)
    return text


def _signers(namespace: dict[str, object]) -> list[object]:
    signers = namespace.get("signer")
    if not isinstance(signers, list):
        raise ConfigError(_BY_HAND)
    return signers
