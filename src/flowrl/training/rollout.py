"""Rollouts: a policy acts in the environments for a number of steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from flowrl.contracts.protocols import Act, Env
from flowrl.contracts.settings import AtResume, Settings
from flowrl.storage.rng_state import OwnGenerators
from flowrl.training.shards import Shards


class RolloutSettings(Settings):
    """How many steps are collected between updates."""

    steps: int = Field(32, ge=1, le=1_000_000)
    """Steps per environment and rollout. Short ones update more often, on staler advantages."""
    noise_correlation: Annotated[float, AtResume(False, "the noise of the running episodes belongs to it")] = Field(
        0.0, ge=0, lt=1
    )
    """Correlation of the noise of an action with that of the one before in its episode: 0 draws each by itself. More
    explores in longer sweeps. The noise of each action by itself is N(0, 1), and the ratio is that of the policy
    without memory."""
    stagger: Annotated[bool, AtResume(False, "it acts on the first episodes of a run alone")] = True
    """Whether the first episodes are cut short at random, where flowrl steps a MuJoCo task itself: else all episodes
    of a task without an early end begin and end together, and an update sees a single phase of them."""


@dataclass(frozen=True)
class Rollout:
    """Transitions of all environments."""

    obs: Tensor  # (time, envs, observation), in the precision of the environment
    actions: Tensor  # (time, envs, action), raw: before the environment squashes them
    rewards: Tensor  # (time, envs)
    successors: Tensor  # (time, envs, observation), the true next observations
    terminated: Tensor  # (time, envs) bool
    truncated: Tensor  # (time, envs) bool
    # What the ratio asks for of how actions were generated, (time, envs, action) each: data, whatever the sampler.
    generation: dict[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Rollout:
        """Return the same rollout on `device`."""
        generation = {name: value.to(device) for name, value in self.generation.items()}
        names = [each.name for each in fields(self) if each.name != "generation"]
        return Rollout(**{name: getattr(self, name).to(device) for name in names}, generation=generation)

    @classmethod
    def empty(
        cls,
        steps: int,
        env: Env,
        precision: torch.dtype = torch.float32,
        generation: tuple[str, ...] = (),
        device: torch.device | None = None,
    ) -> Rollout:
        """Allocate a rollout of `steps` steps of `env`, whose observations have that `precision`, on `device`."""
        shape = (steps, env.count)
        return cls(
            obs=torch.empty(*shape, env.observation_size, dtype=precision, device=device),
            actions=torch.empty(*shape, env.action_size, device=device),
            rewards=torch.empty(shape, device=device),
            successors=torch.empty(*shape, env.observation_size, dtype=precision, device=device),
            terminated=torch.empty(shape, dtype=torch.bool, device=device),
            truncated=torch.empty(shape, dtype=torch.bool, device=device),
            generation={name: torch.empty(*shape, env.action_size, device=device) for name in generation},
        )


@dataclass
class Episodes:
    """Running episodes, a row per environment, and those that ended since the last report."""

    returns: Tensor  # (envs,) float64
    lengths: Tensor  # (envs,) int64
    counted: Tensor  # (envs,) bool: false for a staggered episode, whose return is that of a part
    ended: int = 0  # counted episodes, since the training began
    _recent: list[Tensor] = field(default_factory=list)  # (3, episodes) each: returns, lengths, successes

    @classmethod
    def starting(cls, count: int) -> Episodes:
        """Create the first episodes of `count` environments."""
        return cls(
            returns=torch.zeros(count, dtype=torch.float64),
            lengths=torch.zeros(count, dtype=torch.int64),
            counted=torch.ones(count, dtype=torch.bool),
        )

    def add(self, reward: Tensor, done: Tensor, success: Tensor) -> None:
        """Add one step of all environments: `reward`, `done` and `success`, each (envs,)."""
        self.returns += reward
        self.lengths += 1
        if not done.any():
            return
        ended = done & self.counted
        if ended.any():
            row = torch.stack([self.returns[ended], self.lengths[ended].double(), success[ended].double()])
            self._recent.append(row)
            self.ended += row.shape[1]
        self.returns[done] = 0
        self.lengths[done] = 0
        self.counted[done] = True

    def take(self) -> Tensor:
        """Return returns, lengths and successes (3, episodes) of the episodes ended since the last call."""
        recent, self._recent = self._recent, []
        return torch.cat([torch.empty(3, 0, dtype=torch.float64), *recent], dim=1)

    def state_dict(self) -> dict[str, object]:
        """Return the running episodes for a checkpoint, where `counted` has the key 'whole'."""
        return {"returns": self.returns, "lengths": self.lengths, "whole": self.counted, "ended": self.ended}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`'s result, or from a part of it."""
        self.returns = state.get("returns", self.returns)
        self.lengths = state.get("lengths", self.lengths)
        self.counted = state.get("whole", self.counted)
        self.ended = state["ended"]


