"""A PostgreSQL server of our own for the tests, and a pooler before it: private folder, Unix sockets, ended by id."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

POOLER_PORT = 6432
_NUMBERS = itertools.count(1)


class PostgresServer:
    """A running server; `database` makes a new empty database in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def address(self, name: str, port: int = 5432) -> str:
        return f"postgresql://postgres@/{name}?host={self.folder}&port={port}"

    def database(self) -> str:
        """Make an empty database; return its name."""
        name = f"hall_{next(_NUMBERS)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return name

    def execute(self, name: str, *statements: str) -> None:
        with psycopg.connect(self.address(name), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


def _as_server() -> dict[str, Any]:
    """PostgreSQL and PgBouncer refuse to run as root, so root lends them the user of the package."""
    if os.geteuid():
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL is NOT tested: root runs the tests and there is no user `postgres`")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def _running(command: list[str], folder: Path, socket: str, end: signal.Signals) -> Iterator[None]:
    """Run a server until the block ends; the block begins when it answers at its socket."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, **_as_server()
        )
    try:
        for _ in range(600):
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(socket, connect_timeout=5):
                break
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            raise AssertionError((folder / f"{Path(command[0]).name}.log").read_text(errors="replace"))
        yield
    finally:
        process.send_signal(end)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def running_server(*, fsync: bool = False) -> Iterator[PostgresServer]:
    """Run a server with a cluster of its own; skip where PostgreSQL is absent. Only what is measured needs `fsync`."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: path.parts[-3].zfill(4))
    if not found:
        pytest.skip("PostgreSQL is NOT tested: there is no /usr/lib/postgresql/*/bin/initdb (Debian: postgresql)")
    binaries, owner = found[-1].parent, _as_server()
    # A socket's path must be short. Nothing here has to outlive the machine, so memory is as good as a disk, unless the
    # disk is what is measured.
    roomy = os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2 << 30
    place = "/var/tmp" if fsync else "/dev/shm" if roomy else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="wcp-pg-", dir=place))
    try:
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        data = folder / "data"
        subprocess.run(
            [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            cwd=folder,
            check=True,
            capture_output=True,
            **owner,
        )
        server = PostgresServer(folder)
        settings = ["listen_addresses=", f"unix_socket_directories={folder}", "port=5432"]
        settings += [] if fsync else ["fsync=off", "full_page_writes=off", "autovacuum=off"]
        command = [str(binaries / "postgres"), "-D", str(data)]
        for setting in settings:
            command += ["-c", setting]
        with _running(command, folder, server.address("postgres"), signal.SIGQUIT):
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running_pooler(server: PostgresServer) -> Iterator[None]:
    """Run PgBouncer in transaction mode before the server; skip where it is absent."""
    binary = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        pytest.skip("PgBouncer is NOT tested: it is not installed (Debian: pgbouncer)")
    settings = server.folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={server.folder} port=5432 user=postgres\n"
        f"[pgbouncer]\nlisten_addr =\nlisten_port = {POOLER_PORT}\nunix_socket_dir = {server.folder}\n"
        "auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\n"
    )
    settings.chmod(0o644)
    with _running([binary, str(settings)], server.folder, server.address("postgres", POOLER_PORT), signal.SIGINT):
        yield
