"""What the control tasks have in common: time step, solver options, and models from the folder `models`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

import mujoco
import torch
from torch import Tensor

from flowrl.envs.simulation.mujoco_batch import WORKSPACE
from flowrl.envs.simulation.task import TaskConstants


@dataclass(frozen=True, kw_only=True)
class DMControlConstants(TaskConstants):
    """The numbers that every control task has; a task adds its own in a subclass.

    The defaults of the solver are MuJoCo's, and dm_control's.
    """

    timestep: float  # seconds of one physics step
    integrator: str = "Euler"  # "Euler", "RK4", "implicit" or "implicitfast"
    implicit_damping: bool = True  # whether Euler treats joint damping implicitly (the flag `eulerdamp`)
    iterations: int = 100  # at most, of the constraint solver
    ls_iterations: int = 50  # at most, of its line search
    camera: int | str = 0  # that pictures are taken from

    @property
    def control_timestep(self) -> float:
        """Seconds of one control step."""
        return self.timestep * self.substeps


def compiled(name: str, constants: DMControlConstants) -> mujoco.MjModel:
    """The model in `models/<name>.xml` with the time step and solver options of `constants`."""
    return specification(name, constants).compile()


def specification(name: str, constants: DMControlConstants) -> mujoco.MjSpec:
    """What `compiled` compiles, for a task whose constants change masses or shapes first."""
    text = resources.files("flowrl.envs.dm_control").joinpath("models", f"{name}.xml").read_text("utf-8")
    spec = mujoco.MjSpec.from_string(text)
    spec.memory = WORKSPACE
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
