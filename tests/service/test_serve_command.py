"""`wcp-route serve` as an operator runs it: a Hall made by the demo, a changed file, SIGTERM, wrong input."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.service.world import SCRIPT, ask, demo
from wcp_route.service.demo import make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, dict[str, str], Path]]:
    tokens = make(str(tmp_path / "hall"))
    command = [str(SCRIPT), "serve", "--config", str(tmp_path / "hall" / "hall.toml"), "--listen", "127.0.0.1:0"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield process, found[0], tokens, tmp_path / "hall"
        process.kill()


def test_serves_reloads_and_stops(started: tuple[subprocess.Popen[str], str, dict[str, str], Path]) -> None:
    process, base, tokens, folder = started
    assert httpx.get(f"{base}/readyz").json() == {"ready": True, "missing": {}}
    assert ask(base, tokens["platform"], "cap.doc.summarize")["outcome"] == "DISPATCH"
    assert ask(base, tokens["platform"], "cap.pay.transfer")["outcome"] == "STEWARD_HOLD"
    rules = json.loads((folder / "rules.json").read_text())
    (folder / "rules.json").write_text("{")  # a bad file keeps the rules in force, and says so
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: "reload" in httpx.get(f"{base}/readyz").json()["missing"])
    assert ask(base, tokens["platform"], "cap.doc.summarize")["outcome"] == "DISPATCH"
    rules["rules"] = rules["rules"][1:]
    (folder / "rules.json").write_text(json.dumps(rules))
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: httpx.get(f"{base}/readyz").json()["ready"])
    assert ask(base, tokens["platform"], "cap.doc.summarize")["outcome"] == "DENY"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def wait_for(found: Any) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_service_that_is_killed_again_and_again_loses_no_answered_receipt(tmp_path: Path) -> None:
    answered: list[str] = []
    tokens: dict[str, str] = {}
    for _ in range(3):
        with demo(tmp_path / "hall") as started:
            base, _, printed = started.begun()
            tokens = printed or tokens

            def work(base: str = base, token: str = tokens["platform"]) -> None:
                with contextlib.suppress(httpx.HTTPError, ValueError):  # killed while this one was asking
                    while True:
                        answered.append(ask(base, token, "cap.doc.summarize")["decision_id"])

            asking = [threading.Thread(target=work) for _ in range(4)]
            before = len(answered)
            for one in asking:
                one.start()
            wait_for(lambda before=before: len(answered) > before + 10)
            started.process.kill()
            for one in asking:
                one.join(60)
    from wcp_route.storage.receipts import ReceiptKey, read

    state, key = str(tmp_path / "hall" / "hall.db"), (tmp_path / "hall" / "receipts.key.pub").read_bytes()
    read.verify(state, keys=[ReceiptKey.from_file_bytes(key)])
    assert len(answered) > 30
    assert all(read.find(state, decision) for decision in answered)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('env = "stage"\n', "rules"),
        ('env = "stage"\n[service]\nauth = "none"\nlisten = "0.0.0.0:1"\n', "loopback"),
        ('env = "stage"\n[service]\nnonsense = 1\n', "nonsense"),
    ],
)
def test_wrong_settings_are_one_line_and_status_2(tmp_path: Path, text: str, says: str) -> None:
    make(str(tmp_path / "hall"))
    files = '[files]\nrules = "rules.json"\npolicy = "trust.toml"\nstate = "hall.db"\nreceipt_key = "receipts.key"\n'
    whole = text if says == "rules" else text.replace("[service]", files + "[service]")
    (tmp_path / "hall" / "hall.toml").write_text(whole)
    command = [str(SCRIPT), "serve", "--config", str(tmp_path / "hall" / "hall.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (2, True, False), done.stderr


def test_one_command_makes_a_hall_prints_its_tokens_once_and_serves_it(tmp_path: Path) -> None:
    with demo(tmp_path / "hall") as first:
        base, head, tokens = first.begun()
        assert head.startswith("made ")
        assert ask(base, tokens["platform"], "cap.doc.summarize")["outcome"] == "DISPATCH"
    with demo(tmp_path / "hall") as second:
        base, head, printed = second.begun()
        assert "is there already" in head
        assert not printed
        assert ask(base, tokens["platform"], "cap.pay.transfer")["outcome"] == "STEWARD_HOLD"
    kept = b"".join(path.read_bytes() for path in (tmp_path / "hall").rglob("*") if path.is_file())
    assert not any(token.encode() in kept for token in tokens.values())


@pytest.mark.parametrize(("more", "says"), [((), "exists"), (("--rules", "x.json"), "leave out --rules")])
def test_the_demo_overwrites_nothing_and_names_its_own_files(tmp_path: Path, more: tuple[str, ...], says: str) -> None:
    (tmp_path / "hall").mkdir(exist_ok=True)
    with demo(tmp_path / ("hall" if not more else "other"), *more) as started:
        _, err = started.process.communicate(timeout=60)
    assert (started.process.returncode, says in err, list((tmp_path / "hall").iterdir())) == (2, True, []), err
