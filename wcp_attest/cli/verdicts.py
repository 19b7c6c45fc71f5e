"""A verdict in words, and its exit status; `Verdict.to_dict` is the same as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wcp_attest.base.site import code_page
from wcp_attest.cli import difference_text
from wcp_attest.cli.failure_report import REFUSED, UNDECIDED
from wcp_attest.cli.text import one_line
from wcp_attest.deny_code_help import advice_for

if TYPE_CHECKING:
    from wcp_attest.cli.text import Painter
    from wcp_attest.verdict import Verdict

_PLACES = {"beside": "", "folder": ", in .wcp/", "detached": ", outside of the package"}
MAX_HINTS = 2  # `wcp-attest explain` prints the others


def exit_status(verdict: Verdict) -> int:
    """Return 0 for verified, 1 for refused, 2 when it could not be decided."""
    if verdict.ok:
        return 0
    return REFUSED if verdict.decided else UNDECIDED


def as_text(verdict: Verdict, root: str, paint: Painter, *, every: bool = False) -> str:
    """Return the verdict in words.

    Args:
        verdict: the decision.
        root: the package, as the user named it.
        paint: colours.
        every: whether differences that are alike are listed one by one.
    """
    verified, code = verdict.verified, verdict.code
    if verified is not None:
        rows = [
            ("worker", f"{verified.worker_id} {verified.worker_version} ({verified.worker_species_id})"),
            *(("signed by", str(signer)) for signer in verified.signers),
            ("manifest", f"sha256:{verified.manifest_sha256}" + _PLACES[verified.placement]),
            *(
                ("excluded", f"{pattern!r}, by the signer; what it matches was not checked")
                for pattern in verified.excludes
            ),
        ]
        text = f"{paint('good', 'VERIFIED')}  {one_line(root)}\n  {verified.trust_statement}\n"
        return text + "".join(f"  {label:<10} {value}\n" for label, value in rows)
    if code is None:  # a verdict is one or the other
        raise TypeError("a verdict is either a proof or a code")
    head = "DENIED" if verdict.decided else "UNDECIDED, hence DENIED"
    lines = [f"{paint('bad', head)}  {one_line(root)}  {paint('bold', code.value)}", f"  {one_line(verdict.message)}"]
    text = "".join(f"{line}\n" for line in lines)
    text += difference_text.as_text(verdict.differences, verdict.total_differences, paint, every=every)
    advice = advice_for(code, verdict.message, verdict.differences, root)
    text += "what to do\n" + "".join(f"  - {hint}\n" for hint in advice[:MAX_HINTS])
    return text + f"  - `wcp-attest explain {code.value}` says more; an example:\n    {code_page(code.value)}\n"
