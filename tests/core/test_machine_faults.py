"""An accident of this machine says nothing about the package: undecided, never refused, never passed unseen.

Every call of the system that `verify` makes is made to fail in turn, once and from then on, with what the kernel says
when descriptors, memory, disk or room run out.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.bans.helpers import HEX, ban, digest, list_bytes
from tests.core.test_verification import KEY, NOW, built, make_tree
from tests.limits import small_files
from wcp_attest import DenyCode, load_policy, sign, verify
from wcp_attest.base.errors import MachineError
from wcp_attest.disk.options import ReadOptions
from wcp_attest.trust.bans.document import Head

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FAULTS = (errno.EMFILE, errno.ENOMEM, errno.EIO, errno.ENOSPC, errno.ESTALE)
CALLS = (
    "open", "read", "readv", "pread", "write", "fsync", "fstat", "stat", "lstat", "listdir", "scandir", "readlink",
    "mkdir", "replace", "dup", "listxattr", "getxattr",
)  # fmt: skip
MOST_CALLS = 80


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package, and a policy with a ban list and its state."""
    before = os.umask(0o022)
    root = tmp_path_factory.mktemp("world")
    package = make_tree(root / "worker")
    (package / "sub" / "deep").mkdir(parents=True)
    (package / "sub" / "deep" / "file").write_bytes(b"x" * 100_000)
    (package / "sub" / "link").symlink_to("deep/file")
    sign(package, [KEY], manifest=built(package), now=NOW)
    (root / "acme.pub").write_bytes(KEY.public_pem())
    head = Head("own", 1, int(NOW) - 100, int(NOW) + 10_000)
    (root / "bans.json").write_bytes(list_bytes([ban("package", HEX), ban("file", digest(3))], head))
    (root / "policy.toml").write_text(
        'version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "acme.pub"\n'
        '[bans]\nmax_age = "24h"\nstate = "state"\n[[bans.source]]\nfile = "bans.json"\nsigned = false\n'
    )
    yield root
    os.umask(before)


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("call", [name for name in CALLS if hasattr(os, name)])
def test_a_call_that_fails_is_never_a_refusal(
    call: str, lasting: bool, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = getattr(os, call)
    for fault in FAULTS:
        for failing in range(1, MOST_CALLS):
            shutil.rmtree(world / "state", ignore_errors=True)
            policy = load_policy(world / "policy.toml", {})
            made = 0

            def fail(*given: Any, failing: int = failing, fault: int = fault, **options: Any) -> Any:
                nonlocal made
                made += 1
                if made == failing or (lasting and made > failing):
                    raise OSError(fault, os.strerror(fault))
                return real(*given, **options)

            with monkeypatch.context() as patch:
                patch.setattr(os, call, fail)
                verdict = verify(world / "worker", policy, now=NOW, options=ReadOptions(jobs=1))
            if made < failing:
                assert verdict.ok
                break
            where = (call, failing, errno.errorcode[fault], str(verdict))
            assert verdict.ok or not verdict.decided, where
            assert verdict.ok or verdict.code is DenyCode.INTERNAL_ERROR, where


@pytest.mark.parametrize("call", ["open", "read", "fstat"])
def test_a_policy_that_this_machine_cannot_read_is_no_mistake_of_the_user(
    call: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(MachineError, match="look at the disk"):
            load_policy(world / "policy.toml", {})


def test_the_check_of_what_decides_is_not_passed_over(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key inside the package must not be accepted because the machine could not look for it."""
    policy = load_policy(world / "policy.toml", {})
    real = os.lstat

    def fail(path: Any, *given: Any, **options: Any) -> Any:
        if str(path).endswith("acme.pub"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, *given, **options)

    monkeypatch.setattr(os, "lstat", fail)
    assert verify(world / "worker", policy, now=NOW).code is DenyCode.INTERNAL_ERROR


OUT_OF_MEMORY = """
import resource, sys
from wcp_attest import load_policy, verify
from wcp_attest.disk.options import ReadOptions
from wcp_attest.trust.bans.document import Head
policy = load_policy(sys.argv[2], {})
verify(sys.argv[1], policy)  # imports what it needs
spare = int(sys.argv[3]) << 20
if spare:
    pages = int(open("/proc/self/statm").read().split()[0])
    size = pages * resource.getpagesize() + spare
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
policy = load_policy(sys.argv[4], {})
verdict = verify(sys.argv[1], policy, now=float(sys.argv[5]), options=ReadOptions(jobs=1))
print(verdict.ok, verdict.decided)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count address space otherwise")
def test_out_of_memory_is_undecided(world: Path) -> None:
    head = Head("large", 1, int(NOW) - 100, int(NOW) + 10_000)
    (world / "large.json").write_bytes(list_bytes([ban("package", digest(number)) for number in range(20_000)], head))
    text = (world / "policy.toml").read_text()
    (world / "large.toml").write_text(text.replace("bans.json", "large.json"))
    said = {}
    for spare in (0, 8):
        shutil.rmtree(world / "state", ignore_errors=True)
        given = [world / "worker", world / "policy.toml", spare, world / "large.toml", NOW]
        ran = subprocess.run(
            [sys.executable, "-c", OUT_OF_MEMORY, *map(str, given)], capture_output=True, text=True, check=False
        )
        said[spare] = ran.stdout.split()
    assert said == {0: ["True", "True"], 8: ["False", "False"]}


def test_no_room_for_the_state_is_undecided(world: Path) -> None:
    policy = load_policy(world / "policy.toml", {})
    shutil.rmtree(world / "state", ignore_errors=True)
    with small_files(10):
        verdict = verify(world / "worker", policy, now=NOW)
    assert not verdict.ok
    assert not verdict.decided, verdict
    assert verify(world / "worker", policy, now=NOW).ok
