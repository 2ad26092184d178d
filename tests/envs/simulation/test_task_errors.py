"""Mistakes in a task of one's own: each is one paragraph with the class, the method and what to write instead."""

from __future__ import annotations

import importlib.util
import math
import random
import sys
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed, FlowrlError, UsageError
from flowrl.envs import Task
from flowrl.envs.simulation.task_env import vector_env
from flowrl.envs.simulation.vector_env import TaskVectorEnv
from tests.envs.simulation.own_tasks import CART, Cart

ROBOT = """
from flowrl.envs import Task

class Robot(Task):
    xml = 'robots/cart.xml'

    def reward(self):
        return self.steps * 1.0
"""


def made(**members: Any) -> TaskVectorEnv:
    """Three environments of a Cart whose class has these members."""
    return vector_env(type("Mine", (Cart,), members), 3, 1)


def nan_at_speed(self: Task) -> Tensor:
    return (1 - self.steps.double()).sqrt()


def no_setup(self: Task, count: int) -> None: ...


def global_draw(self: Task, rows: Tensor) -> None:
    self.qpos[rows] = torch.rand(len(rows), 2, dtype=torch.float64)


def numpy_draw(self: Task, rows: Tensor) -> None:
    self.qpos[rows] = float(np.random.rand())  # noqa: NPY002


def python_draw(self: Task, rows: Tensor) -> None:
    self.qpos[rows] = random.random()


def keeps(value: Any) -> Any:
    def setup(self: Any) -> None:
        self.kept = value() if callable(value) else value

    return setup


