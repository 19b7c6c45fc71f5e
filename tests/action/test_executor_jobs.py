"""The executor around the expressions: steps, files, workflow commands, masks, and the refusals of the real runner."""

from __future__ import annotations

import contextlib
import textwrap
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.composite_action import DefinitionError, Result, UsedAction, run_action
from tests.composite_action.commands import Command, Masks, parse
from tests.composite_action.filecommands import FileCommandError, parse_pairs

if TYPE_CHECKING:
    from pathlib import Path


class Caller:
    """A job with one composite action of the given steps."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.action, self.workspace, self.temp = (base / name for name in ("action", "workspace", "temp"))
        for directory in (self.action, self.workspace, self.temp):
            directory.mkdir()

    def run(self, steps: str, *, head: str = "", outputs: str = "", **inputs: str) -> Result:
        indented = textwrap.indent(textwrap.dedent(steps), "    ")
        text = (
            f"name: t\ndescription: t\n{textwrap.dedent(head)}{textwrap.dedent(outputs)}\nruns:\n  using: composite\n"
        )
        (self.action / "action.yml").write_text(f"{text}  steps:\n{indented}", encoding="utf-8")
        return run_action(self.action, workspace=self.workspace, temp=self.temp, inputs=inputs, uses=self.uses)

    def uses(self, used: UsedAction) -> dict[str, str]:
        return {"seen": used.inputs.get("path", "")}


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path)


ONE_INPUT = "inputs:\n  value:\n    default: fallback\n  flag:\n    default: true\n"


def test_steps_outputs_environment_and_path_flow(caller: Caller) -> None:
    result = caller.run(
        """
        - id: first
          shell: bash
          env: {VALUE: "${{ inputs.value }}"}
          run: |
            mkdir tools; printf '#!/bin/sh\\necho found\\n' > tools/helper; chmod +x tools/helper
            { echo "plain=$VALUE"; printf 'block<<END\\nline 1\\nline=2\\nEND\\n'; } >> "$GITHUB_OUTPUT"
            echo "KEPT=for later" >> "$GITHUB_ENV"
            echo "$PWD/tools" >> "$GITHUB_PATH"
            echo "# done" >> "$GITHUB_STEP_SUMMARY"
        - shell: sh
          if: inputs.flag == 'true'
          run: echo "kept=$KEPT helper=$(helper) cwd=$(pwd) action=$GITHUB_ACTION_PATH"
        - id: sent
          uses: actions/upload-artifact@v7
          with: {path: "${{ steps.first.outputs.plain }}"}
        """,
        head=ONE_INPUT,
        outputs="outputs:\n  block: {value: '${{ steps.first.outputs.block }}'}\n"
        "  seen: {value: '${{ steps.sent.outputs.seen }}'}\n",
        VALUE="a b",
    )
    assert result.ok
    assert result.outputs == {"block": "line 1\nline=2", "seen": "a b"}
    assert f"kept=for later helper=found cwd={caller.workspace} action={caller.action}" in result.log
    assert result.summary == "# done\n"
    assert result.used == (UsedAction("actions/upload-artifact@v7", {"path": "a b"}),)
    assert result.variables == {"KEPT": "for later"}


def test_the_environment_holds_nothing_of_the_developer_and_no_inputs(
    caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/leaked")
    monkeypatch.setenv("WCP_ATTEST_POLICY", "/leaked")
    result = caller.run("- {shell: bash, run: env}", head=ONE_INPUT, value="given")
    names = {line.partition("=")[0] for line in result.log.splitlines()}
    assert not {name for name in names if name.startswith(("INPUT_", "PYTHON", "WCP_"))}
    assert {"GITHUB_ACTIONS", "GITHUB_OUTPUT", "GITHUB_WORKSPACE", "RUNNER_TEMP", "CI", "PATH", "HOME"} <= names


def test_a_step_cannot_name_its_own_runner_variables(caller: Caller) -> None:
    result = caller.run("- {shell: bash, env: {GITHUB_REPOSITORY: evil/one}, run: 'echo $GITHUB_REPOSITORY'}")
    assert result.log == "acme/worker"


def test_failure_stops_the_steps_that_do_not_ask_for_it(caller: Caller) -> None:
    result = caller.run(
        """
        - {id: bad, shell: bash, run: "false | true"}
        - {id: normal, shell: bash, run: "true"}
        - {id: cleaning, shell: bash, if: always(), run: "true"}
        - {id: reporting, shell: bash, if: failure(), run: "true"}
        """
    )
    assert not result.ok
    assert [result.steps[name].outcome for name in ("bad", "normal", "cleaning", "reporting")] == [
        "failure", "skipped", "success", "success",
    ]  # fmt: skip


def test_continue_on_error_keeps_the_outcome(caller: Caller) -> None:
    result = caller.run(
        "- {id: bad, shell: bash, continue-on-error: '${{ inputs.flag }}', run: exit 3}", head=ONE_INPUT, flag="true"
    )
    assert result.ok
    assert (result.steps["bad"].outcome, result.steps["bad"].conclusion) == ("failure", "success")
    assert result.steps["bad"].exit_status == 3


def test_splicing_an_input_into_a_script_is_exploitable_and_env_is_not(caller: Caller) -> None:
    hostile = '"; echo pwned > owned; echo "'
    spliced = caller.run("- {shell: bash, run: 'echo \"${{ inputs.value }}\"'}", head=ONE_INPUT, value=hostile)
    assert spliced.ok
    assert (caller.workspace / "owned").exists()
    (caller.workspace / "owned").unlink()
    caller.run("- {shell: bash, env: {V: '${{ inputs.value }}'}, run: 'echo \"$V\"'}", head=ONE_INPUT, value=hostile)
    assert not (caller.workspace / "owned").exists()


@pytest.mark.parametrize(
    "steps",
    [
        "- {run: 'true'}",
        "- {shell: bash}",
        "- {shell: bash, run: 'true', uses: actions/checkout@v7}",
        "- {shell: bash, run: 'true', timeout-minutes: 1}",
        "- {uses: actions/checkout@v7, working-directory: x}",
        "- {id: a, shell: bash, run: 'true'}\n- {id: A, shell: bash, run: 'true'}",
        "- {shell: bash, run: [a, b]}",
        "- {shell: bash, run: {unclosed}",
    ],
)
def test_definitions_that_the_runner_refuses(caller: Caller, steps: str) -> None:
    with pytest.raises(DefinitionError):
        caller.run(steps)


def test_other_definitions_that_are_refused(caller: Caller) -> None:
    with pytest.raises(DefinitionError, match=r"no action\.yml"):
        run_action(caller.action, workspace=caller.workspace, temp=caller.temp)
    (caller.action / "action.yml").write_text("name: n\nruns: {using: node24, main: x.js}\n")
    with pytest.raises(DefinitionError, match="composite"):
        run_action(caller.action, workspace=caller.workspace, temp=caller.temp)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo nonsense >> $GITHUB_OUTPUT", "invalid format"),
        ("echo '=x' >> $GITHUB_OUTPUT", "invalid format"),
        ("printf 'a<<E\\nb\\n' >> $GITHUB_OUTPUT", "delimiter not found"),
        ("echo NODE_OPTIONS=x >> $GITHUB_ENV", "can't store"),
        ("echo GITHUB_TOKEN=x >> $GITHUB_ENV", "can't store"),
        ("echo '::set-env name=A::b'", "Unable to process command"),
        ("echo '  ::add-path::/tmp'", "Unable to process command"),
        ("echo 'a file ##[add-path]/tmp'", "Unable to process command"),
        ("echo '::stop-commands::error'", "Unable to process command"),
        ("exit 7", "exit code 7"),
    ],
)
def test_misuse_fails_the_step(caller: Caller, script: str, message: str) -> None:
    result = caller.run(f'- {{id: s, shell: bash, run: "{script}"}}')
    assert not result.ok
    assert result.steps["s"].outcome == "failure"
    assert any(message in issue.data for issue in result.annotations)


def test_masks_hide_secrets_wherever_they_show_up(caller: Caller) -> None:
    result = caller.run(
        """
        - shell: bash
          run: |
            echo '::add-mask::hunter2 and more'
            echo 'said hunter2 and more'
            printf 'hunter2 and more' | base64
            echo '::error title=hunter2 and more::hunter2 and more'
            echo '# hunter2 and more' >> $GITHUB_STEP_SUMMARY
        """
    )
    seen = result.log + result.summary + repr(result.annotations)
    assert "hunter2" not in seen
    assert "aHVudGVyMiBhbmQgbW9yZQ" not in seen
    assert seen.count("***") == 6


def test_stop_commands_silences_what_a_tool_prints(caller: Caller) -> None:
    result = caller.run(
        """
        - shell: bash
          run: |
            echo '::stop-commands::0f3a9c-token'
            echo '::error::forged'
            echo 'name ##[set-output name=verified]true'
            echo '::0f3a9c-token::'
            echo '::warning::real'
        """
    )
    assert [(issue.name, issue.data) for issue in result.annotations] == [("warning", "real")]


def test_a_printed_name_can_set_an_output_which_is_why_names_are_not_printed_raw(caller: Caller) -> None:
    result = caller.run("- {id: s, shell: bash, run: 'echo \"removed: ##[set-output name=verified]true\"'}")
    assert result.steps["s"].outputs == {"verified": "true"}


def test_too_long_a_summary_is_dropped(caller: Caller) -> None:
    result = caller.run("- {shell: bash, run: 'head -c 1048577 /dev/zero | tr \"\\0\" x >> $GITHUB_STEP_SUMMARY'}")
    assert result.summary == ""
    assert "upload aborted" in result.annotations[0].data


def test_unknown_inputs_warn_and_required_ones_are_not_checked(caller: Caller) -> None:
    head = "inputs:\n  needed:\n    required: true\n  old:\n    deprecationMessage: use new\n"
    result = caller.run("- {shell: bash, run: 'true'}", head=head, other="x", old="y")
    assert result.ok
    assert [issue.data for issue in result.annotations] == [
        "Unexpected input(s) 'other'",
        "Input 'old' has been deprecated: use new",
    ]


@pytest.mark.parametrize(("shell", "script"), [("bash", "${{ secrets.X }}"), ("fish-9", "x"), ("nosuch {0}", "x")])
def test_a_step_that_cannot_be_evaluated_fails_the_action(caller: Caller, shell: str, script: str) -> None:
    result = caller.run(f"- {{shell: '{shell}', run: '{script}'}}")
    assert not result.ok
    assert result.annotations[0].name == "error"


def test_python_steps_and_custom_shells(caller: Caller) -> None:
    result = caller.run(
        """
        - {shell: python, run: "print('from python')"}
        - {shell: "python -I {0}", run: "import sys; print(sys.flags.isolated)"}
        """
    )
    assert result.log.splitlines() == ["from python", "1"]


@given(st.dictionaries(st.text("abc-_", min_size=1), st.text(max_size=30)))
def test_blocks_carry_any_text(pairs: dict[str, str]) -> None:
    text = "".join(f"{name}<<ghadelimiter\n{value}\nghadelimiter\n" for name, value in pairs.items())
    assert parse_pairs(text) == pairs


@given(st.text(max_size=60))
def test_no_text_crashes_the_file_or_the_command_parser(text: str) -> None:
    parse(text)
    with contextlib.suppress(FileCommandError):
        parse_pairs(text)


def test_both_spellings_of_a_command_and_their_escapes() -> None:
    assert parse("  ::error file=a%2Cb.py,line=3,title=x%3Ay::m%0An%25") == Command(
        "error", "m\nn%", {"file": "a,b.py", "line": "3", "title": "x:y"}
    )
    assert parse("x ##[warning file=a%5Db;line=1]m%3B") == Command("warning", "m;", {"file": "a]b", "line": "1"})
    assert parse("::nonsense::x") is None
    assert parse("text ::error::x") is None


def test_masking_covers_lines_and_encodings() -> None:
    masks = Masks()
    masks.add('first line\nsecond "line"')
    for shown in ("first line", 'second \\"line\\"', "second%20%22line%22", "second &quot;line&quot;"):
        assert masks.hide(f"<{shown}>") == "<***>"
