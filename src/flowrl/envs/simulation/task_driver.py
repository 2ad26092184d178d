"""What a runner calls of a public `Task`: its methods in their order, and all that it gets without code of its own.

That is commands, pushes, noise, delays, randomised models, means of measures, and the state that a run saves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mujoco
import torch
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed, FlowrlError, UsageError, in_one_line
from flowrl.envs.simulation import model_file, task_options
from flowrl.envs.simulation.attributes import NotSaved, Reader, Writer
from flowrl.envs.simulation.delay import Delay
from flowrl.envs.simulation.global_generators import GlobalGenerators
from flowrl.envs.simulation.protocol import Simulation
from flowrl.envs.simulation.simulation_task import SimulationTask, TaskConstants
from flowrl.envs.simulation.task import Task
from flowrl.envs.simulation.task_checks import TaskChecks
from flowrl.envs.simulation.task_observation import TaskObservation
from flowrl.envs.simulation.timer import NEVER, Timer

UNSAVED = frozenset(
    ("simulation", "model", "count", "rows", "dt", "random", "qpos", "qvel", "ctrl", "_never", "_live", "_bound")
)
"""Attributes of a task that are its driver's, and no state."""


@dataclass(frozen=True, kw_only=True)
class DrivenConstants(TaskConstants):
    """The numbers of a public task that its runner reads, and the options that replace attributes of the class."""

    options: Mapping[str, Any] = field(default_factory=dict)


class TaskKind:
    """A Task class as a runner wants it: what it declares, its model, and the driver of its simulations."""

    reads_forces = False
    settles = False

    def __init__(self, task: type[Task]) -> None:
        self.task = task
        self.derived, self.varied = tuple(task.derived), tuple(task.varied)

    def build(self, constants: DrivenConstants) -> mujoco.MjModel:
        """Compile the model; raises UsageError for what MuJoCo refuses, and for fields that it does not have."""
        model = model_file.compiled(self.task)
        task_options.check_declarations(self.task, model)
        return model

    def __call__(self, simulation: Simulation, constants: DrivenConstants) -> TaskDriver:
        return TaskDriver(self.task, simulation, constants)


