"""Environment steps of HumanoidTrack per second and per CPU-second, beside the physics alone.

    python benchmarks/humanoid_speed.py [--motions SOURCE ...] [--count 256] [--threads 0] [--out FILE.json]

The actions are the reference's joint angles with noise, so that episodes end and start as they do early in a training.
"raw" is `mujoco.batch.Batch.step` on the same model under the same actions, without observation, reward or
episodes: what the environment can reach at best. The two take short turns, each from the environment's states, and
the median over the turns counts, so that other work on the machine weighs on both alike. CPU-seconds are those of
all threads. "python" is the share of the environment's CPU-seconds that the physics does not explain; the starts of
episodes are in it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from flowrl.envs.humanoid.environment import HumanoidTrackVectorEnv
from flowrl.envs.humanoid.observation import WHERE
from flowrl.envs.humanoid.tracking import ACTION_SCALE
from flowrl.evaluation.machine import machine

TURNS = 25
WARMING = 2  # more, before the clock counts
STEPS = 12  # of a turn
NOISE = 0.3  # of the actions, in their unit of 0.5 rad


def timed(call: Callable[[Any], Any], given: list[Any]) -> tuple[float, float]:
    """Seconds of the clock and CPU-seconds for all of `given`."""
    clock, processor = time.perf_counter(), time.process_time()
    for each in given:
        call(each)
    return time.perf_counter() - clock, time.process_time() - processor


def measure(motions: list[str], count: int, threads: int) -> dict[str, float]:
    """Medians over the turns; rates in environment steps per (CPU-)second."""
    env = HumanoidTrackVectorEnv(count, motions=motions, threads=threads)
    simulation, constants = env.runner.simulation, env.runner.constants
    batch = Batch(simulation.model, count, threads)
    control = batch.bind("ctrl")
    random = np.random.default_rng(0)
    taken: list[NDArray[np.float32]] = []
    ends = 0

    shown = env.reset(seed=0)[0]

    def act(noise: NDArray[np.float64]) -> None:
        nonlocal shown, ends
        action = shown[:, WHERE["goal_joint_angles"]] / ACTION_SCALE + noise
        taken.append(action.astype(np.float32))
        shown, _, terminated, truncated, _ = env.step(taken[-1])
        ends += int((terminated | truncated).sum())

    def physics(action: NDArray[np.float32]) -> None:
        control[:] = action
        batch.step(nstep=constants.substeps)

    turns = []
    for _ in range(WARMING + TURNS):
        noise = list(NOISE * random.normal(size=(STEPS, count, 28)))
        taken.clear()
        batch.state[:] = simulation.snapshot()["state"].numpy()
        turns.append((timed(act, noise), timed(physics, taken)))
    ours, raw = np.array(turns[WARMING:]).swapaxes(0, 1)
    steps = count * STEPS
    rates = {
        "env_per_s": steps / median(ours[:, 0]),
        "env_per_cpu_s": steps / median(ours[:, 1]),
        "raw_per_s": steps / median(raw[:, 0]),
        "raw_per_cpu_s": steps / median(raw[:, 1]),
    }
    shares = {
        "python_share": median(1 - raw[:, 1] / ours[:, 1]),
        "python_us": median(ours[:, 1] - raw[:, 1]) / steps * 1e6,  # CPU-time per environment step
        "ends_per_step": ends / (len(turns) * steps),
    }
    return rates | shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--motions", nargs="+", default=["gait:walk"], metavar="SOURCE")
    parser.add_argument("--count", type=int, default=256, help="environments stepped together")
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    row = measure(options.motions, options.count, options.threads)
    print(f"{'':<8}{'per s':>10}{'per CPU-s':>12}")
    for name in ("env", "raw"):
        print(f"{name:<8}{row[f'{name}_per_s']:>10,.0f}{row[f'{name}_per_cpu_s']:>12,.0f}")
    print(
        f"python: {row['python_share']:.0%} of the CPU time, {row['python_us']:.0f} µs per environment step; "
        f"{row['ends_per_step']:.1%} of the steps end an episode"
    )
    if options.out is not None:
        facts = {"machine": asdict(machine()), "load": os.getloadavg()}
        chosen = {"motions": options.motions, "envs": options.count, "threads": options.threads}
        options.out.write_text(json.dumps(facts | chosen | row, indent=2) + "\n")


if __name__ == "__main__":
    main()
