"""Read AMASS's motions (Mahmood et al. 2019, arXiv 1904.03278): an `.npz` of SMPL-H or SMPL-X rotations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from flowrl.envs.humanoid.motions.importers import safe_npz, smpl
from flowrl.envs.humanoid.motions.motion import Motion

KEYS = {"trans", "poses"}
"""The names by which an archive is known to be of AMASS."""
RATES = ("mocap_framerate", "mocap_frame_rate")


def read(arrays: dict[str, NDArray[Any]], path: Path) -> list[Motion]:
    """Return the motion in an archive. Raises ValueError."""
    rate = next((name for name in RATES if name in arrays), RATES[0])
    width = arrays["poses"].shape[1] if arrays["poses"].ndim == 2 else 3 * len(smpl.JOINTS)
    positions = safe_npz.numbers(arrays, "trans", None, 3)
    poses = safe_npz.numbers(arrays, "poses", None, width)
    return [smpl.to_motion(positions, poses, safe_npz.one_number(arrays, rate), path.stem, str(path))]
