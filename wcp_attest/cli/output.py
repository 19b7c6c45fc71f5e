"""What a command says: results to standard output or atomically to a file, messages and progress to standard error.

`reporting` gives a command the options that every command has (`--format`, `--output`, `--quiet`, `--color`) and hands
it an `Output`. What is written is safe to show (`cli.text`): control characters are spelled out, a runner finds no
command in it, JSON is ASCII.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from wcp_attest.base.errors import ConfigError, Error
from wcp_attest.cli.option_groups import OUTPUT, READING, grouped
from wcp_attest.cli.text import ColorChoice, Painter, human_size, json_text, printable, render, use_color, visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from wcp_attest.base.strictjson import JsonObject
    from wcp_attest.disk.options import Progress

R = TypeVar("R")

# Of the counter, in seconds. Work that ends before the first line needs no counter; a log keeps every line.
FIRST_AFTER = 1.0
ON_TERMINAL_EVERY = 0.1
BAR_WIDTH = 12  # characters
MAX_MEASURED = 10_000_000  # files; a tree with more of them gets no percentage
IN_LOG_EVERY = 10.0
SCHEMA_VERSION = 1  # of every JSON result; grows when a field changes its meaning or goes
# What commands write beside or in what an argument names: the signatures of a list, a public key, a detached pair.
_WITH_IT: Final = {
    "LIST": {".sig": "the signatures of LIST"},
    "[LIST]": {".sig": "the signatures of LIST"},
    "OUT": {".pub": "the public key of OUT"},
    "--attestation": {"/manifest.json": "a file of --attestation", "/manifest.sig": "a file of --attestation"},
}


class Output(NamedTuple):  # cheaper to define than a dataclass, and start-up time is a feature
    """What the user wants to see, and where.

    Attributes:
        format: `text`, `json`, or another that the command offers.
        path: a file that takes the data instead of standard output.
        quiet: no messages and no text of a decision; only the exit status.
        color: `auto`, `always` or `never`.
        force: whether the file may be another one than an earlier result; that one is kept beside it.
    """

    format: str = "text"
    path: str | None = None
    quiet: bool = False
    color: ColorChoice = "auto"
    force: bool = False

    @property
    def paint(self) -> Painter:
        """Colours data."""
        return Painter(on=self.path is None and use_color(self.color, sys.stdout))

    @property
    def file(self) -> str | None:
        """The path of the file that takes the data, if one does."""
        return None if self.path == "-" else self.path

    @property
    def mute(self) -> bool:
        """Whether the text of a decision goes nowhere."""
        return self.quiet and self.path is None

    def deliver(self, text: str) -> None:
        """Write data, complete with its last line break.

        Raises:
            ConfigError: the file cannot be written.
        """
        self._write(render(text))

    def deliver_commands(self, text: str) -> None:
        """Write text that is meant for a runner or shell: workflow commands, a completion script.

        Args:
            text: its writer has escaped what others wrote in it.

        Raises:
            ConfigError: the file cannot be written.
        """
        self._write(visible(text))

    def decide(self, text: str) -> None:
        """Write the text of a decision; nothing when the user wants only the exit status.

        Raises:
            ConfigError: the file cannot be written.
        """
        if not self.mute:
            self.deliver(text)

    def deliver_json(self, kind: str, value: JsonObject) -> None:
        """Write one JSON object, marked with its kind and schema version.

        Raises:
            ConfigError: the file cannot be written.
        """
        self._write(json_text({"schema_version": SCHEMA_VERSION, "kind": kind, **value}))

    def note(self, text: str) -> None:
        """Write a message to standard error, unless quiet. A standard error that is closed is no failure."""
        if not self.quiet and sys.stderr is not None:
            if sys.stdout is not None:  # both may go to one place, and the data came first
                sys.stdout.flush()
            with contextlib.suppress(OSError):
                sys.stderr.write(printable(text) + "\n")
                sys.stderr.flush()

    def _write(self, text: str) -> None:
        if self.file is None:
            if sys.stdout is not None:
                sys.stdout.write(text)
            return
        from wcp_attest.cli.results import RESULT
        from wcp_attest.disk.overwrite import write_file

        data = text.encode("utf-8", "backslashreplace")
        kept = write_file(os.path.abspath(self.file), data, RESULT, force=self.force, error=Misplaced)
        if kept is not None:
            self.note(f"the earlier file is kept beside it, as {os.path.basename(kept)}")


class Misplaced(ConfigError):
    """The result would be written where nothing may be written."""


class Undelivered(Exception):
    """A command failed whose JSON goes to a file: the file gets this failure, so that no old result stays there.

    Attributes:
        output: where the JSON was to go.
        failure: what the command raised.
    """

    def __init__(self, output: Output, failure: Exception) -> None:
        super().__init__(output, failure)
        self.output, self.failure = output, failure


def reporting(
    *formats: str, to_file: bool = True, force: bool = True
) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command `--format`, `--output`, `--quiet` and `--color`, and an `Output` as first argument.

    Args:
        formats: what `--format` accepts; the first is the default. One format alone needs no option.
        to_file: whether the command takes `-o`; not where `-o` names something else.
        force: whether `-o` comes with `--force`; not where the command has a `--force` of its own.
    """

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        @functools.wraps(command)
        def call(*args: Any, **options: Any) -> R:
            output = Output(
                options.pop("format", formats[0]),
                options.pop("output", None),
                options.pop("quiet"),
                options.pop("color"),
                to_file and force and options.pop("force"),
            )
            _check_place(output, options)
            if output.format != "json" or output.file is None:
                return command(output, *args, **options)
            try:
                return command(output, *args, **options)
            except Misplaced:
                raise
            except (Error, OSError, MemoryError) as failure:
                raise Undelivered(output, failure) from failure

        called: Callable[..., R] = _options(formats, to_file=to_file, force=force)(call)
        return called

    return decorate


