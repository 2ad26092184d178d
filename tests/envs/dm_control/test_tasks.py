"""Five domains against dm_control: recorded trajectories, compiled models, starts, and rewards worked by hand.

`tests/data/suite` holds numbers read off dm_control 1.0.50 on mujoco 4.0.0: a model's physical fields in
`TASK.model.json`, and in `TASK-n.npz` a start, 300 actions, and what came of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import mujoco
import numpy as np
import pytest
import torch

from flowrl.contracts.errors import UsageError
from flowrl.envs.dm_control import cheetah
from flowrl.envs.dm_control.task import DMControlConstants
from flowrl.envs.dm_control.tasks import TASKS
from flowrl.envs.simulation.mujoco_batch import MujocoBatch

from .replay import replay

DATA = Path(__file__).parents[2] / "data" / "suite"
OURS = ["BallInCup", "CartpoleBalance", "CheetahRun", "PointMass", "ReacherEasy", "ReacherHard"]


def play(name: str, count: int, profile: str = "dmc") -> tuple[MujocoBatch, Any]:
    """The task over `count` simulations, at the model's default state."""
    kind, profiles = TASKS[name]
    simulation = MujocoBatch(kind.build(profiles[profile]), count, kind.derived, kind.varied, threads=1)
    return simulation, kind(simulation, profiles[profile])


def start(name: str, count: int, profile: str = "dmc", seed: int = 0) -> tuple[MujocoBatch, Any]:
    """The task over `count` simulations, at starts of its own."""
    simulation, task = play(name, count, profile)
    task.reset(torch.arange(count), torch.Generator().manual_seed(seed))
    return simulation, task


