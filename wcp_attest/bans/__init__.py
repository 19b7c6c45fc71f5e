"""Who is banned: lists that are signed, versioned and fresh, and what happens when they are not.

Whatever is missing, stale, rolled back, unsigned or malformed is an error with a code, never an empty list. The names
below are the public ones; modules that need the network are imported only when a source of that kind is configured.
"""

from __future__ import annotations

from wcp_attest.bans.facts import BanCheck, PackageFacts

__all__ = ["BanCheck", "PackageFacts"]
