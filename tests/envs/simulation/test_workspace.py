"""What a simulation takes of the machine's memory: enough for any tangle of contacts, not 13 MB each."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import numpy as np
import pytest

from flowrl.envs import state_capture
from flowrl.envs.dm_control import tasks as dm_control
from flowrl.envs.gymnasium_mujoco import tasks as gymnasium_mujoco
from flowrl.envs.simulation.mujoco_batch import WORKSPACE

DM_CONTROL = {
    f"{name}-{profile}": (lambda kind=kind, constants=constants: kind.build(constants))
    for name, (kind, profiles) in dm_control.TASKS.items()
    for profile, constants in profiles.items()
}
GYMNASIUM = {
    name: (lambda kind=kind, constants=constants: kind.build(constants))
    for name, (kind, constants) in gymnasium_mujoco.TASKS.items()
}
MODELS: dict[str, Callable[[], mujoco.MjModel]] = DM_CONTROL | GYMNASIUM


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_simulation_takes_a_megabyte_and_needs_a_tenth(name: str) -> None:
    with state_capture.quiet_mujoco():
        model = MODELS[name]()
    data = mujoco.MjData(model)
    assert data.narena == WORKSPACE
    random = np.random.default_rng(0)
    for _ in range(3):
        mujoco.mj_resetData(model, data)
        data.qpos[:] += random.normal(size=model.nq)  # bent into itself, or into the floor
        for _ in range(100):
            data.ctrl[:] = random.uniform(-1, 1, model.nu)
            mujoco.mj_step(model, data)
    assert data.maxuse_arena < WORKSPACE / 10
