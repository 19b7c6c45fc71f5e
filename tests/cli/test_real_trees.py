"""Trees as people have them: caches of models, mounts, archives, clones, desktops, odd names and times."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.cli.inprocess import ID, ok, wcp

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRUST = ("--hmac", "--namespace", "org.acme")
SIGN = ("--hmac", *ID)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a signed package `p`."""
    for name in ("SOURCE_DATE_EPOCH", "WCP_ATTEST_POLICY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WCP_ATTEST_HMAC_KEY", "correct horse battery staple")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p/d").mkdir(parents=True)
    (tmp_path / "p/a").write_text("a\n")
    (tmp_path / "p/d/b").write_text("b\n")
    (tmp_path / "p/run").write_text("#!/bin/sh\n")
    (tmp_path / "p/run").chmod(0o755)
    (tmp_path / "p/link").symlink_to("d/b")
    ok("sign", "p", *SIGN)
    return tmp_path


def test_a_snapshot_of_a_model_cache_is_refused_and_the_whole_cache_verifies(place: Path) -> None:
    snapshot = place / "c/models--o--m/snapshots/abc"
    snapshot.mkdir(parents=True)
    (place / "c/models--o--m/blobs").mkdir()
    (place / "c/models--o--m/blobs/b1").write_text("w")
    (snapshot / "model.bin").symlink_to("../../blobs/b1")
    refused = wcp("sign", snapshot, *SIGN)
    assert refused.status == 1
    assert "put a copy in its place" in refused.err
    ok("sign", "c/models--o--m", *SIGN)
    shutil.copytree("c/models--o--m", "copy", symlinks=True)
    ok("verify", "copy", *TRUST, "--stage", "staged")
    ok("verify", "staged", *TRUST)
    shutil.copytree("c/models--o--m", "flat")
    denied = wcp("verify", "flat", *TRUST)
    assert denied.status == 1
    assert "copy with links preserved" in denied.out


def test_a_mount_of_links_is_explained_by_where_the_files_are(place: Path) -> None:
    shutil.copytree("p", "m/..2026_11_28", symlinks=True)
    os.symlink("..2026_11_28", "m/..data")
    for name in ("a", "manifest.json", "manifest.sig"):
        os.symlink(f"..data/{name}", f"m/{name}")
    denied = wcp("verify", "m", *TRUST)
    assert denied.status == 1
    assert '"$(readlink -f m/..data)"' in denied.out
    ok("verify", os.path.realpath("m/..data"), *TRUST)


def test_an_unpacker_without_links_and_modes_is_explained(place: Path) -> None:
    with zipfile.ZipFile("y.zip", "w") as archive:
        for path in sorted((place / "p").rglob("*")):
            name = path.relative_to(place / "p").as_posix()
            if path.is_symlink():
                archive.writestr(name, os.readlink(path))
            elif path.is_file():
                archive.write(path, name)
    zipfile.ZipFile("y.zip").extractall("u")
    denied = wcp("verify", "u", *TRUST)
    assert denied.status == 1
    assert "the execute bit was lost" in denied.out
    assert "unpack the archive with `unzip` or `tar`" in denied.out
    assert "-text" not in denied.out


def test_a_git_folder_that_was_not_signed_takes_few_lines(place: Path) -> None:
    subprocess.run(["git", "init", "-q", "p"], check=True)
    denied = wcp("verify", "p", *TRUST)
    assert denied.status == 1
    assert 0 < denied.out.count("+ added") <= 3
    assert "Verify an export without `.git`" in denied.out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "a").rename(root / "A"), "other case"),
        (lambda root: (root / ".DS_Store").touch(), "file browser"),
        (lambda root: (root / "._a").touch(), "file browser"),
        (lambda root: (root / "Thumbs.db").touch(), "file browser"),
        (lambda root: (root / ".a.swp").touch(), "editor"),
        (lambda root: (root / "a~").touch(), "editor"),
        (lambda root: (root / "d/new").touch(), "added  d/new"),
        (lambda root: (root / "a").write_text("a"), "newline at the end was removed"),
        (lambda root: (root / "a").write_text(""), "interrupted"),
    ],
)
def test_each_difference_is_named_with_its_cause(place: Path, change: Callable[[Path], object], said: str) -> None:
    change(place / "p")
    denied = wcp("verify", "p", *TRUST)
    assert denied.status == 1
    assert said in denied.out


def test_a_name_in_another_unicode_form_is_named(place: Path) -> None:
    (place / "p/caf\u00e9").touch()
    ok("sign", "p", *SIGN)
    (place / "p/caf\u00e9").rename(place / "p/cafe\u0301")
    denied = wcp("verify", "p", *TRUST)
    assert "Unicode form" in denied.out
    (place / "p/caf\u00e9").touch()
    refused = wcp("build", "p")
    assert refused.status == 1
    assert "--allow-twins" in refused.err


@pytest.mark.parametrize("command", ["sign", "verify", "diff", "hash", "build", "clean", "show"])
@pytest.mark.parametrize("name", ["new", "a", "manifest.json", "manifest.sig"])
def test_a_fifo_anywhere_hangs_nothing(place: Path, command: str, name: str) -> None:
    (place / "p" / name).unlink(missing_ok=True)
    os.mkfifo(place / "p" / name)
    options = {"sign": SIGN, "verify": TRUST}.get(command, ())
    ran = wcp(command, "p", *options)
    harmless = command in ("clean", "show") and name in ("new", "a")
    unread = (command, name) in (("diff", "manifest.sig"), ("hash", "manifest.json"), ("hash", "manifest.sig"),
                                 ("clean", "manifest.sig"))  # fmt: skip
    pair_elsewhere = command in ("sign", "build") and name.startswith("manifest")
    assert ran.status in ((0, 1, 2) if harmless or unread or pair_elsewhere else (1, 2))
    assert (place / "p" / name).is_fifo()


