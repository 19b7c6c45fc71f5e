from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.service.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("hall"))
    yield made
    made.close()
