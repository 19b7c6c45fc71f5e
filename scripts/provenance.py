"""Write the SLSA provenance (v1) of a build on GitHub Actions: the predicate that is signed for each asset.

    python scripts/provenance.py > provenance.json
    python -m sigstore attest --predicate provenance.json --predicate-type https://slsa.dev/provenance/v1 FILE

Everything comes from the variables that the runner sets. It is what the job says of itself: the identity in the
certificate of the signature is what a verifier compares it with.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

BUILD_TYPE = "https://actions.github.io/buildtypes/workflow/v1"


def predicate(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the predicate.

    Args:
        environ: the variables of a job.

    Raises:
        SystemExit: one is missing; this is no job.
    """
    try:
        server, repository = environ["GITHUB_SERVER_URL"], environ["GITHUB_REPOSITORY"]
        source, workflow = f"{server}/{repository}", environ["GITHUB_WORKFLOW_REF"]
        path = workflow.removeprefix(f"{repository}/").partition("@")[0]
        run = f"{source}/actions/runs/{environ['GITHUB_RUN_ID']}/attempts/{environ['GITHUB_RUN_ATTEMPT']}"
        return {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "workflow": {"ref": environ["GITHUB_REF"], "repository": source, "path": path},
                },
                "internalParameters": {"github": {"event_name": environ["GITHUB_EVENT_NAME"]}},
                "resolvedDependencies": [
                    {"uri": f"git+{source}@{environ['GITHUB_REF']}", "digest": {"gitCommit": environ["GITHUB_SHA"]}}
                ],
            },
            "runDetails": {"builder": {"id": f"{server}/{workflow}"}, "metadata": {"invocationId": run}},
        }
    except KeyError as missing:
        raise SystemExit(f"{missing.args[0]} is not set: this is no job of GitHub Actions") from None


if __name__ == "__main__":
    json.dump(predicate(os.environ), sys.stdout, indent=1)
