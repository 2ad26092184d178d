"""The program of a policy computes what the policy computes, and its mathematics is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowrl.contracts.errors import UsageError
from flowrl.deployment import plans
from flowrl.deployment.folding import fold
from flowrl.deployment.program import FlowPart, Program, ProgramNode
from flowrl.envs.actions import ActionBounds
from flowrl.experiments import build, deployable, evaluate
from flowrl.experiments.evaluate import EvalRequest
from flowrl.samplers import registry
from flowrl.storage import checkpoint
from tests.deployment import random_policies
from tests.small_recipe import small

DATA = Path(__file__).parents[1] / "data" / "checkpoints"
SAMPLERS = ("euler", "midpoint", "heun", "ralston", "ab2", "rk4")


def growing(rate: float, steps: int, noise_scale: float = 1.0) -> Program:
    """dx/dt = rate · x by Euler's method: relu of x and of -x, whose difference is x, times the rate."""
    h = 1 / steps
    nodes = tuple(ProgramNode(k * h, np.zeros(2), 1.0, 0.0, (h,), True) for k in range(steps))
    return Program(
        shift=np.zeros(1),
        scale=np.ones(1),
        limit=None,
        observation_weights=np.zeros((2, 1)),
        bias=np.zeros(2),
        layers=((np.array([[rate, -rate]]), np.zeros(1)),),
        activation="relu",
        flow=FlowPart(np.array([[1.0], [-1.0]]), nodes),
        noise_scale=noise_scale,
    )


def test_a_linear_velocity_has_the_closed_form_of_eulers_method() -> None:
    noise = np.array([[1.0], [-2.0]])
    found = growing(0.5, 4).evaluate(np.zeros((2, 1)), noise)
    assert np.allclose(found, noise * (1 + 0.5 / 4) ** 4, rtol=1e-15, atol=0)
    half = growing(0.5, 4, noise_scale=0.5).evaluate(np.zeros((2, 1)), noise)
    assert np.array_equal(half, found / 2)  # the flow is linear in the noise


