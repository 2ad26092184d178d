"""A robot of your own on the fast simulation: a cart balances its pole, with random pushes and poles of random mass.

All simulations are stepped together, on all cores; every tensor has a row for each of them. The class also works as
`env.id: examples/own_mujoco_task.py:Balance` in a recipe, and `flowrl envs examples/own_mujoco_task.py:Balance --check`
says what is wrong with it.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

import flowrl
from flowrl.envs import Task


class Balance(Task):
    """Keep the pole upright and the cart in the middle."""

    xml = """
    <mujoco model="balance">
      <option timestep="0.01" integrator="implicitfast"/>
      <worldbody>
        <camera name="front" pos="0 -4 1" xyaxes="1 0 0 0 0 1"/>
        <body name="cart" pos="0 0 1">
          <joint name="slider" type="slide" axis="1 0 0" range="-1.8 1.8" limited="true" damping="0.1"/>
          <geom type="box" size="0.15 0.1 0.05" mass="1"/>
          <body name="pole">
            <joint name="hinge" type="hinge" axis="0 1 0" damping="0.01"/>
            <geom type="capsule" fromto="0 0 0 0 0 1" size="0.03" mass="0.2"/>
          </body>
        </body>
      </worldbody>
      <actuator><motor joint="slider" gear="10" ctrlrange="-1 1"/></actuator>
    </mujoco>"""
    substeps = 2  # of 0.01 s: the policy acts 50 times a second
    episode_steps = 250
    camera = "front"
    varied = ("body_mass",)  # fields of the model that differ between simulations
    mass = (0.5, 2.0)  # factor on the mass of the pole: an option, which `env.options` in a recipe may set
    push_speed = 0.5  # m/s

    def setup(self) -> None:
        """Look up what the task needs of the model."""
        self.pole = self.model.body("pole").id

    def randomise(self, rows: Tensor) -> None:
        """Draw the masses of the poles of `rows`, whose episodes begin."""
        self.model_field("body_mass")[rows, self.pole] *= self.uniform(rows, *self.mass)

    def reset(self, rows: Tensor) -> None:
        """Draw the initial states of `rows`."""
        self.qpos[rows] = self.uniform(rows, -0.2, 0.2, size=2)

    def push(self, rows: Tensor) -> None:
        """Push the carts of `rows`."""
        self.qvel[rows, 0] += self.uniform(rows, -self.push_speed, self.push_speed)

    def push_interval(self, rows: Tensor) -> float:
        """Return the seconds between two pushes."""
        return 1.0

    def observation(self) -> Mapping[str, Tensor]:
        """Return what the policy sees."""
        angle = self.qpos[:, 1:]
        return {"cart": self.qpos[:, :1], "pole": torch.cat([angle.sin(), angle.cos()], 1), "speeds": self.qvel}

    def reward(self) -> Tensor:
        """Return 1 for each step with the pole upright and the cart in the middle, less elsewhere."""
        return self.qpos[:, 1].cos() - 0.1 * self.qpos[:, 0].square()

    def termination(self) -> Tensor:
        """Return whether the pole has fallen."""
        return self.qpos[:, 1].abs() > 0.8


def main() -> None:
    settings = {"env.id": f"{__file__}:Balance", "env.count": 64, "total_steps": 60_000}
    result = flowrl.train("pendulum", settings)
    summary = flowrl.evaluate(result.folder, episodes=64)
    print(f"{result.folder}: return {summary['return_mean']:.1f} of 250, length {summary['length_mean']:.0f} steps")


if __name__ == "__main__":
    main()
