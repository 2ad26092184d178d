"""The simulations, clocks and random generator of a task, before any environment interface; all in torch tensors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import mujoco
import numpy as np
import torch
from torch import Tensor

from flowrl.envs.simulation.mujoco_batch import MujocoBatch
from flowrl.envs.simulation.nursery import Nursery
from flowrl.envs.simulation.protocol import Image, Simulation, SimulationFactory
from flowrl.envs.simulation.simulation_task import SimulationTask, TaskConstants


class StepResult(NamedTuple):
    """The result of a control step of all episodes."""

    observation: Tensor  # (count, observation), in the simulation's dtype
    reward: Tensor  # (count,), likewise
    terminated: Tensor  # (count,) bool
    truncated: Tensor  # (count,) bool, by the task; the environment adds its limit on steps


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: for a row of numbers per simulation more threads gain nothing, take the cores from the
    physics while they wait, and could change the last bit of a sum."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TaskFactory(Protocol):
    """What makes the task of a simulation, such as a SimulationTask class, with what it declares of the simulation."""

    @property
    def derived(self) -> tuple[str, ...]:
        """The MjData fields that it binds beyond the state."""
        ...

    @property
    def varied(self) -> tuple[str, ...]:
        """The MjModel fields that it changes in each simulation."""
        ...

    @property
    def reads_forces(self) -> bool:
        """Whether it reads external forces."""
        ...

    @property
    def settles(self) -> bool:
        """Whether its reset steps the simulation."""
        ...

    def build(self, constants: Any) -> mujoco.MjModel:
        """Compile the model."""
        ...

    def __call__(self, simulation: Simulation, constants: Any) -> SimulationTask[Any]:
        """Make the task of `simulation`."""
        ...


class TaskRunner:
    """`count` episodes of the task `kind` with these `constants`.

    `simulator` makes their simulations, on `threads` threads (0: all cores). Where it has a `nursery`, a number, and
    the task settles its starts, so many are settled together in a second simulation.
    """

    def __init__(
        self,
        kind: TaskFactory,
        constants: TaskConstants,
        count: int,
        threads: int = 0,
        simulator: SimulationFactory = MujocoBatch,
    ) -> None:
        self.constants = constants
        self.varied = kind.varied
        model = kind.build(constants)
        self.simulation = simulator(model, count, kind.derived, kind.varied, threads, kind.reads_forces)
        self.task: SimulationTask[Any] = kind(self.simulation, constants)
        self.nursery: Nursery | None = None
        if kind.settles and (size := getattr(simulator, "nursery", 0)):
            starts = simulator(model, size, kind.derived, kind.varied, threads, kind.reads_forces)
            self.nursery = Nursery(kind(starts, constants), self.simulation)
        self.control = self.simulation.bind("ctrl")  # (count, action), live
        self.count = count
        self.observation_size = sum(self.task.observation_parts.values())
        self.action_size = self.control.shape[1]
        self.random = torch.Generator()
        self.task.use(self.random)
        self.seeded = False
        device = self.simulation.device
        self.elapsed = torch.zeros(count, dtype=torch.int64, device=device)  # control steps since the reset
        self.all_rows = torch.arange(count, device=device)
        self.control_rate = round(1 / self.task.control_timestep)  # control steps per second

    def begin(self, random: np.random.Generator, reseed: bool) -> Tensor:
        """Begin new episodes in all rows and return their observations (count, observation).

        With `reseed`, and the first time, the random generator gets a seed from `random`, Gymnasium's, and the task's
        own state is cleared.
        """
        if reseed or not self.seeded:
            self.random.manual_seed(int(random.integers(2**63)))
            self.task.clear()
            if self.nursery is not None:
                self.nursery.clear()
            self.seeded = True
        return self.reset(self.all_rows)

    def reset(self, rows: Tensor) -> Tensor:
        """Begin new episodes in `rows` and return their observations (rows, observation)."""
        with one_thread():
            if self.nursery is not None and len(rows) < self.count:
                self.nursery.hand_out(rows, self.random)
            else:
                self.simulation.reset(rows)
                self.task.reset(rows, self.random)
                self.simulation.forward(rows)
            self.elapsed[rows] = 0
            return self.task.observation_rows(rows)

    def step(self, actions: Tensor) -> StepResult:
        """Apply `actions` (count, action) for a control step.

        Observation and reward are NaN where the simulation is unstable, unless the task `terminates_if_unstable`.
        Raises ValueError for an action that has another shape or, on the CPU, is not finite: to look at actions on a
        GPU would be to wait for it.
        """
        on_cpu = self.simulation.device.type == "cpu"
        if actions.shape != self.control.shape:
            raise ValueError(f"actions have the shape {tuple(actions.shape)}, not {tuple(self.control.shape)}")
        with one_thread():
            # A sum is finite only if all its terms are, and costs a fourth of the exact test.
            if on_cpu and not math.isfinite(actions.sum().item()) and not actions.isfinite().all():
                # MuJoCo would replace them by zeros
                raise ValueError(f"an action is not finite: {actions}")
            self.control.copy_(actions)
            task = self.task
            task.before_step()
            self.simulation.step(self.constants.substeps)
            self.elapsed += 1
            task.after_step()
            observation, reward = task.observation(), task.reward()
            terminated, truncated = task.terminated(), task.truncated()
            if not task.terminates_if_unstable:
                unstable = self.simulation.unstable()
                if not on_cpu or unstable.any():
                    observation.masked_fill_(unstable[:, None], torch.nan)
                    reward.masked_fill_(unstable, torch.nan)
        return StepResult(observation, reward, terminated, truncated)

    def render(self, row: int, height: int, width: int, camera: int | str) -> Image:
        """Draw one episode (height, width, 3); raises MissingDependency without a graphics library."""
        return self.simulation.render(row, height, width, camera, self.task.ghost(row))

    def state(self) -> dict[str, Any]:
        """Copy everything that the next steps depend on."""
        state = {
            "simulation": self.simulation.snapshot(),
            "elapsed": self.elapsed.clone(),
            "random": self.random.get_state(),
        }
        if self.nursery is not None:
            state["nursery"] = self.nursery.state()
        task = self.task.state()
        return state | {"task": task} if task else state

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from `state()` of a TaskRunner made with the same arguments (`threads` may differ)."""
        self.simulation.restore(state["simulation"])
        self.elapsed.copy_(state["elapsed"])
        self.random.set_state(state["random"])
        if self.nursery is not None:
            self.nursery.restore(state["nursery"])
        if "task" in state:
            self.task.restore(state["task"])