@pytest.mark.parametrize("parameterisation", ["u", "eps", "data"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_program_computes_what_the_flow_policy_computes(sampler: str, parameterisation: str) -> None:
    policy = random_policies.flow(
        7, 3, sampler=(sampler, 5), parameterisation=parameterisation, masked=True, action_limit=1.5
    )
    limits = random_policies.bound(3, "tanh", sides="mixed")
    program = fold(policy, deployable.as_numpy(limits))
    obs, noise = random_policies.inputs(7, 3)
    assert np.abs(random_policies.act(policy, obs, noise, limits) - program.evaluate(obs, noise)).max() < 1e-5
    assert program.nfe == policy.nfe
    assert np.array_equal(program.observation_weights[:, ::3], np.zeros((16, 3)))  # hidden entries


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_program_of_a_flow_to_a_gaussian_is_one_evaluation(sampler: str) -> None:
    policy = random_policies.flow(7, 3, sampler=(sampler, 5), base="normal", output_scale=0, masked=True)
    base = policy.field.base
    torch.nn.init.normal_(base.layers.linears[-1].weight)
    base.spread.copy_(torch.tensor([-1.0, 0.5, 1.0]))
    program = fold(policy)
    obs, noise = random_policies.inputs(7, 3)
    assert np.abs(random_policies.act(policy, obs, noise) - program.evaluate(obs, noise)).max() < 1e-5
    assert (program.nfe, policy.nfe > 1) == (1, True)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_program_of_a_flow_to_a_mixture_evaluates_its_network_once(sampler: str) -> None:
    also = {"smallest_std": 0.3} if sampler == "euler" else {}
    policy = random_policies.flow(
        7, 3, sampler=(sampler, 5), base="mixture", components=3, output_scale=0, masked=True, action_limit=1.5, **also
    )
    limits = random_policies.bound(3, "tanh", sides="mixed")
    program = fold(policy, deployable.as_numpy(limits))
    obs, noise = random_policies.inputs(7, 3)
    assert np.abs(random_policies.act(policy, obs, noise, limits) - program.evaluate(obs, noise)).max() < 1e-5
    assert (program.nfe, program.action_size, len(program.flow.nodes)) == (1, 3, policy.nfe)  # type: ignore[union-attr]


def test_the_program_of_equal_components_is_that_of_the_gaussian() -> None:
    """Σ_k p_k v is v, whatever the weights of the components."""
    one = random_policies.flow(base="normal", output_scale=0)
    other = random_policies.flow(base="mixture", components=2, output_scale=0)
    one.field.base.layers.linears[-1].weight.zero_()
    last = other.field.base.layers.linears[-1]
    last.weight[:6].zero_()  # of the means; the weights still depend on the observation
    one.field.base.layers.linears[-1].bias.copy_(torch.tensor([0.5, -1.0, 2.0]))
    other.field.base.centres.copy_(torch.tensor([0.5, -1.0, 2.0]) - last.bias[:6].view(2, 3))
    other.field.base.spread.copy_(one.field.base.spread)
    obs, noise = random_policies.inputs(5, 3)
    assert np.abs(fold(one).evaluate(obs, noise) - fold(other).evaluate(obs, noise)).max() < 1e-6


@pytest.mark.parametrize("base", ["normal", "mixture"])
def test_a_network_beside_a_base_is_not_exported_yet(base: str) -> None:
    with pytest.raises(UsageError, match=r"cannot be exported yet.*output_scale: 0"):
        fold(random_policies.flow(base=base))


@pytest.mark.parametrize("activation", ["silu", "relu", "elu", "tanh"])
def test_every_activation_is_that_of_torch(activation: str) -> None:
    policy = random_policies.flow(activation=activation, hidden=(9,), normalise=False)
    obs, noise = random_policies.inputs(5, 3)
    assert np.abs(random_policies.act(policy, obs, noise) - fold(policy).evaluate(obs, noise)).max() < 1e-5


@pytest.mark.parametrize("std", ["state_independent", "state_dependent", "fixed"])
def test_a_program_computes_what_the_gaussian_policy_computes(std: str) -> None:
    policy = random_policies.gaussian(std=std, masked=True)
    program = fold(policy)
    obs, noise = random_policies.inputs(5, 3)
    assert np.abs(random_policies.act(policy, obs, noise) - program.evaluate(obs, noise)).max() < 2e-6
    assert (program.nfe, program.action_size) == (1, 3)
    mean = fold(policy, noise_scale=0.0).evaluate(obs, noise)
    assert np.array_equal(mean, program.evaluate(obs, 0 * noise))


@pytest.mark.parametrize("sides", ["bounded", "unbounded", "mixed"])
@pytest.mark.parametrize("squash", ["clip", "tanh"])
def test_the_bounds_are_those_of_the_environment(squash: str, sides: str) -> None:
    limits = random_policies.bound(4, squash, sides=sides)
    raw = np.linspace(-9, 9, 80).reshape(20, 4)
    expected = limits(torch.from_numpy(raw.astype(np.float32)))
    assert np.abs(deployable.as_numpy(limits)(raw) - expected.numpy()).max() < 2e-6


def test_the_programs_of_runs_compute_their_policies() -> None:
    """Trained runs, one of them with a moving average of a Gaussian's weights, one with a masked observation."""
    for run in ("cheetah-fpo", "gridworld-fpo", "humanoid-fpo", "pendulum-ppo-ema"):
        made = deployable.deployable(evaluate.open_checkpoint(DATA / run / "run"), EvalRequest(), raw=True)
        program = made.program()
        obs, noise = random_policies.inputs(program.observation_size, program.action_size, 50)
        assert np.abs(made.act()(obs, noise) - program.evaluate(obs, noise)).max() < 1e-5, run


# --- plans


def heun_without_a_plan(velocity: Any, x: Any, t0: float, t1: float) -> Any:
    for step in range(3):
        t, h = t0 + (t1 - t0) * step / 3, (t1 - t0) / 3
        first = velocity(x, t)
        x = x + h / 2 * (first + velocity(x + h * first, t + h))
    return x


def shrinking(velocity: Any, x: Any, t0: float, t1: float) -> Any:
    first = velocity(x, t0)
    t = (t0 + t1) / (2 + float(first.abs().max()))
    return x + (t - t0) * first + (t1 - t) * velocity(x, t)


def doubling(velocity: Any, x: Any, t0: float, t1: float) -> Any:
    return 2 * x + (t1 - t0) * velocity(x, t0)


def failing(velocity: Any, x: Any, t0: float, t1: float) -> Any:
    raise RuntimeError("never works")


@pytest.mark.parametrize("parameterisation", ["u", "data"])
def test_the_plan_of_a_sampler_that_declares_none_is_recorded(parameterisation: str) -> None:
    """Its actions are those of the built-in Heun, whose plan is read: also before a straight last step."""
    named = random_policies.flow(sampler=("heun", 3), parameterisation=parameterisation)
    own = random_policies.flow(sampler=heun_without_a_plan, parameterisation=parameterisation)
    obs, noise = random_policies.inputs(5, 3)
    one, other = (fold(policy).evaluate(obs, noise) for policy in (named, own))
    assert np.abs(one - other).max() < 1e-12
    times = [[node.t for node in fold(policy).flow.nodes] for policy in (own, named)]  # type: ignore[union-attr]
    assert times[0] == pytest.approx(times[1])


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        (lambda: registry.make("dopri5"), "depends on the velocities"),
        (lambda: shrinking, "depend on the velocities"),
        (lambda: doubling, "not the noise plus velocities"),
        (lambda: failing, "never works"),
    ],
)
def test_a_sampler_without_a_plan_is_refused_with_another(sampler: Callable[[], Any], reason: str) -> None:
    with pytest.raises(UsageError, match=rf"(?s){reason}.*--sampler rk4:10"):
        plans.read(sampler(), random_policies.flow().field, "mine")


