"""Tasks as a user would write them, for the tests of `Task`."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from flowrl.envs import Task

CART = """
<mujoco model="cart">
  <option timestep="0.01"/>
  <worldbody>
    <body name="cart">
      <joint name="slide" type="slide" axis="1 0 0" damping="0.1"/>
      <geom name="box" type="box" size=".1 .1 .1" mass="2"/>
      <body name="pole"><joint name="hinge" type="hinge" axis="0 1 0"/><geom type="capsule" fromto="0 0 0 0 0 .5"
        size=".02" mass=".1"/></body>
    </body>
  </worldbody>
  <actuator><motor joint="slide" gear="5" ctrlrange="-1 1"/></actuator>
  <sensor>
    <jointpos name="x" joint="slide"/><jointvel name="v" joint="slide"/><jointpos name="tilt" joint="hinge"/>
  </sensor>
  <keyframe><key name="tilted" qpos="0.5 0.1" qvel="0 0.2" ctrl="0.25"/></keyframe>
</mujoco>
"""


class Cart(Task):
    """As little as a task needs."""

    xml = CART
    episode_steps = 50

    def reward(self) -> Tensor:
        return -self.qpos[:, 0].abs()


class Busy(Cart):
    """Everything at once: varied models, noise, delays, pushes, commands, measures, and attributes of many kinds."""

    substeps = 2
    derived = ("xpos",)
    varied = ("body_mass", "dof_damping")
    known_parts = ("action",)
    limit = 0.8

    def setup(self) -> None:
        self.pole = self.data("xpos")[:, 2]
        self.x = self.sensor("x")
        self.integral = self.zeros(2)
        self.first = self.integral[:, 0]  # a view of it
        self.level = 0.0
        self.recent: list[Tensor] = []
        self.settings = {"gain": self.constant([1.0, 2.0]), "names": ("a", "b")}

    def randomise(self, rows: Tensor) -> None:
        self.model_field("body_mass")[rows] *= self.uniform(rows, 0.5, 2.0, size=1)
        self.model_field("dof_damping")[rows] *= self.uniform(rows, 0.5, 2.0, size=1)

    def reset(self, rows: Tensor) -> None:
        self.qpos[rows] = self.normal(rows, 0.1, size=2)
        self.integral[rows] = 0

    def draw_command(self, rows: Tensor) -> Tensor:
        return self.uniform(rows, -0.5, 0.5, size=1)

    def command_interval(self, rows: Tensor) -> Tensor:
        return self.uniform(rows, 0.1, 0.3)

    def push(self, rows: Tensor) -> None:
        self.qvel[rows, 0] += self.uniform(rows, -1, 1)

    def push_interval(self, rows: Tensor) -> float:
        return 0.2

    def after_step(self) -> None:
        self.integral += torch.stack((self.qpos[:, 0], self.qvel[:, 0]), 1) * self.dt
        self.first.clamp_(-1, 1)  # through the view
        self.level += 0.25  # a number that has to be saved, too
        self.recent = [*self.recent[-2:], self.qpos[:, 0].clone()]  # longer with time
        self.latest_tilt = self.qpos[:, 1].clone()  # not there before the first step

    def observation(self) -> dict[str, Tensor]:
        return {"position": self.x, "pole": self.pole, "integral": self.integral, "action": self.action}

    def noise(self) -> dict[str, float]:
        return {"position": 0.05}

    def action_delay(self, rows: Tensor) -> Tensor:
        return self.integers(rows, 0, 2)

    def observation_delay(self, rows: Tensor) -> Tensor:
        return self.integers(rows, 0, 3)

    def reward(self) -> Tensor:
        scale = self.settings["gain"]
        assert isinstance(scale, Tensor)
        late = self.recent[0] if self.recent else self.first
        return -(self.qpos[:, 0] - self.command[:, 0]).abs() * scale[0] + 0.01 * self.level - 0.1 * late

    def termination(self) -> Tensor:
        return self.qpos[:, 0].abs() > self.limit

    def measure(self) -> dict[str, Tensor]:
        return {"error_m": (self.qpos[:, 0] - self.command[:, 0]).abs()}

    def report(self, rows: Tensor) -> dict[str, Tensor]:
        return {"success": self.qpos[rows, 0].abs() <= self.limit, "last_x": self.qpos[rows, 0]}


class Counter(Cart):
    """Observes the number of its steps and the command, so that delays and commands can be read off."""

    options: ClassVar[dict[str, float]] = {}  # a dict is no option
    action_late = 0
    observation_late = 0
    command_s = math.inf
    push_s = math.inf
    noise_width = 0.0

    def setup(self) -> None:
        self.ticks, self.drawn, self.pushed, self.applied = self.zeros(), 0, self.zeros(), self.zeros()

    def reset(self, rows: Tensor) -> None:
        self.ticks[rows] = self.pushed[rows] = self.applied[rows] = 0

    def after_step(self) -> None:
        self.ticks += 1
        self.applied = self.ctrl[:, 0].clone()

    def draw_command(self, rows: Tensor) -> Tensor:
        self.drawn += 1
        return self.zeros(1)[rows] + self.drawn

    def command_interval(self, rows: Tensor) -> float:
        return self.command_s

    def push(self, rows: Tensor) -> None:
        self.pushed[rows] += 1

    def push_interval(self, rows: Tensor) -> float:
        return self.push_s

    def observation(self) -> dict[str, Tensor]:
        return {"ticks": self.ticks, "pushed": self.pushed, "applied": self.applied}

    def noise(self) -> dict[str, float]:
        return {"pushed": self.noise_width}

    def action_delay(self, rows: Tensor) -> int:
        return self.action_late

    def observation_delay(self, rows: Tensor) -> int:
        return self.observation_late

    def reward(self) -> Tensor:
        return self.command[:, 0].clone()
