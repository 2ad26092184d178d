"""MuJoCo Warp on its CPU device: the same tasks as on MuJoCo, with float32's deviations, and exact where bits are kept.

The first run compiles kernels, which takes minutes; they are kept in ~/.cache/flowrl/warp.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowrl import cli
from flowrl.contracts.errors import EnvironmentFailed, UsageError
from flowrl.envs.dm_control.tasks import TASKS, find_task
from flowrl.envs.humanoid.environment import track_constants
from flowrl.envs.humanoid.model import build as humanoid_model
from flowrl.envs.humanoid.tracking import HumanoidTrack
from flowrl.envs.simulation.mujoco_warp import MujocoWarp
from flowrl.envs.simulation.simulators import WarpSimulator
from flowrl.envs.simulation.task_env import runner as task_runner
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.warp_settings import WarpSettings
from flowrl.storage import checkpoint
from tests.envs.simulation.own_tasks import Busy
from tests.equality import same

pytest.importorskip("mujoco_warp")
pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

COUNT = 4


def made(task: str, simulator: Any = None, count: int = COUNT) -> TaskRunner:
    chosen = {} if simulator is None else {"simulator": simulator}
    if task == "HumanoidTrack":
        return TaskRunner(HumanoidTrack, track_constants(["gait:walk"]), count, 1, **chosen)
    return TaskRunner(*find_task(task, "dmc"), count, 1, **chosen)


def begun(runner: TaskRunner, seed: int = 0) -> Tensor:
    return runner.begin(np.random.default_rng(seed), reseed=True)


def actions(runner: TaskRunner, steps: int, seed: int = 1) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.rand(steps, runner.count, runner.action_size, generator=random) * 2 - 1


# Of qpos (m, rad) after 1 and 20 control steps from starts with random velocities; measured: docs/results/warp.md. A
# start may be at a contact, where rounding decides: these tasks are compared in their median world.
LARGEST = {
    "BallInCup": (1e-6, 1e-4),
    "CartpoleBalance": (1e-7, 1e-5),
    "CheetahRun": (2e-6, 2e-5),
    "FingerSpin": (1e-5, 1e-3),
    "FingerTurnEasy": (1e-5, 1e-3),
    "FingerTurnHard": (1e-5, 1e-3),
    "FishSwim": (2e-6, 2e-5),
    "HumanoidTrack": (2e-5, 1e-2),
    "PointMass": (1e-7, 1e-6),
    "ReacherEasy": (1e-6, 1e-5),
    "ReacherHard": (1e-6, 1e-5),
}


@pytest.mark.parametrize("task", [*TASKS, "HumanoidTrack"])
def test_a_task_moves_as_on_mujoco(task: str) -> None:
    exact, warp = made(task), made(task, MujocoWarp)
    first, same = begun(exact), begun(warp)
    assert warp.simulation.dtype == same.dtype == torch.float32
    torch.testing.assert_close(same.double(), first, atol=2e-5, rtol=1e-5)  # drawn from one stream of numbers
    random = torch.Generator().manual_seed(2)
    exact.simulation.bind("qvel").add_(0.1 * torch.randn(exact.simulation.bind("qvel").shape, generator=random))
    if task == "HumanoidTrack":
        exact.simulation.bind("qpos")[:, 2] += 1e-3  # the sole is at height 0 to the last bit: rounding would decide
    for name in ("qpos", "qvel"):
        exact.simulation.bind(name).copy_(exact.simulation.bind(name).float())
        warp.simulation.bind(name).copy_(exact.simulation.bind(name))
    exact.simulation.forward()
    warp.simulation.forward()
    differences = []
    for action in actions(exact, 20):
        one, two = exact.step(action), warp.step(action)
        away = (exact.simulation.bind("qpos") - warp.simulation.bind("qpos").double()).abs().amax(1)
        differences.append(away.median().item())
        assert two.observation.isfinite().all()
        assert torch.equal(one.terminated, two.terminated)
    assert differences[0] <= LARGEST[task][0]
    assert differences[-1] <= LARGEST[task][1]
    assert one.reward.median().item() == pytest.approx(two.reward.median().item(), abs=1e-2)


@pytest.mark.parametrize("task", ["CheetahRun", "FingerTurnEasy", "HumanoidTrack"])
def test_a_reset_of_some_rows_leaves_the_others_to_the_last_bit(task: str) -> None:
    one, other = made(task, MujocoWarp), made(task, MujocoWarp)
    begun(one), begun(other)
    for action in actions(one, 5):
        one.step(action), other.step(action)
    before = one.simulation.snapshot()
    one.reset(torch.tensor([1, 3]))
    after = one.simulation.snapshot()
    kept = [0, 2]
    assert all(torch.equal(after[name][kept], values[kept]) for name, values in before.items())
    assert not torch.equal(after["qpos"][[1, 3]], before["qpos"][[1, 3]])
    action = actions(one, 1, seed=3)[0]
    assert torch.equal(one.step(action).observation[kept], other.step(action).observation[kept])


@pytest.mark.parametrize("task", ["CheetahRun", "BallInCup", "FingerSpin", "HumanoidTrack"])
def test_a_snapshot_continues_to_the_last_bit_in_other_simulations(task: str) -> None:
    simulator = WarpSimulator(WarpSettings(nursery=8))
    one, other = made(task, simulator), made(task, simulator)
    begun(one)
    for action in actions(one, 5):
        one.step(action)
    one.reset(torch.tensor([2]))
    saved = one.state()
    begun(other, seed=9)
    other.restore(saved)
    assert same(other.state(), saved)
    for action in actions(one, 5, seed=4):
        assert same(one.step(action)._asdict(), other.step(action)._asdict())
    rows = torch.tensor([0, 1])
    assert torch.equal(one.reset(rows), other.reset(rows))
    assert same(one.state(), other.state())


def test_the_deterministic_kernels_give_the_same_motion() -> None:
    plain, fixed = made("CheetahRun", MujocoWarp), made("CheetahRun", WarpSimulator(WarpSettings(deterministic=True)))
    torch.testing.assert_close(begun(fixed), begun(plain), atol=1e-4, rtol=1e-4)
    for action in actions(plain, 5):
        one, two = plain.step(action), fixed.step(action)
    torch.testing.assert_close(two.observation, one.observation, atol=1e-4, rtol=1e-4)


def test_a_nursery_hands_out_the_starts_that_resets_would_draw() -> None:
    """Pose k is made of the k-th numbers of the stream, however many are settled together."""
    alone, nursery = made("CheetahRun", MujocoWarp), made("CheetahRun", WarpSimulator(WarpSettings(nursery=3)))
    assert alone.nursery is None and nursery.nursery is not None
    begun(alone), begun(nursery)
    for rows in ([0], [1, 3], [0, 2]):  # five starts from nurseries of three
        one, other = alone.reset(torch.tensor(rows)), nursery.reset(torch.tensor(rows))
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)
    assert nursery.nursery.used == 2


def test_a_task_of_ones_own_runs_and_its_models_differ() -> None:
    """Everything of a task: varied masses and the constants that depend on them, noise, delays, pushes, commands."""
    exact, warp = (task_runner(Busy, COUNT, 1, {}, **chosen) for chosen in ({}, {"simulator": MujocoWarp}))
    torch.testing.assert_close(begun(warp).double(), begun(exact), atol=1e-5, rtol=1e-5)
    assert len({*warp.simulation.expand("body_mass")[:, 1].tolist()}) == COUNT
    for action in actions(exact, 20):
        one, two = exact.step(action), warp.step(action)
    torch.testing.assert_close(two.observation.double(), one.observation, atol=1e-3, rtol=1e-3)
    other = task_runner(Busy, COUNT, 1, {}, MujocoWarp)
    begun(other, seed=5)
    other.restore(warp.state())
    action = actions(exact, 1, seed=7)[0]
    assert same(warp.step(action)._asdict(), other.step(action)._asdict())


def test_left_out_contacts_stop_a_run_and_the_error_names_the_limit() -> None:
    """A humanoid that lies on the floor has more than four contacts."""
    simulation = MujocoWarp(humanoid_model(), 2, contacts=4, constraints=256)
    lying = simulation.bind("qpos")
    lying[:, 2], lying[:, 3:7] = 0.1, torch.tensor([0.7071, 0.0, -0.7071, 0.0])
    with pytest.raises(EnvironmentFailed, match=r"Type --set env\.warp\.contacts=8\."):
        simulation.step(20)
    simulation = MujocoWarp(humanoid_model(), 2, contacts=64, constraints=8)
    simulation.bind("qpos")[:] = lying
    with pytest.raises(EnvironmentFailed, match=r"Type --set env\.warp\.constraints=16\."):
        simulation.step(20)


def test_an_unstable_simulation_is_reported_until_its_reset_and_the_others_go_on() -> None:
    simulation = MujocoWarp(find_task("CheetahRun", "dmc")[0].build(find_task("CheetahRun", "dmc")[1]), 3)
    simulation.bind("qvel")[1, 3] = 1e11
    simulation.step()
    assert simulation.unstable().tolist() == [False, True, False]
    simulation.step()
    assert simulation.bind("qpos")[[0, 2]].isfinite().all()
    simulation.reset(torch.tensor([1]))
    simulation.step()
    assert not simulation.unstable().any()


def test_what_warp_cannot_simulate_is_refused() -> None:
    model = find_task("PointMass", "dmc")[0].build(find_task("PointMass", "dmc")[1])
    with pytest.raises(UsageError, match="external forces"):
        MujocoWarp(model, 1, forces=True)
    with pytest.raises(UsageError, match=r"'solver_niter2' of MjData"):
        MujocoWarp(model, 1, derived=("solver_niter2",))
    model.opt.solver = 0  # PGS
    with pytest.raises(UsageError, match=r"cannot simulate this model: mjSOL_PGS is unsupported"):
        MujocoWarp(model, 1)


SHORT = [
    *("env.simulator=warp", "env.count=8", "env.warp.nursery=4", "env.options.max_episode_steps=12", "threads=1"),
    *(
        "learner.schedule.kind=constant",
        "rollout.steps=8",
        "learner.epochs=1",
        "learner.minibatches=2",
        "policy.hidden=[8]",
        "learner.critic.hidden=[8]",
    ),
]


def test_a_training_resumes_to_the_last_bit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = [word for key in SHORT for word in ("--set", key)]
    train = ["train", "cheetah.yaml", "--out", str(tmp_path), *sets]
    assert cli.run([*train, "--name", "one", "--set", "total_steps=384"]) == 0
    assert cli.run([*train, "--name", "two", "--set", "total_steps=192"]) == 0
    assert cli.run(["train", "--resume", str(tmp_path / "two"), "--set", "total_steps=384"]) == 0
    one, two = (checkpoint.load(tmp_path / name / "ckpt.pt") for name in ("one", "two"))
    (shard,) = one["shards"]
    assert shard["env"]["simulator"] == "warp" and shard["env"]["obs"].shape == (8, 17)
    for key in ("actor", "critic", "normaliser", "optimizer", "shards"):
        assert same(one[key], two[key]), key
    capsys.readouterr()
    assert cli.run(["eval", str(tmp_path / "two"), "--set", "env.simulator=mujoco", "--episodes", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
