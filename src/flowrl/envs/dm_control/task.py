"""The shared part of the control tasks: time step, solver options, and models from the folder `models`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import ClassVar, TypeVar

import mujoco

from flowrl.envs.simulation.mujoco_batch import WORKSPACE
from flowrl.envs.simulation.simulation_task import SimulationTask, TaskConstants


@dataclass(frozen=True, kw_only=True)
class DMControlConstants(TaskConstants):
    """The numbers of every control task; a task adds its own in a subclass.

    The solver's defaults are MuJoCo's, and dm_control's.
    """

    timestep: float  # seconds of one physics step
    integrator: str = "Euler"  # "Euler", "RK4", "implicit" or "implicitfast"
    implicit_damping: bool = True  # whether Euler treats joint damping implicitly (the flag `eulerdamp`)
    iterations: int = 100  # at most, of the constraint solver
    ls_iterations: int = 50  # at most, of its line search


C = TypeVar("C", bound=DMControlConstants)


class DMControlTask(SimulationTask[C]):
    """A control task on the model `models/<model>.xml`."""

    model: ClassVar[str]

    @classmethod
    def build(cls, constants: C) -> mujoco.MjModel:
        return cls.specification(constants).compile()

    @classmethod
    def specification(cls, constants: C) -> mujoco.MjSpec:
        """Read the model and set the time step and solver options of `constants`, before it is compiled."""
        path = resources.files("flowrl.envs.dm_control").joinpath("models", f"{cls.model}.xml")
        spec = mujoco.MjSpec.from_string(path.read_text("utf-8"))
        spec.memory = WORKSPACE
        spec.option.timestep = constants.timestep
        spec.option.integrator = getattr(mujoco.mjtIntegrator, f"mjINT_{constants.integrator.upper()}")
        spec.option.iterations = constants.iterations
        spec.option.ls_iterations = constants.ls_iterations
        if not constants.implicit_damping:
            spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_EULERDAMP
        return spec
