"""One loopback Sigstore instance for all tests of this room; each test takes back the faults it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.loopback_sigstore import DIRECT, LoopbackSigstore

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def sigstore_instance() -> Iterator[LoopbackSigstore]:
    """Start the instance."""
    with LoopbackSigstore() as instance:
        yield instance


@pytest.fixture
def instance(sigstore_instance: LoopbackSigstore, monkeypatch: pytest.MonkeyPatch) -> LoopbackSigstore:
    """Give the instance to a test, reached without any proxy of this machine."""
    for name, value in DIRECT.items():
        monkeypatch.setenv(name, value)
    return sigstore_instance
