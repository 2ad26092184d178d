"""FingerSpin, FingerTurnEasy, FingerTurnHard: dm_control's numbers, rewards worked by hand, and the starts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from flowrl.envs.dm_control.finger import FingerSpin, FingerTurn
from flowrl.envs.dm_control.tasks import TASKS
from flowrl.envs.simulation.mujoco_batch import MujocoBatch

from .replay import replay

DATA = Path(__file__).parents[2] / "data" / "suite"
RADIUS = {"FingerTurnEasy": 0.07, "FingerTurnHard": 0.03}
NAMES = ["FingerSpin", *RADIUS]
REST = (1.5, 0.0)  # proximal and distal angles that keep the finger away from the spinner


def play(name: str, count: int, profile: str = "dmc") -> tuple[MujocoBatch, Any]:
    """The task over `count` simulations, at the model's default state."""
    kind, profiles = TASKS[name]
    simulation = MujocoBatch(kind.build(profiles[profile]), count, kind.derived, kind.varied, threads=1)
    return simulation, kind(simulation, profiles[profile])


def reset(name: str, count: int, profile: str = "dmc", seed: int = 0) -> tuple[MujocoBatch, Any]:
    """The task over `count` simulations, at starts of its own."""
    simulation, task = play(name, count, profile)
    task.reset(torch.arange(count), torch.Generator().manual_seed(seed))
    simulation.forward()
    return simulation, task


