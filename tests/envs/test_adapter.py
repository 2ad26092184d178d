"""The adapter: scaling by hand, true successors, and failures reported in one line."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from pydantic import ValidationError
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed, TrainingDiverged
from flowrl.envs.adapter import Adapter
from flowrl.envs.factory import make
from flowrl.envs.settings import EnvSettings
from flowrl.envs.tensors import TensorStep


class Scripted(gymnasium.Env[Any, Any]):
    """Observation = (action taken, steps, …) in a 2 x 2 matrix of float64; what else it does depends on `fault`."""

    observation_space = spaces.Box(-np.inf, np.inf, (2, 2), np.float64)

    def __init__(self, fault: str = "", low: Any = -1.0, high: Any = 1.0, size: int = 1, length: int = 3) -> None:
        low, high = np.broadcast_to(low, size), np.broadcast_to(high, size)
        self.action_space = spaces.Box(low.astype(np.float32), high.astype(np.float32))
        self.fault, self.length, self.taken, self.steps = fault, length, 0.0, 0

    def see(self) -> Any:
        return np.array([[self.taken, self.steps], [0.1, -7]])

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        if self.fault == "reset":
            raise ValueError("no track")
        self.taken, self.steps = 0.0, 0
        return self.see(), {"is_success": True}

    def step(self, action: Any) -> Any:
        self.taken, self.steps = float(action[-1]), self.steps + 1
        if self.fault == "step" and self.taken > 0.5:
            raise RuntimeError("the wheel\ncame off")
        if self.fault == "die" and self.taken > 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        reward = np.nan if self.fault == "reward" and self.taken > 0.5 else 2.0 * self.steps
        obs = self.see()
        if self.fault == "obs" and self.taken > 0.5:
            obs[1, 0] = np.inf
        if self.fault == "final" and self.steps == self.length:
            obs[0, 0] = np.nan
        terminated = self.steps == self.length
        info = {"is_success": self.taken > 0} if self.fault != "silent" else {}
        return obs, reward, terminated, False, info


gymnasium.register("flowrl-test/Scripted-v0", Scripted)


def scripted(count: int = 1, mode: Any = "sync", squash: Any = "clip", **options: Any) -> Adapter:
    settings = EnvSettings(id="flowrl-test/Scripted-v0", count=count, mode=mode, squash=squash, options=options)
    adapter = make(settings)
    adapter.reset(seed=0)
    return adapter


@pytest.mark.parametrize(
    ("squash", "low", "high", "raw", "applied"),
    [
        ("clip", -2, 2, [0.25], [0.5]),
        ("clip", -2, 2, [9.0], [2.0]),
        ("clip", 0, 1, [0.0], [0.5]),
        ("clip", 0, 1, [-1.0], [0.0]),
        ("clip", -1, 5, [0.5], [3.5]),  # -1 + (0.5 + 1)/2 * 6
        ("tanh", -2, 2, [0.5493061443340549], [1.0]),  # tanh(ln(3)/2) = 1/2
        ("tanh", 0, 4, [50.0], [4.0]),
        ("clip", -np.inf, np.inf, [3.0], [3.0]),
        ("tanh", -np.inf, np.inf, [3.0], [3.0]),
        ("clip", 0, np.inf, [3.0], [3.0]),  # half-bounded: as it is …
        ("clip", 0, np.inf, [-3.0], [0.0]),  # … but not across the bound
        ("clip", [-1, -np.inf], [3, np.inf], [-1.0, 5.0], [-1.0, 5.0]),
        ("clip", -3e38, 3e38, [0.5], [0.5]),  # no bound that is meant
        ("tanh", -1e9, 1e9, [3.0], [3.0]),
        ("clip", -9.9e8, 9.9e8, [0.5], [4.95e8]),  # just below what counts as none
    ],
)
def test_raw_actions_become_the_environments(
    squash: Any, low: Any, high: Any, raw: list[float], applied: list[float]
) -> None:
    adapter = scripted(squash=squash, low=low, high=high, size=len(raw))
    torch.testing.assert_close(adapter.bound(torch.tensor([raw])), torch.tensor([applied]))
    assert adapter.step(torch.tensor([raw])).successor[0, 0] == pytest.approx(applied[-1])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_action_is_held_until_the_episode_ends(mode: Any) -> None:
    """Rewards are 2, 4, 6, 8 and 10; the fifth step ends the episode in the middle of the third hold."""
    options = {"length": 5}
    settings = EnvSettings(id="flowrl-test/Scripted-v0", count=2, mode=mode, action_repeat=2, options=options)
    adapter = make(settings)
    adapter.reset(seed=0)
    steps = [adapter.step(torch.full((2, 1), 0.5)) for _ in range(4)]
    assert [step.reward.tolist() for step in steps] == [[6, 6], [14, 14], [10, 10], [6, 6]]
    assert [step.terminated[0].item() for step in steps] == [False, False, True, False]
    assert steps[2].successor[:, 1].tolist() == [5, 5] and steps[2].obs[:, 1].tolist() == [0, 0]
    adapter.close()


def test_symmetric_unit_bounds_change_nothing() -> None:
    action = torch.rand(1000, 1) * 2 - 1
    bound = scripted().bound(action)
    assert torch.equal(bound, action) and bound.data_ptr() != action.data_ptr()


def test_applied_actions_never_leave_the_bounds() -> None:
    adapter = scripted(low=-0.1, high=0.7)
    assert adapter.bound(torch.tensor([[1.0], [-1.0], [3.0]])).flatten().tolist() == [
        np.float32(0.7),
        np.float32(-0.1),
        np.float32(0.7),
    ]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_step_by_hand(mode: str) -> None:
    """Flat observations in float64, as declared; at an end `obs` is the new start and `successor` the old end."""
    adapter = scripted(count=2, mode=mode)
    assert (adapter.observation_size, adapter.action_size, adapter.count) == (4, 1, 2)
    start = [[0, 0, 0.1, -7]] * 2
    assert adapter.reset(seed=3).tolist() == start
    for number in (1, 2, 3):
        step = adapter.step(torch.tensor([[0.5], [-0.25]]))
        assert step.reward.tolist() == [2 * number] * 2
        assert step.successor[:, :2].tolist() == [[0.5, number], [-0.25, number]]
        assert step.terminated.tolist() == [number == 3] * 2 and not step.truncated.any()
        assert step.obs.tolist() == (start if number == 3 else step.successor.tolist())
        if number == 3:
            assert step.success.tolist() == [1, 0]
        else:
            assert step.success.isnan().all()
    assert {step.obs.dtype, step.successor.dtype} == {torch.float64}
    assert {step.reward.dtype, step.success.dtype} == {torch.float32}
    assert {step.terminated.dtype, step.truncated.dtype} == {torch.bool}
    adapter.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_steps_do_not_share_memory_with_later_steps(mode: Any) -> None:
    """Pendulum's observations are float32 already, so that no conversion makes a copy by itself."""
    adapter = make(EnvSettings(id="Pendulum-v1", count=2, mode=mode))
    adapter.reset(seed=0)
    first = adapter.step(torch.zeros(2, 1))
    tensors = [first.obs, first.reward, first.terminated]
    kept = [tensor.clone() for tensor in tensors]
    for _ in range(9):
        adapter.step(torch.ones(2, 1))
    adapter.close()
    assert all(torch.equal(one, other) for one, other in zip(kept, tensors, strict=True))


