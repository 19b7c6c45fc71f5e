"""Commands as processes of their own, forked from one that has imported the program already.

A command of the tests takes a hundred milliseconds of processor time to start and ten to work, and there are thousands.
Here a server imports `wcp-attest` once; for each command it forks a child, which gets the caller's directory,
environment, umask and pipes, calls the program's own entry and dies as the program does. What a fork cannot show is
left to tests that start the installed script: start-up itself, what Python reads from its environment, signals from a
terminal. `WCP_TESTS=nightly` forks nothing: every command is the installed script.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.drawn import PROFILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

LENGTH = struct.Struct("!I")
# What Python, its libraries or C read once, at start-up: a fork would not see that it changed.
AT_START = ("PYTHON", "LC_", "LANG", "TZ", "COVERAGE", "LD_", "MALLOC", "OPENSSL", "_WCP_ATTEST_COMPLETE")
# The environment of the server, taken before any test changes its own.
OWN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


class Ended(NamedTuple):
    """How a command ended: its status as `subprocess` says it, and what it printed."""

    status: int
    out: bytes
    err: bytes


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    names = [name for name in environment if name.startswith(AT_START) and name != "PYTHONDONTWRITEBYTECODE"]
    return {name: environment[name] for name in names}


class ForkServer:
    """The server as the tests see it: started at first use, ended with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._address = ""

    def run(
        self, words: Sequence[str], *, cwd: Path, environment: Mapping[str, str], stdin: bytes, timeout: float
    ) -> Ended:
        """Run one command to its end.

        Raises:
            TimeoutExpired: it was not done after `timeout` seconds; it was killed. Or what it started went on writing.
        """
        pipes = [os.pipe() for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        files = [open(pipes[0][1], "wb", 0), open(pipes[1][0], "rb", 0), open(pipes[2][0], "rb", 0)]  # noqa: SIM115
        with contextlib.ExitStack() as stack:
            for file in files:
                stack.enter_context(file)
            connection = stack.enter_context(socket.socket(socket.AF_UNIX))
            try:
                connection.connect(self._started())
                asked = {"words": list(words), "cwd": str(cwd), "environment": dict(environment), "umask": _umask()}
                data = json.dumps(asked, ensure_ascii=True).encode()
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", theirs))]
                connection.sendmsg([LENGTH.pack(len(data))], rights)
                connection.sendall(data)
            finally:
                for descriptor in theirs:
                    os.close(descriptor)
            (pid,) = LENGTH.unpack(_exactly(connection, LENGTH.size))
            texts: list[bytes] = [b"", b""]

            def read(number: int) -> None:
                texts[number] = files[number + 1].read()

            readers = [threading.Thread(target=read, args=(number,), daemon=True) for number in (0, 1)]
            for reader in readers:
                reader.start()
            with contextlib.suppress(BrokenPipeError), files[0]:
                files[0].write(stdin)
            connection.settimeout(timeout)
            try:
                status = struct.unpack("!i", _exactly(connection, 4))[0]
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(words), timeout) from None
            finally:
                for reader in readers:
                    reader.join(timeout)
            if any(reader.is_alive() for reader in readers):  # a program that the command left behind holds its output
                raise subprocess.TimeoutExpired(list(words), timeout)
        return Ended(status, *texts)

    def _started(self) -> str:
        with self._lock:
            if not self._address:
                folder = tempfile.mkdtemp(prefix="wcp-forks-")
                address = f"{folder}/socket"
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.forked", address],
                    cwd=Path(__file__).parents[1],
                    env=OWN,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,  # pipes, as the children get: Python looks once whether it can seek
                )
                assert process.stdin
                assert process.stdout
                if (said := process.stdout.readline()) != b"ready\n":
                    raise AssertionError((said + process.stdout.read()).decode())

                def end() -> None:
                    process.stdin.close()  # type: ignore[union-attr]
                    process.stdout.close()  # type: ignore[union-attr]
                    process.wait(30)
                    with contextlib.suppress(OSError):
                        os.unlink(address)
                        os.rmdir(folder)

                atexit.register(end)
                self._address = address
        return self._address