def turned(name: str, hinge: list[float], target: list[float]) -> Any:
    """FingerTurn with the spinner and the target at these angles, one simulation for each pair."""
    simulation, task = play(name, len(hinge))
    simulation.bind("qpos")[:] = torch.tensor([(*REST, angle) for angle in hinge], dtype=torch.float64)
    # A target at angle a is where the tip is when the hinge is at a: 0.13 m from (0.2, 0.4).
    places = [(0.2 - 0.13 * math.sin(angle), 0.0, 0.4 + 0.13 * math.cos(angle)) for angle in target]
    simulation.expand("site_pos")[:, 0] = torch.tensor(places, dtype=torch.float64)
    simulation.forward()
    return task


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [0, 1])
def test_it_is_dm_control(name: str, number: int) -> None:
    with np.load(DATA / f"{name}-{number}.npz") as golden:
        start = {field.removeprefix("start_"): golden[field] for field in golden if field.startswith("start_")}
        observations, rewards = replay(name, start, golden["actions"])
        np.testing.assert_allclose(observations[:21], golden["observations"][:21], rtol=0, atol=1e-9)
        np.testing.assert_allclose(rewards[:20], golden["rewards"][:20], rtol=0, atol=1e-9)
        np.testing.assert_allclose(observations, golden["observations"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(rewards, golden["rewards"], rtol=0, atol=1e-4)


def test_the_golden_trajectories_reach_what_they_should_check() -> None:
    rewards, touch = {}, {}
    for name in NAMES:
        files = [np.load(DATA / f"{name}-{number}.npz") for number in (0, 1)]
        rewards[name] = {float(reward) for file in files for reward in file["rewards"]}
        touch[name] = max(file["observations"][:, 7:9].max() for file in files)
    assert rewards == {name: {0.0, 1.0} for name in NAMES}
    assert min(touch.values()) > 1


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_dm_controls(name: str) -> None:
    golden = json.loads((DATA / f"{name}.model.json").read_text())
    kind, profiles = TASKS[name]
    model = kind.build(profiles["dmc"])
    for option, value in golden.pop("option").items():
        np.testing.assert_array_equal(getattr(model.opt, option), value, err_msg=option)
    for kind_of_object, names in golden.pop("names").items():
        assert [getattr(model, kind_of_object)(i).name for i in range(len(names))] == names
    golden.pop("meta")
    if name != "FingerSpin":
        golden["site_pos"][0] = [0, 0, 0.4]  # the target's place, which a reset draws
    for field, value in golden.items():
        ours = getattr(model, field)
        np.testing.assert_array_equal(ours, np.reshape(value, ours.shape), err_msg=field)


@pytest.mark.parametrize("name", NAMES)
def test_the_observation_has_the_parts_that_it_names(name: str) -> None:
    _, task = play(name, 3)
    parts = {"position": 4, "velocity": 3, "touch": 2}
    if name != "FingerSpin":
        parts |= {"target_position": 2, "dist_to_target": 1}
    assert list(task.observation_parts.items()) == list(parts.items())
    assert task.observation().shape == (3, sum(parts.values()))
    assert task.observation().dtype == task.reward().dtype == torch.float64
    assert task.reward().shape == (3,)


def test_the_tip_is_where_mujoco_has_it() -> None:
    simulation, task = reset("FingerTurnEasy", 20)
    data = mujoco.MjData(simulation.model)
    for row in range(20):
        simulation.model.site_pos[:] = simulation.expand("site_pos")[row]
        data.qpos[:] = simulation.bind("qpos")[row]
        mujoco.mj_forward(simulation.model, data)
        tip, target = (data.site(name).xpos - data.body("spinner").xpos for name in ("tip", "target"))
        observation = task.observation()[row].numpy()
        np.testing.assert_allclose(observation[2:4], tip[::2], atol=1e-15)
        np.testing.assert_allclose(observation[9:11], target[::2], atol=1e-15)
        np.testing.assert_allclose(observation[11], np.linalg.norm(target - tip) - 0.07, atol=1e-15)


def test_the_spinner_must_turn_at_15_radians_per_second_in_the_negative_direction() -> None:
    simulation, task = play("FingerSpin", 5)
    simulation.bind("qvel")[:, 2] = torch.tensor([-15.0, -14.999, -40, 0, 40], dtype=torch.float64)
    assert task.reward().tolist() == [1, 0, 1, 0, 0]
    assert task.observation()[:, 6].tolist() == [-15.0, -14.999, -40, 0, 40]


def test_touch_is_the_logarithm_of_one_plus_the_force() -> None:
    with np.load(DATA / "FingerSpin-0.npz") as golden:
        touched = int(golden["observations"][:, 7:9].max(1).argmax())
        simulation, task = play("FingerSpin", 1)
        simulation.bind("qpos")[0] = torch.from_numpy(golden["start_qpos"])
        for action in golden["actions"][:touched]:
            simulation.bind("ctrl")[0] = torch.from_numpy(action)
            simulation.step(2)
    force = simulation.latest("sensordata")[0, -8:-6]
    assert force.max() > 1
    torch.testing.assert_close(task.observation()[0, 7:9], torch.log(1 + force), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", RADIUS)
def test_the_reward_is_for_a_tip_in_the_target(name: str) -> None:
    # Two points of a circle of radius 0.13 at an angle d to each other are 0.26 sin(d/2) from each other, so that
    # the tip crosses the rim of a target of radius r at d = 2 asin(r / 0.26): 0.545 rad easy, 0.231 rad hard.
    rim = 2 * math.asin(RADIUS[name] / 0.26)
    differences = [0.0, 0.999 * rim, 1.001 * rim, -0.999 * rim, -1.001 * rim, math.pi]
    task = turned(name, [1.2 + difference for difference in differences], [1.2] * 6)
    assert task.reward().tolist() == [1, 1, 0, 1, 0, 0]


def test_distance_is_from_the_tip_to_the_rim() -> None:
    # Hinge at 0: the tip is at (0, 0.13). Target a quarter turn on: at (-0.13, 0). Between them 0.13 √2.
    observation = turned("FingerTurnHard", [0.0], [math.pi / 2]).observation()[0]
    expected = [*REST, 0, 0.13, 0, 0, 0, 0, 0, -0.13, 0, 0.13 * math.sqrt(2) - 0.03]
    np.testing.assert_allclose(observation, expected, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_starts_are_at_rest_in_range_and_apart(name: str) -> None:
    simulation, _ = reset(name, 2000)
    qpos, limit = simulation.bind("qpos"), math.radians(110)
    for column, largest in enumerate((limit, limit, math.pi)):
        assert qpos[:, column].abs().max() <= largest
        assert qpos[:, column].min() < -0.98 * largest  # all of the range is used
        assert qpos[:, column].max() > 0.98 * largest
    assert not simulation.bind("qvel").any()
    assert not simulation.contacts(torch.arange(2000)).any()


def test_starts_in_which_geoms_touch_are_the_only_ones_drawn_again() -> None:
    together, _ = reset("FingerSpin", 2000, "playground")
    separate, _ = reset("FingerSpin", 2000, "dmc")
    # The same draws; the dmc model has two more geoms that touch, so judge the draws by that model.
    drawn = together.bind("qpos").clone()
    judge, _ = play("FingerSpin", 2000, "dmc")
    judge.bind("qpos")[:] = drawn
    touching = judge.contacts(torch.arange(2000)) > 0
    assert 0.05 < touching.double().mean() < 0.15
    kept = (separate.bind("qpos") == drawn).all(1)
    assert torch.equal(kept, ~touching)


@pytest.mark.parametrize("profile", ["dmc", "playground"])
def test_targets_lie_all_around_the_hinge(profile: str) -> None:
    simulation, task = reset("FingerTurnHard", 2000, profile)
    target = simulation.expand("site_pos")[:, 0] - torch.tensor([0.2, 0, 0.4], dtype=torch.float64)
    assert not target[:, 1].any()
    torch.testing.assert_close(target.norm(dim=1), torch.full((2000,), 0.13, dtype=torch.float64), atol=1e-15, rtol=0)
    angle = torch.atan2(target[:, 0], target[:, 2])
    quarters = torch.histc(angle, 4, -math.pi, math.pi)
    assert (quarters - 500).abs().max() < 4 * math.sqrt(2000 * 0.25 * 0.75)  # four standard deviations
    tip = task.tip()
    assert abs(float((target[:, ::2] * tip).mean())) < 4 * 0.13**2 * math.sqrt(0.5 / 2000)  # independent of it


def test_a_reset_of_some_rows_leaves_the_others() -> None:
    simulation, task = reset("FingerTurnEasy", 6)
    fields = [simulation.bind("qpos"), simulation.expand("site_pos")]
    before = [field.clone() for field in fields]
    rows = torch.tensor([1, 4])
    task.reset(rows, torch.Generator().manual_seed(9))
    simulation.forward(rows)
    for field, old in zip(fields, before, strict=True):
        changed = (field != old).flatten(1).any(1)
        assert changed.tolist() == [False, True, False, False, True, False]


def test_each_row_plays_as_if_alone() -> None:
    simulation, task = reset("FingerTurnEasy", 4, seed=3)
    starts = [
        {"qpos": simulation.bind("qpos")[row].clone(), "site_pos": simulation.expand("site_pos")[row].clone()}
        for row in range(4)
    ]
    actions = torch.rand(30, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 2 - 1
    observations = []
    for action in actions:
        simulation.bind("ctrl")[:] = action
        simulation.step(2)
        observations.append(task.observation())
    for row, start in enumerate(starts):
        fields = {name: value.numpy() for name, value in start.items()}
        alone, _ = replay("FingerTurnEasy", fields, actions[:, row].numpy())
        np.testing.assert_array_equal(alone[1:], torch.stack(observations)[:, row])


def test_a_snapshot_keeps_what_the_fingertip_feels() -> None:
    with np.load(DATA / "FingerSpin-0.npz") as golden:
        touched = int(golden["observations"][:, 7:9].max(1).argmax())
        simulation, task = play("FingerSpin", 1)
        simulation.bind("qpos")[0] = torch.from_numpy(golden["start_qpos"])
        for action in golden["actions"][:touched]:
            simulation.bind("ctrl")[0] = torch.from_numpy(action)
            simulation.step(2)
    snapshot, seen = simulation.snapshot(), task.observation()
    other, again = play("FingerSpin", 1)
    other.restore(snapshot)
    assert seen[0, 7:9].max() > 1
    assert torch.equal(again.observation(), seen)
    for either in (simulation, other):
        either.step(2)
    assert torch.equal(again.observation(), task.observation())


@pytest.mark.parametrize("name", NAMES)
def test_what_the_playground_profile_changes(name: str) -> None:
    kind, profiles = TASKS[name]
    dmc, playground = (kind.build(profiles[profile]) for profile in ("dmc", "playground"))
    assert {numbers.timestep * numbers.substeps for numbers in profiles.values()} == {0.02}
    options = {
        "timestep": 0.005,
        "integrator": mujoco.mjtIntegrator.mjINT_IMPLICITFAST,
        "iterations": 2,
        "ls_iterations": 8,
        "cone": mujoco.mjtCone.mjCONE_PYRAMIDAL,
        "disableflags": mujoco.mjtDisableBit.mjDSBL_GRAVITY | mujoco.mjtDisableBit.mjDSBL_EULERDAMP,
    }
    for option, value in options.items():
        assert getattr(playground.opt, option) == value, option
    bearings = {"proximal_decoration", "spinner_decoration"}
    for geom in range(dmc.ngeom):
        either = dmc.geom(geom), playground.geom(geom)
        changed = either[0].contype != either[1].contype or either[0].conaffinity != either[1].conaffinity
        assert changed == (dmc.geom(geom).name in bearings)
    same = ("body_mass", "dof_damping", "geom_size", "site_size", "actuator_gear", "jnt_range")
    assert all(np.array_equal(getattr(dmc, field), getattr(playground, field)) for field in same)


def test_playground_starts_may_touch() -> None:
    simulation, _ = reset("FingerSpin", 500, "playground")
    touching: Tensor = simulation.contacts(torch.arange(500)) > 0
    assert touching.any()
    assert not touching.all()


def test_marks_are_seen_only_where_they_mean_something() -> None:
    dmc = {kind: kind.build(profiles["dmc"]) for kind, profiles in (TASKS[name] for name in NAMES)}
    assert [dmc[FingerSpin].site(mark).rgba[3] for mark in ("target", "tip")] == [0, 0]
    assert min(dmc[FingerTurn].site(mark).rgba[3] for mark in ("target", "tip")) > 0
