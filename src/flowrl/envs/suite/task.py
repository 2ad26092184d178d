"""What a control task is: a model, a distribution of starts, an observation and a reward, over all simulations.

A task is written once over the batch: its tensors have a row per simulation, and it never loops over them.
Its numbers (sizes, speeds, time steps, solver options) stand in one frozen `Constants`, so that a variant of a
task is a set of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import ClassVar, Protocol, TypeVar

import mujoco
import torch
from torch import Tensor

from flowrl.envs.simulation import Simulation


@dataclass(frozen=True, kw_only=True)
class Constants:
    """The numbers that every task has; a task adds its own in a subclass.

    The defaults of the solver are MuJoCo's, and dm_control's.
    """

    timestep: float  # seconds of one physics step
    substeps: int  # physics steps of one control step
    episode_steps: int = 1000  # control steps after which an episode is truncated
    integrator: str = "Euler"  # "Euler", "RK4", "implicit" or "implicitfast"
    implicit_damping: bool = True  # whether Euler treats joint damping implicitly (the flag `eulerdamp`)
    iterations: int = 100  # at most, of the constraint solver
    ls_iterations: int = 50  # at most, of its line search

    @property
    def control_timestep(self) -> float:
        """Seconds of one control step."""
        return self.timestep * self.substeps


Numbers = TypeVar("Numbers", bound=Constants, contravariant=True)


class Task(Protocol[Numbers]):
    """One task over `simulation.count` simulations; it holds no state but the simulation's.

    The environment resets the simulations before `reset` and brings the derived fields up to date after it.
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
        """For having come to the present state under the present `ctrl`: a new tensor (count,) float64 in [0, 1]."""
        ...


def compiled(name: str, constants: Constants) -> mujoco.MjModel:
    """The model in `models/<name>.xml` with the time step and solver options of `constants`."""
    return specification(name, constants).compile()


def specification(name: str, constants: Constants) -> mujoco.MjSpec:
    """What `compiled` compiles, for a task whose constants change masses or shapes first."""
    text = resources.files("flowrl.envs.suite").joinpath("models", f"{name}.xml").read_text("utf-8")
    spec = mujoco.MjSpec.from_string(text)
    spec.option.timestep = constants.timestep
    spec.option.integrator = {
        "Euler": mujoco.mjtIntegrator.mjINT_EULER,
        "RK4": mujoco.mjtIntegrator.mjINT_RK4,
        "implicit": mujoco.mjtIntegrator.mjINT_IMPLICIT,
        "implicitfast": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
    }[constants.integrator]
    spec.option.iterations = constants.iterations
    spec.option.ls_iterations = constants.ls_iterations
    if not constants.implicit_damping:
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP
    return spec


def uniform(low: Tensor, high: Tensor, rows: int, random: torch.Generator) -> Tensor:
    """Draws (rows, size) between the bounds `low` and `high` (size,), each independent and uniform; float64."""
    return low + (high - low) * torch.rand(rows, len(low), dtype=torch.float64, generator=random)
