"""`wcp-attest` as a process of its own, run as a user runs it, on real packages in temporary directories."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import forked
from tests.forked import SCRIPT
from tests.trees import plant

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMAS = Path(__file__).parents[2] / "wcp_attest" / "schemas"
WORKER = ("--worker-id", "org.acme.summarizer")
IDENTITY = (*WORKER, "--species-id", "wrk.doc.summarizer", "--worker-version", "1.4.0")
SECRET = "correct horse battery staple"
TIMEOUT = 60  # a hang is a failure
FILES = {
    "code/bootstrap.py": b"import worker_logic\n",
    "code/worker_logic.py": b"def execute(request, context):\n    return request\n",
    "requirements.lock": b"",
    "config.schema.json": b"{}\n",
}


@dataclass(frozen=True)
class Run:
    """What one run of the command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON, checked against the published schema of its kind."""
        import jsonschema

        value = json.loads(self.out)
        schema = json.loads((SCHEMAS / f"{value['kind']}.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(value)
        return value


@dataclass(frozen=True)
class Command:
    """Runs `wcp-attest` in a directory, with a clean environment."""

    folder: Path

    def __call__(
        self, *arguments: object, env: Mapping[str, str] | None = None, stdin: str = "", cwd: Path | None = None
    ) -> Run:
        place, environment = cwd or self.folder, self.environment(env)
        done = forked.run(arguments, cwd=place, env=environment, input=stdin, timeout=TIMEOUT)
        assert "Traceback" not in done.stderr, done.stderr
        return Run(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: object, env: Mapping[str, str] | None = None) -> Run:
        run = self(*arguments, env=env)
        assert run.status == 0, run
        return run

    def start(self, *arguments: object, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [SCRIPT, *map(str, arguments)],
            cwd=self.folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "COVERAGE_PROCESS_START", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.folder), **(env or {})}


def write_files(root: Path, files: Mapping[str, bytes] = FILES) -> Path:
    """Write a worker package, or other files, below `root`."""
    return plant(root, files)
