"""Exit statuses, error lines and JSON errors: what every command owes, whatever happens."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import click
import pytest

from tests.cli.command import IDENTITY, WORKER, Command
from tests.forked import SCRIPT
from wcp_attest import __version__
from wcp_attest.base.errors import ConfigError, Error, SigningError, VerificationError
from wcp_attest.cli import command_table as root
from wcp_attest.cli.command_table import COMMANDS
from wcp_attest.cli.failure_report import classify, wants_json
from wcp_attest.cli.option_groups import UNGROUPED, group_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ONE_ERROR_LINE = re.compile(r"error: [^\n]+\n\Z")

# Put a command that fails in a way no real one does into the table, and run the program's own entry point.
CRASH = """
import sys, types, click
from wcp_attest.cli import command_table as root, main
module = types.ModuleType("wcp_attest.cli.crash")
@click.command()
@click.option("--format", default="text")
def crash(format):
    {body}
module.crash = crash
sys.modules["wcp_attest.cli.crash"] = module
root.COMMANDS["crash"] = root.CommandRow("crash:crash", "crash")
sys.exit(main(sys.argv[1:]))
"""


def crash(body: str, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CRASH.format(body=body), "crash", *arguments],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_version_and_help_are_done(wcp: Command) -> None:
    assert wcp("--version").out == f"wcp-attest {__version__}\n"
    help_text = wcp("--help")
    assert help_text.status == 0
    assert all(re.search(rf"^  {name} ", help_text.out, re.MULTILINE) for name in COMMANDS)
    assert wcp("-h").out == help_text.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_loaded_and_has_help(wcp: Command, name: str) -> None:
    run = wcp(name, "--help")
    assert run.status == 0
    assert run.out.startswith(f"Usage: wcp-attest {name} ")


def test_python_m_is_the_same_program(wcp: Command) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "wcp_attest", "nope"], capture_output=True, text=True, check=False, cwd=wcp.folder
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", wcp("nope").err)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nope",),
        ("--nope",),
        ("verify",),
        ("verify", "x", "y"),
        ("verify", "x", "--format", "xml"),
        ("verify", "x", "--jobs", "0"),
        ("verify", "x", "--public-key"),
        ("explain", "nope"),
        ("explain",),
        ("completion", "tcsh"),
        ("policy",),
        ("policy", "show"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(wcp: Command, arguments: tuple[str, ...]) -> None:
    run = wcp(*arguments)
    assert run.status == 2
    assert run.out == ""
    assert ONE_ERROR_LINE.match(run.err), run.err


def test_a_mistyped_command_is_guessed(wcp: Command) -> None:
    assert "did you mean `verify`?" in wcp("verfy").err


@pytest.mark.parametrize("arguments", [("nope",), ("verify",), ("--nope",), ("verify", "absent", *WORKER, "--hmac")])
def test_errors_are_json_for_who_asks_for_json(wcp: Command, arguments: tuple[str, ...]) -> None:
    for spelling in (("--format", "json"), ("--format=json",)):
        run = wcp(*arguments, *spelling)
        value = run.json
        assert (run.status, value["exit_status"], value["ok"]) == (2, 2, False)
        assert value["kind"] == "error"
        assert value["error"] in {"usage", "config"}
        assert value["message"] in run.err


def test_what_stands_behind_two_dashes_is_no_option() -> None:
    assert wants_json(["verify", "--format", "json"])
    assert not wants_json(["verify", "--", "--format", "json"])
    assert not wants_json(["verify", "--format"])


def test_a_crash_is_one_line_and_status_2() -> None:
    done = crash("1 / 0")
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.match(r"error: internal error, please report it: ZeroDivisionError: [^\n]+\n\Z", done.stderr)


def test_a_crash_is_json_for_who_asks_for_json() -> None:
    import json

    done = crash("raise RecursionError('deep')", "--format", "json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "internal"


def test_a_traceback_is_shown_only_when_asked_for() -> None:
    done = crash("1 / 0", env={"WCP_ATTEST_DEBUG": "1"})
    assert done.returncode == 2
    assert "Traceback (most recent call last)" in done.stderr


@pytest.mark.parametrize(
    ("body", "status", "start"),
    [
        ("raise MemoryError", 2, "error: out of memory"),
        ("open('/nonexistent/x')", 2, "error: No such file or directory: '/nonexistent/x'"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("raise EOFError", 2, "error: the input ended"),
        ("click.echo('x', file=1)", 2, "error: internal error"),
        ("from wcp_attest.base.errors import Banned; raise Banned('by me')", 1, "error: by me [ATTEST_BANNED]"),
        ("from wcp_attest.base.errors import SigningError; raise SigningError('no')", 2, "error: no"),
        ("from wcp_attest.base.errors import ConfigError; raise ConfigError('a\\nb\\x1b[2J')", 2, r"error: a b\x1b[2J"),
    ],
)
def test_each_kind_of_failure_has_its_status(body: str, status: int, start: str) -> None:
    done = crash(body)
    assert done.returncode == status
    assert done.stderr.startswith(start), done.stderr
    assert "Traceback" not in done.stderr


# What `program` leaves out at the end of a process is only the taking to pieces.
ENDING = """
import atexit, sys, threading, time
from wcp_attest.cli import program
atexit.register(lambda: print("callback", file=sys.stderr))
if "thread" in sys.argv[0]:
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread", file=sys.stderr))).start()
print("before", end=" ")
program()
"""


@pytest.mark.parametrize("thread", ["", "thread"])
@pytest.mark.parametrize(("arguments", "status"), [(("--version",), 0), (("nope",), 2)])
def test_the_process_ends_as_others_do(thread: str, arguments: tuple[str, ...], status: int) -> None:
    code = f"import sys; sys.argv[0] = {thread!r}\n{ENDING}"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == status
    assert done.stdout == (f"before wcp-attest {__version__}\n" if status == 0 else "before ")
    assert done.stderr.endswith("callback\n")
    assert ("thread\n" in done.stderr) == bool(thread)


def test_every_error_type_is_classified() -> None:
    kinds = {error: classify(error("why")) for error in (Error, ConfigError, SigningError, VerificationError)}
    assert {error.__name__: (found.kind, found.status) for error, found in kinds.items()} == {
        "Error": ("config", 2),
        "ConfigError": ("config", 2),
        "SigningError": ("signing", 2),
        "VerificationError": ("refused", 1),
    }


def test_a_reader_that_goes_away_is_not_worth_a_word(wcp: Command) -> None:
    with wcp.start("explain", "--all") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 2


def test_closed_standard_streams_change_no_status(wcp: Command, signed: Path) -> None:
    for redirect in (">&-", "2>&-", ">&- 2>&-"):
        line = f'"$0" verify {signed} --public-key acme.key.pub {" ".join(WORKER)} {redirect}'
        done = subprocess.run(["sh", "-c", line, str(SCRIPT)], cwd=wcp.folder, check=False, env=wcp.environment())
        assert done.returncode == 0, redirect


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_cannot_be_written_is_no_success(wcp: Command) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [SCRIPT, "explain", "--all"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60
        )
    assert done.returncode == 2
    assert done.stderr == "error: No space left on device\n"


def test_an_interrupt_is_130_without_a_traceback(wcp: Command, tmp_path: Path, key: Path) -> None:
    root = tmp_path / "large"
    root.mkdir()
    with open(root / "model.bin", "wb") as file:  # sparse: no disk, but seconds to hash; below the bound on holes
        file.truncate(3 << 30)
    with wcp.start("sign", root, "--key", key, *IDENTITY, "--progress", "--jobs", 1) as process:
        assert process.stderr is not None
        first = process.stderr.readline()  # the counter runs, so the tree is being read
        assert "files" in first, first
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert rest.rstrip().endswith("interrupted")
    assert [entry.name for entry in root.iterdir()] == ["model.bin"]


def test_output_to_a_file_is_whole_or_not_at_all(wcp: Command, tmp_path: Path) -> None:
    target = tmp_path / "out.json"
    run = wcp.ok("explain", "banned", "--format", "json", "-o", target)
    assert run.out == ""
    assert target.read_text() == wcp.ok("explain", "banned", "--format", "json").out
    failed = wcp("explain", "banned", "-o", tmp_path / "absent" / "out")
    assert failed.status == 2
    assert "nothing was changed" in failed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json"]


def test_output_to_a_file_is_what_would_have_been_shown(wcp: Command, package: Path) -> None:
    (package / "code" / "__pycache__").mkdir()
    for name in ("a.pyc", "b.pyc", "c\nremoved everything.pyc"):
        (package / "code" / "__pycache__" / name).write_bytes(b"x")
    shown = wcp.ok("clean", "-n", package).out
    assert len(shown.splitlines()) == 4
    wcp.ok("clean", "-n", package, "-o", "cleaned")
    assert (wcp.folder / "cleaned").read_text() == shown
    wcp.ok("keygen", "new.key", "--no-passphrase", "-o", "made")
    assert [line.split("  ")[0] for line in (wcp.folder / "made").read_text().splitlines()] == [
        "private key",
        "public key",
        "key id",
    ]


def test_a_result_never_changes_the_package_it_is_about(wcp: Command, signed: Path, key: Path) -> None:
    before = sorted(signed.rglob("*"))
    trust = ("--public-key", "acme.key.pub", *WORKER)
    link = wcp.folder / "link"
    link.symlink_to(signed / "code")
    for command in (("verify", signed, *trust), ("sign", signed, "--key", key), ("build", signed), ("diff", signed)):
        for place in (signed / "result.json", signed / "manifest.json", link / "result.json"):
            run = wcp(*command, "--format", "json", "-o", place)
            assert (run.status, run.json["error"]) == (2, "config")
    for command in (("hash", signed), ("show", signed), ("clean", signed)):
        assert wcp(*command, "-o", signed / "result").status == 2
    assert sorted(signed.rglob("*")) == before
    wcp.ok("verify", signed, *trust)
    assert wcp("hash", ".", "-o", "-", cwd=signed).out.startswith("sha256:")


def test_an_old_result_does_not_outlive_a_failure(wcp: Command, signed: Path) -> None:
    target = wcp.folder / "result.json"
    trust = ("--public-key", "acme.key.pub", *WORKER)
    command = ("verify", signed, *trust, "--format", "json", "-o", target)
    wcp.ok(*command)
    assert json.loads(target.read_text())["ok"] is True
    (signed / "manifest.sig").rename(wcp.folder / "kept")
    denied = wcp(*command)
    assert (denied.status, denied.out, json.loads(target.read_text())["ok"]) == (1, "", False)
    (wcp.folder / "kept").rename(signed / "manifest.sig")
    wcp.ok(*command)
    failed = wcp("verify", wcp.folder / "absent", *trust, "--format", "json", "-o", target)
    said = json.loads(target.read_text())
    assert (failed.status, failed.out, said["kind"], said["exit_status"]) == (2, "", "error", 2)
    assert said["message"] in failed.err


def test_a_failure_that_cannot_go_to_its_file_goes_to_standard_output(wcp: Command, signed: Path) -> None:
    for place in (wcp.folder, wcp.folder / "absent" / "result.json"):
        run = wcp("verify", signed, "--policy", "absent.toml", "--format", "json", "-o", place)
        assert (run.status, run.json["kind"], run.json["error"]) == (2, "error", "config")


@pytest.mark.parametrize(
    "command",
    [
        ("verify", "PACKAGE", "--policy", "absent.toml"),
        ("verify", "PACKAGE"),
        ("sign", "PACKAGE", "--key", "absent.key"),
        ("build", "PACKAGE", "--schema", "awp.v1", "--hmac-file", "absent"),
        ("show", "PACKAGE"),
        ("diff", "PACKAGE"),
        ("hash", "PACKAGE"),
    ],
)
def test_not_even_a_failure_goes_into_the_package(wcp: Command, package: Path, command: tuple[str, ...]) -> None:
    (package / "manifest.json").mkdir()
    before = sorted(package.rglob("*"))
    words = [str(package) if word == "PACKAGE" else word for word in command]
    run = wcp(*words, "--format", "json", "-o", package / "result.json")
    assert (run.status, run.json["kind"]) == (2, "error")
    assert sorted(package.rglob("*")) == before


def test_a_result_overwrites_nothing_that_the_command_names(wcp: Command, signed: Path, key: Path) -> None:
    policy = wcp.folder / "policy.toml"
    wcp.ok("policy", "init", policy, "--public-key", "acme.key.pub", "--namespace", "org.acme")
    link = wcp.folder / "link"
    link.symlink_to(key)
    before = {path: path.read_bytes() for path in (key, policy)}
    for command, place, name in (
        (("sign", signed, "--key", key), key, "--key"),
        (("sign", signed, "--key", key), link, "--key"),
        (("verify", signed, "--policy", policy), policy, "--policy"),
        (("verify", signed, "--public-key", key, *WORKER), key, "--public-key"),
        (("policy", "show", policy), policy, "FILE"),
        (("keygen", "new.key", "--no-passphrase"), wcp.folder / "new.key", "OUT"),
        (("keygen", "new.key", "--no-passphrase"), wcp.folder / "new.key.pub", "public key"),
    ):
        run = wcp(*command, "-o", place)
        assert run.status == 2, command
        assert name in run.err
        assert "another place" in run.err
    assert {path: path.read_bytes() for path in (key, policy)} == before
    assert not (wcp.folder / "new.key").exists()
    wcp.ok("verify", signed, "--policy", policy, "-o", wcp.folder / "result")


def test_keys_that_nobody_hears_of_are_not_left_behind(wcp: Command) -> None:
    assert wcp("keygen", "new.key", "--no-passphrase", "-o", wcp.folder / "absent" / "made").status == 2
    assert not list(wcp.folder.glob("new.key*"))
    wcp.ok("keygen", "new.key", "--no-passphrase")


def test_what_a_name_holds_cannot_act_on_the_terminal(wcp: Command, signed: Path) -> None:
    (signed / "evil\u202e\x1b[2Jname").write_text("x")
    run = wcp("verify", signed, "--public-key", "acme.key.pub", *WORKER)
    assert run.status == 1
    assert "\x1b" not in run.out + run.err
    assert "\u202e" not in run.out + run.err


def run_on_terminal(wcp: Command, *arguments: object, env: dict[str, str] | None = None) -> str:
    """Run the command with a terminal as standard output and return what it shows."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [SCRIPT, *map(str, arguments)],
        cwd=wcp.folder,
        env=wcp.environment({"TERM": "xterm", **(env or {})}),
        stdin=subprocess.DEVNULL,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # Linux says EIO when the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(master)
    process.wait(60)
    return shown.decode()


