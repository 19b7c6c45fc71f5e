"""Nothing of the user's is overwritten or deleted: every writer, over every kind of thing in its place."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.cli.inprocess import ID, ok, wcp
from tests.limits import small_files
from wcp_attest import HmacSecret, sign
from wcp_attest.base.errors import ConfigError
from wcp_attest.disk.overwrite import OutputKind, Planned, check_place, only_writer, set_aside, write_file, write_files
from wcp_attest.package.ours import is_manifest, is_signature_file
from wcp_attest.signing.key import generate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FOREIGN = {
    "an extension": '{"manifest_version": 3, "name": "mine", "version": "1.0"}',
    "a web app": '{"name": "App", "icons": []}',
    "another schema": '{"schema_version": "awp.v3", "worker_id": "org.acme.w"}',
    "a name of ours in a value": '{"note": {"schema_version": "awp.v2", "worker_id": "x"}}',
    "a list": "[1, 2]",
    "text": "notes of years\n",
    "binary": "\x00\x01\x02",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a key `k` and a package `p`, neither built nor signed."""
    for name in list(os.environ):
        if name.startswith(("WCP_ATTEST_", "SOURCE_DATE_EPOCH")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    signer = generate()
    (tmp_path / "k").write_bytes(signer.to_pem(None))
    (tmp_path / "k.pub").write_bytes(signer.public_pem())
    (tmp_path / "p").mkdir()
    (tmp_path / "p/a").write_text("a\n")
    return tmp_path


def state(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_recognises_no_foreign_manifest(content: str) -> None:
    assert not is_manifest(content.encode())


def test_recognises_manifests_as_written_and_reformatted(place: Path) -> None:
    ok("build", "p", *ID)
    data = (place / "p/manifest.json").read_bytes()
    fields = json.loads(data)
    for form in (
        data,
        data.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + data,
        b"\xef\xbb\xbf" + json.dumps(fields).encode(),
        b"<<<<<<< HEAD\n" + data,
        data.replace(b'"worker_id"', b'<<<<<<< ours\n"worker_id"', 1),
        json.dumps(fields, indent=4).encode(),
        json.dumps(fields).encode(),
    ):
        assert is_manifest(form)
    assert is_manifest(b'{"worker_id": "org.acme.w", "schema_version": "awp.v1"}')


def test_recognises_only_signature_files_of_packages(place: Path) -> None:
    ok("sign", "p", "--key", "k", *ID)
    data = (place / "p/manifest.sig").read_bytes()
    assert is_signature_file(data)
    assert is_signature_file(b"")
    for other in (data + b"a note\n", b"RSA signature of another system\n", b"{}\n", data[:-40] + b"\n"):
        assert not is_signature_file(other)


COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "sign": (("sign", "p", "--key", "k", *ID), "p/manifest.sig"),
    "build": (("build", "p", *ID), "p/manifest.sig"),
    "build awp.v1": (("build", "p", "--schema", "awp.v1", "--hmac-file", "secret", *ID), "p/manifest.sig"),
    "ban compile": (("ban", "compile", "l.json", "c"), "c"),
    "verify -o": (("verify", "q", "--public-key", "k.pub", "--namespace", "org.acme", "-o", "r"), "r"),
    "hash -o": (("hash", "p", "-o", "r", "--format", "json"), "r"),
    "keygen": (("keygen", "n", "--no-passphrase"), "n"),
    "keygen, public": (("keygen", "n", "--no-passphrase"), "n.pub"),
    "policy init": (("policy", "init", "pol.toml", "--namespace", "org.acme", "--public-key", "k.pub"), "pol.toml"),
    "ban new": (("ban", "new", "n.json", "--name", "acme"), "n.json"),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("kind", ["a file", "a link", "a directory", "a fifo"])
def test_no_command_replaces_what_is_not_its_own(place: Path, name: str, kind: str) -> None:
    (place / "secret").write_text("correct horse battery staple")
    ok("ban", "new", "l.json", "--name", "acme")
    (place / "q").mkdir()
    (place / "q/a").write_text("a\n")
    ok("sign", "q", "--key", "k", *ID)
    command, target = COMMANDS[name]
    path = place / target
    if kind == "a file":
        path.write_text("notes of years\n")
    elif kind == "a link":
        (place / "elsewhere").write_text("notes of years\n")
        path.symlink_to(place / "elsewhere")
    elif kind == "a directory":
        path.mkdir()
        (path / "notes").write_text("notes of years\n")
    else:
        os.mkfifo(path)
    before = state(place)
    ran = wcp(*command)
    beside = name in ("sign", "build") and (place / "p/.wcp/manifest.json").exists()
    assert ran.status == 0 if beside else ran.status in (1, 2), ran  # the pair goes where nothing is in its way
    assert path.is_symlink() == (kind == "a link")
    assert path.is_fifo() == (kind == "a fifo")
    assert {name: data for name, data in state(place).items() if not name.startswith("p/.wcp/")} == before


# Put a file at the place of another one at the last moment, when the command is about to give that one its name.
FASTER = """
import os, sys
target = os.path.realpath(sys.argv[1])
def hook(event, arguments):
    if event == "os.link" and os.path.realpath(arguments[1]) == target and not os.path.exists(target):
        with open(target, "w") as file:
            file.write("notes of years")
from wcp_attest.cli import program
sys.argv[1:] = sys.argv[2:]
sys.addaudithook(hook)
program()
"""


@pytest.mark.parametrize("name", ["sign", "build", "verify -o", "policy init", "ban new"])
def test_no_command_replaces_what_another_program_makes_meanwhile(place: Path, name: str) -> None:
    (place / "q").mkdir()
    (place / "q/a").write_text("a\n")
    ok("sign", "q", "--key", "k", *ID)
    command, target = COMMANDS[name]
    target = "p/manifest.json" if name == "build" else target
    before = state(place)
    done = subprocess.run(
        [sys.executable, "-c", FASTER, target, *command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr.count("error: ")) == (2, 1), done
    assert state(place) == {**before, target: b"notes of years"}


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "--force"])
@pytest.mark.parametrize(
    ("command", "target"),
    [
        (("ban", "add", "l.json", "--worker", "org.acme.x", "--reason", "leaks", "--key", "k"), "l.json.sig"),
        (("ban", "sign", "l.json", "--key", "k"), "l.json.sig"),
        (("ban", "check", "l.json", "--public-key", "k.pub"), "l.json.sig"),
        (("keygen", "n", "--no-passphrase"), "n.pub"),
        (("sign", "p", "--key", "k", *ID, "--attestation", "pair"), "pair/manifest.sig"),
        (("build", "p", *ID, "--attestation", "pair"), "pair/manifest.json"),
        (("init", "q"), "q/worker_logic.py"),
        (
            ("verify", "q", "--public-key", "k.pub", "--namespace", "org.acme", "--attest-verdict", "k"),
            "q.verdict.jsonl",
        ),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else value,
)
def test_no_result_goes_where_the_command_writes_something_else(
    place: Path, command: tuple[str, ...], target: str, force: tuple[str, ...]
) -> None:
    ok("ban", "new", "l.json", "--name", "acme")
    (place / "q").mkdir()
    (place / "q/a").write_text("a\n")
    ok("sign", "q", "--key", "k", *ID)
    (place / "pair").mkdir()
    before = state(place)
    ran = wcp(*command, "-o", target, *force)
    assert (ran.status, "another place" in ran.err, ran.err.count("\n")) == (2, True, 1), ran
    assert state(place) == before


def test_a_result_replaces_an_earlier_result_of_each_format(place: Path) -> None:
    ok("sign", "p", "--key", "k", *ID)
    trust = ("--public-key", "k.pub", "--namespace", "org.acme")
    for formats in (("text", "json", "sarif", "text"), ("json", "text")):
        for one in formats:
            ok("verify", "p", *trust, "--format", one, "-o", "r")
    ok("policy", "init", "pol.toml", "--namespace", "org.acme", "--public-key", "k.pub")
    ok("ban", "new", "list.json", "--name", "acme")
    for number, command in enumerate(
        (
            *(
                ("hash", "p"),
                ("hash", "p", "--list"),
                ("diff", "p"),
                ("show", "p"),
                ("clean", "p"),
                ("explain", "banned"),
            ),
            *(("policy", "show", "pol.toml"), ("policy", "check", "pol.toml"), ("ban", "show", "list.json")),
            *(("completion", "bash"), ("completion", "zsh"), ("completion", "fish")),
        )
    ):
        ok(*command, "-o", f"{number}.txt")
        ok(*command, "-o", f"{number}.txt")
    (place / "empty").touch()
    ok("hash", "p", "-o", "empty")


def test_a_result_never_replaces_what_the_policy_reads(place: Path) -> None:
    ok("sign", "p", "--key", "k", *ID)
    ok("policy", "init", "pol.toml", "--namespace", "org.acme", "--public-key", "k.pub")
    before = state(place)
    for target in ("k.pub", "pol.toml", "k"):
        assert wcp("verify", "p", "--policy", "pol.toml", "-o", target).status == 2
    assert state(place) == before


def test_outputs_are_checked_before_anything_is_signed(place: Path) -> None:
    (place / "r").write_text("notes of years\n")
    before = state(place)
    for extra in (("-o", "r"), ("-o", "absent/r"), ("-o", "p/r")):
        assert wcp("sign", "p", "--key", "k", *ID, *extra).status == 2
        assert state(place) == before


def test_force_keeps_the_old_file_and_never_a_kept_one(place: Path) -> None:
    init = ("policy", "init", "pol.toml", "--namespace", "org.acme", "--public-key", "k.pub", "--force")
    (place / "pol.toml").write_text("mine 1")
    assert "as pol.toml.orig\n" in ok(*init).err
    (place / "pol.toml").write_text("mine 2")
    assert "as pol.toml.orig.2\n" in ok(*init).err
    assert [(place / name).read_text() for name in ("pol.toml.orig", "pol.toml.orig.2")] == ["mine 1", "mine 2"]
    before = state(place)
    ok(*init)
    assert state(place) == before, "the same text is no reason to keep a copy"


def test_init_force_changes_all_files_or_none(place: Path) -> None:
    (place / "w/code").mkdir(parents=True)
    (place / "w/code/worker_logic.py").write_text("MINE")
    (place / "w/config.schema.json").mkdir()
    assert wcp("init", "w", "--force").status == 2
    assert state(place / "w") == {"code/worker_logic.py": b"MINE"}
    (place / "w/config.schema.json").rmdir()
    ok("init", "w", "--force")
    assert (place / "w/code/worker_logic.py.orig").read_text() == "MINE"
    assert wcp("init", "x/y", "--worker-id", "bad").status == 2
    assert not (place / "x").exists()


def test_a_group_of_files_is_taken_back_when_the_last_cannot_be_put(tmp_path: Path) -> None:
    kind = OutputKind("anything", lambda data: True)
    (tmp_path / "a").write_text("old")
    (tmp_path / "full").mkdir(mode=0o755)
    planned = [Planned(str(tmp_path / "a"), b"new", kind), Planned(str(tmp_path / "absent/b"), b"new", kind)]
    with pytest.raises(ConfigError, match="nothing was changed"):
        write_files(planned)
    assert state(tmp_path) == {"a": b"old"}


def test_a_name_that_is_taken_is_not_used_to_keep_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "a.orig").symlink_to("nowhere")
    assert set_aside(str(tmp_path / "a")) == str(tmp_path / "a.orig.2")
    assert (tmp_path / "a.orig").is_symlink()


def test_a_folder_that_cannot_be_written_to_is_named_before_the_work(tmp_path: Path) -> None:
    kind = OutputKind("anything", lambda data: True)
    for path in (tmp_path / "absent/f", tmp_path / ("x" * 300), tmp_path / "a\0b"):
        with pytest.raises(ConfigError, match="nothing was changed"):
            check_place(str(path), kind)


# clean


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "conflict markers": lambda data: b"<<<<<<< HEAD\n" + data,
    "unknown schema": lambda data: data.replace(b"awp.v2", b"awp.v9"),
    "cut short": lambda data: data[: len(data) // 2],
    "not text": lambda data: b"\xff\xfe" + data,
}


@pytest.mark.parametrize("nested", [False, True], ids=["root", "nested"])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_clean_removes_nothing_when_a_manifest_cannot_be_read(
    place: Path, damage: Callable[[bytes], bytes], nested: bool
) -> None:
    (place / "p/__pycache__").mkdir()
    (place / "p/__pycache__/m.pyc").write_text("x")
    ok("sign", "p", "--key", "k", *ID, "--bytecode", "include")
    manifest = place / "p/manifest.json"
    manifest.write_bytes(damage(manifest.read_bytes()))
    before = state(place)
    ran = wcp("clean", "." if nested else "p")
    assert ran.status == 2
    assert "nothing was removed" in ran.err
    assert state(place) == before


def test_clean_keeps_what_nested_packages_list_and_stays_out_of_version_control(place: Path) -> None:
    (place / "p/__pycache__").mkdir()
    (place / "p/__pycache__/m.pyc").write_text("x")
    ok("sign", "p", "--key", "k", *ID, "--bytecode", "include")
    subprocess.run(["git", "init", "-q", "."], check=True)
    subprocess.run(["git", "init", "-q", "--bare", "bare.git"], check=True)
    kept = [".git/refs/heads/fix.pyc", "bare.git/refs/heads/fix.pyc", "p/__pycache__/m.pyc", "sub/.git", ".hg/x.pyc"]
    for name in kept[:2] + kept[3:]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("precious")
    (place / "web").mkdir()
    (place / "web/manifest.json").write_text(FOREIGN["an extension"])
    (place / "web/x.pyc").write_text("x")
    (place / "outside").mkdir()
    ok("clean", ".")
    assert all((place / name).exists() for name in kept)
    assert not (place / "web/x.pyc").exists()
    ok("verify", "p", "--public-key", "k.pub", "--namespace", "org.acme")


# two at once


def test_two_signers_at_once_lose_no_signature(place: Path) -> None:
    ok("build", "p", *ID)
    secrets = [HmacSecret(f"secret number {number}".encode() * 2) for number in range(8)]
    with ThreadPoolExecutor(len(secrets)) as pool:
        results = list(pool.map(lambda secret: sign("p", [secret]), secrets))
    assert sorted(result.kept for result in results) == list(range(len(secrets)))
    assert (place / "p/manifest.sig").read_bytes().count(b"\n") == len(secrets)


def test_a_writer_that_does_not_end_is_named_at_the_deadline(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        with (
            pytest.raises(ConfigError, match="another wcp-attest process has been writing"),
            only_writer(str(tmp_path), deadline=0.1),
        ):
            raise AssertionError("entered")
    finally:
        os.close(descriptor)
    with only_writer(str(tmp_path), deadline=0.1):
        pass


def test_force_lets_a_result_replace_another_file_and_keeps_it(place: Path) -> None:
    (place / "r").write_text("notes of years\n")
    refused = wcp("hash", "p", "-o", "r")
    assert refused.status == 2
    assert "--force" in refused.err
    assert "kept beside it, as r.orig\n" in ok("hash", "p", "-o", "r", "--force").err
    assert (place / "r").read_text().startswith("sha256:")
    assert (place / "r.orig").read_text() == "notes of years\n"
    ok("hash", "p", "-o", "r", "--force", "--format", "json")  # an earlier result needs no keeping
    assert not (place / "r.orig.2").exists()


def test_force_replaces_nothing_that_the_command_names_or_that_is_no_file(place: Path) -> None:
    ok("sign", "p", "--key", "k", *ID)
    ok("policy", "init", "pol.toml", "--namespace", "org.acme", "--public-key", "k.pub")
    (place / "folder").mkdir()
    (place / "link").symlink_to("k.pub")
    before = state(place)
    for target in ("k.pub", "pol.toml", "folder", "link", "p/r", "p/a"):
        assert wcp("verify", "p", "--policy", "pol.toml", "-o", target, "--force").status == 2, target
    assert state(place) == before


def test_force_without_a_result_file_changes_nothing(place: Path) -> None:
    before = state(place)
    ok("hash", "p", "--force")
    assert state(place) == before


def test_a_file_that_cannot_be_replaced_gets_no_second_name(tmp_path: Path) -> None:
    place = tmp_path / "a"
    place.write_text("mine")
    with small_files(1 << 16), pytest.raises(ConfigError, match="nothing was changed"):
        write_file(str(place), bytes(1 << 20), OutputKind("ours", lambda _: False), force=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "mine")]
