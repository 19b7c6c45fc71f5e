"""Processes that hash: none outlives its parent, hangs, or loses an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.drawn import PROFILE
from tests.tree.support import ONE, TWO, manifest_of, plant, run_python
from wcp_attest.base.differences import Change
from wcp_attest.base.errors import ConfigError, Error, MachineError, TreeMismatch, TreeUnsafe
from wcp_attest.disk import parallel
from wcp_attest.disk.check_tree import check_tree
from wcp_attest.disk.options import Progress, ReadOptions
from wcp_attest.disk.parallel import WORTH_FILES
from wcp_attest.disk.read_tree import read_tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from wcp_attest.package.manifest import Manifest

MIB = 1 << 20


servers: set[int] = set()  # databases and the like that other tests of this session keep running


@pytest.fixture(autouse=True, scope="module")
def note_servers() -> None:
    servers.update(children_of(os.getpid()))


def children_of(process: int) -> list[int]:
    found = []
    for task in os.listdir(f"/proc/{process}/task"):
        path = f"/proc/{process}/task/{task}/children"
        with suppress(FileNotFoundError, ProcessLookupError), open(path, encoding="ascii") as file:
            found += [int(word) for word in file.read().split()]  # but for a thread that has just ended
    return [child for child in found if child not in servers]


def runs_by_itself(process: int) -> bool:
    """Tell whether a child runs its own program by now; until then its parent waits for it in the system."""
    own = Path(f"/proc/{os.getpid()}/cmdline").read_bytes()
    with suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes() not in {own, b""}
    return False


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """Wait until something is so; never for a certain time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.002)
    raise AssertionError("it did not come about")


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def children_or_end(thread: threading.Thread) -> list[int] | bool:
    return children_of(os.getpid()) or not thread.is_alive()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> str:
    entries: dict[str, bytes | str | None] = {
        f"d{n % 37}/s{n % 5}/f{n}": f"{n}\n".encode() * (n % 50) for n in range(2 * WORTH_FILES)
    }
    root = plant(tmp_path_factory.mktemp("many") / "pkg", entries)
    plant(root, {"d1/link": "s1", "d2/s9": None, "x:d3/run": b"#!", "a": "d1", "zz": b"", "big/two": b"1" * (3 * MIB)})
    plant(root, {"big/one": b"0" * (9 * MIB), "big/three": b"2" * (20 * MIB), "big/zero": b"", 'é/q"uote': b"u"})
    return root


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tree whose large files take seconds to hash, and no room."""
    root = plant(tmp_path_factory.mktemp("sparse") / "pkg", {f"big{n}": b"" for n in range(3)})
    for n in range(3):
        os.truncate(f"{root}/big{n}", 1 << 30)
    return root


@pytest.mark.parametrize("jobs", [2, 3, 7])
@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_helpers_read_what_one_process_reads(many: str, jobs: int, algorithm: Any) -> None:
    expected = read_tree(many, algorithm=algorithm, options=ONE)
    assert read_tree(many, algorithm=algorithm, options=ReadOptions(jobs=jobs)) == expected
    good = manifest_of(many, algorithm=algorithm, options=ONE)
    check_tree(many, good, options=ReadOptions(jobs=jobs))


def test_a_few_large_files_are_worth_helpers_too(tmp_path: Path) -> None:
    root = plant(tmp_path, {f"f{n}": bytes([n]) * (6 * MIB) for n in range(6)})
    assert read_tree(root, options=TWO) == read_tree(root, options=ONE)


def test_no_helper_is_started_for_a_small_tree(tmp_path: Path) -> None:
    code = """
        import os, sys, threading
        from wcp_attest.disk.options import ReadOptions
        from wcp_attest.disk.read_tree import read_tree
        read_tree(sys.argv[1], options=ReadOptions(jobs=8))
        print(threading.active_count(), "subprocess" in sys.modules)
    """
    done = run_python(code, plant(tmp_path, {f"f{n}": b"" for n in range(500)}))
    assert done.stdout.split() == ["1", "False"], done.stderr


def test_differences_are_found_by_helpers(many: str, tmp_path: Path) -> None:
    good = manifest_of(many)
    lines = list(good.lines)
    at = next(n for n, line in enumerate(lines) if line.startswith(b'"d20/s0/'))
    lines[at] = lines[at].replace(b'"size":', b'"size":1')
    import dataclasses

    with pytest.raises(Error):
        check_tree(many, dataclasses.replace(good, body=b",\n".join(lines)), options=TWO)


def test_one_changed_file_among_thousands_is_found(many: str) -> None:
    good = manifest_of(many)
    path = f"{many}/d30/s2/f67"
    with open(path, "r+b") as file:
        byte = file.read(1)
        file.seek(0)
        file.write(b"X")
    try:
        with pytest.raises(TreeMismatch) as caught:
            check_tree(many, good, options=TWO)
        assert [(found.path, found.change) for found in caught.value.differences] == [("d30/s2/f67", Change.MODIFIED)]
    finally:
        with open(path, "r+b") as file:
            file.write(byte)
    check_tree(many, good, options=TWO)


def test_the_error_of_a_helper_is_the_error_of_that_file(many: str) -> None:
    os.chmod(f"{many}/d30/s2/f67", 0o4755)
    try:
        with pytest.raises(TreeUnsafe, match="'d30/s2/f67' has a set-id bit"):
            read_tree(many, options=TWO)
    finally:
        os.chmod(f"{many}/d30/s2/f67", 0o644)


def test_no_process_is_left_behind(many: str) -> None:
    read_tree(many, options=TWO)
    assert children_of(os.getpid()) == []
    before = len(os.listdir("/proc/self/fd"))
    read_tree(many, options=TWO)
    assert len(os.listdir("/proc/self/fd")) == before


def in_thread(action: Callable[[], object]) -> tuple[threading.Thread, list[BaseException | None]]:
    outcome: list[BaseException | None] = []

    def run() -> None:
        try:
            action()
            outcome.append(None)
        except BaseException as problem:  # noqa: BLE001  # handed to the test
            outcome.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_a_killed_helper_is_never_a_pass(sparse: str) -> None:
    thread, outcome = in_thread(lambda: read_tree(sparse, options=TWO))
    helpers = wait_for(lambda: len(found := children_of(os.getpid())) == 2 and found)
    os.kill(helpers[0], signal.SIGKILL)
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(outcome[0], MachineError)
    assert "by signal 9" in str(outcome[0])
    wait_for(lambda: not any(map(alive, helpers)))


def test_a_stopped_worker_is_not_waited_for_without_end(sparse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "QUIET_SECONDS", 1)
    monkeypatch.setattr(parallel, "MAX_QUIET", 2)
    thread, outcome = in_thread(lambda: read_tree(sparse, options=TWO))
    workers = wait_for(
        lambda: len(found := children_of(os.getpid())) == 2 and all(map(runs_by_itself, found)) and found
    )
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(outcome[0], MachineError)
    assert "nothing was decided" in str(outcome[0])
    wait_for(lambda: not any(map(alive, workers)))


@pytest.mark.skipif(PROFILE != "nightly", reason="ten seconds of hashing; `make nightly` does them")
def test_a_worker_that_reads_a_large_file_is_not_taken_for_a_stopped_one(
    sparse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "QUIET_SECONDS", 3)
    monkeypatch.setattr(parallel, "MAX_QUIET", 2)
    options = ReadOptions(jobs=2, max_hole_bytes=1 << 40)
    with open(f"{sparse}/big0", "r+b") as file:
        file.truncate(16 << 30)
    try:
        assert read_tree(sparse, options=options).files == 3
    finally:
        os.truncate(f"{sparse}/big0", 1 << 30)


def test_a_helper_killed_in_its_first_moment_is_never_a_pass(many: str) -> None:
    for _ in range(5):
        thread, outcome = in_thread(lambda: read_tree(many, options=TWO))
        helpers = wait_for(partial(children_or_end, thread))
        if helpers is not True:
            os.kill(helpers[0], signal.SIGKILL)
        thread.join(30)
        assert not thread.is_alive()
        assert helpers is True or isinstance(outcome[0], MachineError) or outcome == [None]
    assert children_of(os.getpid()) == []


def test_a_file_truncated_while_it_is_mapped_is_the_error_of_that_file(sparse: str) -> None:
    thread, outcome = in_thread(lambda: read_tree(sparse, options=TWO))
    wait_for(lambda: len(children_of(os.getpid())) == 2)
    time.sleep(0.2)
    try:
        for n in range(3):
            os.truncate(f"{sparse}/big{n}", 5)
        thread.join(30)
    finally:
        for n in range(3):
            os.truncate(f"{sparse}/big{n}", 1 << 30)
    assert not thread.is_alive()
    assert isinstance(outcome[0], TreeUnsafe)
    assert "'big" in str(outcome[0])
    assert children_of(os.getpid()) == []


@pytest.mark.parametrize("options", [ONE, TWO])
def test_a_file_that_changes_while_it_is_read_is_refused(sparse: str, options: ReadOptions) -> None:
    thread, outcome = in_thread(lambda: read_tree(sparse, options=options))
    while thread.is_alive() and not outcome:
        os.utime(f"{sparse}/big0")
        os.utime(f"{sparse}/big1")
        time.sleep(0.05)
    thread.join(60)
    assert isinstance(outcome[0], TreeUnsafe)
    assert "changed while it was read" in str(outcome[0])


START = """
    import sys
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.disk.read_tree import read_tree
    print("ready", flush=True)
    try:
        read_tree(sys.argv[1], options=ReadOptions(jobs=2))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(130)
