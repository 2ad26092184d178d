"""Environment steps per CPU second of GridWorld, compared with Gymnasium's SyncVectorEnv of the single one.

    python benchmarks/gridworld_speed.py

Both take the same actions in the same process, in turns; the best turn of each counts. Random actions end few
episodes; "to the goal" ends one in six steps, so that autoreset and its infos are included.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from flowrl.envs.factory import make
from flowrl.envs.settings import EnvSettings

COUNT = 1024
TURNS = 5
RANDOM = np.random.default_rng(0)


def random_actions(obs: Any) -> Any:
    return RANDOM.uniform(-1, 1, (COUNT, 2)).astype(np.float32)


def to_the_goal(obs: Any) -> Any:
    return np.stack([np.zeros(COUNT, np.float32), np.where(obs[:, 1] > 0, 1, -1).astype(np.float32)], axis=1)


def rate(step: Callable[[Any], Any], obs: Any, act: Callable[[Any], Any], steps: int) -> float:
    """Measure environment steps per second of CPU time in `step`, without the time of `act`."""
    spent = 0.0
    for _ in range(steps):
        action = act(obs)
        started = time.process_time()
        obs = step(action)
        spent += time.process_time() - started
    return COUNT * steps / spent


def main() -> None:
    torch.set_num_threads(1)
    ours = gymnasium.make_vec("flowrl/GridWorld-v0", num_envs=COUNT)
    theirs = gymnasium.make_vec(
        "flowrl/GridWorld-v0",
        num_envs=COUNT,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    adapter = make(EnvSettings(id="flowrl/GridWorld-v0", count=COUNT))
    candidates: dict[str, tuple[Callable[[Any], Any], Any, int]] = {
        "GridWorldVectorEnv": (lambda action: ours.step(action)[0], ours.reset(seed=0)[0], 200),
        "Adapter (torch)": (
            lambda action: adapter.step(torch.from_numpy(action)).obs.numpy(),
            adapter.reset(0).numpy(),
            200,
        ),
        "SyncVectorEnv of GridWorldEnv": (lambda action: theirs.step(action)[0], theirs.reset(seed=0)[0], 3),
    }
    for name, act in (("random actions", random_actions), ("to the goal", to_the_goal)):
        best = dict.fromkeys(candidates, 0.0)
        for _ in range(TURNS):
            for candidate, (step, obs, steps) in candidates.items():
                best[candidate] = max(best[candidate], rate(step, obs, act, steps))
        print(f"{name}, {COUNT} environments, best of {TURNS} turns")
        for candidate, steps_per_second in best.items():
            ratio = steps_per_second / best["SyncVectorEnv of GridWorldEnv"]
            print(f"  {candidate:<30} {steps_per_second / 1e6:8.3f} M steps/CPU-s  {ratio:6.1f} x")


if __name__ == "__main__":
    main()
