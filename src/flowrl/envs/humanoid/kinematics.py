"""Positions, orientations and velocities of the humanoid's bodies, over a batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowrl.envs.humanoid.model import ROOT

POSITION, VELOCITY, ANGULAR_VELOCITY, AXES = 0, 1, 2, slice(3, 6)
VECTORS = 6


class BodyStates(NamedTuple):
    """A batch of states of all 15 bodies, in the world's frame."""

    vectors: Tensor  # (count, VECTORS, 15, 3): position, velocity, angular velocity, and the axes x, y and z
    rotation: Tensor  # (count, 15, 4) unit quaternion w, x, y, z: the orientation of the axes

    @property
    def position(self) -> Tensor:
        """(count, 15, 3) m, of each body's frame: where it is attached to its parent."""
        return self.vectors[:, POSITION]

    @property
    def velocity(self) -> Tensor:
        """(count, 15, 3) m/s, of the frame's origin."""
        return self.vectors[:, VELOCITY]

    @property
    def angular_velocity(self) -> Tensor:
        """(count, 15, 3) rad/s."""
        return self.vectors[:, ANGULAR_VELOCITY]

    @property
    def axes(self) -> Tensor:
        """(count, 3, 15, 3): the unit vectors x, y and z of each body's frame."""
        return self.vectors[:, AXES]


def body_states(position: Tensor, rotation: Tensor, matrix: Tensor, motion: Tensor, centre: Tensor) -> BodyStates:
    """Compute the states from MuJoCo's fields `xpos`, `xquat`, `xmat`, `cvel` and, of the tree's root, `subtree_com`
    (count, 3).

    `cvel` is the angular velocity, and the velocity of the point of the body at the tree's centre of mass.
    """
    angular_velocity = motion[..., :3]
    velocity = motion[..., 3:] + torch.linalg.cross(angular_velocity, position - centre[:, None])
    axes = matrix.unflatten(-1, (3, 3)).unbind(-1)  # MuJoCo's matrices are stored by rows
    return BodyStates(torch.stack((position, velocity, angular_velocity, *axes), dim=1), rotation)


def heading(bodies: BodyStates) -> Tensor:
    """Compute cosine and sine (count, 2) of the angle about z from the world's x to where the root's x points.

    A root whose x points straight up or down has the heading of the world.
    """
    ahead = bodies.axes[:, 0, ROOT]
    angle = torch.atan2(ahead[:, 1], ahead[:, 0])
    return torch.stack((angle.cos(), angle.sin()), dim=1)


def rotate_back(vectors: Tensor, turn: Tensor) -> Tensor:
    """Rotate `vectors` (count, …, 3) about z by minus the angle of `turn`, its cosine and sine (count, 2)."""
    cos, sin = turn.unflatten(0, (-1, *[1] * (vectors.ndim - 2))).unbind(-1)
    x, y, z = vectors.unbind(-1)
    rotated = torch.empty_like(vectors)
    torch.mul(x, cos, out=rotated[..., 0]).addcmul_(y, sin)
    torch.mul(y, cos, out=rotated[..., 1]).addcmul_(x, sin, value=-1)
    rotated[..., 2] = z
    return rotated
