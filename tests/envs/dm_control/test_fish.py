"""FishSwim: dm_control's numbers, rewards worked by hand, and the starts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from flowrl.envs.dm_control.fish import PROFILES, FishSwim
from flowrl.envs.dm_control.tasks import TASKS
from flowrl.envs.simulation.mujoco_batch import MujocoBatch

from .replay import replay

DATA = Path(__file__).parents[2] / "data" / "suite"
UP, DOWN = ((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0))  # quaternions; down: half a turn around the body's y axis
MOUTH = (0.0, 0.0745, 0.1)  # where the mouth is at the model's default state


def play(count: int, profile: str = "dmc") -> tuple[MujocoBatch, FishSwim]:
    """The task over `count` simulations, at the model's default state."""
    constants = PROFILES[profile]
    simulation = MujocoBatch(FishSwim.build(constants), count, FishSwim.derived, FishSwim.varied, threads=1)
    return simulation, FishSwim(simulation, constants)


def reset(count: int, profile: str = "dmc", seed: int = 0) -> tuple[MujocoBatch, FishSwim]:
    """The task over `count` simulations, at starts of its own."""
    simulation, task = play(count, profile)
    task.reset(torch.arange(count), torch.Generator().manual_seed(seed))
    simulation.forward()
    return simulation, task


@pytest.mark.parametrize("number", [0, 1])
def test_it_is_dm_control(number: int) -> None:
    with np.load(DATA / f"FishSwim-{number}.npz") as golden:
        start = {field.removeprefix("start_"): golden[field] for field in golden if field.startswith("start_")}
        observations, rewards = replay("FishSwim", start, golden["actions"])
        np.testing.assert_allclose(observations[:21], golden["observations"][:21], rtol=0, atol=1e-9)
        np.testing.assert_allclose(rewards[:20], golden["rewards"][:20], rtol=0, atol=1e-9)
        np.testing.assert_allclose(observations, golden["observations"], rtol=0, atol=1e-4)
        np.testing.assert_allclose(rewards, golden["rewards"], rtol=0, atol=1e-4)


def test_the_model_is_dm_controls() -> None:
    golden = json.loads((DATA / "FishSwim.model.json").read_text())
    model = FishSwim.build(PROFILES["dmc"])
    for option, value in golden.pop("option").items():
        np.testing.assert_array_equal(getattr(model.opt, option), value, err_msg=option)
    for kind, names in golden.pop("names").items():
        assert [getattr(model, kind)(i).name for i in range(len(names))] == names
    golden.pop("meta")
    golden["geom_pos"][model.geom("target").id] = [0, 0.4, 0.1]  # which a reset draws
    for field, value in golden.items():
        ours = getattr(model, field)
        np.testing.assert_array_equal(ours, np.reshape(value, ours.shape), err_msg=field)


def test_the_frames_are_mujocos() -> None:
    simulation, task = reset(20)
    simulation.bind("qpos")[:, :3] = torch.randn(20, 3, generator=torch.Generator().manual_seed(1))
    data = mujoco.MjData(simulation.model)
    mouth, target = (simulation.model.geom(name).id for name in ("mouth", "target"))
    for row in range(20):
        simulation.model.geom_pos[:] = simulation.expand("geom_pos")[row]
        data.qpos[:] = simulation.bind("qpos")[row]
        mujoco.mj_forward(simulation.model, data)
        to_target = data.geom_xmat[mouth].reshape(3, 3).T @ (data.geom_xpos[target] - data.geom_xpos[mouth])
        np.testing.assert_allclose(task.observation()[row, 7], data.body("torso").xmat[8], atol=1e-14)
        np.testing.assert_allclose(task.observation()[row, 8:11], to_target, atol=1e-14)


def test_the_target_is_seen_from_the_mouth() -> None:
    # The mouth is a capsule along the body's y axis, and a capsule's own axis is its z: the body turned by -90
    # degrees around x. So the mouth's x, y, z are the body's x, -z, y.
    simulation, task = play(1)
    simulation.expand("geom_pos")[0, simulation.model.geom("target").id] = torch.tensor(MOUTH) + torch.tensor(
        [0.1, 0.2, 0.3]
    )
    np.testing.assert_allclose(task.observation()[0, 8:11], [0.1, -0.3, 0.2], atol=1e-7)


def test_reward_weighs_nearness_seven_to_one_against_uprightness() -> None:
    # Radii: mouth 0.005 + target 0.04 = 0.045. Nearness is 1 up to 0.045 m, 0.1 at 3 · 0.045 = 0.135 m, and
    # 0.1^((d - 0.045)² / 0.09²) between: at 0.09 m 0.1^(1/4) = 0.5623413.
    simulation, task = play(6)
    qpos, target = (simulation.bind("qpos"), simulation.expand("geom_pos")[:, simulation.model.geom("target").id])
    distances = torch.tensor([0.0, 0.0449, 0.09, 0.135, 0.135, 9.0], dtype=torch.float64)
    qpos[:, 3:7] = torch.tensor([UP, UP, UP, UP, DOWN, UP])
    target[:] = torch.tensor(MOUTH, dtype=torch.float64)  # half a turn around y leaves the mouth where it is
    target[:, 2] += distances
    expected = [1, 1, (7 * 0.1**0.25 + 1) / 8, (0.7 + 1) / 8, 0.7 / 8, 1 / 8]
    np.testing.assert_allclose(task.reward(), expected, rtol=0, atol=1e-12)