def numbers(values: list[Any]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def recorded(name: str, number: int) -> dict[str, np.ndarray]:
    with np.load(DATA / f"{name}-{number}.npz") as file:
        return dict(file)


def start_of(recording: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key.removeprefix("start_"): recording[key] for key in recording if key.startswith("start_")}


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("name", OURS)
def test_it_is_dm_control(name: str, number: int) -> None:
    golden = recorded(name, number)
    observations, rewards = replay(name, start_of(golden), golden["actions"])
    assert observations.shape == golden["observations"].shape and observations.dtype == np.float64
    # Far below the 1e-4 that contacts may make of a different last bit: the states are the same bits.
    np.testing.assert_allclose(observations, golden["observations"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(rewards, golden["rewards"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", OURS)
def test_the_model_is_dm_controls(name: str) -> None:
    golden = json.loads((DATA / f"{name}.model.json").read_text())
    kind, profiles = TASKS[name]
    model = kind.build(profiles["dmc"])
    meta = golden.pop("meta")
    assert profiles["dmc"].timestep == meta["physics_timestep"]
    assert profiles["dmc"].substeps == meta["substeps"]
    assert profiles["dmc"].episode_steps == meta["episode_steps"]
    assert play(name, 1)[1].observation_parts == meta["observation"]
    for option, value in golden.pop("option").items():
        np.testing.assert_array_equal(getattr(model.opt, option), value, err_msg=option)
    for part, names in golden.pop("names").items():
        assert [getattr(model, part)(index).name for index in range(len(names))] == names
    if name.startswith("Reacher"):
        golden["geom_pos"][model.geom("target").id] = [0, 0, 0.01]  # which a reset draws
    for field, value in golden.items():
        ours = getattr(model, field)
        np.testing.assert_array_equal(ours, np.reshape(value, ours.shape), err_msg=field)


def test_a_start_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="'qposs'"):
        replay("PointMass", {"qposs": np.zeros(2)}, np.zeros((1, 2)))
    with pytest.raises(UsageError, match="Did you mean 'PointMass'"):
        replay("PointMas", {}, np.zeros((1, 2)))


@pytest.mark.parametrize(
    ("start", "actions", "named"),
    [
        ({}, np.zeros((2, 1)), r"actions: .*\(2, 2\), got the shape \(2, 1\)"),  # which would broadcast
        ({}, np.full((1, 2), np.nan), "actions: expected finite"),
        ({"qpos": np.zeros(1)}, np.zeros((1, 2)), r"qpos: .*\(2,\), got the shape \(1,\)"),
    ],
)
def test_values_of_another_shape_are_refused(start: Any, actions: Any, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replay("PointMass", start, actions)


def test_without_actions_there_is_the_start_alone() -> None:
    observations, rewards = replay("PointMass", {"qpos": np.array([0.1, 0.2])}, np.zeros((0, 2)))
    assert observations.tolist() == [[0.1, 0.2, 0, 0]]
    assert rewards.shape == (0,)


def test_a_quaternion_of_any_length_is_its_direction() -> None:
    """As in MuJoCo, which normalises what it is given."""
    start = np.array([0, 0, 0.1, 0.5, 0.1, -0.2, 0.8, *np.zeros(7)])
    shown = []
    for length in (1.0, 3.0):
        start[3:7] *= length / np.linalg.norm(start[3:7])
        shown.append(replay("FishSwim", {"qpos": start}, np.zeros((2, 5)))[0])
    np.testing.assert_allclose(shown[0], shown[1], atol=1e-12)


# -------------------------------------------------------------------------------------- the playground's numbers


@pytest.mark.parametrize(
    ("name", "timestep", "substeps", "iterations", "ls_iterations"),
    [
        ("BallInCup", 0.002, 10, 1, 4),
        ("CartpoleBalance", 0.01, 1, 1, 4),
        ("CheetahRun", 0.01, 1, 4, 8),
        ("PointMass", 0.02, 1, 1, 4),
        ("ReacherEasy", 0.005, 4, 1, 6),
        ("ReacherHard", 0.005, 4, 1, 6),
    ],
)
def test_the_playground_profile(name: str, timestep: float, substeps: int, iterations: int, ls_iterations: int) -> None:
    kind, profiles = TASKS[name]
    numbers = profiles["playground"]
    model = kind.build(numbers)
    assert (model.opt.timestep, numbers.substeps) == (timestep, substeps)
    assert (model.opt.iterations, model.opt.ls_iterations) == (iterations, ls_iterations)
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    assert model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_EULERDAMP
    control_timestep = profiles["dmc"].timestep * profiles["dmc"].substeps
    assert numbers.timestep * numbers.substeps == pytest.approx(control_timestep)
    dmc = kind.build(profiles["dmc"])
    for field in ("body_mass", "body_inertia", "geom_size", "dof_damping", "actuator_gear", "jnt_range"):
        np.testing.assert_array_equal(getattr(model, field), getattr(dmc, field))


def test_the_playgrounds_ball_hangs_still_at_the_start() -> None:
    simulation, _ = start("BallInCup", 10, "playground")
    assert not simulation.bind("qpos").any()


def test_the_playgrounds_cheetah_settles_from_the_drawn_pose() -> None:
    """2 s of physics in both profiles, and the same pose in the end but for the first step's forces."""
    settled = []
    for profile in ("dmc", "playground"):
        simulation, _ = start("CheetahRun", 20, profile)
        assert simulation.bind("time").tolist() == pytest.approx([2.0] * 20)
        settled.append(simulation.bind("qpos")[:, 1:3])
    assert not torch.equal(*settled)
    assert (settled[0] - settled[1]).abs().max() < 0.2


# --------------------------------------------------------------------------------------------------------- starts


def spread(values: torch.Tensor, low: float, high: float) -> None:
    """4000 independent uniform draws: within the bounds, to both ends, mean and variance within 4.5 deviations."""
    assert len(values) == 4000
    unit = (values - low) / (high - low)
    assert unit.min() >= 0 and unit.max() <= 1
    assert unit.min() < 0.005 and unit.max() > 0.995
    assert abs(unit.mean() - 1 / 2) < 4.5 * math.sqrt(1 / 12 / 4000)
    assert abs(unit.var() - 1 / 12) < 4.5 * math.sqrt((1 / 80 - 1 / 144) / 4000)


def independent(columns: torch.Tensor) -> None:
    correlation = torch.corrcoef(columns.T) - torch.eye(columns.shape[1])
    assert correlation.abs().max() < 4.5 / math.sqrt(len(columns))


def test_cheetah_starts_are_dm_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the very draws of dm_control's seeds 0 and 1, the settled start comes out bit for bit."""
    for number in (0, 1):
        golden = recorded("CheetahRun", number)
        random = np.random.RandomState(json.loads(str(golden["meta"]))["seed"])

        def draws(low: torch.Tensor, high: torch.Tensor, rows: int, _: Any, random: Any = random) -> torch.Tensor:
            return torch.from_numpy(random.uniform(low.numpy(), high.numpy()))[None]

        monkeypatch.setattr(cheetah, "uniform", draws)
        simulation, _ = start("CheetahRun", 1)
        for field in ("qpos", "qvel", "qacc_warmstart"):
            np.testing.assert_array_equal(simulation.bind(field)[0], golden[f"start_{field}"])


def test_cheetah_draws_every_leg_joint_within_its_range(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def uniform(*arguments: Any) -> torch.Tensor:
        seen.append(original(*arguments))
        return seen[0]

    original = cheetah.uniform
    monkeypatch.setattr(cheetah, "uniform", uniform)
    monkeypatch.setattr(MujocoBatch, "step", lambda *_: None)
    simulation, _ = start("CheetahRun", 4000)
    degrees = [(-30, 60), (-50, 50), (-230, 50), (-57, 0.4), (-70, 50), (-28, 28)]
    for joint, (low, high) in enumerate(degrees):
        spread(simulation.bind("qpos")[:, 3 + joint], math.radians(low), math.radians(high))
    assert not simulation.bind("qpos")[:, :3].any()
    independent(seen[0])


def test_cartpole_starts() -> None:
    simulation, _ = start("CartpoleBalance", 4000)
    qpos, qvel = simulation.bind("qpos"), simulation.bind("qvel")
    spread(qpos[:, 0], -0.1, 0.1)
    spread(qpos[:, 1], -0.034, 0.034)
    assert (qvel.mean(0).abs() < 4.5 * 0.01 / math.sqrt(4000)).all()
    assert ((qvel.std(0) / 0.01 - 1).abs() < 4.5 / math.sqrt(2 * 4000)).all()
    independent(torch.cat((qpos, qvel), 1))


def test_point_mass_starts() -> None:
    simulation, _ = start("PointMass", 4000)
    for axis in (0, 1):
        spread(simulation.bind("qpos")[:, axis], -0.29, 0.29)
    independent(simulation.bind("qpos"))
    assert not simulation.bind("qvel").any()


@pytest.mark.parametrize("name", ["ReacherEasy", "ReacherHard"])
def test_reacher_starts(name: str) -> None:
    simulation, _ = start(name, 4000)
    qpos = simulation.bind("qpos")
    target = simulation.expand("geom_pos")[:, simulation.model.geom("target").id]
    direction, distance = torch.atan2(target[:, 0], target[:, 1]), target[:, :2].norm(dim=1)
    spread(qpos[:, 0], -math.pi, math.pi)
    spread(qpos[:, 1], math.radians(-160), math.radians(160))
    spread(direction, -math.pi, math.pi)
    spread(distance, 0.05, 0.2)
    independent(torch.cat((qpos, direction[:, None], distance[:, None]), 1))
    assert (target[:, 2] == 0.01).all()
    assert not simulation.bind("qvel").any()


def test_ball_in_cup_starts_are_uniform_where_nothing_touches() -> None:
    simulation, _ = start("BallInCup", 4000)
    qpos = simulation.bind("qpos")
    x, z = qpos[:, 2], qpos[:, 3]
    assert not simulation.contacts(torch.arange(4000)).any()
    assert not qpos[:, :2].any() and not simulation.bind("qvel").any()
    assert x.min() < -0.199 and x.max() > 0.199 and abs(x.mean()) < 4.5 * 0.4 / math.sqrt(12 * 4000)
    assert z.min() < 0.201 and z.max() > 0.499
    # The ball of 0.025 m keeps off the cup's left wall, a capsule of 0.008 m at x = -0.05 from z = 0.525 to 0.6,
    # which is 0.325 to 0.4 above where the ball hangs: a strip of 0.066 x 0.075 m in 0.4 x 0.3 m has no starts.
    in_strip = ((x + 0.05).abs() < 0.033) & (z > 0.325) & (z < 0.4)
    assert not in_strip.any()
    # Left and right of the cup, where it is free, starts are as dense as anywhere: 0.1 x 0.3 m each of an area
    # that is 0.4 x 0.3 less the cup's share, which is between 0.01 and 0.02 m².
    share = (x < -0.1).double().mean()
    assert 0.03 / (0.12 - 0.01) - 0.03 < share < 0.03 / (0.12 - 0.02) + 0.03


@pytest.mark.parametrize("name", OURS)
def test_a_reset_of_some_rows_leaves_the_others(name: str) -> None:
    simulation, task = start(name, 5)
    fields = [simulation.bind("qpos"), *map(simulation.expand, TASKS[name][0].varied)]
    before = [field.clone() for field in fields]
    rows = torch.tensor([0, 3])
    simulation.reset(rows)
    task.reset(rows, torch.Generator().manual_seed(9))
    for field, old in zip(fields, before, strict=True):
        changed = (field != old).flatten(1).any(1)
        assert changed.tolist() == [True, False, False, True, False]


# -------------------------------------------------------------------------------- observations and rewards by hand


def test_cheetah_speed_is_what_its_sensor_measures() -> None:
    simulation, task = play("CheetahRun", 50)
    random = torch.Generator().manual_seed(1)
    for field in ("qpos", "qvel"):
        simulation.bind(field)[:] = 3 * torch.randn(50, 9, dtype=torch.float64, generator=random)
    sensor = simulation.latest("sensordata")
    simulation.forward()
    np.testing.assert_allclose(task.speed(), sensor[:, 0], rtol=0, atol=1e-13)


def test_cheetah_reward_is_a_tenth_per_metre_per_second() -> None:
    simulation, task = play("CheetahRun", 5)
    simulation.bind("qvel")[:, 0] = numbers([-2.0, 0.0, 2.5, 10.0, 15.0])
    np.testing.assert_allclose(task.reward(), [0, 0, 0.25, 1, 1], rtol=0, atol=1e-12)


def test_cheetah_does_not_see_where_it_is() -> None:
    simulation, task = play("CheetahRun", 2)
    simulation.bind("qpos")[:] = torch.arange(9.0)
    simulation.bind("qpos")[1, 0] = 55
    simulation.bind("qvel")[:] = 10 + torch.arange(9.0)
    assert task.observation()[0].tolist() == [*range(1, 9), *range(10, 19)]
    assert torch.equal(*task.observation())


def test_cartpole() -> None:
    """Upright (cos + 1)/2; control (4 + 1 - u²)/5; spin (1 + 0.1^((ω/5)²))/2; place (1 + 0.1^((x/2)²))/2."""
    simulation, task = play("CartpoleBalance", 6)
    qpos, qvel, ctrl = (simulation.bind(field) for field in ("qpos", "qvel", "ctrl"))
    qpos[1, 1], ctrl[2, 0], qvel[3, 1], qpos[4, 0] = math.pi / 3, 0.5, 5, -2
    qpos[5], qvel[5], ctrl[5] = numbers([1.0, math.pi / 2]), numbers([9.0, -2.5]), -2
    expected = [1, 0.75, 4.75 / 5, 1.1 / 2, 1.1 / 2, 1 / 2 * 4 / 5 * ((1 + 0.1**0.25) / 2) ** 2]
    np.testing.assert_allclose(task.reward(), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(task.observation()[5], [1, 0, 1, 9, -2.5], rtol=0, atol=1e-15)


def test_point_mass() -> None:
    """1 within 0.015 m, 0.1^((d/0.015 - 1)²) further out; control (5 - mean u²)/5."""
    simulation, task = play("PointMass", 4)
    qpos, ctrl = simulation.bind("qpos"), simulation.bind("ctrl")
    qpos[1:] = numbers([[0.009, -0.012], [-0.018, 0.024], [0.0, 0.0225]])  # 0.015, 0.03 and 0.0225 m away
    ctrl[:2, 0] = 1.0  # mean of 0 and 1 is 1/2: (4 + 1/2)/5 = 0.9
    np.testing.assert_allclose(task.reward(), [0.9, 0.9, 0.1, 0.1**0.25], rtol=0, atol=1e-9)
    simulation.bind("qvel")[1] = numbers([3.0, 4.0])
    np.testing.assert_array_equal(task.observation()[1], [*qpos[1], 3, 4])


@pytest.mark.parametrize(("name", "radius"), [("ReacherEasy", 0.05), ("ReacherHard", 0.015)])
def test_reacher(name: str, radius: float) -> None:
    """Links of 0.12 m; the tip's own radius of 0.01 m counts too."""
    simulation, task = play(name, 4)
    qpos = simulation.bind("qpos")
    target = simulation.expand("geom_pos")[:, simulation.model.geom("target").id]
    qpos[1:] = numbers([math.pi / 2, -math.pi / 2])  # upper arm along y, forearm along x
    tip = numbers([[0.24, 0.0], [0.12, 0.12], [0.12, 0.12], [0.12, 0.12]])
    touching = radius + 0.01
    away = numbers([0, touching - 1e-9, touching + 1e-9, -0.1])
    target[:, :2] = tip
    target[:, 1] += away
    np.testing.assert_allclose(task.reward(), [1, 1, 0, 0])
    np.testing.assert_allclose(task.observation()[:, 2], 0, rtol=0, atol=1e-15)
    np.testing.assert_allclose(task.observation()[:, 3], away, rtol=0, atol=1e-15)


def test_reacher_sees_the_target_as_mujoco_does() -> None:
    simulation, task = start("ReacherEasy", 20)
    places = simulation.latest("geom_xpos")
    simulation.forward()
    finger, target = (simulation.model.geom(name).id for name in ("finger", "target"))
    expected = (places[:, target] - places[:, finger])[:, :2]
    np.testing.assert_allclose(task.observation()[:, 2:4], expected, rtol=0, atol=1e-15)


def test_ball_in_cup() -> None:
    """The target is a box of ±0.05 m around the cup's middle, 0.05 m below its rim; the ball of 0.025 m must be
    inside completely, so its centre within 0.025 m of the middle in x and in z. The cup's origin is at 0.6 m, the
    ball hangs at 0.2 m: the middle is where the ball is 0.35 m up."""
    simulation, task = play("BallInCup", 6)
    qpos = simulation.bind("qpos")
    qpos[:, 3] = 0.35
    qpos[1, 2], qpos[2, 2], qpos[3, 3], qpos[4, 3] = 0.0249, -0.0251, 0.3749, 0.3249
    qpos[5] = numbers([1.0, 2.0, 1.02, 2.33])  # the cup and the ball in it elsewhere
    assert task.reward().tolist() == [1, 1, 0, 1, 0, 1]
    simulation.bind("qvel")[5] = numbers([5.0, 6.0, 7.0, 8.0])
    np.testing.assert_array_equal(task.observation()[5], [1, 2, 1.02, 2.33, 5, 6, 7, 8])


@pytest.mark.parametrize("name", OURS)
def test_each_row_plays_as_if_alone(name: str) -> None:
    simulation, task = start(name, 3, seed=3)
    kind, profiles = TASKS[name]
    fields: dict[str, Callable[[str], torch.Tensor]] = dict.fromkeys(
        ("qpos", "qvel", "qacc_warmstart"), simulation.bind
    )
    fields |= dict.fromkeys(kind.varied, simulation.expand)
    starts = [{field: get(field)[row].numpy().copy() for field, get in fields.items()} for row in range(3)]
    size = simulation.model.nu
    actions = torch.rand(20, 3, size, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 2 - 1
    observations, rewards = [], []
    for action in actions:
        simulation.bind("ctrl")[:] = action
        simulation.step(profiles["dmc"].substeps)
        observations.append(task.observation())
        rewards.append(task.reward())
    for row, alone in enumerate(starts):
        seen, earned = replay(name, alone, actions[:, row].numpy())
        np.testing.assert_allclose(seen[1:], torch.stack(observations)[:, row], rtol=0, atol=1e-13)
        np.testing.assert_allclose(earned, torch.stack(rewards)[:, row], rtol=0, atol=1e-13)


def test_constants_are_numbers_of_one_frozen_object() -> None:
    for kind, profiles in TASKS.values():
        assert profiles.keys() == {"dmc", "playground"}
        for constants in profiles.values():
            assert isinstance(constants, DMControlConstants)
            with pytest.raises(AttributeError):
                constants.timestep = 1.0  # type: ignore[misc]
        bases = [base for cls in kind.__mro__ for base in vars(cls).get("__orig_bases__", ())]
        declared = next(arguments[0] for base in bases if isinstance((arguments := get_args(base))[0], type))
        assert {type(constants) for constants in profiles.values()} == {declared}
