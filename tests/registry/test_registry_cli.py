"""`wcp-attest registry` against a server that answers, refuses, and misbehaves."""

from __future__ import annotations

import json
import os
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from tests.bad_http import BadServer, Certificates, cut, endless, hang, redirect, reply
from tests.cli.command import IDENTITY, Command, write_files
from wcp_attest import DenyCode, load_policy, verify
from wcp_attest.build import build_manifest, write_manifest
from wcp_attest.package.provenance import AiOrigin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.bad_http import Answer

WORKER = "org.acme.summarizer"
VERIFY = f"/api/v1/verify/{WORKER}"
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def answer(value: Any, status: int = 200) -> Answer:
    return reply(json.dumps(value).encode(), status)


def ask(wcp: Command, server: BadServer, *arguments: object) -> Any:
    return wcp("registry", *arguments, "--timeout", "2", "--format", "json", env={"PYHALL_REGISTRY_URL": server.url})


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (answer({"worker_id": WORKER, "status": "active", "current_hash": HEX}), 0),
        (answer({"worker_id": WORKER, "status": "active", "banned": True, "ban_reason": "steals"}), 1),
        (answer({"worker_id": WORKER, "status": "revoked"}), 1),
        (reply(b"", 404), 1),
        (reply(b"", 500), 2),
        (reply(b"", 429), 2),
        (reply(b"<html>", kind="text/html"), 2),
        (redirect("https://elsewhere.example"), 2),
        (cut(b"{", 10), 2),
        (endless(), 2),
    ],
)
def test_status_tells_by_its_exit(wcp: Command, server: BadServer, said: Answer, status: int) -> None:
    server.route(VERIFY, said)
    run = ask(wcp, server, "status", WORKER)
    assert run.status == status
    assert run.json["kind"] == ("error" if status == 2 else "registry-status")


def test_status_in_words(wcp: Command, server: BadServer) -> None:
    said = {"worker_id": WORKER, "status": "active", "current_hash": HEX, "attested_at": "2026-01-01\x1b[2J"}
    server.route(VERIFY, answer(said))
    run = wcp.ok("registry", "status", WORKER, "--registry-url", server.url)
    assert run.out.startswith(f"ACTIVE  {WORKER}\n  package hash  sha256:{HEX}\n")
    assert "\x1b" not in run.out


def test_check_hash_finds_any_spelling(wcp: Command, server: BadServer) -> None:
    row = {"sha256": HEX, "reason": "r", "reported_at": "t", "source": "s"}
    server.route("/api/v1/ban-list", answer({"bans": [row], "total": 1}))
    for spelling, status in ((HEX, 1), (HEX.upper(), 1), ("sha256:" + HEX, 1), ("0" * 64, 0), ("abc", 2)):
        assert ask(wcp, server, "check-hash", spelling).status == status
    server.route("/api/v1/ban-list", reply(b"", 500))
    assert ask(wcp, server, "check-hash", HEX).status == 2


def test_ban_list_prints_all_or_fails(wcp: Command, server: BadServer) -> None:
    rows = [{"sha256": f"{n:064x}", "reason": "r", "reported_at": "t", "source": "s"} for n in range(500)]
    server.route("/api/v1/ban-list", answer({"bans": rows, "next_cursor": "2"}))
    server.route(
        "/api/v1/ban-list?limit=500&cursor=2", answer({"bans": [{**rows[0], "sha256": "f" * 64}], "has_more": False})
    )
    assert len(ask(wcp, server, "ban-list").json["entries"]) == 501
    assert wcp.ok("registry", "ban-list", "--registry-url", server.url).out.count("\n") == 501
    server.route("/api/v1/ban-list", answer(rows))
    run = ask(wcp, server, "ban-list")
    assert run.status == 2
    assert "does not say that these are all" in run.err


def test_no_field_of_the_registry_makes_up_a_line(wcp: Command, server: BadServer) -> None:
    fake = f"2026\nACTIVE  {WORKER}\u2028::error::x##[set-output name=a]b"
    said = {"worker_id": WORKER, "status": "revoked", "attested_at": fake, "ban_reason": fake}
    server.route(VERIFY, answer(said))
    run = wcp("registry", "status", WORKER, "--registry-url", server.url)
    assert run.status == 1
    assert [line.split()[0] for line in run.out.splitlines()] == ["REVOKED", "attested", "banned"]
    row = {"sha256": HEX, "reason": fake, "reported_at": fake, "source": fake, "review_status": "pending" + fake}
    server.route("/api/v1/ban-list", answer({"bans": [row], "total": 1}))
    listed = wcp.ok("registry", "ban-list", "--registry-url", server.url).out
    assert listed.count("\n") == 1
    server.route("/health", answer({"ok": False, "version": fake}))
    assert wcp("registry", "health", "--registry-url", server.url).out.count("\n") == 1
    assert "##[" not in run.out + listed


