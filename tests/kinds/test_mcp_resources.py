"""A signed skill as an MCP server names it: the digests of the bytes, URIs that mean one file, nothing by guess."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.command import Command

CARD = "---\nname: forms\ndescription: Fills forms.\n---\nBody\n"
IDS = ("--worker-id", "org.acme.forms", "--species-id", "wrk.skill.forms", "--worker-version", "1.0.0")
PREFIX = "dev.workerclassprotocol.attest/"


@pytest.fixture
def skill(wcp: Command) -> Path:
    root = wcp.folder / "forms"
    root.mkdir()
    (root / "SKILL.md").write_text(CARD)
    return root


def test_lists_every_file_with_the_digest_of_its_bytes(wcp: Command, key: Path, skill: Path) -> None:
    hostile = ["a?b#c%2e%2e", "é f&g", "x:y@z;=", "%2F"]
    (skill / "deep").mkdir()
    for name in hostile:
        (skill / "deep" / name).write_text(name * 3)
    assert wcp("sign", "forms", *IDS, "--key", key.name).status == 0
    run = wcp("export", "mcp-resources", "forms", "--skill-path", "acme/forms")
    assert run.status == 0, run
    assert run.json["uri"] == "skill://acme/forms/SKILL.md"
    listed = {}
    for one in run.json["resources"]:
        path = one["uri"].removeprefix("skill://acme/forms/")
        assert path.isascii()
        assert not set(path) & set("?# \\")
        listed[unquote(path)] = (one["digest"], one["size"])
    there = {
        path.relative_to(skill).as_posix(): (
            f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
            path.stat().st_size,
        )
        for path in skill.rglob("*")
        if path.is_file()
    }
    assert listed == there
    assert len(run.json["resources"]) == len(there)


def test_carries_only_the_statements_about_this_manifest(wcp: Command, key: Path, skill: Path) -> None:
    assert wcp("sign", "forms", *IDS, "--key", key.name).status == 0
    lines = (skill / "manifest.sig").read_text().splitlines()
    meta = wcp("export", "mcp-resources", "forms").json["_meta"]
    digest = hashlib.sha256((skill / "manifest.json").read_bytes()).hexdigest()
    assert meta == {f"{PREFIX}manifest-sha256": digest, f"{PREFIX}statements": lines}
    (skill / "more.md").write_text("x")
    assert wcp("build", "forms", *IDS).status == 0
    (skill / "manifest.sig").write_text("".join(f"{line}\n" for line in lines))
    run = wcp("export", "mcp-resources", "forms")
    assert (run.status, "no signature is about this manifest" in run.err) == (2, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--skill-path", "acme/other"), "must end in the skill's name"),
        (("--skill-path", "../forms"), "is no skill path"),
        (("--skill-path", "a//forms"), "is no skill path"),
        (("--skill-path", "/forms"), "is no skill path"),
        (("--skill-path", "user@evil/forms"), "is no skill path"),
        (("--skill-path", "a%2fb/forms"), "is no skill path"),
        (("--skill-path", "forms\n"), "is no skill path"),
    ],
)
def test_refuses_a_path_that_could_mean_another_place(
    wcp: Command,
    key: Path,
    skill: Path,
    options: tuple[str, ...],
    says: str,
) -> None:
    assert skill.is_dir()
    assert wcp("sign", "forms", *IDS, "--key", key.name).status == 0
    run = wcp("export", "mcp-resources", "forms", *options)
    assert (run.status, says in run.err, "Traceback" in run.err) == (2, True, False), run


def test_refuses_what_hosts_could_not_compare(wcp: Command, key: Path, skill: Path) -> None:
    def says(text: str) -> None:
        run = wcp("export", "mcp-resources", "forms")
        assert (run.status, text in run.err, run.err.count("error: ")) == (2, True, 1), run

    says("manifest")  # unsigned
    assert wcp("sign", "forms", *IDS, "--key", key.name).status == 0
    (skill / "SKILL.md").write_text(CARD.replace("Body", "Evil"))
    says("is not what was signed")
    (skill / "SKILL.md").write_text(CARD)
    (skill / "manifest.sig").unlink()
    says("not signed")
    (skill / "latest.md").symlink_to("SKILL.md")
    assert wcp("build", "forms").status == 0
    assert wcp("sign", "forms", "--key", key.name).status == 0
    says("is a link")
    (skill / "latest.md").unlink()
    (skill / "SKILL.md").rename(skill / "README.md")
    assert wcp("build", "forms").status == 0
    assert wcp("sign", "forms", "--key", key.name).status == 0
    says("no skill")


def test_refuses_digests_that_hosts_do_not_know(wcp: Command, key: Path, skill: Path) -> None:
    pytest.importorskip("blake3")
    assert skill.is_dir()
    assert wcp("build", "forms", *IDS, "--algorithm", "blake3").status == 0
    assert wcp("sign", "forms", "--key", key.name).status == 0
    run = wcp("export", "mcp-resources", "forms")
    assert (run.status, "the digests are blake3" in run.err) == (2, True)
