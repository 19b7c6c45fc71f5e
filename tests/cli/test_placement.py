"""`--placement` and `--attestation`: the pair goes where it replaces nothing, and every command finds it there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command

IDENTITY = ("--worker-id", "org.acme.summarizer", "--species-id", "wrk.doc.summarizer", "--worker-version", "1.4.0")
WORKER = ("--worker-id", "org.acme.summarizer")
FOREIGN = '{"manifest_version": 3, "name": "an extension"}\n'


@pytest.fixture
def tree(tmp_path: Path, wcp: Command) -> Path:
    root = tmp_path / "plugin"
    (root / "code").mkdir(parents=True)
    (root / "code" / "main.js").write_text("run()\n")
    wcp.ok("keygen", tmp_path / "acme.key", "--no-passphrase")
    return root


def test_a_foreign_manifest_stays_and_is_covered(wcp: Command, tree: Path, tmp_path: Path) -> None:
    (tree / "manifest.json").write_text(FOREIGN)
    made = wcp.ok("sign", tree, "--key", tmp_path / "acme.key", *IDENTITY)
    assert "the pair goes into .wcp/" in made.err
    assert (tree / "manifest.json").read_text() == FOREIGN
    verify = ("verify", tree, "--public-key", tmp_path / "acme.key.pub", *WORKER)
    assert wcp.ok(*verify, "--format", "json").json["package"]["placement"] == "folder"
    assert ".wcp/" in wcp.ok(*verify).out
    assert '"manifest.json"' in (tree / ".wcp" / "manifest.json").read_text()
    wcp.ok("diff", tree)
    assert "org.acme.summarizer" in wcp.ok("show", tree).out
    again = wcp.ok("sign", tree, "--key", tmp_path / "acme.key")
    assert "the pair goes" not in again.err
    wcp.ok("build", tree, "--exclude", "*.log")
    (tree / "manifest.json").write_text("{}\n")
    denied = wcp("verify", tree, "--public-key", tmp_path / "acme.key.pub", *WORKER)
    assert denied.status == 1


def test_beside_refuses_a_foreign_file_and_names_the_way_out(wcp: Command, tree: Path, tmp_path: Path) -> None:
    (tree / "manifest.json").write_text(FOREIGN)
    for command in (("sign", tree, "--key", tmp_path / "acme.key"), ("build", tree)):
        refused = wcp(*command, *IDENTITY, "--placement", "beside")
        assert refused.status == 2
        assert "--placement folder" in refused.err
        assert (tree / "manifest.json").read_text() == FOREIGN
        assert not (tree / "manifest.sig").exists()


def test_a_detached_pair_leaves_the_package_alone(wcp: Command, tree: Path, tmp_path: Path) -> None:
    before = sorted(tree.rglob("*"))
    outside = tmp_path / "pairs"
    made = wcp.ok("sign", tree, "--key", tmp_path / "acme.key", *IDENTITY, "--attestation", outside, "--format", "json")
    assert sorted(tree.rglob("*")) == before
    assert "--attestation" in made.json["verify_command"]
    verify = ("verify", tree, "--public-key", tmp_path / "acme.key.pub", *WORKER)
    assert wcp.ok(*verify, "--attestation", outside, "--format", "json").json["package"]["placement"] == "detached"
    assert wcp(*verify).status == 1
    wcp.ok("diff", tree, "--attestation", outside)
    wcp.ok("show", tree, "--attestation", outside)
    wcp.ok("build", tree, "--attestation", outside)
    (tree / "code" / "main.js").write_text("other()\n")
    assert wcp("diff", tree, "--attestation", outside).status == 1
    assert wcp(*verify, "--attestation", outside).status == 1


@pytest.mark.parametrize(
    "wishes",
    [
        ("--placement", "detached"),
        ("--placement", "folder", "--attestation", "pairs"),
        ("--attestation", "plugin/code"),
        ("--attestation", "none/pairs"),
        ("--attestation", "acme.key"),
    ],
)
def test_refuses_wishes_that_cannot_be_met(wcp: Command, tree: Path, tmp_path: Path, wishes: tuple[str, ...]) -> None:
    refused = wcp("sign", tree, "--key", tmp_path / "acme.key", *IDENTITY, *wishes)
    assert refused.status == 2
    assert "Traceback" not in refused.err
    assert not list(tree.rglob("manifest*"))


def test_never_overwrites_a_foreign_file_in_the_folder_or_outside(wcp: Command, tree: Path, tmp_path: Path) -> None:
    (tree / ".wcp").mkdir()
    (tree / ".wcp" / "manifest.json").write_text(FOREIGN)
    outside = tmp_path / "pairs"
    outside.mkdir()
    (outside / "manifest.sig").write_text("notes\n")
    sign = ("sign", tree, "--key", tmp_path / "acme.key", *IDENTITY)
    for wishes in ((), ("--placement", "folder"), ("--attestation", outside)):
        assert wcp(*sign, *wishes).status == 2
    assert (tree / ".wcp" / "manifest.json").read_text() == FOREIGN
    assert (outside / "manifest.sig").read_text() == "notes\n"


def test_a_folder_made_in_vain_goes_again(wcp: Command, tree: Path, tmp_path: Path) -> None:
    refused = wcp(
        *("sign", tree, "--key", tmp_path / "acme.key", "--key", tmp_path / "acme.key"),
        *(*IDENTITY, "--placement", "folder"),
    )
    assert refused.status == 2
    assert not (tree / ".wcp").exists()


def test_pack_and_bans_find_the_pair_in_the_folder(wcp: Command, tree: Path, tmp_path: Path) -> None:
    (tree / "manifest.json").write_text(FOREIGN)
    wcp.ok("sign", tree, "--key", tmp_path / "acme.key", *IDENTITY)
    trust = ("--public-key", tmp_path / "acme.key.pub", *WORKER)
    wcp.ok("pack", tree, "--archive", tmp_path / "plugin.tar")
    assert (
        wcp.ok("verify", tmp_path / "plugin.tar", *trust, "--format", "json").json["package"]["placement"] == "folder"
    )
    wcp.ok("verify", tree, *trust, "--stage", tmp_path / "stage")
    wcp.ok("verify", tmp_path / "stage", *trust)
    digest = json.loads((tree / ".wcp" / "manifest.json").read_text())["package_hash"]
    wcp.ok("ban", "new", tmp_path / "bans.json", "--name", "acme-soc")
    wcp.ok("ban", "add", tmp_path / "bans.json", "--root", tree, "--reason", "leaks")
    assert digest in (tmp_path / "bans.json").read_text()
    impact = wcp("ban", "impact", tmp_path / "bans.json", tree, "--format", "json")
    assert impact.json["judged"] == 1
