"""What the parts of flowrl ask of one another: protocols only.

Time runs one way everywhere: **t = 0 is noise, t = 1 is the action**.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


class Velocity(Protocol):
    """dx/dt of a flow whose observation is already bound: all that a sampler integrates."""

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        """Velocity at the points `x` (..., action) and time `t`, which is a number for all rows or a
        tensor that broadcasts against `x[..., :1]`; the result has the shape of `x`."""
        ...


class VelocityField(Protocol):
    """A learned velocity, still waiting for its observation."""

    def bind(self, obs: Tensor) -> Velocity:
        """The velocity for the observations `obs` (..., observation); their share of the first layer is
        computed here, once, however often the velocity is evaluated."""
        ...


class Sampler(Protocol):
    """Any callable that carries points along a velocity.

    A sampler may also have `nfe`, the number of velocity evaluations of one call (int), when that number
    is known beforehand; without it (or with None) the evaluations are counted.
    """

    def __call__(self, velocity: Velocity, x: Tensor, t0: float, t1: float) -> Tensor:
        """The points `x` (batch, action) at time `t0`, carried to `t1` (which may lie before `t0`)."""
        ...


class Act(Protocol):
    """Observation to action: all that a rollout or an evaluation knows of a policy."""

    def __call__(self, obs: Tensor) -> Tensor:
        """Actions (batch, action) for the observations `obs` (batch, observation)."""
        ...


class Step(Protocol):
    """What one step of all environments gives: float32 and bool tensors, a row per environment."""

    @property
    def obs(self) -> Tensor:
        """(envs, observation), to act on next: after the reset where an episode ended."""
        ...

    @property
    def reward(self) -> Tensor:
        """(envs,)."""
        ...

    @property
    def terminated(self) -> Tensor:
        """(envs,) bool: the task ended, no value follows."""
        ...

    @property
    def truncated(self) -> Tensor:
        """(envs,) bool: the clock ended the episode, its value goes on."""
        ...

    @property
    def successor(self) -> Tensor:
        """(envs, observation), the true next observations, also at an episode's end."""
        ...

    @property
    def success(self) -> Tensor:
        """(envs,), 1 or 0 where an episode ended, NaN where none did or the environment does not say."""
        ...

    @property
    def measures(self) -> Mapping[str, Tensor]:
        """What else the environment measures of an episode, by name: (envs,), NaN where none ended."""
        ...

    @property
    def clip(self) -> Tensor | None:
        """Which of `Env.clips` an episode that ended has followed (envs,), NaN where none ended; None without clips."""
        ...


class Env(Protocol):
    """Several environments stepped together, each reset in the step that ends its episode (SAME_STEP)."""

    @property
    def count(self) -> int:
        """How many."""
        ...

    @property
    def observation_size(self) -> int:
        """Numbers in one observation."""
        ...

    @property
    def action_size(self) -> int:
        """Numbers in one action."""
        ...

    @property
    def clips(self) -> tuple[str, ...]:
        """The names of the motions that its episodes follow, or nothing."""
        ...

    def reset(self, seed: int | None) -> Tensor:
        """First observations (envs, observation) of new episodes."""
        ...

    def step(self, action: Tensor) -> Step:
        """Apply the policy's raw actions (envs, action)."""
        ...
