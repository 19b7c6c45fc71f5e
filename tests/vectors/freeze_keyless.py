"""Sign the package of the vectors keyless, once: `python -m tests.vectors.freeze_keyless`.

A Sigstore instance draws its keys and reads the clock, so these signatures cannot be made again byte for byte. They are
kept in `frozen/` instead, and the generator makes its cases from them. Run it again only when the package changes.
"""

from __future__ import annotations

import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.loopback_sigstore import DIRECT, LoopbackSigstore, Pinned, Window, github_claims
from tests.sigstore.packages import keyless_line
from tests.vectors.cases import PACKAGE

FROZEN = Path(__file__).parent / "frozen" / "keyless.json"
# Long before any clock that will ever run the vectors: the library compares the start of a window with the present.
LONG_AGO = Window(datetime(2020, 1, 1, tzinfo=UTC))


def main() -> None:
    """Write the file."""
    os.environ.update(DIRECT)
    with LoopbackSigstore() as instance:
        payload = PACKAGE.statement(signed_at=int(time.time()))
        workflow, person = github_claims(), {"sub": "42", "email": "release@acme.test"}
        lines = {
            "rekor-1": keyless_line(instance, payload, workflow),
            "rekor-2": keyless_line(instance, payload, workflow, rekor=2),
            "without-timestamp": keyless_line(instance, payload, workflow, timestamps=False),
            "person": keyless_line(instance, payload, person),
            "branch": keyless_line(instance, payload, github_claims(ref="refs/heads/main")),
            "other-manifest": keyless_line(instance, PACKAGE.statement(manifest_sha256="0" * 64), workflow),
            "other-worker": keyless_line(instance, PACKAGE.statement(worker_id="org.acme.other"), workflow),
        }
        frozen: dict[str, Any] = {
            "issuer": instance.issuer,
            "signed_at": int(time.time()),
            "trusted_root": instance.trusted_root(dict.fromkeys(Pinned, LONG_AGO)),
            "lines": {name: line.decode() for name, line in lines.items()},
        }
    FROZEN.write_text(json.dumps(frozen, indent=1) + "\n")


if __name__ == "__main__":
    main()
