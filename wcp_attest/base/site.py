"""Addresses on the project's site that do not change from release to release."""

from __future__ import annotations

from typing import Final

SITE: Final = "https://OWNER.github.io/wcp-attest/"  # OWNER is replaced before the first release


def code_page(code: str) -> str:
    """Return the address of the page about a deny code.

    Args:
        code: such as `ATTEST_HASH_MISMATCH`.

    Returns:
        An https URL.
    """
    return f"{SITE}codes/{code}/"
