"""`wcp-attest run`: what was verified is what runs, whatever the environment, the folder and other users try."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import forked
from tests.bubblewrap import bubblewrap
from tests.store.worlds import KEY, NOBODY, WORKER, a_root_kept_place, make_package, needs_root, remove, resign
from wcp_attest.run_package import environment_for
from wcp_attest.store import StoredPackage

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = str(forked.SCRIPT)


class World:
    """A signed package, its public key, a home, and the command."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.home = place / "home"
        self.home.mkdir()
        self.package = make_package(place / "worker", now=time.time())
        self.key = place / "acme.pub"
        self.key.write_bytes(KEY.public_pem())

    @property
    def trust(self) -> list[str]:
        return ["--public-key", str(self.key), "--namespace", "org.acme"]

    def environment(self, **more: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), **more}

    def run(
        self, *arguments: object, env: dict[str, str] | None = None, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        words, environment = ["run", *self.trust, *map(str, arguments)], self.environment(**(env or {}))
        if how.keys() <= {"cwd"}:
            done = forked.run(words, env=environment, **how)
        else:
            done = subprocess.run(
                [SCRIPT, *words], env=environment, capture_output=True, text=True, timeout=60, check=False, **how
            )
        assert "Traceback" not in done.stderr, done.stderr
        return done


@pytest.fixture
def world() -> Iterator[World]:
    place = Path(tempfile.mkdtemp(prefix="wcp-attest-test-"))
    place.chmod(0o755)
    yield World(place)
    remove(place)


def test_the_command_runs_from_what_was_verified(world: World) -> None:
    done = world.run(world.package, "--", "sh", "-c", "pwd; cat code/worker_logic.py; echo $WCP_PACKAGE_ROOT")
    assert done.returncode == 0, done.stderr
    here, code, root = done.stdout.splitlines()
    assert here == root != str(world.package)
    assert here.startswith(str(world.home / ".local/state/wcp-attest/store"))
    assert code == "print('hello')"
    assert f"verified {WORKER} 1.4.0" in done.stderr


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (["sh", "-c", "exit 7"], 7),
        (["no-such-command"], 127),
        (["./no-such-file"], 127),
        (["code/worker_logic.py"], 126),
        (["code"], 127),
        (["code/run"], 0),
        (["sh", "-c", "kill -TERM $$"], -signal.SIGTERM),
    ],
)
def test_the_status_is_the_commands_own_or_what_posix_says(command: list[str], status: int, world: World) -> None:
    assert world.run(world.package, "--", *command).returncode == status


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-such-flag"],
        ["--user", "no-such-user-here"],
        ["--store-owner", "no-such-user-here"],
        ["--network"],
        ["--store", ""],
    ],
)
def test_a_mistake_of_the_caller_is_125(arguments: list[str], world: World) -> None:
    done = world.run(*arguments, world.package, "--", "true")
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.splitlines()[-1].startswith("error: ")


