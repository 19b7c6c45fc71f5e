"""Signers, a signed worker package, and the installed command, for each test anew."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.bans.helpers import Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def private_umask() -> Iterator[None]:
    """Files as an operator's shell makes them: nobody else can write."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
