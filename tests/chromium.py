"""Debian's chromium, driven by playwright, for the tests that look at pages; and the two sizes they look at."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
SIZES = {"desktop": {"width": 1200, "height": 800}, "phone": {"width": 390, "height": 800}}


@contextmanager
def launched() -> Iterator[Any]:
    """Start the browser, or skip loudly where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: the pages were NOT tried in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()
