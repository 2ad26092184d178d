"""Pictures of the humanoid in a pose of a motion, without physics."""

from __future__ import annotations

import mujoco
import numpy as np

from flowrl.envs.humanoid.model import BODIES, ROOT, build
from flowrl.envs.humanoid.motions.quaternions import Array
from flowrl.envs.simulation.mujoco_batch import Image, renderer

DISTANCE = 2.9  # m, from the camera to the centre of mass, which it looks at
AZIMUTH, ELEVATION = (
    112.0,
    -8.0,
)  # degrees: from the right and a little ahead of who walks along x, and from above


class PoseRenderer:
    """Draws poses in pictures (height, width, 3); raises MissingDependency where there is nothing to draw with."""

    def __init__(self, height: int, width: int) -> None:
        self._model = build()
        self._data = mujoco.MjData(self._model)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        self._camera.trackbodyid = self._model.body(BODIES[ROOT]).id
        self._camera.distance, self._camera.azimuth, self._camera.elevation = DISTANCE, AZIMUTH, ELEVATION
        self._renderer = renderer(self._model, height, width)

    def picture(self, pose: Array) -> Image:
        """The humanoid in `pose` (35,), a frame of a motion."""
        self._data.qpos[:] = pose
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, self._camera)
        return np.array(self._renderer.render())

    def close(self) -> None:
        """Let go of the graphics."""
        self._renderer.close()
