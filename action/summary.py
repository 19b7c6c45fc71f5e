"""The job summary: what was signed and by which signer, or why not, and the command that verifies it.

Names come from packages. Markdown is read inside `<code>`, too, so every text is escaped for Markdown and for HTML.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Final

from action.results import text
from wcp_attest.cli.text import printable

if TYPE_CHECKING:
    from action.commands import Outcome

MAX_DIFFERENCES: Final = 50  # that are listed of one package; the SARIF file has more
MAX_SHOWN: Final = 1000  # characters of one name or message
MAX_BYTES: Final = 900_000  # a runner drops a summary of more than 1 MiB as a whole
_BACKTICKS = re.compile(r"`+")
# What has a meaning in GitHub's Markdown (GFM; `$` is its mathematics); a `_` inside a word has none.
_MARKDOWN = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])|\A[#+-]")


def render(mode: str, outcomes: Sequence[Outcome], commands: Sequence[str]) -> str:
    """Return the Markdown of the summary.

    Args:
        mode: `sign` or `verify`.
        outcomes: one a package.
        commands: one a package: the command that verifies it, or nothing.
    """
    parts: list[str] = []
    left = MAX_BYTES
    for outcome, command in zip(outcomes, commands, strict=True):
        said = "Verify it with:" if mode == "sign" else "Verified with:" if outcome.ok else "Checked with:"
        part = _package(mode, outcome) + (f"\n{said}\n\n{_block(command)}" if command else "")
        left -= len(part.encode(errors="backslashreplace"))
        if left < 0:
            parts.append(f"… and {len(outcomes) - len(parts)} more packages; `result-path` has all of them\n")
            break
        parts.append(part)
    return "".join(f"{part}\n" for part in parts)


def _package(mode: str, outcome: Outcome) -> str:
    if not outcome.ok:
        return _denial(mode, outcome)
    result = outcome.result
    done = "signed" if mode == "sign" else "verified"
    rows = [
        ("Worker", " ".join((text(result, "package", "worker_id"), text(result, "package", "worker_version")))),
        ("Package", f"{text(result, 'package', 'hash_algorithm')}:{text(result, 'package', 'package_hash')}"),
        *(("Signed by", _signer(signer)) for signer in _list(result, "signers")),
        ("Signed at", text(result, "signed_at_utc") or text(result, "package", "signed_at_utc")),
    ]
    table = "".join(f"| {label} | {_code(value)} |\n" for label, value in rows if value.strip(" :"))
    return f"### ✅ {_code(outcome.package)} {done}\n\n| | |\n|---|---|\n{table}"


def _denial(mode: str, outcome: Outcome) -> str:
    result = outcome.result
    failed = "not signed" if mode == "sign" else "not verified"
    code = text(result, "code")
    lines = f"### ❌ {_code(outcome.package)} {failed}\n\n"
    lines += (f"{_code(code)}: " if code else "") + f"{_plain(text(result, 'message'))}\n"
    differences = _list(result, "differences")
    if differences:
        lines += "\n| change | path | |\n|---|---|---|\n"
        for item in differences[:MAX_DIFFERENCES]:
            row = (_code(text(item, "change")), _code(text(item, "path")), _plain(text(item, "cause")))
            lines += f"| {' | '.join(row)} |\n"
        if len(differences) > MAX_DIFFERENCES:
            lines += f"\n… and {len(differences) - MAX_DIFFERENCES} more\n"
    hints = list(_texts(result, "next"))[:3]
    if hints:
        lines += "\n" + "".join(f"- {_plain(hint)}\n" for hint in hints)
    return lines


def _signer(signer: Mapping[str, object]) -> str:
    who = text(signer, "identity") or text(signer, "key_id")
    issuer = text(signer, "issuer")
    return f"{text(signer, 'kind')} {who}" + (f" ({issuer})" if issuer else "")


def _list(result: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    values = result.get(key)
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


def _texts(result: Mapping[str, object], key: str) -> list[str]:
    values = result.get(key)
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []


def _plain(value: str) -> str:
    shown = value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "…"
    return _MARKDOWN.sub(r"\\\g<0>", escape(printable(shown).replace("\n", " "), quote=False))


def _code(value: str) -> str:
    return f"<code>{_plain(value)}</code>"


def _block(command: str) -> str:
    longest = max((len(run) for run in _BACKTICKS.findall(command)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}console\n$ {printable(command)}\n{fence}\n"
