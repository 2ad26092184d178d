"""Tables and facts that commands print are aligned, fit the terminal and hold no control characters."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowrl.cli import output, run
from flowrl.cli.errors import complain, exit_code_of
from flowrl.cli.output import json_alone, next_command, print_facts, print_json, print_table, printable_stdout, say
from flowrl.contracts.printable import printable
from flowrl.experiments.suite import processes

COLUMNS = ["name", "NFE", "error", "description"]
ROWS = [["euler", "10", "-", "the slope at the start of the step"], ["heun", "8", "-", "the mean of two"]]


def on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(output.shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))


def test_a_table_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(COLUMNS, ROWS, numbers=("NFE",))
    assert capsys.readouterr().out.splitlines() == [
        "name   NFE  description",  # the column without an error is left out
        "-----  ---  ----------------------------------",
        "euler   10  the slope at the start of the step",
        "heun     8  the mean of two",
    ]


def test_a_terminal_wraps_the_last_column_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_terminal(monkeypatch, 38)  # 12 for the others, 26 for the last
    print_table(COLUMNS, ROWS, numbers=("NFE",))
    assert capsys.readouterr().out.splitlines() == [
        "name   NFE  description",
        "-----  ---  --------------------------",
        "euler   10  the slope at the start of",
        "            the step",
        "heun     8  the mean of two",
    ]


def test_a_wide_terminal_and_a_pipe_get_the_same_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(COLUMNS, ROWS)
    piped = capsys.readouterr().out
    on_terminal(monkeypatch, 200)
    print_table(COLUMNS, ROWS)
    assert capsys.readouterr().out == piped


def test_a_table_without_rows_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["name", "NFE"], [])
    print_table(["NFE"], [["-"]])
    assert capsys.readouterr().out.splitlines() == ["name  NFE", "----  ---", "NFE", "---", "-"]


def test_facts_are_indented_below_their_heading(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("size", "3 kB"), ("algorithm", "fpo")], "ckpt.pt")
    print_facts([])
    print_facts([("", "")])
    assert capsys.readouterr().out.splitlines() == ["ckpt.pt", "  size       3 kB", "  algorithm  fpo", ""]


ODD = "\x1b]0;title\x07\x1b[2J\r\u202eevil\u2066\u200b\u200f\ud800\x9b"
SHOWN = r"\x1b]0;title\x07\x1b[2J\r\u202eevil\u2066\u200b\u200f\ud800\x9b"


def test_control_characters_and_directions_are_shown_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(ODD) == SHOWN
    assert printable("naïve 動作 µ ± 😀 C:\\x") == "naïve 動作 µ ± 😀 C:\\x"
    print_table(["name"], [[ODD]])
    print_facts([("a", ODD)], ODD)
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 3
    say(ODD)
    complain(f"{ODD}\n  second line\n")
    assert capsys.readouterr().err == f"{SHOWN}\nflowrl: {SHOWN} second line\n"


def test_whoever_prints_on_stdout_cannot_send_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    with printable_stdout():
        print(f"a\n{ODD}", end="!\n")
        sys.stdout.writelines([ODD, "\n"])
    assert capsys.readouterr().out == f"a\n{SHOWN}!\n{SHOWN}\n"


def test_a_bug_report_shows_the_text_of_the_exception_in_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(ZeroDivisionError(ODD)) == 1
    printed = capsys.readouterr().err
    assert f"ZeroDivisionError: {SHOWN}" in printed
    assert "\x1b" not in printed


def test_nothing_prints_on_stderr_but_what_shows_escapes() -> None:
    """Text is printed by `say`, `complain` and the views, which call `printable`."""
    allowed = {"cli/errors.py", "cli/output.py", "contracts/notices.py", "reporting/console.py"}
    source = Path(output.__file__).parents[1]
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            printing = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            if printing and any(keyword.arg == "file" for keyword in node.keywords):
                assert path.relative_to(source).as_posix() in allowed


def test_the_next_command_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "bin" / "flowrl"
    program.parent.mkdir()
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", str(tmp_path))
    next_command("flowrl eval", Path("my run"), "--steps", 3)
    assert capsys.readouterr().err == f"next: {program} eval 'my run' --steps 3\n"
    monkeypatch.setenv("PATH", str(program.parent))
    next_command("flowrl doctor")
    assert capsys.readouterr().err == "next: flowrl doctor\n"


def test_no_arguments_print_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("Usage: flowrl")
    assert "Begin with: flowrl train gridworld.yaml" in printed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
def test_an_output_that_cannot_be_written_is_a_storage_error() -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "flowrl", "samplers"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 6
    assert done.stderr == "flowrl: the output cannot be written: No space left on device. Free some space.\n"


WRONG = """\
print("\x1b[2J", end="")
class Wrong:
    def __call__(self, velocity, x, t0, t1):
        return x
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("samplers --json", 0),
        ("--help", 0),
        ("samplers check wrong.py:Wrong", 7),
        ("samplers check wrong.py:Wrong --json", 7),
        ("suite gone.yaml", 2),
    ],
)
def test_a_closed_pipe_changes_no_exit_code(
    command: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the end of the interpreter, so the commands run as those of a suite do, not in forks of this process."""
    (tmp_path / "wrong.py").write_text(WRONG)
    monkeypatch.chdir(tmp_path)
    reading, writing = os.pipe()
    os.close(reading)
    errors = tmp_path / "errors"
    with os.fdopen(writing, "wb") as pipe, errors.open("wb") as stderr:
        process = processes.start(command.split(), os.environ, stderr=stderr, stdout=pipe)
    assert process.wait() == code
    assert "Traceback" not in errors.read_text() and "Exception ignored" not in errors.read_text()
    assert "\x1b" not in errors.read_text()


def test_a_closed_pipe_is_noticed_by_no_code_that_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(ZeroDivisionError), printable_stdout():
            for _ in range(10_000):
                print("line")
            sys.stdout.flush()
            raise ZeroDivisionError


def test_a_command_that_fails_does_so_whatever_reads_its_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(BrokenPipeError(32, "Broken pipe")) == 1  # of a worker process, for instance
    assert "this is a bug" in capsys.readouterr().err


def test_what_other_code_prints_beside_a_document_shows_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    with json_alone():
        print(ODD)
        print_json({"a": "\x7f"})
    printed = capsys.readouterr()
    assert printed.err == f"{SHOWN}\n"
    assert json.loads(printed.out) == {"a": "\x7f"}