"""


def start(root: str, **options: Any) -> tuple[subprocess.Popen[str], list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(START), root],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
        **options,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process, wait_for(lambda: len(found := children_of(process.pid)) == 2 and found)


def test_no_helper_outlives_a_killed_parent(sparse: str) -> None:
    process, helpers = start(sparse)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(alive, helpers)), 20)


def test_an_interrupt_ends_everything_quietly(sparse: str) -> None:
    process, helpers = start(sparse, process_group=0)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "interrupted\n", "")
    wait_for(lambda: not any(map(alive, helpers)))


def test_memory_is_bounded(tmp_path: Path) -> None:
    root = plant(tmp_path, {"model.bin": b"x"})
    os.truncate(f"{root}/model.bin", 20 << 30 if PROFILE == "nightly" else 1 << 28)
    code = """
        import resource, sys
        from wcp_attest.disk.options import ReadOptions
        from wcp_attest.disk.read_tree import read_tree
        read_tree(sys.argv[1], options=ReadOptions(jobs=int(sys.argv[2]), max_hole_bytes=1 << 40))
        with open("/proc/self/status") as status:  # the usage of a process counts what it was before `exec`
            own = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
        print(own // 1024, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
    """
    for jobs in "12":
        done = run_python(code, root, jobs)
        assert done.returncode == 0, done.stderr
        own, helpers = map(int, done.stdout.split())
        assert own < 60
        assert helpers < 60


def test_threads_may_read_at_the_same_time(many: str) -> None:
    expected = read_tree(many, options=ONE)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read_tree(many, options=TWO), range(8)))
    assert found == [expected] * 8
    assert children_of(os.getpid()) == []


def test_a_program_that_ignores_its_children_can_read(many: str) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert read_tree(many, options=TWO).files > WORTH_FILES
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_closed_standard_streams_do_no_harm(many: str, tmp_path: Path) -> None:
    code = """
        import os, sys
        from wcp_attest.disk.options import ReadOptions
        from wcp_attest.disk.read_tree import read_tree
        for descriptor in (0, 1, 2): os.close(descriptor)
        reading = read_tree(sys.argv[1], options=ReadOptions(jobs=2))
        open(sys.argv[2], "w").write(reading.package_hash)
    """
    done = run_python(code, many, str(tmp_path / "out"))
    assert done.returncode == 0
    assert (tmp_path / "out").read_text() == read_tree(many, options=ONE).package_hash


def test_a_program_that_is_no_plain_interpreter_reads_alone(many: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_tree(many, options=ONE)
    for name, value in (("executable", ""), ("executable", "/usr/sbin/uwsgi"), ("frozen", True)):
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, value, raising=False)
            patch.setattr("subprocess.Popen", None)
            assert read_tree(many, options=TWO) == expected


def test_an_interpreter_that_cannot_be_started_is_an_error(many: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/absent/python3")
    with pytest.raises(ConfigError, match="cannot start a worker process"):
        read_tree(many, options=TWO)
    assert children_of(os.getpid()) == []


def test_an_interpreter_that_is_something_else_is_an_error(
    many: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, script in enumerate(("exit 3", "echo nonsense", "head -c 100 /dev/zero", "yes")):
        fake = tmp_path / f"python{number}"
        fake.write_text(f"#!/bin/sh\n{script}\n")
        fake.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(fake))
        with pytest.raises(MachineError, match=r"was ended|makes no sense"):
            read_tree(many, options=TWO)
    assert children_of(os.getpid()) == []


def test_modules_in_the_way_are_not_imported_by_a_helper(many: str, tmp_path: Path) -> None:
    for name in ("hashlib", "marshal", "select", "wcp_attest", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("import os; os.kill(os.getppid(), 9)\n")
    code = """
        import sys
        sys.path = [entry for entry in sys.path if entry]
        from wcp_attest.disk.options import ReadOptions
        from wcp_attest.disk.read_tree import read_tree
        import os
        os.chdir(sys.argv[2]); os.environ["PYTHONPATH"] = sys.argv[2]
        print(read_tree(sys.argv[1], options=ReadOptions(jobs=2)).files)
    """
    done = run_python(code, many, str(tmp_path))
    assert done.stdout.strip().isdigit(), done


# Directories that change behind the reader's back; the first report of progress is the moment.


def meddle(root: str, action: Callable[[], object], options: ReadOptions = ONE) -> None:
    done: list[bool] = []

    def once(_: Progress) -> None:
        if not done:
            done.append(True)
            action()

    read_tree(root, options=ReadOptions(jobs=options.jobs, progress=once))


@pytest.mark.parametrize("options", [ONE, TWO])
@pytest.mark.parametrize("where", ["a", "."])
def test_a_name_added_or_removed_meanwhile_is_noticed(tmp_path: Path, options: ReadOptions, where: str) -> None:
    root = plant(tmp_path, {f"{folder}/f{n:05}": b"1" for folder in "amz" for n in range(700)} | {"top": b""})
    with pytest.raises(TreeUnsafe, match="changed while it was read"):
        meddle(root, lambda: plant(f"{root}/{where}", {"new": b""}), options)
    with pytest.raises(TreeUnsafe, match=r"changed while it was read|cannot be read"):
        meddle(root, lambda: os.unlink(f"{root}/{where}/new"), options)
    meddle(root, lambda: None, options)


@pytest.mark.parametrize("options", [ONE, TWO])
def test_a_directory_replaced_meanwhile_is_noticed(tmp_path: Path, options: ReadOptions) -> None:
    entries: dict[str, bytes | str | None] = {f"{folder}/f{n:05}": b"1" for folder in "amz" for n in range(700)}
    root = plant(tmp_path / "pkg", entries)
    plant(tmp_path / "other", {f"f{n:05}": b"1" for n in range(700)})

    def swap() -> None:
        os.rename(f"{root}/a", tmp_path / "old")
        os.rename(tmp_path / "other", f"{root}/a")

    with pytest.raises(TreeUnsafe, match=r"changed while it was read|was replaced"):
        meddle(root, swap, options)


@pytest.mark.parametrize("options", [ONE, TWO])
def test_a_directory_replaced_by_a_link_meanwhile_is_not_followed(tmp_path: Path, options: ReadOptions) -> None:
    entries: dict[str, bytes | str | None] = {f"{folder}/f{n:05}": b"1" for folder in "amz" for n in range(700)}
    root = plant(tmp_path / "pkg", entries)

    def swap() -> None:
        for folder in "amz":
            os.rename(f"{root}/{folder}", tmp_path / folder)
            os.symlink(tmp_path / folder, f"{root}/{folder}")

    with pytest.raises(TreeUnsafe, match=r"changed while it was read|has an absolute target|cannot be read"):
        meddle(root, swap, options)


@pytest.mark.parametrize("options", [ONE, TWO])
@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "device"])
def test_a_file_replaced_meanwhile_is_not_opened_as_something_else(
    tmp_path: Path, options: ReadOptions, kind: str
) -> None:
    root = plant(tmp_path / "pkg", {f"{folder}/f{n:05}": b"1" for folder in "amz" for n in range(700)})
    plant(tmp_path, {"outside": b"1"})

    def swap() -> None:
        path = f"{root}/a/f00699"
        os.unlink(path)
        if kind == "link":
            os.symlink(tmp_path / "outside", path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            os.mkdir(path)
        else:
            os.mknod(path, 0o020644, os.makedev(1, 5))

    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    refused = pytest.raises(TreeUnsafe, match=r"'a/f00699' (is not a regular file|cannot be read)|changed while")
    # Helpers may have read all of it before; what they read was a file then.
    with refused if options is ONE else suppress(TreeUnsafe):
        meddle(root, swap, options)


# Executors that the caller brings.


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_an_executor_reads_what_one_process_reads(many: str, pool: Any) -> None:
    import multiprocessing

    arguments = {"mp_context": multiprocessing.get_context("spawn")} if pool is ProcessPoolExecutor else {}
    with pool(2, **arguments) as executor:
        assert read_tree(many, options=ReadOptions(executor=executor)) == read_tree(many, options=ONE)
        check_tree(many, manifest_of(many), options=ReadOptions(executor=executor))
        os.chmod(f"{many}/d30/s2/f67", 0o4755)
        try:
            with pytest.raises(TreeUnsafe, match="'d30/s2/f67' has a set-id bit"):
                read_tree(many, options=ReadOptions(executor=executor))
        finally:
            os.chmod(f"{many}/d30/s2/f67", 0o644)


class Odd(Executor):
    """Runs a job at once and spoils its result."""

    def __init__(self, spoil: Callable[[Any], Any]) -> None:
        self.spoil = spoil

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(self.spoil(fn(*args, **kwargs)))
        except Exception as problem:  # noqa: BLE001  # handed to the test
            future.set_exception(problem)
        return future


def fail(_: object) -> object:
    raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda reply: None,
        lambda reply: (None, None),
        lambda reply: ([], None),
        lambda reply: (reply[0][:-1], None),
        lambda reply: (reply[0] * 2, None),
        lambda reply: ([None for _ in reply[0]], None),
        lambda reply: ([(1, 2, 3) for _ in reply[0]], None),
        lambda reply: ([(b"", b"", 0, 0) for _ in reply[0]], None),
        lambda reply: ([(*result[:3], -1) for result in reply[0]], None),
        lambda reply: ([(result[0], b"", 0, 0) for result in reply[0]], None),
        lambda reply: ([(result[0], result[1], -1, 0) for result in reply[0]], None),
        lambda reply: ([(None, result[1], 1, 0) for result in reply[0]], None),
        lambda reply: "done",
        lambda reply: ({}, None),
    ],
)
def test_a_result_of_another_shape_is_an_error(tmp_path: Path, spoil: Callable[[Any], Any]) -> None:
    root = plant(tmp_path, {"a": b"1", "b": b"2", "c/d": b"3"})
    with pytest.raises(TreeUnsafe, match="makes no sense"):
        read_tree(root, options=ReadOptions(executor=Odd(spoil)))


@pytest.mark.parametrize("size", [100 << 10, 10])
def test_jobs_weigh_about_the_same_also_behind_the_first(tmp_path: Path, size: int) -> None:
    root = plant(tmp_path, {f"d{n // 40:02}/f{n:04}": b"" for n in range(WORTH_FILES + 500)})
    for folder, _, names in os.walk(root):
        for name in names:
            os.truncate(os.path.join(folder, name), size)
    weights: list[int] = []

    def weigh(reply: Any) -> Any:
        weights.append(sum(read for _, _, read, _ in reply[0]))
        return reply

    read_tree(root, options=ReadOptions(executor=Odd(weigh)))
    assert sum(weights) == size * (WORTH_FILES + 500)
    assert max(weights) <= 16 * MIB
    assert len(weights) <= max(sum(weights) // (4 * MIB), 20)


def test_a_failing_executor_is_an_error(tmp_path: Path) -> None:
    root = plant(tmp_path, {"a": b"1"})
    with pytest.raises(ConfigError, match="the executor failed: RuntimeError: out of memory"):
        read_tree(root, options=ReadOptions(executor=Odd(fail)))


def test_a_cancelled_job_is_an_error(tmp_path: Path) -> None:
    class Cancelling(Odd):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.cancel()
            return future

    with pytest.raises(ConfigError, match="cancelled"):
        read_tree(plant(tmp_path, {"a": b"1"}), options=ReadOptions(executor=Cancelling(fail)))


def test_a_wrong_digest_from_an_executor_is_a_difference(tmp_path: Path) -> None:
    root = plant(tmp_path, {"a": b"1", "b": b"2"})
    good: Manifest = manifest_of(root)

    def lie(reply: Any) -> Any:
        return [(b"x" + good.lines[0] + b",\n" + good.lines[1], *reply[0][0][1:])], None

    with pytest.raises(Error):
        check_tree(root, good, options=ReadOptions(executor=Odd(lie)))


def test_a_copy_cannot_be_made_through_an_executor(tmp_path: Path) -> None:
    root = plant(tmp_path / "pkg", {"a": b"1"})
    options = ReadOptions(executor=Odd(lambda reply: reply))
    with pytest.raises(ConfigError, match="through an executor"):
        check_tree(root, manifest_of(root), options=options, stage=str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["pkg"]