def test_a_time_limit_truncates_and_an_end_on_the_limit_is_both() -> None:
    adapter = scripted(length=2, max_episode_steps=2)
    adapter.step(torch.zeros(1, 1))
    step = adapter.step(torch.zeros(1, 1))
    assert step.terminated.item() and step.truncated.item()
    adapter = scripted(length=9, max_episode_steps=2)
    adapter.step(torch.zeros(1, 1))
    step = adapter.step(torch.ones(1, 1))
    assert not step.terminated.item() and step.truncated.item()
    assert step.successor[0, :2].tolist() == [1, 2] and step.obs[0, :2].tolist() == [0, 0]


def test_without_a_judgement_success_is_nan() -> None:
    adapter = scripted(fault="silent", length=1)
    step = adapter.step(torch.ones(1, 1))
    assert step.terminated.item() and step.success.isnan().all()


def test_gridworld_through_the_adapter() -> None:
    settings = EnvSettings(id="flowrl/GridWorld-v0", count=3, options={"start": [12, 21]})
    adapter = make(settings)
    adapter.reset(seed=0)
    up = torch.tensor([[0.0, 1.0], [0.0, 5.0], [1.0, 0.0]])
    assert not adapter.step(up).terminated.any()
    step = adapter.step(up)
    assert step.reward.tolist() == [20, 20, 0] and step.terminated.tolist() == [True, True, False]
    assert step.success[:2].tolist() == [1, 1] and step.success[2].isnan()
    assert torch.equal(step.successor[0], torch.tensor([0, 11 / 12]))
    assert torch.equal(step.obs[0], torch.tensor([0, 9 / 12]))


