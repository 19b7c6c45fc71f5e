"""Why there is no identity token, in words that say what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_EVENT_BYTES = 32 * 1024 * 1024  # GitHub sends at most 25 MB


def missing_token_cause(environ: Mapping[str, str]) -> str | None:
    """Say why this job cannot get an identity token, or return None when it can.

    Args:
        environ: the environment of the step.
    """
    if environ.get("ACTIONS_ID_TOKEN_REQUEST_URL") and environ.get("ACTIONS_ID_TOKEN_REQUEST_TOKEN"):
        return None
    if _is_from_fork(environ):
        return (
            "no identity token: this run is for a pull request from a fork, and GitHub gives such runs none, whatever "
            "`permissions` say. Sign when the change is merged, or set `on-missing-token: skip`"
        )
    return (
        "no identity token: give the job `permissions: id-token: write` (and `contents: read`); a reusable workflow "
        "needs it from its caller, too"
    )


def _is_from_fork(environ: Mapping[str, str]) -> bool:
    if environ.get("GITHUB_EVENT_NAME") != "pull_request":
        return False
    try:
        with open(environ.get("GITHUB_EVENT_PATH", ""), "rb") as file:
            event = json.loads(file.read(MAX_EVENT_BYTES))
        head = event["pull_request"]["head"]["repo"]
    except (OSError, ValueError, LookupError, TypeError):
        return False
    if head is None:  # the fork was deleted meanwhile
        return True
    return isinstance(head, dict) and head.get("full_name") != environ.get("GITHUB_REPOSITORY")
