"""Speaking to the runner: workflow commands, output files, and nothing that others wrote taken for either."""

from __future__ import annotations

import os
import re
import secrets
from typing import Final

TITLE: Final = "wcp-attest"


def escape(text: str) -> str:
    """Escape the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def say(level: str, message: str) -> None:
    """Make an annotation.

    Args:
        level: `notice`, `warning` or `error`.
        message: of any number of lines.
    """
    print(f"::{level} title={TITLE}::{escape(message)}", flush=True)


def mask(secret: str) -> None:
    """Hide a secret, and each of its lines, in everything that the job shows from now on."""
    for part in {secret, *secret.splitlines()}:
        if part.strip():
            print(f"::add-mask::{escape(part)}", flush=True)


def plain(text: str) -> str:
    """Return text in which no runner sees a command, in any spelling.

    A file may be called `##[set-output name=verified]true`, and the runner looks for that anywhere in a line. Other
    runners obey `##vso[` or `##teamcity[`.
    """
    lines = re.sub(r"##(?=[A-Za-z]*\[)", "## ", text).splitlines()
    return "\n".join(f"| {line}" if line.lstrip().startswith("::") else line for line in lines)


def set_output(name: str, value: str) -> None:
    """Set an output of the step, with any characters; a runner that takes no outputs gets none."""
    delimiter = f"end-{secrets.token_hex(16)}"
    if not os.environ.get("GITHUB_OUTPUT"):
        return
    with open(os.environ["GITHUB_OUTPUT"], "a", encoding="utf-8", newline="\n") as file:
        file.write(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def append_summary(markdown: str) -> None:
    """Append to the job summary, where the runner has one; older servers and runners of other makers have none."""
    if not os.environ.get("GITHUB_STEP_SUMMARY"):
        print("this runner has no job summary", flush=True)
        return
    with open(os.environ["GITHUB_STEP_SUMMARY"], "a", encoding="utf-8", errors="backslashreplace") as file:
        file.write(markdown)
