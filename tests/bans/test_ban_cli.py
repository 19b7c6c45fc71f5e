"""The whole way, through the installed command: ban, sign, publish, and see `verify` refuse."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from tests.bad_http import BadServer, Certificates, reply
from tests.bans.helpers import EVERY_KIND, HEAD, HEX, WHY, head, list_bytes, signed
from tests.bans.tuf_repository import TufRepository
from tests.cli.command import FILES, SCHEMAS, Command, write_files
from wcp_attest.base.errors import BansUnusable
from wcp_attest.build import build_manifest
from wcp_attest.package.manifest import Manifest
from wcp_attest.sign_package import sign
from wcp_attest.signing.key import generate
from wcp_attest.trust.bans.document import BanList

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.command import Run

REASON = ("--reason", "exfiltrates tokens")
POLICY = """
version = 1
[[namespace]]
name = "org.acme"
  [[namespace.signer]]
  key = "acme.key.pub"
"""
BANS = """
[bans]
max_age = "30d"
state = "state"
  [[bans.signer]]
  key = "soc.key.pub"
"""
FILE_SOURCE = '  [[bans.source]]\n  file = "bans.json"\n'


class Fleet:
    """A directory with a signed worker, keys, a policy, and a ban list."""

    def __init__(self, wcp: Command) -> None:
        self.wcp, self.folder = wcp, wcp.folder
        self.keys = {}
        for name in ("acme", "soc", "second"):
            self.keys[name] = generate()
            (self.folder / f"{name}.key").write_bytes(self.keys[name].to_pem(None))
            (self.folder / f"{name}.key.pub").write_bytes(self.keys[name].public_pem())
        self.package = self.sign_worker("worker", "acme", "org.acme.summarizer", FILES)
        self.policy(BANS + FILE_SOURCE)

    def sign_worker(
        self, name: str, key: str, worker_id: str, files: dict[str, bytes], algorithm: Any = "sha256"
    ) -> Path:
        root = write_files(self.folder / name, files)
        manifest = build_manifest(
            root,
            worker_id=worker_id,
            worker_species_id="wrk.doc.summarizer",
            worker_version="1.4.0",
            algorithm=algorithm,
        )
        sign(root, [self.keys[key]], manifest=manifest)
        return root

    @property
    def manifest(self) -> Manifest:
        return Manifest.from_bytes((self.package / "manifest.json").read_bytes())

    def policy(self, more: str) -> None:
        (self.folder / "policy.toml").write_text(POLICY + more)

    def start(self, *subjects: object) -> None:
        """Make, fill and sign a list."""
        self.wcp.ok("ban", "new", "bans.json", "--name", "acme-soc")
        if subjects:
            self.ban(*subjects)
        else:
            self.sign()

    def put_list(self) -> None:
        """Write and sign an empty list without the command, where a test is about something else."""
        at = int(time.time())
        document = list_bytes((), head(1, issued=at))
        (self.folder / "bans.json").write_bytes(document)
        (self.folder / "bans.json.sig").write_bytes(signed(document, self.keys["soc"], head=head(1, issued=at)))

    def ban(self, *subjects: object) -> None:
        self.wcp.ok("ban", "add", "bans.json", *subjects, *REASON)
        self.sign()

    def sign(self) -> None:
        self.wcp.ok("ban", "sign", "bans.json", "--key", "soc.key")

    def verify(self, package: str = "worker", **env: str) -> Run:
        return self.wcp("verify", package, "--policy", "policy.toml", "--format", "json", env=env)

    def code(self, **env: str) -> str | None:
        run = self.verify(**env)
        value = run.json
        assert (run.status == 0) == (value["code"] is None), run
        code: str | None = value["code"]
        return code


@pytest.fixture
def fleet(wcp: Command) -> Fleet:
    return Fleet(wcp)


def test_a_worker_that_nobody_banned_is_verified(fleet: Fleet) -> None:
    fleet.start()
    assert fleet.code() is None


SUBJECTS: dict[str, Callable[[Fleet], tuple[str, ...]]] = {
    "package": lambda fleet: ("--package", fleet.manifest.package_hash.upper()),
    "package by directory": lambda _: ("--root", "worker"),
    "manifest": lambda fleet: ("--manifest", "sha256:" + sha(fleet.package / "manifest.json")),
    "file": lambda fleet: ("--file", "worker/code/bootstrap.py"),
    "file digest": lambda fleet: ("--file-digest", sha(fleet.package / "code/bootstrap.py")),
    "worker": lambda _: ("--worker", "org.acme.summarizer"),
    "versions": lambda _: ("--worker", "org.acme.summarizer", "--versions", ">=1.2,<2"),
    "key": lambda _: ("--public-key", "acme.key.pub"),
    "key id": lambda fleet: ("--signer-key", fleet.keys["acme"].trusted.key_id),
    "namespace": lambda _: ("--namespace", "org.acme"),
}


def sha(path: Path) -> str:
    from hashlib import sha256

    return sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", SUBJECTS)
def test_every_subject_is_refused_and_lifted_again(fleet: Fleet, name: str, compiled: bool) -> None:
    if compiled:
        fleet.policy(BANS + FILE_SOURCE + '  compiled = "bans.idx"\n')
    subject = SUBJECTS[name](fleet)
    fleet.start(*subject)
    if compiled:
        fleet.wcp.ok("ban", "compile", "bans.json", "bans.idx")
    run = fleet.verify()
    assert run.status == 1
    assert run.json["code"] == "ATTEST_BANNED"
    assert "exfiltrates tokens" in run.json["message"]
    assert "acme-soc version 2" in run.json["message"]
    fleet.wcp.ok("ban", "remove", "bans.json", *subject)
    fleet.sign()
    if compiled:
        assert fleet.code() == "ATTEST_BANS_UNUSABLE"
        fleet.wcp.ok("ban", "compile", "bans.json", "bans.idx")
    assert fleet.code() is None


def test_another_version_is_not_refused(fleet: Fleet) -> None:
    fleet.start("--worker", "org.acme.summarizer", "--versions", "<1.4")
    assert fleet.code() is None


def test_a_banned_package_is_refused_before_its_tree_is_read(fleet: Fleet) -> None:
    fleet.start("--namespace", "org.acme")
    shutil.rmtree(fleet.package / "code")
    assert fleet.code() == "ATTEST_BANNED"


def test_a_package_hashed_otherwise_is_not_called_clean_of_banned_files(fleet: Fleet) -> None:
    fleet.sign_worker("worker", "acme", "org.acme.summarizer", FILES, "blake3")
    fleet.start("--namespace", "x.nobody")
    assert fleet.code() is None
    fleet.ban("--file-digest", HEX)
    run = fleet.verify()
    assert run.json["code"] == "ATTEST_BANS_UNUSABLE"
    assert "--algorithm sha256" in run.json["message"]


def fifo(folder: Path) -> None:
    (folder / "bans.json").unlink()
    os.mkfifo(folder / "bans.json")


def directory(folder: Path) -> None:
    (folder / "bans.json").unlink()
    (folder / "bans.json").mkdir()


def signed_by_another(folder: Path) -> None:
    Command(folder).ok("ban", "sign", "bans.json", "--key", "acme.key")
    path = folder / "bans.json.sig"
    path.write_bytes(path.read_bytes().splitlines()[1] + b"\n")


UNUSABLE: dict[str, Callable[[Path], object]] = {
    "missing": lambda folder: (folder / "bans.json").unlink(),
    "unsigned": lambda folder: (folder / "bans.json.sig").unlink(),
    "truncated": lambda folder: truncate(folder / "bans.json"),
    "signature truncated": lambda folder: truncate(folder / "bans.json.sig"),
    "emptied": lambda folder: (folder / "bans.json").write_bytes(b""),
    "replaced by an empty list": lambda folder: (folder / "bans.json").write_bytes(BanList(HEAD, ()).to_bytes()),
    "a directory": directory,
    "a fifo": fifo,
    "state damaged": lambda folder: (folder / "state" / "seen.json").write_bytes(b"{"),
    "state open to others": lambda folder: (folder / "state" / "seen.json").chmod(0o666),
    "signed by another": signed_by_another,
}


def mounted(folder: Path, *names: str) -> None:
    """Put links where files were, as an orchestrator mounts configuration."""
    (folder / "..data").mkdir()
    for name in names:
        (folder / name).rename(folder / "..data" / name)
        (folder / name).symlink_to(f"..data/{name}")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize("name", UNUSABLE)
def test_whatever_is_wrong_with_the_list_denies(fleet: Fleet, name: str) -> None:
    fleet.put_list()
    assert fleet.code() is None
    UNUSABLE[name](fleet.folder)
    assert fleet.code() == "ATTEST_BANS_UNUSABLE"
    run = fleet.wcp("ban", "check", "--policy", "policy.toml", "--format", "json")
    assert run.status == 1
    assert run.json["ok"] is False


def test_a_signed_list_may_be_mounted_through_links(fleet: Fleet) -> None:
    fleet.put_list()
    mounted(fleet.folder, "bans.json", "bans.json.sig")
    assert fleet.code() is None
    truncate(fleet.folder / "..data" / "bans.json")
    assert fleet.code() == "ATTEST_BANS_UNUSABLE"


def test_an_unsigned_list_may_not_since_whoever_can_change_the_link_chooses_it(fleet: Fleet) -> None:
    fleet.put_list()
    own = ("verify", "worker", "--public-key", "acme.key.pub", "--namespace", "org.acme", "--bans", "bans.json")
    fleet.wcp.ok(*own)
    mounted(fleet.folder, "bans.json")
    run = fleet.wcp(*own, "--format", "json")
    assert run.json["code"] == "ATTEST_BANS_UNUSABLE"
    assert "a symbolic link; name the file itself" in run.json["message"]


def test_what_goes_to_a_file_is_what_would_have_been_shown(fleet: Fleet) -> None:
    fleet.put_list()
    fleet.wcp.ok("ban", "add", "bans.json", "--worker", "org.acme.x", "--worker", "org.acme.y", *REASON, "-o", "added")
    assert [line.split()[0] for line in Path(fleet.folder, "added").read_text().splitlines()] == [
        "wrote",
        "banned",
        "banned",
    ]
    fleet.wcp.ok("ban", "sign", "bans.json", "--key", "soc.key", "-o", "signed")
    assert [line.split()[0] for line in Path(fleet.folder, "signed").read_text().splitlines()] == ["SIGNED", "signed"]


def test_a_list_that_cannot_be_read_is_not_called_refused(fleet: Fleet) -> None:
    for command in (("compile", "absent", "x.idx"), ("compile", "absent", "x.idx", "--check"), ("show", "absent")):
        assert fleet.wcp("ban", *command).status == 2


def test_a_list_that_has_expired_denies_and_is_renewed(fleet: Fleet) -> None:
    fleet.wcp.ok("ban", "new", "bans.json", "--name", "acme-soc", "--expires", "1s")
    fleet.wcp("ban", "sign", "bans.json", "--key", "soc.key", "--renew")
    time.sleep(1.1)
    assert fleet.code() == "ATTEST_BANS_UNUSABLE"
    run = fleet.wcp("ban", "sign", "bans.json", "--key", "soc.key")
    assert run.status == 2
    assert "--renew" in run.err
    fleet.wcp.ok("ban", "sign", "bans.json", "--key", "soc.key", "--renew", "--expires", "1h")
    assert fleet.code() is None


def test_an_old_list_put_back_is_rolled_back(fleet: Fleet) -> None:
    fleet.start()
    for name in ("bans.json", "bans.json.sig"):
        shutil.copy(fleet.folder / name, fleet.folder / f"old-{name}")
    fleet.ban("--namespace", "org.acme")
    assert fleet.code() == "ATTEST_BANNED"
    for name in ("bans.json", "bans.json.sig"):
        shutil.copy(fleet.folder / f"old-{name}", fleet.folder / name)
    run = fleet.verify()
    assert run.json["code"] == "ATTEST_BANS_UNUSABLE"
    assert "rolled back" in run.json["message"]


def test_two_of_two_must_sign(fleet: Fleet) -> None:
    fleet.policy(
        BANS.replace('max_age = "30d"', 'max_age = "30d"\nthreshold = 2')
        + '  [[bans.signer]]\n  key = "second.key.pub"\n'
        + FILE_SOURCE
    )
    fleet.start()
    assert fleet.code() == "ATTEST_BANS_UNUSABLE"
    fleet.wcp.ok("ban", "sign", "bans.json", "--key", "second.key")
    assert fleet.code() is None
    args = ("ban", "check", "bans.json", "--public-key", "soc.key.pub", "--public-key", "second.key.pub")
    fleet.wcp.ok(*args, "--threshold", "2")
    assert fleet.wcp(*args, "--threshold", "3").status == 2


def test_several_sources_are_all_asked(fleet: Fleet) -> None:
    fleet.start()
    own = BanList(HEAD, ())
    path = fleet.folder / "own.json"
    bans = json.loads(own.to_bytes())
    at = time.gmtime(time.time() - 5)
    bans["issued_at"], bans["expires_at"] = (time.strftime("%Y-%m-%dT%H:%M:%SZ", at), "2099-01-01T00:00:00Z")
    path.write_text(json.dumps(bans, indent=1))
    path.chmod(0o644)
    fleet.policy(BANS + FILE_SOURCE + '  [[bans.source]]\n  file = "own.json"\n  signed = false\n')
    assert fleet.code() is None
    bans["version"] += 1
    bans["bans"] = [{**WHY, "kind": "namespace", "subject": "org.acme"}]
    path.write_text(json.dumps(bans, indent=1))
    assert fleet.code() == "ATTEST_BANNED"
    path.unlink()
    assert fleet.code() == "ATTEST_BANS_UNUSABLE"


def test_a_list_from_a_url(fleet: Fleet, server: BadServer) -> None:
    fleet.start("--namespace", "org.acme")
    for name in ("bans.json", "bans.json.sig"):
        server.route(f"/{name}", reply((fleet.folder / name).read_bytes()))
    fleet.policy(BANS + f'  [[bans.source]]\n  url = "{server.url}/bans.json"\n')
    assert fleet.code() == "ATTEST_BANNED"
    server.route("/*", reply(b"", 500))
    assert fleet.code() == "ATTEST_BANNED"
    assert len(server.requests) == 2
    shutil.rmtree(fleet.folder / "state")
    for name in ("bans.json", "bans.json.sig"):
        server.route(f"/{name}", reply(b"", 500))
    assert fleet.code() == "ATTEST_BANS_UNUSABLE"


def test_a_list_from_a_tuf_repository(fleet: Fleet, server: BadServer) -> None:
    repository = TufRepository(server)
    (fleet.folder / "root.json").write_bytes(repository.start())
    fleet.start("--namespace", "org.acme")
    repository.publish({name: (fleet.folder / name).read_bytes() for name in ("bans.json", "bans.json.sig")})
    urls = f'metadata = "{server.url}/metadata", targets = "{server.url}/targets"'
    source = f'  [[bans.source]]\n  tuf = {{ {urls}, root = "root.json", target = "bans.json" }}\n'
    fleet.policy(BANS + source)
    assert fleet.code() == "ATTEST_BANNED"
    fleet.policy((BANS + source).replace('max_age = "30d"', 'max_age = "30d"\nrefresh = "1s"'))
    fleet.wcp.ok("ban", "remove", "bans.json", "--namespace", "org.acme")
    fleet.sign()
    repository.publish({name: (fleet.folder / name).read_bytes() for name in ("bans.json", "bans.json.sig")})
    time.sleep(1.1)
    assert fleet.code() is None
    repository.publish({})
    time.sleep(1.1)
    assert fleet.code() == "ATTEST_BANS_UNUSABLE"


def test_a_list_from_a_registry_must_be_asked_for_with_eyes_open(fleet: Fleet, server: BadServer) -> None:
    row = {"sha256": fleet.manifest.package_hash, "reason": "r", "reported_at": "t", "source": "s"}
    server.route("/api/v1/ban-list", reply(json.dumps({"bans": [row], "total": 1}).encode()))
    table = '[bans]\nmax_age = "1d"\nstate = "state"\n  [[bans.source]]\n'
    fleet.policy(f'{table}  registry = "{server.url}"\n  signed = false\n')
    assert fleet.code() == "ATTEST_BANNED"
    shutil.rmtree(fleet.folder / "state")
    server.route("/api/v1/ban-list", reply(b'{"bans":[],"total":0}'))
    assert fleet.code() is None
    shutil.rmtree(fleet.folder / "state")
    server.route("/api/v1/ban-list", reply(b"", 500))
    assert fleet.code() == "ATTEST_BANS_UNUSABLE"


class TestRegistryCondition:
    def answer(self, fleet: Fleet, **changes: Any) -> Any:
        known = {"worker_id": "org.acme.summarizer", "status": "active", "current_hash": fleet.manifest.package_hash}
        return reply(json.dumps({**known, **changes}).encode())

    def test_only_active_with_the_same_hash_passes(self, fleet: Fleet, server: BadServer) -> None:
        fleet.policy(f'[registry]\nrequire = true\nurl = "{server.url}"\ntimeout = "2s"\n')
        path = "/api/v1/verify/org.acme.summarizer"
        for answer, code in (
            (self.answer(fleet), None),
            (self.answer(fleet, current_hash="sha256:" + fleet.manifest.package_hash.upper()), None),
            (self.answer(fleet, current_hash=HEX), "ATTEST_NOT_ACCEPTABLE"),
            (self.answer(fleet, current_hash=None), "ATTEST_NOT_ACCEPTABLE"),
            (self.answer(fleet, status="revoked"), "ATTEST_NOT_ACCEPTABLE"),
            (self.answer(fleet, status="unknown"), "ATTEST_NOT_ACCEPTABLE"),
            (reply(b"", 404), "ATTEST_NOT_ACCEPTABLE"),
            (self.answer(fleet, status="banned"), "ATTEST_BANNED"),
            (self.answer(fleet, banned=True), "ATTEST_BANNED"),
            (self.answer(fleet, worker_id="org.acme.other"), "ATTEST_TRUST_UNUSABLE"),
            (reply(b"", 500), "ATTEST_TRUST_UNUSABLE"),
            (reply(b"", 429, headers={"Retry-After": "60"}), "ATTEST_TRUST_UNUSABLE"),
            (reply(b"<html>", kind="text/html"), "ATTEST_TRUST_UNUSABLE"),
        ):
            server.route(path, answer)
            assert fleet.code() == code

    def test_over_https_and_beside_bans(self, fleet: Fleet, tmp_path: Path) -> None:
        certificates = Certificates.make(tmp_path)
        with BadServer(certificates) as secure:
            secure.route("/*", self.answer(fleet))
            table = f'[registry]\nrequire = true\nurl = "{secure.url}"\n'
            fleet.policy(table)
            assert fleet.code() == "ATTEST_TRUST_UNUSABLE"
            fleet.start("--namespace", "org.acme")
            fleet.policy(BANS + FILE_SOURCE + table + 'ca_file = "authority.pem"\n')
            assert fleet.code() == "ATTEST_BANNED"


BAD_TABLES = [
    "[bans]\n",
    "[bans]\nmax_age = '1d'\n",
    BANS,
    BANS + "  [[bans.source]]\n",
    BANS + FILE_SOURCE + FILE_SOURCE,
    BANS + FILE_SOURCE + "  unknown = 1\n",
    BANS.replace('max_age = "30d"', "") + FILE_SOURCE,
    BANS.replace('max_age = "30d"', 'max_age = "0d"') + FILE_SOURCE,
    BANS.replace("state", "stat") + FILE_SOURCE,
    BANS.replace('state = "state"', "threshold = 2") + FILE_SOURCE,
    BANS + FILE_SOURCE + '  url = "https://x.example/bans.json"\n',
    BANS + '  [[bans.source]]\n  url = "http://x.example/bans.json"\n',
    BANS + '  [[bans.source]]\n  url = "https://x.example/bans.json?x"\n',
    BANS + '  [[bans.source]]\n  url = "https://x.example/bans.json"\n  signed = false\n',
    BANS + '  [[bans.source]]\n  registry = "https://x.example"\n',
    BANS + '  [[bans.source]]\n  tuf = { metadata = "https://x.example/m" }\n',
    BANS + '  [[bans.source]]\n  tuf = { metadata = "https://x.example/m", targets = "https://x.example/t", '
    'root = "absent.json", target = "bans.json" }\n',
    '[bans]\nmax_age = "1d"\n' + FILE_SOURCE,
    '[bans]\nmax_age = "1d"\n  [[bans.signer]]\n  key = "absent.pub"\n' + FILE_SOURCE,
    BANS + FILE_SOURCE + '  ca_file = "authority.pem"\n',
    BANS + '  [[bans.source]]\n  url = "https://x.example/"\n',
    BANS + '  [[bans.source]]\n  url = "https://x.example/bans.json"\n  ca_file = "a\\u0000b"\n',
    BANS.replace('"state"', '"st\\u0000ate"') + FILE_SOURCE,
    BANS + '  [[bans.source]]\n  file = "bans\\u0000.json"\n',
    "[registry]\n",
    "[registry]\nrequire = false\n",
    "[registry]\nrequire = true\n",
    '[registry]\nrequire = true\nurl = "http://x.example"\n',
    '[registry]\nrequire = true\nurl = "https://x.example"\ntimeout = "5m"\n',
    '[registry]\nrequire = true\nurl = "https://x.example"\nca_file = "a\\u0000b"\n',
]


@pytest.mark.parametrize("table", BAD_TABLES)
def test_a_table_that_is_wrong_is_an_error_and_not_a_policy_without_it(fleet: Fleet, table: str) -> None:
    fleet.put_list()
    fleet.policy(table)
    run = fleet.wcp("verify", "worker", "--policy", "policy.toml")
    assert run.status == 2
    assert run.err.startswith("error: ")
    assert len(run.err.splitlines()) == 1


def test_the_state_is_where_the_environment_says(fleet: Fleet) -> None:
    fleet.start()
    fleet.policy((BANS + FILE_SOURCE).replace('state = "state"\n', ""))
    assert fleet.code() is None
    assert (fleet.folder / ".local/state/wcp-attest/bans/seen.json").exists()
    (fleet.folder / "xdg").mkdir()
    assert fleet.code(XDG_STATE_HOME=str(fleet.folder / "xdg")) is None
    assert (fleet.folder / "xdg/wcp-attest/bans/seen.json").exists()
    assert fleet.code(WCP_ATTEST_STATE_DIR=str(fleet.folder / "own")) is None
    assert (fleet.folder / "own/seen.json").exists()
    assert fleet.code(WCP_ATTEST_STATE_DIR="/proc/none") == "ATTEST_BANS_UNUSABLE"


def test_check_tells_each_source(fleet: Fleet, server: BadServer) -> None:
    fleet.start()
    fleet.policy(BANS + FILE_SOURCE + f'  [[bans.source]]\n  url = "{server.url}/bans.json"\n')
    run = fleet.wcp("ban", "check", "--policy", "policy.toml", "--format", "json")
    assert run.status == 1
    assert [row["ok"] for row in run.json["lists"]] == [True, False]
    text = fleet.wcp("ban", "check", "--policy", "policy.toml")
    assert re.search(r"^OK .*version 1", text.out)
    assert "UNUSABLE  url:" in text.out
    for arguments in ((), ("bans.json",), ("bans.json", "--policy", "policy.toml", "--hmac")):
        assert fleet.wcp("ban", "check", *arguments).status == 2
    assert fleet.wcp.ok("ban", "check", "bans.json", "--policy", "policy.toml").out.startswith("OK")
    assert fleet.wcp("ban", "check", "bans.json", "--public-key", "acme.key.pub").status == 1


class TestEditing:
    def test_json_of_every_command_fits_its_schema(self, fleet: Fleet) -> None:
        wcp = fleet.wcp
        assert wcp.ok("ban", "new", "b.json", "--name", "n", "--format", "json").json["version"] == 1
        added = wcp.ok("ban", "add", "b.json", "--namespace", "org.x", *REASON, "--format", "json").json
        assert added["added"][0]["subject"] == "org.x"
        shutil.copy(fleet.folder / "b.json", fleet.folder / "old.json")
        wcp.ok("ban", "add", "b.json", "--namespace", "org.x", "--reason", "worse", "--reference", "https://x.example")
        wcp.ok("ban", "add", "b.json", "--package", HEX, *REASON, "--source", "somebody", "--expires", "2d")
        assert len(wcp.ok("ban", "sign", "b.json", "--key", "soc.key", "--format", "json").json["signers"]) == 1
        assert len(wcp.ok("ban", "show", "b.json", "--format", "json").json["entries"]) == 2
        diff = wcp("ban", "diff", "old.json", "b.json", "--format", "json")
        assert diff.status == 1
        assert [len(diff.json[part]) for part in ("added", "removed", "changed")] == [1, 0, 1]
        assert wcp("ban", "diff", "b.json", "b.json", "--format", "json").status == 0
        assert wcp.ok("ban", "compile", "b.json", "b.idx", "--format", "json").json["digests"] == 1
        assert wcp.ok("ban", "compile", "b.json", "b.idx", "--check", "--format", "json").json["written"] is False
        assert wcp.ok("ban", "check", "b.json", "--public-key", "soc.key.pub", "--format", "json").json["ok"]
        assert wcp("ban", "impact", "b.json", "worker", "--format", "json").json["judged"] == 1

    @pytest.mark.parametrize(
        "arguments",
        [
            ("new", "bans.json", "--name", "acme-soc"),
            ("new", "b.json", "--name", "No Name"),
            ("new", "b.json", "--name", "n", "--expires", "401d"),
            ("new", "b.json", "--name", "n", "--expires", "0d"),
            ("new", "no/where/b.json", "--name", "n"),
            ("add", "absent.json", "--namespace", "org.x", *REASON),
            ("add", "bans.json", *REASON),
            ("add", "bans.json", "--namespace", "org.x"),
            ("add", "bans.json", "--namespace", "com.x", *REASON),
            ("add", "bans.json", "--package", "abc", *REASON),
            ("add", "bans.json", "--package", "worker", *REASON),
            ("add", "bans.json", "--key-id", "soc.key.pub", *REASON),
            ("add", "bans.json", "--file", "absent", *REASON),
            ("add", "bans.json", "--file", "worker", *REASON),
            ("add", "bans.json", "--root", "state", *REASON),
            ("add", "bans.json", "--public-key", "soc.key", *REASON),
            ("add", "bans.json", "--namespace", "org.x", "--versions", ">1", *REASON),
            ("add", "bans.json", "--worker", "org.acme.x", "--versions", "banana", *REASON),
            ("add", "bans.json", "--namespace", "org.x", "--issuer", "https://x.example", *REASON),
            ("add", "bans.json", "--namespace", "org.x", "--reason", "two\nlines"),
            ("add", "bans.json", "--namespace", "org.x", *REASON, "--reference", "x"),
            ("add", "acme.key", "--namespace", "org.x", *REASON),
            ("add", "bans.json", "--worker", "org.acme.x", "--versions", "", *REASON),
            ("add", "bans.json", "--identity", "x@y.example", "--issuer", "", *REASON),
            ("remove", "bans.json", "--worker", "org.acme.x", "--versions", ""),
            ("remove", "bans.json", "--namespace", "org.x"),
            ("remove", "bans.json"),
            ("sign", "bans.json"),
            ("sign", "bans.json", "--key", "absent"),
            ("sign", "bans.json", "--key", "soc.key", "--key", "soc.key"),
            ("sign", "bans.json", "--key", "soc.key", "--expires", "1d"),
            ("show", "absent.json"),
            ("diff", "bans.json", "absent.json"),
            ("compile", "bans.json", "no/where/x.idx"),
            ("compile", "acme.key", "x.idx"),
            ("impact", "bans.json", "state"),
            ("impact", "absent.json", "worker"),
            ("impact", "bans.json", "worker", "--compiled"),
            ("impact", "bans.json", "absent"),
            ("impact", "bans.json"),
        ],
    )
    def test_a_mistake_is_one_line_and_changes_nothing(self, fleet: Fleet, arguments: tuple[str, ...]) -> None:
        fleet.put_list()
        (fleet.folder / "state").mkdir(exist_ok=True)
        before = {path: path.read_bytes() for path in fleet.folder.rglob("*") if path.is_file()}
        run = fleet.wcp("ban", *arguments)
        assert run.status == 2, run
        after = {path: path.read_bytes() for path in fleet.folder.rglob("*") if path.is_file()}
        assert after == before
        if arguments[0] != "impact" or "absent" not in arguments:
            assert run.err.startswith("error: ")
            assert len(run.err.splitlines()) == 1

    def test_an_hmac_secret_can_sign_too(self, fleet: Fleet) -> None:
        env = {"WCP_ATTEST_HMAC_KEY": "correct horse battery staple"}
        fleet.wcp.ok("ban", "new", "bans.json", "--name", "acme-soc")
        fleet.wcp.ok("ban", "sign", "bans.json", "--hmac", env=env)
        fleet.wcp.ok("ban", "check", "bans.json", "--hmac", env=env)
        assert (
            fleet.wcp("ban", "check", "bans.json", "--hmac", env={**env, "WCP_ATTEST_HMAC_KEY": "x" * 20}).status == 1
        )


class TestImpact:
    def stored(self, fleet: Fleet) -> Path:
        store = fleet.folder / "store"
        for number in range(4):
            key = "acme" if number < 2 else "second"
            root = fleet.sign_worker(f"w{number}", key, f"org.acme.w{number}", {"a.py": b"%d" % number})
            (store / f"{number}").mkdir(parents=True)
            for name in ("manifest.json", "manifest.sig"):
                shutil.copy(root / name, store / f"{number}" / name)
        return store

    def test_it_tells_whom_a_list_would_refuse(self, fleet: Fleet) -> None:
        store = self.stored(fleet)
        fleet.start(
            "--file", "w0/a.py", "--public-key", "second.key.pub", "--worker", "org.acme.w1", "--versions", ">9"
        )
        fleet.wcp.ok("ban", "compile", "bans.json", "bans.idx")
        for arguments in (("bans.json",), ("bans.idx", "--compiled")):
            run = fleet.wcp("ban", "impact", *arguments, store, "--format", "json")
            assert run.status == 1
            assert [Path(each["path"]).parent.name for each in run.json["refused"]] == ["0", "2", "3"]
            assert run.json["judged"] == 4
        assert "3 of 4 manifests would be refused" in fleet.wcp("ban", "impact", "bans.json", store).out
        one = fleet.wcp("ban", "impact", "bans.json", store / "1" / "manifest.json")
        assert one.status == 0

    def test_a_pair_is_judged_and_banned_wherever_it_lies(self, fleet: Fleet) -> None:
        """Beside the package, in `.wcp/` because another program owns the name, and in a directory of its own."""
        folder = fleet.folder / "places"
        for name in ("beside", "folder", "detached"):
            (folder / name / "static").mkdir(parents=True)
            (folder / name / "a.py").write_text(name)
            (folder / name / "static" / "manifest.json").write_text('{"name": "a web application"}')
        (folder / "folder" / "manifest.json").write_text('{"name": "a browser extension"}')
        for name in ("beside", "folder", "detached"):
            identity = ("--worker-id", f"org.acme.{name}", "--species-id", "wrk.a.b", "--worker-version", "1.0.0")
            aside = ("--attestation", "places/pair") if name == "detached" else ()
            if aside:
                (folder / "pair").mkdir()
            fleet.wcp.ok("sign", f"places/{name}", "--key", "acme.key", *identity, *aside)
        fleet.start("--namespace", "x.nobody")
        assert fleet.wcp("ban", "impact", "bans.json", "places").status == 0
        denied = fleet.wcp("ban", "add", "bans.json", "--root", "places/detached", "--reason", "x")
        assert denied.status == 2
        assert "name the pair's directory" in denied.err
        for root, worker in (("beside", "beside"), ("folder", "folder"), ("pair", "detached")):
            fleet.wcp.ok("ban", "new", f"{worker}.json", "--name", "acme")
            fleet.wcp.ok("ban", "add", f"{worker}.json", "--root", f"places/{root}", "--reason", "x")
            run = fleet.wcp("ban", "impact", f"{worker}.json", "places", "--format", "json")
            assert run.status == 1
            assert [each["worker_id"] for each in run.json["refused"]] == [f"org.acme.{worker}"]
            assert (run.json["judged"], run.json["foreign"], run.json["undecided"]) == (3, 3, [])
        fleet.wcp.ok("ban", "add", "beside.json", "--public-key", "acme.key.pub", "--reason", "stolen")
        run = fleet.wcp("ban", "impact", "beside.json", "places", "--format", "json")
        assert len(run.json["refused"]) == 3
        alone = fleet.wcp("ban", "impact", "bans.json", "places/folder/manifest.json")
        assert alone.status == 2
        assert "another program" in alone.err
        assert fleet.wcp("ban", "impact", "bans.json", "places/detached").status == 2

    def test_excludes_are_no_all_clear_where_files_are_banned(self, fleet: Fleet) -> None:
        root = write_files(fleet.folder / "w", {"a.py": b"1", "b.log": b"2"})
        identity = ("--worker-id", "org.acme.w", "--species-id", "wrk.a.b", "--worker-version", "1.0.0")
        fleet.wcp.ok("sign", "w", "--key", "acme.key", *identity, "--exclude", "*.log")
        fleet.start("--file-digest", "0" * 64)
        run = fleet.wcp("ban", "impact", "bans.json", root, "--format", "json")
        assert run.status == 2
        assert "'*.log'" in run.json["undecided"][0]["message"]

    def test_what_cannot_be_judged_is_said_and_is_no_all_clear(self, fleet: Fleet) -> None:
        store = self.stored(fleet)
        fleet.start("--namespace", "x.nobody")
        assert fleet.wcp("ban", "impact", "bans.json", store).status == 0
        (store / "1" / "manifest.json").write_bytes(b"{}")
        (store / "2" / "manifest.sig").write_bytes(b"{}")
        run = fleet.wcp("ban", "impact", "bans.json", store, "--format", "json")
        assert run.status == 2
        assert len(run.json["undecided"]) == 2


class TestSchema:
    validator = Draft202012Validator(json.loads((SCHEMAS / "ban-list.json").read_bytes()))

    def test_what_is_written_fits(self) -> None:
        self.validator.validate(json.loads(BanList.make(HEAD, EVERY_KIND).to_bytes()))

    @pytest.mark.parametrize(
        "entry",
        [
            {"kind": "colour", "subject": "red"},
            {"kind": "package", "subject": "abc"},
            {"kind": "file", "subject": "blake3:" + HEX},
            {"kind": "package", "subject": HEX, "versions": ">1"},
            {"kind": "worker", "subject": "org.acme"},
            {"kind": "namespace", "subject": "org.acme.x"},
            {"kind": "identity", "subject": "*"},
            {"kind": "identity", "subject": "a*b"},
            {"kind": "namespace", "subject": "org.acme", "allow": "yes"},
            {"kind": "namespace", "subject": "org.acme", "reason": "two\nlines"},
            {"kind": "namespace", "subject": "org.acme", "reference": "x"},
        ],
    )
    def test_it_refuses_what_is_refused(self, entry: dict[str, str]) -> None:
        value = {**json.loads(BanList.make(HEAD, ()).to_bytes()), "bans": [{**WHY, **entry}]}
        assert not self.validator.is_valid(value)
        with pytest.raises(BansUnusable):
            BanList.from_bytes(json.dumps(value).encode())
