"""MujocoBatch against MuJoCo's own loop, its exact snapshots, and what it does with a state that is not finite."""

from __future__ import annotations

import os
from typing import Any

import mujoco
import numpy as np
import pytest
import torch

from flowrl.contracts.errors import MissingDependency
from flowrl.envs import opengl
from flowrl.envs.simulation import mujoco_batch as module
from flowrl.envs.simulation.mujoco_batch import MujocoBatch

# A ball that falls on a plate with a touch sensor, beside a pendulum with a motor; a post whose place varies.
MODEL = """
<mujoco>
  <option timestep="0.01"/>
  <worldbody>
    <light pos="0 0 4"/>
    <camera name="front" pos="0 -4 1" xyaxes="1 0 0 0 0 1"/>
    <camera name="above" pos="0 0 6"/>
    <geom name="plate" type="box" size="1 1 .1"/>
    <site name="plate" type="box" size="1 1 .2"/>
    <geom name="post" type="box" size=".2 .2 .5" pos="3 0 1" contype="0" conaffinity="0" rgba="1 0 0 1"/>
    <body pos="0 0 .5"><joint name="fall" type="slide" axis="0 0 1"/><geom name="ball" size=".1"/></body>
    <body pos="3 0 1">
      <joint name="swing" axis="0 1 0"/><geom name="bob" pos=".5 0 0" size=".1" mass="1"/>
    </body>
  </worldbody>
  <actuator><motor joint="swing" ctrlrange="-1 1" ctrllimited="true"/></actuator>
  <sensor><touch site="plate"/><jointvel joint="swing"/></sensor>
</mujoco>
"""
ALL = ("geom_xpos", "sensordata")


@pytest.fixture
def model() -> mujoco.MjModel:
    return mujoco.MjModel.from_xml_string(MODEL)


