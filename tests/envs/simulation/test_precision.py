"""Every task follows the dtype of its simulation, so that one definition also runs on an engine in float32."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from flowrl.envs import state_capture
from flowrl.envs.dm_control import tasks as dm_control
from flowrl.envs.gymnasium_mujoco import tasks as gymnasium_mujoco
from flowrl.envs.humanoid.model import STANDING_HEIGHT
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.tracking import HumanoidTrack, HumanoidTrackConstants
from flowrl.envs.simulation.mujoco_batch import MujocoBatch
from flowrl.envs.simulation.protocol import Image, Simulation, SimulationFactory
from flowrl.envs.simulation.simulation_task import SimulationTask, TaskConstants
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import TaskVectorEnv

COUNT, STEPS = 4, 20


class Float32Simulation:
    """A MujocoBatch that hands out float32 copies of its fields, as an engine in float32 would hand out its own.

    Before a call the entries that the task has written are copied to the float64 fields, and after it all back.
    """

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(
        self,
        model: mujoco.MjModel,
        count: int,
        derived: tuple[str, ...] = (),
        varied: tuple[str, ...] = (),
        threads: int = 0,
        forces: bool = False,
    ) -> None:
        self.exact = MujocoBatch(model, count, derived, varied, threads, forces)
        self.model, self.count = self.exact.model, count
        self._copies: dict[int, tuple[Tensor, Tensor, Tensor]] = {}  # float64, float32, float32 as of the last call

    def constant(self, values: Any) -> Tensor:
        return torch.tensor(np.asarray(values), dtype=torch.float32)

    def bind(self, field: str) -> Tensor:
        return self._copy(self.exact.bind(field))

    def latest(self, field: str) -> Tensor:
        return self._copy(self.exact.latest(field))

    def expand(self, field: str) -> Tensor:
        return self._copy(self.exact.expand(field))

    def recompute(self, rows: Tensor | None = None) -> None:
        self._push()
        self.exact.recompute(rows)
        self._pull()

    def external_forces(self) -> Tensor:
        return self._copy(self.exact.external_forces())

    def reset(self, rows: Tensor | None = None) -> None:
        self._push()
        self.exact.reset(rows)
        self._pull()

    def forward(self, rows: Tensor | None = None) -> None:
        self._push()
        self.exact.forward(rows)
        self._pull()

    def step(self, substeps: int = 1, rows: Tensor | None = None) -> None:
        self._push()
        self.exact.step(substeps, rows)
        self._pull()

    def contacts(self, rows: Tensor) -> Tensor:
        self._push()
        pairs = self.exact.contacts(rows)
        self._pull()
        return pairs

    def unstable(self) -> Tensor:
        return self.exact.unstable()

    def overflowed(self) -> bool:
        return self.exact.overflowed()

    def snapshot(self) -> dict[str, Tensor]:
        self._push()
        return self.exact.snapshot()

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        self.exact.restore(snapshot)
        self._pull()

    def render(
        self, row: int, height: int = 240, width: int = 320, camera: int | str = 0, ghost: Tensor | None = None
    ) -> Image:
        return self.exact.render(row, height, width, camera, ghost)

    def close(self) -> None:
        self.exact.close()

    def _copy(self, field: Tensor) -> Tensor:
        """One copy of each field, however often it is bound."""
        if field.data_ptr() not in self._copies:
            self._copies[field.data_ptr()] = field, field.float(), field.float()
        return self._copies[field.data_ptr()][1]

    def _push(self) -> None:
        for exact, rounded, before in self._copies.values():
            written = rounded != before
            exact[written] = rounded[written].double()

    def _pull(self) -> None:
        for exact, rounded, before in self._copies.values():
            rounded.copy_(exact)
            before.copy_(exact)


def lifted() -> Motion:
    """Swinging joints, high above the floor: at a contact the rounding of a position would decide about a force."""
    qpos = np.zeros((60, 35))
    qpos[:, 2], qpos[:, 3] = STANDING_HEIGHT + 3, 1
    qpos[:, 7:] = 0.1 * np.sin(np.arange(60)[:, None] / 10 + np.arange(28))
    return Motion("lifted", qpos)


def tracking(**options: Any) -> tuple[type[SimulationTask[Any]], TaskConstants]:
    return HumanoidTrack, HumanoidTrackConstants(motions=((lifted(), 1.0),), episode_steps=20, **options)


TASKS: dict[str, tuple[type[SimulationTask[Any]], TaskConstants]] = {
    **{
        f"{name}-{profile}": (kind, constants)
        for name, (kind, profiles) in dm_control.TASKS.items()
        for profile, constants in profiles.items()
    },
    **gymnasium_mujoco.TASKS,
    "HumanoidTrack": tracking(sampling="failure"),
    "HumanoidTrack-evaluation": tracking(evaluation=True),
}


def test_the_engines_implement_the_protocol() -> None:
    """mypy checks the assignments; every method of the Protocol is there at run time, too."""
    factories: list[SimulationFactory] = [MujocoBatch, Float32Simulation]
    for factory in factories:
        simulation: Simulation = factory(mujoco.MjModel.from_xml_string("<mujoco/>"), 1)
        members = {name for name in (*vars(Simulation), *Simulation.__annotations__) if name[0] != "_"}
        assert {"step", "dtype", "constant"} <= members
        assert all(hasattr(simulation, name) for name in members)


def runner(name: str, simulator: SimulationFactory) -> TaskRunner:
    with state_capture.quiet_mujoco():
        kind, constants = TASKS[name]
        return TaskRunner(kind, constants, COUNT, 1, simulator)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_runs_in_the_precision_of_its_simulation(name: str) -> None:
    """Over 20 steps from equal draws, with a reset of two rows after ten: the numbers of the float64 run, rounded."""
    double, single = runner(name, MujocoBatch), runner(name, Float32Simulation)
    random = torch.Generator().manual_seed(0)
    rows = torch.tensor([1, 3])
    shown = [(each.begin(np.random.default_rng(0), reseed=True),) for each in (double, single)]
    for step in range(STEPS):
        for exact, rounded in zip(*shown, strict=True):
            assert (exact.dtype, rounded.dtype) == (torch.float64, torch.float32)
            torch.testing.assert_close(rounded.double(), exact, rtol=1e-4, atol=1e-4, msg=f"step {step}")
        if step == STEPS // 2:
            shown = [(each.reset(rows),) for each in (double, single)]
            continue
        actions = torch.rand(COUNT, double.action_size, generator=random) * 2 - 1
        results = double.step(actions), single.step(actions)
        for flags in zip(*(result[2:] for result in results), strict=True):
            assert torch.equal(*flags) and flags[0].dtype == torch.bool
        reports = (each.task.report(each.all_rows) for each in (double, single))
        for exact, rounded in zip(*(report.values() for report in reports), strict=True):
            torch.testing.assert_close(rounded.double(), exact.double(), rtol=1e-4, atol=0.1, equal_nan=True)
        shown = [(result.observation, result.reward) for result in results]


@pytest.mark.parametrize("name", TASKS)
def test_a_state_restored_in_float32_continues_bit_for_bit(name: str) -> None:
    first, second = runner(name, Float32Simulation), runner(name, Float32Simulation)
    random = torch.Generator().manual_seed(0)
    actions = torch.rand(8, COUNT, first.action_size, generator=random) * 2 - 1
    first.begin(np.random.default_rng(0), reseed=True)
    for action in actions[:4]:
        first.step(action)
    second.restore(first.state())
    for action in actions[4:]:
        for one, other in zip(first.step(action), second.step(action), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


def test_an_environment_in_float32_has_spaces_in_float32() -> None:
    envs = TaskVectorEnv(runner("HumanoidTrack", Float32Simulation), max_episode_steps=5)
    assert envs.single_observation_space.dtype == np.float32
    observation, _ = envs.reset(seed=0)
    assert observation.dtype == np.float32
    for _ in range(5):
        observation, reward, _, truncated, infos = envs.step(np.zeros((COUNT, 28), np.float32))
        assert (observation.dtype, reward.dtype) == (np.float32, np.float32)
    assert truncated.all() and infos["final_obs"][0].dtype == np.float32
