"""A four-legged robot that follows velocity commands on flat ground, written as a task of one's own.

    flowrl train examples/quadruped/quadruped_fpo.yaml
    flowrl eval runs/quadruped_fpo-seed0
    flowrl play runs/quadruped_fpo-seed0 --set env.options.command_fixed=[0.6,0,0]

Commands, observation, noise, randomisation and the terms of the reward are of the form that legged_gym made common
(Rudin et al. 2022, arXiv 2109.11978). All units are SI.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowrl.envs import Task


class Quadruped(Task):
    """Follow commands of forward, sideways and turning velocity, and withstand pushes."""

    xml = "quadruped.xml"
    substeps = 4  # of 5 ms: control at 50 Hz
    keyframe = "stand"
    camera = "side"
    varied = ("geom_friction", "body_mass", "actuator_gainprm", "actuator_biasprm")
    known_parts = ("action", "clock")

    fastest = (1.0, 0.5, 1.0)  # m/s forward, m/s to the left, rad/s: commands, both ways
    slowest = 0.2  # m/s; slower commands become zero
    standing = 0.1  # of all commands are to stand
    command_s = 10.0  # between commands
    command_fixed = ()  # a command for all episodes, instead of drawn ones
    push_s = 15.0  # between pushes
    push_speed = 1.0  # m/s, forward and sideways, at most
    friction = (0.5, 1.25)
    extra_mass = 1.0  # kg on the trunk, more or less
    gains = (0.9, 1.1)  # factor on the stiffness of the servos
    tracking_width = 0.25  # (m/s)² and (rad/s)² of the rewards for following
    stride_s = 0.4  # of a trot: each diagonal pair of feet swings in one half of it

    def setup(self) -> None:
        joints = self.model.key("stand").qpos[7:]
        self.home = self.constant(joints)
        self.touch = self.data("sensordata")  # N: 4 feet, 4 thighs, 4 shanks, the trunk
        self.torque = self.data("actuator_force")
        self.trunk = self.model.body("trunk").id
        self.pair = self.constant([1.0, -1.0, -1.0, 1.0])  # front left and hind right, against the others
        self.last_speeds = self.zeros(12)

    def randomise(self, rows: Tensor) -> None:
        self.model_field("geom_friction")[rows, :, 0] = self.uniform(rows, *self.friction, size=1)
        self.model_field("body_mass")[rows, self.trunk] += self.uniform(rows, -self.extra_mass, self.extra_mass)
        factor = self.uniform(rows, *self.gains, size=1)
        self.model_field("actuator_gainprm")[rows, :, 0] *= factor
        self.model_field("actuator_biasprm")[rows, :, 1] *= factor

    def reset(self, rows: Tensor) -> None:
        self.qpos[rows, 7:] += self.uniform(rows, -0.1, 0.1, size=12)
        self.qvel[rows, :6] = self.uniform(rows, -0.3, 0.3, size=6)
        self.last_speeds[rows] = self.qvel[rows, 6:]

    def draw_command(self, rows: Tensor) -> Tensor:
        if self.command_fixed:
            return self.constant(self.command_fixed).expand(len(rows), 3)
        fastest = self.constant(self.fastest)
        command = self.uniform(rows, -fastest, fastest)
        command[command[:, :2].norm(dim=1) < self.slowest, :2] = 0
        command[self.uniform(rows, 0, 1) < self.standing] = 0
        return command

    def command_interval(self, rows: Tensor) -> float:
        return self.command_s

    def push(self, rows: Tensor) -> None:
        self.qvel[rows, :2] += self.uniform(rows, -self.push_speed, self.push_speed, size=2)

    def push_interval(self, rows: Tensor) -> float:
        return self.push_s

    def update(self) -> None:
        """Compute velocity (m/s), turning rate (rad/s) and gravity's direction (count, 3) in the trunk's frame, and the
        clock of the trot (count, 2), which stops at 0 where the command is to stand."""
        down = torch.zeros_like(self.qvel[:, :3])
        down[:, 2] = -1
        self.velocity, self.gravity = self.in_trunk(self.qvel[:, :3]), self.in_trunk(down)
        self.turning = self.qvel[:, 3:6]
        phase = self.steps * (2 * math.pi * self.dt / self.stride_s)
        self.walking = (self.command != 0).any(1)
        self.clock = torch.stack((phase.sin(), phase.cos()), 1) * self.walking[:, None]

    def in_trunk(self, vector: Tensor) -> Tensor:
        """Turn vectors (count, 3) from the world's frame into the trunk's."""
        w, axis = self.qpos[:, 3:4], -self.qpos[:, 4:7]
        return vector + 2 * torch.linalg.cross(axis, torch.linalg.cross(axis, vector) + w * vector)

    def after_step(self) -> None:
        self.acceleration = (self.qvel[:, 6:] - self.last_speeds) / self.dt
        self.last_speeds = self.qvel[:, 6:].clone()

    def observation(self) -> dict[str, Tensor]:
        return {
            "velocity": self.velocity,
            "turning": self.turning,
            "gravity": self.gravity,
            "angles": self.qpos[:, 7:] - self.home,
            "speeds": self.qvel[:, 6:],
            "action": self.action - self.home,
            "clock": self.clock,
        }

    def noise(self) -> dict[str, float]:
        return {"velocity": 0.1, "turning": 0.2, "gravity": 0.05, "angles": 0.01, "speeds": 1.5}

    def reward(self) -> Tensor:
        follow = torch.exp(-(self.velocity[:, :2] - self.command[:, :2]).square().sum(1) / self.tracking_width)
        turn = torch.exp(-(self.turning[:, 2] - self.command[:, 2]).square() / self.tracking_width)
        swing = self.clock[:, :1] * self.pair > 0  # (count, 4) whether each foot should be in the air
        trot = (swing != (self.touch[:, :4] > 1.0)).double().mean(1)  # share of the feet that do as they should
        change = (self.action - self.previous_action) * 4
        per_second = (
            0.5  # keeps the sum above 0 from the first episodes on, so that there is a signal
            + 2.0 * follow
            + turn
            + 0.5 * trot
            - 2.0 * self.velocity[:, 2].square()
            - 0.05 * self.turning[:, :2].square().sum(1)
            - 1e-5 * self.torque.square().sum(1)
            - 1e-7 * self.acceleration.square().sum(1)
            - 0.003 * change.square().sum(1)
            - (self.touch[:, 4:12] > 1.0).sum(1)
        )
        return (per_second * self.dt).clamp(min=0)

    def termination(self) -> Tensor:
        return (self.touch[:, 12] > 1.0) | (self.gravity[:, 2] > -0.3)

    def measure(self) -> dict[str, Tensor]:
        power = (self.torque * self.qvel[:, 6:]).clamp(min=0).sum(1)
        return {
            "linear_error_m_s": (self.velocity[:, :2] - self.command[:, :2]).norm(dim=1),
            "yaw_error_rad_s": (self.turning[:, 2] - self.command[:, 2]).abs(),
            "power_w": power,
        }

    def report(self, rows: Tensor) -> dict[str, Tensor]:
        return {"success": ~self.termination()[rows]}  # it has not fallen
