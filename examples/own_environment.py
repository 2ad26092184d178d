"""Train in an environment of your own: a Gymnasium class with a Box of actions.

A point on a plane is pushed to a goal. Register the class with Gymnasium, and its id works in a recipe.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

import flowrl


class Reach(gymnasium.Env):
    """A point with a velocity, pushed by a force; the reward is minus its distance to the goal."""

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (6,), np.float32)  # position, velocity, goal
        self.action_space = spaces.Box(-1, 1, (2,), np.float32)  # force

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.position, self.velocity = np.zeros(2), np.zeros(2)
        self.goal = self.np_random.uniform(-1, 1, 2)
        return self._observation(), {}

    def step(self, action):
        self.velocity = 0.9 * self.velocity + 0.1 * action
        self.position = self.position + 0.1 * self.velocity
        distance = float(np.linalg.norm(self.goal - self.position))
        return self._observation(), -distance, distance < 0.05, False, {}

    def _observation(self):
        return np.concatenate([self.position, self.velocity, self.goal]).astype(np.float32)


gymnasium.register("Reach-v0", entry_point=Reach, max_episode_steps=100)


def main() -> None:
    overrides = {"env.id": "Reach-v0", "env.count": 16, "env.mode": "sync", "total_steps": 10_000}
    config = flowrl.load_config("pendulum", overrides)
    result = flowrl.train(config)
    summary = flowrl.evaluate(result.folder, episodes=32)
    print(f"{result.folder}: return {summary['return_mean']:.2f}, length {summary['length_mean']:.0f}")


if __name__ == "__main__":
    main()
