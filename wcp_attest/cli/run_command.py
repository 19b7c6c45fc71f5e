"""`wcp-attest run`: verify a package, then become a command that runs from the very bytes that were verified."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

from wcp_attest.base.errors import ConfigError, VerificationError
from wcp_attest.cli import verdicts
from wcp_attest.cli.failure_report import RUN_FAILED
from wcp_attest.cli.option_groups import OUTPUT, GroupedCommand, combine, grouped
from wcp_attest.cli.output import Output
from wcp_attest.cli.shared_options import attestation_option, jobs_option
from wcp_attest.cli.store_command import STORE, owner_id, store_options
from wcp_attest.cli.trust import TrustFlags, policy_of, trust_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wcp_attest.store import StoredPackage

NOT_EXECUTABLE = 126
NOT_FOUND = 127


class Account(NamedTuple):
    """The user and group that a command runs as."""

    uid: int
    gid: int
    name: str | None
    home: str | None


_run_options = combine(
    grouped(
        STORE,
        click.option("--no-store", is_flag=True, help="Run from a temporary copy, which goes when the command ends."),
    ),
    grouped(
        "Command",
        click.option("--chdir", metavar="DIR", type=click.Path(), help="Run there; by default in the package."),
        click.option("--user", metavar="NAME[:GROUP]", help="As root: run the command as this user."),
        click.option("--keep-env", metavar="NAME", multiple=True, help="Leave this variable as it is."),
        click.option("--clean-env", is_flag=True, help="Keep only PATH, HOME, LANG, TERM, TZ and --keep-env."),
        click.option(
            "--python-path", metavar="DIR", multiple=True, help="Let Python import from this directory of the package."
        ),
    ),
    grouped(
        "Sandbox",
        click.option("--sandbox", type=click.Choice(["bwrap"]), help="Run in a sandbox where everything is read-only."),
        click.option(
            "--writable", metavar="DIR", multiple=True, type=click.Path(), help="Of --sandbox: may be written."
        ),
        click.option("--network", is_flag=True, help="Of --sandbox: leave the network on."),
    ),
    grouped(
        OUTPUT,
        click.option("--format", type=click.Choice(["text", "json"]), default="text", help="Format of the verdict."),
        click.option("-q", "--quiet", is_flag=True, help="No message about a package that may run."),
    ),
)


@click.command(cls=GroupedCommand)
@click.argument("package", metavar="ROOT|WORKER[@VERSION]", type=click.Path())
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@attestation_option
@trust_options
@store_options
@_run_options
@jobs_option
def run(package: str, command: tuple[str, ...], **given: Any) -> int:
    """Verify a package, then become COMMAND; what was verified is what runs.

    ROOT is a package directory. It is verified into a store of your own, or of --store; the command runs there, in
    place of this program. WORKER is a worker id: the newest entry of the store that the policy allows.

    The verdict goes to standard error. Exit status: 125 the package was refused or something of ours failed, 126 the
    command cannot be executed, 127 there is no such command; else the command's own.

    \b
      wcp-attest run my-worker --policy policy.toml -- python code/bootstrap.py
      wcp-attest run org.acme.summarizer@1.4.0 --store /var/lib/wcp/store --policy policy.toml -- ./serve
    """
    from wcp_attest import run_package
    from wcp_attest.disk.options import ReadOptions
    from wcp_attest.store import PackageStore
    from wcp_attest.verdict import Expectation

    flags = TrustFlags(**{name: given.pop(name) for name in TrustFlags._fields})
    out = Output(given["format"], quiet=given["quiet"])
    account = None if given["user"] is None else _account(given["user"])
    policy = policy_of(flags)
    if given["no_store"]:
        if given["store"] is not None:
            raise click.UsageError("--store and --no-store exclude each other")
        store = PackageStore(run_package.temporary_place(), durable=False)
        _remove_after_us(store.path)
    else:
        path = run_package.default_store(os.environ) if given["store"] is None else given["store"]
        store = PackageStore(path, owner=owner_id(given["store_owner"]), private=given["store"] is None)
    try:
        held = run_package.from_store(
            store,
            package,
            policy,
            expect=Expectation(flags.worker_id, flags.species_id),
            options=ReadOptions(jobs=given["jobs"]),
            attestation=given["attestation"],
            users=() if account is None else (account.uid,),
            require_hashed=given["require_hashed"],
        )
    except VerificationError as refusal:
        _tell(out, refusal, package)
        return RUN_FAILED
    _tell(out, held, package)
    environment = run_package.environment_for(
        held, os.environ, keep=given["keep_env"], clean=given["clean_env"], python_path=given["python_path"]
    )
    _enter(held, given["chdir"])
    program = _find(command[0], environment.get("PATH", os.defpath))
    arguments = list(command)
    if given["sandbox"] is not None:
        from wcp_attest.cli.sandbox import bubblewrap

        arguments = [*bubblewrap(held, program, given["writable"], network=given["network"]), *arguments[1:]]
        program = arguments[0]
    elif given["writable"] or given["network"]:
        raise click.UsageError("--writable and --network belong to --sandbox")
    if account is not None:
        _become_user(account, environment, held)
    return _become(program, arguments, environment)


def _tell(out: Output, found: StoredPackage | VerificationError, root: str) -> None:
    """Say the verdict on standard error; standard output is the command's."""
    from contextlib import redirect_stdout

    from wcp_attest.verdict import Verdict, judge

    def answer() -> Any:
        if isinstance(found, VerificationError):
            raise found
        return found.verified

    verdict: Verdict = judge(answer)
    passed = None if isinstance(found, VerificationError) else found
    with redirect_stdout(sys.stderr):
        if out.format == "json":
            value = verdict.to_dict(root)
            value["content"] = None if passed is None else passed.content
            if passed is None:
                value["exit_status"] = RUN_FAILED
            else:
                value["path"] = passed.path
            Output("json").deliver_json("verify-result", value)
        elif passed is None:
            Output().deliver(verdicts.as_text(verdict, root, Output().paint))
        elif not out.quiet:
            how = "kept by its owner" if passed.content == "owner" else "hashed"
            for line in passed.passed_over:
                out.note(f"passed over {line}")
            out.note(f"verified {passed.verified.worker_id} {passed.verified.worker_version} ({how}): {passed.path}")
        sys.stderr.flush()


