"""The view with which the viewer begins: that of the task's own camera, but free to be turned with the mouse."""

from __future__ import annotations

import math

import mujoco
import numpy as np

LIFT = -20.0  # degrees of elevation where the model has no camera
FURTHER = 1.4  # times the distance of the model's camera: the panel covers a part of the picture


def aim(camera: mujoco.MjvCamera, model: mujoco.MjModel, data: mujoco.MjData, number: int) -> bool:
    """Let `camera` look as camera `number` of the model does (-1: as MuJoCo's free one), and follow the robot.

    The robot is the first body, where it can move; else the camera stays. Returns whether it follows.
    """
    mujoco.mjv_defaultFreeCamera(model, camera)
    follows = model.nbody > 1 and model.body_weldid[1] != 0
    centre = np.array(data.subtree_com[1] if follows else camera.lookat)
    if number >= 0:
        forward = -data.cam_xmat[number].reshape(3, 3)[:, 2]
        camera.azimuth = math.degrees(math.atan2(forward[1], forward[0]))
        camera.elevation = math.degrees(math.asin(np.clip(forward[2], -1, 1)))
        camera.distance = max(float(forward @ (centre - data.cam_xpos[number])), 0.1 * model.stat.extent)
        centre = data.cam_xpos[number] + camera.distance * forward
    else:
        camera.elevation = LIFT
    camera.distance *= FURTHER
    camera.lookat[:] = centre
    if follows:
        camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        camera.trackbodyid = 1
    return bool(follows)
