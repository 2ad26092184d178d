"""A control loop for the quadruped: NumPy, MuJoCo and an exported policy, without torch and the training's environment.

    flowrl export runs/quadruped_fpo-seed0 -o quadruped
    python examples/quadruped/control_loop.py quadruped --command 0.6 0 0 --seconds 10

On a robot `observe` reads the sensors instead of `MjData`, and the targets go to the servos instead of `data.ctrl`; the
rest stays. control_loop.c is the same program in C.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

import flowrl

MODEL = Path(__file__).with_name("quadruped.xml")
SUBSTEPS = 4  # of 5 ms
PERIOD = 0.02  # s between actions
STRIDE = 0.4  # s, that of quadruped.py

Numbers = NDArray[np.floating[Any]]


def observe(data: mujoco.MjData, home: Numbers, target: Numbers, command: Numbers, step: int, obs: Numbers) -> None:
    """Write the observation `obs` (50,) in the order of quadruped.py.

    Velocity (m/s), turning rate (rad/s) and gravity's direction in the trunk's frame, joint angles (rad) from `home`,
    joint speeds (rad/s), the last target from `home`, the clock of the trot, the command (m/s, m/s, rad/s).
    """
    w, axis = data.qpos[3], -data.qpos[4:7]

    def in_trunk(vector: Numbers) -> Numbers:
        return vector + 2 * np.cross(axis, np.cross(axis, vector) + w * vector)

    phase = step * 2 * math.pi * PERIOD / STRIDE
    obs[0:3] = in_trunk(data.qvel[:3])
    obs[3:6] = data.qvel[3:6]
    obs[6:9] = in_trunk(np.array([0.0, 0.0, -1.0]))
    obs[9:21] = data.qpos[7:] - home
    obs[21:33] = data.qvel[6:]
    obs[33:45] = target - home
    obs[45:47] = (math.sin(phase), math.cos(phase)) if command.any() else (0.0, 0.0)
    obs[47:50] = command


def walk(
    act: flowrl.DeployedPolicy,
    data: mujoco.MjData,
    model: mujoco.MjModel,
    command: Numbers,
    steps: int,
    realtime: bool = False,
) -> int:
    """Control the robot for `steps` actions from the state in `data`; returns how many were late, in real time."""
    home = model.key("stand").qpos[7:].copy()
    obs, target = np.zeros(act.observation_size, np.float32), np.zeros(act.action_size, np.float32)
    sent = data.ctrl.copy()  # what the servos hold: the standing posture
    late, due = 0, time.perf_counter()
    for step in range(steps):
        observe(data, home, sent, command, step, obs)
        act(obs, out=target)  # raises FloatingPointError for what is not finite; flowrl.load(on_bad="hold") holds
        sent[:] = target
        data.ctrl[:] = target
        mujoco.mj_step(model, data, SUBSTEPS)
        if realtime:
            due += PERIOD
            late += time.perf_counter() > due
            time.sleep(max(0.0, due - time.perf_counter()))
    return late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="an export, or a checkpoint")
    parser.add_argument("--command", type=float, nargs=3, default=(0.6, 0.0, 0.0), help="m/s, m/s, rad/s")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--noise", choices=("random", "zero", "fixed"), default="zero", help="of a policy with noise")
    parser.add_argument("--realtime", action="store_true", help="one action per 20 ms of the clock")
    options = parser.parse_args()
    act = flowrl.load(options.policy, noise=options.noise)
    model = mujoco.MjModel.from_xml_path(str(MODEL))
    data = mujoco.MjData(model)
    mujoco.mj_resetDataKeyframe(model, data, model.key("stand").id)
    command = np.array(options.command)
    late = walk(act, data, model, command, round(options.seconds / PERIOD), options.realtime)
    x, y, z = data.qpos[:3]
    print(f"{options.seconds:g} s: x {x:.3f} m, y {y:.3f} m, height {z:.3f} m, {late} late")


if __name__ == "__main__":
    main()
