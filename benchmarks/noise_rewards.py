"""How far a policy wanders when there is nothing to learn: the rewards are noise, whatever the action.

Prints the standard deviation of the actions before the squashing, over all observations, after each sixth of 150,000
steps with the settings of cheetah.yaml, as a table:

    python benchmarks/noise_rewards.py --out build/noise
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from flowrl.experiments import train

SETTINGS = {
    "FPO, the recipe": ["algorithm=fpo"],
    "16 probes": ["algorithm=fpo", "fpo.learner.probes.count=16"],
    "one epoch": ["algorithm=fpo", "fpo.learner.epochs=1"],
    "PPO-clip": ["algorithm=fpo", "fpo.learner.surrogate=ppo"],
    "to one Gaussian": ["algorithm=fpo", "fpo.policy.base=normal"],
    "`sum`, clip 0.4": ["algorithm=fpo", "fpo.learner.loss.reduction=sum", "fpo.learner.clip=0.4"],
    "PPO, the recipe (8 epochs)": ["algorithm=ppo"],
    "4 epochs": ["algorithm=ppo", "ppo.learner.epochs=4"],
    "`mirror`": ["algorithm=ppo", "ppo.learner.surrogate=mirror"],
}
STEPS = 150_000
POINTS = 6


class Noise(gymnasium.Env[np.ndarray, np.ndarray]):
    """Observations (8,) and rewards are drawn anew at every step and know nothing of the actions (6,)."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (8,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (6,), np.float32)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode of 50 steps."""
        super().reset(seed=seed, options=options)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Go on, whatever the action."""
        self._steps += 1
        reward = float(self.np_random.standard_normal())
        return self._observation(), reward, False, self._steps >= 50, {}

    def _observation(self) -> np.ndarray:
        return self.np_random.standard_normal(8).astype(np.float32)


def main() -> None:
    """Train with every setting, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/noise"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    here = [f"env.id={Path(__file__).absolute()}:Noise", "env.mode=sync", f"total_steps={STEPS}"]
    print(f"| | {' | '.join(f'{STEPS * point // POINTS // 1000} k' for point in range(POINTS + 1))} |")
    print("|---" * (POINTS + 2) + "|")
    for number, (name, settings) in enumerate(SETTINGS.items()):
        words = [*here, f"seed={options.seed}", *settings]
        train.train(train.plan("cheetah.yaml", words, None), options.out, f"{number}-seed{options.seed}", quiet=True)
        lines = (options.out / f"{number}-seed{options.seed}" / "metrics.jsonl").read_text().splitlines()
        spread = [json.loads(line)["action_spread"] for line in lines]
        kept = [spread[round(point * (len(spread) - 1) / POINTS)] for point in range(POINTS + 1)]
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in kept)} |", flush=True)


if __name__ == "__main__":
    main()
