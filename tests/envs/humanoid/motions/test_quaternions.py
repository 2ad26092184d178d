"""Rotations: hand-worked turns, and what holds for all of them."""

from __future__ import annotations

import numpy as np
import pytest

from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.quaternions import axis_rotation, inverse, multiply, rotate

X, Y, Z = np.eye(3)
QUARTER = np.pi / 2


def some(count: int = 200) -> quaternions.Array:
    """Rotations of all kinds."""
    return quaternions.normalised(np.random.default_rng(0).normal(size=(count, 4)))


def same(left: quaternions.Array, right: quaternions.Array) -> None:
    """q and -q turn alike."""
    assert np.abs((left * right).sum(-1)) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("axis", "start", "end"), [("x", Y, Z), ("x", Z, -Y), ("y", Z, X), ("y", X, -Z), ("z", X, Y), ("z", Y, -X)]
)
def test_a_quarter_turn_leads_one_axis_to_the_next(axis: str, start: quaternions.Array, end: quaternions.Array) -> None:
    assert rotate(axis_rotation(axis, QUARTER), start) == pytest.approx(end, abs=1e-15)


def test_the_last_factor_is_applied_first() -> None:
    # x stays under a turn about x, and goes to y about z; y goes to z about x, and stays there about z.
    both = multiply(axis_rotation("z", QUARTER), axis_rotation("x", QUARTER))
    assert rotate(both, X) == pytest.approx(Y, abs=1e-15)
    assert rotate(both, Y) == pytest.approx(Z, abs=1e-15)


def test_a_product_applies_its_factors_in_series() -> None:
    first, second = some(), some()[::-1]
    vectors = np.random.default_rng(1).normal(size=(200, 3))
    assert rotate(multiply(first, second), vectors) == pytest.approx(rotate(first, rotate(second, vectors)))


def test_the_inverse_undoes_a_rotation() -> None:
    same(multiply(some(), inverse(some())), np.array([1.0, 0, 0, 0]))


def test_rotation_vectors_convert_both_ways() -> None:
    same(quaternions.from_vector(quaternions.to_vector(some())), some())
    assert quaternions.to_vector(axis_rotation("y", 0.3)) == pytest.approx([0, 0.3, 0], abs=1e-15)
    assert (quaternions.from_vector(np.zeros(3)) == [1, 0, 0, 0]).all()
    assert (quaternions.to_vector(np.array([1.0, 0, 0, 0])) == 0).all()
    tiny = np.array([1e-9, 0, 0])
    assert quaternions.to_vector(quaternions.from_vector(tiny)) == pytest.approx(tiny, rel=1e-12)


def test_a_rotation_vector_is_the_shorter_arc() -> None:
    turns = np.array([0.0, 1.0, np.pi, 2 * np.pi - 1])
    assert quaternions.to_vector(axis_rotation("x", turns))[:, 0] == pytest.approx([0, 1, np.pi, -1])


def test_slerp_turns_evenly() -> None:
    start, end = some(), some()[::-1]
    same(quaternions.slerp(start, end, np.zeros(200)), start)
    same(quaternions.slerp(start, end, np.ones(200)), end)
    full = quaternions.to_vector(multiply(inverse(start), end))
    third = quaternions.slerp(start, end, np.full(200, 1 / 3))
    assert quaternions.to_vector(multiply(inverse(start), third)) == pytest.approx(full / 3)


def test_euler_angles_are_hinges_in_series() -> None:
    angles = np.array([0.3, -0.4, 0.5])
    series = multiply(axis_rotation("x", 0.3), axis_rotation("y", -0.4), axis_rotation("z", 0.5))
    same(quaternions.from_euler(angles), series)
    assert quaternions.to_euler(series) == pytest.approx(angles)


def test_euler_angles_make_the_rotation_they_are_of() -> None:
    same(quaternions.from_euler(quaternions.to_euler(some())), some())


@pytest.mark.parametrize("middle", [QUARTER, -QUARTER])
def test_euler_angles_where_two_hinges_turn_about_one_axis(middle: float) -> None:
    locked = quaternions.from_euler(np.array([0.7, middle, 0.2]))
    same(quaternions.from_euler(quaternions.to_euler(locked)), locked)


def test_a_matrix_has_the_axes_as_its_columns() -> None:
    columns = np.stack([rotate(some(), axis) for axis in (X, Y, Z)], axis=-1)
    same(quaternions.from_matrix(columns), some())
    for half_turn in (np.diag([1.0, -1, -1]), np.diag([-1.0, 1, -1]), np.diag([-1.0, -1, 1])):
        turned = np.stack([rotate(quaternions.from_matrix(half_turn), axis) for axis in (X, Y, Z)], axis=-1)
        assert turned == pytest.approx(half_turn, abs=1e-15)


def test_signs_become_continuous() -> None:
    turning = axis_rotation("z", np.linspace(0, 20, 200))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(200, 1))
    signs[0] = 1
    assert quaternions.continuous(signs * turning) == pytest.approx(turning)


def test_zero_is_no_rotation() -> None:
    with pytest.raises(ValueError, match="zero"):
        quaternions.normalised(np.array([[1.0, 0, 0, 0], [0, 0, 0, 0]]))
