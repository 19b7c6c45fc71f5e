"""`action.yml` as values, refused where the runner refuses it (`action_yaml.json` of the runner)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_RUN_STEP: Final = frozenset({"name", "id", "if", "run", "env", "continue-on-error", "working-directory", "shell"})
_USES_STEP: Final = frozenset({"name", "id", "if", "uses", "continue-on-error", "with", "env"})
_OUTPUT: Final = frozenset({"description", "value"})

T = TypeVar("T")


class DefinitionError(Exception):
    """The runner would not load this `action.yml`."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step; exactly one of `run` and `uses` is set."""

    id: str | None
    condition: str
    env: Mapping[str, str]
    continue_on_error: str
    run: str | None = None
    shell: str = ""
    working_directory: str = ""
    uses: str | None = None
    with_: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Definition:
    """A composite action: defaults of its inputs, its steps, and the expressions of its outputs."""

    inputs: Mapping[str, str]
    required: frozenset[str]
    deprecated: Mapping[str, str]
    steps: tuple[Step, ...]
    outputs: Mapping[str, str]

    @classmethod
    def load(cls, directory: Path) -> Definition:
        """Read the `action.yml` or `action.yaml` of a directory.

        Raises:
            DefinitionError: there is none, or the runner would refuse it.
        """
        path = next((path for name in ("action.yml", "action.yaml") if (path := directory / name).is_file()), None)
        if path is None:
            raise DefinitionError(f"no action.yml in {directory}")
        try:
            # BaseLoader keeps every scalar the string that it is: the runner knows no booleans in inputs.
            root = _mapping(yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader), "action")
        except yaml.YAMLError as error:
            raise DefinitionError(f"not YAML: {error}") from error
        runs = _mapping(root.get("runs"), "runs")
        if runs.get("using") != "composite" or set(runs) != {"using", "steps"}:
            raise DefinitionError("runs: only `using: composite` with `steps` can be executed here")
        inputs = _each(root.get("inputs"), "inputs", lambda item: _mapping(item, "input"))
        return cls(
            inputs={name: _string(item.get("default", ""), name) for name, item in inputs.items()},
            required=frozenset(name for name, item in inputs.items() if item.get("required") == "true"),
            deprecated={name: str(m) for name, item in inputs.items() if (m := item.get("deprecationMessage"))},
            steps=_steps(runs.get("steps")),
            outputs=_each(root.get("outputs"), "outputs", _output),
        )


def _mapping(node: object, what: str) -> dict[str, object]:
    if not isinstance(node, dict):
        raise DefinitionError(f"{what}: a mapping was expected")
    return {str(name): value for name, value in node.items()}


def _string(node: object, what: str) -> str:
    if not isinstance(node, str):
        raise DefinitionError(f"{what}: a string was expected")
    return node


def _each(node: object, what: str, read: Callable[[object], T]) -> dict[str, T]:
    return {name: read(item) for name, item in _mapping(node if node is not None else {}, what).items()}


def _strings(node: object, what: str) -> dict[str, str]:
    return {name: _string(item, f"{what}.{name}") for name, item in _mapping(node or {}, what).items()}


def _output(node: object) -> str:
    output = _mapping(node, "output")
    if not set(output) <= _OUTPUT or "value" not in output:
        raise DefinitionError("output: `value` is required, `description` allowed")
    return _string(output["value"], "output value")


def _steps(node: object) -> tuple[Step, ...]:
    if not isinstance(node, list) or not node:
        raise DefinitionError("steps: a sequence was expected")
    steps = tuple(_step(_mapping(item, "step")) for item in node)
    ids = [step.id.lower() for step in steps if step.id]
    if len(ids) != len(set(ids)):
        raise DefinitionError("steps: an id is used twice")
    return steps


def _step(step: dict[str, object]) -> Step:
    allowed = _RUN_STEP if "run" in step else _USES_STEP
    if unknown := set(step) - allowed:
        raise DefinitionError(f"unexpected value {min(unknown)!r}")
    if "run" in step and not step.get("shell"):
        raise DefinitionError("required property is missing: shell")
    if ("run" in step) == ("uses" in step):
        raise DefinitionError("a step has either `run` or `uses`")
    return Step(
        id=_string(step["id"], "id") if "id" in step else None,
        condition=_string(step.get("if", ""), "if"),
        env=_strings(step.get("env"), "env"),
        continue_on_error=_string(step.get("continue-on-error", "false"), "continue-on-error"),
        run=_string(step["run"], "run") if "run" in step else None,
        shell=_string(step.get("shell", ""), "shell"),
        working_directory=_string(step.get("working-directory", ""), "working-directory"),
        uses=_string(step["uses"], "uses") if "uses" in step else None,
        with_=_strings(step.get("with"), "with"),
    )