@pytest.mark.parametrize("store", ["own", "none"])
def test_a_package_that_changed_does_not_run_not_even_the_second_time(store: str, world: World) -> None:
    how = ["--no-store"] if store == "none" else []
    assert world.run(*how, world.package, "--", "true").returncode == 0
    (world.package / "code" / "worker_logic.py").write_text("import os\n")
    done = world.run(*how, world.package, "--format", "json", "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    verdict = json.loads(done.stderr)
    assert (verdict["ok"], verdict["code"], verdict["exit_status"]) == (False, "ATTEST_HASH_MISMATCH", 125)


def test_the_verdict_of_a_pass_is_json_on_standard_error(world: World) -> None:
    import jsonschema

    done = world.run(world.package, "--format", "json", "--", "echo", "ran")
    assert done.stdout == "ran\n"
    verdict = json.loads(done.stderr)
    schema = json.loads((Path(__file__).parents[2] / "wcp_attest/schemas/verify-result.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(verdict)
    assert verdict["content"] in {"hashed", "owner"}
    assert verdict["path"].endswith("/package")


def test_a_swap_after_the_verification_changes_nothing(world: World) -> None:
    program = "sleep 0.3; cat code/worker_logic.py"
    running = subprocess.Popen(
        [SCRIPT, "run", *world.trust, str(world.package), "--", "sh", "-c", f"echo up; {program}"],
        env=world.environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        (world.package / "code" / "worker_logic.py").write_text("evil\n")
        world.package.rename(world.place / "gone")
        assert running.stdout.read() == "print('hello')\n"
    assert running.returncode == 0


@needs_root
def test_a_worker_of_another_user_cannot_write_into_a_store_of_root(world: World) -> None:
    attack = "echo x > code/worker_logic.py || chmod u+w code || mv code x || echo REFUSED"
    with a_root_kept_place() as place:
        how = ["--store", place / "store", "--user", f"{NOBODY}:{NOBODY}"]
        done = world.run(*how, world.package, "--", "sh", "-c", attack)
        assert done.stdout == "REFUSED\n", done.stderr
        done = world.run(*how, WORKER, "--", "cat", "code/worker_logic.py")
        assert done.stdout == "print('hello')\n"
        assert "kept by its owner" in done.stderr


def test_a_worker_that_writes_into_an_own_store_is_found_out_at_the_next_start(world: World) -> None:
    write = "chmod u+w code code/worker_logic.py; echo evil > code/worker_logic.py"
    assert world.run(world.package, "--", "sh", "-c", write).returncode == 0
    done = world.run("--require-hashed", WORKER, "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (125, "")
    assert "ATTEST_HASH_MISMATCH" in done.stderr


@pytest.mark.parametrize("store", ["own", "temporary"])
def test_an_own_store_and_a_temporary_copy_are_closed_to_other_users(store: str, world: World) -> None:
    how = ["--no-store"] if store == "temporary" else []
    look = "umask 0; find ../.. ! -type l -perm /022 ! -path '*/home'"  # what somebody else could write
    done = world.run(*how, world.package, "--", "sh", "-c", look, env={"TMPDIR": str(world.place)}, umask=0)
    assert (done.returncode, done.stdout) == (0, ""), done
    assert world.run(*how, world.package, "--", "find", "..", "-name", "run").stdout  # it would have been seen


def test_nothing_of_the_environment_or_the_folder_gets_other_code_in(world: World, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in (
        "sitecustomize.py",
        "usercustomize.py",
    ):  # which also hit wcp-attest itself; it is the command that counts
        (trap / name).write_text("import os\nif 'WCP_PACKAGE_ROOT' in os.environ:\n    print('TRAPPED')\n")
    (trap / "profile").write_text("echo TRAPPED\n")
    attack = {
        "PYTHONPATH": str(trap), "PYTHONSTARTUP": str(trap / "sitecustomize.py"), "PYTHONUSERBASE": str(trap),
        "PYTHONPYCACHEPREFIX": str(trap), "PYTHONBREAKPOINT": "json.x",
        "LD_LIBRARY_PATH": str(trap),
        "BASH_ENV": str(trap / "profile"), "ENV": str(trap / "profile"), "NODE_OPTIONS": "--require x",
        "GCONV_PATH": str(trap), "PERL5LIB": str(trap), "RUBYOPT": "-rx", "JAVA_TOOL_OPTIONS": "-javaagent:x",
        "WCP_ATTEST_HMAC_KEY": "a secret of good length", "SIGSTORE_ID_TOKEN": "t", "WCP_ROUTE_DATABASE": "d",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t", "ACTIONS_ID_TOKEN_REQUEST_URL": "u",
        "BASH_FUNC_cat%%": "() { echo TRAPPED; }",
        "PATH": f".::{trap.name}:{os.environ['PATH']}",
    }  # fmt: skip
    program = "import json, os; print(json.dumps(dict(os.environ)))"
    done = world.run(world.package, "--", sys.executable, "-c", program, env=attack, cwd=trap)
    assert done.returncode == 0, done.stderr
    assert "TRAPPED" not in done.stdout.replace(str(trap), "")
    found = json.loads(done.stdout.splitlines()[-1])
    assert not {name for name in attack if name != "PATH"} & set(found)
    assert all(place.startswith("/") for place in found["PATH"].split(":"))
    assert (found["PYTHONDONTWRITEBYTECODE"], found["PYTHONSAFEPATH"]) == ("1", "1")
    assert len(found["WCP_PACKAGE_SHA256"]) == 64


def a_held(place: Path) -> StoredPackage:
    from types import SimpleNamespace

    return StoredPackage(SimpleNamespace(manifest_sha256="ab" * 32), str(place), "hashed", "", (-1, -1))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "DYLD_INSERT_LIBRARIES",
        "PYTHONPATH",
        "PYTHONHOME",
        "PYTHONINSPECT",
        "PYTHONUSERBASE",
        "PYTHON_FUTURE",
        "NODE_OPTIONS",
        "NODE_PATH",
        "BASH_ENV",
        "ENV",
        "PERL5OPT",
        "RUBYLIB",
        "JAVA_TOOL_OPTIONS",
        "_JAVA_OPTIONS",
        "GCONV_PATH",
        "GLIBC_TUNABLES",
        "WCP_ATTEST_KEY_PASSPHRASE",
        "WCP_ATTEST_ANYTHING",
        "SIGSTORE_ID_TOKEN",
    ],
)
def test_a_dangerous_variable_goes_unless_it_is_named(name: str, tmp_path: Path) -> None:
    held = a_held(tmp_path)
    assert name not in {**environment_for(held, {name: "x", "LANG": "C"})} or name.startswith("PYTHONSAFE")
    assert environment_for(held, {name: "x"}, keep=[name])[name] == "x"
    assert environment_for(held, {"LANG": "C", "OTHER": "1"}, clean=True).get("OTHER") is None


def test_python_may_import_from_named_directories_of_the_package_only(world: World) -> None:
    program = (
        "import importlib.util as u, sys; "
        "sys.exit(7) if u.find_spec('worker_logic') is None else __import__('worker_logic')"
    )
    assert world.run(world.package, "--", sys.executable, "-c", program).returncode == 7
    done = world.run("--python-path", "code", world.package, "--", sys.executable, "-c", program)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr
    for outside in ("..", "/tmp", "code/../../.."):
        assert world.run("--python-path", outside, world.package, "--", "true").returncode == 125


def test_descriptors_beyond_2_are_closed(world: World) -> None:
    reader, writer = os.pipe()
    try:
        done = world.run(world.package, "--", "sh", "-c", "ls /proc/self/fd", pass_fds=(reader, writer))
        assert set(done.stdout.split()) <= {"0", "1", "2", "3"}, done.stdout
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("how", [[], ["--no-store"]])
def test_a_signal_reaches_the_command_and_its_end_is_seen(how: list[str], world: World) -> None:
    program = "trap 'echo got; exit 3' TERM; echo up; while :; do sleep 0.05; done"
    running = subprocess.Popen(
        [SCRIPT, "run", *world.trust, *how, str(world.package), "--", "sh", "-c", program],
        env=world.environment(TMPDIR=str(world.place)), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.read() == "got\n"
    assert running.returncode == 3


def test_a_broken_pipe_ends_the_command_as_it_would_in_a_shell(world: World) -> None:
    line = f'"{SCRIPT}" run --public-key "{world.key}" --namespace org.acme "{world.package}" -q -- yes | head -n 1'
    done = subprocess.run(["sh", "-c", line], env=world.environment(), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("y\n", "")


def test_the_command_has_the_terminal(world: World) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [SCRIPT, "run", "-q", *world.trust, str(world.package), "--", "sh", "-c", "test -t 0 && test -t 1 && echo yes"],
        env=world.environment(), stdin=theirs, stdout=theirs, stderr=theirs, timeout=60, check=False,
    )  # fmt: skip
    os.close(theirs)
    assert done.returncode == 0
    assert os.read(ours, 100).strip() == b"yes"
    os.close(ours)


@pytest.mark.parametrize("ending", ["exit 0", "kill -9 $$"])
def test_a_temporary_copy_goes_when_the_command_ends_however_it_ends(ending: str, world: World) -> None:
    done = world.run("--no-store", world.package, "--", "sh", "-c", f"pwd; {ending}", env={"TMPDIR": str(world.place)})
    here = Path(done.stdout.strip())
    assert here.is_relative_to(world.place)
    deadline = time.monotonic() + 30
    while list(world.place.glob("wcp-attest-run-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(world.place.glob("wcp-attest-run-*")) == []
    assert not (world.home / ".local").exists()


def test_a_ban_an_expired_signature_or_a_changed_policy_stops_the_next_start(world: World) -> None:
    assert world.run(world.package, "--", "true").returncode == 0
    bans = world.place / "bans.json"
    made = subprocess.run(
        [SCRIPT, "ban", "new", bans, "--name", "acme-soc", "--expires", "7d"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    subprocess.run(
        [SCRIPT, "ban", "add", bans, "--worker", WORKER, "--reason", "test"], check=True, capture_output=True
    )
    for named in (WORKER, str(world.package)):
        done = world.run("--bans", bans, named, "--", "echo", "ran")
        assert (done.returncode, done.stdout) == (125, "")
        assert "ATTEST_BANNED" in done.stderr
    policy = world.place / "policy.toml"
    head = 'version = 1\n[[namespace]]\nname = "org.acme"\n  [[namespace.signer]]\n  key = "acme.pub"\n'
    for text, status in (
        (head, 0),
        (head + '[accept]\nmax_age = "1s"\n', 125),
        (head.replace("org.acme", "org.x"), 125),
    ):
        policy.write_text(text)
        if "max_age" in text:
            time.sleep(1.1)
        done = subprocess.run(
            [SCRIPT, "run", "--policy", policy, WORKER, "--", "true"],
            env=world.environment(), check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, done.stderr


def test_a_worker_id_runs_the_newest_release_and_a_version_the_one_named(world: World) -> None:
    world.run(world.package, "--", "true")
    (world.package / "code" / "worker_logic.py").write_text("print('next')\n")
    resign(world.package, "1.5.0", now=time.time())
    world.run(world.package, "--", "true")
    assert world.run(WORKER, "--", "cat", "code/worker_logic.py").stdout == "print('next')\n"
    assert world.run(f"{WORKER}@1.4.0", "--", "cat", "code/worker_logic.py").stdout == "print('hello')\n"
    assert world.run(f"{WORKER}@9", "--", "true").returncode == 125


@needs_root
def test_a_start_from_an_entry_of_root_imports_little_more_than_verify(world: World) -> None:
    def imported(*arguments: object) -> set[str]:
        command = [sys.executable, "-X", "importtime", "-m", "wcp_attest", *map(str, arguments)]
        done = subprocess.run(command, env=world.environment(), capture_output=True, text=True, timeout=60, check=True)
        return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time")}

    with a_root_kept_place() as place:
        store = ["--store", place / "store"]
        assert world.run(world.package, *store, "--", "true").returncode == 0
        ours = imported("run", WORKER, *world.trust, *store, "-q", "--", "true")
    more = ours - imported("verify", world.package, *world.trust, "-q")
    assert not more & {"ctypes", "shutil", "tempfile", "random", "subprocess", "lzma"}, more
    assert len([name for name in more if not name.startswith("wcp_")]) <= 6, more


@needs_root
def test_root_drops_every_right_before_the_command_runs(world: World) -> None:
    with a_root_kept_place() as place:
        done = world.run(
            "--store", place / "store", "--user", f"{NOBODY}:{NOBODY}", world.package, "--", "sh", "-c",
            "id -u; id -g; id -G; grep CapEff /proc/self/status; cat code/worker_logic.py",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:3] == [str(NOBODY)] * 3
    assert "0000000000000000" in done.stdout
    assert done.stdout.endswith("print('hello')\n")


@needs_root
def test_a_user_who_cannot_reach_the_store_is_told(world: World) -> None:
    world.home.chmod(0o700)
    done = world.run("--user", f"{NOBODY}:{NOBODY}", world.package, "--", "true")
    assert done.returncode == 125
    assert "cannot reach" in done.stderr


def test_only_root_runs_a_command_as_another_user(world: World) -> None:
    if os.geteuid() == 0:
        pytest.skip("we are root")
    assert world.run("--user", "root", world.package, "--", "true").returncode == 125


def test_output_that_is_still_held_when_the_command_has_ended_is_not_taken_for_empty(world: World) -> None:
    """As `subprocess.run` does it; the tests that fork commands rely on it."""
    words = ["run", *world.trust, world.package, "--", "sh", "-c", "sleep 10 &"]
    with pytest.raises(subprocess.TimeoutExpired):
        forked.run(words, env={**forked.OWN, **world.environment()}, timeout=1)


def test_in_the_sandbox_all_is_read_only_and_there_is_no_network(world: World) -> None:
    bubblewrap("`run --sandbox bwrap`")
    writable = world.place / "data"
    writable.mkdir()
    script = (
        "cat code/worker_logic.py; echo x > code/worker_logic.py || echo no1; echo x > /usr/x || echo no2; "
        f"ls {world.package} || echo no3; echo fine > {writable}/out; wc -l < /proc/net/dev"
    )
    done = world.run("--sandbox", "bwrap", "--writable", writable, world.package, "--", "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split()
    assert lines[:2] == ["print('hello')", "no1"]
    assert {"no2", "no3"} <= set(lines)
    assert (writable / "out").read_text() == "fine\n"
    assert int(lines[-1]) == 3  # two lines of heading, and the loopback
    assert world.run("--sandbox", "bwrap", "--writable", "/", world.package, "--", "true").returncode == 125