# --- the interface of the actions, in the checkpoint


def test_a_checkpoint_holds_the_interface_of_its_actions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowrl import cli

    (tmp_path / "small.yaml").write_text(small(32))
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "small.yaml", "--name", "run", "--json"]) == 0
    opened = evaluate.open_checkpoint(tmp_path / "runs" / "run")
    saved = opened.content["interface"]
    assert (saved["squash"], saved["low"].tolist(), saved["high"].tolist()) == ("clip", [-1, -1], [1, 1])
    monkeypatch.setattr(deployable.factory, "make", lambda *_, **__: pytest.fail("the environment was made"))
    made = deployable.deployable(opened, EvalRequest())
    assert made.program().bounds is not None


def test_the_names_of_a_simulated_robot_are_in_the_interface() -> None:
    from flowrl.experiments.api import make_env

    env = make_env("flowrl/CheetahRun-v0", 1)
    interface = env.interface
    assert sum(interface["observation_parts"].values()) == env.observation_size
    assert interface["action_names"][0] == "bthigh" and len(interface["action_names"]) == env.action_size
    assert interface["control_dt"] == pytest.approx(0.01)
    env.close()


def test_an_earlier_checkpoint_makes_the_environment_and_reports_it(capsys: pytest.CaptureFixture[str]) -> None:
    opened = evaluate.open_checkpoint(DATA / "pendulum-ppo-ema" / "run")
    assert "interface" not in opened.content
    made = deployable.deployable(opened, EvalRequest())
    assert "the environment Pendulum-v1 is made" in capsys.readouterr().err
    assert (made.interface["low"].tolist(), made.interface["high"].tolist()) == ([-2], [2])
    raw = deployable.deployable(opened, EvalRequest(), raw=True)
    assert capsys.readouterr().err == "" and raw.program().bounds is None


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_saved_bounds_are_those_of_the_space(precision: type) -> None:
    from gymnasium import spaces

    space = spaces.Box(np.array([-0.1, -np.inf, 0]), np.array([0.3, 1, np.inf]), dtype=precision)
    one = ActionBounds(space, "tanh")
    other = ActionBounds.of_saved(one.saved())
    raw = torch.linspace(-3, 3, 30).reshape(10, 3)
    assert one.precision == other.precision and torch.equal(one(raw), other(raw))


def test_bounds_of_another_size_are_refused() -> None:
    content = checkpoint.load(DATA / "gridworld-fpo" / "run" / "ckpt.pt")
    side = torch.ones(3, dtype=torch.float64)
    content["interface"] = {"squash": "clip", "precision": "float32", "low": -side, "high": side}
    with pytest.raises(ValueError, match=r"interface.low has the shape \(3,\): expected \(2,\)"):
        from flowrl.storage import content as schema

        schema.check(content)


def test_build_saves_the_interface_of_its_environment() -> None:
    from flowrl.experiments.api import load_config

    run = build.Run(load_config("gridworld", {"env.count": 2, "policy.hidden": [4]}))
    run.start()
    assert run.content(0)["interface"]["squash"] == "clip"
    run.env.close()
