"""The returns of random actions on the control tasks, beside those of trained policies.

    python benchmarks/suite_chance.py [--episodes 256] [--learned docs/results/suite.json.xz]

A random policy draws every action uniformly from the task's range. The others come from `flowrl compare`'s JSON
document, which may be compressed by xz: the mean return of each run, with random noise or sampled actions.
"""

from __future__ import annotations

import argparse
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from gymnasium.spaces import Box

from flowrl.envs.dm_control.environment import DMControlVectorEnv
from flowrl.envs.dm_control.tasks import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=256)
    parser.add_argument("--learned", type=Path, default=Path("docs/results/suite.json.xz"))
    options = parser.parse_args()
    document = options.learned.read_bytes()
    if options.learned.suffix == ".xz":
        document = lzma.decompress(document)
    tasks = json.loads(document)["tasks"]
    for line in lines(options.episodes, {env_of(task): task for task in tasks.values()}):
        print(line)


def lines(episodes: int, learned: dict[str, Any]) -> Iterator[str]:
    """A Markdown table, a row per task."""
    algorithms = list(dict.fromkeys(name for task in learned.values() for name in task["algorithms"]))
    yield f"| mean return | random actions | {' | '.join(algorithms)} |"
    yield "|" + "---|" * (2 + len(algorithms))
    for task in TASKS:
        returns = chance(task, episodes)
        runs = learned.get(task, {"algorithms": {}})["algorithms"]
        cells = [of_seeds(runs[name]) if name in runs else "" for name in algorithms]
        yield f"| {task} | {mean(returns):.0f} ± {stdev(returns):.0f} | {' | '.join(cells)} |"


def chance(task: str, episodes: int) -> list[float]:
    """The return of each of `episodes` episodes."""
    env = DMControlVectorEnv(task, num_envs=episodes)
    env.reset(seed=0)
    random = np.random.default_rng(0)
    space = env.action_space
    assert isinstance(space, Box)
    low, high = space.low, space.high
    returns = np.zeros(episodes)
    for _ in range(env.max_episode_steps):  # no task ends earlier
        returns += env.step(random.uniform(low, high).astype(low.dtype))[1]
    env.close()
    return [float(value) for value in returns]


def env_of(task: dict[str, Any]) -> str:
    """flowrl/CheetahRun-v0 -> CheetahRun"""
    env = next(iter(task["algorithms"].values()))["env"]
    return str(env).removeprefix("flowrl/").removesuffix("-v0")


def of_seeds(runs: dict[str, Any]) -> str:
    return ", ".join(f"{value:.0f}" for value in runs["noise"]["random"]["returns"])


if __name__ == "__main__":
    main()
