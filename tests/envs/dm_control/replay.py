"""Replay recorded actions from a recorded state, to compare a task with another implementation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray

from flowrl.envs.dm_control.tasks import find_task
from flowrl.envs.simulation.mujoco_batch import STATE, MujocoBatch


def replay(
    name: str, start: Mapping[str, NDArray[Any]], actions: NDArray[Any], profile: str = "dmc"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute observations (steps + 1, observation) and rewards (steps,) of `actions` (steps, action) from `start`.

    `start` holds fields of the state (`qpos`, `qvel`, `qacc_warmstart`, …) and of the model (`geom_pos`, …), as
    MuJoCo names and shapes them. Raises UsageError for a task or profile that does not exist, and ValueError
    for a field that does not, for values of another shape, and for actions that are not finite.
    """
    kind, constants = find_task(name, profile)
    model = kind.build(constants)
    for field in start.keys() - STATE:
        if not hasattr(model, field):
            raise ValueError(f"start has {field!r}, which is no field of MuJoCo's state or model")
        getattr(model, field)[...] = shaped(field, start[field], getattr(model, field).shape)
    simulation = MujocoBatch(model, 1, kind.derived, kind.varied, threads=1)
    task = kind(simulation, constants)
    for field in start.keys() & STATE:
        values = simulation.bind(field)
        values[0] = torch.from_numpy(shaped(field, start[field], tuple(values[0].shape)))
    mujoco.mj_normalizeQuat(model, simulation.bind("qpos")[0].numpy())  # as after every step
    simulation.forward()
    control = simulation.bind("ctrl")
    actions = shaped("actions", actions, (len(actions), control.shape[1]))
    observations, rewards = [task.observation()], [torch.empty(0, dtype=torch.float64)]
    for action in actions:
        control[0] = torch.from_numpy(action)
        simulation.step(constants.substeps)
        observations.append(task.observation())
        rewards.append(task.reward())
    return torch.cat(observations).numpy(), torch.cat(rewards).numpy()


def shaped(name: str, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Convert `values` to float64; raises ValueError unless they are finite and of that `shape`."""
    array = np.array(values, dtype=np.float64)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite numbers of shape {shape}, got the shape {array.shape}")
    return array
