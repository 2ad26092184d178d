"""The command line: one file per command, heavy imports inside the command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import typer
from typer.core import TyperGroup

from flowrl import __version__
from flowrl.cli import samplers
from flowrl.cli.bench_latency import bench_latency
from flowrl.cli.checked_command import CheckedCommand
from flowrl.cli.compare import compare
from flowrl.cli.distil import distil
from flowrl.cli.doctor import doctor
from flowrl.cli.envs import envs
from flowrl.cli.errors import exit_code_of
from flowrl.cli.evaluate import evaluate
from flowrl.cli.export import export
from flowrl.cli.fit_sampler import fit_sampler
from flowrl.cli.habits import explained
from flowrl.cli.inspect import inspect
from flowrl.cli.motions import motions
from flowrl.cli.new import new
from flowrl.cli.output import json_alone, printable_stdout, program
from flowrl.cli.play import play
from flowrl.cli.plot import plot
from flowrl.cli.ratio import ratio
from flowrl.cli.suite import suite
from flowrl.cli.sweep import sweep
from flowrl.cli.train import train
from flowrl.cli.view import view
from flowrl.contracts import user_code
from flowrl.experiments import signals

EPILOG = """\
Begin with: flowrl train gridworld.yaml

Exit codes: 0 ok, 1 a bug of flowrl, 2 usage or configuration, 3 training diverged, 4 bad checkpoint, 5 environment
failed or process lost, 6 storage, 7 a threshold was missed, 8 a dependency is missing, 129, 130 and 143 stopped by
SIGHUP, SIGINT and SIGTERM, after saving.
"""

GROUPS = {
    "Train": ("train", "suite", "sweep"),
    "Evaluate": ("eval", "play", "view", "plot", "compare", "ratio", "inspect"),
    "Deploy": ("export", "bench-latency", "fit-sampler", "distil", "samplers"),
    "Environments": ("envs", "new", "motions"),
    "Tools": ("doctor",),
}
"""The commands as `flowrl --help` lists them."""


EXAMPLES = {
    "train": "flowrl train cheetah.yaml --seed 1 --set learner.clip=0.1",
    "eval": "flowrl eval runs/cheetah-fpo-seed0 --sampler euler:10,heun:5",
    "export": "flowrl export runs/cheetah-fpo-seed0 --sampler ab2:6 -o export",
    "bench-latency": "flowrl bench-latency runs/cheetah-fpo-seed0 --steps 1,4,10",
    "fit-sampler": "flowrl fit-sampler runs/cheetah-fpo-seed0 --nfe 4",
    "distil": "flowrl distil runs/gridworld-fpo-seed0 --nfe 1",
    "envs": "flowrl envs my_env.py:Reach --check",
    "new": "flowrl new my_robot.py --kind mujoco",
    "motions": "flowrl motions walk.bvh --video walk.mp4",
    "suite": "flowrl suite pendulum.yaml --algorithms fpo,ppo --seeds 3",
    "sweep": "flowrl sweep pendulum.yaml --space space.yaml --trials 50",
    "compare": "flowrl compare runs/suite",
    "play": "flowrl play runs/cheetah-fpo-seed0 --video cheetah.mp4",
    "view": "flowrl view runs/cheetah-fpo-seed0 --sampler heun:4",
    "plot": "flowrl plot runs/cheetah-fpo-seed0 runs/cheetah-fpo-seed1",
    "ratio": "flowrl ratio runs/cheetah-fpo-seed0 --out ratio.png",
    "inspect": "flowrl inspect runs/cheetah-fpo-seed0",
    "doctor": "flowrl doctor --json",
}
"""A command line to begin with, shown below the help of each command."""


class CommandGroups(TyperGroup):
    """Lists the commands below the titles of `GROUPS`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section with the commands of each group and their first sentences."""
        width = formatter.width - 6 - max(map(len, self.commands))
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(width)) for name in names])


app = typer.Typer(
    name="flowrl",
    cls=CommandGroups,
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,  # rich doubles the time of --help and does not fill its paragraphs
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, Callable[..., int | None]] = {
    "train": train,
    "eval": evaluate,
    "export": export,
    "bench-latency": bench_latency,
    "fit-sampler": fit_sampler,
    "distil": distil,
    "envs": envs,
    "new": new,
    "motions": motions,
    "suite": suite,
    "sweep": sweep,
    "compare": compare,
    "play": play,
    "view": view,
    "plot": plot,
    "ratio": ratio,
    "inspect": inspect,
    "doctor": doctor,
}
for _name, _command in COMMANDS.items():
    app.command(_name, cls=CheckedCommand, epilog=f"Example: {EXAMPLES[_name]}")(_command)
app.add_typer(samplers.app, name="samplers", epilog="Example: flowrl samplers check heun")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flowrl {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    """Train, evaluate and time robot-control policies that generate their actions with a flow."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit code (see `flowrl --help`)."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line on `arguments` (default: this process's) and return the exit code."""
    typed = sys.argv[1:] if arguments is None else arguments
    wants_json = "--json" in typed
    try:
        with (
            signals.raising(),
            user_code.naming_apart(),
            printable_stdout(),
            json_alone() if wants_json else nullcontext(),
        ):
            result = app(arguments, prog_name=program(), standalone_mode=False)
    except BaseException as error:
        return exit_code_of(explained(error, typed))
    return result if isinstance(result, int) else 0
