"""A family of environments for tests, in one file: a bead that slides along a line, one step to each side at most."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from pydantic import Field

from flowrl.contracts.settings import Settings
from flowrl.envs.family import Facts, Family, ReturnRange, Variants

STEPS = 8
PLACES = ("left", "right")


class BeadSettings(Settings):
    """The keys of the bead alone."""

    friction: float | None = Field(default=None, ge=0, le=1)
    """Bead: the share of a step that is lost."""


class BeadEnv(gymnasium.Env[Any, Any]):
    """One bead."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Box(-1, 1, (1,), np.float32)


class BeadVectorEnv(VectorEnv[Any, Any, Any]):
    """Beads that start on one side; the reward is 1 in the middle and 0 far from it."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    places = PLACES

    def __init__(
        self, num_envs: int = 1, friction: float = 0.0, max_episode_steps: int = STEPS, render_mode: str | None = None
    ) -> None:
        self.num_envs, self.friction, self.render_mode = num_envs, friction, render_mode
        self.max_episode_steps = max_episode_steps
        self.single_observation_space, self.single_action_space = (BeadEnv.observation_space, BeadEnv.action_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.x, self.side, self.elapsed = np.zeros(num_envs), np.zeros(num_envs, dtype=np.int64), 0

    @property
    def place(self) -> tuple[str, ...]:
        return tuple(PLACES[side] for side in self.side)

    def _start(self) -> None:
        self.side = self.np_random.integers(2, size=self.num_envs)
        self.x, self.elapsed = 4.0 * self.side - 2.0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._start()
        return self.x[:, None].copy(), {}

    def step(self, actions: Any) -> Any:
        self.x = self.x + (1 - self.friction) * np.asarray(actions)[:, 0].astype(np.float64)
        self.elapsed += 1
        reward, ends = 1 / (1 + self.x**2), np.full(self.num_envs, self.elapsed == self.max_episode_steps)
        info: dict[str, Any] = {}
        if ends.all():
            last = np.full(self.num_envs, None, dtype=object)
            last[:] = list(self.x[:, None].copy())
            ended = {"distance_m": np.abs(self.x), "side": self.side, "is_success": np.abs(self.x) < 0.5}
            masks = {f"_{name}": ends for name in ended}
            info = {"final_obs": last, "_final_obs": ends, "final_info": ended | masks, "_final_info": ends}
            self._start()
        return self.x[:, None].copy(), reward, np.zeros(self.num_envs, dtype=bool), ends, info

    def state(self) -> dict[str, Any]:
        random = copy.deepcopy(self.np_random)
        return {"x": self.x.copy(), "side": self.side.copy(), "elapsed": self.elapsed, "random": random}

    def restore(self, state: dict[str, Any]) -> None:
        self.x, self.side, self.elapsed = state["x"], state["side"], state["elapsed"]
        self._np_random = state["random"]


def facts(id: str) -> Facts:
    return Facts({"beads": 1}, [("observation", "the place of the bead (m)"), ("reward", "1 / (1 + x²)")])


FAMILY = Family(
    ids={"toy/Bead-v0": {}},
    env="flowrl.envs.toy_family:BeadEnv",
    vector_env="flowrl.envs.toy_family:BeadVectorEnv",
    max_episode_steps=STEPS,
    return_range=ReturnRange(0.0, float(STEPS), "a bead's return"),
    facts=facts,
    settings=BeadSettings,
    fixed_by_training={"friction": "0"},
    measures=("distance_m",),
    variants=Variants("start", "places", "place", "side", "the beads start elsewhere"),
)
