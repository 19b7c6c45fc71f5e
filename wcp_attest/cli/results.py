"""How an earlier result in a file is recognised, so that `-o FILE` replaces results and nothing else."""

from __future__ import annotations

import re
from typing import Final

from wcp_attest.disk.overwrite import OutputKind

_READ: Final = 64 * 1024  # bytes at the start that are looked at
# What our own writers write at the start: the JSON object of a result, a SARIF log of this tool, workflow commands,
# and the first line of each text. Text that another program wrote does not begin like this.
_STARTS: Final = re.compile(
    r"""
      \{\n\ \ "schema_version":\ 1,\n\ \ "kind":\ "[a-z-]+",\n
    | \{\n\ \ "\$schema":\ "[^"\n]+",\n\ \ "version":\ "2\.1\.0",\n.{,400}"name":\ "wcp-attest"
    | ::(?:error|warning|notice|group)[ :]
    | (?:VERIFIED|DENIED|UNDECIDED,\ hence\ DENIED|SIGNED|BUILT|UP\ TO\ DATE|STALE|REWROTE|ADDED|OK|ACTIVE|BANNED
        |NOT\ (?:VERIFIED|BANNED))(?:\ \ |\n)
    | (?:sha256|blake3):[0-9a-f]{64}\n
    | "(?:[^"\\\n]|\\.)+":\ \{[^\n]+\}\n
    | ATTEST_[A-Z_]+\n
    | policy\ sha256:[0-9a-f]{64}\n
    | [a-z0-9.-]+\ version\ [0-9]+,\ issued\ [0-9TZ:-]+,\ expires\ [0-9TZ:-]+
    | (?:_wcp_attest_completion\(\)|\#compdef\ wcp-attest|function\ _wcp_attest_completion)
    | private\ key\ \ | (?:would\ remove|removed|wrote)\ [^\n]+\n
    | [^\n]+:\ (?:no\ difference\ in\ [0-9]+|[0-9]+\ difference)
    """,
    re.VERBOSE | re.DOTALL,
)


RESULT: Final = OutputKind(
    "an earlier result of wcp-attest",
    lambda data: _STARTS.match(data.decode("utf-8", "replace")) is not None,
    limit=_READ,
    advice="name another file, or use --force, which keeps it as FILE.orig",
)
