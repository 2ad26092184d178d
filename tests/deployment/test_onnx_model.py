"""The ONNX file computes the policy, in batches of any size, and is what loaders expect."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flowrl.deployment import backends, onnx_model
from flowrl.deployment.folding import fold
from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.program import Program
from tests.deployment import random_policies

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

CASES: list[dict[str, Any]] = [
    {"masked": True, "observation": 17, "action": 6, "hidden": (32,) * 4, "sampler": ("euler", 10)},
    {"activation": "elu", "parameterisation": "eps", "sampler": ("heun", 3)},
    {"activation": "tanh", "parameterisation": "data", "sampler": ("ab2", 5)},
    {"activation": "relu", "sampler": ("rk4", 2), "action_limit": 0.8},
    {"parameterisation": "data", "sampler": ("midpoint", 3)},
    {"parameterisation": "eps", "sampler": ("midpoint", 3)},
    {"normalise": False, "hidden": (1,), "observation": 1, "action": 1},
    {"base": "normal", "output_scale": 0},
    {"base": "mixture", "output_scale": 0, "masked": True, "sampler": ("euler", 10)},
    {"base": "mixture", "output_scale": 0, "components": 3, "sampler": ("ab2", 4), "action": 1},
]


def program(settings: dict[str, Any]) -> Program:
    limits = random_policies.bounds(settings.get("action", 3), "tanh", sides="mixed")
    return fold(random_policies.flow(**settings), limits)


def session(made: Program, choice: NoiseChoice, fixed: Any = None) -> backends.OnnxBackend:
    return backends.OnnxBackend(onnx_model.annotated(onnx_model.build(made, choice, fixed), {"flowrl.nfe": "1"}))


@pytest.mark.parametrize("settings", CASES)
def test_the_onnx_file_computes_the_program_at_every_batch_size(settings: dict[str, Any]) -> None:
    made = program(settings)
    obs, noise = random_policies.inputs(made.observation_size, made.action_size, 256)
    act = backends.actions_of(session(made, NoiseChoice()), made.action_size, given=True)
    reference = made.evaluate(obs, noise)
    together = act(obs, noise)
    assert np.abs(together - reference).max() < 5e-6 * max(1.0, np.abs(reference).max())
    alone = np.concatenate([act(obs[row : row + 1], noise[row : row + 1]) for row in range(0, 256, 16)])
    assert np.abs(alone - reference[::16]).max() < 5e-6 * max(1.0, np.abs(reference).max())


@pytest.mark.parametrize("std", ["state_dependent", "state_independent"])
def test_the_onnx_file_of_a_gaussian_policy_is_exact(std: str) -> None:
    made = fold(random_policies.gaussian(std=std), random_policies.bounds(3, "clip"))
    obs, noise = random_policies.inputs(5, 3)
    found = backends.actions_of(session(made, NoiseChoice()), 3, given=True)(obs, noise)
    assert np.abs(found - made.evaluate(obs, noise)).max() < 2e-6


@pytest.mark.parametrize("settings", [CASES[1], CASES[-2]])
def test_zero_and_fixed_noise_have_one_input_as_loaders_expect(settings: dict[str, Any]) -> None:
    made = program(settings)
    size = made.observation_size
    obs, noise = random_policies.inputs(size, 3, 7)
    draw = noise[0]
    for choice, expected in [
        (NoiseChoice("zero", 0.0), made.evaluate(obs, 0 * noise)),
        (NoiseChoice("fixed", 1.0, 3), made.evaluate(obs, np.tile(draw, (7, 1)))),
    ]:
        found = session(made, choice, draw)
        assert [each.name for each in found._session.get_inputs()] == ["obs"]
        assert [each.name for each in found._session.get_outputs()] == ["actions"]
        assert found._session.get_inputs()[0].shape == ["batch", size]
        assert np.abs(backends.actions_of(found, 3, given=False)(obs, noise) - expected).max() < 2e-5  # of 49


def test_seeded_noise_is_drawn_for_each_action_and_repeats_in_a_new_session() -> None:
    made = fold(random_policies.gaussian(std="fixed", hidden=(4,)))
    obs = np.zeros((4000, 5), np.float32)
    runs = []
    for _ in range(2):
        act = backends.actions_of(session(made, NoiseChoice("seeded", 1.0, 5)), 3, given=False)
        runs.append((act(obs, obs[:, :3]), act(obs, obs[:, :3])))
    assert np.array_equal(runs[0][0], runs[1][0]) and not np.array_equal(runs[0][0], runs[0][1])
    z = (runs[0][0] - made.evaluate(obs, np.zeros((4000, 3)))) / made.std
    assert abs(z.mean()) < 0.04 and abs(z.std() - 1) < 0.03


def test_what_is_not_finite_is_marked() -> None:
    made = program(CASES[1])
    obs, noise = random_policies.inputs(5, 3, 4)
    obs[1, 2], obs[2, 0] = np.nan, np.inf
    out = np.zeros((4, 3), np.float32)
    assert not session(made, NoiseChoice())(obs, noise, out)
    assert np.isnan(out).all(axis=1).tolist() == [False, True, True, False]


def test_the_file_holds_its_weights_once() -> None:
    """Ten unrolled steps share them: the file is little larger than the numbers."""
    made = program({"hidden": (128, 128), "sampler": ("euler", 10)})
    weights = 4 * sum(matrix.size + bias.size for matrix, bias in made.layers)
    assert len(onnx_model.annotated(onnx_model.build(made, NoiseChoice()), {})) < 1.5 * weights
