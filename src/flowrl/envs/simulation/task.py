"""The public class with which a task on one's own robot is written: `from flowrl.envs import Task`.

A task is written once over the batch: its tensors have a row per simulation, and it never loops over them. docs/
mujoco_tasks.md explains every method by an example.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import mujoco
import torch
from torch import Tensor

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.envs.simulation.protocol import Simulation

Numbers = float | Sequence[float] | Tensor


class Task:
    """A robot task on MuJoCo over `count` simulations, which are stepped together on all cores.

    A subclass gives `xml` and `reward`; every other method has a default. Tensors are float64 and have a row per
    simulation; units are MuJoCo's (m, rad, s, kg, N). Whatever the task keeps in its attributes (tensors, numbers,
    lists, dicts) is saved in checkpoints and restored, and so is the random generator behind `uniform`, `normal` and
    `integers`: a run resumes exactly, at any number of threads. Random numbers from elsewhere are refused.

    At an episode's start: the model's state or its `keyframe`, `randomise`, `reset`, `draw_command`, `update`,
    `observation`. In a control step: the delayed action is applied, `push` where it is due, `before_step`, the
    physics, `update`, `after_step`, `reward`, `termination`, `truncation`, `measure`, `draw_command` where it is due,
    `observation` with its noise and delay.

    Plain numbers, texts and tuples among the attributes of the class are its options: `env.options` of a recipe sets
    them by name. Where `disturbances` is false, `randomise`, `push`, noise and delays are left out.
    """

    xml: ClassVar[str | Path | mujoco.MjSpec]
    """The model: a file, relative to that of the class; MJCF text; or an MjSpec."""
    substeps: int = 1
    """Physics steps per control step."""
    episode_steps: int = 1000
    """Control steps after which an episode is truncated."""
    keyframe: str = ""
    """The keyframe of the model in which episodes begin, before `reset`; "" for the model's own state."""
    camera: int | str = 0
    """The camera of pictures, by its name or number in the model."""
    derived: ClassVar[tuple[str, ...]] = ()
    """MjData fields beyond the state that are up to date after a step; others lag by one physics step. They cost time:
    for positions and velocities of bodies, sites and sensors half a physics step more per control step."""
    varied: ClassVar[tuple[str, ...]] = ()
    """MjModel fields that differ between simulations; `randomise` writes them."""
    known_parts: ClassVar[tuple[str, ...]] = ()
    """Parts of the observation that the controller knows rather than senses, such as its last action: not delayed."""
    disturbances: bool = True
    """Whether models are randomised, robots pushed, observations noisy, and both ends delayed."""

    simulation: Simulation
    model: mujoco.MjModel  # the nominal one
    count: int  # simulations
    rows: Tensor  # (count,) int64: all of them
    dt: float  # s, per control step
    random: torch.Generator  # the only source of random numbers; on the CPU
    qpos: Tensor  # (count, nq), live and writable
    qvel: Tensor  # (count, nv), likewise
    ctrl: Tensor  # (count, nu), likewise: what the actuators get, after the delay
    action: Tensor  # (count, nu): the policy's present action, in the units of `ctrl`
    previous_action: Tensor  # (count, nu): the one before it
    command: Tensor  # (count, command): what `draw_command` drew last
    steps: Tensor  # (count,) int64: control steps since the episode began

    def setup(self) -> None:
        """Bind what the task reads and make what it keeps; called once, when the simulations exist."""

    def randomise(self, rows: Tensor) -> None:
        """Change `model_field`s of the simulations `rows` (rows,) int64 for their next episode.

        The fields hold the model's nominal values when this is called. They must be declared in `varied`.
        """

    def reset(self, rows: Tensor) -> None:
        """Change the initial states of `rows` (rows,) int64, which are in the `keyframe` or the model's state."""

    def observation(self) -> Tensor | Mapping[str, Tensor]:
        """Return the observation (count, size), or its parts by name, each (count, size) or (count,).

        The default is positions and velocities. Where there are commands, the part "command" is appended unless the
        task returns one. Noise and delay are added afterwards.
        """
        return {"position": self.qpos, "velocity": self.qvel}

    def reward(self) -> Tensor:
        """Return the reward (count,) for having arrived in the present state by the present `action`."""
        raise NotImplementedError

    def termination(self) -> Tensor:
        """Return where (count,) bool the episode has ended without a future to value, such as a fall."""
        return self._never

    def truncation(self) -> Tensor:
        """Return where (count,) bool the episode is cut short though its future still has a value."""
        return self._never

    def update(self) -> None:
        """Compute from the present state what several methods share; called after the physics and after a reset."""

    def before_step(self) -> None:
        """Keep what the reward compares with; called with the new `ctrl`, before the physics."""

    def after_step(self) -> None:
        """Advance what the task keeps over time, such as a timer; called after the physics and `update`."""

    def noise(self) -> Mapping[str, Numbers]:
        """Return half the width of the uniform noise on parts of the observation, by name, in their units.

        It is asked once. A part's value is one number or one for each of its columns.
        """
        return {}

    def action_delay(self, rows: Tensor) -> Tensor | int:
        """Return by how many control steps (rows,) int64 actions arrive late in the next episodes of `rows`."""
        return 0

    def observation_delay(self, rows: Tensor) -> Tensor | int:
        """Return by how many control steps (rows,) int64 observations, but the `known_parts` and the command, are
        late in the next episodes of `rows`."""
        return 0

    def push(self, rows: Tensor) -> None:
        """Disturb the simulations `rows` (rows,) int64, for instance by adding to `qvel`; see `push_interval`."""

    def push_interval(self, rows: Tensor) -> Tensor | float:
        """Return the seconds (rows,) until the next `push` of `rows`; infinite, the default, for none.

        The first push of an episode comes after a uniformly drawn part of such an interval.
        """
        return math.inf

    def draw_command(self, rows: Tensor) -> Tensor:
        """Return new commands (rows, command) for `rows` (rows,) int64, such as target velocities in m/s.

        The reward of a step is for the command that the policy saw before it.
        """
        return self.qpos.new_empty(len(rows), 0)

    def command_interval(self, rows: Tensor) -> Tensor | float:
        """Return the seconds (rows,) until `draw_command` is called again in the episode; infinite by default."""
        return math.inf

    def measure(self) -> Mapping[str, Tensor]:
        """Return numbers (count,) about the present step, by name; `flowrl eval` shows their means over episodes."""
        return {}

    def report(self, rows: Tensor) -> Mapping[str, Tensor]:
        """Return numbers (rows,) about the episodes of `rows` that end now, by name, for `flowrl eval`.

        One named `success`, 0 or 1, becomes the success rate.
        """
        return {}

    # What the methods above use.

    def data(self, field: str) -> Tensor:
        """Return an MjData field (count, …), live: the state's may be written, others are read-only.

        Fields in `derived` are up to date after a step, others belong to its last physics step but one. Raises
        UsageError for a field that MuJoCo does not have.
        """
        try:
            bound = self.simulation.bind(field)
        except ValueError:
            bound = self._latest(field)
        return self._keep_live(f"data {field}", bound)

    def sensor(self, first: str, *others: str) -> Tensor:
        """Return the readings (count, size) of sensors of the model, live; several must be neighbours in the model.

        Raises UsageError for a name that the model does not have, and for sensors that are not neighbours.
        """
        columns = [self._sensor_columns(name) for name in (first, *others)]
        if any(before.stop != after.start for before, after in pairwise(columns)):
            raise UsageError(
                f"{type(self).__name__}: the sensors {', '.join((first, *others))} are not neighbours in this order in "
                "the model; ask for them one by one and join them with torch.cat."
            )
        return self.data("sensordata")[:, columns[0].start : columns[-1].stop]

    def model_field(self, field: str) -> Tensor:
        """Return an MjModel field (count, …) with its own values in every simulation, live and writable.

        Raises UsageError unless it is declared in `varied`.
        """
        if field not in self.varied:
            name = type(self).__name__
            raise UsageError(
                f"{name}.model_field({field!r}): the field is not declared. Write varied = ({field!r},) in the body of "
                f"class {name}.{did_you_mean(field, self.varied)}"
            )
        return self._keep_live(f"model {field}", self.simulation.expand(field))

    def constant(self, values: Any) -> Tensor:
        """Copy numbers (a list, an array or a tensor of any shape) to a tensor of the simulation's type and device."""
        return self.simulation.constant(values)

    def zeros(self, *shape: int) -> Tensor:
        """Return zeros (count, *shape) of the simulation's type."""
        return self.qpos.new_zeros(self.count, *shape)

    def uniform(self, rows: Tensor, low: Numbers, high: Numbers, size: int | None = None) -> Tensor:
        """Draw independent uniform numbers between `low` and `high` for `rows` (rows,).

        They are (rows, size) where `size` is given or a bound is a vector (size,), and (rows,) otherwise.
        """
        low, high = self._number(low), self._number(high)
        shape = (len(rows), size) if size is not None else (len(rows), *(low.shape or high.shape))
        return low + (high - low) * self._drawn(torch.rand(shape, dtype=torch.float64, generator=self.random))

    def normal(self, rows: Tensor, std: Numbers = 1.0, size: int | None = None) -> Tensor:
        """Draw independent normal numbers of mean 0 and standard deviation `std` for `rows`, shaped as `uniform`'s."""
        std = self._number(std)
        shape = (len(rows), size) if size is not None else (len(rows), *std.shape)
        return std * self._drawn(torch.randn(shape, dtype=torch.float64, generator=self.random))

    def integers(self, rows: Tensor, low: int, high: int) -> Tensor:
        """Draw independent whole numbers (rows,) int64 from `low` to `high`, both included, for `rows`."""
        return torch.randint(low, high + 1, (len(rows),), generator=self.random).to(self.rows.device)

    # What the driver of the task sets up; see `task_driver`.

    _never: Tensor  # (count,) bool, false
    _live: dict[str, Tensor]  # the fields that were handed out, by name
    _bound: bool = False  # whether all have been that a run would not save otherwise

    def _bind(self, name: str) -> Tensor:
        """Return the field that `_live` has, or would have, under this name."""
        kind, _, field = name.partition(" ")
        return self.model_field(field) if kind == "model" else self.data(field)

    def _keep_live(self, name: str, field: Tensor) -> Tensor:
        """Remember `field` as the simulation's memory, which is no state of the task."""
        return self._live.setdefault(name, field)

    def _latest(self, field: str) -> Tensor:
        if not hasattr(mujoco.MjData, field):
            known = [name for name in dir(mujoco.MjData) if not name.startswith("_")]
            raise UsageError(
                f"{type(self).__name__}: MuJoCo's data have no field {field!r}.{did_you_mean(field, known)}"
            )
        if self._bound and f"data {field}" not in self._live:
            raise UsageError(
                f"{type(self).__name__}.data({field!r}) is called for the first time in the middle of a run. Call it "
                "in setup and keep what it returns: it always shows the present values."
            )
        return self.simulation.latest(field)

    def _sensor_columns(self, name: str) -> slice:
        names = [self.model.sensor(number).name for number in range(self.model.nsensor)]
        if name not in names:
            raise UsageError(
                f"{type(self).__name__}: the model has no sensor {name!r}.{did_you_mean(name, names)} It has "
                f"{', '.join(names) or 'none'}."
            )
        number = names.index(name)
        start = int(self.model.sensor_adr[number])
        return slice(start, start + int(self.model.sensor_dim[number]))

    def _number(self, value: Numbers) -> Tensor:
        return value.to(self.qpos) if isinstance(value, Tensor) else self.qpos.new_tensor(value)

    def _drawn(self, numbers: Tensor) -> Tensor:
        """Move float64 draws, the same for every engine, to the simulation's type and device."""
        return numbers.to(self.qpos)
