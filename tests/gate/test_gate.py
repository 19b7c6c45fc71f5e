"""The gate: recorded requests of each host, a good package and a bad one, and everything that must end in a no."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import forked
from tests.forked import SCRIPT
from wcp_attest import KeySigner, sign
from wcp_attest.build import build_manifest
from wcp_attest.pack import pack
from wcp_attest.signing.key import generate

VECTORS = Path(__file__).parent / "vectors"
CASES = [(path.stem, case) for path in sorted(VECTORS.glob("*.json")) for case in json.loads(path.read_text())["cases"]]


class Answered(NamedTuple):
    """What the gate said: yes or no, in the host's words."""

    allowed: bool
    out: str
    err: str
    status: int


class Site:
    """A user's home and a project with one signed skill in each place where a host looks."""

    def __init__(self, folder: Path, signer: KeySigner) -> None:
        self.folder, self.home = folder, folder / "home"
        self.package = self.skill(folder / "staged" / "pdf-forms", "pdf-forms", signer)
        self.in_project = self.skill(folder / "project" / ".claude" / "skills" / "pdf-forms", "pdf-forms", signer)
        self.plugin = self.skill(self.home / ".claude" / "plugins" / "cache" / "reports", "reports", signer)
        installed = {"version": 2, "plugins": {"reports@acme": [{"installPath": str(self.plugin), "version": "1.2.0"}]}}
        (self.home / ".claude" / "plugins" / "installed_plugins.json").write_text(json.dumps(installed))
        self.archive = folder / "pdf-forms.tar"
        pack(self.package, self.archive)
        (folder / "acme.pub").write_bytes(signer.public_pem())
        key = '[[namespace.signer]]\nkey = "acme.pub"\n'
        (folder / "policy.toml").write_text(f'version = 1\n[[namespace]]\nname = "org.acme"\n{key}')

    @staticmethod
    def skill(root: Path, name: str, signer: KeySigner) -> Path:
        root.mkdir(parents=True)
        (root / "SKILL.md").write_text(f"---\nname: {name}\ndescription: x\n---\n")
        manifest = build_manifest(
            root, worker_id=f"org.acme.{name}", worker_species_id=f"wrk.skill.{name}", worker_version="2.1.0"
        )
        sign(root, [signer], manifest=manifest)
        return root

    def ask(
        self,
        host: str,
        request: object,
        *options: str,
        policy: str = "policy.toml",
    ) -> Answered:
        text = request if isinstance(request, bytes) else json.dumps(request).encode()
        for mark, path in (("PACKAGE", self.package), ("PROJECT", self.folder / "project"), ("ARCHIVE", self.archive)):
            text = text.replace(f"@{mark}@".encode(), str(path).encode())
        words = ["gate", "--host", host, "--policy", self.folder / policy, *options]
        done = forked.run(words, input=text, env={"PATH": os.environ["PATH"], "HOME": str(self.home)})
        out, err = done.stdout, done.stderr
        assert "Traceback" not in err
        return Answered(self.allows(host, out, done.returncode, request), out, err, done.returncode)

    @staticmethod
    def allows(host: str, out: str, status: int, request: object) -> bool:
        """Read the answer as the host does."""
        if host == "claude-code":
            # Status 2 stops a tool call and nothing else; `continue: false` with status 0 stops everything.
            tool = isinstance(request, dict) and request.get("hook_event_name") == "PreToolUse"
            if status == 2 and tool:
                return False
            return status != 0 or not out or json.loads(out).get("continue", True) is not False
        if host == "openclaw":
            reply = json.loads(out) if status == 0 else {}
            assert reply.get("decision") in {None, "allow"} or reply["reason"].strip()
            return reply.get("protocolVersion") == 1 and reply.get("decision") == "allow"
        return status == 0 and json.loads(out)["decision"] == "allow"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site"), generate())


@pytest.fixture
def changed(site: Site) -> Any:
    """The same site with one byte changed in each package."""
    files = [site.package / "SKILL.md", site.in_project / "SKILL.md", site.plugin / "SKILL.md"]
    before = [file.read_bytes() for file in files]
    archive = site.archive.read_bytes()
    for file, data in zip(files, before, strict=True):
        file.write_bytes(data + b"!")
    site.archive.write_bytes(archive.replace(b"org.acme", b"org.evil"))
    yield site
    for file, data in zip(files, before, strict=True):
        file.write_bytes(data)
    site.archive.write_bytes(archive)


@pytest.mark.parametrize(("host", "case"), CASES, ids=[f"{host}: {case['name']}" for host, case in CASES])
def test_good_package_is_answered_as_recorded(site: Site, host: str, case: dict[str, Any]) -> None:
    answered = site.ask(host, case["request"])
    assert answered.allowed == (case["expect"] in {"allow", "by package"}), answered
    assert answered.allowed or "Traceback" not in answered.err


