"""How many examples the property tests draw: a few in `make quick`, enough in `make test`, many in `make nightly`."""

from __future__ import annotations

import os
from typing import Final

PROFILES: Final = {"quick": 0.2, "push": 0.5, "nightly": 10.0}
PROFILE: Final = os.environ.get("WCP_TESTS", "push")


def examples(number: int = 100) -> int:
    """Return `number` examples as the profile wants them; ten, or `number` if it is smaller, are always drawn."""
    return max(min(number, 10), int(number * PROFILES[PROFILE]))