SERVER = ForkServer()
SCRIPT = Path(sys.executable).with_name("wcp-attest")


def run(
    words: Sequence[object],
    *,
    env: Mapping[str, str],
    cwd: Path | str | None = None,
    input: str | bytes = "",  # noqa: A002  # as `subprocess.run` has it
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run `wcp-attest` with arguments, forked where that shows the same, and return what `subprocess.run` would."""
    command = [str(SCRIPT), *map(str, words)]
    typed = input.encode() if isinstance(input, str) else input
    place = Path(cwd or ".").absolute()
    if PROFILE != "nightly" and _at_start(env) == _at_start(OWN):
        ended = SERVER.run(command, cwd=place, environment=env, stdin=typed, timeout=timeout)
    else:
        done = subprocess.run(
            command, cwd=place, env=env, input=typed, capture_output=True, timeout=timeout, check=False
        )
        ended = Ended(done.returncode, done.stdout, done.stderr)
    out, err = (text.decode().replace("\r\n", "\n") for text in (ended.out, ended.err))
    return subprocess.CompletedProcess(command, ended.status, out, err)


def _umask() -> int:
    """Return the umask of this process without a moment in which it is another."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else ():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    before = os.umask(0o022)
    os.umask(before)
    return before


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise EOFError("the server of forks ended")
        data += more
    return data


def serve(address: str) -> None:
    """Answer until standard input ends: one child for each connection, whose status is sent when it has ended."""
    _import_everything()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    woken, waker = os.pipe()
    for descriptor in (woken, waker):
        os.set_blocking(descriptor, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the tests ends them, and they end this
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    children: dict[int, socket.socket] = {}
    gc.collect()
    gc.freeze()
    os.write(1, b"ready\n")  # `sys.stdout` stays unused: the children set it up
    with selectors.DefaultSelector() as selector:
        for watched in (listener, woken, 0):
            selector.register(watched, selectors.EVENT_READ)
        while True:
            ready = {key.fileobj for key, _ in selector.select()}
            if 0 in ready:
                return
            if woken in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
                _tell_who_ended(children)
            if listener in ready:
                connection, _ = listener.accept()
                pid = _fork(connection, [listener.fileno(), woken, waker, selector.fileno()], children)
                children[pid] = connection
                connection.sendall(LENGTH.pack(pid))


def _tell_who_ended(children: dict[int, socket.socket]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with contextlib.suppress(OSError), children.pop(pid) as connection:
            connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(status)))


def _fork(connection: socket.socket, closed: list[int], others: dict[int, socket.socket]) -> int:
    """Fork and return the child's id; the child does not come back from here."""
    head, rights, _, _ = connection.recvmsg(LENGTH.size, socket.CMSG_SPACE(12))
    descriptors = array.array("i")
    descriptors.frombytes(rights[0][2])
    asked = json.loads(_exactly(connection, LENGTH.unpack(head)[0]))
    if pid := os.fork():
        for descriptor in descriptors:
            os.close(descriptor)
        return pid
    status = 255  # when even the program's own rim failed
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
        for descriptor in [*descriptors, *closed, connection.detach(), *(each.detach() for each in others.values())]:
            os.close(descriptor)
        _become(asked)
    except SystemExit as ended:  # as the interpreter ends: threads first
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        status = int(ended.code or 0)
    finally:
        os._exit(status)


def _become(asked: dict[str, Any]) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.umask(asked["umask"])
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    tempfile.tempdir = None
    sys.argv = asked["words"]
    sys.path[0] = os.path.dirname(sys.argv[0])
    from wcp_attest.cli import program

    program()


def _import_everything() -> None:
    """Import what commands import when they are called, the libraries of a keyless verification included."""
    import importlib
    import pkgutil

    import sigstore.sign
    import sigstore.verify  # noqa: F401

    import wcp_attest

    for module in pkgutil.walk_packages(wcp_attest.__path__, "wcp_attest."):
        if not module.name.endswith(("__main__", ".testing")):
            importlib.import_module(module.name)


if __name__ == "__main__":
    serve(sys.argv[1])
