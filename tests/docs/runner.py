"""Run the examples of a page: the commands of its ```console blocks and the code of its ```python blocks.

All blocks of a page run in order, in one fresh directory. Comments that a reader of the rendered page does not see
steer them:

    <!-- file: policy.toml -->      the next block is the content of that file, not something to run
    <!-- skip: why -->              the next block is not run

In a console block a line that starts with `$ ` is a command (a `\\` at its end goes on in the next line), the other
lines are what it prints, on either stream; `…` stands for anything within a line, and alone for any lines. A command
must succeed unless its line ends in `# exit status N`. Blocks in other languages are for reading.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT = 120
_BLOCK = re.compile(r"^(?P<fence>```+)(?P<language>[a-z]*)[^\n]*\n(?P<body>.*?)^(?P=fence)\n", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!-- (file|skip): (.*?) -->")
_STATUS = re.compile(r"\s+# exit status (\d+)$")


@dataclass
class Page:
    """One page being run.

    Attributes:
        text: its Markdown.
        folder: where its commands run.
        names: what its Python blocks have defined so far.
        ran: how many blocks were run.
        exported: the environment that its commands leave to the next ones, as one shell would.
        cwd: the directory that they are in.
    """

    text: str
    folder: Path
    names: dict[str, object] = field(default_factory=lambda: {"__name__": "example"})
    ran: int = 0
    exported: dict[str, str] = field(default_factory=dict)
    cwd: Path | None = None

    def run(self) -> None:
        """Run everything, in order."""
        directive: tuple[str, str] | None = None
        for kind, value in self._parts():
            if kind in {"file", "skip"}:
                directive = (kind, value)
            else:
                if directive is not None and directive[0] == "file":
                    path = self.folder / directive[1]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(value)
                elif directive is None:
                    self._block(kind, value)
                directive = None

    def _parts(self) -> Iterator[tuple[str, str]]:
        """Return comments as (directive, value) and blocks as (language, body), in the order of the page."""
        position = 0
        for block in _BLOCK.finditer(self.text):
            yield from _COMMENT.findall(self.text, position, block.start())
            yield f"block {block['language']}", block["body"]
            position = block.end()
        yield from _COMMENT.findall(self.text, position)

    def _block(self, kind: str, body: str) -> None:
        if kind == "block python":
            self.ran += 1
            before = os.getcwd()
            os.chdir(self.folder)
            try:
                exec(compile(body, "example", "exec"), self.names)
            finally:
                os.chdir(before)
        elif kind == "block console":
            self.ran += 1
            for command, expected in commands_of(body):
                self._command(command, expected)

    def _command(self, command: str, expected: str | None) -> None:
        found = _STATUS.search(command)
        state = self.folder.with_name(f"{self.folder.name}.shell")
        keep = f'{{ pwd; env -0; }} >"{state}"'  # a reader types all commands of a page into one shell
        done = subprocess.run(
            ["sh", "-c", f"trap '{keep}' EXIT\n{command}"],
            cwd=self.cwd or self.folder,
            env=self.exported or self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        where, _, variables = state.read_text().partition("\n")
        self.cwd = Path(where)
        self.exported = dict(part.split("=", 1) for part in variables.split("\0") if "=" in part)
        assert done.returncode == (int(found[1]) if found else 0), f"$ {command}\n{done.stdout}"
        if expected is not None:
            assert matches(expected, done.stdout), f"$ {command}\nexpected:\n{expected}\nprinted:\n{done.stdout}"

    def _environment(self) -> dict[str, str]:
        scripts = os.path.dirname(sys.executable)
        return {
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_COLOR": "1",
        }


def commands_of(body: str) -> Iterator[tuple[str, str]]:
    """Return each command of a console block with what it is to print."""
    lines = iter(body.splitlines())
    command = ""
    printed: list[str] = []
    for line in lines:
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(printed)
            command, printed = line[2:], []
            while command.endswith("\\"):
                command += "\n" + next(lines)
        else:
            printed.append(line)
    assert command, f"a console block without a command:\n{body}"
    yield command, "\n".join(printed)


def matches(expected: str, printed: str) -> bool:
    """Compare what was printed with what a page shows."""
    pattern = ""
    for line in expected.strip("\n").splitlines():
        if line.strip() == "…":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += "[^\n]*".join(re.escape(part) for part in line.rstrip().split("…")) + r"[ ]*\n"
    return re.fullmatch(pattern, printed if printed.endswith("\n") or not printed else printed + "\n") is not None