def _enter(held: StoredPackage, chdir: str | None) -> None:
    """Change into the package by its descriptor, which still names what was verified, or to another directory."""
    try:
        os.chdir(held.descriptor if chdir is None else chdir)
    except OSError as problem:
        raise ConfigError(f"cannot change to {chdir or held.path!r}: {(problem.strerror or '').lower()}") from None


def _find(name: str, path: str) -> str:
    """Return the path of a program as a shell would find it; the folder we are in is not searched.

    Ends the process with 126 or 127 when there is none.
    """
    places = [""] if "/" in name else [place for place in path.split(":") if place.startswith("/")]
    candidates = [os.path.join(place, name) for place in places]
    files = [each for each in candidates if os.path.isfile(each)]
    for each in files:
        if os.access(each, os.X_OK):
            return each
    if files:
        return _fail(f"{name!r} is not executable", NOT_EXECUTABLE)
    return _fail(f"there is no command {name!r}", NOT_FOUND)


def _fail(message: str, status: int) -> NoReturn:
    Output().note(f"error: {message}")
    raise click.exceptions.Exit(status)


def _account(text: str) -> Account:
    """Look a user up, and the group when one is given.

    Raises:
        ConfigError: there is no such user or group, or we may not become it.
    """
    import grp
    import pwd

    name, _, group = text.partition(":")
    try:
        user = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        account = Account(user.pw_uid, user.pw_gid, user.pw_name, user.pw_dir)
    except KeyError:
        if not name.isdecimal() or not group:
            raise ConfigError(f"there is no user {name!r} here; a bare id needs a group: --user 1000:1000") from None
        account = Account(int(name), -1, None, None)
    if group:
        try:
            account = account._replace(gid=int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid)
        except KeyError:
            raise ConfigError(f"there is no group {group!r} here") from None
    if os.geteuid() not in (0, account.uid):
        raise ConfigError("only root can run a command as another user")
    return account


def _become_user(account: Account, environment: dict[str, str], held: StoredPackage) -> None:
    """Give up every right of this process but those of a user, for good.

    Raises:
        ConfigError: it cannot be done, or the user cannot reach the package.
    """
    try:
        if os.geteuid() == 0:
            if account.name is None:
                os.setgroups([account.gid])
            else:
                os.initgroups(account.name, account.gid)
            os.setgid(account.gid)
            os.setuid(account.uid)
    except (OSError, OverflowError) as problem:
        raise ConfigError(f"cannot become user {account.uid}: {problem}") from None
    if not os.access(held.path, os.R_OK | os.X_OK):
        raise ConfigError(
            f"user {account.name or account.uid} cannot reach {held.path!r}; give --store a place such as "
            "/var/lib/wcp/store, or use --no-store"
        )
    for variable in ("USER", "LOGNAME"):
        if account.name is not None:
            environment[variable] = account.name
    if account.home is not None:
        environment["HOME"] = account.home


def _become(program: str, arguments: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """Replace this process by the command: its status, signals and terminal are its own from here on."""
    import signal

    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and what is ignored stays so
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    for descriptor in map(int, os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")):
        if descriptor > 2:
            try:
                os.set_inheritable(descriptor, False)
            except OSError:  # that of the listing itself
                continue
    try:
        os.execve(program, list(arguments), environment)  # noqa: S606  # the command that the user gave
    except OSError as problem:
        _fail(
            f"{program!r} cannot be executed: {(problem.strerror or str(problem)).lower()}",
            NOT_FOUND if isinstance(problem, FileNotFoundError) else NOT_EXECUTABLE,
        )


def _remove_after_us(place: str) -> None:
    """Start a process that removes a temporary copy as soon as this one has ended, which has become the command.

    It is nobody's child, so that a command that waits for all of its own does not wait for it.
    """
    ours = os.getpid()
    watch = os.pidfd_open(ours) if hasattr(os, "pidfd_open") else -1
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        if watch >= 0:
            os.close(watch)
        return
    try:
        if os.fork():
            os._exit(0)
        os.setsid()
        _wait_for_the_end_of(ours, watch)
        from wcp_attest.disk.store_directory import remove_tree

        remove_tree(place)
    finally:
        os._exit(0)


def _wait_for_the_end_of(process: int, watch: int) -> None:
    import select
    import signal
    import time

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # a reader of the command's output must see its end
        os.dup2(nowhere, descriptor)
    if watch >= 0:
        os.dup2(watch, 3)
        os.closerange(4, 65_536)
        poll = select.poll()
        poll.register(3, select.POLLIN)
        poll.poll()
        return
    while True:  # no pidfd on this system
        try:
            os.kill(process, 0)
        except OSError:
            return
        time.sleep(0.2)
