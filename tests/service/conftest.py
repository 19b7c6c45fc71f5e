from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.route.postgresql import POOLER_PORT, running_pooler, running_server
from tests.service.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.route.postgresql import PostgresServer


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("hall"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def pooler_port(postgres_server: PostgresServer) -> Iterator[int]:
    with running_pooler(postgres_server):
        yield POOLER_PORT
