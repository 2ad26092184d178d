"""The interfaces between the parts of flowrl.

Time runs one way everywhere: **t = 0 is noise, t = 1 is the action**.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


class Velocity(Protocol):
    """dx/dt of a flow whose observation is already bound: all that a sampler integrates."""

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Return the velocity, in the shape of `x`, at the points `x` (..., action) and time `t`, which is a number
        for all rows or a tensor that broadcasts against `x[..., :1]`."""
        ...


class VelocityField(Protocol):
    """A learned velocity that depends on an observation.

    A field may also have `latest_time`, the largest time at which its velocity is meaningful, where that is not 1:
    `flowrl.flow.last_step` then takes the rest of the way in one step.
    """

    def bind(self, obs: Tensor) -> Velocity:
        """Return the velocity for the observations `obs` (..., observation).

        Their share of the first layer is computed here, once, however often the velocity is evaluated."""
        ...


class Sampler(Protocol):
    """Any callable that integrates a velocity.

    A sampler may also have `nfe`, the number of velocity evaluations of one call (int), when that number
    is known beforehand; without it (or with None) the evaluations are counted.
    """

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        """Integrate from the points `x` (batch, action) at time `t0` to `t1`, which may lie before `t0`."""
        ...


class Act(Protocol):
    """A policy as rollouts and evaluations see it: observations in, actions out."""

    def __call__(self, obs: Tensor) -> Tensor:
        """Return actions (batch, action) for the observations `obs` (batch, observation)."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of one step of all environments, a row per environment."""

    obs: Tensor  # (envs, observation) float32 or float64, to act on next: of the new start where an episode ended
    reward: Tensor  # (envs,) float32
    terminated: Tensor  # (envs,) bool: the task ended the episode, so no value follows
    truncated: Tensor  # (envs,) bool: a time limit ended the episode, so a value still follows
    successor: Tensor  # (envs, observation), as `obs`: the true next observation, also at an episode's end
    success: Tensor  # (envs,): 1 or 0 where an episode ended and the environment judged it, else NaN
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    """Further numbers of the episodes that ended, by name: (envs,), NaN where none ended."""
    variant: Tensor | None = None  # (envs,): index into `Env.variants`, NaN where none ended; None without any


class Env(Protocol):
    """Several environments stepped together, each reset in the step that ends its episode (SAME_STEP)."""

    @property
    def count(self) -> int:
        """Number of environments."""
        ...

    @property
    def observation_size(self) -> int:
        """Length of one observation."""
        ...

    @property
    def action_size(self) -> int:
        """Length of one action."""
        ...

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of what an episode can be about, such as the motion to imitate; () where all are alike."""
        ...

    def reset(self, seed: int | None) -> Tensor:
        """Start new episodes and return their observations (envs, observation)."""
        ...

    def step(self, action: Tensor) -> Step:
        """Apply the policy's raw actions (envs, action), and return the outcome."""
        ...
