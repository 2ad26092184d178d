"""Running statistics equal those of all the data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flowrl.networks.normaliser import Normaliser


def test_after_ten_batches_they_are_numpys() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(5, 2, size=(int(rng.integers(1, 50)), 3)).astype(np.float32) for _ in range(10)]
    normaliser = Normaliser(3)
    for batch in batches:
        normaliser.update(torch.from_numpy(batch))
    data = np.concatenate(batches).astype(np.float64)
    np.testing.assert_allclose(normaliser.mean, data.mean(0), rtol=1e-12)
    np.testing.assert_allclose(normaliser.variance, data.var(0), rtol=1e-12)
    scaled = normaliser(torch.from_numpy(data).float())
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(0, correction=0), 1, atol=1e-4)


def test_a_large_offset_does_not_cancel() -> None:
    data = 1e6 + torch.randn(1000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    normaliser = Normaliser(1)
    for batch in data.split(100):
        normaliser.update(batch)
    np.testing.assert_allclose(normaliser.variance, data.var(0, correction=0), rtol=1e-9)


def test_before_the_first_batch_there_is_only_the_limit() -> None:
    obs = torch.tensor([[1.0, -200.0, 10.5, 9.5]])
    assert Normaliser(4)(obs).tolist() == [[1.0, -10.0, 10.0, 9.5]]


def test_one_that_is_not_enabled_hands_observations_on_and_learns_nothing() -> None:
    """Not even the limit is applied: the network sees what the environment gave."""
    obs = torch.tensor([[1.0, -200.0], [3.0, 4.0]])
    normaliser = Normaliser(2, enabled=False)
    normaliser.update(obs)
    assert normaliser(obs) is obs
    assert normaliser.count == 0


def test_a_constant_observation_becomes_zero() -> None:
    """Its variance is 0: epsilon keeps 0 / 0 away."""
    normaliser = Normaliser(1)
    normaliser.update(torch.full((10, 1), 3.0))
    assert normaliser(torch.tensor([[3.0], [3.001]])).flatten().tolist() == pytest.approx(
        [0, 0.001 / 1e-5**0.5], rel=1e-3
    )


def test_a_loaded_normaliser_acts_like_the_saved_one() -> None:
    saved = Normaliser(2)
    saved.update(torch.randn(20, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1)
    loaded = Normaliser(2)
    loaded.load_state_dict(saved.state_dict())
    obs = torch.randn(5, 2)
    assert torch.equal(loaded(obs), saved(obs))
