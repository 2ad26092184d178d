"""One environment that breaks Gymnasium's contract in many ways, one after another, sync and async."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from flowrl.contracts.errors import EnvironmentFailed, UsageError
from flowrl.envs.adapter import Adapter
from flowrl.envs.factory import make
from flowrl.envs.finite import NotFinite
from flowrl.envs.observations import FlatObservations
from flowrl.envs.settings import EnvSettings
from flowrl.envs.workers import WorkerVectorEnv

ID = "flowrl-test/Faulty-v0"
LARGEST = float(np.finfo(np.float64).max)
NAN = float("nan")


class Line(gymnasium.Env[Any, Any]):
    """Walks 4 steps along a line: observation (position, step), reward -|position|, with one method replaced."""

    observation_space: Any = spaces.Box(-10, 10, (2,), np.float32)
    action_space: Any = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, methods: dict[str, Callable[..., Any]], spaces: dict[str, Any]) -> None:
        for name, method in methods.items():
            setattr(self, name, method.__get__(self))
        vars(self).update(spaces)
        self.x, self.t = 0.0, 0

    def see(self) -> Any:
        return np.array([self.x, self.t], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.t = 1.0, 0
        return self.see(), {}

    def step(self, action: Any) -> Any:
        self.x, self.t = self.x + float(action[0]), self.t + 1
        return self.see(), self.reward(), False, self.t == 4, self.info()

    def reward(self) -> Any:
        return -abs(self.x)

    def info(self) -> Any:
        return {}


@pytest.fixture
def faulty() -> Iterator[Callable[..., Adapter]]:
    """Makes adapters of `Line` with other methods or, as observation_space and action_space, other spaces."""
    made: list[Adapter] = []

    def adapter(mode: Any = "sync", count: int = 2, timeout_s: float | None = 30.0, **changes: Any) -> Adapter:
        others = {name: changes.pop(name) for name in list(changes) if name.endswith("_space")}
        gymnasium.registry.pop(ID, None)
        gymnasium.register(ID, entry_point=lambda: Line(changes, others))
        made.append(make(EnvSettings(id=ID, count=count, mode=mode, timeout_s=timeout_s)))
        return made[-1]

    yield adapter
    for each in made:
        each.close()
    gymnasium.registry.pop(ID, None)


def returns(*values: Any) -> Callable[..., Any]:
    """A step of these values, with the observation for `...`."""
    return lambda self, action: tuple(self.see() if value is ... else value for value in values)


def raises(error: BaseException) -> Callable[..., Any]:
    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        raise error

    return method


def says(value: Any) -> Callable[..., Any]:
    return lambda self, *arguments, **named: value


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "reward (2,)": ({"reward": says(np.array([1.0, 2.0]))}, r"the reward is an array of shape \(2,\)"),
    "reward None": ({"reward": says(None)}, "the reward is None, not a number"),
    "reward text": ({"reward": says("high")}, "the reward is 'high' .str., not a number"),
    "reward complex": ({"reward": says(1j)}, "the reward is 1j .complex."),
    "reward dict": ({"reward": says({"total": 1.0})}, "the reward is .*dict"),
    "obs longer": ({"see": says(np.zeros(3))}, r"the observation has shape \(3,\), and its space says \(2,\)"),
    "obs column": ({"see": says(np.zeros((2, 1)))}, r"has shape \(2, 1\), and its space says \(2,\)"),
    "obs scalar": ({"see": says(0.5)}, r"has shape \(\), and its space says \(2,\)"),
    "obs None": ({"see": says(None)}, r"the observation is None, not an array of numbers of shape \(2,\)"),
    "obs text": ({"see": says("here")}, "the observation is 'here'"),
    "obs objects": ({"see": says(np.array([None, 1], dtype=object))}, "the observation is .* type object"),
    "obs ragged": ({"see": says([np.zeros(1), np.zeros(2)])}, "the observation is .*list"),
    "obs complex": ({"see": says(np.zeros(2, complex))}, "the observation is .* type complex128"),
    "obs dict": ({"see": says({"a": 1.0})}, "the observation is .*dict"),
    "4 values": ({"step": returns(..., 0.0, False, {})}, "step returned 4 values: step must return 5 values.*old gym"),
    "6 values": ({"step": returns(..., 0.0, False, False, {}, 1)}, "step returned 6 values: step must return 5"),
    "step None": ({"step": says(None)}, "step returned None: step must return 5 values"),
    "terminated None": ({"step": returns(..., 0.0, None, False, {})}, "terminated is None, not True or False"),
    "terminated 2": ({"step": returns(..., 0.0, 2, False, {})}, "terminated is 2 .int., not True or False"),
    "truncated text": ({"step": returns(..., 0.0, False, "no", {})}, "truncated is 'no' .str."),
    "terminated (2,)": ({"step": returns(..., 0.0, np.array([0, 1]), False, {})}, r"terminated is .* \(2,\)"),
    "info None": ({"step": returns(..., 0.0, True, False, None)}, "the info that step returned is None, not a dict"),
    "info list": ({"step": returns(..., 0.0, True, False, [])}, r"the info that step returned is \[\] .list."),
    "reset bare": ({"reset": lambda self, **named: self.see()}, r"reset returned .*must return \(observation, info\)"),
    "reset None": ({"reset": says(None)}, "reset returned None"),
    "reset 3": ({"reset": lambda self, **named: (self.see(), {}, 1)}, "reset returned"),
    "reset seed": ({"reset": lambda self: (self.see(), {})}, "failed in reset: TypeError: .* 'seed'"),
    "success text": ({"info": says({"is_success": "yes"})}, r"info\['is_success'\] .* is 'yes' .str., not True or"),
    "success dict": ({"info": says({"success": {"a": 1}})}, r"info\['success'\] at the end of an episode is .*dict"),
    "success 0.7": ({"info": says({"is_success": 0.7})}, r"info\['is_success'\] .* is 0.7"),
    "step raises": ({"step": raises(ValueError("too\nfast"))}, r"failed in step: ValueError: too fast \(test_f"),
    "reset raises": ({"reset": raises(KeyError("goal"))}, "failed in reset: KeyError: 'goal'"),
    "exit": ({"step": lambda self, action: sys.exit(0)}, "failed in step: SystemExit: 0"),
    "exit in reset": ({"reset": raises(SystemExit())}, "failed in reset: SystemExit"),
    "own exception": ({"step": raises(type("Stop", (BaseException,), {})("x"))}, "failed in step: Stop: x"),
    "generator": ({"step": raises(GeneratorExit())}, "failed in step: GeneratorExit"),
    "interrupt": ({"step": raises(KeyboardInterrupt("esc"))}, "failed in step: KeyboardInterrupt: esc"),
    "unpacks": ({"step": lambda self, action: dict([(1, 2, 3)])}, "failed in step: ValueError"),
}


def play(adapter: Adapter, steps: int = 4) -> list[Any]:
    adapter.reset(seed=0)
    return [adapter.step(torch.full((adapter.count, 1), 0.25)) for _ in range(steps)]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_one_paragraph(name: str, faulty: Callable[..., Adapter]) -> None:
    methods, said = REFUSED[name]
    with pytest.raises(EnvironmentFailed, match=f"^{ID}: environment 0:? .*{said}") as caught:
        play(faulty(**methods))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["reward (2,)", "obs column", "success dict", "step raises", "exit", "interrupt"])
def test_a_worker_says_the_same_in_the_same_words(name: str, faulty: Callable[..., Adapter]) -> None:
    messages = []
    for mode in ("sync", "async"):
        with pytest.raises(EnvironmentFailed) as caught:
            play(faulty(mode, **REFUSED[name][0]))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


TAKEN: dict[str, dict[str, Any]] = {
    "reward (1,)": {"reward": lambda self: np.array([-abs(self.x)])},
    "reward 0-d": {"reward": lambda self: np.array(-abs(self.x))},
    "reward float32": {"reward": lambda self: np.float32(-abs(self.x))},
    "reward tensor": {"reward": lambda self: torch.tensor(-abs(self.x))},
    "obs list": {"see": lambda self: [self.x, self.t]},
    "obs tuple": {"see": lambda self: (self.x, self.t)},
    "obs float64": {"see": lambda self: np.array([self.x, self.t])},
    "obs tensor": {"see": lambda self: torch.tensor([self.x, float(self.t)])},
    "truncated (1,)": {"step": lambda self, action: ends(self, action, lambda end: np.array([end]))},
    "truncated int": {"step": lambda self, action: ends(self, action, int)},
    "success (1,)": {"info": says({"is_success": np.array([True])})},
    "success bool_": {"info": says({"is_success": np.bool_(True)})},
    "success 1.0": {"info": says({"success": 1.0})},
    "success second": {"info": says({"is_success": None, "success": 1})},
    "strange info": {"info": says({"ram": object(), "fault": "none", "render": [1, 2]})},
}


def ends(self: Any, action: Any, form: Callable[[bool], Any]) -> Any:
    obs, reward, terminated, truncated, info = Line.step(self, action)
    return obs, reward, terminated, form(truncated), info


@pytest.mark.parametrize("name", TAKEN)
def test_what_can_be_used_is_taken(name: str, faulty: Callable[..., Adapter]) -> None:
    """x = 1.25, 1.5, 1.75, 2, and the fourth step is the last."""
    adapter = faulty(**TAKEN[name])
    steps = play(adapter)
    for number, step in enumerate(steps, start=1):
        x = 1 + 0.25 * number
        assert step.reward.tolist() == [-x, -x] and step.successor.tolist() == [[x, number]] * 2
        assert step.truncated.tolist() == [number == 4] * 2
    assert steps[3].obs.tolist() == [[1, 0]] * 2
    assert steps[3].success.tolist() == [1, 1] if "success" in name else steps[3].success.isnan().all()


@pytest.mark.parametrize("value", [None, NAN, np.float64("nan")])
def test_success_may_be_absent(value: Any, faulty: Callable[..., Adapter]) -> None:
    assert play(faulty(info=says({"is_success": value})))[3].success.isnan().all()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_what_was_returned_is_a_value(mode: str, faulty: Callable[..., Adapter]) -> None:
    """The environment has one buffer for everything, also for the last observation, and overwrites it."""
    buffer = np.zeros(2, np.float32)

    def see(self: Any) -> Any:
        buffer[:] = self.x, self.t
        return buffer

    steps = play(faulty(mode, see=see), 8)
    assert [step.successor[:, 1].tolist() for step in steps] == [[k, k] for k in (1, 2, 3, 4, 1, 2, 3, 4)]
    assert steps[3].obs.tolist() == [[1, 0]] * 2 and steps[3].successor.tolist() == [[2, 4]] * 2


def test_an_environment_may_change_its_action(faulty: Callable[..., Adapter]) -> None:
    def step(self: Any, action: Any) -> Any:
        action *= 0
        return Line.step(self, action)

    adapter = faulty(step=step, action_space=spaces.Box(-np.inf, np.inf, (1,), np.float32))
    adapter.reset(0)
    action = torch.ones(2, 1)
    adapter.step(action)
    assert action.tolist() == [[1], [1]]


@pytest.mark.parametrize(("low", "high"), [((0.1, -0.3), (0.7, 0.9)), ((-1 / 3, 1e-9), (1 / 3, 0.1))])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_actions_are_in_the_space_to_the_last_bit(
    low: Any, high: Any, dtype: Any, faulty: Callable[..., Adapter]
) -> None:
    space = spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)
    seen: list[Any] = []

    def step(self: Any, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action!r}"
        seen.append(action.copy())
        return Line.step(self, action)

    adapter = faulty(step=step, action_space=space, count=1)
    adapter.reset(0)
    for raw in (-9.0, -1.0, -0.3, 0.0, 0.9999, 1.0, 9.0):
        adapter.step(torch.full((1, 2), raw))
    for found, bound in ((seen[0], space.low), (seen[-1], space.high)):
        np.testing.assert_allclose(found, bound, rtol=4 * np.finfo(dtype).eps)
    assert {action.dtype for action in seen} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("bound", "dtype"),
    [(LARGEST, np.float64), (3.4e38, np.float32), (float(2**31), np.float32), (1e20, np.float64), (np.inf, np.float16)],
)
def test_enormous_bounds_count_as_none(bound: float, dtype: Any, faulty: Callable[..., Adapter]) -> None:
    adapter = faulty(action_space=spaces.Box(-bound, bound, (1,), dtype), count=1)
    adapter.reset(0)
    assert adapter.step(torch.tensor([[3.0]])).successor[0, 0] == 4.0
    assert any("count as none" in note for note in adapter.notes()) == np.isfinite(bound)


def test_one_enormous_bound_leaves_the_other(faulty: Callable[..., Adapter]) -> None:
    adapter = faulty(action_space=spaces.Box(0.0, 3.4e38, (1,), np.float32), count=1)
    adapter.reset(0)
    assert adapter.step(torch.tensor([[-3.0]])).successor[0, 0] == 1.0  # clipped to 0
    assert adapter.step(torch.tensor([[3.0]])).successor[0, 0] == 4.0


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_float64_keeps_its_resolution(mode: str, faulty: Callable[..., Adapter]) -> None:
    """At 1e8 float32 has steps of 8: there a walk of 0.25 per step would not move at all."""
    far = {"see": lambda self: np.array([1e8 + self.x, self.t])}
    adapter = faulty(mode, observation_space=spaces.Box(-np.inf, np.inf, (2,), np.float64), **far)
    steps = play(adapter, 3)
    assert [step.successor[0, 0].item() - 1e8 for step in steps] == [1.25, 1.5, 1.75]
    assert not any("float32" in note for note in adapter.notes(finished=True))
    assert any("float32" in note for note in adapter.notes(finished=True, normalised=False))


def test_steps_that_vanish_in_float32_are_reported_once(faulty: Callable[..., Adapter]) -> None:
    adapter = faulty(see=lambda self: np.array([self.x, 1e8 + self.t]))
    play(adapter, 3)
    notes = adapter.notes(finished=True)
    assert len([note for note in notes if "observation 1 of" in note and "steps of 8" in note]) == 1
    play(adapter, 3)
    assert not any("observation 1" in note for note in adapter.notes(finished=True))


def test_ordinary_observations_are_not_reported(faulty: Callable[..., Adapter]) -> None:
    adapter = faulty()
    play(adapter, 300)
    assert adapter.notes(finished=True) == []


def test_episodes_without_an_end_are_reported_once(faulty: Callable[..., Adapter]) -> None:
    adapter = faulty(step=lambda self, action: (self.see(), 0.0, False, False, {}))
    play(adapter, 999)
    assert adapter.notes() == []
    adapter.step(torch.zeros(2, 1))
    (note,) = adapter.notes()
    assert "no episode" in note and "1,000 steps" in note and "env.options.max_episode_steps" in note
    adapter.step(torch.zeros(2, 1))
    assert adapter.notes() == []


def test_a_non_finite_observation_at_reset_is_the_environments_fault(faulty: Callable[..., Adapter]) -> None:
    with pytest.raises(EnvironmentFailed, match="observation of environment 0, 1 is not finite after reset"):
        faulty(see=says(np.array([0, NAN]))).reset(0)


def test_a_non_finite_value_says_whose_it_is(faulty: Callable[..., Adapter]) -> None:
    adapter = faulty(reward=says(float("inf")))
    adapter.reset(0)
    with pytest.raises(NotFinite, match="the reward of environment 0, 1 is not finite") as caught:
        adapter.step(torch.zeros(2, 1))
    assert caught.value.of_environment
    with pytest.raises(NotFinite) as caught:
        adapter.step(torch.full((2, 1), NAN))
    assert not caught.value.of_environment


NESTED = spaces.Dict(
    {
        "arm": spaces.Box(-1, 1, (2, 2), np.float32),
        "gear": spaces.Discrete(3, start=1),
        "lights": spaces.MultiBinary(2),
        "rest": spaces.Tuple([spaces.MultiDiscrete([2, 3]), spaces.Box(0, 255, (1,), np.uint8)]),
    }
)


def test_other_spaces_are_flattened_as_gymnasium_does() -> None:
    flat = FlatObservations(NESTED)
    NESTED.seed(0)
    for _ in range(20):
        value = NESTED.sample()
        np.testing.assert_array_equal(flat.flatten(value), spaces.flatten(NESTED, value))
    assert flat.shape == spaces.flatten_space(NESTED).shape == (15,)


def test_precision_follows_what_float32_holds() -> None:
    kept = {kind: FlatObservations(spaces.Box(0, 1, (1,), kind)).dtype for kind in (np.uint8, np.float16, np.int16)}
    assert set(kept.values()) == {np.dtype(np.float32)}
    for kind in (np.int32, np.int64, np.float64, np.uint32):
        assert FlatObservations(spaces.Box(0, 1, (1,), kind)).dtype == np.float64
    assert FlatObservations(spaces.Discrete(4)).dtype == np.float32


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_dict_observation_trains_as_it_is(mode: str, faulty: Callable[..., Adapter]) -> None:
    space = spaces.Dict({"step": spaces.Discrete(5), "x": spaces.Box(-9, 9, (1,), np.float32)})
    adapter = faulty(mode, observation_space=space, see=lambda self: {"x": [self.x], "step": self.t})
    steps = play(adapter)
    assert adapter.observation_size == 6
    assert steps[2].successor[0].tolist() == [0, 0, 0, 1, 0, 1.75]
    assert steps[3].successor[1].tolist() == [0, 0, 0, 0, 1, 2.0] and steps[3].obs[1].tolist() == [1, 0, 0, 0, 0, 1.0]


@pytest.mark.parametrize(
    ("space", "value", "said"),
    [
        (spaces.Discrete(3), 3, "the observation is 3, and its space says 0 to 2"),
        (spaces.Discrete(3), 0.5, "the observation is 0.5"),
        (spaces.Discrete(3), "a", "the observation is 'a'"),
        (spaces.MultiDiscrete([2, 2]), [0, 2], "the observation is 2, and its space says 0 to 1"),
        (NESTED, {"arm": np.zeros((2, 2))}, "without the key 'gear' of its Dict space"),
        (NESTED, {"arm": np.zeros(4), "gear": 1}, r"the observation\['arm'\] has shape \(4,\)"),
        (spaces.Tuple([spaces.Discrete(2)]), (0, 1), "its space a Tuple of 1"),
    ],
)
def test_a_wrong_part_of_a_space_is_named(space: Any, value: Any, said: str, faulty: Callable[..., Adapter]) -> None:
    with pytest.raises(EnvironmentFailed, match=f"environment 0: .*{said}"):
        faulty(observation_space=space, see=says(value)).reset(0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"observation_space": spaces.Text(3)}, "its observation space is Text"),
        ({"observation_space": spaces.Box(0, 1, (0,))}, r"observation space has the shape \(0,\)"),
        ({"action_space": spaces.Box(0, 1, (0,))}, r"action space has the shape \(0,\)"),
        ({"action_space": spaces.Discrete(2)}, "its action space is Discrete"),
        ({"action_space": spaces.Box(0, 1, (1,), np.int64)}, "int64"),
    ],
)
def test_spaces_that_cannot_be_used_are_refused(
    changes: dict[str, Any], said: str, faulty: Callable[..., Adapter]
) -> None:
    with pytest.raises(UsageError, match=said):
        faulty(**changes)


@pytest.mark.parametrize("error", [RuntimeError("no model"), SystemExit(3), KeyboardInterrupt("q")])
def test_a_constructor_that_fails_is_the_environments(error: BaseException) -> None:
    gymnasium.register("flowrl-test/Unmade-v0", entry_point=lambda: raises(error)(None))
    with pytest.raises(EnvironmentFailed, match=f"cannot be made: {type(error).__name__}: "):
        make(EnvSettings(id="flowrl-test/Unmade-v0", count=1))
    del gymnasium.registry["flowrl-test/Unmade-v0"]


def test_a_constructor_that_fails_in_a_worker_is_named() -> None:
    home = os.getpid()

    def create() -> Any:
        if os.getpid() != home:
            sys.exit("only one per machine")
        return Line({}, {})

    gymnasium.register("flowrl-test/Once-v0", entry_point=create)
    with pytest.raises(EnvironmentFailed, match=r"environment \d cannot be made: SystemExit: only one per machine"):
        make(EnvSettings(id="flowrl-test/Once-v0", count=2, mode="async"))
    del gymnasium.registry["flowrl-test/Once-v0"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_close_that_raises_is_one_line(
    mode: str, faulty: Callable[..., Adapter], capfd: pytest.CaptureFixture[str]
) -> None:
    adapter = faulty(mode, close=raises(RuntimeError("no\nwindow")))
    play(adapter, 1)
    adapter.close()
    adapter.close()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and "RuntimeError: no window" in lines[0]


def at_step_2(call: Callable[[], Any]) -> Callable[..., Any]:
    def step(self: Any, action: Any) -> Any:
        if self.t == 2:
            call()
        return Line.step(self, action)

    return step


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: os._exit(3), "a worker process died: of environment [01] .ended with exit code 3."),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "a worker process died: .*ended by signal SIGKILL"),
        (lambda: time.sleep(1e6), r"environment 0, 1 did not answer to step within 0\.5 s.*env\.timeout_s=SECONDS"),
        (lambda: os.kill(os.getpid(), signal.SIGSTOP), r"environment 0, 1 did not answer to step within 0\.5 s"),
    ],
    ids=["exit", "kill", "hang", "stop"],
)
def test_a_worker_that_is_gone_or_hangs_ends_the_call_and_the_processes(
    call: Any, said: str, faulty: Callable[..., Adapter]
) -> None:
    adapter = faulty("async", timeout_s=0.5, step=at_step_2(call))
    begin = time.monotonic()
    with pytest.raises(EnvironmentFailed, match=said):
        play(adapter)
    adapter.close()
    assert time.monotonic() - begin < 10
    envs = adapter._envs
    assert isinstance(envs, WorkerVectorEnv) and not any(process.is_alive() for process in envs.processes)


def test_a_close_that_hangs_is_given_up(faulty: Callable[..., Adapter], capfd: pytest.CaptureFixture[str]) -> None:
    home = os.getpid()
    adapter = faulty("async", timeout_s=0.5, close=lambda self: os.getpid() == home or time.sleep(1e6))
    play(adapter, 1)
    begin = time.monotonic()
    adapter.close()
    assert time.monotonic() - begin < 8
    assert "closing flowrl-test/Faulty-v0 failed" in capfd.readouterr().err


@pytest.mark.parametrize("timeout", [None, 0.0, 100.0])
def test_a_close_that_hangs_is_given_up_without_a_limit_of_the_calls(
    timeout: float | None,
    faulty: Callable[..., Adapter],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("flowrl.envs.workers.CLOSING_S", 0.5)
    home = os.getpid()
    adapter = faulty("async", timeout_s=timeout, close=lambda self: os.getpid() == home or time.sleep(30))
    play(adapter, 1)
    begin = time.monotonic()
    adapter.close()
    assert time.monotonic() - begin < 8
    assert "failed, which changes no result: environment 0, 1 did not close within 0.5 s" in capfd.readouterr().err


def test_a_constructor_that_hangs_in_a_worker_ends() -> None:
    home = os.getpid()

    def create() -> Any:
        if os.getpid() != home:
            time.sleep(30)
        return Line({}, {})

    gymnasium.register("flowrl-test/Slow-v0", entry_point=create)
    begin = time.monotonic()
    said = r"flowrl-test/Slow-v0: environment 0, 1 was not made within 0\.5 s: .*env\.timeout_s=SECONDS"
    with pytest.raises(EnvironmentFailed, match=said):
        make(EnvSettings(id="flowrl-test/Slow-v0", count=2, mode="async", timeout_s=0.5))
    assert time.monotonic() - begin < 10
    del gymnasium.registry["flowrl-test/Slow-v0"]


@pytest.mark.parametrize("call", ["restore", "carry_over"])
def test_a_worker_that_hangs_while_its_state_is_set_ends_the_call(call: str, faulty: Callable[..., Adapter]) -> None:
    class Slow(Line):
        slow = False

        def __setattr__(self, name: str, value: Any) -> None:
            if name == "x" and value == 1.0 and Slow.slow:  # as it is after a reset
                time.sleep(30)
            object.__setattr__(self, name, value)

    faulty()  # which removes its environment at the end
    gymnasium.registry.pop(ID)
    gymnasium.register(ID, entry_point=lambda: Slow({}, {}))
    settings = EnvSettings(id=ID, count=2, mode="async", timeout_s=0.5)
    trained = make(settings)
    trained.reset(0)
    state = trained.state()
    trained.close()
    Slow.slow = True
    env = make(settings)
    begin = time.monotonic()
    with pytest.raises(
        EnvironmentFailed, match=r"environment 0, 1 did not answer to (continue|set_attr) within 0\.5 s"
    ):
        getattr(env, call)(state)
    env.close()
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("timeout", [None, 0.0])
def test_without_a_limit_a_slow_worker_is_waited_for(timeout: float | None, faulty: Callable[..., Adapter]) -> None:
    adapter = faulty("async", timeout_s=timeout, step=at_step_2(lambda: time.sleep(0.3)))
    assert len(play(adapter)) == 4


def test_signals_to_the_group_leave_the_workers_to_the_main_process(faulty: Callable[..., Adapter]) -> None:
    adapter = faulty("async")
    adapter.reset(0)
    envs = adapter._envs
    assert isinstance(envs, WorkerVectorEnv)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for process in envs.processes:
            assert process.pid is not None
            os.kill(process.pid, number)
    time.sleep(0.1)
    adapter.step(torch.zeros(2, 1))
    adapter.close()
    assert all(process.exitcode == 0 for process in envs.processes)


def globally_random(self: Any) -> Any:
    """Python's number, and NumPy's."""
    return np.array([random.random(), np.random.rand()])  # noqa: NPY002


def test_workers_draw_different_global_random_numbers_and_resume_them(faulty: Callable[..., Adapter]) -> None:
    adapter = faulty("async", see=globally_random)
    start = adapter.reset(3)
    assert len(set(start.flatten().tolist())) == 4  # the processes and the generators are independent
    assert torch.equal(start, faulty("async", see=globally_random).reset(3))
    adapter.step(torch.zeros(2, 1))
    state = adapter.state()
    assert adapter.exact_resume
    expected = adapter.step(torch.zeros(2, 1)).obs
    resumed = faulty("async", see=globally_random)
    resumed.restore(state)
    assert torch.equal(resumed.step(torch.zeros(2, 1)).obs, expected)


def test_a_large_constant_is_reported(faulty: Callable[..., Adapter]) -> None:
    """Two tables of 8 MiB: every checkpoint has 16 MiB more."""

    def reset(self: Any, *, seed: int | None = None, options: Any = None) -> Any:
        self.table = np.zeros(2**20)
        return Line.reset(self, seed=seed)

    adapter = faulty(reset=reset)
    adapter.reset(0)
    (note,) = adapter.notes()
    assert "16 MB to every checkpoint" in note and "'table' (8 MB" in note
