"""The job around a composite action: inputs, steps in order, outputs (`CompositeActionHandler.cs` of the runner)."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.composite_action.commands import Command, Listener
from tests.composite_action.definition import Definition, Step
from tests.composite_action.expressions import ExpressionError
from tests.composite_action.filecommands import FileCommandError, FileCommands
from tests.composite_action.functions import Function
from tests.composite_action.templates import condition, interpolate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.composite_action.values import Value

STEP_DEADLINE: Final = 600.0  # seconds; a step that hangs fails its test instead of the machine
SHELLS: Final[Mapping[str, tuple[str, str]]] = {
    "bash": ("bash --noprofile --norc -e -o pipefail {0}", ".sh"),
    "sh": ("sh -e {0}", ".sh"),
    "python": ("python {0}", ".py"),
}
_NOT_IN_ENVIRONMENT: Final = frozenset({"token", "event"})


@dataclass(frozen=True, slots=True)
class UsedAction:
    """A `uses:` step that was reached, with its interpolated inputs."""

    uses: str
    inputs: Mapping[str, str]


Recorder = Callable[[UsedAction], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class StepResult:
    """What became of a step; `outcome` is before `continue-on-error`, `conclusion` after it."""

    outcome: str
    conclusion: str
    outputs: Mapping[str, str] = field(default_factory=dict)
    exit_status: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What the job shows and keeps after the action has run."""

    ok: bool
    outputs: Mapping[str, str]
    summary: str
    log: str
    annotations: tuple[Command, ...]
    steps: Mapping[str, StepResult]
    variables: Mapping[str, str]
    path_entries: tuple[str, ...]
    used: tuple[UsedAction, ...]
    temp: Path


def run_action(
    directory: Path,
    *,
    workspace: Path,
    temp: Path,
    inputs: Mapping[str, str] | None = None,
    github: Mapping[str, Value] | None = None,
    environment: Mapping[str, str] | None = None,
    uses: Recorder | None = None,
) -> Result:
    """Run a composite action as one step of a job.

    Args:
        directory: where `action.yml` lies; `GITHUB_ACTION_PATH`.
        workspace: the checkout of the caller; `GITHUB_WORKSPACE` and the current directory of the steps.
        temp: an empty directory; `RUNNER_TEMP`.
        inputs: what the caller gives in `with:`.
        github: further members of the `github` context.
        environment: variables of the job: its `env:`, and what the runner adds, as for tokens.
        uses: answers a `uses:` step with its outputs; without it such a step is an error.

    Returns:
        What the job shows and keeps.

    Raises:
        DefinitionError: the runner would not load the action.
    """
    action = Definition.load(directory)
    job = _Job(directory.resolve(), workspace.resolve(), temp.resolve(), github or {}, environment or {}, uses)
    try:
        job.take_inputs(action, inputs or {})
        for number, step in enumerate(action.steps):
            job.run_step(step, step.id or f"__{number}")
        outputs = {name: interpolate(text, "output", job.contexts()) for name, text in action.outputs.items()}
    except ExpressionError as error:
        job.listener.issue("error", str(error))
        job.ok, outputs = False, {}
    return job.result(outputs)


