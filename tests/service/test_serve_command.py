"""`wcp-route serve` as an operator runs it: a Hall made by the demo, a changed file, SIGTERM, wrong input."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.service.world import SCRIPT, Demo, ask, demo
from wcp_attest.base.errors import ConfigError
from wcp_route.service.demo import make
from wcp_route.service.limits import Limits
from wcp_route.service.settings import read_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUTER: Any = {"name": "acme", "sha256": ["ab" * 32], "roles": ["router"]}


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
    (folder / "rules.json").unlink()
    os.mkfifo(folder / "rules.json")  # nobody writes into it; looking for changes goes on nevertheless
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: "reload" in httpx.get(f"{base}/readyz").json()["missing"])
    (folder / "rules.json").unlink()
    (folder / "rules.json").write_text(json.dumps(rules))
    process.send_signal(signal.SIGHUP)
    wait_for(lambda: httpx.get(f"{base}/readyz").json()["ready"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_reloads_who_may_ask_and_what_is_asked_of_them(
    started: tuple[subprocess.Popen[str], str, dict[str, str], Path],
) -> None:
    process, base, tokens, folder = started
    text = (folder / "hall.toml").read_text()

    def put(settings: str, *, taken: bool) -> None:
        (folder / "hall.toml").write_text(settings)
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: taken != ("reload" in httpx.get(f"{base}/readyz").json()["missing"]))

    with httpx.Client(base_url=base) as browser:
        browser.post("/signin", data={"token": tokens["ada"]})
        assert browser.get("/").status_code == 200
        # 1. What only a restart can change, or cannot be read, changes nothing, not even beside a new token.
        new = hashlib.sha256(b"another").hexdigest()
        other = text.replace(hashlib.sha256(tokens["platform"].encode()).hexdigest(), new)
        for wrong in (
            other.replace('"127.0.0.1:7777"', '"127.0.0.1:7777"\nthreads = 3'),
            other.replace('"rules.json"', '"trust.toml"'),
            other.replace('env = "stage"', 'env = "dev"'),
            other + "[[service.token]]\n",
        ):
            put(wrong, taken=False)
            assert ask(base, tokens["platform"], "cap.doc.summarize")["outcome"] == "DISPATCH"
            put(text, taken=True)
        assert browser.get("/").status_code == 200
        # 2. A token that is gone is refused at once, and everybody at the pages signs in again.
        put('allowed_tenants = ["x"]\nrequire_signatory = true\n' + other, taken=True)
        wait_for(lambda: ask(base, tokens["platform"], "cap.doc.summarize").get("code") == "unauthenticated")
        assert browser.get("/", follow_redirects=False).status_code == 303
    # 3. The Hall's own settings count, too.
    assert ask(base, "another", "cap.doc.summarize")["deny_reason_if_denied"]["code"] == "DENY_UNKNOWN_TENANT"


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
        ('env = "stage"\n[service]\nhosts = ["Hall.Example"]\n', "in lower case"),
        (
            'env = "stage"\n[service]\n[[service.token]]\nname = "a"\nroles = ["router"]\nsha256 = ["the-token"]\n',
            "`/token/0/sha256/0`: write the SHA-256 of the token, 64 lower-case hex digits\n",
        ),
        (
            'env = "stage"\n[service]\nauth = "none"\n[service.tls]\ncertificate = "no.pem"\nkey = "no.key"\n',
            "/no.key': No such file or directory",
        ),
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


def test_an_ipv6_address_is_printed_and_answered_as_it_stands_in_a_url() -> None:
    service = read_service({"listen": "[2001:db8::7]:7777", "token": [ROUTER]})
    assert service.host == "[2001:db8::7]"
    assert "[2001:db8::7]:7777" in Limits(None, service, None).hosts  # type: ignore[arg-type]  # no request is sent
    with pytest.raises(ConfigError, match="is not ADDRESS:PORT or unix:PATH"):
        read_service({"listen": "unix:", "token": [ROUTER]})


def test_a_socket_of_a_running_service_is_not_taken_and_one_of_a_dead_service_is(tmp_path: Path) -> None:
    path = str(tmp_path / "hall.sock")
    make(str(tmp_path / "hall"))
    command = [str(SCRIPT), "serve", "--config", str(tmp_path / "hall" / "hall.toml"), "--listen", f"unix:{path}"]
    with socket.socket(socket.AF_UNIX) as running:
        running.bind(path)
        running.listen()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, "address already in use" in done.stderr) == (2, True), done.stderr
        assert os.path.exists(path)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == f"listening on unix:{path}\n"
        process.terminate()
        assert process.wait(60) == 0


TRACED = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
from wcp_route.cli import main
main()
"""


def test_a_process_with_opentelemetry_makes_a_span_of_each_decision(tmp_path: Path) -> None:
    tokens = make(str(tmp_path / "hall"))
    command = [sys.executable, "-c", TRACED, "serve", "--config", str(tmp_path / "hall" / "hall.toml")]
    command += ["--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        base = Demo(process).address()
        decision = ask(base, tokens["platform"], "cap.doc.summarize")
        process.terminate()
        out, _ = process.communicate(timeout=60)
    assert ('"name": "wcp.route"' in out, decision["decision_id"] in out, process.returncode) == (True, True, 0), out


def test_pairs_are_kept_beside_the_state_or_the_reason_is_one_line(tmp_path: Path) -> None:
    make(str(tmp_path / "hall"))
    (tmp_path / "state").mkdir()
    (tmp_path / "hall" / "hall.db").rename(tmp_path / "state" / "hall.db")
    (tmp_path / "hall" / "pairs").write_text("not a directory")  # beside the settings, where none are kept
    (tmp_path / "state" / "pairs").write_text("not a directory")
    command = [str(SCRIPT), "serve", "--config", str(tmp_path / "hall" / "hall.toml")]
    command += ["--state", str(tmp_path / "state" / "hall.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"cannot keep pairs in '{tmp_path / 'state' / 'pairs'}'" in done.stderr


@pytest.mark.parametrize(
    ("more", "says"), [((), "is there already and is no demo"), (("--rules", "x.json"), "leave out --rules")]
)
def test_the_demo_overwrites_nothing_and_names_its_own_files(tmp_path: Path, more: tuple[str, ...], says: str) -> None:
    (tmp_path / "hall").mkdir(exist_ok=True)
    with demo(tmp_path / ("hall" if not more else "other"), *more) as started:
        _, err = started.process.communicate(timeout=60)
    assert (started.process.returncode, says in err, list((tmp_path / "hall").iterdir())) == (2, True, []), err
