"""The contract: what an export may lose, and that less is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flowrl.contracts.errors import UsageError
from flowrl.deployment import contract, noise_choice
from flowrl.deployment.contract import Vectors
from flowrl.deployment.folding import fold
from flowrl.deployment.noise_choice import NoiseChoice
from tests.deployment import random_policies


def rows(checkpoint: float = 2e-6, size: float = 1.0) -> Vectors:
    """One action of `size`, and a checkpoint that is off by `checkpoint`."""
    reference = np.full((2, 1), size)
    return Vectors(
        np.zeros((2, 1), np.float32),
        np.zeros((2, 1), np.float32),
        reference,
        (reference + checkpoint),  # type: ignore[arg-type]
    )


def test_an_export_may_be_off_by_a_millionth_and_four_times_the_checkpoints_error() -> None:
    vectors = rows()
    assert vectors.tolerance == pytest.approx(1e-6 + 4 * 2e-6)
    assert vectors.keeps(vectors.reference + 8.9e-6)  # type: ignore[arg-type]
    assert not vectors.keeps(vectors.reference + 9.1e-6)  # type: ignore[arg-type]
    assert not vectors.keeps(vectors.reference * np.nan)  # type: ignore[arg-type]


def test_an_export_may_differ_from_the_checkpoint_by_a_hundred_thousandth_of_the_largest_action() -> None:
    small, large = rows(1e-5, 1.0), rows(1e-5, 10.0)  # from the referee 4.1e-5 are allowed
    assert not small.keeps(small.reference - 1e-6)  # type: ignore[arg-type]
    assert large.keeps(large.reference - 1e-6)  # type: ignore[arg-type]


def test_a_hundredth_of_the_rows_of_a_mixture_may_be_off_by_a_hundredth() -> None:
    """Of 200 rows two are left out, which are not to decide what is allowed in the others either."""
    assert contract.left_out(fold(random_policies.flow(base="mixture", output_scale=0))) == 0.01
    assert contract.left_out(fold(random_policies.flow())) == 0
    exact = np.zeros((200, 1), np.float32)
    checkpoint = exact.copy()
    checkpoint[7] = 5e-3
    vectors = Vectors(exact, exact, exact.astype(np.float64), checkpoint, left_out=0.01)
    assert (vectors.checkpoint_error, vectors.tolerance) == (0, 1e-6)
    assert len(vectors.usual()) == 199 and 7 not in vectors.usual()
    for errors, kept in [([9e-3], True), ([9e-3, 9e-3], True), ([9e-3, 9e-3, 2e-6], False), ([1.1e-2], False)]:
        actions = exact.copy()
        actions[[7, 0, 1][: len(errors)], 0] = errors
        assert vectors.keeps(actions) == kept
        assert not replace(vectors, left_out=0.0).keeps(actions)
    assert not vectors.keeps(exact * np.nan)


def test_a_wrong_export_is_found_among_right_ones() -> None:
    policy = random_policies.flow()
    program = fold(policy)
    other = replace(program, layers=tuple((1.0001 * weights, bias) for weights, bias in program.layers))
    act = lambda obs, noise: random_policies.act(policy, obs, noise)  # noqa: E731
    ordinary, extreme = contract.vectors(program, act, NoiseChoice(), None)
    assert len(ordinary.obs) == 1000 and extreme.obs[:, 0].tolist() == [1e6, -1e6, 0, 0]
    assert np.signbit(extreme.obs[3, 0])
    right = lambda obs, noise: program.evaluate(obs, noise).astype(np.float32)  # noqa: E731
    wrong = lambda obs, noise: other.evaluate(obs, noise).astype(np.float32)  # noqa: E731
    found = contract.verify(ordinary, extreme, {"right": right, "wrong": wrong})
    assert [each.exact for each in found.comparisons] == [True, False] and not found.exact
    # an export that differs on extreme observations only
    apart = lambda obs, noise: (wrong if len(obs) == 4 else right)(obs, noise)  # noqa: E731
    assert not contract.verify(ordinary, extreme, {"apart": apart}).exact


def test_the_observations_are_those_of_the_normaliser_with_wild_ones_among_them() -> None:
    program = fold(random_policies.flow())
    obs = contract.observations(program, 7000, np.random.default_rng(0))
    normal = (obs - program.shift) * program.scale
    assert np.delete(normal, np.s_[::7], axis=0).std() == pytest.approx(1, abs=0.02)
    assert normal[::7].std() == pytest.approx(20, rel=0.05)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("input", NoiseChoice("input", 1.0)),
        ("zero", NoiseChoice("zero", 0.0)),
        ("half", NoiseChoice("input", 0.5)),
        ("fixed:7", NoiseChoice("fixed", 1.0, 7)),
        ("seeded:0", NoiseChoice("seeded", 1.0, 0)),
    ],
)
def test_noise_is_parsed(text: str, choice: NoiseChoice) -> None:
    assert noise_choice.parse(text) == choice


@pytest.mark.parametrize("text", ["fixed:x", "half:2", "random", "seeded:-1", "", "fixed:99999999999999999999"])
def test_another_noise_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected one of input, zero, half, fixed:N, seeded:N"):
        noise_choice.parse(text)


def test_half_of_half_noise_is_a_quarter() -> None:
    assert noise_choice.parse("half", 0.5).scale == 0.25
