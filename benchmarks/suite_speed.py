"""Environment steps per second of the control tasks, beside the physics alone and other implementations.

    python benchmarks/suite_speed.py [TASK ...]

256 environments on all cores under the same random actions. "raw" is `mujoco.batch.Batch.step` on the same model
from the same states, without observation, reward or episodes: what an environment can reach at best. The two take
short turns, and the median of the turns' ratios counts, so that other work on the machine weighs on both alike.
Starts of episodes, once in 1000 steps, are not in the rates; "start" is what one of all environments costs.
envpool and dm_control (one environment, one thread) are measured where they are installed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import import_module
from statistics import median
from typing import Any

import numpy as np
from mujoco.batch import Batch

from flowrl.envs.suite import TASKS
from flowrl.envs.suite.environment import SuiteVectorEnv

COUNT = 256
TURNS = 40
TURN_SECONDS = 0.05

# envpool's id; dm_control's domain and task
OTHERS = {
    "BallInCup": ("BallInCupCatch-v1", "ball_in_cup", "catch"),
    "CartpoleBalance": ("CartpoleBalance-v1", "cartpole", "balance"),
    "CheetahRun": ("CheetahRun-v1", "cheetah", "run"),
    "FingerSpin": ("FingerSpin-v1", "finger", "spin"),
    "FingerTurnEasy": ("FingerTurnEasy-v1", "finger", "turn_easy"),
    "FingerTurnHard": ("FingerTurnHard-v1", "finger", "turn_hard"),
    "FishSwim": ("FishSwim-v1", "fish", "swim"),
    "PointMass": ("PointMassEasy-v1", "point_mass", "easy"),
    "ReacherEasy": ("ReacherEasy-v1", "reacher", "easy"),
    "ReacherHard": ("ReacherHard-v1", "reacher", "hard"),
}


def seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def steps(step: Callable[[Any], Any], actions: Any) -> float:
    """Seconds per step over all `actions` (steps, count, action)."""
    started = time.perf_counter()
    for action in actions:
        step(action)
    return (time.perf_counter() - started) / len(actions)


def stepper(task: str, suite: SuiteVectorEnv) -> Callable[[Any], None]:
    """The physics alone, from the present states of `suite`."""
    kind, profiles = TASKS[task]
    simulation = suite.arena.simulation
    batch = Batch(simulation.model, COUNT)
    for field in kind.varied:
        batch.expand(field)[:] = simulation.expand(field).numpy()
    batch.state[:] = simulation.snapshot()["state"].numpy()
    control, substeps = batch.bind("ctrl"), profiles["dmc"].substeps

    def step(action: Any) -> None:
        control[:] = action
        batch.step(nstep=substeps)

    return step


def envpool_rate(task: str, actions: Any) -> float | None:
    """Steps per second of envpool; None where it is not installed."""
    try:
        envpool = import_module("envpool")
    except ImportError:
        return None
    pool = envpool.make(OTHERS[task][0], env_type="gymnasium", num_envs=COUNT)
    pool.reset()
    return COUNT / median(steps(pool.step, actions) for _ in range(5))


def dm_control_rate(task: str, actions: Any) -> float | None:
    """Steps per second of dm_control; None where it is not installed, or does not run with this MuJoCo."""
    try:
        env = import_module("dm_control.suite").load(*OTHERS[task][1:])
    except (ImportError, AttributeError):
        return None
    env.reset()
    return 1 / median(steps(env.step, actions[:, row]) for row in range(20))


def shown(rate: float | None) -> str:
    return "not installed" if rate is None else f"{rate:,.0f}"


def main() -> None:
    random = np.random.default_rng(0)
    columns = ("env/s", "raw/s", "ratio", "start ms", "envpool/s", "dm_control/s")
    print(f"{'':<16}" + "".join(f"{column:>14}" for column in columns))
    for task in sys.argv[1:] or TASKS:
        suite = SuiteVectorEnv(task, COUNT)
        suite.reset(seed=0)
        start = median(seconds(suite.reset) for _ in range(5))
        raw = stepper(task, suite)
        shape = (COUNT, suite.arena.action_size)
        probe = random.uniform(-1, 1, (5, *shape)).astype(np.float32)
        number = max(2, int(TURN_SECONDS / steps(raw, probe)))
        number = min(number, suite.max_episode_steps // TURNS - 1)
        raw = stepper(task, suite)
        ours, theirs = [], []
        for _ in range(TURNS):
            actions = random.uniform(-1, 1, (number, *shape)).astype(np.float32)
            ours.append(steps(suite.step, actions))
            theirs.append(steps(raw, actions))
        ratio = median(other / own for own, other in zip(ours, theirs, strict=True))
        cells = (f"{COUNT / median(ours):,.0f}", f"{COUNT / median(theirs):,.0f}", f"{ratio:.2f}")
        others = (shown(envpool_rate(task, actions)), shown(dm_control_rate(task, actions)))
        print(
            f"{task:<16}" + "".join(f"{cell:>14}" for cell in (*cells, f"{start * 1e3:.0f}", *others)),
            flush=True,
        )


if __name__ == "__main__":
    main()