@pytest.mark.parametrize(
    ("host", "case"),
    [(host, case) for host, case in CASES if case["expect"] == "by package"],
    ids=[f"{host}: {case['name']}" for host, case in CASES if case["expect"] == "by package"],
)
def test_changed_package_is_blocked(changed: Site, host: str, case: dict[str, Any]) -> None:
    answered = changed.ask(host, case["request"])
    assert not answered.allowed
    assert "ATTEST_" in answered.out + answered.err


@pytest.mark.parametrize("host", ["openclaw", "claude-code", "json"])
@pytest.mark.parametrize(
    "request_",
    [b"", b"\xff", b"{", b"[]", b"{}", b'{"a": NaN}', b"[" * 100_000, b'{"version": 1, "version": 1}', b" " * 300_000],
    ids=["empty", "bytes", "cut short", "list", "nothing", "not JSON", "deep", "twice", "large"],
)
def test_malformed_request_is_blocked(site: Site, host: str, request_: bytes) -> None:
    assert not site.ask(host, request_).allowed


@pytest.mark.parametrize(("host", "name"), [(host, case["name"]) for host, case in CASES if case["expect"] != "block"])
def test_unusable_policy_blocks(site: Site, host: str, name: str) -> None:
    request = next(case["request"] for asked, case in CASES if (asked, case["name"]) == (host, name))
    answered = site.ask(host, request, policy="absent.toml")
    assert not answered.allowed
    assert "absent.toml" in answered.out + answered.err


def test_a_session_is_refused_also_when_what_is_installed_cannot_be_read(site: Site) -> None:
    request = {"cwd": str(site.folder / "project"), "hook_event_name": "SessionStart", "source": "startup"}
    installed = site.home / ".claude" / "plugins" / "installed_plugins.json"
    before = installed.read_bytes()
    assert site.ask("claude-code", request).allowed
    installed.write_text("{")
    assert not site.ask("claude-code", request).allowed
    assert not site.ask("claude-code", request | {"cwd": "project"}).allowed
    installed.write_bytes(before)


def test_unsigned_package_is_blocked_and_warned_of_where_asked(site: Site, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "SKILL.md").write_text("---\nname: plain\n---\n")
    request = next(case["request"] for host, case in CASES if host == "openclaw") | {
        "sourcePath": str(tmp_path / "plain")
    }
    assert json.loads(site.ask("openclaw", request).out)["decision"] == "block"
    warned = site.ask("openclaw", request, "--unsigned", "warn")
    assert json.loads(warned.out)["decision"] == "warn"
    assert not warned.allowed


def test_a_skill_that_is_a_link_is_verified_where_it_leads(site: Site) -> None:
    link = site.home / ".claude" / "skills" / "linked"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(site.package)
    request = {"cwd": "/", "hook_event_name": "PreToolUse", "tool_name": "Skill", "tool_input": {"skill": "linked"}}
    assert site.ask("claude-code", request).allowed
    link.unlink()


def test_a_name_in_two_places_is_checked_in_both(site: Site) -> None:
    other = site.home / ".claude" / "skills" / "pdf-forms"
    other.mkdir(parents=True)
    (other / "SKILL.md").write_text("---\nname: pdf-forms\n---\nunsigned\n")
    request = next(case["request"] for host, case in CASES if host == "claude-code")
    assert not site.ask("claude-code", request).allowed
    (other / "SKILL.md").unlink()
    other.rmdir()


def test_time_that_runs_out_blocks(site: Site) -> None:
    reader, writer = os.pipe()  # a request that never ends
    began = time.monotonic()
    with subprocess.Popen(
        [SCRIPT, "gate", "--host", "claude-code", "--policy", site.folder / "policy.toml", "--timeout", "0.3"],
        stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        out, err = process.communicate(timeout=60)
    os.close(writer)
    os.close(reader)
    # Nobody knows which event asked; this stops each of them.
    assert (process.returncode, json.loads(out)["continue"]) == (0, False)
    assert b"no answer within 0.3 seconds" in err
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("host", ["json", "openclaw", "claude-code"])
def test_a_reply_holds_no_command_to_a_ci_runner(site: Site, host: str) -> None:
    hostile = "##[set-output name=verified]true"
    path = f"{site.folder}/{hostile}"
    request: dict[str, object] = {"version": 1, "path": path}
    if host == "openclaw":
        request = {"protocolVersion": 1, "targetType": "skill", "sourcePathKind": "directory", "sourcePath": path}
    elif host == "claude-code":
        request = {"hook_event_name": hostile, "cwd": str(site.folder)}
    answered = site.ask(host, request)
    assert not answered.allowed
    assert "set-output" in answered.out + answered.err
    assert "##[" not in answered.out + answered.err
