"""A task in play: its simulations, their clocks and their random numbers, before any environment interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowrl.envs.simulation.mujoco_batch import Image, Simulation
from flowrl.envs.simulation.task import (
    EndsWhereLost,
    HasGhost,
    LooksBack,
    ReadsForces,
    Remembers,
    Reports,
    ShowsRows,
    Task,
    TaskConstants,
    Terminates,
    Truncates,
)


class StepResult(NamedTuple):
    """What a control step of all episodes gave."""

    observation: Tensor  # (count, observation) float64
    reward: Tensor  # (count,) float64
    terminated: NDArray[np.bool_]  # (count,)
    truncated: NDArray[np.bool_]  # (count,) by the task; a limit on steps is the environment's


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


class TaskRunner:
    """`count` episodes of a task of this `kind` with these `constants`, on `threads` threads (0: all cores)."""

    def __init__(self, kind: type[Task[Any]], constants: TaskConstants, count: int, threads: int = 0) -> None:
        self.constants = constants
        self.simulation = Simulation(
            kind.build(constants), count, kind.derived, kind.varied, threads, isinstance(kind, ReadsForces)
        )
        self.task: Task[Any] = kind(self.simulation, constants)
        self.control = self.simulation.bind("ctrl").numpy()  # (count, action), live
        self.count = count
        self.observation_size = sum(self.task.observation_parts.values())
        self.action_size = self.control.shape[1]
        self.random = torch.Generator()
        self.elapsed: NDArray[np.int64] = np.zeros(count, dtype=np.int64)  # control steps since the start
        self.everyone = torch.arange(count)
        control_timestep = self.simulation.model.opt.timestep * constants.substeps
        self.rate = round(1 / control_timestep)  # control steps per second
        self._looks_back = self.task if isinstance(self.task, LooksBack) else None
        self._terminates = self.task if isinstance(self.task, Terminates) else None
        self._shows_rows = self.task if isinstance(self.task, ShowsRows) else None
        self._truncates = self.task if isinstance(self.task, Truncates) else None
        self._remembers = self.task if isinstance(self.task, Remembers) else None
        self._reports = self.task if isinstance(self.task, Reports) else None
        self._has_ghost = self.task if isinstance(self.task, HasGhost) else None
        self._ends_where_lost = isinstance(self.task, EndsWhereLost)

    def seed(self, seed: int) -> None:
        """Let everything that is drawn from now on follow from `seed`; a `start` of everyone comes next."""
        self.random.manual_seed(seed)
        if self._remembers is not None:
            self._remembers.forget()

    def start(self, rows: Tensor) -> Tensor:
        """Begin new episodes in `rows` and return what they show (rows, observation)."""
        with one_thread():
            self.simulation.reset(rows)
            self.task.reset(rows, self.random)
            self.simulation.forward(rows)
            self.elapsed[rows.numpy()] = 0
            if self._shows_rows is not None:
                return self._shows_rows.shown_in(rows)
            return self.task.observation()[rows]

    def step(self, actions: NDArray[Any]) -> StepResult:
        """Apply `actions` (count, action) for a control step.

        Observation and reward are NaN where the simulation is lost, unless the task `EndsWhereLost`. Raises
        ValueError for an action that is not finite or of another shape.
        """
        if actions.shape != self.control.shape:
            raise ValueError(f"actions have the shape {actions.shape}, not {self.control.shape}")
        if not np.isfinite(actions).all():  # MuJoCo would put zeros in their place
            raise ValueError(f"an action is not finite: {actions}")
        self.control[:] = actions
        with one_thread():
            if self._looks_back is not None:
                self._looks_back.before()
            self.simulation.step(self.constants.substeps)
            self.elapsed += 1
            if self._remembers is not None:
                self._remembers.after()
            observation, reward = self.task.observation(), self.task.reward()
            terminated = truncated = np.zeros(self.count, dtype=np.bool_)
            if self._terminates is not None:
                terminated = self._terminates.terminated().numpy()
            if self._truncates is not None:
                truncated = self._truncates.truncated().numpy()
            if not self._ends_where_lost:
                lost = self.simulation.lost()
                if lost.any():
                    observation[lost] = reward[lost] = torch.nan
        return StepResult(observation, reward, terminated, truncated)

    def report(self, rows: Tensor) -> dict[str, NDArray[Any]]:
        """What the task tells of the episodes of `rows`, (rows,) each; nothing, where it has nothing to tell."""
        if self._reports is None:
            return {}
        with one_thread():
            return {name: numbers.numpy() for name, numbers in self._reports.report(rows).items()}

    def render(self, row: int, height: int, width: int, camera: int | str) -> Image:
        """A picture (height, width, 3) of one episode; raises MissingDependency without a graphics library."""
        ghost = None if self._has_ghost is None else self._has_ghost.ghost(row)
        return self.simulation.render(row, height, width, camera, ghost)

    def state(self) -> dict[str, Any]:
        """Everything the next steps depend on, as arrays."""
        simulation = {name: tensor.numpy() for name, tensor in self.simulation.snapshot().items()}
        random = self.random.get_state().numpy()
        state = {"simulation": simulation, "elapsed": self.elapsed.copy(), "random": random}
        if self._remembers is not None:
            state["task"] = {name: tensor.numpy() for name, tensor in self._remembers.state().items()}
        return state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state()` of a TaskRunner made with the same arguments (`threads` may differ)."""
        simulation = {name: torch.from_numpy(array) for name, array in state["simulation"].items()}
        self.simulation.restore(simulation)
        self.elapsed = np.array(state["elapsed"])
        self.random.set_state(torch.from_numpy(state["random"]))
        if self._remembers is not None:
            task = {name: torch.from_numpy(array) for name, array in state["task"].items()}
            self._remembers.restore(task)

    def close(self) -> None:
        """Release what `render` took."""
        self.simulation.close()
