"""Read PHC's motions (Luo et al. 2023, arXiv 2305.06456): pickled {name: {"root_trans_offset", "pose_aa", …}}."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from flowrl.envs.humanoid.motions.importers import safe_pickle, smpl
from flowrl.envs.humanoid.motions.motion import Motion

EXPECTED = (
    'a pickle as PHC writes it: by the name of each motion a dict with "root_trans_offset" (frames, 3), "pose_aa" '
    '(frames, 72) and "fps"'
)
KEYS = {"root_trans_offset", "pose_aa", "fps"}


def read(data: bytes, path: Path) -> list[Motion]:
    """Return every motion in a file. Raises ValueError."""
    document = safe_pickle.read(data)
    if not isinstance(document, dict):
        raise ValueError("it holds no dict")
    motions = {path.stem: document} if document.keys() >= KEYS else document
    if not motions:
        raise ValueError("it holds no motion")
    one = len(motions) == 1
    return [
        _to_motion(motion, path.stem if one else f"{path.stem}/{name}", str(path) if one else f"{path}/{name}")
        for name, motion in motions.items()
    ]


def _to_motion(motion: Any, name: str, source: str) -> Motion:
    missing = sorted(KEYS - motion.keys() if isinstance(motion, dict) else KEYS)
    if missing:
        raise ValueError(f"{name!r} in it has no {' and no '.join(missing)}")
    if robot := sorted(key for key in motion if str(key).startswith("dof")):
        shape = getattr(motion[robot[0]], "shape", ())
        joints = f" of {shape[-1]} joints" if shape else ""
        raise ValueError(
            f"{name!r} in it is the motion of a robot{joints} ({robot[0]!r}, as in PHC's pickles of Unitree's robots), "
            "not of a person"
        )
    positions, poses, rate = (motion[key] for key in ("root_trans_offset", "pose_aa", "fps"))
    for array in (positions, poses):
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
            raise ValueError(f"{name!r} in it has a value that is not an array of numbers")
    if not isinstance(rate, int | float | np.integer):  # NumPy's float64 is a float
        raise ValueError(f"the fps of {name!r} in it is not a number")
    if poses.ndim == 3:
        if poses.shape[2] != 3:
            raise ValueError(f"the pose_aa of {name!r} in it is of shape {poses.shape}, not (frames, joints, 3)")
        poses = poses.reshape(len(poses), poses.shape[1] * poses.shape[2])
    return smpl.to_motion(positions, poses, float(rate), name, source)