class _Job:
    def __init__(
        self,
        directory: Path,
        workspace: Path,
        temp: Path,
        github: Mapping[str, Value],
        environment: Mapping[str, str],
        uses: Recorder | None,
    ) -> None:
        self.github: dict[str, Value] = {
            "action_path": str(directory),
            "event": {},
            "event_name": "push",
            "job": "test",
            "ref": "refs/heads/main",
            "ref_name": "main",
            "repository": "acme/worker",
            "repository_owner": "acme",
            "run_attempt": "1",
            "run_id": "1",
            "server_url": "https://github.com",
            "sha": "0" * 40,
            "workspace": str(workspace),
            **github,
        }
        self.runner = {"os": "Linux", "arch": "X64", "temp": str(temp), "tool_cache": str(temp / "tools"), "debug": ""}
        self.workspace, self.temp, self.environment, self.uses = workspace, temp, dict(environment), uses
        self.ok = True
        self.listener = Listener()
        self.inputs: dict[str, Value] = {}
        self.steps: dict[str, StepResult] = {}
        self.variables: dict[str, str] = {}
        self.path_entries: list[str] = []
        self.summary: list[str] = []
        self.used: list[UsedAction] = []

    def contexts(self, env: Mapping[str, str] | None = None) -> dict[str, Value]:
        steps: dict[str, Value] = {
            name: {"outcome": step.outcome, "conclusion": step.conclusion, "outputs": step.outputs}
            for name, step in self.steps.items()
        }
        merged = {**self.environment, **self.variables, **(env or {})}
        runner: Value = {**self.runner}
        return {"github": self.github, "runner": runner, "inputs": self.inputs, "steps": steps, "env": merged}

    def take_inputs(self, action: Definition, given: Mapping[str, str]) -> None:
        """Match the caller's inputs without regard to case; a missing required one only warns, as in the runner."""
        known = {name.lower(): name for name in action.inputs}
        for name in given:
            if name.lower() not in known:
                self.listener.issue("warning", f"Unexpected input(s) '{name}'")
            elif name.lower() in action.deprecated:
                self.listener.issue("warning", f"Input '{name}' has been deprecated: {action.deprecated[name.lower()]}")
        lower = {name.lower(): value for name, value in given.items()}
        self.inputs = {
            name: lower[name.lower()] if name.lower() in lower else interpolate(text, "default", self.contexts())
            for name, text in action.inputs.items()
        }

    def run_step(self, step: Step, name: str) -> None:
        if not condition(step.condition, self.contexts(), self._status_functions()):
            self.steps[name] = StepResult("skipped", "skipped")
            return
        env = {key: interpolate(text, "step", self.contexts()) for key, text in step.env.items()}
        contexts = self.contexts(env)
        if step.uses is not None:
            outputs, status = self._use(step.uses, {k: interpolate(v, "step", contexts) for k, v in step.with_.items()})
        else:
            outputs, status = self._run(step, env, contexts)
        outcome = "success" if status == 0 else "failure"
        forgiven = interpolate(step.continue_on_error, "step", contexts) == "true"
        conclusion = "success" if forgiven else outcome
        self.steps[name] = StepResult(outcome, conclusion, outputs, status)
        self.ok = self.ok and conclusion == "success"

    def _status_functions(self) -> dict[str, Function]:
        return {
            "always": Function(0, 0, lambda: True),
            "cancelled": Function(0, 0, lambda: False),
            "failure": Function(0, 0, lambda: not self.ok),
            "success": Function(0, 0, lambda: self.ok),
        }

    def _use(self, uses: str, inputs: Mapping[str, str]) -> tuple[Mapping[str, str], int]:
        if self.uses is None:
            raise ExpressionError(f"the action uses {uses}, and the test gave nothing to stand for it")
        used = UsedAction(uses, inputs)
        self.used.append(used)
        return self.uses(used), 0

    def _run(self, step: Step, env: Mapping[str, str], contexts: Mapping[str, Value]) -> tuple[dict[str, str], int]:
        files = FileCommands.create(self.temp / "_runner_file_commands")
        argv = self._argv(interpolate(step.shell, "step", contexts), interpolate(step.run or "", "step", contexts))
        directory = self.workspace / interpolate(step.working_directory, "step", contexts)
        process = subprocess.run(
            argv,
            cwd=directory,
            env=self._step_environment(files, env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=STEP_DEADLINE,
            check=False,
        )
        self.listener.outputs, self.listener.failed = {}, False
        for line in process.stdout.decode("utf-8", "replace").splitlines():
            self.listener.line(line)
        if process.returncode:
            self.listener.issue("error", f"Process completed with exit code {process.returncode}.")
        outputs, failed = self._collect(files)
        return outputs, process.returncode or int(failed or self.listener.failed)

    def _argv(self, shell: str, script: str) -> list[str]:
        line, suffix = SHELLS.get(shell, (shell, ""))
        if "{0}" not in line:
            raise ExpressionError(f"invalid shell option {shell!r}: not built in, and no '{{0}}' in it")
        path = self.temp / f"{uuid.uuid4()}{suffix}"
        path.write_text(script, encoding="utf-8")
        argv = [word.replace("{0}", str(path)) for word in line.split()]
        command = shutil.which(argv[0], path=self._search_path())
        if command is None:
            raise ExpressionError(f"{argv[0]}: command not found")
        return [command, *argv[1:]]

    def _search_path(self) -> str:
        return os.pathsep.join([*reversed(self.path_entries), os.environ["PATH"]])

    def _step_environment(self, files: FileCommands, env: Mapping[str, str]) -> dict[str, str]:
        """Build a step's environment from nothing: the runner sets no `INPUT_*` for the steps of a composite action."""
        github = {
            f"GITHUB_{name.upper()}": value
            for name, value in self.github.items()
            if isinstance(value, str) and name not in _NOT_IN_ENVIRONMENT
        }
        runner = {f"RUNNER_{name.upper()}": value for name, value in self.runner.items() if value}
        base = {"PATH": self._search_path(), "HOME": str(self.temp.parent), "LANG": "C.UTF-8", "CI": "true"}
        own = {"GITHUB_ACTIONS": "true", **github, **runner, **files.environment}
        return {**base, **self.environment, **self.variables, **env, **own}

    def _collect(self, files: FileCommands) -> tuple[dict[str, str], bool]:
        outputs = dict(self.listener.outputs)
        try:
            outputs |= files.outputs()
            self.variables |= files.variables()
        except FileCommandError as error:
            self.listener.issue("error", f"Unable to process file command successfully. {error}")
            return outputs, True
        self.path_entries += files.path_entries()
        summary = files.summary()
        if summary is None:
            self.listener.issue("error", "$GITHUB_STEP_SUMMARY upload aborted, supports content up to a size of 1024k")
        else:
            self.summary.append(self.listener.masks.hide(summary))
        return outputs, False

    def result(self, outputs: Mapping[str, str]) -> Result:
        return Result(
            ok=self.ok,
            outputs=outputs,
            summary="".join(self.summary),
            log="\n".join(self.listener.log),
            annotations=tuple(self.listener.annotations),
            steps=dict(self.steps),
            variables=dict(self.variables),
            path_entries=tuple(self.path_entries),
            used=tuple(self.used),
            temp=self.temp,
        )
