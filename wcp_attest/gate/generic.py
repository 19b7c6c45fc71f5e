"""The gate's own JSON form, for hosts that have none.

    {"version": 1, "path": "/srv/incoming/pdf-forms"}
    {"version": 1, "decision": "block", "code": "ATTEST_HASH_MISMATCH", "reason": "…", "package": null}

Exit status 0 allows, 1 blocks, 2 says that nothing could be decided, which is a block too.
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


class Generic:
    """The gate's own words."""

    def read(self, request: bytes) -> Sequence[str]:
        """Return the package of the request.

        Raises:
            RequestError: the request is malformed, or of another version.
        """
        fields = parse_request(request)
        if fields.keys() != {"version", "path"} or fields["version"] != VERSION or isinstance(fields["version"], bool):
            raise RequestError('the request must be {"version": 1, "path": "…"}')
        path = fields["path"]
        if not isinstance(path, str) or not os.path.isabs(path):
            raise RequestError("the request's path is not absolute")
        return [path]

    def answer(self, answers: Sequence[Answer]) -> HostReply:
        """Say what was decided."""
        (answer,) = answers
        verified = answer.verdict.verified
        package: JsonObject | None = (
            None
            if verified is None
            else {
                "worker_id": verified.worker_id,
                "worker_version": verified.worker_version,
                "manifest_sha256": verified.manifest_sha256,
                "signers": [str(signer) for signer in verified.signers],
            }
        )
        fields: JsonObject = {
            "version": VERSION,
            "decision": answer.decision,
            "code": None if answer.verdict.code is None else str(answer.verdict.code),
            "reason": answer.reason,
            "package": package,
        }
        status = 0 if answer.decision == "allow" else 1 if answer.verdict.decided else 2
        return HostReply(fields, "", status)

    def failure(self, reason: str) -> HostReply:
        """Block because there is no answer."""
        fields: JsonObject = {
            "version": VERSION,
            "decision": "block",
            "code": None,
            "reason": reason,
            "package": None,
        }
        return HostReply(fields, f"{reason}\n", 2)
