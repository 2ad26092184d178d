"""The choice of the engine that simulates a task: MuJoCo on the CPU's cores, or MuJoCo Warp."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from flowrl.contracts.errors import UsageError
from flowrl.envs.settings import EnvSettings
from flowrl.envs.simulation import warp_package
from flowrl.envs.simulation.warp_settings import WarpSettings

if TYPE_CHECKING:  # this module is imported for environments without MuJoCo, too
    from mujoco import MjModel

    from flowrl.envs.simulation.mujoco_warp import MujocoWarp
    from flowrl.envs.simulation.protocol import SimulationFactory

Engine = Literal["mujoco", "warp"]

WORTH_A_GPU = 4096
"""Environments from which `auto` takes a GPU. It is a guess: fewer do not fill one, and no speed was measured."""


@dataclass(frozen=True)
class WarpSimulator:
    """Makes simulations on MuJoCo Warp with these settings; a SimulationFactory."""

    settings: WarpSettings

    @property
    def nursery(self) -> int:
        """How many starts a task that settles them keeps."""
        return self.settings.nursery

    def __call__(
        self,
        model: MjModel,
        count: int,
        derived: tuple[str, ...] = (),
        varied: tuple[str, ...] = (),
        threads: int = 0,
        forces: bool = False,
    ) -> MujocoWarp:
        """Make the simulations; the arguments are those of `MujocoWarp`."""
        from flowrl.envs.simulation.mujoco_warp import MujocoWarp

        return MujocoWarp(
            model, count, derived, varied, threads, forces, **self.settings.model_dump(exclude={"nursery"})
        )


def chosen(settings: EnvSettings, count: int, reason: str) -> Engine:
    """Return the engine for `count` environments, with `auto` resolved.

    `reason` is why the environment cannot run on MuJoCo Warp, or ''. Raises UsageError where it cannot and is to.
    """
    if settings.simulator == "warp" and reason:
        raise UsageError(f"env.simulator=warp: {reason} Leave env.simulator out, or set it to mujoco.")
    if settings.simulator != "auto":
        return settings.simulator
    wanted = count >= WORTH_A_GPU and settings.warp.device != "cpu"
    here = wanted and not reason and torch.cuda.is_available() and warp_package.installed()
    return "warp" if here else "mujoco"


def make(engine: Engine, settings: EnvSettings) -> SimulationFactory:
    """Return what makes the simulations; raises MissingDependency for MuJoCo Warp without its package."""
    if engine == "mujoco":
        from flowrl.envs.simulation.mujoco_batch import MujocoBatch

        return MujocoBatch
    warp_package.load()
    return WarpSimulator(settings.warp)