class Kept:
    """What a driver keeps of the running episodes beside the task's own attributes."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.commands, self.pushes = Timer(count, device), Timer(count, device)
        self.action_delay, self.observation_delay = Delay(count, device), Delay(count, device)
        self.sums: dict[str, Tensor] = {}  # (count,) of each measure over the episode


class TaskDriver(SimulationTask[DrivenConstants]):
    """Runs `kind`, a subclass of Task, on `simulation`.

    The task is tried once when it is made, on simulations that are put back afterwards: every method is called, so
    that a wrong shape, a missing method or an attribute that cannot be saved is reported before a run begins. An
    unstable simulation ends its episode, with the reward 0 and an observation of zeros.
    """

    terminates_if_unstable = True

    def __init__(self, kind: type[Task], simulation: Simulation, constants: DrivenConstants) -> None:
        super().__init__(simulation, constants)
        self.name = kind.__name__
        self.checks = TaskChecks(self.name, simulation.count)
        self.user = self._made(kind)
        self.kept = Kept(simulation.count, simulation.device)
        self._nominal = {name: simulation.expand(name)[0].clone() for name in kind.varied}
        self._recomputed = any(name in mujoco.MjModel._setconst_inputs for name in kind.varied)
        self._key = self._keyframe()
        self._reward, self._ends, self._cut = self.user.zeros(), self.never, self.never
        self._bad: Tensor | None = None  # (count,) where simulations are unstable, if any is
        self._observation = TaskObservation(self.user, self._call, self.checks)
        generators = GlobalGenerators(self.name)
        self._call("setup")
        self._initial = self.state()
        self.measures = self._tried()
        generators.refuse_draws()

    def _made(self, kind: type[Task]) -> Task:
        """Make the task with its options, and give it what it may use in `setup`."""
        simulation, count = self.simulation, self.simulation.count
        try:
            user = kind()
        except TypeError as error:
            raise UsageError(
                f"{self.name} cannot be made without arguments ({error}). Write setup(self) instead of __init__; "
                "numbers of a task are attributes of its class, which env.options of a recipe sets."
            ) from None
        for name, value in self.constants.options.items():
            setattr(user, name, value)
        user.simulation, user.model, user.count, user.dt = simulation, simulation.model, count, self.control_timestep
        user.rows = torch.arange(count, device=simulation.device)
        user.random = torch.Generator()
        user._never, user._live = self.never, {}
        user.qpos, user.qvel, user.ctrl = (user.data(name) for name in ("qpos", "qvel", "ctrl"))
        user.action, user.previous_action = user.ctrl.clone(), user.ctrl.clone()
        user.command, user.steps = user.zeros(0), torch.zeros(count, dtype=torch.int64, device=simulation.device)
        return user

    def _call(self, method: str, *arguments: Any) -> Any:
        """Return the result of a method of the task; what it raises becomes one paragraph with the method's name."""
        try:
            return getattr(self.user, method)(*arguments)
        except FlowrlError:
            raise
        except NotImplementedError:
            raise UsageError(
                f"{self.name} has no method {method}: write def {method}(self) that returns a tensor (count,), a "
                "number for each simulation."
            ) from None
        except Exception as error:
            raise EnvironmentFailed(f"{self.name}.{method} failed: {in_one_line(error)}") from error

    def use(self, random: torch.Generator) -> None:
        self.user.random = random

    # The start of an episode.

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        user, kept = self.user, self.kept
        user.random = random
        disturbed = user.disturbances
        for name, value in self._nominal.items():
            self.simulation.expand(name)[rows] = value
        if self._nominal and disturbed:
            self._call("randomise", rows)
        if self._recomputed:
            self.simulation.recompute(rows)
        for bound, value in self._key:
            bound[rows] = value
        self._call("reset", rows)
        user.steps[rows] = 0
        user.action[rows] = user.previous_action[rows] = self.ctrl[rows]
        for total in kept.sums.values():
            total[rows] = 0
        self._new_commands(rows)
        if disturbed:
            kept.pushes.set(rows, self._steps("push_interval", rows, first=True))
            kept.action_delay.begin(rows, self._delays("action_delay", rows), self.ctrl[rows])

    def observation_rows(self, rows: Tensor) -> Tensor:
        """Observe `rows` after their reset, which begins the delay of what they observe."""
        self._call("update")
        seen = self._observation.noisy(self._observation.exact()[rows])
        if self.user.disturbances:
            self.kept.observation_delay.begin(rows, self._delays("observation_delay", rows), seen)
        return seen

    def _new_commands(self, rows: Tensor) -> None:
        drawn = self._call("draw_command", rows)
        command = self.checks.rows("draw_command", drawn, len(rows), self.user.command)
        if self.user.command.shape[1] != command.shape[1]:
            self.user.command = self.user.zeros(command.shape[1])
        self.user.command[rows] = command
        self.kept.commands.set(rows, self._steps("command_interval", rows))

    def hold_command(self, rows: Tensor, values: Sequence[float]) -> None:
        """Give `rows` the command `values` until their next reset, for a viewer: none is drawn meanwhile."""
        self.user.command[rows] = self.user.command.new_tensor(values)
        self.kept.commands.set(rows, torch.full((len(rows),), NEVER, device=rows.device))

    def _steps(self, interval: str, rows: Tensor, first: bool = False) -> Tensor:
        """Return the control steps (rows,) of an interval in seconds; of a part of it where it is the `first`."""
        seconds = self.checks.seconds(interval, self._call(interval, rows), len(rows))
        if first and seconds.isfinite().any():
            part = torch.rand(len(rows), dtype=torch.float64, generator=self.user.random)
            seconds = seconds * part.to(seconds.device)
        return (seconds / self.user.dt - 1e-9).ceil().clamp(1, NEVER).to(torch.int64)

    def _delays(self, delay: str, rows: Tensor) -> Tensor:
        return self.checks.delays(delay, self._call(delay, rows), len(rows))

    # A control step.

    def before_step(self) -> None:
        user, kept = self.user, self.kept
        user.previous_action, user.action = user.action, self.ctrl.clone()
        if user.disturbances:
            delayed = kept.action_delay(user.action)
            if delayed is not user.action:
                self.ctrl.copy_(delayed)
            if (rows := kept.pushes.advance()) is not None:
                self._call("push", rows)
                kept.pushes.set(rows, self._steps("push_interval", rows))
        self._call("before_step")

    def after_step(self) -> None:
        """Judge the step by the command that it was taken for, and draw the commands that are due afterwards."""
        user, kept, checks = self.user, self.kept, self.checks
        user.steps += 1
        if self.simulation.overflowed():
            raise EnvironmentFailed(
                f"{self.name}.xml: a simulation has more contacts than its memory of {self.simulation.model.narena:,} "
                'bytes holds, and MuJoCo would leave some out. Give the model more: <size memory="8M"/>.'
            )
        unstable = self.simulation.unstable()
        self._bad = unstable if unstable.any() else None
        self._call("update")
        self._call("after_step")
        self._reward = checks.numbers("reward", self._call("reward"), self.qpos.dtype, self._bad)
        self._ends = checks.flags("termination", self._call("termination"))
        self._cut = checks.flags("truncation", self._call("truncation"))
        if self._bad is not None:
            self._ends = self._ends | self._bad
        for name, value in self._call("measure").items():
            number = checks.numbers(f"measure ({name})", value, self.qpos.dtype, self._bad)
            kept.sums[name] = kept.sums[name] + number if name in kept.sums else number.clone()
        if (rows := kept.commands.advance()) is not None:
            self._new_commands(rows)

    def observation(self) -> Tensor:
        seen = self._observation.exact()
        if self._bad is not None:
            seen[self._bad] = 0
        self.checks.finite("observation", seen)
        seen = self._observation.noisy(seen)
        return self._observation.late(seen, self.kept.observation_delay(seen)) if self.user.disturbances else seen

    def reward(self) -> Tensor:
        return self._reward

    def terminated(self) -> Tensor:
        return self._ends

    def truncated(self) -> Tensor:
        return self._cut

    @property
    def observation_parts(self) -> Mapping[str, int]:
        return self._observation.sizes

    # What the runner saves, and the trial.

    def state(self) -> dict[str, Any]:
        """Return the attributes of the task, and what is kept beside them."""
        writer = Writer(self.user._live)
        own = {name: value for name, value in vars(self.user).items() if name not in UNSAVED}
        try:
            encoded = [writer.attributes(self.user, own), writer.attributes(self.kept, vars(self.kept))]
        except NotSaved as error:
            raise UsageError(str(error)) from None
        return {"attributes": [*encoded, writer.memory]}

    def restore(self, state: Mapping[str, Any]) -> None:
        own, kept, memory = state["attributes"]
        reader = Reader(self.user._bind, memory)
        reader.put(self.user, own)
        reader.put(self.kept, kept)

    def clear(self) -> None:
        """Put the task back to where `setup` left it."""
        for name in vars(self.user).keys() - UNSAVED - {name for name, _ in self._initial["attributes"][0]}:
            delattr(self.user, name)
        self.restore(self._initial)

    def report(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the means of the measures over the episodes of `rows`, and what the task reports of them."""
        steps = self.user.steps[rows].clamp(min=1)
        found = {name: total[rows] / steps for name, total in self.kept.sums.items()}
        for name, value in self._call("report", rows).items():
            if not isinstance(value, Tensor) or value.shape != rows.shape:
                raise EnvironmentFailed(f"{self.name}.report: {name!r} is not a tensor ({len(rows)},), one per row.")
            found[name] = value
        return found

    def _keyframe(self) -> list[tuple[Tensor, Tensor]]:
        """Return the fields of the state with their values in the keyframe, if the task names one."""
        if not self.user.keyframe:
            return []
        key = self.simulation.model.key(task_options.key_number(self.name, self.user.model, self.user.keyframe))
        fields = {"qpos": key.qpos, "qvel": key.qvel, "ctrl": key.ctrl, "act": key.act}
        return [(self.simulation.bind(name), self.user.constant(value)) for name, value in fields.items() if value.size]

    def _tried(self) -> tuple[str, ...]:
        """Call every method once, put task and simulations back, and return the names of the measures."""
        user, rows, simulation = self.user, self.user.rows, self.simulation
        simulation.reset(rows)
        self.reset(rows, torch.Generator().manual_seed(0))
        simulation.forward(rows)
        self._call("update")
        self._observation.prepare()
        self.observation_rows(rows)
        if user.disturbances:
            self._call("push", rows)
        self.before_step()
        simulation.step()
        self.after_step()
        self.observation()
        names = tuple(name for name in self.report(rows) if name not in ("success", "is_success"))
        self.state()
        simulation.reset(rows)
        self.clear()
        user._bound = True
        return names
