"""A task in play: its simulations, their clocks and their random numbers, before any environment interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowrl.envs.simulation import Image, Simulation
from flowrl.envs.suite import TASKS
from flowrl.envs.suite.task import Constants, Task
from flowrl.errors import UsageError, did_you_mean


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: a row of numbers per simulation gains nothing from more, whose waiting takes the cores
    from the physics, and whose number could show in the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Arena:
    """`count` episodes of the task called `task`, with the numbers of `profile`, on `threads` threads (0: all cores).

    Raises UsageError for a task or profile that does not exist.
    """

    def __init__(self, task: str, count: int, profile: str = "dmc", threads: int = 0) -> None:
        kind, self.constants = chosen(task, profile)
        self.simulation = Simulation(kind.build(self.constants), count, kind.derived, kind.varied, threads)
        self.task: Task[Any] = kind(self.simulation, self.constants)
        self.control = self.simulation.bind("ctrl").numpy()  # (count, action), live
        self.count = count
        self.observation_size = sum(self.task.observation_parts.values())
        self.action_size = self.control.shape[1]
        self.random = torch.Generator()
        self.elapsed: NDArray[np.int64] = np.zeros(count, dtype=np.int64)  # control steps since the start
        self.everyone = torch.arange(count)
        self.rate = round(1 / self.constants.control_timestep)  # control steps per second

    def start(self, rows: Tensor) -> Tensor:
        """Begin new episodes in `rows` and return what they show (rows, observation)."""
        with one_thread():
            self.simulation.reset(rows)
            self.task.reset(rows, self.random)
            self.simulation.forward(rows)
            self.elapsed[rows.numpy()] = 0
            return self.task.observation()[rows]

    def step(self, actions: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Apply `actions` (count, action) for a control step; observation (count, observation) and reward (count,).

        Both are NaN where the simulation is lost. Raises ValueError for an action that is not finite or of another
        shape.
        """
        if not np.isfinite(actions).all():  # MuJoCo would put zeros in their place
            raise ValueError(f"an action is not finite: {actions}")
        self.control[:] = actions.reshape(self.control.shape)
        with one_thread():
            self.simulation.step(self.constants.substeps)
            self.elapsed += 1
            observation, reward = self.task.observation(), self.task.reward()
            lost = self.simulation.lost()
            if lost.any():
                observation[lost] = reward[lost] = torch.nan
        return observation, reward

    def render(self, row: int, height: int, width: int, camera: int | str) -> Image:
        """A picture (height, width, 3) of one episode; raises MissingDependency without a graphics library."""
        return self.simulation.render(row, height, width, camera)

    def state(self) -> dict[str, Any]:
        """Everything the next steps depend on, as arrays."""
        simulation = {name: tensor.numpy() for name, tensor in self.simulation.snapshot().items()}
        random = self.random.get_state().numpy()
        return {"simulation": simulation, "elapsed": self.elapsed.copy(), "random": random}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state()` of an Arena made with the same arguments (`threads` may differ)."""
        simulation = {name: torch.from_numpy(array) for name, array in state["simulation"].items()}
        self.simulation.restore(simulation)
        self.elapsed = np.array(state["elapsed"])
        self.random.set_state(torch.from_numpy(state["random"]))

    def close(self) -> None:
        """Release what `render` took."""
        self.simulation.close()


def chosen(task: str, profile: str) -> tuple[type[Task[Any]], Constants]:
    """A task's class and the numbers of one of its profiles; raises UsageError for names that do not exist."""
    if task not in TASKS:
        raise UsageError(
            f"there is no task {task!r}.{did_you_mean(task, TASKS)} They are {', '.join(TASKS)}."
        )
    kind, profiles = TASKS[task]
    if profile not in profiles:
        raise UsageError(
            f"{task} has no profile {profile!r}.{did_you_mean(str(profile), profiles)} They are "
            f"{', '.join(profiles)}."
        )
    return kind, profiles[profile]
