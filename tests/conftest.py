"""What every room of tests may ask for; each import stands in its fixture, so that quick tests stay quick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

from tests.drawn import PROFILE, examples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bad_http import BadServer
    from tests.cli.command import Command
    from tests.loopback_sigstore import LoopbackSigstore
    from tests.route.postgresql import PostgresServer

# Only the nightly run keeps failures for later runs: each example costs a look at the database.
kept = DirectoryBasedExampleDatabase(".hypothesis/examples") if PROFILE == "nightly" else None
settings.register_profile(PROFILE, deadline=None, max_examples=examples(), database=kept)
settings.load_profile(PROFILE)


@pytest.fixture
def wcp(tmp_path: Path) -> Command:
    """`wcp-attest` as a process in an empty directory."""
    from tests.cli.command import Command

    return Command(tmp_path)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """An unencrypted Ed25519 key, with its public key beside it."""
    from wcp_attest.signing.key import generate

    signer = generate()
    path = tmp_path / "acme.key"
    path.write_bytes(signer.to_pem(None))
    (tmp_path / "acme.key.pub").write_bytes(signer.public_pem())
    return path


@pytest.fixture
def server() -> Iterator[BadServer]:
    """A server on loopback that answers as it is told, badly too."""
    from tests.bad_http import BadServer

    with BadServer() as running:
        yield running


@pytest.fixture(scope="session")
def sigstore_instance() -> Iterator[LoopbackSigstore]:
    """A Sigstore instance on loopback; each test takes back the faults it asks for."""
    from tests.loopback_sigstore import LoopbackSigstore

    with LoopbackSigstore() as instance:
        yield instance


@pytest.fixture
def instance(sigstore_instance: LoopbackSigstore, monkeypatch: pytest.MonkeyPatch) -> LoopbackSigstore:
    """The instance, reached without any proxy of this machine."""
    from tests.loopback_sigstore import DIRECT

    for name, value in DIRECT.items():
        monkeypatch.setenv(name, value)
    return sigstore_instance


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's chromium. For one module: while playwright runs, nothing else may use asyncio."""
    from tests.chromium import launched

    with launched() as started:
        yield started


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server of the tests' own."""
    from tests.route.postgresql import running_server

    with running_server() as running:
        yield running


@pytest.fixture(scope="session")
def pooler_port(postgres_server: PostgresServer) -> Iterator[int]:
    """The port of a pooler, in transaction mode, before the server."""
    from tests.route.postgresql import POOLER_PORT, running_pooler

    with running_pooler(postgres_server):
        yield POOLER_PORT
