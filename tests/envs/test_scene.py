"""The simulation behind an environment as a viewer sees it: its state, pushes, commands and model."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from flowrl.contracts.errors import UsageError
from flowrl.envs import Task, factory, scene
from flowrl.envs.adapter import Adapter
from flowrl.envs.settings import EnvSettings
from flowrl.envs.simulation.task_env import vector_env

MASS, TIMESTEP, SUBSTEPS = 2.0, 0.002, 5
XML = f"""
<mujoco>
  <option timestep="{TIMESTEP}" gravity="0 0 0"/>
  <worldbody>
    <body><freejoint/><geom type="sphere" size="0.1" mass="{MASS}"/></body>
    <body pos="0 0 5"><joint name="hinge" type="hinge"/><geom type="sphere" size="0.1"/></body>
  </worldbody>
  <actuator><motor joint="hinge" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Drift(Task):
    """A ball in empty space, and a motor elsewhere; a command that is drawn again in every control step."""

    xml: ClassVar[str] = XML
    substeps = SUBSTEPS

    def reward(self) -> Tensor:
        return self.zeros()

    def draw_command(self, rows: Tensor) -> Tensor:
        return self.uniform(rows, [-1.0, 2.0], [1.0, 2.0])

    def command_interval(self, rows: Tensor) -> float:
        return self.dt


