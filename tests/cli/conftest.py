"""A worker package, a key, and the installed command, for each test anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.command import IDENTITY, Command, write_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A worker package, neither built nor signed."""
    return write_files(tmp_path / "worker")


@pytest.fixture
def signed(wcp: Command, package: Path, key: Path) -> Path:
    """The same package, signed by the key."""
    wcp.ok("sign", package, "--key", key, *IDENTITY)
    return package
