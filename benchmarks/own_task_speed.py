"""Environment steps per second of tasks of one's own, beside the physics alone.

    python benchmarks/own_task_speed.py [--count 256] [--threads 1] [--out FILE.json]

The first robot of docs/mujoco_tasks.md, with and without all that the page adds to it (randomised models, noise,
delays, pushes, commands, measures), and the quadruped of examples/. "raw" is `mujoco.batch.Batch.step` on the same
model from the same states, without observation, reward or episodes: what an environment can reach at best. The two
take short turns under the same random actions, and the median of the turns' ratios counts, so that other work on the
machine weighs on both alike. Resets are part of the environment's turns. With one thread the seconds are those of the
process (CPU time), else of the clock on the wall.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box
from mujoco.batch import Batch

from flowrl.envs.simulation.task import Task
from flowrl.envs.simulation.task_env import vector_env
from flowrl.envs.simulation.vector_env import TaskVectorEnv
from flowrl.evaluation.machine import machine

ROOT = Path(__file__).parent.parent
TURNS = 40
TURN_SECONDS = 0.05
WARMING = 3  # steps of each turn before the clock runs: threads that slept through the other's turn have to wake


def tasks() -> dict[str, type[Task]]:
    """The classes to measure."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/mujoco_tasks.md").read_text("utf-8"), re.M | re.S)
    page: dict[str, Any] = {"__name__": "reach"}
    exec("\n".join(blocks), page)  # noqa: S102  our own page
    spec = importlib.util.spec_from_file_location("quadruped", ROOT / "examples/quadruped/quadruped.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules["quadruped"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {"Reach": page["Reach"], "Reach, all methods": page["Measured"], "Quadruped": module.Quadruped}


def raw_stepper(env: TaskVectorEnv) -> Callable[[Any], None]:
    """The physics alone, from the present states and models of `env`."""
    simulation = env.runner.simulation
    batch = Batch(simulation.model, env.num_envs, simulation.threads)  # type: ignore[attr-defined]
    snapshot = simulation.snapshot()
    for field in env.runner.task.user.varied:  # type: ignore[attr-defined]
        batch.expand(field)[:] = snapshot[field].numpy()
    batch.state[:] = snapshot["state"].numpy()
    control, substeps = batch.bind("ctrl"), env.runner.constants.substeps

    def step(action: torch.Tensor) -> None:
        control[:] = action.numpy()
        batch.step(nstep=substeps)

    return step


def seconds_per_step(step: Callable[[Any], Any], actions: torch.Tensor, clock: Callable[[], float]) -> float:
    """Seconds of `clock` per step over `actions` (steps, count, action), but the first WARMING."""
    for action in actions[:WARMING]:
        step(action)
    started = clock()
    for action in actions[WARMING:]:
        step(action)
    return (clock() - started) / (len(actions) - WARMING)


def measure(name: str, task: type[Task], count: int, threads: int) -> dict[str, Any]:
    """Medians over the turns; rates in environment steps per second."""
    clock = time.process_time if threads == 1 else time.perf_counter
    env = vector_env(task, count, threads)
    env.reset_tensors(0)
    space = env.single_action_space
    assert isinstance(space, Box)
    low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
    random = torch.Generator().manual_seed(0)

    def drawn(steps: int) -> torch.Tensor:
        return low + (high - low) * (0.5 + 0.1 * torch.randn(steps, count, len(low), generator=random)).clamp(0, 1)

    number = WARMING + max(2, int(TURN_SECONDS / seconds_per_step(env.step_tensors, drawn(WARMING + 5), clock)))
    ours, theirs = [], []
    for _ in range(TURNS):
        raw, actions = raw_stepper(env), drawn(number)
        theirs.append(seconds_per_step(raw, actions, clock))
        ours.append(seconds_per_step(env.step_tensors, actions, clock))
    return {
        "task": name,
        "per_s": count / median(ours),
        "raw_per_s": count / median(theirs),
        "share_of_raw": median(np.divide(theirs, ours).tolist()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=256, help="simulations of each task")
    parser.add_argument("--threads", type=int, default=0, help="of the physics; 0: all cores")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    print(f"{'':<20}{'env/s':>12}{'raw/s':>12}{'ratio':>8}")
    rows = []
    for name, task in tasks().items():
        row = measure(name, task, options.count, options.threads)
        rows.append(row)
        print(f"{name:<20}{row['per_s']:>12,.0f}{row['raw_per_s']:>12,.0f}{row['share_of_raw']:>8.2f}", flush=True)
    if options.out is not None:
        facts = {
            "machine": asdict(machine()),
            "load": os.getloadavg(),
            "threads": options.threads,
            "envs": options.count,
        }
        options.out.write_text(json.dumps(facts | {"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