def report(parts: Sequence[Episodes], shards: Shards) -> dict[str, float]:
    """Return the number of counted episodes of all shards, and means over those ended since the last call; a measure
    that none of them has is left out. `parts` are the episodes of the own shards."""
    taken = shards.gather([(each.take(), each.ended) for each in parts])
    metrics: dict[str, float] = {"episodes": sum(ended for _, ended in taken)}
    returns, lengths, successes = torch.cat([recent for recent, _ in taken], dim=1)
    if len(returns):
        metrics |= {"return_mean": returns.mean().item(), "length_mean": lengths.mean().item()}
    known = successes[~successes.isnan()]
    if len(known):
        metrics["success_rate"] = known.mean().item()
    return metrics


class Collector:
    """A policy acting in environments: it owns their last observations and their running episodes.

    With `generators` it acts under global random generators of its own, as one of several shards of a process does.
    """

    def __init__(self, act: Act, env: Env, generators: OwnGenerators | None = None) -> None:
        self.act = act
        self.env = env
        self.generators = generators
        self.episodes = Episodes.starting(env.count)
        self.obs = torch.empty(0)

    def start(self, seed: int, *, stagger: bool = False) -> None:
        """Reset the environments with `seed`, for a new run; with `stagger` their first episodes are cut short at
        random, where they can do that."""
        with self.own_generators():
            self.obs = self.env.reset(seed=seed)
            if stagger:
                self.episodes.counted = self.env.stagger() == 0  # type: ignore[attr-defined]  # of an Adapter

    def collect(self, steps: int) -> Rollout:
        """Collect a rollout of the policy as it is."""
        with self.own_generators():
            rollout, self.obs = collect(self.act, self.env, self.obs, self.episodes, steps)
        return rollout

    def own_generators(self) -> AbstractContextManager[object]:
        """Return the context in which its environments and its policy are called."""
        return nullcontext() if self.generators is None else self.generators


@torch.no_grad()
def collect(act: Act, env: Env, obs: Tensor, episodes: Episodes, steps: int) -> tuple[Rollout, Tensor]:
    """Act for `steps` steps from the observations `obs` (envs, observation).

    Returns the rollout and the observations after it; `episodes` is updated. What `act` keeps of how it generated its
    actions (`flowrl.policies.flow.FlowPolicy.keep`) is recorded, and its `episodes_ended` called where it has one.
    """
    rollout = Rollout.empty(steps, env, obs.dtype, getattr(act, "keep", ()), obs.device)
    ended: Callable[[Tensor], None] = getattr(act, "episodes_ended", lambda _: None)
    for t in range(steps):
        action = act(obs)
        for name, values in rollout.generation.items():
            values[t] = act.generated[name]  # type: ignore[attr-defined]  # what it keeps
        step = env.step(action)
        rollout.obs[t] = obs
        rollout.actions[t] = action
        rollout.rewards[t] = step.reward
        rollout.successors[t] = step.successor
        rollout.terminated[t] = step.terminated
        rollout.truncated[t] = step.truncated
        done = (step.terminated | step.truncated).cpu()
        episodes.add(step.reward.cpu(), done, step.success.cpu())
        ended(done)
        obs = step.obs
    return rollout, obs
