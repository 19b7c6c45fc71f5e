"""Fixtures of the router's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.route.worlds import World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world with one enrolled, signed worker."""
    made = World(tmp_path)
    made.enroll()
    return made
