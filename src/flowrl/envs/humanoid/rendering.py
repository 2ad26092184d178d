"""Pictures of the humanoid in a pose of a motion, without physics."""

from __future__ import annotations

import mujoco
import numpy as np

from flowrl.envs.humanoid.model import BODIES, ROOT, build
from flowrl.envs.humanoid.motions.quaternions import Array
from flowrl.envs.simulation.drawing import renderer
from flowrl.envs.simulation.protocol import Image

DISTANCE = 2.9  # m, from the camera to the centre of mass, which it looks at
# degrees: from the right, a little ahead of a walk along x, and a little from above
AZIMUTH, ELEVATION = 112.0, -8.0


class PoseRenderer:
    """Draws poses as pictures (height, width, 3); raises MissingDependency without a graphics library."""

    def __init__(self, height: int, width: int) -> None:
        self._model = build()
        self._data = mujoco.MjData(self._model)
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_TRACKING
        self._camera.trackbodyid = self._model.body(BODIES[ROOT]).id
        self._camera.distance, self._camera.azimuth, self._camera.elevation = DISTANCE, AZIMUTH, ELEVATION
        self._renderer = renderer(self._model, height, width)

    def picture(self, pose: Array) -> Image:
        """Draw the humanoid in `pose` (35,), a frame of a motion."""
        self._data.qpos[:] = pose
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, self._camera)
        return np.array(self._renderer.render())

    def close(self) -> None:
        """Release the renderer."""
        self._renderer.close()