def _check_place(output: Output, options: dict[str, Any]) -> None:
    """Check, before the command does anything, that its result can be written and overwrites nothing.

    Raises:
        Misplaced: the command line names the same file for something else, such as a key or a policy; or what stands
            there is not an earlier result; or nothing can be written there.
    """
    if output.file is None:
        return
    place = os.path.realpath(output.file)
    for name, path in _files_named(options):
        if os.path.realpath(path) == place:
            raise Misplaced(f"{path!r} is also {name}, and the result would overwrite it; name another place")
    from wcp_attest.cli.results import RESULT
    from wcp_attest.disk.overwrite import check_place

    check_place(os.path.abspath(output.file), RESULT, force=output.force, error=Misplaced)


def _files_named(options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the files that the options of a command name, each behind the name of its option or argument.

    What is written with such a file, or in such a directory, is one of them.
    """
    for parameter in click.get_current_context().command.params:
        value = options.get(parameter.name or "")
        if not isinstance(parameter.type, click.Path) or not value:
            continue
        name = (
            next((o for o in parameter.opts if o.startswith("--")), parameter.opts[-1])
            if isinstance(parameter, click.Option)
            else str(parameter.metavar)
        )
        for path in (value,) if isinstance(value, str) else value:
            yield name, path
            yield from ((words, path + ending) for ending, words in _WITH_IT.get(name, {}).items())


def _options(formats: tuple[str, ...], *, to_file: bool, force: bool) -> Callable[[Any], Any]:
    options: list[Callable[[Any], Any]] = []
    if len(formats) > 1:
        options.append(
            click.option("--format", type=click.Choice(list(formats)), default=formats[0], help="Output format.")
        )
    if to_file:
        text = "Write the result to FILE, whole or not at all."
        options.append(click.option("-o", "--output", metavar="FILE", type=click.Path(), help=text))
    if to_file and force:
        text = "Let -o replace another file than an earlier result; that file is kept as FILE.orig."
        options.append(click.option("--force", is_flag=True, help=text))
    options += [
        click.option("-q", "--quiet", is_flag=True, help="No output; only the exit status."),
        click.option(
            "--color",
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            help="Colour text; by default when it goes to a terminal and NO_COLOR is not set.",
        ),
    ]
    return grouped(OUTPUT, *options)


progress_option = grouped(
    READING,
    click.option(
        "--progress/--no-progress",
        default=None,
        help="Show on standard error how far the work is; by default when it is a terminal.",
    ),
)


class Counter(contextlib.AbstractContextManager["Counter"]):
    """Shows how far the reading of a tree is; use it as a context, and hand `callback` to the reader.

    Attributes:
        callback: what the reader calls; None when nothing is to be shown, so that it need not call at all.

    Args:
        wanted: what the user said; None decides by whether standard error is a terminal.
        quiet: whether the user wants no messages.
        package: the package, where the reader does not know beforehand how much there is to read: it is measured beside
            the work, once the work has lasted long enough to be shown.
    """

    def __init__(self, wanted: bool | None, *, quiet: bool, package: str | None = None) -> None:
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        shown = wanted if wanted is not None else self._terminal and not quiet
        self._start = time.monotonic()
        self._next = self._start + FIRST_AFTER
        self._shown = 0
        self._package = package
        self._measured: tuple[int, int] | None = None
        self.callback: Callable[[Progress], None] | None = self.update if shown and sys.stderr is not None else None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._shown and self._terminal:
            sys.stderr.write("\r" + " " * self._shown + "\r")
            sys.stderr.flush()

    def update(self, progress: Progress) -> None:
        """Show the state, if the last time was long enough ago."""
        now = time.monotonic()
        if now < self._next:
            return
        if self._package is not None and progress.bytes_total is None:
            import threading

            threading.Thread(target=self._measure, args=(self._package,), daemon=True).start()
            self._package = None
        text = self._in_words(progress, now)
        if self._terminal:
            import shutil

            text = text[: max(20, shutil.get_terminal_size().columns - 1)]
            self._next = now + ON_TERMINAL_EVERY
            sys.stderr.write("\r" + text.ljust(self._shown))
            self._shown = len(text)
        else:
            self._next = now + IN_LOG_EVERY
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def _in_words(self, progress: Progress, now: float) -> str:
        """Say how far the work is, how fast it goes and how long it will last, as far as its size is known."""
        done, total = progress.bytes_done, progress.bytes_total
        files = progress.files_total
        if total is None and self._measured is not None:
            files, total = max(self._measured[0], progress.files_done), max(self._measured[1], done)
        rate = done / max(now - self._start, 0.001)
        parts = [human_size(done) + (f" of {human_size(total)}" if total else ""), f"{human_size(int(rate))}/s"]
        if total and rate:
            parts.append(f"{_clock((total - done) / rate)} left")
        parts.append(f"{progress.files_done}{'' if files is None else f'/{files}'} files")
        text = ", ".join(parts)
        if total:
            filled = BAR_WIDTH * done // total
            bar = f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] " if self._terminal else ""
            text = f"{bar}{100 * done // total:3d} %  {text}"
        return text

    def _measure(self, package: str) -> None:
        """Count files and bytes below a directory; an estimate, as excludes are not looked at."""
        files = size = 0
        for folder, folders, names in os.walk(package):
            folders[:] = [name for name in folders if name != ".git"]
            with contextlib.suppress(OSError):
                size += sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
            files += len(names)
            if files > MAX_MEASURED:
                return
        self._measured = (files, size)


def _clock(seconds: float) -> str:
    """Return a span of time as people read it: `9 s`, `4:05 min`, `2:10 h`."""
    whole = int(seconds) + 1
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
