"""What a runner drives: a model, initial states, an observation, a reward and an end, over many simulations.

The built-in tasks are subclasses; tasks of a user are subclasses of `task.Task`, which `task_driver` adapts to this.

A task is written once over the batch: its tensors have a row per simulation, and it never loops over them. Its
numbers are the fields of a frozen dataclass, so that a variant of a task is another set of numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.simulation.protocol import Simulation


@dataclass(frozen=True, kw_only=True)
class TaskConstants:
    """The numbers of every task; a task adds its own in a subclass."""

    substeps: int  # physics steps per control step
    episode_steps: int = 1000  # control steps after which an episode is truncated
    camera: int | str = 0  # of pictures, by name or number


Constants = TypeVar("Constants", bound=TaskConstants)


class SimulationTask(Generic[Constants]):
    """A task over `simulation.count` simulations. A subclass must give `build`, `reset` and `reward`; an observation
    is by default the positions and velocities, and everything else has a default that does nothing.

    A task reads and writes tensors that are live views of the simulation: `qpos`, `qvel` and `ctrl`, and what else it
    binds in `__init__`. It makes its own tensors with `simulation.constant(…)`, so that it runs in the simulation's
    dtype on its device. The order of calls at an episode's start is: the simulation is reset to the model's default
    state, `reset`, `simulation.forward`, `observation_rows`; in a control step: `before_step`, the physics,
    `after_step`, `observation`, `reward`, `terminated`, `truncated`.
    """

    facts: ClassVar[Mapping[str, str]] = {}
    """Descriptions for `flowrl envs`, by the names `start`, `action`, `observation`, `reward` and `end`."""
    derived: ClassVar[tuple[str, ...]] = ()
    """The MjData fields beyond the state that it binds. Each step costs more where there are any."""
    varied: ClassVar[tuple[str, ...]] = ()
    """The MjModel fields that `reset` changes in each simulation, such as the position of a target."""
    reads_forces: ClassVar[bool] = False
    """Whether it calls `simulation.external_forces()`, which cost time."""
    settles: ClassVar[bool] = False
    """Whether `reset` steps the simulation, so that starts are better made many at a time (see `nursery`)."""
    terminates_if_unstable: ClassVar[bool] = False
    """Whether it treats an unstable simulation as the end of an episode (in `observation`, `reward` and `terminated`,
    by `simulation.unstable()`). Otherwise observation and reward become NaN there, which stops a training run."""

    @classmethod
    def build(cls, constants: Constants) -> mujoco.MjModel:
        """Compile the model."""
        raise NotImplementedError

    def __init__(self, simulation: Simulation, constants: Constants) -> None:
        """Keep the arguments and bind positions, velocities and controls; a subclass binds what else it reads."""
        self.simulation, self.constants = simulation, constants
        self.qpos, self.qvel, self.ctrl = (simulation.bind(field) for field in ("qpos", "qvel", "ctrl"))
        self.never = torch.zeros(simulation.count, dtype=torch.bool, device=simulation.device)

    @property
    def control_timestep(self) -> float:
        """Seconds per control step."""
        return float(self.simulation.model.opt.timestep * self.constants.substeps)

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        """Draw initial states for `rows` (rows,) int64, which are in the model's default state.

        Draw with `uniform` and `normal` from this module: they give equal numbers for every dtype and device.
        """
        raise NotImplementedError

    def use(self, random: torch.Generator) -> None:
        """Keep the generator of the runner, where the task draws in the middle of episodes; called once."""

    def parts(self) -> dict[str, Tensor]:
        """Compute the parts (count, size) of an observation by name, in order."""
        return {"position": self.qpos, "velocity": self.qvel}

    @property
    def observation_parts(self) -> Mapping[str, int]:
        """Name and size of the parts of an observation, in order."""
        return {name: part.shape[1] for name, part in self.parts().items()}

    def observation(self) -> Tensor:
        """Compute the observations as a new tensor (count, observation)."""
        return torch.cat(tuple(self.parts().values()), dim=1)

    def observation_rows(self, rows: Tensor) -> Tensor:
        """Compute `observation()[rows]` as a new tensor (rows, observation); override it where less work will do."""
        return self.observation()[rows]

    def reward(self) -> Tensor:
        """Compute the reward (count,), a new tensor, for arriving in the present state under the present `ctrl`."""
        raise NotImplementedError

    def terminated(self) -> Tensor:
        """Return where (count,) bool the present state ends the episode, without a future to value; read only."""
        return self.never

    def truncated(self) -> Tensor:
        """Return where (count,) bool the episode is cut short though its future still has a value; read only.

        The limit `episode_steps` is applied by the environment.
        """
        return self.never

    def before_step(self) -> None:
        """Keep what the reward compares with; called with the new `ctrl` in place, before the physics."""

    def after_step(self) -> None:
        """Update the task's own state; called after the physics, before the other methods."""

    def clear(self) -> None:
        """Reset the task's own state; called when the random generator is seeded, before a `reset` of all rows."""

    def state(self) -> dict[str, Tensor]:
        """Copy the task's own state, beyond the simulation's."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state()`."""

    def report(self, rows: Tensor) -> dict[str, Tensor]:
        """Return numbers (rows,) about the present episodes of `rows`, by their names in the environment's info."""
        return {}

    def ghost(self, row: int) -> Tensor | None:
        """Return the `qpos` (nq,) of a second, transparent body in the pictures of simulation `row`, or None."""
        return None


def uniform(low: Tensor, high: Tensor, rows: int, random: torch.Generator) -> Tensor:
    """Draw (rows, size) independent uniform numbers between the bounds `low` and `high` (size,), in their dtype.

    They are drawn in float64 on the CPU, so that a seed gives the same initial states in every simulation.
    """
    return low + (high - low) * torch.rand(rows, len(low), dtype=torch.float64, generator=random).to(low)


def normal(like: Tensor, rows: int, random: torch.Generator) -> Tensor:
    """Draw (rows, size) standard normal numbers for the field `like` (count, size), as `uniform` draws its own."""
    return torch.randn(rows, like.shape[1], dtype=torch.float64, generator=random).to(like)
