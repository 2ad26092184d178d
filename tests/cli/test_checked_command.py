"""What every command refuses: blank values, and numbers that are not finite."""

from __future__ import annotations

import inspect
import typing

import pytest
import typer

from flowrl import cli
from flowrl.cli.checked_command import CheckedCommand


def commands() -> list[tuple[str, typing.Any]]:
    group: typing.Any = typer.main.get_command(cli.app)
    nested = [(f"{name} {own}", each) for name in group.commands for own, each in _below(group.commands[name])]
    return [(name, each) for name, each in group.commands.items() if not _below(each)] + nested


def _below(command: typing.Any) -> list[tuple[str, typing.Any]]:
    return list(getattr(command, "commands", {}).items())


def test_every_command_is_checked() -> None:
    found = dict(commands())
    assert {"export", "train", "samplers check"} <= set(found)
    assert [name for name, command in found.items() if not isinstance(command, CheckedCommand)] == []


FLOATS = [
    (name, option)
    for name, command in cli.COMMANDS.items()
    for option, parameter in inspect.signature(command, eval_str=True).parameters.items()
    if float in (parameter.annotation, *typing.get_args(typing.get_args(parameter.annotation)[0]))
    or typing.get_args(parameter.annotation)[:1] == (float,)
]


@pytest.mark.parametrize(("command", "option"), FLOATS, ids=" ".join)
@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_number_that_is_not_finite_is_refused(
    command: str, option: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A comparison with NaN is never true: `--min-return nan` was no threshold at all."""
    words = ["first"] if command not in ("doctor",) else []
    assert cli.run([command, *words, f"--{option.replace('_', '-')}", number]) == 2
    said = capsys.readouterr().err
    assert f"--{option.replace('_', '-')}" in said and ("finite" in said or "less than" in said), said


def test_the_options_with_numbers_are_found() -> None:
    assert {("eval", "min_return"), ("bench-latency", "max_p99_us"), ("export", "noise_scale")} <= set(FLOATS)


@pytest.mark.parametrize(
    "words",
    [
        ["export", "run", "-o", ""],
        ["export", "run", "--format", ""],
        ["eval", "", "--episodes", "1"],
        ["eval", "run", "--import", " "],
        ["train", "gridworld.yaml", "--callback", ""],
        ["samplers", "check", ""],
    ],
    ids=" ".join,
)
def test_a_blank_value_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As of a shell variable that is not set; a path of '' is the current folder."""
    assert cli.run(words) == 2
    assert "the value is blank, as where a shell variable is not set." in capsys.readouterr().err
