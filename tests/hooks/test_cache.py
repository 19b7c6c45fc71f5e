"""`check` and `fix` with a cache of digests. Whether a blob was read is seen by taking it away."""

from __future__ import annotations

import os
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from tests.hooks.test_check_and_fix import CONFIG, Project
from wcp_attest.advice.digest_cache import DigestCache
from wcp_attest.package.entries import File

if TYPE_CHECKING:
    from pathlib import Path


class Cached(Project):
    """A project whose manifest is committed, and a cache that is on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.cache = path.parent / "cache"
        self.fix()
        self.commit()
        self.environment["WCP_ATTEST_CACHE"] = str(self.cache)

    def take_away(self, name: str) -> None:
        """Remove the blob of a staged file."""
        blob = self.git("rev-parse", f":{name}").strip()
        (self.path / ".git/objects" / blob[:2] / blob[2:]).unlink()

    def poison(self, name: str, digest: str) -> None:
        """Make the cache say that a staged blob has this digest."""
        blob = self.git("rev-parse", f":{name}").strip()
        subject = ("blobs", "sha256", os.path.realpath(self.path / "pkg"))
        cache = DigestCache(str(self.cache), subject, report=pytest.fail, now=time.time())
        cache.put(bytes.fromhex(blob), digest, 2)
        cache.save()


@pytest.fixture
def cached(tmp_path: Path) -> Cached:
    return Cached(tmp_path / "repo")


def test_a_blob_is_hashed_once(cached: Cached) -> None:
    assert cached.wcp("check").returncode == 0
    cached.take_away("pkg/data")
    assert cached.wcp("check").returncode == 0
    without = cached.wcp("check", "--no-cache")
    assert without.returncode == 1
    assert "not in the object store" in without.stdout


def test_blobs_of_sha256_repositories_are_remembered_too(tmp_path: Path) -> None:
    class Newer(Cached):
        def git(self, *arguments: str | bytes, given: bytes | None = None, **environment: str) -> str:
            if arguments[0] == "init":
                arguments = (*(one for one in arguments if "--object-format" not in str(one)), "--object-format=sha256")
            return super().git(*arguments, given=given, **environment)

    newer = Newer(tmp_path / "repo")
    assert len(newer.git("rev-parse", "HEAD").strip()) == 64
    assert newer.wcp("check").returncode == 0
    newer.take_away("pkg/data")
    assert newer.wcp("check").returncode == 0


def test_the_same_is_said_with_and_without_a_cache(cached: Cached) -> None:
    def said() -> tuple[int, str]:
        done = cached.wcp("check", "--format", "json")
        assert done.stderr == ""
        return done.returncode, done.stdout

    assert said()[0] == 0
    cached.write("pkg/data", "2\n")
    cached.write("pkg/new", "new")
    cached.write("pkg/code/run.py", "print()\n", executable=False)
    cached.add()
    first, second = said(), said()
    without = cached.wcp("check", "--no-cache", "--format", "json")
    assert first == second == (without.returncode, without.stdout)
    assert first[0] == 1


def test_fix_writes_what_is_staged(cached: Cached) -> None:
    assert cached.wcp("check").returncode == 0
    cached.write("pkg/data", "2\n")
    cached.add()
    assert cached.wcp("fix").returncode == 1
    assert cached.manifest().entries()["data"] == File(sha256(b"2\n").hexdigest(), 2)
    cached.add()
    assert cached.wcp("check").returncode == 0
    assert cached.wcp("check", "--no-cache").returncode == 0


def test_another_branch_is_still_known_when_it_comes_back(cached: Cached) -> None:
    assert cached.wcp("check").returncode == 0
    cached.write("pkg/data", "2\n")
    cached.add()
    assert cached.wcp("check").returncode == 1
    cached.git("reset", "-q", "--hard")
    cached.take_away("pkg/data")
    assert cached.wcp("check").returncode == 0


def test_a_poisoned_cache_deceives_the_hook_and_neither_sign_nor_verify(cached: Cached) -> None:
    """`fix` would write a manifest that is not true; nobody can sign the checkout with it."""
    cached.write("pkg/data", "2\n")
    cached.add()
    cached.poison("pkg/data", sha256(b"1\n").hexdigest())
    assert cached.wcp("check").returncode == 0
    assert cached.wcp("check", "--no-cache").returncode == 1
    cached.environment["WCP_ATTEST_HMAC_KEY"] = "correct horse battery staple"
    signed = cached.wcp("sign", "pkg", "--hmac")
    assert signed.returncode == 1
    assert "data" in signed.stderr


def test_digests_of_one_algorithm_are_not_those_of_another(cached: Cached) -> None:
    assert cached.wcp("check").returncode == 0
    cached.write("wcp-attest.toml", CONFIG + 'algorithm = "blake3"\n')
    cached.add()
    cached.fix()
    assert cached.manifest().hash_algorithm == "blake3"
    assert cached.wcp("check").returncode == 0
    assert cached.wcp("check", "--no-cache").returncode == 0


def test_a_cache_that_others_may_write_is_said_once_for_all_packages(cached: Cached) -> None:
    cached.write("wcp-attest.toml", CONFIG + CONFIG.replace('"pkg"', '"other"').replace("acme.worker", "acme.other"))
    cached.write("other/f", "x")
    cached.add()
    cached.cache.mkdir(mode=0o700)
    cached.cache.chmod(0o770)
    for command in ("check", "fix"):
        done = cached.wcp(command)
        assert done.returncode == 1
        assert done.stderr.count("the cache") == 1
        assert "can be written by others" in done.stderr
    assert list(cached.cache.iterdir()) == []


def test_nothing_is_remembered_unless_asked_for(cached: Cached) -> None:
    del cached.environment["WCP_ATTEST_CACHE"]
    assert cached.wcp("check").returncode == 0
    home = cached.path.parent / "repo-home"
    assert not (home / ".cache").exists()
    assert cached.wcp("check", "--cache").returncode == 0
    assert len(list((home / ".cache/wcp-attest").glob("*.digests"))) == 1


def test_a_cache_inside_a_package_is_refused(cached: Cached) -> None:
    cached.environment["WCP_ATTEST_CACHE"] = "pkg/cache"
    for command in ("check", "fix"):
        done = cached.wcp(command)
        assert done.returncode == 2
        assert "inside the package" in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_git_lfs_pointer_stays_one(cached: Cached) -> None:
    content = b"the real file"
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(content).hexdigest()}\nsize 13\n"
    cached.write("pkg/model", pointer)
    cached.add()
    assert cached.wcp("check").returncode == 1, "so far an ordinary file, and remembered as one"
    cached.write("pkg/.gitattributes", "model filter=lfs\n")
    cached.git("config", "filter.lfs.clean", "cat")
    cached.add()
    cached.fix()
    assert cached.manifest().entries()["model"] == File(sha256(content).hexdigest(), 13)
    assert cached.wcp("check").returncode == 0