def test_neighbouring_seeds_share_no_environment() -> None:
    """Gymnasium seeds environment i with seed + i, so that seeds 0 and 1 would share all but one."""
    first, second = (make(EnvSettings(id="Pendulum-v1", count=8)).reset(seed) for seed in (0, 1))
    assert not set(first[:, 0].tolist()) & set(second[:, 0].tolist())


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_seed_decides_everything(mode: str) -> None:
    def trace(seed: int) -> torch.Tensor:
        adapter = make(EnvSettings(id="Pendulum-v1", count=2, mode=mode, options={"max_episode_steps": 5}))
        adapter.reset(seed)
        rows = torch.stack([adapter.step(torch.ones(2, 1)).obs for _ in range(12)])
        adapter.close()
        return rows

    assert torch.equal(trace(5), trace(5)) and not torch.equal(trace(5), trace(6))


@pytest.mark.parametrize(
    ("fault", "said"), [("obs", "the observation of environment 1"), ("reward", "the reward of environment 1")]
)
def test_what_is_not_finite_stops_the_run_and_is_named(fault: str, said: str) -> None:
    adapter = scripted(count=3, fault=fault)
    with pytest.raises(TrainingDiverged, match=said):
        adapter.step(torch.tensor([[0.0], [1.0], [0.0]]))


def test_an_action_that_is_not_finite_is_named_before_it_acts() -> None:
    adapter = make(EnvSettings(id="Hopper-v5", count=3))
    adapter.reset(seed=0)
    action = torch.zeros(3, 3)
    action[2, 1] = torch.nan
    with pytest.raises(TrainingDiverged, match="the action of environment 2 is not finite"):
        adapter.step(action)


def test_a_last_observation_that_is_not_finite_is_named() -> None:
    adapter = scripted(count=2, fault="final", length=1)
    with pytest.raises(TrainingDiverged, match="the final observation of environment 0, 1 is not finite"):
        adapter.step(torch.zeros(2, 1))


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.filterwarnings("error")
def test_an_environment_that_raises_is_named_with_the_place(mode: str) -> None:
    adapter = scripted(count=2, mode=mode, fault="step")
    said = r"environment 1 failed in step: RuntimeError: the wheel came off \(test_adapter.py:\d+\)"
    with pytest.raises(EnvironmentFailed, match=f"^flowrl-test/Scripted-v0: {said}$"):
        adapter.step(torch.tensor([[0.0], [1.0]]))
    adapter.close()


def test_a_worker_that_dies_is_reported() -> None:
    adapter = scripted(count=2, mode="async", fault="die")
    with pytest.raises(EnvironmentFailed, match="a worker process died"):
        adapter.step(torch.tensor([[0.0], [1.0]]))
    adapter.close()
    adapter.close()


