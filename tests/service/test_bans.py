"""A ban from beginning to end: published by the Action, reported, confirmed, signed, served, in force everywhere.

Every part is the real one: the Action's script, `wcp-attest`, and `wcp-route serve` with a certificate of its own.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.route.worlds import a_record
from tests.service.certificates import Authority
from tests.service.world import SCRIPT
from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
WORKER = "org.acme.summarizer"
ROLES: dict[str, dict[str, Any]] = {
    "publisher": {"roles": ["publisher"], "namespaces": ["org.acme"]},
    "reporter": {"roles": ["reader"]},
    "soc": {"roles": ["banner"]},
    "bot": {"roles": ["banner"], "agent": True},
    "operator": {"roles": ["operator", "reader"]},
    "acme": {"roles": ["router"]},
}


@dataclass
class Company:
    """Who takes part, in one directory: keys, a package, the Hall's files, and a client's policy."""

    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)
    base: str = ""

    def attest(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "wcp_attest", *words]
        known = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **environment}
        return subprocess.run(
            command, cwd=self.folder, env=known, capture_output=True, text=True, check=False, timeout=120
        )

    def ask(self, method: str, path: str, who: str | None, body: Any = None) -> httpx.Response:
        headers = {} if who is None else {"authorization": f"Bearer {self.tokens[who]}"}
        import ssl

        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        with httpx.Client(base_url=self.base, verify=context, timeout=30) as client:
            return client.request(method, path, headers=headers, **({} if body is None else {"json": body}))

    def registry(self, *words: str, who: str | None = None) -> subprocess.CompletedProcess[str]:
        token = {} if who is None else {"PYHALL_TOKEN": self.tokens[who]}
        return self.attest("registry", *words, "--registry-url", self.base, "--ca-file", "ca.pem", **token)


@contextmanager
def serving(company: Company) -> Iterator[None]:
    command = [str(SCRIPT), "serve", "--config", str(company.folder / "hall.toml"), "--create-state"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(company.folder)}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"https://127\.0\.0\.1:(\d+)", line)
        assert found, line + process.stderr.read()
        company.base = found[0]
        try:
            yield
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()


@pytest.fixture
def company(tmp_path: Path) -> Company:
    made = Company(tmp_path)
    Authority(tmp_path).issue("hall", "hall", server=True)
    for name in ("acme", "soc", "stranger", "receipts"):
        key = generate()
        (tmp_path / f"{name}.key").write_bytes(key.to_pem(None))
        (tmp_path / f"{name}.key").chmod(0o600)
        (tmp_path / f"{name}.pub").write_bytes(key.public_pem())
    assert made.attest("init", "pkg", "--worker-id", WORKER).returncode == 0
    assert made.attest("ban", "new", "bans.json", "--name", "acme-soc").returncode == 0
    assert made.attest("ban", "sign", "bans.json", "--key", "soc.key").returncode == 0
    trust = 'version = 1\n[[namespace]]\nname = "org.acme"\n[[namespace.signer]]\nkey = "acme.pub"\n'
    bans = '[bans]\nmax_age = "30d"\nstate = "{state}"\nrefresh = "1s"\n[[bans.signer]]\nkey = "soc.pub"\n'
    bans += "[[bans.source]]\n"
    (tmp_path / "trust.toml").write_text(trust + bans.format(state="hall-state") + 'file = "bans.json"\n')
    (tmp_path / "rules.json").write_text(
        json.dumps({"rules": [{"rule_id": "all", "match": {}, "decision": {"candidate_workers_ranked": [
            {"worker_species_id": "wrk.doc.summarizer"}]}}]})
    )  # fmt: skip
    lines = [
        'env = "stage"\n[files]\nrules = "rules.json"\npolicy = "trust.toml"\nstate = "hall.db"\n',
        'receipt_key = "receipts.key"\n',
        '[service]\nlisten = "127.0.0.1:0"\nopen_to_all = ["standing", "bans"]\n',
        '[service.tls]\ncertificate = "hall.pem"\nkey = "hall.key"\n[service.ban_lists]\nsoc = "bans.json"\n',
    ]
    for name, facts in ROLES.items():
        made.tokens[name] = f"token-of-{name}"
        digest = sha256(made.tokens[name].encode()).hexdigest()
        lines.append(f'[[service.token]]\nname = "{name}"\nsha256 = ["{digest}"]\n')
        lines += [f"{key} = {json.dumps(value)}\n" for key, value in facts.items()]
    (tmp_path / "hall.toml").write_text("".join(lines))
    (tmp_path / "client.template").write_text(
        trust + '[registry]\nrequire = true\nurl = "{base}"\nca_file = "ca.pem"\n'
        + bans.format(state="client-state") + 'url = "{base}/api/v1/ban-lists/soc"\nca_file = "ca.pem"\n'
    )  # fmt: skip
    return made


def publish(company: Company) -> subprocess.CompletedProcess[str]:
    """Sign the package and tell the registry, with the script of the Action as a runner starts it."""
    inputs = {
        "mode": "sign", "path": "pkg", "signing": "key", "signing_key": (company.folder / "acme.key").read_text(),
        "worker_id": WORKER, "species_id": "wrk.doc.summarizer", "worker_version": "1.0.0", "exclude": "",
        "on_missing_token": "fail", "fail_on_deny": "true", "summary": "false", "registry_url": company.base,
        "registry_token": company.tokens["publisher"], "registry_ca_file": "ca.pem",
    }  # fmt: skip
    temp = company.folder / "temp"
    temp.mkdir()
    environment = {f"WCP_INPUT_{name.upper()}": value for name, value in inputs.items()}
    environment |= {"PATH": os.environ["PATH"], "HOME": str(company.folder), "RUNNER_TEMP": str(temp)}
    environment |= {"GITHUB_OUTPUT": str(temp / "output"), "GITHUB_STEP_SUMMARY": str(temp / "summary")}
    command = [sys.executable, "-I", str(ROOT / "action" / "main.py")]
    return subprocess.run(
        command, cwd=company.folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def put(company: Company, who: str, file: str) -> httpx.Response:
    parts = {"list": file, "signatures": f"{file}.sig"}
    body = {name: base64.b64encode((company.folder / path).read_bytes()).decode() for name, path in parts.items()}
    return company.ask("PUT", "/api/v1/ban-lists/soc", who, body)


def route(company: Company) -> Any:
    body = {"capability_id": "cap.doc.summarize", "env": "stage", "data_label": "PUBLIC", "tenant_risk": "low"}
    body |= {"qos_class": "P2", "correlation_id": str(uuid.uuid4())}
    return company.ask("POST", "/wcp/route", "acme", body).json()


def test_a_reported_package_is_confirmed_signed_served_and_refused_everywhere(company: Company) -> None:
    folder = company.folder
    with serving(company):
        # 1. The Action signs and publishes; the pair is kept, and a client that asks the registry verifies.
        done = publish(company)
        assert (done.returncode, "the registry calls it active" in done.stdout) == (0, True), done.stdout + done.stderr
        assert company.tokens["publisher"] not in "".join(
            path.read_text(errors="replace") for path in (folder / "temp").rglob("*") if path.is_file()
        )
        policy = (folder / "client.template").read_text().replace("{base}", company.base)
        (folder / "client.toml").write_text(policy)
        verified = company.attest("verify", "pkg", "--policy", "client.toml")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        status = company.registry("status", WORKER, "--policy", "trust.toml")
        assert (status.returncode, status.stdout.split()[0]) == (0, "ACTIVE"), status.stderr
        record = a_record(worker_id=WORKER, worker_species_id="wrk.doc.summarizer")
        enrolled = company.ask(
            "PUT", f"/admin/workers/{WORKER}", "operator", {**record, "package_root": str(folder / "pkg")}
        )
        assert enrolled.status_code == 201, enrolled.text
        assert route(company)["outcome"] == "DISPATCH"

        # 2. Somebody reports it. That bans nothing.
        digest = company.ask("GET", f"/api/v1/verify/{WORKER}", None).json()["current_hash"]
        assert company.registry("report", digest, "--reason", "sends documents away", who="reporter").returncode == 0
        assert company.attest("verify", "pkg", "--policy", "client.toml").returncode == 0

    # 3. The report outlives the process; a person of the ban authority confirms it, once.
    with serving(company):
        policy = (folder / "client.template").read_text().replace("{base}", company.base)
        (folder / "client.toml").write_text(policy)
        (row,) = company.ask("GET", "/api/v1/ban-list/reports", "soc").json()["reports"]
        assert (row["sha256"], row["reported_by"], row["review_status"], row["listed"]) == (
            digest, "reporter", "pending", False,
        )  # fmt: skip
        answer = {"decision": "confirm", "reason": "seen in the logs"}
        place = f"/api/v1/ban-list/reports/{digest}"
        assert company.ask("POST", place, "reporter", answer).status_code == 403
        assert company.ask("POST", place, "bot", answer).json()["code"] == "not-a-person"
        confirmed = company.ask("POST", place, "soc", answer)
        assert confirmed.json()["review_status"] == "confirmed"
        assert company.ask("POST", place, "soc", answer).status_code == 409
        assert company.attest("verify", "pkg", "--policy", "client.toml").returncode == 0  # still no ban

        # 4. They sign a list with it, and put it where the Hall serves it. Nobody else's list is taken.
        for name in ("new.json", "forged.json", "same.json"):
            (folder / name).write_bytes((folder / "bans.json").read_bytes())
        for name in ("same.json", "forged.json"):
            company.attest("ban", "sign", name, "--key", "soc.key" if name == "same.json" else "stranger.key")
        assert put(company, "soc", "same.json").json()["code"] == "not-newer"
        words = ("--package", f"sha256:{digest}", "--reason", "sends documents away")
        assert company.attest("ban", "add", "forged.json", *words, "--key", "stranger.key").returncode == 0
        assert put(company, "soc", "forged.json").status_code == 409
        added = company.attest("ban", "add", "new.json", *words, "--key", "soc.key")
        assert added.returncode == 0, added.stderr
        assert put(company, "reporter", "new.json").status_code == 403
        assert put(company, "soc", "new.json").json()["version"] == 2

        # 5. It is in force: at the Hall, in the registry's answers, and at a client within its refresh.
        assert route(company)["deny_reason_if_denied"]["code"] == "DENY_WORKER_BANNED"
        assert company.registry("status", WORKER).stdout.split()[0] == "BANNED"
        assert company.registry("check-hash", digest).returncode == 1
        plain = re.sub(r"(?s)\[registry\].*?\[bans\]", "[bans]", (folder / "client.toml").read_text())
        (folder / "client.toml").write_text(plain)  # the list alone denies, too
        wait_for_denial(company)
        assert company.ask("GET", "/api/v1/ban-list/reports", "soc").json()["reports"][0]["listed"] is True
        receipts = company.ask("GET", "/receipts?kind=ban.reviewed", "operator").json()["receipts"]
        assert [(row["receipt"]["by"], row["receipt"]["status"]) for row in receipts] == [("soc", "confirmed")]


def wait_for_denial(company: Company) -> None:
    import time

    until = time.monotonic() + 30
    while True:
        denied = company.attest("verify", "pkg", "--policy", "client.toml", "--format", "json")
        if denied.returncode == 1:
            assert json.loads(denied.stdout)["code"] == "ATTEST_BANNED", denied.stdout
            return
        assert time.monotonic() < until, denied.stdout + denied.stderr
        time.sleep(0.3)


def test_only_what_is_open_to_all_needs_no_token(company: Company) -> None:
    with serving(company):
        assert company.ask("GET", f"/api/v1/verify/{WORKER}", None).status_code == 200
        assert company.ask("GET", "/api/v1/ban-lists/soc", None).status_code == 200
        for path in ("/api/v1/ban-list/reports", "/wcp/workers", "/receipts"):
            assert company.ask("GET", path, None).status_code == 401
        assert (
            company.ask("POST", "/api/v1/ban-list/report", None, {"sha256": "ab" * 32, "reason": "x"}).status_code
            == 401
        )
        assert company.ask("PUT", "/api/v1/ban-lists/soc", None, {}).status_code == 401


def test_reports_are_bounded_and_one_that_was_dismissed_can_come_again(company: Company) -> None:
    with serving(company):
        body = {"sha256": "AB" * 32, "reason": "odd"}
        for _ in range(2):
            told = company.ask("POST", "/api/v1/ban-list/report", "reporter", body)
            assert (told.status_code, told.json()["review_status"]) == (202, "pending")
        place = f"/api/v1/ban-list/reports/{'ab' * 32}"
        assert company.ask("POST", place, "soc", {"decision": "dismiss"}).json()["review_status"] == "dismissed"
        assert company.ask("POST", "/api/v1/ban-list/report", "reporter", body).json()["review_status"] == "pending"
        for wrong in ({"reason": "x" * 501}, {"reason": ""}, {"sha256": "zz"}, {"evidence_url": 1}):
            assert company.ask("POST", "/api/v1/ban-list/report", "reporter", {**body, **wrong}).status_code == 400
