"""`wcp-attest explain`: what a deny code means, why it happens, how to fix it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wcp_attest.base.errors import ConfigError, DenyCode
from wcp_attest.base.site import code_page
from wcp_attest.cli.option_groups import GroupedCommand
from wcp_attest.cli.output import Output, reporting

if TYPE_CHECKING:
    from wcp_attest.base.strictjson import JsonValue


@click.command(cls=GroupedCommand)
@click.argument("code", required=False, metavar="[CODE]")
@click.option("--all", "everything", is_flag=True, help="Explain every code.")
@reporting("text", "json")
def explain(out: Output, /, code: str | None, everything: bool) -> None:
    """Tell what a deny code means, why it happens and how to fix it.

    CODE is taken in any case and with or without `ATTEST_`.
    """
    from wcp_attest.deny_code_help import EXPLANATIONS

    if everything == (code is not None):
        raise click.UsageError("give one code, or --all")
    codes = list(DenyCode) if code is None else [_find(code)]
    pages = {found: EXPLANATIONS[found] for found in codes}
    if out.format == "json":
        rows: list[JsonValue] = [
            {
                "code": found.value,
                "what": page.what,
                "why": list(page.why),
                "fix": list(page.fix),
                "url": code_page(found.value),
            }
            for found, page in pages.items()
        ]
        out.deliver_json("explanations", {"codes": rows})
        return
    texts = []
    for found, page in pages.items():
        lines = [out.paint("bold", found.value), f"  {page.what}", "", "  Why it happens"]
        lines += [f"    - {item}" for item in page.why]
        lines += ["", "  What to do"]
        lines += [f"    - {item}" for item in page.fix]
        texts.append("\n".join([*lines, "", f"  With an example: {code_page(found.value)}"]) + "\n")
    out.deliver("\n".join(texts))


def _find(text: str) -> DenyCode:
    wanted = text.upper().replace("-", "_")
    for code in DenyCode:
        if wanted in {code.value, code.value.removeprefix("ATTEST_")}:
            return code
    from difflib import get_close_matches

    near = get_close_matches(wanted, [code.value for code in DenyCode], 1, 0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigError(f"unknown deny code {text[:80]!r}; {hint}`wcp-attest explain --all` lists them")
