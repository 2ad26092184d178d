"""The MuJoCo simulation behind an environment, for a live viewer: its state, what pushes it, and what it shows."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import mujoco
import numpy as np
from gymnasium.vector import SyncVectorEnv
from numpy.typing import NDArray

from flowrl.contracts.errors import UsageError
from flowrl.envs.adapter import Adapter
from flowrl.envs.rendering import TRACKING
from flowrl.envs.simulation.single_env import TaskEnv
from flowrl.envs.simulation.task_driver import TaskDriver
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import TaskVectorEnv

Floats = NDArray[np.float64]

SHOWN = ("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat")
"""The fields of MjData that a picture depends on."""

VISIBLE = frozenset(
    f"{part}_{what}" for part in ("body", "geom", "site", "cam", "light") for what in ("pos", "quat", "size", "rgba")
)
"""The fields of MjModel by which simulations of one model can look different, such as the place of a target."""

DRAWS = 256
"""Commands that are drawn to find the range of each of their numbers."""


class Scene(Protocol):
    """One simulation as a viewer sees it."""

    model: mujoco.MjModel  # of the running episode; treat as read-only
    camera: int  # number of the task's own camera in the model; -1 for none

    def field(self, name: str) -> Floats:
        """Return a field of MjData, live and writable where it belongs to the state."""
        ...

    def new_model(self) -> bool:
        """Bring `model` up to date after an episode has begun; return whether it looks different."""
        ...

    def ghost(self) -> Floats | None:
        """Return the `qpos` (nq,) of a second, transparent body, or None."""
        ...

    @property
    def command(self) -> list[float]:
        """The numbers of the task's present command, [] for a task without commands."""
        ...

    def hold_command(self, values: Sequence[float]) -> None:
        """Replace the command and let the task draw no other one for the present; policies observe it from the next
        step on."""
        ...

    def command_ranges(self) -> list[tuple[float, float]]:
        """Return the least and the greatest value of each number of the command among `DRAWS` draws."""
        ...


class TaskScene:
    """The simulation in row 0 of `runner`: a built-in task, or a `Task` of the user's."""

    def __init__(self, runner: TaskRunner) -> None:
        simulation = runner.simulation
        self.model = copy.copy(simulation.model)
        self.camera = number_of(self.model, runner.constants.camera)
        self._runner = runner
        self._fields = {name: simulation.bind(name) for name in (*SHOWN, "time", "xfrc_applied")}
        self._varied = {name: simulation.expand(name) for name in sorted(VISIBLE.intersection(runner.varied))}
        self._driver = runner.task if isinstance(runner.task, TaskDriver) else None
        self.new_model()

    def field(self, name: str) -> Floats:
        return self._fields[name][0].numpy()

    def new_model(self) -> bool:
        changed = False
        for name, values in self._varied.items():
            own, shown = values[0].numpy(), getattr(self.model, name)
            if not np.array_equal(own.reshape(shown.shape), shown):
                shown[:] = own.reshape(shown.shape)
                changed = True
        return changed

    def ghost(self) -> Floats | None:
        qpos = self._runner.task.ghost(0)
        return None if qpos is None else np.array(qpos.numpy(force=True), dtype=np.float64)

    @property
    def command(self) -> list[float]:
        return [] if self._driver is None else self._driver.user.command[0].tolist()

    def hold_command(self, values: Sequence[float]) -> None:
        if self._driver is not None and values:
            self._driver.hold_command(self._runner.all_rows[:1], values)

    def command_ranges(self) -> list[tuple[float, float]]:
        if self._driver is None or not self.command:
            return []
        state = self._runner.state()
        try:
            draws = self._driver.user.draw_command(self._runner.all_rows[:1].repeat(DRAWS)).numpy(force=True)
            lowest, highest = draws.min(axis=0).tolist(), draws.max(axis=0).tolist()
        except Exception:  # a task that cannot draw for one simulation twice
            lowest = highest = self.command
        finally:
            self._runner.restore(state)
        return [(low, high) if low < high else (low - 1, high + 1) for low, high in zip(lowest, highest, strict=True)]


class DataScene:
    """The `model` and `data` of an environment that has them, such as Gymnasium's MuJoCo environments."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self.model = env.model
        self.camera = number_of(self.model, TRACKING)

    def field(self, name: str) -> Floats:
        return np.atleast_1d(np.asarray(getattr(self._env.data, name)))

    def new_model(self) -> bool:
        changed = self.model is not self._env.model
        self.model = self._env.model
        return changed

    def ghost(self) -> Floats | None:
        return None

    @property
    def command(self) -> list[float]:
        return []

    def hold_command(self, values: Sequence[float]) -> None:
        pass

    def command_ranges(self) -> list[tuple[float, float]]:
        return []


def number_of(model: mujoco.MjModel, camera: int | str) -> int:
    """Return the number of a camera by its number or name, -1 where the model has no such camera."""
    if isinstance(camera, str):
        return mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
    return camera if camera < model.ncam else -1


def scene_of(env: Adapter) -> Scene:
    """Return the simulation of `env`, an adapter of one environment, after its reset.

    Raises UsageError for an environment that is not simulated by MuJoCo, or hides its simulation.
    """
    envs: Any = env.envs.unwrapped
    if isinstance(envs, TaskVectorEnv):
        return TaskScene(envs.runner)
    single: Any = envs.envs[0].unwrapped if isinstance(envs, SyncVectorEnv) else envs
    if isinstance(single, TaskEnv):
        return TaskScene(single.runner)
    try:
        has_both = isinstance(single.model, mujoco.MjModel) and isinstance(single.data, mujoco.MjData)
    except Exception:  # an attribute of code of the user's
        has_both = False
    if has_both:
        return DataScene(single)
    raise UsageError(
        f"{env.settings.id} cannot be viewed live: the viewer shows MuJoCo simulations, and this environment has none "
        "(no attributes `model` and `data` of MuJoCo's types). `flowrl play CKPT` records a video of what it draws."
    )


def show(scene: Scene, data: mujoco.MjData) -> None:
    """Copy the state of `scene` to `data`, of the same model; what derives from it is not computed."""
    data.time = scene.field("time").item()
    for name in SHOWN:
        getattr(data, name)[:] = scene.field(name).reshape(getattr(data, name).shape)


@contextmanager
def pushed(scene: Scene, forces: Floats | None) -> Iterator[None]:
    """Add `forces` (body, 6), force in N and torque in N m in world axes, to what acts on the bodies meanwhile.

    What the environment itself applies, or changes meanwhile, remains.
    """
    if forces is None or not forces.any():
        yield
        return
    applied = scene.field("xfrc_applied")
    own = applied.copy()
    applied += forces.reshape(applied.shape)
    total = applied.copy()
    try:
        yield
    finally:
        applied = scene.field("xfrc_applied")
        if np.array_equal(applied, total):
            applied[:] = own
