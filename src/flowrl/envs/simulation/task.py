"""What a task is: a model, a distribution of starts, an observation, a reward and an end, over all simulations.

A task is written once over the batch: its tensors have a row per simulation, and it never loops over them.
Its numbers stand in a frozen dataclass, so that a variant of a task is a set of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar, runtime_checkable

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowrl.envs.simulation.mujoco_batch import Simulation


@dataclass(frozen=True, kw_only=True)
class TaskConstants:
    """The numbers that every task has; a task adds its own in a subclass."""

    substeps: int  # physics steps of one control step
    episode_steps: int = 1000  # control steps after which an episode is truncated


Numbers = TypeVar("Numbers", bound=TaskConstants, contravariant=True)


class Task(Protocol[Numbers]):
    """One task over `simulation.count` simulations; it holds no state but the simulation's, unless it `Remembers`.

    The environment resets the simulations before `reset` and brings the derived fields up to date after it.
    A task that has more to it is one of the protocols below, too.
    """

    @property
    def observation_parts(self) -> dict[str, int]:
        """Name and size of what an observation consists of, in order."""
        ...

    derived: ClassVar[tuple[str, ...]]
    """The MjData fields beyond the state that it reads (see `Simulation`); best none."""
    varied: ClassVar[tuple[str, ...]]
    """The MjModel fields that a reset changes in each simulation: where targets are."""

    @staticmethod
    def build(constants: Numbers) -> mujoco.MjModel:
        """The compiled model."""
        ...

    def __init__(self, simulation: Simulation, constants: Numbers) -> None:
        """Bind the fields that it reads, once."""
        ...

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        """Draw new starts for `rows` (rows,) int64, which are in the model's default state."""
        ...

    def observation(self) -> Tensor:
        """A new tensor (count, observation) float64."""
        ...

    def reward(self) -> Tensor:
        """For having come to the present state under the present `ctrl`: a new tensor (count,) float64."""
        ...


@runtime_checkable
class LooksBack(Protocol):
    """A task whose reward compares the state with the one before the control step."""

    def before(self) -> None:
        """Keep what the reward will need; called with the new `ctrl` in place, before the physics."""
        ...


@runtime_checkable
class Terminates(Protocol):
    """A task that can end an episode for good: there is no future to value."""

    def terminated(self) -> Tensor:
        """Where (count,) bool the present state ends the episode."""
        ...


@runtime_checkable
class ReadsForces(Protocol):
    """A task that reads `simulation.external_forces()`; its class says so, for they have their price."""

    reads_forces: ClassVar[bool]


@runtime_checkable
class Remembers(Protocol):
    """A task with a state of its own beside the simulation's."""

    def after(self) -> None:
        """Follow the physics: called after each control step, before anything is asked about the new state."""
        ...

    def forget(self) -> None:
        """Be as new, for all random numbers begin anew; called before the `reset` of all rows."""
        ...

    def state(self) -> dict[str, Tensor]:
        """A copy of its state."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over a copy."""
        ...


@runtime_checkable
class ShowsRows(Protocol):
    """A task that can show a part of the rows for less, which pays where few of many episodes start together."""

    def shown_in(self, rows: Tensor) -> Tensor:
        """`observation()[rows]`, as a new tensor (rows, observation)."""
        ...


@runtime_checkable
class Truncates(Protocol):
    """A task that can cut an episode short whose future still has a value."""

    def truncated(self) -> Tensor:
        """Where (count,) bool the present state is the last."""
        ...


@runtime_checkable
class Reports(Protocol):
    """A task that tells numbers of an episode, for the environment's info."""

    def report(self, rows: Tensor) -> dict[str, Tensor]:
        """Of the episodes of `rows` so far: (rows,) each, by name."""
        ...


@runtime_checkable
class EndsWhereLost(Protocol):
    """A task that takes a lost simulation for the end of an episode. Others show NaN there, which ends a training.

    It looks at `simulation.lost()` itself, for its observation, its reward and its end.
    """

    ends_where_lost: ClassVar[bool]


@runtime_checkable
class HasGhost(Protocol):
    """A task that shows a second state of the model in its pictures, as a ghost."""

    def ghost(self, row: int) -> NDArray[np.float64]:
        """The `qpos` of the ghost beside simulation `row`."""
        ...
