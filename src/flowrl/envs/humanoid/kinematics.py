"""What the humanoid's bodies do at a moment: where they are, how they are turned and how they move."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from flowrl.envs.humanoid.model import ROOT

PLACE, VELOCITY, SPIN, AXES = 0, 1, 2, slice(3, 6)
VECTORS = 6


class Bodies(NamedTuple):
    """A batch of moments, each of all 15 bodies; float64, seen from the world."""

    vectors: Tensor  # (count, VECTORS, 15, 3): place, velocity, spin, and the axes x, y and z
    rotation: Tensor  # (count, 15, 4) unit quaternion w, x, y, z: the axes once more

    @property
    def position(self) -> Tensor:
        """(count, 15, 3) m, of each body's frame: where it hangs on its parent."""
        return self.vectors[:, PLACE]

    @property
    def velocity(self) -> Tensor:
        """(count, 15, 3) m/s, of the frame's origin."""
        return self.vectors[:, VELOCITY]

    @property
    def spin(self) -> Tensor:
        """(count, 15, 3) rad/s."""
        return self.vectors[:, SPIN]

    @property
    def axes(self) -> Tensor:
        """(count, 3, 15, 3): the unit vectors x, y and z of each body's frame."""
        return self.vectors[:, AXES]


def moving(position: Tensor, rotation: Tensor, matrix: Tensor, motion: Tensor, centre: Tensor) -> Bodies:
    """Bodies from MuJoCo's fields `xpos`, `xquat`, `xmat`, `cvel` and, of the tree's root, `subtree_com` (count, 3).

    `cvel` is the spin, and the velocity of what would be at the tree's centre of mass if it moved with the body.
    """
    spin = motion[..., :3]
    velocity = motion[..., 3:] + torch.linalg.cross(spin, position - centre[:, None])
    axes = matrix.unflatten(-1, (3, 3)).unbind(-1)  # MuJoCo's matrices stand row by row
    return Bodies(torch.stack((position, velocity, spin, *axes), dim=1), rotation)


def heading(bodies: Bodies) -> Tensor:
    """Cosine and sine (count, 2) of the angle about z from the world's x to where the root's x points.

    A root that looks straight up or down has the heading of the world.
    """
    ahead = bodies.axes[:, 0, ROOT]
    angle = torch.atan2(ahead[:, 1], ahead[:, 0])
    return torch.stack((angle.cos(), angle.sin()), dim=1)


def turned_back(vectors: Tensor, turn: Tensor) -> Tensor:
    """`vectors` (count, …, 3) as seen by one who is turned about z by `turn`, cosine and sine (count, 2)."""
    cos, sin = turn.unflatten(0, (-1, *[1] * (vectors.ndim - 2))).unbind(-1)
    x, y, z = vectors.unbind(-1)
    seen = torch.empty_like(vectors)
    torch.mul(x, cos, out=seen[..., 0]).addcmul_(y, sin)
    torch.mul(y, cos, out=seen[..., 1]).addcmul_(x, sin, value=-1)
    seen[..., 2] = z
    return seen
