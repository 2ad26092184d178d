"""The reference motions as tensors: the state of every frame, and the states of the bodies in it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowrl.envs.humanoid.kinematics import VECTORS, BodyStates, body_states
from flowrl.envs.humanoid.model import BODIES, CONTROL_RATE
from flowrl.envs.humanoid.motions.motion import Motion

OF_BODIES = slice(1, 1 + len(BODIES))  # of MuJoCo's bodies: all but the world


class Reference:
    """The frames of all motions one after another, in `dtype` on `device`; about 3 kB a frame in float64.

    Frames are 1 / CONTROL_RATE apart, so a time is an integer. After a motion's last frame that frame is repeated.
    Raises ValueError where there is no motion, or a weight is negative, or none is positive.
    """

    def __init__(
        self,
        motions: Sequence[tuple[Motion, float]],
        model: mujoco.MjModel,
        dtype: torch.dtype = torch.float64,
        device: torch.device | None = None,
    ) -> None:
        weights = torch.tensor([weight for _, weight in motions], dtype=torch.float64)
        if not (weights >= 0).all() or not weights.sum() > 0 or not weights.isfinite().all():
            raise ValueError(f"the motions' weights {weights.tolist()} are not numbers >= 0 with a positive sum")
        self.names = tuple(motion.name for motion, _ in motions)
        self.weights = weights / weights.sum()  # (motions,) float64 on the CPU, for draws
        lengths = torch.tensor([len(motion.qpos) for motion, _ in motions])
        self.lengths = lengths.to(device)  # (motions,) frames
        self.first = self.lengths.cumsum(0) - self.lengths  # (motions,) index of a motion's first frame
        qpos = np.concatenate([motion.qpos for motion, _ in motions])
        qvel = np.concatenate([velocities(motion.qpos, model) for motion, _ in motions])
        self.digest = _digest(np.round(qpos, 6) + 0.0, lengths)  # processors differ in the last bits; + 0: no -0
        self.exact_digest = _digest(qpos, lengths)  # in the checkpoints of earlier versions
        bodies = kinematics(qpos, qvel, model)
        # (frames, 35), (frames, 34), and flat, because a row is gathered faster so: (frames, VECTORS · 15 · 3)
        arrays = torch.from_numpy(qpos), torch.from_numpy(qvel), *(part.flatten(1) for part in bodies)
        self.qpos, self.qvel, self._vectors, self._rotation = (array.to(device, dtype) for array in arrays)

    def frame(self, motion: Tensor, time: Tensor) -> Tensor:
        """Return the index (count,) in `qpos` and `qvel` of frame `time` of `motion`, each (count,)."""
        return self.first[motion] + torch.minimum(time, self.lengths[motion] - 1)

    def at(self, motion: Tensor, time: Tensor) -> BodyStates:
        """Return the states of the bodies in frame `time` (count,) of `motion` (count,)."""
        frame = self.frame(motion, time)
        vectors = self._vectors.index_select(0, frame).unflatten(1, (VECTORS, len(BODIES), 3))
        return BodyStates(vectors, self._rotation.index_select(0, frame).unflatten(1, (len(BODIES), 4)))


def velocities(qpos: NDArray[np.float64], model: mujoco.MjModel) -> NDArray[np.float64]:
    """Compute `qvel` (frames, 34) of a motion's `qpos` (frames, 35): central differences, one-sided at the ends."""
    qvel = np.empty((len(qpos), model.nv))
    last = len(qpos) - 1
    for frame in range(len(qpos)):
        before, after = max(frame - 1, 0), min(frame + 1, last)
        mujoco.mj_differentiatePos(model, qvel[frame], (after - before) / CONTROL_RATE, qpos[before], qpos[after])
    return qvel


def kinematics(qpos: NDArray[np.float64], qvel: NDArray[np.float64], model: mujoco.MjModel) -> BodyStates:
    """Compute the states of the bodies for `qpos` (frames, 35) and `qvel` (frames, 34) by MuJoCo's kinematics."""
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
    return body_states(*(torch.from_numpy(values) for values in (*fields.values(), centre)))


def _digest(qpos: NDArray[np.float64], lengths: Tensor) -> bytes:
    return hashlib.sha256(qpos.tobytes() + lengths.numpy().tobytes()).digest()