class DriftEnv(gymnasium.Env[Any, Any]):
    """The same in a plain Gymnasium environment with `model` and `data`."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(XML)
        self.data = mujoco.MjData(self.model)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        mujoco.mj_resetData(self.model, self.data)
        return self.data.qpos[:1].copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        mujoco.mj_step(self.model, self.data, SUBSTEPS)
        return self.data.qpos[:1].copy(), 0.0, False, False, {}


def adapter(kind: str) -> Adapter:
    envs: Any = (
        vector_env(Drift, 1, 1) if kind == "task" else SyncVectorEnv([DriftEnv], autoreset_mode=AutoresetMode.SAME_STEP)
    )
    env = Adapter.__new__(Adapter)  # only what a scene reads
    env._envs, env.settings = envs, EnvSettings(id="drift")
    envs.reset(seed=0)
    return env


def step(env: Adapter) -> None:
    env.envs.step(np.zeros((1, 1), np.float32))


@pytest.mark.parametrize("kind", ["task", "gymnasium"])
def test_a_push_accelerates_by_force_over_mass_for_one_control_step(kind: str) -> None:
    env = adapter(kind)
    shown = scene.scene_of(env)
    forces = np.zeros((shown.model.nbody, 6))
    forces[1, :3] = [6.0, 0.0, -3.0]  # N, on the ball
    with scene.pushed(shown, forces):
        step(env)
    # Δv = F n h / m = 6 · 5 · 0.002 / 2 and -3 · …: the semi-implicit Euler step is exact for a constant force
    expected = np.array([6.0, 0.0, -3.0]) * SUBSTEPS * TIMESTEP / MASS
    np.testing.assert_allclose(shown.field("qvel")[:3], expected, rtol=1e-9, atol=1e-12)
    assert not shown.field("xfrc_applied").any()
    step(env)
    np.testing.assert_allclose(shown.field("qvel")[:3], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["task", "gymnasium"])
def test_the_environments_own_forces_remain(kind: str) -> None:
    shown = scene.scene_of(adapter(kind))
    own = shown.field("xfrc_applied")
    own[1, 0] = 1.0
    forces = np.ones_like(own)
    with scene.pushed(shown, forces):
        assert own[1].tolist() == [2, 1, 1, 1, 1, 1]
    assert own[1].tolist() == [1, 0, 0, 0, 0, 0]
    with scene.pushed(shown, forces):
        shown.field("xfrc_applied")[:] = 7.0  # meanwhile, by the environment
    assert (shown.field("xfrc_applied") == 7.0).all()


@pytest.mark.parametrize("kind", ["task", "gymnasium"])
def test_what_is_shown_is_the_state_of_the_simulation(kind: str) -> None:
    env = adapter(kind)
    shown = scene.scene_of(env)
    shown.field("qvel")[:3] = [1.0, 2.0, 3.0]
    step(env)
    data = mujoco.MjData(shown.model)
    scene.show(shown, data)
    seconds = SUBSTEPS * TIMESTEP
    assert data.time == pytest.approx(seconds)
    np.testing.assert_allclose(data.qpos[:3], [seconds, 2 * seconds, 3 * seconds], rtol=1e-12)
    np.testing.assert_array_equal(data.qvel, shown.field("qvel"))


def test_a_held_command_is_observed_until_it_is_released() -> None:
    env = adapter("task")
    shown = scene.scene_of(env)
    seen = []
    for held in (True, True, False, False):
        if held:
            shown.hold_command([0.25, -0.5])
        seen.append(env.envs.step(np.zeros((1, 1), np.float32))[0][0, -2:].tolist())
    assert seen[:2] == [[0.25, -0.5]] * 2
    env.envs.reset(seed=1)
    drawn = shown.command
    assert drawn != [0.25, -0.5]
    step(env)
    assert shown.command != drawn  # commands are drawn again in every step


def test_the_ranges_of_a_command_are_those_of_its_draws_which_change_nothing() -> None:
    env, same = adapter("task"), adapter("task")
    (low, high), fixed = scene.scene_of(env).command_ranges()
    assert -1.0 <= low < -0.95
    assert 0.95 < high <= 1.0
    assert fixed == (1.0, 3.0)  # around a number that is always 2
    step(env)
    step(same)
    assert scene.scene_of(env).command == scene.scene_of(same).command


def test_the_model_shown_has_the_target_of_the_running_episode() -> None:
    env = factory.make(EnvSettings(id="flowrl/ReacherEasy-v0"), count=1)
    env.reset(0)
    shown = scene.scene_of(env)
    assert not shown.new_model()
    before = shown.model.geom_pos.copy()
    env.reset(None)
    assert shown.new_model()
    target = shown.model.geom("target").id
    assert not np.array_equal(shown.model.geom_pos[target], before[target])
    others = np.arange(shown.model.ngeom) != target
    np.testing.assert_array_equal(shown.model.geom_pos[others], before[others])


@pytest.mark.parametrize(
    ("id", "options", "kind"),
    [
        ("flowrl/FishSwim-v0", {}, scene.TaskScene),
        ("flowrl/HumanoidTrack-v0", {}, scene.TaskScene),
        ("Hopper-v5", {}, scene.TaskScene),
        ("Hopper-v5", {"ctrl_cost_weight": 0.5}, scene.DataScene),
    ],
)
def test_each_family_of_mujoco_has_a_scene(id: str, options: dict[str, float], kind: type) -> None:
    env = factory.make(EnvSettings(id=id, options=options), count=1)
    env.reset(0)
    shown = scene.scene_of(env)
    assert type(shown) is kind
    assert shown.command == shown.command_ranges() == []
    env.step(torch.zeros(1, env.action_size))
    data = mujoco.MjData(shown.model)
    scene.show(shown, data)
    assert data.time == pytest.approx(1 / round(1 / data.time))  # one control step
    assert data.qpos.any()
    env.close()


def test_the_task_s_camera_is_found_by_name_and_number() -> None:
    model = mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><camera name="a"/><camera name="b"/></worldbody></mujoco>'
    )
    assert [scene.number_of(model, camera) for camera in ("b", 1, 2, "c")] == [1, 1, -1, -1]


def test_an_environment_without_mujoco_is_refused() -> None:
    env = factory.make(EnvSettings(id="flowrl/GridWorld-v0"), count=1)
    with pytest.raises(UsageError, match=r"GridWorld-v0 cannot be viewed live.*flowrl play"):
        scene.scene_of(env)
