"""The motions to imitate: every frame's state, and what the bodies do in it, ready to be gathered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowrl.envs.humanoid.kinematics import VECTORS, Bodies, moving
from flowrl.envs.humanoid.model import BODIES, CONTROL_RATE
from flowrl.envs.humanoid.motions.motion import Motion

OF_BODIES = slice(1, 1 + len(BODIES))  # of MuJoCo's bodies: all but the world


class Reference:
    """The frames of all clips one after another; about 3 kB a frame.

    Frames are CONTROL_RATE apart, so a time is a whole number. Beyond a clip's last frame is its last frame. Raises
    ValueError where there is no clip, or a weight is negative, or none is positive.
    """

    def __init__(self, clips: Sequence[tuple[Motion, float]], model: mujoco.MjModel) -> None:
        weights = torch.tensor([weight for _, weight in clips], dtype=torch.float64)
        if not (weights >= 0).all() or not weights.sum() > 0 or not weights.isfinite().all():
            raise ValueError(
                f"the clips' weights {weights.tolist()} are not numbers >= 0 with a positive sum"
            )
        self.names = tuple(clip.name for clip, _ in clips)
        self.weights = weights / weights.sum()  # (clips,)
        self.lengths = torch.tensor([len(clip.qpos) for clip, _ in clips])  # (clips,) frames
        self.first = self.lengths.cumsum(0) - self.lengths  # (clips,) where a clip begins among the frames
        qpos = np.concatenate([clip.qpos for clip, _ in clips])
        qvel = np.concatenate([velocities(clip.qpos, model) for clip, _ in clips])
        self.qpos, self.qvel = torch.from_numpy(qpos), torch.from_numpy(qvel)  # (frames, 35), (frames, 34)
        self.digest = hashlib.sha256(
            qpos.tobytes() + self.lengths.numpy().tobytes()
        ).digest()  # of the motions
        bodies = kinematics(qpos, qvel, model)
        self._vectors = bodies.vectors.flatten(1)  # (frames, VECTORS · 15 · 3): a row is gathered faster so
        self._rotation = bodies.rotation.flatten(1)

    def frame(self, clip: Tensor, time: Tensor) -> Tensor:
        """Where (count,) frame `time` of `clip` stands in `qpos` and `qvel`."""
        return self.first[clip] + torch.minimum(time, self.lengths[clip] - 1)

    def at(self, clip: Tensor, time: Tensor) -> Bodies:
        """What the bodies do in frame `time` (count,) of `clip` (count,)."""
        frame = self.frame(clip, time)
        vectors = self._vectors.index_select(0, frame).unflatten(1, (VECTORS, len(BODIES), 3))
        return Bodies(vectors, self._rotation.index_select(0, frame).unflatten(1, (len(BODIES), 4)))


def velocities(qpos: NDArray[np.float64], model: mujoco.MjModel) -> NDArray[np.float64]:
    """`qvel` (frames, 34) of a clip's `qpos`: central differences, and at the two ends one-sided ones."""
    qvel = np.empty((len(qpos), model.nv))
    last = len(qpos) - 1
    for frame in range(len(qpos)):
        before, after = max(frame - 1, 0), min(frame + 1, last)
        mujoco.mj_differentiatePos(
            model, qvel[frame], (after - before) / CONTROL_RATE, qpos[before], qpos[after]
        )
    return qvel


def kinematics(qpos: NDArray[np.float64], qvel: NDArray[np.float64], model: mujoco.MjModel) -> Bodies:
    """What the bodies do in states `qpos` (frames, 35) and `qvel` (frames, 34), by MuJoCo's own kinematics."""
    data = mujoco.MjData(model)
    fields = {
        name: np.empty((len(qpos), len(BODIES), getattr(data, name).shape[1]))
        for name in ("xpos", "xquat", "xmat", "cvel")
    }
    centre = np.empty((len(qpos), 3))
    for frame in range(len(qpos)):
        data.qpos[:], data.qvel[:] = qpos[frame], qvel[frame]
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        for name, values in fields.items():
            values[frame] = getattr(data, name)[OF_BODIES]
        centre[frame] = data.subtree_com[OF_BODIES.start]
    return moving(*(torch.from_numpy(values) for values in (*fields.values(), centre)))
