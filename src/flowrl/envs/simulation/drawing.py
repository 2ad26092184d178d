"""Pictures of one simulation by MuJoCo's classic renderer, whichever engine computes its states."""

from __future__ import annotations

import copy
import os
from importlib import import_module

import mujoco
import numpy as np
from mujoco.rendering.classic import gl_context
from numpy.typing import NDArray
from torch import Tensor

from flowrl.contracts.errors import MissingDependency
from flowrl.envs import opengl
from flowrl.envs.simulation.protocol import Image

GHOST = (0.95, 0.45, 0.15, 0.4)
"""Red, green, blue and opacity."""


class Drawing:
    """Draws states of a copy of `model`, whose fields are first set to those of the simulation to draw."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self.model = copy.copy(model)
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}

    def prepare(self, height: int, width: int) -> None:
        """Make the renderer of pictures (height, width, 3); raises MissingDependency without a graphics library."""
        if (height, width) not in self._renderers:
            self._renderers[height, width] = renderer(self.model, height, width)

    def picture(
        self, data: mujoco.MjData, height: int, width: int, camera: int | str, ghost: Tensor | None = None
    ) -> Image:
        """Draw the state of `data` (height, width, 3), and transparent the moving bodies in the state `ghost` (nq,).

        Call `prepare` first.
        """
        mujoco.mj_forward(self.model, data)
        drawing = self._renderers[height, width]
        drawing.update_scene(data, camera)
        if ghost is not None:
            add_ghost(drawing.scene, self.model, ghost.double().cpu().numpy())
        return np.array(drawing.render())

    def close(self) -> None:
        """Release the renderers."""
        while self._renderers:
            self._renderers.popitem()[1].close()


def add_ghost(scene: mujoco.MjvScene, model: mujoco.MjModel, qpos: NDArray[np.float64]) -> None:
    """Add the moving geoms of `model` in the state `qpos` (nq,) to `scene`, in the colour GHOST."""
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(model, data)
    drawn = scene.ngeom
    dynamic = int(mujoco.mjtCatBit.mjCAT_DYNAMIC)
    mujoco.mjv_addGeoms(model, data, mujoco.MjvOption(), mujoco.MjvPerturb(), dynamic, scene)
    for geom in scene.geoms[drawn : scene.ngeom]:
        geom.rgba[:] = GHOST
        geom.matid = -1


def renderer(model: mujoco.MjModel, height: int, width: int) -> mujoco.Renderer:
    """Make MuJoCo's renderer of pictures (height, width, 3).

    Raises MissingDependency without a graphics library, and UsageError where MUJOCO_GL switches drawing off.
    """
    opengl.refuse_off()
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    opengl.lighten(model)
    library = os.environ.get("MUJOCO_GL") or opengl.library_without_screen()
    try:
        if library in ("egl", "osmesa"):  # MuJoCo chose at its first import, maybe for a screen
            gl_context.GLContext = import_module(f"mujoco.{library}").GLContext
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # each graphics library fails in its own way
        raise MissingDependency(
            f"MuJoCo cannot draw here (MUJOCO_GL={library!r}): {error}. {opengl.INSTALL}"
        ) from error
