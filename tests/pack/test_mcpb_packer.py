"""MCP bundles as their own packer makes and reads them: what it packs verifies here, what we pack it unpacks."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.js import MODULES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command

PACKER = MODULES / ".bin" / "mcpb"
TRUST = ("--public-key", "acme.key.pub", "--worker-id", "org.acme.notes")
BUNDLE = {
    "manifest_version": "0.3",
    "name": "notes",
    "version": "1.0.0",
    "description": "Keeps notes.",
    "author": {"name": "Acme"},
    "server": {
        "type": "node",
        "entry_point": "server/index.js",
        "mcp_config": {"command": "node", "args": ["${__dirname}/server/index.js"]},
    },
}

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None or not PACKER.exists(),
    reason="the packer of MCP bundles was NOT tried: run `tests/js/install` to install it into build/node",
)


def mcpb(folder: Path, *arguments: str) -> str:
    done = subprocess.run([PACKER, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done
    return done.stdout


@pytest.fixture
def bundle(wcp: Command, key: Path) -> Path:
    """A bundle's folder, signed with nothing but a namespace and a key."""
    root = wcp.folder / "notes"
    (root / "server").mkdir(parents=True)
    (root / "server" / "index.js").write_text("console.log('up')\n")
    (root / "manifest.json").write_text(json.dumps(BUNDLE))
    wcp.ok("sign", "notes", "--namespace", "org.acme", "--key", key)
    return root


@pytest.mark.usefixtures("bundle")
def test_verifies_what_the_packer_packs(wcp: Command) -> None:
    mcpb(wcp.folder, "pack", "notes", "notes.mcpb")
    wcp.ok("verify", "notes.mcpb", *TRUST)
    wcp.ok("unpack", "notes.mcpb", "out", *TRUST)
    assert (wcp.folder / "out" / "server" / "index.js").is_file()


def test_refuses_a_bundle_that_the_packer_packed_from_changed_files(wcp: Command, bundle: Path) -> None:
    (bundle / "server" / "index.js").write_text("console.log('other')\n")
    mcpb(wcp.folder, "pack", "notes", "notes.mcpb")
    run = wcp("verify", "notes.mcpb", *TRUST, "--format", "json")
    assert (run.status, run.json["code"]) == (1, "ATTEST_HASH_MISMATCH")


@pytest.mark.usefixtures("bundle")
def test_the_packer_reads_what_we_pack(wcp: Command) -> None:
    wcp.ok("pack", "notes", "-o", "ours.mcpb")
    assert "ours.mcpb" in mcpb(wcp.folder, "info", "ours.mcpb")
    mcpb(wcp.folder, "unpack", "ours.mcpb", "out")
    wcp.ok("verify", "out", *TRUST)