@pytest.mark.parametrize(
    ("env", "options", "coloured"),
    [
        ({}, (), True),
        ({"TERM": "dumb"}, (), False),
        ({"NO_COLOR": "1"}, (), False),
        ({"NO_COLOR": ""}, (), True),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, (), False),
        ({"NO_COLOR": "1"}, ("--color", "always"), True),
        ({}, ("--color", "never"), False),
        ({"FORCE_COLOR": "1"}, ("--color", "never"), False),
    ],
)
def test_colour_on_a_terminal(wcp: Command, env: dict[str, str], options: tuple[str, ...], coloured: bool) -> None:
    assert ("\x1b[1mATTEST_BANNED\x1b[0m" in run_on_terminal(wcp, "explain", "banned", *options, env=env)) == coloured


@pytest.mark.parametrize(
    ("env", "options", "coloured"),
    [({}, (), False), ({"FORCE_COLOR": "1"}, (), True), ({}, ("--color", "always"), True)],
)
def test_colour_into_a_pipe(wcp: Command, env: dict[str, str], options: tuple[str, ...], coloured: bool) -> None:
    assert ("\x1b[" in wcp.ok("explain", "banned", *options, env=env).out) == coloured


def test_quiet_leaves_only_the_status(wcp: Command, signed: Path) -> None:
    trust = ("--public-key", "acme.key.pub", *WORKER)
    good = wcp("verify", signed, *trust, "--quiet")
    (signed / "added").write_text("x")
    bad = wcp("verify", signed, *trust, "--quiet")
    assert (good.status, good.out, good.err) == (0, "", "")
    assert (bad.status, bad.out, bad.err) == (1, "", "")
    assert wcp("verify", signed, *trust, "--quiet", "--format", "json").json["code"] == "ATTEST_HASH_MISMATCH"


