"""OpenClaw's `security.installPolicy`, protocol version 1.

OpenClaw asks with one JSON object before it installs or updates a skill or plugin, and reads one.

    {"protocolVersion": 1, "targetType": "skill", "targetName": "pdf-forms",
     "sourcePath": "/…/staged/pdf-forms", "sourcePathKind": "directory", "origin": {…}, "request": {…}}
    {"protocolVersion": 1, "decision": "block", "reason": "…", "findings": [{"ruleId": …, "severity": …, "message": …}]}

OpenClaw takes every exit status but 0, silence and malformed output for a block. The exit status is 0 here, so that
the reason is shown.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from wcp_attest.gate.request import HostReply, RequestError, parse_request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.gate.request import Answer

VERSION: Final = 1
MAX_TEXT: Final = 1000  # characters of a reason or finding; OpenClaw cuts what is longer
MAX_FINDINGS: Final = 20
_TARGETS: Final = ("skill", "plugin")
_KINDS: Final = ("file", "directory")


class OpenClaw:
    """The words of OpenClaw."""

    def read(self, request: bytes) -> Sequence[str]:
        """Return the staged source.

        Raises:
            RequestError: the request is malformed, or of another version.
        """
        fields = parse_request(request)
        if fields.get("protocolVersion") != VERSION or isinstance(fields["protocolVersion"], bool):
            raise RequestError(f"the request is not of protocol version {VERSION}")
        if fields.get("targetType") not in _TARGETS or fields.get("sourcePathKind") not in _KINDS:
            raise RequestError("the request names no skill or plugin in a file or directory")
        path = fields.get("sourcePath")
        if not isinstance(path, str) or not os.path.isabs(path):
            raise RequestError("the request's sourcePath is not absolute")
        return [path]

    def answer(self, answers: Sequence[Answer]) -> HostReply:
        """Say what was decided."""
        (answer,) = answers
        fields: JsonObject = {"protocolVersion": VERSION, "decision": answer.decision}
        if answer.decision != "allow":
            severity = "warn" if answer.decision == "warn" else "critical"
            rule = str(answer.verdict.code)
            fields["reason"] = answer.reason[:MAX_TEXT]
            fields["findings"] = [
                {"ruleId": rule, "severity": severity, "message": str(each)[:MAX_TEXT]}
                for each in answer.verdict.differences[:MAX_FINDINGS]
            ] or [{"ruleId": rule, "severity": severity, "message": answer.verdict.message[:MAX_TEXT] or rule}]
        return HostReply(fields, "", 0)

    def failure(self, reason: str) -> HostReply:
        """Block because there is no answer."""
        text = f"wcp-attest: {reason}"[:MAX_TEXT]
        return HostReply({"protocolVersion": VERSION, "decision": "block", "reason": text}, f"{reason}\n", 0)
