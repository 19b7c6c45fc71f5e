"""An empty value, as a variable of a shell gives it that is not set, is never taken for one left out, nor for `.`."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click
import pytest

from tests.cli.inprocess import ok, wcp
from wcp_attest.cli.command_table import COMMANDS, RootGroup
from wcp_route.cli import main
from wcp_route.cli.root import COMMANDS as ROUTER_COMMANDS
from wcp_route.cli.root import Root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def commands_of(command: click.Command | None, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield the commands of a group, and those of the groups in it, with their names."""
    assert command is not None
    if not isinstance(command, click.Group):
        yield names, command
        return
    for name, below in command.commands.items():
        yield from commands_of(below, *names, name)


def arguments_of(command: click.Command, tried: click.Parameter) -> list[str]:
    """Return the least that the command needs, with an empty value for the parameter that is tried."""
    words = []
    for parameter in command.params:
        if parameter is not tried and not parameter.required:
            continue
        choices = parameter.type.choices if isinstance(parameter.type, click.Choice) else ("given",)
        value = "" if parameter is tried else str(choices[0])
        words += [parameter.opts[0], value] if isinstance(parameter, click.Option) else [value]
    return words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_refuses_an_empty_value_of_each_of_its_parameters(name: str, tmp_path: Path) -> None:
    group = RootGroup()
    found = group.get_command(click.Context(group), name)
    for names, command in commands_of(found, name):
        texts = [each for each in command.params if isinstance(each.type, click.Path | type(click.STRING))]
        for parameter in texts:
            ran = wcp(*names, *arguments_of(command, parameter), cwd=tmp_path)
            assert ran.status == (125 if name == "run" else 2), (names, parameter.name, ran)
            assert "is empty" in ran.err, (names, parameter.name, ran)
            assert ran.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_words_of_a_command_that_is_run_may_be_empty(tmp_path: Path) -> None:
    command = importlib.import_module("wcp_attest.cli.run_command").run
    context = command.make_context("run", ["package", "--", "printf", "%s|", "", "end"])
    assert context.params["command"] == ("printf", "%s|", "", "end")


def test_a_value_that_has_an_empty_default_may_be_left_out(tmp_path: Path) -> None:
    ok("ban", "new", "l.json", "--name", "acme", cwd=tmp_path)
    ok("ban", "add", "l.json", "--worker", "org.acme.w", "--reason", "leaks", cwd=tmp_path)


@pytest.mark.parametrize("name", ROUTER_COMMANDS)
def test_every_command_of_the_router_refuses_an_empty_value(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    group = Root()
    for names, command in commands_of(group.get_command(click.Context(group), name), name):
        texts = [each for each in command.params if isinstance(each.type, click.Path | type(click.STRING))]
        for parameter in texts:
            assert main([*names, *arguments_of(command, parameter)]) == 2, (names, parameter.name)
            said = capsys.readouterr().err
            assert "is empty" in said, (names, parameter.name, said)
            assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