def test_health(wcp: Command, server: BadServer) -> None:
    server.route("/health", answer({"ok": True, "version": "0.2"}), answer({"ok": False}), reply(b"", 500))
    assert ask(wcp, server, "health").json["version"] == "0.2"
    assert ask(wcp, server, "health").status == 1
    assert ask(wcp, server, "health").status == 2


class TestTelling:
    @pytest.fixture
    def secure(self, wcp: Command) -> Iterator[BadServer]:
        with BadServer(Certificates.make(wcp.folder)) as running:
            yield running

    @pytest.fixture
    def package(self, wcp: Command) -> Path:
        root = write_files(wcp.folder / "worker")
        write_manifest(
            root,
            build_manifest(
                root,
                worker_id=WORKER,
                worker_species_id="wrk.doc.summarizer",
                worker_version="1.4.0",
                ai=AiOrigin(generated=True, model="m"),
            ),
        )
        return root

    def where(self, secure: BadServer) -> tuple[str, ...]:
        return ("--registry-url", secure.url, "--ca-file", "authority.pem")

    def test_submit_sends_what_the_manifest_says_with_the_token(
        self, wcp: Command, secure: BadServer, package: Path
    ) -> None:
        digest = json.loads((package / "manifest.json").read_bytes())["package_hash"]
        secure.route(f"/api/v1/workers/{WORKER}/attest", answer({"worker_id": WORKER, "package_hash": digest}))
        (wcp.folder / "token").write_text("from-a-file\n")
        wcp.ok("registry", "submit", "worker", *self.where(secure), "--token-file", "token", "--label", "rc1")
        arguments = ("registry", "submit", "worker", *self.where(secure), "--format", "json")
        assert wcp.ok(*arguments, env={"PYHALL_TOKEN": "from-env"}).json["package_hash"] == digest
        wcp.ok(*arguments, env={"PYHALL_SESSION_TOKEN": "session"})
        headers = [exchange.headers for exchange in secure.requests]
        assert [h.get("authorization") for h in headers] == ["Bearer from-a-file", "Bearer from-env", None]
        assert headers[2]["cookie"] == "pyhall_session=session"
        sent = json.loads(secure.requests[0].body)
        assert (sent["label"], sent["ai_model"], sent["sha256"]) == ("rc1", "m", digest)

    def test_a_token_is_not_sent_in_the_clear_and_never_shown(
        self, wcp: Command, server: BadServer, package: Path
    ) -> None:
        run = wcp("registry", "submit", package, "--registry-url", server.url, env={"PYHALL_TOKEN": "hunter2-hunter2"})
        assert run.status == 2
        assert "never sent over plain http" in run.err
        assert "hunter2" not in run.err + run.out
        assert server.requests == []

    def test_a_token_that_is_refused_is_said(self, wcp: Command, secure: BadServer, package: Path) -> None:
        secure.route("/*", reply(b"{}", 401))
        run = wcp("registry", "submit", package, *self.where(secure), env={"PYHALL_TOKEN": "hunter2-hunter2"})
        assert run.status == 2
        assert "is the token right" in run.err
        assert "hunter2" not in run.err

    def test_what_cannot_be_submitted(self, wcp: Command, secure: BadServer, package: Path) -> None:
        os.truncate(package / "manifest.json", 100)
        assert wcp("registry", "submit", package, *self.where(secure)).status == 2
        assert wcp("registry", "submit", "absent", *self.where(secure)).status == 2
        assert secure.requests == []

    def test_report(self, wcp: Command, secure: BadServer) -> None:
        secure.route("/api/v1/ban-list/report", reply(b"", 202, kind=""), answer({"status": "pending"}))
        for _ in range(2):
            run = wcp.ok("registry", "report", HEX, "--reason", "steals", *self.where(secure), "--format", "json")
            assert run.json["ok"]
        assert wcp("registry", "report", "abc", "--reason", "steals", *self.where(secure)).status == 2


def test_the_registry_must_be_reached_by_https(wcp: Command) -> None:
    for url in ("http://registry.example", "ftp://x.example", "registry.example"):
        run = wcp("registry", "health", "--registry-url", url)
        assert run.status == 2
        assert len(run.err.splitlines()) == 1


