"""Starts of episodes that take physics steps to settle, made many at a time in a second simulation.

MuJoCo Warp always steps all its simulations: settling the one start that an episode needs would cost as many steps of
all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowrl.envs.simulation.mujoco_warp import MujocoWarp
from flowrl.envs.simulation.protocol import Simulation
from flowrl.envs.simulation.simulation_task import SimulationTask


class Nursery:
    """The starts of episodes in `simulation`, which `task`, one without a state of its own, makes in another one.

    They are handed out in the order in which they are drawn, so that each number of a seed's stream makes the same
    start as it would without a nursery.
    """

    def __init__(self, task: SimulationTask[Any], simulation: Simulation) -> None:
        if not isinstance(task.simulation, MujocoWarp) or not isinstance(simulation, MujocoWarp):
            raise TypeError("a nursery is for MuJoCo Warp, which cannot step some simulations alone")
        self.task, self.simulation, self._served = task, task.simulation, simulation
        self.used = self.simulation.count  # starts that have been handed out

    def clear(self) -> None:
        """Forget the starts that are left: the next ones are drawn from the present state of the generator."""
        self.used = self.simulation.count

    def hand_out(self, rows: Tensor, random: torch.Generator) -> None:
        """Put a new start, as after a `forward`, into each of the simulations `rows` (rows,) int64."""
        while len(rows):
            if self.used == self.simulation.count:
                self._settle(random)
            taken = min(len(rows), self.simulation.count - self.used)
            picks = torch.arange(self.used, self.used + taken, device=rows.device)
            self._served.take(rows[:taken], self.simulation, picks)
            self.used += taken
            rows = rows[taken:]

    def _settle(self, random: torch.Generator) -> None:
        """Settle as many starts as there are simulations."""
        self.simulation.reset()
        self.task.reset(torch.arange(self.simulation.count, device=self.simulation.device), random)
        self.simulation.forward()
        self.used = 0

    def state(self) -> dict[str, Any]:
        """Copy the starts that are left."""
        return {"simulation": self.simulation.snapshot(), "used": self.used}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state()`."""
        self.simulation.restore(state["simulation"])
        self.used = int(state["used"])