def test_a_reset_that_raises_is_reported() -> None:
    with pytest.raises(EnvironmentFailed, match="environment 0 failed in reset: ValueError: no track"):
        scripted(fault="reset")


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 2.0}, {"mode": "fast"}, {"squash": "sin"}, {"n": 1}])
def test_settings_are_strict(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EnvSettings(**{"id": "Pendulum-v1"} | wrong)


def test_mujoco_leaves_no_log_file_and_says_nothing_per_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """HalfCheetah's XML makes the compiler print a note; a huge position makes the engine warn."""
    monkeypatch.chdir(tmp_path)
    modes: list[Any] = ["sync", "async", "batch"]
    for mode in modes:
        adapter = make(EnvSettings(id="HalfCheetah-v5", count=2, mode=mode))
        adapter.reset(seed=0)
        adapter.close()
    assert capfd.readouterr().err == ""
    adapter = make(EnvSettings(id="HalfCheetah-v5", count=1, mode="sync"))
    adapter.reset(seed=0)
    state = adapter.state()
    state["envs"][0]["integration"][1:10] = 1e30  # after the time: qpos
    adapter.restore(state)
    adapter.step(torch.ones(1, 6))
    assert "The simulation is unstable" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_pictures() -> None:
    adapter = make(EnvSettings(id="flowrl/GridWorld-v0", count=2), count=3, render_mode="rgb_array")
    adapter.reset(seed=0)
    frames = adapter.render()
    assert len(frames) == adapter.count == 3 and frames[0].shape == (400, 400, 3)


class Tensors(VectorEnv[Any, Any, Any]):
    """Rows that count their steps in float64, and end after as many as their index + 2: steps come as tensors too."""

    single_observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    single_action_space = spaces.Box(-2, 2, (1,), np.float32)
    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 3, fault: bool = False) -> None:
        self.num_envs, self.fault = num_envs, fault
        self.clock = torch.zeros(num_envs, dtype=torch.int64)

    def see(self) -> Tensor:
        return torch.stack([self.clock.double(), self.clock / 3], dim=1)

    def reset_tensors(self, seed: int | None) -> Tensor:
        self.seed = seed
        self.clock[:] = 0
        return self.see()

    def step_tensors(self, actions: Tensor) -> TensorStep:
        if self.fault:
            raise ValueError("lost")
        self.actions = actions
        self.clock += 1
        ends = self.clock >= torch.arange(self.num_envs) + 2
        final_obs, rows = self.see()[ends], torch.nonzero(ends).flatten()
        final_info = {"success": (self.clock[rows] % 2).double()}
        self.clock[rows] = 0
        reward = actions[:, 0].double() / 3
        return TensorStep(self.see(), reward, ends, torch.zeros_like(ends), rows, final_obs, final_info)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.reset_tensors(seed).numpy(), {}

    def step(self, actions: Any) -> Any:
        step = self.step_tensors(torch.from_numpy(actions))
        ends = step.terminated.numpy()
        final_obs, success = np.full(self.num_envs, None, dtype=object), np.zeros(self.num_envs)
        for row, last, value in zip(step.ended, step.final_obs, step.final_info["success"], strict=True):
            final_obs[int(row)], success[int(row)] = last.numpy(), value
        info = {"final_obs": final_obs, "_final_obs": ends, "final_info": {"success": success, "_success": ends}}
        return step.obs.numpy(), step.reward.numpy(), ends, step.truncated.numpy(), info if ends.any() else {}


class ByNumPy(VectorEnv[Any, Any, Any]):
    """The same environment through Gymnasium's interface alone."""

    def __init__(self, envs: Tensors) -> None:
        self.num_envs, self.reset, self.step = envs.num_envs, envs.reset, envs.step  # type: ignore[method-assign]
        self.single_observation_space = envs.single_observation_space
        self.single_action_space = envs.single_action_space


def test_a_tensor_environment_is_stepped_without_numpy_to_the_same_bits() -> None:
    settings = EnvSettings(id="flowrl-test/Tensors-v0", count=3)
    envs, arrays = Tensors(), Tensors()
    envs.reset = envs.step = None  # type: ignore[method-assign, assignment]
    arrays_only = Adapter(ByNumPy(arrays), settings)
    tensors = Adapter(envs, settings)
    assert torch.equal(tensors.reset(7), arrays_only.reset(7)) and envs.seed == arrays.seed == 7
    for number in range(7):
        action = torch.full((3, 1), 0.1 * number)
        one, other = tensors.step(action), arrays_only.step(action)
        for name in ("obs", "reward", "terminated", "truncated", "successor", "success"):
            a, b = getattr(one, name), getattr(other, name)
            assert a.dtype == b.dtype and torch.equal(a.nan_to_num(9), b.nan_to_num(9)), name
        assert one.obs.dtype == one.reward.dtype == torch.float32
    assert torch.equal(envs.actions, torch.full((3, 1), 1.2))  # within the bounds, twice as wide


def test_failures_of_a_tensor_environment_are_reported_as_others() -> None:
    adapter = Adapter(Tensors(fault=True), EnvSettings(id="flowrl-test/Tensors-v0", count=3))
    adapter.reset(0)
    with pytest.raises(EnvironmentFailed, match="flowrl-test/Tensors-v0: ValueError: lost"):
        adapter.step(torch.zeros(3, 1))


def test_finite_values_whose_sum_overflows_are_finite() -> None:
    adapter = scripted(low=-np.inf, high=np.inf, size=2)
    step = adapter.step(torch.full((1, 2), 3e38))
    assert step.successor[0, 0] == np.float32(3e38)
