"""`--cache` of `diff`: off unless asked for, where it lies, and that no command that decides anything has any of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.cli.command import IDENTITY, TIMEOUT, WORKER, Command, write_files
from wcp_attest.advice.cached_diff import identity_of
from wcp_attest.advice.digest_cache import DigestCache
from wcp_attest.package.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

TRUST = ("--public-key", "acme.key.pub", *WORKER)
EDITED = "code/worker_logic.py"

# The program, two minutes later than it is: what was written for the test has settled by then.
LATER = """
import sys, time
clock = time.time
time.time = lambda: clock() + 120
from wcp_attest.cli import main
sys.exit(main(sys.argv[1:]))
"""
# The program, telling which files it opened.
WATCHED = """
import os, sys
opened = []
def note(event, of):
    if event == "open" and isinstance(of[0], (str, bytes)):
        opened.append(os.fsdecode(of[0]))
sys.addaudithook(note)
from wcp_attest.cli import main
status = main(sys.argv[1:])
print(status, len(opened), sum("remembered" in path or path.endswith(".digests") for path in opened))
"""


def run(
    wcp: Command, program: str, *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", program, *map(str, arguments)],
        cwd=wcp.folder,
        env=wcp.environment(env),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def edit(package: Path) -> None:
    """Other content of the same size, the modification time set back."""
    path = package / EDITED
    status = path.stat()
    path.write_bytes(path.read_bytes().replace(b"request", b"hacked!"))
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def poison(package: Path, cache: Path) -> None:
    """Edit the package, and make the cache say that it is what the manifest says."""
    edit(package)
    manifest = Manifest.from_bytes((package / "manifest.json").read_bytes())
    subject = ("tree", "sha256", os.path.realpath(package))
    digests = DigestCache(str(cache), subject, report=pytest.fail, now=time.time())
    for name, entry in manifest.entries().items():
        status = (package / name).stat()
        identity = identity_of(status)
        assert identity is not None
        digests.put(identity, getattr(entry, "digest", ""), status.st_size)
    digests.save()


def digest_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.digests"))


def test_without_being_asked_nothing_is_remembered(wcp: Command, signed: Path) -> None:
    assert wcp("diff", signed).status == 0
    assert wcp("diff", signed, "--no-cache", env={"WCP_ATTEST_CACHE": str(wcp.folder / "cache")}).status == 0
    assert wcp("diff", signed, env={"WCP_ATTEST_CACHE": ""}).status == 0
    for path in (".cache", "cache"):
        assert not (wcp.folder / path).exists()


@pytest.mark.parametrize(
    ("arguments", "env", "place"),
    [
        (("--cache",), {}, ".cache/wcp-attest"),
        (("--cache",), {"XDG_CACHE_HOME": "xdg"}, "xdg/wcp-attest"),
        (("--cache",), {"XDG_CACHE_HOME": "xdg", "WCP_ATTEST_CACHE": "named"}, "named"),
        ((), {"WCP_ATTEST_CACHE": "named"}, "named"),
    ],
)
def test_where_it_lies(wcp: Command, signed: Path, arguments: tuple[str, ...], env: dict[str, str], place: str) -> None:
    env = {name: str(wcp.folder / value) for name, value in env.items()}
    done = run(wcp, LATER, "diff", signed, *arguments, env=env)
    assert done.returncode == 0, done.stderr
    (file,) = digest_files(wcp.folder)
    assert file.parent == wcp.folder / place


def test_the_same_is_said_with_and_without_a_cache(wcp: Command, signed: Path) -> None:
    def said(program: str, *arguments: object) -> tuple[int, str, str]:
        done = run(wcp, program, "diff", signed, "--format", "json", *arguments)
        return done.returncode, done.stdout, done.stderr

    assert said(LATER, "--cache") == said(LATER, "--cache") == said(LATER)
    edit(signed)
    (signed / "requirements.lock").unlink()
    write_files(signed, {"new": b""})
    plain = said(LATER)
    assert plain[0] == 1
    assert said(LATER, "--cache") == said(LATER, "--cache") == plain


@pytest.mark.parametrize("harm", [b"", b"}", b"\n", b'"size":1'])
def test_a_manifest_that_is_malformed_is_refused_as_without_a_cache(wcp: Command, signed: Path, harm: bytes) -> None:
    path = signed / "manifest.json"
    good = path.read_bytes()
    path.write_bytes(good.replace(b'"size":0', harm) if harm else good.replace(b"f", b"e", 1))
    plain, cached = wcp("diff", signed), wcp("diff", signed, "--cache")
    assert plain == cached
    assert plain.status != 0


def test_a_poisoned_cache_reaches_diff_and_nothing_that_decides(wcp: Command, signed: Path, key: Path) -> None:
    cache = wcp.folder / "cache"
    poison(signed, cache)
    env = {"WCP_ATTEST_CACHE": str(cache)}
    assert wcp("diff", signed, env=env).status == 0, "it is deceived: that is what it must not be used for"
    assert wcp("diff", signed).status == 1

    verify = wcp("verify", signed, *TRUST, "--format", "json", env=env)
    assert (verify.status, verify.json["code"]) == (1, "ATTEST_HASH_MISMATCH")
    assert [difference["path"] for difference in verify.json["differences"]] == [EDITED]
    staged = wcp("verify", signed, *TRUST, "--stage", wcp.folder / "copy", env=env)
    assert staged.status == 1
    assert not (wcp.folder / "copy").exists()
    assert wcp("sign", signed, "--key", key, env=env).status == 1, "it signs no manifest that the tree does not fit"
    manifest = Manifest.from_bytes((signed / "manifest.json").read_bytes())
    assert wcp("hash", signed, env=env).out.split()[0] != f"sha256:{manifest.package_hash}"
    assert wcp("build", signed, *IDENTITY, env=env).status == 0
    built = Manifest.from_bytes((signed / "manifest.json").read_bytes())
    assert f"sha256:{built.package_hash}" == wcp("hash", signed).out.split()[0]


def test_a_poisoned_cache_does_not_reach_the_library(wcp: Command, signed: Path) -> None:
    cache = wcp.folder / "cache"
    poison(signed, cache)
    code = """
