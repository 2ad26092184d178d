"""A recorded start and recorded actions, played again: how a task is compared with another implementation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from flowrl.envs.dm_control.tasks import chosen
from flowrl.envs.simulation.mujoco_batch import STATE, Simulation


def replay(
    task: str, start: Mapping[str, NDArray[Any]], actions: NDArray[Any], profile: str = "dmc"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Observations (steps + 1, observation) and rewards (steps,) of `actions` (steps, action) from `start`.

    `start` holds fields of the state (`qpos`, `qvel`, `qacc_warmstart`, …) and of the model (`geom_pos`, …), as
    MuJoCo names and shapes them. Raises UsageError for a task or profile that does not exist, and ValueError
    for a field that does not, for values of another shape, and for actions that are not finite.
    """
    kind, constants = chosen(task, profile)
    model = kind.build(constants)
    for name in start.keys() - STATE:
        if not hasattr(model, name):
            raise ValueError(f"start has {name!r}, which is no field of MuJoCo's state or model")
        getattr(model, name)[...] = shaped(name, start[name], getattr(model, name).shape)
    simulation = Simulation(model, 1, kind.derived, kind.varied, threads=1)
    playing = kind(simulation, constants)
    for name in start.keys() & STATE:
        field = simulation.bind(name)
        field[0] = torch.from_numpy(shaped(name, start[name], tuple(field[0].shape)))
    mujoco.mj_normalizeQuat(model, simulation.bind("qpos")[0].numpy())  # as every step leaves them
    simulation.forward()
    control = simulation.bind("ctrl")
    actions = shaped("actions", actions, (len(actions), control.shape[1]))
    observations, rewards = [playing.observation()], [torch.empty(0, dtype=torch.float64)]
    for action in actions:
        control[0] = torch.from_numpy(action)
        simulation.step(constants.substeps)
        observations.append(playing.observation())
        rewards.append(playing.reward())
    return torch.cat(observations).numpy(), torch.cat(rewards).numpy()


def shaped(name: str, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """`values` in double precision; raises ValueError unless they are finite and of that `shape`."""
    array = np.array(values, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers of shape {shape}, got the shape {array.shape}")
    return array
