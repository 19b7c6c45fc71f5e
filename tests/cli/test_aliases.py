"""Options by the names that cosign, sigstore and gh have for them mean the same; the help shows ours alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import IDENTITY, WORKER
from wcp_attest.cli import main

if TYPE_CHECKING:
    from pathlib import Path


def test_verify_takes_the_key_by_cosign_s_name(package: Path, key: Path) -> None:
    assert main(["sign", str(package), "--key", str(key), *IDENTITY, "-q"]) == 0
    assert main(["verify", str(package), *WORKER, "--key", f"{key}.pub", "-q"]) == 0


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            ("--identity", "x@acme.example", "--issuer", "https://accounts.example.com"),
            ("--certificate-identity", "x@acme.example", "--certificate-oidc-issuer", "https://accounts.example.com"),
        ),
        (
            ("--identity", "x@acme.example", "--issuer", "https://accounts.example.com"),
            ("--cert-identity", "x@acme.example", "--cert-oidc-issuer", "https://accounts.example.com"),
        ),
        (
            ("--repository", "acme/worker", "--workflow", "acme/shared/.github/workflows/sign.yml"),
            ("--repo", "acme/worker", "--signer-workflow", "acme/shared/.github/workflows/sign.yml"),
        ),
        (("--repository", "acme/worker"), ("--github-repository", "acme/worker")),
        (
            ("--repository", "acme/worker", "--ref", "refs/tags/*"),
            ("--certificate-github-workflow-repository", "acme/worker", "--source-ref", "refs/tags/*"),
        ),
        (
            ("--identity", "x@acme.example", "--issuer", "https://accounts.example.com"),
            ("--identity", "x@acme.example", "--identity-provider", "https://accounts.example.com"),
        ),
        (("--public-key", "acme.key.pub"), ("--key", "acme.key.pub")),
    ],
)
def test_policies_written_by_either_name_are_equal(
    tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch, ours: tuple[str, ...], theirs: tuple[str, ...]
) -> None:
    assert key.exists()
    monkeypatch.chdir(tmp_path)
    for name, options in (("ours.toml", ours), ("theirs.toml", theirs)):
        assert main(["policy", "init", name, "--namespace", "org.acme", *options, "-q"]) == 0
    assert (tmp_path / "ours.toml").read_bytes() == (tmp_path / "theirs.toml").read_bytes()


@pytest.mark.parametrize("command", [["verify"], ["sign"], ["policy", "init"], ["policy", "add-signer"]])
def test_the_help_shows_one_spelling(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main([*command, "--help"])
    shown = capsys.readouterr().out
    for theirs in ("--certificate", "--cert-", "--signer-workflow", "--repo,", "--repo ", "--github-", "--source-ref"):
        assert theirs not in shown


def test_a_ban_names_a_key_by_either_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, option in (("ours", "--key-id"), ("theirs", "--signer-key")):
        assert main(["ban", "new", name, "--name", "acme", "-q"]) == 0
        assert main(["ban", "add", name, option, "sha256:" + "ab" * 32, "--reason", "lost", "-q"]) == 0
    ours, theirs = (json.loads((tmp_path / name).read_text())["bans"][0]["subject"] for name in ("ours", "theirs"))
    assert ours == theirs