import sys
from wcp_attest import Namespace, Policy, Recheck, TrustedKey, verify
key = TrustedKey.from_file_bytes(open(sys.argv[2], "rb").read())
policy = Policy((Namespace("org.acme", (key,)),))
recheck = Recheck(sys.argv[1], policy)
print(verify(sys.argv[1], policy).code, recheck.verify().code, recheck.verify().code)
"""
    done = run(wcp, code, signed, "acme.key.pub", env={"WCP_ATTEST_CACHE": str(cache)})
    assert done.stdout.split() == ["ATTEST_HASH_MISMATCH"] * 3, done.stderr


def test_verify_opens_no_cache(wcp: Command, signed: Path) -> None:
    cache = wcp.folder / "remembered"
    env = {"WCP_ATTEST_CACHE": str(cache)}
    assert run(wcp, LATER, "diff", signed, env=env).returncode == 0
    looked = run(wcp, WATCHED, "diff", signed, "--output", "out", env=env).stdout.split()
    assert int(looked[2]) > 0, "the hook does see it"
    verified = run(wcp, WATCHED, "verify", signed, *TRUST, "--output", "out", env=env).stdout.split()
    assert (verified[0], verified[2]) == ("0", "0")
    assert int(verified[1]) > len(digest_files(cache))


@pytest.mark.parametrize("command", ["verify", "sign", "build", "hash", "show", "init"])
def test_no_other_command_knows_the_option(wcp: Command, signed: Path, command: str) -> None:
    done = wcp(command, signed, "--cache")
    assert done.status == 2
    assert "--cache" in done.err
    assert done.err.count("\n") == 1


def test_a_cache_that_others_may_write_is_said_once_and_everything_read(wcp: Command, signed: Path) -> None:
    cache = wcp.folder / "cache"
    poison(signed, cache)
    cache.chmod(0o777)
    done = wcp("diff", signed, env={"WCP_ATTEST_CACHE": str(cache)})
    assert done.status == 1
    assert EDITED in done.out
    notes = [line for line in done.err.splitlines() if "cache" in line]
    assert len(notes) == 1
    assert "is not used: it can be written by others" in notes[0]
    assert wcp("diff", signed, "--quiet", env={"WCP_ATTEST_CACHE": str(cache)}).err == ""


@pytest.mark.parametrize("place", ["worker/cache", "worker", "worker/deep/er"])
def test_a_cache_inside_the_package_is_refused(wcp: Command, signed: Path, place: str) -> None:
    done = wcp("diff", signed, env={"WCP_ATTEST_CACHE": str(wcp.folder / place)})
    assert done.status == 2
    assert "lies inside the package" in done.err
    assert done.err.count("\n") == 1
    assert wcp("diff", signed).status == 0


def test_without_a_home_there_is_no_place(wcp: Command, signed: Path) -> None:
    done = wcp("diff", signed, "--cache", env={"HOME": ""})
    assert done.status == 2
    assert "WCP_ATTEST_CACHE" in done.err
