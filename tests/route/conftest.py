"""Fixtures of the router's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.route.worlds import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.route.postgresql import PostgresServer


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A world with one enrolled, signed worker."""
    made = World(tmp_path)
    made.enroll()
    return made


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the tests' own."""
    from tests.route.postgresql import running_server

    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def pooler_port(postgres_server: PostgresServer) -> Iterator[int]:
    """The port of a pooler, in transaction mode, before the server."""
    from tests.route.postgresql import POOLER_PORT, running_pooler

    with running_pooler(postgres_server):
        yield POOLER_PORT