class TestPair:
    """The registry keeps the signed manifest; what it says of it is checked by those who ask."""

    @pytest.fixture
    def signed(self, wcp: Command) -> Path:
        root = write_files(wcp.folder / "worker")
        wcp.ok("keygen", "acme.key", "--no-passphrase")
        wcp.ok("sign", "worker", "--key", "acme.key", *IDENTITY)
        return root

    def kept(self, root: Path, **changes: Any) -> dict[str, Any]:
        files = {"manifest": "manifest.json", "signatures": "manifest.sig"}
        pair = {field: b64encode((root / name).read_bytes()).decode() for field, name in files.items()}
        digest = json.loads((root / "manifest.json").read_bytes())["package_hash"]
        return {"worker_id": WORKER, "status": "active", "current_hash": digest, **pair, **changes}

    def policy(self, wcp: Command, server: BadServer, *, asks: bool) -> None:
        text = 'version = 1\n[[namespace]]\nname = "org.acme"\n  [[namespace.signer]]\n  key = "acme.key.pub"\n'
        registry = f'[registry]\nrequire = true\nurl = "{server.url}"\n'
        (wcp.folder / "policy.toml").write_text(text + (registry if asks else ""))

    def test_submit_sends_both_files(self, wcp: Command, server: BadServer, signed: Path) -> None:
        said = self.kept(signed)
        server.route(f"/api/v1/workers/{WORKER}/attest", answer({**said, "package_hash": said["current_hash"]}))
        assert "bare claim" not in wcp.ok("registry", "submit", "worker", "--registry-url", server.url).err
        assert "bare claim" in wcp.ok("registry", "submit", "worker", "--registry-url", server.url, "--no-pair").err
        with_pair, bare = (json.loads(exchange.body) for exchange in server.requests)
        assert {field: with_pair[field] for field in ("manifest", "signatures")} == {
            field: said[field] for field in ("manifest", "signatures")
        }
        assert "manifest" not in bare
        assert bare["package_hash"] == with_pair["package_hash"] == said["current_hash"]

    def test_status_checks_what_is_kept_under_a_policy(self, wcp: Command, server: BadServer, signed: Path) -> None:
        self.policy(wcp, server, asks=False)
        status = ("registry", "status", WORKER, "--registry-url", server.url, "--policy", "policy.toml")
        server.route(VERIFY, answer(self.kept(signed)))
        assert "signed by     key sha256:" in wcp.ok(*status).out
        stranger = {"worker_id": WORKER, "status": "active", "current_hash": HEX}
        wrong = (
            stranger,
            self.kept(signed, current_hash=HEX),
            self.kept(signed, signatures=b64encode(b"{}\n").decode()),
        )
        for said in wrong:
            server.route(VERIFY, answer(said))
            assert wcp(*status).status in {1, 2}
            assert "ACTIVE" not in wcp(*status).out

    def test_verify_refuses_another_manifest_or_other_signatures(
        self, wcp: Command, server: BadServer, signed: Path
    ) -> None:
        self.policy(wcp, server, asks=True)
        verify = ("verify", "worker", "--policy", "policy.toml", "--format", "json")
        server.route(VERIFY, answer(self.kept(signed)))
        assert wcp(*verify).json["ok"]
        manifest = (signed / "manifest.json").read_bytes().replace(b'"local"', b'"ci"')
        line = json.loads((signed / "manifest.sig").read_bytes())
        line["dsseEnvelope"]["payload"] = b64encode(b'{"_type":"x"}').decode()
        for change in (
            {"manifest": b64encode(manifest).decode()},
            {"signatures": b64encode(json.dumps(line).encode() + b"\n").decode()},
            {"signatures": b64encode(b"\n").decode()},
            {"signatures": "!"},
            {"signatures": None},
        ):
            server.route(VERIFY, answer(self.kept(signed, **change)))
            assert not wcp(*verify).json["ok"], change

    def test_a_silent_registry_is_waited_for_once_and_denies_meanwhile(
        self, wcp: Command, server: BadServer, signed: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.policy(wcp, server, asks=True)
        text = (wcp.folder / "policy.toml").read_text()
        (wcp.folder / "policy.toml").write_text(f'{text}timeout = "2s"\n')
        policy = load_policy(wcp.folder / "policy.toml")
        server.route(VERIFY, hang(), answer(self.kept(signed)))
        verdicts = [verify(signed, policy) for _ in range(4)]
        assert [(verdict.code, verdict.decided) for verdict in verdicts] == [(DenyCode.TRUST_UNUSABLE, False)] * 4
        assert "asked again after" in verdicts[3].message
        assert len(server.requests) == 1
        monkeypatch.setattr("wcp_attest.trust.registry.registry_table.PAUSE", 0.0)
        assert verify(signed, policy).ok

    def test_a_registry_that_fails_at_once_is_asked_each_time(
        self, wcp: Command, server: BadServer, signed: Path
    ) -> None:
        self.policy(wcp, server, asks=True)
        policy = load_policy(wcp.folder / "policy.toml")
        server.route(VERIFY, answer({}, 404))
        assert not verify(signed, policy).ok
        server.route(VERIFY, answer(self.kept(signed)))
        assert verify(signed, policy).ok