WRONG: dict[str, tuple[dict[str, Any], type[FlowrlError], str]] = {
    "reward-shape": (
        {"reward": lambda self: self.qpos[:, :1]},
        EnvironmentFailed,
        r"Mine.reward returned a tensor \(3, 1\) of float64, not the shape \(3,\): a number for each simulation",
    ),
    "reward-none": ({"reward": lambda self: None}, EnvironmentFailed, "Mine.reward returned nothing, not a torch"),
    "reward-raises": (
        {"reward": lambda self: 1 / 0},
        EnvironmentFailed,
        r"Mine.reward failed: ZeroDivisionError: division by zero \(test_task_errors.py:\d+\)",
    ),
    "reward-nan": (
        {"reward": lambda self: self.qpos[:, 0] * math.nan},
        EnvironmentFailed,
        "Mine.reward returned nan for simulation 0, whose physics are finite. Look for a division by zero",
    ),
    "observation-rows": (
        {"observation": lambda self: self.qpos[:2]},
        EnvironmentFailed,
        r"Mine.observation returned a tensor \(2, 2\) of float64, not the shape \(3, size\)",
    ),
    "observation-part": (
        {"observation": lambda self: {"a": self.qpos, "b": self.qpos[None]}},
        EnvironmentFailed,
        r"Mine.observation \(b\) returned a tensor \(1, 3, 2\)",
    ),
    "observation-empty": ({"observation": lambda self: {}}, EnvironmentFailed, "Mine.observation returned no parts"),
    "termination-type": (
        {"termination": lambda self: self.qpos[:, 0]},
        EnvironmentFailed,
        r"Mine.termination returned a tensor \(3,\) of float64, not bool. Write a comparison",
    ),
    "measure": (
        {"measure": lambda self: {"speed": self.qvel}},
        EnvironmentFailed,
        r"Mine.measure \(speed\) returned a tensor \(3, 2\)",
    ),
    "report": ({"report": lambda self, rows: {"x": self.qpos}}, EnvironmentFailed, "Mine.report: 'x' is not a tensor"),
    "command": (
        {"draw_command": lambda self, rows: self.uniform(rows, -1, 1)},
        EnvironmentFailed,
        r"Mine.draw_command returned a tensor \(3,\) of float64, not the shape \(3, command\)",
    ),
    "interval": (
        {"push_interval": lambda self, rows: 0.0},
        EnvironmentFailed,
        "Mine.push_interval returned 0.0: it must be above 0 s",
    ),
    "delay": (
        {"action_delay": lambda self, rows: -1},
        EnvironmentFailed,
        "Mine.action_delay returned -1 to -1: a delay is 0 to 1000 control steps",
    ),
    "delay-type": (
        {"observation_delay": lambda self, rows: self.uniform(rows, 0, 2)},
        EnvironmentFailed,
        r"Mine.observation_delay returned a tensor \(3,\) of float64, not the shape \(3,\) int64",
    ),
    "noise-name": (
        {"noise": lambda self: {"positon": 0.1}},
        UsageError,
        "Mine.noise: the observation has no part 'positon'. Did you mean 'position'",
    ),
    "noise-size": (
        {"noise": lambda self: {"position": [0.1, 0.2, 0.3]}},
        UsageError,
        "Mine.noise: 'position' has 2 columns, so its noise is one number or 2, none below 0",
    ),
    "known-parts": ({"known_parts": ("last",)}, UsageError, "Mine.known_parts: the observation has no part 'last'"),
    "init": ({"__init__": no_setup}, UsageError, r"Mine cannot be made without arguments.*setup\(self\)"),
    "torch-draw": ({"reset": global_draw}, UsageError, r"draws from the global generator of torch.…"),
    "numpy-draw": ({"reset": numpy_draw}, UsageError, r"draws from the global generator of np.random.…"),
    "python-draw": ({"reset": python_draw}, UsageError, r"draws from the global generator of random.…"),
    "own-generator": ({"setup": keeps(torch.Generator)}, UsageError, "Mine.kept is a random generator of its own"),
    "unsaved": ({"setup": keeps(lambda: iter(()))}, UsageError, "Mine.kept is a tuple_iterator, which cannot be saved"),
    "view": ({"setup": keeps(np.zeros((2, 2))[0])}, UsageError, "Mine.kept is a NumPy array that is a view"),
    "nested": ({"setup": keeps([{"a": object()}])}, UsageError, r"Mine.kept\[0\]\['a'\] is a object, which cannot"),
    "field": (
        {"setup": lambda self: self.data("xposs")},
        UsageError,
        "Mine: MuJoCo's data have no field 'xposs'. Did you mean 'xpos'",
    ),
    "sensor": (
        {"setup": lambda self: self.sensor("y")},
        UsageError,
        "Mine: the model has no sensor 'y'.*It has x, v, tilt",
    ),
    "sensors-apart": (
        {"setup": lambda self: self.sensor("x", "tilt")},
        UsageError,
        "Mine: the sensors x, tilt are not neighbours",
    ),
    "undeclared": (
        {"reset": lambda self, rows: self.model_field("body_mass")},
        UsageError,
        r"Mine.model_field\('body_mass'\): the field is not declared. Write varied = \('body_mass',\)",
    ),
    "varied": ({"varied": ("body_mas",)}, UsageError, "Mine.varied: MjModel has no field 'body_mas'. Did you mean"),
    "varied-text": ({"varied": "body_mass"}, UsageError, r"Mine.varied is a tuple of names: write \('body_mass',\)"),
    "derived": ({"derived": ("xpo",)}, UsageError, "Mine.derived: MjData has no field 'xpo'. Did you mean"),
    "keyframe": ({"keyframe": "tiltd"}, UsageError, "Mine.keyframe: the model has no keyframe 'tiltd'. Did you mean"),
    "camera": ({"camera": "front"}, UsageError, "there is no camera 'front'"),
    "substeps": ({"substeps": 0}, UsageError, "Mine.substeps must be a whole number of at least 1, not 0"),
    "mjcf-line": (
        {"xml": "<mujoco>\n<worldbody>\n<body><geom type='shere'/></body></worldbody></mujoco>"},
        UsageError,
        "Mine.xml: MuJoCo cannot compile the MJCF text: .*invalid keyword: 'shere'.*line 3",
    ),
    "mjcf-syntax": ({"xml": "<mujoco>\n<worldbody>\n</mujoco>"}, UsageError, r"Mine.xml: MuJoCo cannot .*[Ll]ine"),
    "no-file": ({"xml": "cart.xml"}, UsageError, r"Mine.xml: there is no file .*cart.xml"),
    "no-actuator": (
        {"xml": CART.split("<actuator>")[0] + "</mujoco>"},
        UsageError,
        "Mine.xml: the model has no actuat",
    ),
    "no-range": (
        {"xml": CART.replace(' ctrlrange="-1 1"', "")},
        UsageError,
        "Mine.xml: the actuator number 0 has no range. Give it ctrlrange",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_reported_when_the_environment_is_made(name: str) -> None:
    members, kind, words = WRONG[name]
    with pytest.raises(kind, match=words) as raised:
        made(**members)
    assert "\n" not in str(raised.value)


def test_a_class_without_a_reward_or_a_model_is_refused() -> None:
    with pytest.raises(UsageError, match="Mine has no method reward: write def reward"):
        vector_env(type("Mine", (Task,), {"xml": CART}), 1, 1)
    with pytest.raises(UsageError, match="Mine has no model: give the class an attribute xml"):
        vector_env(type("Mine", (Task,), {}), 1, 1)


def test_a_value_that_becomes_wrong_later_is_reported_then() -> None:
    env = made(reward=nan_at_speed)
    env.reset_tensors(0)
    env.step_tensors(torch.zeros(3, 1))
    with pytest.raises(EnvironmentFailed, match=r"Mine\.reward returned nan for simulation 0"):
        env.step_tensors(torch.zeros(3, 1))


def test_a_field_that_is_first_read_in_the_middle_of_a_run_is_refused() -> None:
    """It would be missing in the new environment of a resumed run."""

    def after_step(self: Task) -> None:
        if int(self.steps[0]) == 3:
            self.data("qacc")

    env = made(after_step=after_step)
    env.reset_tensors(0)
    for _ in range(2):
        env.step_tensors(torch.zeros(3, 1))
    with pytest.raises(UsageError, match=r"Mine.data\('qacc'\) is called for the first time in the middle of a run"):
        env.step_tensors(torch.zeros(3, 1))


def test_an_unstable_simulation_ends_its_episode_and_no_other_one() -> None:
    env = made(episode_steps=1000)
    env.reset_tensors(0)
    env.runner.task.user.qvel[1, 0] = 1e12  # type: ignore[attr-defined]
    step = env.step_tensors(torch.zeros(3, 1))
    assert step.terminated.tolist() == [False, True, False] and step.reward[1] == 0
    assert step.final_obs.tolist() == [[0.0] * 4] and step.obs.isfinite().all()
    assert not env.step_tensors(torch.zeros(3, 1)).terminated.any()


def test_contacts_that_do_not_fit_the_memory_of_a_simulation_are_reported() -> None:
    """MuJoCo would leave some of them out, and go on."""
    balls = "".join(
        f'<body pos="{n % 5 * 0.15} {n // 5 * 0.15} 1"><freejoint/><geom size=".1"/></body>' for n in range(25)
    )
    crowded = CART.replace("<worldbody>", '<size memory="40K"/><worldbody>' + balls)
    with pytest.raises(EnvironmentFailed, match=r"Mine\.xml: a simulation has more contacts than its memory of 40,960"):
        made(xml=crowded, keyframe="", observation=lambda self: self.qpos[:, :2])


def test_a_model_may_be_a_file_beside_the_class_a_text_or_a_specification(tmp_path: Path) -> None:
    (tmp_path / "robots").mkdir()
    (tmp_path / "robots" / "cart.xml").write_text(CART)
    for xml in (str(tmp_path / "robots" / "cart.xml"), CART, mujoco.MjSpec.from_string(CART)):
        env = made(xml=xml)
        assert env.single_observation_space.shape == (4,)
    (tmp_path / "my_robot.py").write_text(ROBOT)
    spec = importlib.util.spec_from_file_location("my_robot_of_the_test", tmp_path / "my_robot.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(UsageError):  # a module that nobody can find has no file
        vector_env(module.Robot, 1, 1)
    sys.modules["my_robot_of_the_test"] = module
    assert vector_env(module.Robot, 1, 1).num_envs == 1
    (tmp_path / "robots" / "cart.xml").rename(tmp_path / "robots" / "carts.xml")
    with pytest.raises(UsageError, match=r"there is no file .*cart.xml. Did you mean 'carts.xml'"):
        vector_env(module.Robot, 1, 1)


@pytest.mark.parametrize(
    ("xml", "words"),
    [
        (5, "Mine.xml is a int, 5: give it the name of an MJCF file beside"),
        (None, "Mine.xml is a NoneType, None: "),
        (" ", "Mine.xml is blank: "),
        (CART.replace('timestep="0.01"', 'timestep="0"'), "its time step is 0 s, so nothing would move"),
        (CART.replace('mass="2"', 'mass="nan"'), "the MJCF text has a number that is NaN"),
    ],
    ids=["number", "none", "blank", "timestep", "mass"],
)
def test_a_model_that_is_none_is_refused(xml: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=words):
        made(xml=xml)
    assert list(tmp_path.iterdir()) == []  # no MUJOCO_LOG.TXT
