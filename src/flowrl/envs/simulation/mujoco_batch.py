"""Many simulations of one MuJoCo model, stepped together: the one module that knows `mujoco.batch`.

A task reads and writes torch tensors over the simulator's own memory; none is copied. What `Simulation` offers
is deliberately little, so that a simulator on a GPU can stand beside it:

    model, count                      the compiled model, and how many simulations of it there are
    bind(field) -> Tensor             a field of MjData, (count, …), live
    latest(field) -> Tensor           a field of MjData as the last substep computed it, (count, …), live
    expand(field) -> Tensor           a field of MjModel with its own value in every simulation, (count, …), live
    reset(rows), forward(rows)        the model's default state; everything that follows from a state
    step(substeps, rows)              physics
    external_forces() -> Tensor       what the world pushes on each body with, (count, body, 6), live
    contacts(rows) -> Tensor          touching pairs of geoms
    lost() -> Tensor                  which simulations have left all bounds
    snapshot(), restore(snapshot)     plain tensors from which the next steps come out bit for bit the same
    render(row) -> image              one picture, with a second state as a ghost where one is given
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch
from mujoco.rendering.classic import gl_context
from numpy.typing import NDArray
from torch import Tensor

from flowrl.contracts.errors import MissingDependency
from flowrl.envs import opengl
from flowrl.envs.state_capture import configure_mujoco_log

Image = NDArray[np.uint8]  # (height, width, 3)

STATE = frozenset(
    {"time", "qpos", "qvel", "act", "ctrl", "qacc_warmstart", "mocap_pos", "mocap_quat", "xfrc_applied"}
)
"""The fields that make up the state; `bind` accepts them without a declaration."""

WORKSPACE = 2**20
"""Bytes that a task gives MuJoCo for the contacts and constraints of one simulation (`MjSpec.memory`).