def test_upright_is_the_cosine_of_the_tilt() -> None:
    simulation, task = play(4)
    tilt = torch.tensor([0.0, math.pi / 3, math.pi / 2, math.pi], dtype=torch.float64)
    simulation.bind("qpos")[:, 3] = (tilt / 2).cos()
    simulation.bind("qpos")[:, 4] = (tilt / 2).sin()
    np.testing.assert_allclose(task.observation()[:, 7], [1, 0.5, 0, -1], atol=1e-15)


@pytest.mark.parametrize(("profile", "height"), [("dmc", 0.1), ("playground", 0.0)])
def test_starts(profile: str, height: float) -> None:
    simulation, task = reset(4000, profile)
    qpos, qvel = simulation.bind("qpos"), simulation.bind("qvel")
    assert (qpos[:, :3] == torch.tensor([0, 0, height], dtype=torch.float64)).all()
    assert not qvel.any()
    joints = qpos[:, 7:]
    assert joints.abs().max() <= 0.2
    assert (joints.amin(0) < -0.199).all()
    assert (joints.amax(0) > 0.199).all()
    target = simulation.expand("geom_pos")[:, simulation.model.geom("target").id]
    low, high = torch.tensor([[-0.4, -0.4, 0.1], [0.4, 0.4, 0.3]], dtype=torch.float64)
    assert ((low <= target) & (target <= high)).all()
    assert ((target.amin(0) - low) < 0.01 * (high - low)).all()
    assert ((high - target.amax(0)) < 0.01 * (high - low)).all()
    torch.testing.assert_close(qpos[:, 3:7].norm(dim=1), torch.ones(4000, dtype=torch.float64))
    # All orientations alike: each of the torso's axes points anywhere on the sphere, so that every element of
    # its matrix is uniform in [-1, 1]: mean 0, variance 1/3.
    axes = task.torso_axes()
    assert axes.mean(0).abs().max() < 4 * math.sqrt(1 / 3 / 4000)
    assert (axes.square().mean(0) - 1 / 3).abs().max() < 4 * math.sqrt((1 / 5 - 1 / 9) / 4000)
    columns = torch.cat((joints, target, qpos[:, 3:7]), 1)
    correlation = torch.corrcoef(columns.T) - torch.eye(14)
    assert correlation.abs().max() < 5 / math.sqrt(4000)  # everything is drawn independently


def test_a_reset_of_some_rows_leaves_the_others() -> None:
    simulation, task = reset(5)
    fields = [simulation.bind("qpos"), simulation.expand("geom_pos")]
    before = [field.clone() for field in fields]
    task.reset(torch.tensor([0, 3]), torch.Generator().manual_seed(9))
    for field, old in zip(fields, before, strict=True):
        changed = (field != old).flatten(1).any(1)
        assert changed.tolist() == [True, False, False, True, False]


def test_each_row_plays_as_if_alone() -> None:
    simulation, task = reset(3, seed=3)
    starts = [
        {"qpos": simulation.bind("qpos")[row].numpy().copy(), "geom_pos": simulation.expand("geom_pos")[row].numpy()}
        for row in range(3)
    ]
    actions = torch.rand(10, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4)) * 2 - 1
    observations = []
    for action in actions:
        simulation.bind("ctrl")[:] = action
        simulation.step(10)
        observations.append(task.observation())
    for row, start in enumerate(starts):
        alone, _ = replay("FishSwim", start, actions[:, row].numpy())
        np.testing.assert_array_equal(alone[1:], torch.stack(observations)[:, row])


def test_the_playground_profile_puts_upright_first() -> None:
    seen = {}
    for profile in ("dmc", "playground"):
        simulation, task = reset(7, profile)
        simulation.bind("qpos")[:, 2] = 0.1
        seen[profile] = dict(
            zip(
                task.observation_parts,
                task.observation().split(list(task.observation_parts.values()), dim=1),
                strict=True,
            )
        )
    assert list(seen["dmc"]) == ["joint_angles", "upright", "target", "velocity"]
    assert list(seen["playground"]) == ["upright", "joint_angles", "target", "velocity"]
    assert all(torch.equal(seen["dmc"][part], seen["playground"][part]) for part in seen["dmc"])


def test_what_the_playground_profile_changes() -> None:
    dmc, playground = (FishSwim.build(PROFILES[profile]) for profile in ("dmc", "playground"))
    assert [numbers.timestep * numbers.substeps for numbers in PROFILES.values()] == pytest.approx([0.04, 0.04])
    flags = mujoco.mjtDisableBit
    options = {
        "timestep": 0.002,
        "iterations": 2,
        "ls_iterations": 6,
        "disableflags": flags.mjDSBL_GRAVITY | flags.mjDSBL_CONSTRAINT | flags.mjDSBL_CONTACT | flags.mjDSBL_EULERDAMP,
    }
    for option, value in options.items():
        assert getattr(playground.opt, option) == value, option
    # A ball of radius 0.03 m and a box of 0.004 x 0.12 x 0.06 m, of water.
    assert playground.body("torso").mass == pytest.approx(1000 * 4 / 3 * math.pi * 0.03**3)
    assert dmc.body("torso").mass == pytest.approx(1000 * 0.004 * 0.12 * 0.06)
    same = ("geom_pos", "jnt_stiffness", "dof_damping", "actuator_gainprm", "tendon_stiffness")
    assert all(np.array_equal(getattr(dmc, field), getattr(playground, field)) for field in same)


def test_the_table_has_it() -> None:
    assert TASKS["FishSwim"] == (FishSwim, PROFILES)