def test_short_work_shows_no_counter_even_on_a_terminal(wcp: Command, signed: Path) -> None:
    shown = run_on_terminal(wcp, "verify", signed, "--public-key", "acme.key.pub", *WORKER, "--progress")
    assert "files," not in shown
    assert "VERIFIED" in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(wcp: Command, shell: str) -> None:
    assert "_WCP_ATTEST_COMPLETE" in wcp.ok("completion", shell).out


def test_completion_completes(wcp: Command) -> None:
    env = {"_WCP_ATTEST_COMPLETE": "bash_complete", "COMP_WORDS": "wcp-attest ver", "COMP_CWORD": "1"}
    assert wcp(env=env).out.splitlines() == ["plain,verify"]
    env = {"_WCP_ATTEST_COMPLETE": "bash_complete", "COMP_WORDS": "wcp-attest verify --pol", "COMP_CWORD": "2"}
    assert wcp(env=env).out.splitlines() == ["plain,--policy", "plain,--policy-sha256"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_talk_that_cannot_be_written_changes_no_status(wcp: Command, signed: Path) -> None:
    for command in (f"diff {signed}", f"verify {signed} --stage copy --public-key acme.key.pub {' '.join(WORKER)}"):
        done = subprocess.run(
            ["sh", "-c", f'"$0" {command} 2>/dev/full', str(SCRIPT)], cwd=wcp.folder, check=False, env=wcp.environment()
        )
        assert done.returncode == 0, command


def test_a_directory_that_is_gone_is_said_to_be(wcp: Command, signed: Path) -> None:
    verify = f'"$0" verify ../{signed.name} --public-key ../acme.key.pub {" ".join(WORKER)}'
    done = subprocess.run(
        ["sh", "-c", f"mkdir gone && cd gone && rmdir ../gone && {verify}", str(SCRIPT)],
        cwd=wcp.folder,
        env=wcp.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "the current directory is not there any more" in done.stderr


def test_a_system_without_directory_descriptors_is_told_so(signed: Path) -> None:
    code = "import os, sys; os.supports_dir_fd.discard(os.open); from wcp_attest.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, "diff", signed], capture_output=True, text=True, check=False)
    assert done.stderr.startswith("error: packages are read on Linux and macOS only")


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from commands(below, (*path, name))


def test_a_long_help_stands_in_named_groups() -> None:
    for path, command in commands(root.root):
        shown = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
        groups = [group_of(option) for option in shown]
        if len(shown) > 8:
            assert UNGROUPED not in groups, path
        text = command.get_help(click.Context(command))
        assert [text.count(f"\n{group}:\n") for group in set(groups)] == [1] * len(set(groups))
        assert text.rpartition("--help")[2].count("--") == 0, "help stands last"


def test_the_help_of_verify_groups_what_belongs_together(wcp: Command) -> None:
    shown = wcp.ok("verify", "--help").out
    sections = dict(re.findall(r"^(\S[^\n]*):\n((?:  [^\n]*\n)+)", shown, re.MULTILINE))
    assert "--policy " in sections["Trust"]
    assert "--identity " in sections["Keyless signers (Sigstore)"]
    assert "--worker-id" in sections["Expected package"]
    assert "--jobs" in sections["Reading"]
    assert "--format" in sections["Output"]