MuJoCo's own guess is 13 MB, set aside for every simulation though a humanoid on its back uses 41 kB: a thousand
simulations would ask the system for 13 GB, which a machine that does not overcommit refuses.
"""

GHOST = (0.95, 0.45, 0.15, 0.4)
"""Red, green, blue and opacity."""


class Simulation:
    """`count` independent simulations of `model`, on `threads` threads (0: all cores); float64.

    `derived` names the MjData fields beyond the state that will be read (`xmat`, `sensordata`, …), `varied` the
    MjModel fields whose values differ between simulations. Both are declared here because they decide how the
    simulations are kept: derived fields are brought up to date with the state after every step, as dm_control
    does, at the price of half a step more; a task that reads the state alone does not pay it. `forces` asks for
    `external_forces`, which cost some 30 µs per simulation and `step`. Results do not depend on the number of
    threads, nor on which simulations run together.

    MuJoCo's silent reset of a state that is not finite is switched off: such a simulation stays as it is, so
    that its reader sees it, and the others go on. `rows` are ascending; where they are missing, all are meant.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        count: int,
        derived: tuple[str, ...] = (),
        varied: tuple[str, ...] = (),
        threads: int = 0,
        forces: bool = False,
    ) -> None:
        configure_mujoco_log(console=True, file=False)  # else a MUJOCO_LOG.TXT grows in the current folder
        self.model = copy.copy(model)
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.count = count
        # One MjData per simulation continues a step where the update of derived fields ended.
        self._batch = Batch(self.model, count, threads, persistent=bool(derived) or forces)
        self.threads = int(self._batch.nthread)
        self._stage = int(mujoco.mjtStage.mjSTAGE_VEL if derived else mujoco.mjtStage.mjSTAGE_NONE)
        self._derived = {field: live(self._batch.bind(field)) for field in derived}
        self._latest: dict[str, Tensor] = {}
        self._forces: Tensor | None = None
        if forces:
            self._forces = torch.zeros(count, model.nbody, 6, dtype=torch.float64)
            self._one = mujoco.MjData(self.model)  # takes the simulation whose forces are computed
        self._varied = {field: live(self._batch.expand(field)) for field in varied}
        self._state = live(self._batch.state)
        self._warnings = live(self._batch.warning)  # (count, kind, 2): what it was about, how often
        kinds = mujoco.mjtWarning
        self._out_of_bounds = self._warnings[:, kinds.mjWARN_BADQPOS : kinds.mjWARN_BADQACC + 1, 1]
        self._drawn = copy.copy(self.model)  # takes the model fields of the simulation that is drawn
        self._renderers: dict[tuple[int, int], mujoco.Renderer] = {}
        self._batch.reset()
        self._default = self._state[0].clone()

    def bind(self, field: str) -> Tensor:
        """The values (count, …) of an MjData field, live. What is written to a state field counts from the next
        call on; derived fields are for reading. Raises ValueError for one that was not declared."""
        if field in self._derived:
            return self._derived[field]
        if field not in STATE:
            raise ValueError(f"the simulation was made without {field!r} among its `derived` fields")
        return live(self._batch.bind(field))

    def latest(self, field: str) -> Tensor:
        """The values (count, …) of any MjData field as the last substep or `forward` computed them, live, for reading.

        They cost nothing beyond the copy. What depends on accelerations (touch, forces) is never newer than that;
        what depends on positions or velocities alone is one substep older than the state, unless it is `derived`.
        """
        if field not in self._latest:
            self._latest[field] = live(self._batch.bind(field))
        return self._latest[field]

    def external_forces(self) -> Tensor:
        """Torque and force (count, body, 6) on each body from contacts and what else acts on it from outside, live.

        MuJoCo's `cfrc_ext`, as mj_rnePostConstraint computes it from the last substep of the last `step`; zero
        since a `reset`. Raises ValueError for a simulation that was made without `forces`.
        """
        if self._forces is None:
            raise ValueError("the simulation was made without `forces`")
        return self._forces

    def expand(self, field: str) -> Tensor:
        """The values (count, …) of an MjModel field, live and writable. Constants that MuJoCo computes from the
        field when it compiles a model do not follow. Raises ValueError for a field that was not declared."""
        if field not in self._varied:
            raise ValueError(f"the simulation was made without {field!r} among its `varied` fields")
        return self._varied[field]

    def reset(self, rows: Tensor | None = None) -> None:
        """Put `rows` into the model's default state; nothing is computed from it yet (see `forward`)."""
        if self._varied:  # they may decide what the default state is
            self._batch.reset(indexes(rows), stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        else:  # the same for all, and cheaper than waking the threads
            where = slice(None) if rows is None else rows
            self._state[where], self._warnings[where] = self._default, 0
        if self._forces is not None:
            self._forces[slice(None) if rows is None else rows] = 0

    def forward(self, rows: Tensor | None = None) -> None:
        """Compute the derived fields of `rows`, accelerations included, from their states; time stands still."""
        self._batch.forward(indexes(rows))

    def step(self, substeps: int = 1, rows: Tensor | None = None) -> None:
        """Advance `rows` by `substeps` physics steps under their `ctrl`.

        Afterwards position and velocity dependent fields are those of the new state; what depends on
        accelerations (touch sensors, forces) is that of the last substep. Raises mujoco.batch.SimulationError
        where MuJoCo's engine reports an error.
        """
        self._batch.step(indexes(rows), substeps, self._stage)
        if self._forces is not None:
            forces, data = self._forces.numpy(), self._one
            for row in range(self.count) if rows is None else rows.tolist():
                self._batch.get_data(row, data)
                mujoco.mj_rnePostConstraint(self.model, data)
                forces[row] = data.cfrc_ext

    def contacts(self, rows: Tensor) -> Tensor:
        """How many pairs of geoms touch in each of `rows` (rows,) int32; runs `forward` on them."""
        pairs = live(self._batch.bind("ncon"))
        self.forward(rows)
        return pairs[rows]

    def lost(self) -> Tensor:
        """Where (count,) a position, velocity or acceleration was not finite, or beyond 1e10, since the last reset.

        MuJoCo, left to itself, would have reset these without a word.
        """
        return self._out_of_bounds.any(1)

    def snapshot(self) -> dict[str, Tensor]:
        """Everything the next steps and readings depend on, copied."""
        parts = (
            {"state": self._state, "warnings": self._warnings} | self._varied | self._derived | self._latest
        )
        if self._forces is not None:
            parts["forces"] = self._forces
        return {name: tensor.clone() for name, tensor in parts.items()}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Continue from a `snapshot` of a Simulation made with the same arguments (`threads` may differ)."""
        self._state.copy_(snapshot["state"])
        for field, tensor in self._varied.items():
            tensor.copy_(snapshot[field])
        if self._forces is not None:
            self._forces.copy_(snapshot["forces"])
        if self._derived:
            self._batch.forward(stage=self._stage)
        self._warnings.copy_(snapshot["warnings"])
        # `forward` cannot know what belongs to the substep before the snapshot, such as touch.
        for field, tensor in (self._derived | self._latest).items():
            tensor.copy_(snapshot[field])

    def render(
        self,
        row: int,
        height: int = 240,
        width: int = 320,
        camera: int | str = 0,
        ghost: NDArray[np.float64] | None = None,
    ) -> Image:
        """A picture (height, width, 3) of one simulation, which it does not disturb.

        `camera` is the name or number of one of the model's cameras. What moves is drawn a second time, see-through,
        as it is in the state `ghost` (nq,), where that is given. Raises MissingDependency when there is nothing to
        draw with.
        """
        if (height, width) not in self._renderers:
            self._renderers[height, width] = renderer(self._drawn, height, width)
        self._batch.get_model(row, self._drawn)
        data = self._batch.get_data(row)
        mujoco.mj_forward(self._drawn, data)
        drawing = self._renderers[height, width]
        drawing.update_scene(data, camera)
        if ghost is not None:
            add_ghost(drawing.scene, self._drawn, ghost)
        return np.array(drawing.render())

    def close(self) -> None:
        """Release what `render` took."""
        while self._renderers:
            self._renderers.popitem()[1].close()


def live(array: NDArray[Any]) -> Tensor:
    """A tensor over the memory of one of the batch's arrays."""
    array = array.view()
    array.flags.writeable = True  # torch has no read-only tensors and warns of one
    return torch.from_numpy(array)


def indexes(rows: Tensor | None) -> NDArray[np.int64] | None:
    """`rows` as the batch takes them."""
    return None if rows is None else rows.numpy()


def add_ghost(scene: mujoco.MjvScene, model: mujoco.MjModel, qpos: NDArray[np.float64]) -> None:
    """Put the moving geoms of `model` into `scene`, as they are in the state `qpos`, in GHOST's colour."""
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
    """MuJoCo's renderer of pictures (height, width, 3); raises MissingDependency without a graphics library, and
    UsageError where MUJOCO_GL switches drawing off."""
    opengl.refuse_off()
    model.vis.global_.offheight = max(model.vis.global_.offheight, height)
    model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
    opengl.lighten(model)
    library = os.environ.get("MUJOCO_GL") or opengl.library_without_screen()
    try:
        if library in ("egl", "osmesa"):  # MuJoCo chose when it was first imported, maybe for a screen
            gl_context.GLContext = import_module(f"mujoco.{library}").GLContext
        return mujoco.Renderer(model, height, width)
    except Exception as error:  # each graphics library fails in its own way
        raise MissingDependency(
            f"MuJoCo cannot draw here (MUJOCO_GL={library!r}): {error}. {opengl.INSTALL}"
        ) from error
