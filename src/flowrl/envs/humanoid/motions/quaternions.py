"""Rotations as unit quaternions w, x, y, z in the last axis, with any shape before it.

`multiply(a, b)` rotates by `b` first, then by `a`, as matrices do; q and -q are the same rotation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

AXES = np.eye(3)
GIMBAL = 1 - 1e-12  # |sin y| above which the x and z Euler angles rotate about the same axis


def axis_rotation(axis: str, angle: ArrayLike) -> Array:
    """Return the rotation (…, 4) by `angle` (…) in rad about 'x', 'y' or 'z'."""
    half = np.asarray(angle, dtype=np.float64)[..., None] / 2
    return np.concatenate([np.cos(half), np.sin(half) * AXES["xyz".index(axis)]], axis=-1)


def multiply(left: ArrayLike, *others: ArrayLike) -> Array:
    """Return the product (…, 4) of two or more rotations; the last one is applied first."""
    product = np.asarray(left, dtype=np.float64)
    for other in others:
        (w, v), (a, b) = _parts(product), _parts(np.asarray(other, dtype=np.float64))
        scalar = w * a - (v * b).sum(-1, keepdims=True)
        product = np.concatenate([scalar, w * b + a * v + np.cross(v, b)], axis=-1)
    return product


def inverse(rotation: ArrayLike) -> Array:
    """Return the inverse rotation (…, 4)."""
    return np.asarray(rotation, dtype=np.float64) * [1.0, -1.0, -1.0, -1.0]


def rotate(rotation: ArrayLike, vector: ArrayLike) -> Array:
    """Rotate `vector` (…, 3): v + 2 w (u × v) + 2 u × (u × v) for the rotation (w, u)."""
    vector = np.asarray(vector, dtype=np.float64)
    w, u = _parts(np.asarray(rotation, dtype=np.float64))
    across = 2 * np.cross(u, vector)
    return np.asarray(vector + w * across + np.cross(u, across))


def normalised(rotation: ArrayLike) -> Array:
    """Return `rotation` (…, 4) at unit length. Raises ValueError for a quaternion of zero."""
    rotation = np.asarray(rotation, dtype=np.float64)
    length = np.linalg.norm(rotation, axis=-1, keepdims=True)
    if not (length > 1e-6).all():
        raise ValueError("a quaternion is zero")
    return rotation / length


def continuous(rotation: ArrayLike) -> Array:
    """Return the same rotations (frames, 4), choosing of q and -q the one nearer to the previous frame."""
    rotation = np.asarray(rotation, dtype=np.float64)
    nearer = np.where((rotation[1:] * rotation[:-1]).sum(-1) < 0, -1.0, 1.0)
    return rotation * np.concatenate([[1.0], np.cumprod(nearer)])[:, None]


def from_vector(vector: ArrayLike) -> Array:
    """Return the rotation (…, 4) about the axis `vector` (…, 3), by its length in rad."""
    vector = np.asarray(vector, dtype=np.float64)
    half = np.linalg.norm(vector, axis=-1, keepdims=True) / 2
    return np.concatenate([np.cos(half), vector / 2 * np.sinc(half / np.pi)], axis=-1)


def from_matrix(matrix: ArrayLike) -> Array:
    """Return the rotation (…, 4) of an orthogonal matrix (…, 3, 3) with determinant 1.

    The matrix's entries make up q qᵀ, of which the row with the largest diagonal entry is q, but for its length.
    """
    m = np.asarray(matrix, dtype=np.float64)
    xx, yy, zz = (m[..., axis, axis] for axis in range(3))
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    rows = np.stack(
        [
            np.stack([1 + xx + yy + zz, wx, wy, wz], axis=-1),
            np.stack([wx, 1 + xx - yy - zz, xy, xz], axis=-1),
            np.stack([wy, xy, 1 - xx + yy - zz, yz], axis=-1),
            np.stack([wz, xz, yz, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    largest = np.diagonal(rows, axis1=-2, axis2=-1).argmax(-1)
    return normalised(np.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :])


def to_vector(rotation: ArrayLike) -> Array:
    """Return the rotation vector (…, 3) of length at most π: the inverse of `from_vector`."""
    w, u = _parts(np.asarray(rotation, dtype=np.float64))
    w, u = np.where(w < 0, -w, w), np.where(w < 0, -u, u)
    sine = np.linalg.norm(u, axis=-1, keepdims=True)
    return 2 * u / np.maximum(np.sinc(np.arctan2(sine, w) / np.pi), 1e-300)


def slerp(start: ArrayLike, end: ArrayLike, share: ArrayLike) -> Array:
    """Interpolate spherically: the rotation (…, 4) at `share` (…) of the shorter arc from `start` to `end`."""
    way = to_vector(multiply(inverse(start), end))
    return multiply(start, from_vector(way * np.asarray(share, dtype=np.float64)[..., None]))


def from_euler(angles: ArrayLike) -> Array:
    """Return the rotation (…, 4) of three hinges in series, (…, 3) in rad about x, the rotated y, the rotated z."""
    angles = np.asarray(angles, dtype=np.float64)
    return multiply(*(axis_rotation(axis, angles[..., place]) for place, axis in enumerate("xyz")))


def to_euler(rotation: ArrayLike) -> Array:
    """Return the angles (…, 3) of three hinges x, y, z in series, y within ±π/2: an inverse of `from_euler`.

    Where y is ±π/2, x and z rotate about the same axis (gimbal lock); z is 0 there.
    """
    w, x, y, z = np.moveaxis(np.asarray(rotation, dtype=np.float64), -1, 0)
    sine = 2 * (x * z + w * y)
    locked = np.abs(sine) > GIMBAL
    first = np.arctan2(2 * (w * x - y * z), 1 - 2 * (x * x + y * y))
    third = np.arctan2(2 * (w * z - x * y), 1 - 2 * (y * y + z * z))
    first = np.where(locked, 2 * np.arctan2(x, w), first)
    return np.stack([first, np.arcsin(np.clip(sine, -1, 1)), np.where(locked, 0.0, third)], axis=-1)


def _parts(rotation: Array) -> tuple[Array, Array]:
    return rotation[..., :1], rotation[..., 1:]
