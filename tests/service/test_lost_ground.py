"""What the service stands on is taken away while it runs: its files, their modes, the mount they lie on."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.bubblewrap import bubblewrap
from tests.service.test_deploy_files import start, stop
from tests.service.world import SCRIPT, WORKER, World, a_request, ask
from wcp_route.service.demo import make

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


def decide(world: World) -> tuple[str, str | None]:
    decision = world("POST", "/wcp/route", "acme", a_request(correlation_id=str(uuid.uuid4()))).json()
    return decision["outcome"], decision["deny_code"]


@pytest.mark.parametrize("lost", ["removed", "replaced by an older copy", "its log removed"])
def test_a_state_file_that_is_gone_keeps_no_receipt_so_nothing_is_dispatched(tmp_path: Path, lost: str) -> None:
    world = World(tmp_path)
    path = Path(world.address)
    shutil.copy(path, tmp_path / "older.db")
    assert decide(world) == ("DISPATCH", None)
    if lost == "removed":
        path.unlink()
    elif lost == "its log removed":
        path.with_name("hall.db-wal").unlink()
    else:
        (tmp_path / "older.db").replace(path)
    assert [decide(world) for _ in range(3)] == [("DENY", "DENY_RECEIPT_UNAVAILABLE")] * 3
    ready = world("GET", "/readyz", "rita")
    assert (ready.status_code, "receipts" in ready.json()["missing"]) == (503, True)
    assert world("PUT", f"/admin/quarantine/{WORKER}", "olga", {"reason": "x"}).status_code == 503
    world.close()


def test_files_that_cannot_be_read_or_written_are_503_and_name_no_path(tmp_path: Path) -> None:
    world = World(tmp_path)
    files = {"manifest": "manifest.json", "signatures": "manifest.sig"}
    pair = {
        field: base64.b64encode((tmp_path / "worker" / name).read_bytes()).decode() for field, name in files.items()
    }
    (tmp_path / "pairs").rmdir()
    (tmp_path / "bans.json").unlink()
    os.mkfifo(tmp_path / "bans.json")  # nobody writes into it
    answers = [
        world("PUT", f"/api/v1/workers/{WORKER}/attest", "paul", pair),
        world("GET", "/api/v1/ban-list", "rita"),
        world("GET", "/api/v1/ban-lists/soc", "rita"),
    ]
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert not [answer.text for answer in answers if str(tmp_path) in answer.text]
    world.close()


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can enter, unlike that of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="wcp-hall-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody() -> list[str]:
    found = shutil.which("setpriv")
    if found is None or os.geteuid():
        pytest.skip("another user's read-only directories were NOT tried: it takes root and setpriv (util-linux)")
    command = [found, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if subprocess.run(
        [*command, sys.executable, "-c", "import wcp_route"], check=False, capture_output=True
    ).returncode:
        pytest.skip("another user's read-only directories were NOT tried: nobody may not run this Python")
    return command


def test_a_hall_whose_directories_turn_read_only_loses_no_answered_receipt(open_folder: Path) -> None:
    command = as_nobody()
    tokens, folder, state = make(str(open_folder / "hall")), open_folder / "hall", open_folder / "state"
    state.mkdir()
    shutil.move(folder / "hall.db", state / "hall.db")
    settings = (folder / "hall.toml").read_text().replace('"hall.db"', f'"{state}/hall.db"')
    (folder / "hall.toml").write_text(settings)
    for path in (state, state / "hall.db", folder / "receipts.key", folder / "hall.toml"):
        os.chown(path, NOBODY, NOBODY)
    serve = [*command, str(SCRIPT), "serve", "--config", str(folder / "hall.toml"), "--listen", "127.0.0.1:0"]
    base, process = start(serve, open_folder)
    operator = {"authorization": f"Bearer {tokens['ada']}"}
    modes = {path: path.stat().st_mode & 0o777 for path in (state, *state.iterdir())}

    def turn(mode: int, owner: int) -> None:
        for path, before in modes.items():
            with contextlib.suppress(FileNotFoundError):
                os.chown(path, owner, owner)
                path.chmod(before & mode)

    try:
        answered = [ask(base, tokens["platform"], "cap.doc.summarize")]
        turn(0o555, 0)
        answered += [ask(base, tokens["platform"], "cap.doc.summarize") for _ in range(5)]
        assert httpx.get(f"{base}/receipts", headers=operator, timeout=60).status_code in {200, 503}
        turn(0o777, NOBODY)
        answered.append(ask(base, tokens["platform"], "cap.doc.summarize"))
        assert (answered[0]["outcome"], answered[-1]["outcome"]) == ("DISPATCH", "DISPATCH")
        assert {one["deny_code"] for one in answered} <= {None, "DENY_RECEIPT_UNAVAILABLE"}
        for one in answered:
            found = httpx.get(f"{base}/receipts/{one['decision_id']}", headers=operator, timeout=60)
            assert found.status_code == (404 if one["denied"] else 200)
        stop(process)
    finally:
        process.kill()


def test_a_state_on_a_read_only_mount_is_one_line_and_status_2(tmp_path: Path) -> None:
    bwrap = bubblewrap("a state on a read-only mount")
    make(str(tmp_path / "hall"))
    serve = [str(SCRIPT), "serve", "--config", str(tmp_path / "hall" / "hall.toml"), "--listen", "127.0.0.1:0"]
    done = subprocess.run(
        [bwrap, "--ro-bind", "/", "/", "--dev", "/dev", *serve], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
    assert "write beside it" in done.stderr
