"""How far MuJoCo Warp is from MuJoCo, for every task that runs on both: writes docs/results/warp.md.

    python benchmarks/warp_parity.py                     # all tasks, on Warp's CPU device, into docs/results/warp.md
    python benchmarks/warp_parity.py CheetahRun --out -  # one, to the screen

Both engines get the same starts, with random velocities, and the same random actions. Beside them stands MuJoCo from a
start that was moved by its rounding to float32: what float32 alone costs before the first step, and how fast a task
makes a small difference large.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowrl.envs.dm_control.tasks import TASKS, find_task
from flowrl.envs.humanoid.environment import track_constants
from flowrl.envs.humanoid.tracking import HumanoidTrack
from flowrl.envs.simulation.mujoco_warp import MujocoWarp
from flowrl.envs.simulation.task_runner import TaskRunner

PAGE = Path(__file__).parents[1] / "docs" / "results" / "warp.md"
COUNT, STEPS, SHOWN = 8, 100, (1, 20, 100)  # worlds, control steps, and those that the table shows
SPEED = 0.1  # standard deviation of the velocities that are added at the start, m/s and rad/s
LIFT = 1e-3  # m, of the humanoid: the sole of its foot is at height 0 to the last bit
HUMANOID = "HumanoidTrack"


@dataclass(frozen=True)
class Deviation:
    """Differences of one engine from MuJoCo, in the units of the fields."""

    qpos: dict[int, tuple[float, float]]  # control step -> of the worst and of the median world
    qvel: tuple[float, float]  # after all steps
    reward: float  # the worst of all steps and worlds
    seconds: float  # CPU time of all steps
    contacts: bool  # whether all worlds have equally many contacts after all steps


def runner(task: str, **simulator: Any) -> TaskRunner:
    if task == HUMANOID:
        constants = track_constants(["gait:walk"])
        return TaskRunner(HumanoidTrack, constants, COUNT, 1, **simulator)
    return TaskRunner(*find_task(task, "dmc"), COUNT, 1, **simulator)


def start(task: str, exact: TaskRunner) -> dict[str, Tensor]:
    """Begin episodes in MuJoCo and return their states with random velocities, in float64."""
    exact.begin(np.random.default_rng(0), reseed=True)
    random = torch.Generator().manual_seed(1)
    state = {name: exact.simulation.bind(name).clone() for name in ("qpos", "qvel")}
    state["qvel"] += SPEED * torch.randn(state["qvel"].shape, dtype=torch.float64, generator=random)
    if task == HUMANOID:
        state["qpos"][:, 2] += LIFT
    return state


def put(other: TaskRunner, state: dict[str, Tensor]) -> None:
    """Begin the same episodes in `other`, and put its simulations into `state`."""
    other.begin(np.random.default_rng(0), reseed=True)
    for name, values in state.items():
        other.simulation.bind(name).copy_(values)
    other.simulation.bind("qacc_warmstart").zero_()
    other.simulation.forward()


def compare(exact: TaskRunner, other: TaskRunner) -> Deviation:
    """Step both with the same actions."""
    random = torch.Generator().manual_seed(2)
    low, high = torch.from_numpy(exact.simulation.model.actuator_ctrlrange.astype(np.float32)).T
    found, reward, seconds = {}, 0.0, 0.0
    for step in range(1, STEPS + 1):
        action = low + (high - low) * torch.rand(COUNT, exact.action_size, generator=random)
        if HumanoidTrack is type(exact.task):
            action = action / 6  # of the limit: joint targets of up to 0.5 rad
        one = exact.step(action)
        before = time.process_time()
        two = other.step(action)
        seconds += time.process_time() - before
        reward = max(reward, float((one.reward - two.reward.double()).abs().max()))
        if step in SHOWN:
            found[step] = worst_and_median(exact, other, "qpos")
    contacts = [each.simulation.contacts(each.all_rows) for each in (exact, other)]
    return Deviation(
        found, worst_and_median(exact, other, "qvel"), reward, seconds, torch.equal(*(c.long() for c in contacts))
    )


def worst_and_median(exact: TaskRunner, other: TaskRunner, field: str) -> tuple[float, float]:
    each = (exact.simulation.bind(field) - other.simulation.bind(field).double()).abs().amax(1)
    return float(each.max()), float(each.median())


def of_warp(task: str) -> tuple[Deviation, Deviation]:
    """Return the deviation of Warp, and that of MuJoCo from the start rounded to float32."""
    exact, other = runner(task), runner(task, simulator=MujocoWarp)
    state = start(task, exact)
    rounded = {name: values.float().double() for name, values in state.items()}

    def of(second: TaskRunner, values: dict[str, Tensor]) -> Deviation:
        put(exact, rounded)
        put(second, values)
        return compare(exact, second)

    return of(other, rounded), of(runner(task), state)


def cells(deviation: Deviation) -> list[str]:
    def pair(values: tuple[float, float]) -> str:
        return f"{values[0]:.1e} ({values[1]:.0e})"

    return [*(pair(deviation.qpos[step]) for step in SHOWN), pair(deviation.qvel), f"{deviation.reward:.0e}"]


def table(found: dict[str, tuple[Deviation, Deviation]]) -> list[str]:
    head = [
        "| Task | engine | qpos after 1 control step | 20 | 100 | qvel after 100 | reward, worst | contacts | CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for task, deviations in found.items():
        for engine, deviation in zip(("Warp", "MuJoCo, rounded start"), deviations, strict=True):
            last = ["equal" if deviation.contacts else "differ", f"{deviation.seconds:.1f}"]
            head.append("| " + " | ".join([task, engine, *cells(deviation), *last]) + " |")
    return head


def page(rows: list[str]) -> str:
    from importlib.metadata import version

    versions = ", ".join(f"{name} {version(name)}" for name in ("mujoco", "mujoco-warp", "warp-lang", "torch"))
    return "\n".join(
        [
            "# MuJoCo Warp against MuJoCo",
            "",
            "How far the simulation in float32 is from the one in float64, task by task. Written by",
            f"`benchmarks/warp_parity.py` on Warp's CPU device with {versions}. **No GPU was used.**",
            "",
            f"{COUNT} environments of each task begin with the same starts, to which random velocities (standard",
            f"deviation {SPEED} m/s and rad/s) are added, and get the same random actions for {STEPS} control steps.",
            "Each cell is the largest difference from MuJoCo in any entry: in the worst environment, and in brackets",
            "in the median one; m, rad, m/s and rad/s. The profile of the control tasks is `dmc`.",
            "",
            "The second row of each task is MuJoCo itself, from a start that differs by its rounding to float32: where",
            'it is as large as the first, the task makes any small difference large, whatever the engine. "contacts"',
            "is whether all environments have as many contacts at the end as MuJoCo's. CPU s is the CPU time of the",
            f"engine in that row for {STEPS} control steps of {COUNT} environments, and says nothing about a GPU.",
            "",
            *rows,
            "",
            f"HumanoidTrack imitates `gait:walk`, and its starts are {1000 * LIFT:.0f} mm higher here: the sole of the",
            "foot that stands is at height 0 to the last bit, so rounding would decide whether it is in contact.",
            "Training does not lift its starts, on either engine, so that runs on MuJoCo stay what they are.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=[*TASKS, HUMANOID], help="all, if none is named")
    parser.add_argument("--out", default=str(PAGE), help="the page to write; - for the screen")
    options = parser.parse_args()
    write: Callable[[str], Any] = print if options.out == "-" else Path(options.out).write_text
    torch.set_num_threads(1)
    write(page(table({task: of_warp(task) for task in options.tasks})))


if __name__ == "__main__":
    main()