def test_times_of_files_do_not_count(place: Path) -> None:
    os.utime(place / "p/a", (-2_000_000_000, -2_000_000_000))
    os.utime(place / "p/d", (7_000_000_000, 7_000_000_000))
    ok("verify", "p", *TRUST)
    ok("diff", "p")


@pytest.mark.parametrize("epoch", ["", "-1", "1.5", "99999999999999", "x", "\u0663"])
def test_a_malformed_source_date_epoch_is_refused_by_name(
    place: Path, monkeypatch: pytest.MonkeyPatch, epoch: str
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    refused = wcp("build", "p", "--fresh", *ID)
    assert refused.status == 2
    assert "SOURCE_DATE_EPOCH" in refused.err or "outside the years" in refused.err
    assert place.joinpath("p/manifest.json").exists()


def test_absolute_links_and_set_id_files_are_refused_with_a_remedy(place: Path) -> None:
    (place / "p/python").symlink_to("/usr/bin/python3")
    refused = wcp("sign", "p", *SIGN)
    assert "make it relative, or leave it out" in refused.err
    ok("sign", "p", *SIGN, "--exclude", "/python")
    ok("verify", "p", *TRUST)
    (place / "p/a").chmod(0o4755)
    assert "chmod ug-s" in wcp("sign", "p", *SIGN).err


def test_a_change_through_another_hard_link_is_denied(place: Path) -> None:
    os.link(place / "p/a", place / "outside")
    ok("verify", "p", *TRUST)
    (place / "outside").write_text("changed\n")
    assert wcp("verify", "p", *TRUST).status == 1


@pytest.mark.parametrize("inside", [True, False])
def test_strict_permissions_refuse_a_file_with_two_names_wherever_the_other_is(place: Path, inside: bool) -> None:
    os.link(place / "p/a", place / ("p/a2" if inside else "outside"))
    ok("sign", "p", *SIGN)
    signer = '[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nhmac = { env = "WCP_ATTEST_HMAC_KEY" }\n'
    for permissions, status in (("normal", 0), ("strict", 1)):
        (place / "pol.toml").write_text(f'version = 1\n[accept]\npermissions = "{permissions}"\n{signer}')
        ran = wcp("verify", "p", "--policy", "pol.toml")
        assert (ran.status, "further hard links" in ran.out) == (status, status == 1)


NOT_ROOT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", "--inh-caps=-all"]


@pytest.mark.skipif(os.getuid() == 0 and shutil.which("setpriv") is None, reason="needs setpriv, as root")
def test_what_cannot_be_read_is_named_and_nothing_is_half_done(place: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*(NOT_ROOT if os.getuid() == 0 else []), sys.executable, "-m", "wcp_attest", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    (place / "x/lost+found").mkdir(parents=True)
    (place / "x/a").write_text("a\n")
    ok("sign", "x", *SIGN, "--exclude", "lost+found/")
    os.chmod("x/lost+found", 0)
    denied = run("verify", "x", *TRUST)
    os.chmod("x/lost+found", 0o755)
    assert (denied.returncode, "'lost+found/' cannot be read" in denied.stdout) == (1, True)
    assert "--exclude" not in denied.stdout  # the signer left it out already
    for path, said in (("p/a", "'a' cannot be read: permission denied"), ("p/d", "'d/' cannot be read")):
        mode = os.stat(path).st_mode
        os.chmod(path, 0)
        assert said in run("verify", "p", *TRUST).stdout
        os.chmod(path, mode)
    before = {path: path.read_bytes() for path in (place / "p").rglob("*") if path.is_file()}
    os.chmod("p", 0o555)
    assert run("verify", "p", *TRUST).returncode == 0
    for command in (("build", "p", "--worker-version", "2"), ("sign", "p", *SIGN)):
        refused = run(*command)
        assert refused.returncode == 2
        assert "nothing was changed" in refused.stderr or "cannot write" in refused.stderr
    os.chmod("p", 0o755)
    assert {path: path.read_bytes() for path in (place / "p").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["Manifest.json", "MANIFEST.SIG", "manifest.\u017fig"])
def test_a_twin_of_the_pair_is_refused(place: Path, name: str) -> None:
    (place / "p" / name).write_text("{}")
    denied = wcp("verify", "p", *TRUST)
    assert (denied.status, f"+ added  {name}" in denied.out) == (1, True)
    refused = wcp("sign", "p", *SIGN, "--worker-version", "2")
    assert (refused.status, "differ only by case or Unicode form" in refused.err) == (1, True)


def test_a_twin_of_the_folder_of_the_pair_is_refused(place: Path) -> None:
    (place / "x/.WCP").mkdir(parents=True)
    (place / "x/.WCP/notes").write_text("1")
    refused = wcp("sign", "x", *SIGN, "--placement", "folder")
    assert (refused.status, "'.WCP' and '.wcp' differ only by case" in refused.err) == (1, True)
    assert not (place / "x/.wcp").exists()
    ok("sign", "x", *SIGN)  # beside, there is no such folder
    (place / "x/Manifest.json").write_text("{}")
    os.unlink("x/manifest.json")
    os.unlink("x/manifest.sig")
    ok("sign", "x", *SIGN, "--placement", "detached", "--attestation", "pair")  # and outside, no pair at all
