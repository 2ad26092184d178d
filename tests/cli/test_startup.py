"""Commands that need no tensors answer at once: importing torch costs seconds."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import pytest
import typer

from flowrl import cli
from flowrl.contracts import notices

QUICK = [["--help"], ["--version"], ["train", "--help"], ["eval", "--help"], ["bench-latency", "--help"]]
HEAVY = ("torch", "torchdiffeq", "mujoco", "gymnasium", "matplotlib", "tensorboard")
LIMIT = 0.6  # processor seconds; 0.4 is the aim, the rest is for slow machines


@pytest.mark.parametrize("arguments", QUICK, ids=" ".join)
def test_a_quick_command_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from flowrl.cli import run\n"
        f"code = run({arguments!r})\n"
        f"print(code, sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout
    assert finished.stderr.splitlines()[-1] == "0 []"


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="processor time of a child is not available here")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]], ids=" ".join)
def test_a_quick_command_is_quick(arguments: list[str]) -> None:
    seconds = min(processor_seconds(arguments) for _ in range(3))  # a crowded machine only adds to it
    print(f"flowrl {' '.join(arguments)}: {seconds:.2f} s of processor time")
    assert seconds <= LIMIT


def processor_seconds(arguments: list[str]) -> float:
    """User and system time of `flowrl` with `arguments`, waiting not included."""
    with subprocess.Popen(
        [sys.executable, "-m", "flowrl", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime


def test_every_command_is_in_one_group_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    listed = [name for names in cli.GROUPS.values() for name in names]
    assert sorted(listed) == sorted(typer.main.get_command(cli.app).commands)
    assert sorted(listed) == sorted(notices._COMMANDS.split("|"))  # messages name these as flowrl was started
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    places = [shown.index(f"{title}:") for title in cli.GROUPS]
    assert places == sorted(places)
    assert all(f"\n  {name} " in shown for name in listed)


def test_the_example_of_every_command_can_be_typed() -> None:
    for name, command in typer.main.get_command(cli.app).commands.items():
        words = shlex.split(command.epilog.removeprefix("Example: "))
        assert words[:2] == ["flowrl", name]
        command.make_context(name, words[2:], resilient_parsing=False)  # raises at an option that does not exist
