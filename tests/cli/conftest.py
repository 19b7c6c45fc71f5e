"""A worker package, a key, and the installed command, for each test anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.command import IDENTITY, Command, write_files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def wcp(tmp_path: Path) -> Command:
    return Command(tmp_path)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A worker package, neither built nor signed."""
    return write_files(tmp_path / "worker")


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
def signed(wcp: Command, package: Path, key: Path) -> Path:
    """The same package, signed by the key."""
    wcp.ok("sign", package, "--key", key, *IDENTITY)
    return package
