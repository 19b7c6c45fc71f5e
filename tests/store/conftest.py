from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.store.worlds import a_root_kept_place, make_package, remove

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def own_place() -> Iterator[Path]:
    """A directory that everybody can change. Not below pytest's own, which only its user may enter."""
    place = Path(tempfile.mkdtemp(prefix="wcp-attest-test-"))
    place.chmod(0o777)
    yield place
    remove(place)


@pytest.fixture
def package(own_place: Path) -> Path:
    return make_package(own_place / "worker")


@pytest.fixture
def kept_place() -> Iterator[Path]:
    """A directory of root's that nobody else can change; skips where there is none."""
    with a_root_kept_place() as place:
        yield place
