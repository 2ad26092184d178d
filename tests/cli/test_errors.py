"""Errors of allocation are one paragraph; other exceptions stay bugs; texts of exceptions are cut."""

import sys

import numpy as np
import pytest
import torch

from flowrl import cli
from flowrl.cli.errors import exit_code_of
from flowrl.contracts.errors import in_one_line


def error_of(call: object) -> BaseException:
    try:
        call()  # type: ignore[operator]
    except BaseException as error:
        return error
    raise AssertionError("no error")


@pytest.mark.parametrize(
    "call",
    [lambda: torch.empty(2**50), lambda: torch.empty(2**62, 2**62), lambda: np.empty(2**50), lambda: bytearray(2**50)],
)
def test_an_allocation_that_fails_is_one_paragraph(call: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(error_of(call)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("flowrl: the memory does not suffice")
    assert "env.count" in lines[0]


def test_another_runtime_error_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(error_of(lambda: torch.zeros(2) @ torch.zeros(3))) == 1
    assert "this is a bug in flowrl" in capsys.readouterr().err


def test_code_that_ends_the_program_does_not_choose_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(error_of(lambda: sys.exit(0))) == 1
    assert "SystemExit: 0" in capsys.readouterr().err


def test_the_command_line_may_end_the_program_as_after_a_completion() -> None:
    call = compile("import sys; sys.exit(0)", "shell.py", "exec")
    assert exit_code_of(error_of(lambda: exec(call, {"__name__": "typer.shell"}))) == 0  # noqa: S102


def test_a_long_text_of_an_exception_is_cut() -> None:
    error = ValueError(f"begin {'x' * 5000} end")
    text = in_one_line(error)
    assert len(text) < 700 and text.startswith("ValueError: begin x") and text.endswith("x end")
    assert in_one_line(ValueError("y" * 600)) == f"ValueError: {'y' * 600}"


@pytest.mark.parametrize("option", ["--import", "--callback"])
@pytest.mark.parametrize("text", [".", ":x", "my code", "./folder"])
def test_what_names_no_code_is_refused(option: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "gridworld.yaml", option, text, "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert "names no code. Write a Python file, as in my_code.py" in said and repr(text) in said