def controls(steps: int, count: int) -> torch.Tensor:
    return torch.rand(steps, count, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def scattered(simulation: MujocoBatch) -> None:
    """Every simulation in another state, so that none is right by being a copy of its neighbour."""
    qpos = simulation.bind("qpos")
    qpos[:, 1] = torch.linspace(-2, 2, simulation.count)
    qpos[:, 0] = torch.linspace(-0.2, 0.3, simulation.count)
    simulation.forward()


def test_it_steps_as_mujoco_does_with_derived_fields_brought_up_to_date(model: mujoco.MjModel) -> None:
    """mj_step n times, then mj_step1: position and velocity fields are new, touch is of the last substep."""
    simulation = MujocoBatch(model, 3, derived=ALL)
    scattered(simulation)
    qpos, qvel, ctrl = (simulation.bind(field) for field in ("qpos", "qvel", "ctrl"))
    places, readings = (simulation.bind(field) for field in ALL)
    data = [mujoco.MjData(model) for _ in range(3)]
    for row in range(3):
        data[row].qpos[:] = qpos[row]
    touched = 0
    for control in controls(100, 3):
        ctrl[:] = control
        simulation.step(3)
        for row, each in enumerate(data):
            each.ctrl[:] = control[row]
            mujoco.mj_step(model, each, 3)
            mujoco.mj_step1(model, each)
            for ours, theirs in ((qpos, "qpos"), (qvel, "qvel"), (places, ALL[0]), (readings, ALL[1])):
                np.testing.assert_array_equal(ours[row], getattr(each, theirs))
            touched += int(readings[row, 0] > 0)
    assert touched > 50


def test_without_derived_fields_the_states_are_the_same(model: mujoco.MjModel) -> None:
    plain, derived = MujocoBatch(model, 4), MujocoBatch(model, 4, derived=ALL)
    latest = plain.latest("sensordata")
    for each in (plain, derived):
        scattered(each)
    for control in controls(50, 4):
        for each in (plain, derived):
            each.bind("ctrl")[:] = control
            each.step(2)
        assert torch.equal(plain.bind("qpos"), derived.bind("qpos"))
        assert torch.equal(latest[:, 0], derived.bind("sensordata")[:, 0])  # touch belongs to the last substep


def test_latest_velocity_sensors_are_one_substep_old(model: mujoco.MjModel) -> None:
    simulation = MujocoBatch(model, 2)
    readings, qvel = simulation.latest("sensordata"), simulation.bind("qvel")
    scattered(simulation)
    for _ in range(5):
        before = qvel[:, 1].clone()
        simulation.step()
        assert torch.equal(readings[:, 1], before)
        assert not torch.equal(readings[:, 1], qvel[:, 1])


def test_external_forces_are_those_of_the_last_substep(model: mujoco.MjModel) -> None:
    """mj_step, then mj_rnePostConstraint; zero after a reset, in whose rows alone."""
    simulation = MujocoBatch(model, 3, forces=True)
    scattered(simulation)
    forces, qpos = simulation.external_forces(), simulation.bind("qpos")
    data = [mujoco.MjData(model) for _ in range(3)]
    for row, each in enumerate(data):
        each.qpos[:] = qpos[row]
        mujoco.mj_forward(model, each)
    for _ in range(60):
        simulation.step(2)
        for row, each in enumerate(data):
            mujoco.mj_step(model, each, 2)
            mujoco.mj_rnePostConstraint(model, each)
            np.testing.assert_array_equal(forces[row], each.cfrc_ext)
    assert (forces.abs().amax((1, 2)) > 1).all()  # the ball has come to lie on the plate
    kept, elsewhere = simulation.snapshot(), MujocoBatch(model, 3, forces=True)
    simulation.reset(torch.tensor([1]))
    assert forces.any(2).any(1).tolist() == [True, False, True]
    elsewhere.restore(kept)
    np.testing.assert_array_equal(elsewhere.external_forces()[1], data[1].cfrc_ext)
    with pytest.raises(ValueError, match="without `forces`"):
        MujocoBatch(model, 1).external_forces()


def trace(simulation: MujocoBatch, fields: tuple[str, ...], steps: int = 60) -> list[torch.Tensor]:
    found = []
    for control in controls(steps, simulation.count):
        simulation.bind("ctrl")[:] = control
        simulation.step(2)
        found += [simulation.bind(field).clone() for field in ("qpos", "qvel", *fields)]
    return found


@pytest.mark.parametrize("fields", [(), ALL])
def test_the_number_of_threads_shows_nowhere(model: mujoco.MjModel, fields: tuple[str, ...]) -> None:
    runs = []
    for threads in (1, 2, 5):
        simulation = MujocoBatch(model, 17, derived=fields, threads=threads)
        scattered(simulation)
        runs.append(trace(simulation, fields))
    for other in runs[1:]:
        assert all(map(torch.equal, runs[0], other))


@pytest.mark.parametrize("fields", [(), ALL])
def test_a_snapshot_restored_elsewhere_continues_bit_for_bit(model: mujoco.MjModel, fields: tuple[str, ...]) -> None:
    first = MujocoBatch(model, 5, derived=fields, varied=("geom_pos", "dof_damping"), threads=2)
    first.latest("qacc")
    first.expand("dof_damping")[:, 1] = torch.arange(5) * 0.3
    first.expand("geom_pos")[:, 1, 0] = torch.arange(5)
    scattered(first)
    trace(first, fields, steps=37)
    snapshot = first.snapshot()
    now = {field: first.bind(field).clone() for field in fields}

    second = MujocoBatch(model, 5, derived=fields, varied=("geom_pos", "dof_damping"), threads=1)
    acceleration = second.latest("qacc")
    trace(second, fields, steps=3)
    second.restore(snapshot)
    assert all(torch.equal(second.bind(field), now[field]) for field in fields)
    assert torch.equal(acceleration, first.latest("qacc"))
    assert torch.equal(second.expand("geom_pos"), first.expand("geom_pos"))
    assert all(map(torch.equal, trace(first, fields), trace(second, fields)))


def test_a_snapshot_is_a_copy(model: mujoco.MjModel) -> None:
    simulation = MujocoBatch(model, 2, derived=ALL, varied=("geom_pos",))
    snapshot = simulation.snapshot()
    kept = {name: tensor.clone() for name, tensor in snapshot.items()}
    simulation.expand("geom_pos")[:] = 7
    trace(simulation, ALL, steps=3)
    assert all(torch.equal(snapshot[name], kept[name]) for name in kept)
    assert kept.keys() == {"state", "warnings", "geom_pos", *ALL}


def test_tensors_are_views_of_the_simulators_memory(model: mujoco.MjModel) -> None:
    simulation = MujocoBatch(model, 2, derived=("geom_xpos",))
    places = simulation.bind("geom_xpos")
    simulation.bind("qpos")[1, 0] = 0.25
    simulation.forward()
    ball = model.geom("ball").id
    assert places[:, ball, 2].tolist() == [0.5, 0.75]
    assert simulation.bind("qpos").dtype == torch.float64


def test_each_simulation_has_its_own_value_of_a_varied_field(model: mujoco.MjModel) -> None:
    simulation = MujocoBatch(model, 2, varied=("dof_damping",))
    simulation.expand("dof_damping")[1, 1] = 5
    simulation.bind("qvel")[:, 1] = 1
    simulation.step(20)
    free, damped = simulation.bind("qvel")[:, 1].tolist()
    assert abs(damped) < 0.5 * abs(free)


def test_rows_are_stepped_and_reset_alone(model: mujoco.MjModel) -> None:
    simulation = MujocoBatch(model, 3)
    rows = torch.tensor([0, 2])
    simulation.step(4, rows)
    time = simulation.bind("time")
    assert time.tolist() == pytest.approx([0.04, 0, 0.04])
    simulation.reset(torch.tensor([2]))
    assert time.tolist() == pytest.approx([0.04, 0, 0])
    assert simulation.bind("qpos")[2].tolist() == [0, 0]


def test_contacts_are_counted_at_the_present_state(model: mujoco.MjModel) -> None:
    simulation = MujocoBatch(model, 3)
    simulation.bind("qpos")[:, 0] = torch.tensor([0.0, -0.25, -0.35])  # its underside is at 0.4 above 0.1
    assert simulation.contacts(torch.tensor([0, 1, 2])).tolist() == [0, 0, 1]
    assert simulation.contacts(torch.tensor([1, 2])).tolist() == [0, 1]


@pytest.mark.parametrize("fields", [(), ALL])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_state_that_is_not_finite_stays_so_and_leaves_the_others_alone(
    model: mujoco.MjModel, fields: tuple[str, ...], value: float
) -> None:
    broken, sound = (MujocoBatch(model, 3, derived=fields, threads=1) for _ in range(2))
    for each in (broken, sound):
        scattered(each)
    broken.bind("qvel")[1, 1] = value
    for ours, theirs in zip(trace(broken, fields, 10), trace(sound, fields, 10), strict=True):
        assert torch.equal(ours[[0, 2]], theirs[[0, 2]])
    assert broken.bind("qpos").isfinite().all(1).tolist() == [True, False, True]
    assert broken.unstable().tolist() == [False, True, False]
    sound.restore(broken.snapshot())
    assert sound.unstable().tolist() == [False, True, False]
    broken.reset(torch.tensor([1]))
    broken.step()
    assert broken.bind("qpos").isfinite().all()
    assert not broken.unstable().any()


def test_a_state_that_came_back_from_beyond_all_bounds_is_lost(model: mujoco.MjModel) -> None:
    simulation = MujocoBatch(model, 2, varied=("dof_damping",))
    simulation.expand("dof_damping")[:, 1] = 1e6
    simulation.bind("qvel")[0, 1] = 1e11
    simulation.step(10)
    assert simulation.bind("qvel").abs().max() < 1
    assert simulation.unstable().tolist() == [True, False]


def test_the_callers_model_is_left_as_it_was(model: mujoco.MjModel) -> None:
    simulation = MujocoBatch(model, 1)
    assert model.opt.disableflags == 0
    assert simulation.model.opt.disableflags == mujoco.mjtDisableBit.mjDSBL_AUTORESET


def test_undeclared_fields_are_refused(model: mujoco.MjModel) -> None:
    simulation = MujocoBatch(model, 1, derived=("xpos",), varied=("geom_pos",))
    with pytest.raises(ValueError, match="'xmat' among its `derived`"):
        simulation.bind("xmat")
    with pytest.raises(ValueError, match="'site_pos' among its `varied`"):
        simulation.expand("site_pos")


# --------------------------------------------------------------------------------------------------- pictures


def drawn(simulation: MujocoBatch, row: int, **options: Any) -> np.ndarray:
    try:
        return simulation.render(row, **options)
    except MissingDependency as reason:
        pytest.skip(str(reason))


def red(picture: np.ndarray) -> int:
    """How many pixels are of the red post."""
    colours = picture.astype(int)
    return int(((colours[..., 0] > 60) & (colours[..., 1:].max(-1) < colours[..., 0] // 3)).sum())


def test_a_picture_shows_one_simulation_with_its_own_model(model: mujoco.MjModel) -> None:
    simulation = MujocoBatch(model, 2, varied=("geom_pos",))
    post = model.geom("post").id
    simulation.expand("geom_pos")[0, post] = torch.tensor([0.0, 0.0, 1.0])
    simulation.expand("geom_pos")[1, post] = torch.tensor([0.0, 9.0, -9.0])
    before = simulation.snapshot()
    pictures = [drawn(simulation, row, height=60, width=80) for row in (0, 1, 0)]
    assert pictures[0].shape == (60, 80, 3) and pictures[0].dtype == np.uint8
    assert red(pictures[0]) > 50 and red(pictures[1]) == 0
    np.testing.assert_array_equal(pictures[0], pictures[2])
    assert (drawn(simulation, 0, height=60, width=80, camera="above") != pictures[0]).any()
    assert all(torch.equal(before[name], tensor) for name, tensor in simulation.snapshot().items())
    assert drawn(simulation, 0, height=500, width=700).shape == (500, 700, 3)  # beyond MuJoCo's usual buffer
    simulation.close()


def test_what_to_install_where_nothing_can_be_drawn(model: mujoco.MjModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("no platform library")

    monkeypatch.setattr(module.mujoco, "Renderer", refuse)
    with pytest.raises(MissingDependency, match=r"no platform library.*libegl1.*libosmesa6"):
        MujocoBatch(model, 1).render(0)


@pytest.mark.parametrize(("screen", "chosen"), [("", "egl"), (":0", "")])
def test_the_library_to_draw_with(monkeypatch: pytest.MonkeyPatch, screen: str, chosen: str) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if screen:
        monkeypatch.setenv("DISPLAY", screen)
    monkeypatch.setattr(opengl.sys, "platform", "linux")
    monkeypatch.setattr(opengl.ctypes, "CDLL", lambda name: None)
    before = dict(os.environ)
    assert opengl.library_without_screen() == chosen
    assert dict(os.environ) == before
    monkeypatch.setattr(opengl.ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError))
    assert opengl.library_without_screen() == ""
