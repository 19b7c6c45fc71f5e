"""What the linters of workflow files do not look at: that the parts fit each other."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from action.inputs import PREFIX, Inputs
from tests.composite_action.definition import Definition

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
USES = re.compile(r"uses: (?P<what>\S+)(?:  ?# (?P<version>\S+))?")
FULL = re.compile(r"(?P<action>[\w.-]+/[\w./-]+)@(?P<commit>[0-9a-f]{40})\Z")


def load(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=yaml.BaseLoader)


def test_every_input_reaches_the_program_by_environment_and_by_nothing_else() -> None:
    text = (ROOT / "action/action.yml").read_text()
    definition = Definition.load(ROOT / "action")
    names = {field.name.replace("_", "-") for field in fields(Inputs)}
    assert set(definition.inputs) == names
    run = definition.steps[1]
    assert {name: value for name, value in run.env.items() if name.startswith(PREFIX)} == {
        PREFIX + name.upper().replace("-", "_"): f"${{{{ inputs.{name} }}}}" for name in names
    }
    assert all("${{" not in (step.run or "") for step in definition.steps)
    assert text.count("${{ inputs.") == len(names)


def test_every_output_is_one_that_the_program_sets() -> None:
    written = "".join(path.read_text() for path in (ROOT / "action").glob("*.py"))
    for name, value in Definition.load(ROOT / "action").outputs.items():
        assert value == f"${{{{ steps.run.outputs.{name} }}}}"
        assert f'set_output("{name}"' in written


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_one_commit_each_with_its_version(path: Path) -> None:
    for found in USES.finditer(path.read_text()):
        if found["what"].startswith("$/"):
            assert (ROOT / found["what"].removeprefix("$/")).exists()
            continue
        assert FULL.match(found["what"]), found["what"]
        assert re.fullmatch(r"v\d+\.\d+\.\d+", found["version"] or ""), found[0]


def test_the_same_action_is_the_same_commit_everywhere() -> None:
    commits: dict[str, set[str]] = {}
    for path in WORKFLOWS:
        for found in USES.finditer(path.read_text()):
            if full := FULL.match(found["what"]):
                commits.setdefault(full["action"], set()).add(full["commit"])
    assert {action for action, used in commits.items() if len(used) != 1} == set()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_workflow_starts_without_permissions_and_has_deadlines(path: Path) -> None:
    workflow = load(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert "permissions" in job, name
        assert "timeout-minutes" in job or "uses" in job, name


def test_no_self_test_is_forgotten() -> None:
    jobs = load(ROOT / ".github/workflows/selftest.yml")["jobs"]
    assert set(jobs["all"]["needs"]) == set(jobs) - {"all"}
    assert jobs["all"]["if"] == "always()"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_the_action_is_used_with_inputs_that_it_has(path: Path) -> None:
    known = set(Definition.load(ROOT / "action").inputs)
    for job in load(path)["jobs"].values():
        for step in job.get("steps", []):
            if step.get("uses") == "$/action":
                assert set(step["with"]) <= known


def test_the_reusable_workflow_is_called_with_inputs_that_it_has() -> None:
    known = load(ROOT / ".github/workflows/worker-release.yml")["on"]["workflow_call"]["inputs"]
    calls = [job for path in WORKFLOWS for job in load(path)["jobs"].values() if "uses" in job]
    assert calls
    for call in calls:
        required = {name for name, given in known.items() if given.get("required") == "true"}
        assert required <= set(call["with"]) <= set(known)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_nobody_is_told_that_it_has_run(path: Path) -> None:
    assert path.read_text().startswith("# Not yet run on hosted runners")


def test_the_locked_requirements_are_all_hashed_and_are_those_we_test_with() -> None:
    def locked(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==([^ \\]+)", (ROOT / name).read_text(), re.MULTILINE))

    ours, tested = locked("action/requirements.txt"), locked("requirements/dev.txt")
    assert {"click", "sigstore", "hatchling"} <= set(ours)
    assert {name: version for name, version in ours.items() if tested.get(name) != version} == {}
    blocks = re.split(r"\n(?=\S)", (ROOT / "action/requirements.txt").read_text().strip())
    assert all("--hash=sha256:" in block for block in blocks)


PAGES = [ROOT / "action/README.md", ROOT / "docs/howto/github.md"]
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


def nested(node: Any) -> list[dict[str, Any]]:
    """Every mapping in a document, wherever it stands."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return ([node] if isinstance(node, dict) else []) + [found for child in children for found in nested(child)]


def test_the_readme_lists_inputs_and_outputs_as_they_are() -> None:
    readme = (ROOT / "action/README.md").read_text()
    action = load(ROOT / "action/action.yml")
    for kind in ("inputs", "outputs"):
        rows = [f"| `{name}` | {item['description']} |" for name, item in action[kind].items()]
        assert "\n".join(rows) in readme, f"the table of {kind} in action/README.md is not that of action.yml"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_use_what_there_is(page: Path) -> None:
    inputs = set(Definition.load(ROOT / "action").inputs)
    called = load(ROOT / ".github/workflows/worker-release.yml")["on"]["workflow_call"]["inputs"]
    blocks = [yaml.load(block, Loader=yaml.BaseLoader) for block in BLOCK.findall(page.read_text())]
    steps = [mapping for mapping in nested(blocks) if "with" in mapping]
    assert steps
    for step in steps:
        uses = step.get("uses", "OWNER/wcp-attest/action@COMMIT")
        if uses == "OWNER/wcp-attest/action@COMMIT":
            assert set(step["with"]) <= inputs
        elif "worker-release.yml" in uses:
            assert set(step["with"]) <= set(called)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_pins_actions_as_the_workflows_do(page: Path) -> None:
    commits = {full["action"]: full["commit"] for path in WORKFLOWS for found in USES.finditer(path.read_text())
               if (full := FULL.match(found["what"]))}  # fmt: skip
    for found in USES.finditer(page.read_text()):
        if (full := FULL.match(found["what"])) and full["action"] in commits:
            assert full["commit"] == commits[full["action"]]
