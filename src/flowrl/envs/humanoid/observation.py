"""What the policy of HumanoidTrack is shown, and which of it a goal lets it see (PHC, Luo et al. 2023).

All is seen from the root, in a frame that has the root's heading but stands upright. A rotation is its x axis and
its z axis: 6 numbers. The goal is the reference in the next frame, about every body.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowrl.envs.humanoid.kinematics import PLACE, Bodies, heading, turned_back
from flowrl.envs.humanoid.model import BODIES, HANDS, JOINTS, ROOT

_BODIES, _JOINTS = len(BODIES), len(JOINTS)
PARTS = {
    "height": 1,  # of the root over the floor, m
    "places": 3 * (_BODIES - 1),  # of all other bodies from the root, m
    "rotations": 6 * _BODIES,
    "velocities": 3 * _BODIES,  # m/s
    "spins": 3 * _BODIES,  # rad/s
    "goal_place_differences": 3 * _BODIES,  # reference minus own, m
    "goal_rotation_differences": 6 * _BODIES,  # what turns the own rotation into the reference's
    "goal_velocity_differences": 3 * _BODIES,  # reference minus own, m/s
    "goal_spin_differences": 3 * _BODIES,  # rad/s
    "goal_places": 3 * _BODIES,  # the reference's bodies from the own root, m
    "goal_rotations": 6 * _BODIES,
    "joint_angles": _JOINTS,  # rad
    "joint_velocities": _JOINTS,  # rad/s
    "goal_joint_angles": _JOINTS,  # rad
}
"""Name and size of the parts of an observation, in order; bodies and joints as `BODIES` and `JOINTS` have them."""

_ENDS = list(accumulate(PARTS.values()))
SIZE = _ENDS[-1]
WHERE = {
    name: slice(end - size, end) for (name, size), end in zip(PARTS.items(), _ENDS, strict=True)
}  # of each part in an observation

Goal = Literal["full", "root_hands", "root"]
FOLLOWED: dict[Goal, tuple[int, ...]] = {
    "full": tuple(range(_BODIES)),
    "root_hands": (ROOT, *HANDS),
    "root": (ROOT,),
}
"""The bodies of whose reference the policy knows the place; with `full` it knows everything."""


def visible(goal: Goal) -> NDArray[np.bool_]:
    """Which numbers (SIZE,) of an observation the policy may see: of its own body all, and of the goal these."""
    seen = np.ones(SIZE, dtype=np.bool_)
    if goal == "full":
        return seen
    for name, where in WHERE.items():
        if name.startswith("goal"):
            seen[where] = False
    for name in ("goal_place_differences", "goal_places"):
        seen[WHERE[name]].reshape(_BODIES, 3)[list(FOLLOWED[goal])] = True
    return seen


def observation(own: Bodies, goal: Bodies, angles: Tensor, rates: Tensor, goal_angles: Tensor) -> Tensor:
    """A new tensor (count, SIZE); joint `angles`, `rates` and `goal_angles` are (count, 28)."""
    turn, root = heading(own), own.position[:, ROOT]
    ours, theirs = from_root(own, root, turn), from_root(goal, root, turn)
    difference = Bodies(theirs.vectors - ours.vectors, goal.rotation)  # its axes mean nothing
    parts = (
        root[:, 2:],
        ours.position[:, 1:],
        six_numbers(ours.axes[:, 0], ours.axes[:, 2]),
        ours.velocity,
        ours.spin,
        difference.position,
        six_numbers(*rotation_between(ours.axes, theirs.axes)),
        difference.velocity,
        difference.spin,
        theirs.position,
        six_numbers(theirs.axes[:, 0], theirs.axes[:, 2]),
        angles,
        rates,
        goal_angles,
    )
    return torch.cat([part.flatten(1) for part in parts], dim=1)


def from_root(bodies: Bodies, root: Tensor, turn: Tensor) -> Bodies:
    """`bodies` as seen from the place `root` (count, 3) with the heading `turn` (count, 2); `rotation` stays."""
    vectors = turned_back(bodies.vectors, turn)
    vectors[:, PLACE] -= turned_back(root, turn)[:, None]
    return Bodies(vectors, bodies.rotation)


def rotation_between(own: Tensor, goal: Tensor) -> tuple[Tensor, Tensor]:
    """The axes x and z (count, 15, 3) of the rotation that turns the axes `own` (count, 3, 15, 3) into `goal`.

    It is R = Σ_k goal_k own_kᵀ over the three axes k.
    """
    return (own[..., 0, None] * goal).sum(1), (own[..., 2, None] * goal).sum(1)


def six_numbers(x: Tensor, z: Tensor) -> Tensor:
    """Rotations with the axes x and z (count, 15, 3), body by body."""
    return torch.stack((x, z), dim=2)
