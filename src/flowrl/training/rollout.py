"""Collecting experience: a policy acts in the environments for a number of steps."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from pydantic import Field
from torch import Tensor

from flowrl.contracts.protocols import Act, Env
from flowrl.contracts.settings import Settings


class RolloutSettings(Settings):
    """How much is collected between updates."""

    steps: int = Field(32, ge=1)
    """Steps per environment and rollout. Short ones update more often, on staler advantages."""
    stagger: bool = True
    """Whether the first episodes are cut short at random, where flowrl steps a MuJoCo task itself: else those of a
    task without an early end begin and end all together for ever, and no update sees more than one phase of them."""


@dataclass(frozen=True)
class Rollout:
    """What happened, and nothing about how an action came to be."""

    obs: Tensor  # (time, envs, observation)
    actions: Tensor  # (time, envs, action), raw: before the environment squashes them
    rewards: Tensor  # (time, envs)
    successors: Tensor  # (time, envs, observation), the true next observations
    terminated: Tensor  # (time, envs) bool
    truncated: Tensor  # (time, envs) bool

    def to(self, device: torch.device) -> Rollout:
        """The same on `device`."""
        return Rollout(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})

    @classmethod
    def empty(cls, steps: int, env: Env) -> Rollout:
        """Room for `steps` steps of `env`."""
        shape = (steps, env.count)
        return cls(
            obs=torch.empty(*shape, env.observation_size),
            actions=torch.empty(*shape, env.action_size),
            rewards=torch.empty(shape),
            successors=torch.empty(*shape, env.observation_size),
            terminated=torch.empty(shape, dtype=torch.bool),
            truncated=torch.empty(shape, dtype=torch.bool),
        )


@dataclass
class Episodes:
    """Running episodes, a row per environment, and those that ended since the last report."""

    returns: Tensor  # (envs,) float64
    lengths: Tensor  # (envs,) int64
    whole: Tensor  # (envs,) bool: not one that was staggered, whose return would tell of a part
    ended: int = 0  # whole ones, since the training began
    _recent: list[Tensor] | None = None

    @classmethod
    def starting(cls, count: int) -> Episodes:
        return cls(
            returns=torch.zeros(count, dtype=torch.float64),
            lengths=torch.zeros(count, dtype=torch.int64),
            whole=torch.ones(count, dtype=torch.bool),
        )

    def add(self, reward: Tensor, done: Tensor, success: Tensor) -> None:
        """Take in one step of all environments."""
        self.returns += reward
        self.lengths += 1
        if not done.any():
            return
        told = done & self.whole
        if told.any():
            row = torch.stack([self.returns[told], self.lengths[told].double(), success[told].double()])
            self._recent = [*(self._recent or []), row]
            self.ended += row.shape[1]
        self.returns[done] = 0
        self.lengths[done] = 0
        self.whole[done] = True

    def report(self) -> dict[str, float]:
        """Means over the episodes ended since the last call; no keys for what no episode told."""
        recent, self._recent = self._recent, None
        if recent is None:
            return {}
        returns, lengths, successes = torch.cat(recent, dim=1)
        means = {"return_mean": returns.mean().item(), "length_mean": lengths.mean().item()}
        told = successes[~successes.isnan()]
        if len(told):
            means["success_rate"] = told.mean().item()
        return means

    def state_dict(self) -> dict[str, object]:
        return {"returns": self.returns, "lengths": self.lengths, "whole": self.whole, "ended": self.ended}

    def load_state_dict(self, state: dict[str, object]) -> None:
        for field in fields(self):
            if field.name in state:
                setattr(self, field.name, state[field.name])


@torch.no_grad()
def collect(act: Act, env: Env, obs: Tensor, episodes: Episodes, steps: int) -> tuple[Rollout, Tensor]:
    """Act for `steps` steps from the observations `obs` (envs, observation).

    Returns the rollout and the observations to go on from; `episodes` is brought up to date.
    """
    rollout = Rollout.empty(steps, env)
    for t in range(steps):
        action = act(obs)
        step = env.step(action)
        rollout.obs[t] = obs
        rollout.actions[t] = action
        rollout.rewards[t] = step.reward
        rollout.successors[t] = step.successor
        rollout.terminated[t] = step.terminated
        rollout.truncated[t] = step.truncated
        episodes.add(step.reward, step.terminated | step.truncated, step.success)
        obs = step.obs
    return rollout, obs
