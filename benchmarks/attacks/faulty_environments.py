"""Environments that break Gymnasium's contract, each in one way, sync and async: what flowrl makes of them.

    python benchmarks/attacks/faulty_environments.py

Every case says how `flowrl train` must end and what its output must name. Prints the cases that end otherwise and the
number of them, and exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from processes import flowrl, warm_up

ID = "faulty/Env-v0"
LARGEST = float(np.finfo(np.float64).max)


class Point(gymnasium.Env[Any, Any]):
    """A point on a line, 20 steps; every faulty environment is this one with one method of its own."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space: Any = spaces.Box(-10, 10, (2,), np.float32)
        self.action_space: Any = spaces.Box(-1, 1, (1,), np.float32)
        self.x, self.t = 0.0, 0

    def obs(self) -> Any:
        return np.array([self.x, self.t / 20], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.uniform(-1, 1)), 0
        return self.obs(), {}

    def step(self, action: Any) -> Any:
        self.x, self.t = self.x + 0.1 * float(np.asarray(action).reshape(-1)[0]), self.t + 1
        return self.obs(), self.reward(), False, self.t == 20, {}

    def reward(self) -> Any:
        return -abs(self.x)

    def render(self) -> Any:
        return np.zeros((16, 16, 3), np.uint8)


@dataclass
class Case:
    """A faulty environment, and what must come of it."""

    name: str
    make: Callable[[], gymnasium.Env[Any, Any]]
    code: int = 5  # 0: it is taken
    words: tuple[str, ...] = ()  # all of them must be in the output
    modes: tuple[str, ...] = ("sync", "async")
    sets: tuple[str, ...] = ()
    absent: str = "a bug in flowrl"


def changed(**methods: Any) -> Callable[[], gymnasium.Env[Any, Any]]:
    """A class of Point with other methods or, for `spaces`, other spaces."""
    observation, action = methods.pop("observation", None), methods.pop("action", None)

    class Faulty(Point):
        def __init__(self, render_mode: str | None = None) -> None:
            super().__init__(render_mode)
            self.observation_space = observation or self.observation_space
            self.action_space = action or self.action_space

    for name, method in methods.items():
        setattr(Faulty, name, method)
    return Faulty


def ending(**info: Any) -> Callable[[Any, Any], Any]:
    """A step whose last info is this."""

    def step(self: Any, action: Any) -> Any:
        obs, reward, terminated, truncated, _ = Point.step(self, action)
        return obs, reward, terminated, truncated, dict(info) if truncated else {}

    return step


def returning(*result: Any) -> Callable[[Any, Any], Any]:
    """A step that gives `result`, with the observation where it says `...`."""
    return lambda self, action: tuple(self.obs() if part is ... else part for part in result)


def leaving(call: Callable[[], Any]) -> Callable[[Any, Any], Any]:
    """A step that calls something after some steps."""

    def step(self: Any, action: Any) -> Any:
        if self.t == 5:
            call()
        return Point.step(self, action)

    return step


def raising(error: BaseException) -> Callable[..., Any]:
    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        raise error

    return method


def shared_buffer() -> Callable[..., Any]:
    """An observation that the environment changes after having returned it."""

    def obs(self: Any) -> Any:
        self.buffer = getattr(self, "buffer", np.zeros(2, np.float32))
        self.buffer[:] = self.x, self.t / 20
        return self.buffer

    return obs


def box(*shape: int, low: Any = -1, high: Any = 1, dtype: Any = np.float32) -> spaces.Box:
    return spaces.Box(low, high, shape, dtype)


def tight_step(self: Any, action: Any) -> Any:
    assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
    return Point.step(self, action)


def global_draws() -> Any:
    return np.array([np.random.rand(), random.random()])  # noqa: NPY002, S311


TIGHT = spaces.Box(np.array([0.1, -0.3]), np.array([0.7, 0.9]), dtype=np.float64)
MISSHAPEN = ("environment 0", "(3,)", "(2,)")


def cases() -> Iterator[Case]:
    # ------------------------------------------------------------------ rewards
    yield Case("reward of shape (1,)", changed(reward=lambda s: np.array([-1.0])), 0)
    yield Case("reward as 0-d array", changed(reward=lambda s: np.array(-1.0)), 0)
    yield Case("reward as numpy bool", changed(reward=lambda s: np.bool_(True)), 0)
    yield Case("reward as int", changed(reward=lambda s: -1), 0)
    yield Case("reward of shape (2,)", changed(reward=lambda s: np.array([1.0, 2.0])), 5, ("reward", "(2,)"))
    yield Case("reward None", changed(reward=lambda s: None), 5, ("reward", "None"))
    yield Case("reward text", changed(reward=lambda s: "high"), 5, ("reward",))
    yield Case("reward nan", changed(reward=lambda s: float("nan")), 5, ("reward",))
    yield Case("reward inf", changed(reward=lambda s: float("inf")), 5, ("reward",))
    yield Case("reward complex", changed(reward=lambda s: 1j), 5, ("reward",))
    # ------------------------------------------------------------- observations
    yield Case("obs of another length", changed(obs=lambda s: np.zeros(3, np.float32)), 5, MISSHAPEN)
    yield Case("obs as a column", changed(obs=lambda s: np.zeros((2, 1), np.float32)), 5, ("(2, 1)", "(2,)"))
    yield Case("obs as a list", changed(obs=lambda s: [s.x, 0.0]), 0)
    yield Case("obs float64", changed(obs=lambda s: np.array([s.x, 0.0])), 0)
    yield Case("obs integers", changed(obs=lambda s: np.array([1, 2])), 0)
    yield Case("obs None", changed(obs=lambda s: None), 5, ("observation",))
    yield Case("obs text", changed(obs=lambda s: "here"), 5, ("observation",))
    yield Case("obs a scalar", changed(obs=lambda s: 0.5), 5, ("observation", "(2,)"))
    yield Case("obs nan at reset", changed(obs=lambda s: np.full(2, np.nan, np.float32)), 5, ("observation",))
    yield Case("obs inf later", changed(obs=lambda s: np.array([s.x, np.inf if s.t > 3 else 0])), 5, ("observation",))
    yield Case("obs ragged", changed(obs=lambda s: [np.zeros(1), np.zeros(2)]), 5, ("observation",))
    yield Case("obs of objects", changed(obs=lambda s: np.array([None, 1], dtype=object)), 5, ("observation",))
    yield Case("a buffer that changes", changed(obs=shared_buffer()), 0)
    # --------------------------------------------------------- what step returns
    yield Case("old API, four values", changed(step=returning(..., 0.0, False, {})), 5, ("4", "5"))
    yield Case("six values", changed(step=returning(..., 0.0, False, False, {}, 1)), 5, ("6", "5"))
    yield Case("step gives None", changed(step=lambda s, a: None), 5, ("step",))
    yield Case("terminated None", changed(step=returning(..., 0.0, None, False, {})), 5, ("terminated", "None"))
    yield Case("terminated numpy bool", changed(step=returning(..., 0.0, np.bool_(True), False, {})), 0)
    yield Case("terminated (1,)", changed(step=returning(..., 0.0, np.array([True]), False, {})), 0)
    yield Case("truncated text", changed(step=returning(..., 0.0, False, "no", {})), 5, ("truncated",))
    yield Case("terminated 1", changed(step=returning(..., 0.0, 1, False, {})), 0)
    yield Case("info None", changed(step=returning(..., 0.0, True, False, None)), 5, ("info",))
    yield Case("info a list", changed(step=returning(..., 0.0, True, False, [])), 5, ("info",))
    # -------------------------------------------------------- what reset returns
    yield Case("reset without info", changed(reset=lambda s, **k: s.obs()), 5, ("reset",))
    yield Case("reset gives None", changed(reset=lambda s, **k: None), 5, ("reset",))
    yield Case("reset without seed", changed(reset=lambda s: (s.obs(), {})), 5, ("reset", "seed"))
    # ------------------------------------------------------------------- success
    yield Case("is_success (1,)", changed(step=ending(is_success=np.array([True]))), 0)
    yield Case("is_success None", changed(step=ending(is_success=None)), 0)
    yield Case("is_success numpy bool", changed(step=ending(is_success=np.bool_(False))), 0)
    yield Case("is_success 1.0", changed(step=ending(is_success=1.0)), 0)
    yield Case("is_success text", changed(step=ending(is_success="yes")), 5, ("is_success", "yes"))
    yield Case("is_success a dict", changed(step=ending(is_success={"a": 1})), 5, ("is_success",))
    # ---------------------------------------------------------------- exceptions
    yield Case("step raises", changed(step=raising(ValueError("too fast"))), 5, ("environment 0", "too fast"))
    yield Case("reset raises", changed(reset=raising(KeyError("goal"))), 5, ("environment 0", "goal"))
    yield Case("sys.exit(0) in step", changed(step=leaving(lambda: sys.exit(0))), 5, ("SystemExit",))
    yield Case("sys.exit() in reset", changed(reset=raising(SystemExit())), 5, ("SystemExit",))
    yield Case("an own BaseException", changed(step=raising(type("Stop", (BaseException,), {})("x"))), 5, ("Stop",))
    yield Case("GeneratorExit", changed(step=raising(GeneratorExit())), 5)
    yield Case("close raises", changed(close=raising(RuntimeError("no window"))), 0, ("no window",))
    yield Case("constructor raises", lambda: raising(RuntimeError("no model"))(None), 5, ("no model",))
    yield Case("the worker dies", changed(step=leaving(lambda: os._exit(3))), 5, ("process",), ("async",))
    yield Case("the worker is killed", changed(step=leaving(lambda: os.kill(os.getpid(), signal.SIGKILL))), 5,
               ("process",), ("async",))  # fmt: skip
    yield Case("the worker is stopped", changed(step=leaving(lambda: os.kill(os.getpid(), signal.SIGSTOP))), 5,
               ("env.timeout_s",), ("async",), ("env.timeout_s=3",))  # fmt: skip
    yield Case("the worker hangs", changed(step=leaving(lambda: time.sleep(10**6))), 5, ("env.timeout_s",), ("async",),
               ("env.timeout_s=3",))  # fmt: skip
    # -------------------------------------------------------------------- spaces
    yield Case("bounds that float32 rounds", changed(action=TIGHT, step=tight_step), 0)
    yield Case("bounds of float64's largest", changed(action=box(1, low=-LARGEST, high=LARGEST, dtype=np.float64),
               step=lambda s, a: (Point.step(s, a) if np.isfinite(a).all() else 1 / 0)), 0)  # fmt: skip
    yield Case("bounds of float32's largest", changed(action=box(1, low=-3.4e38, high=3.4e38),
               step=lambda s, a: (Point.step(s, a) if abs(a[0]) < 1e6 else 1 / 0)), 0)  # fmt: skip
    yield Case("discrete actions", changed(action=spaces.Discrete(3)), 2, ("Discrete",))
    yield Case("integer actions", changed(action=box(1, dtype=np.int64)), 2, ("int64",))
    # --------------------------------------------------------------------- other
    yield Case("text on descriptor 1", changed(obs=lambda s: (os.write(1, b"x\n"), np.zeros(2, np.float32))[1]), 0)
    yield Case("global random numbers", changed(obs=lambda s: global_draws()), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="part of a case's name")
    options = parser.parse_args()
    warm_up()
    faults = number = 0
    for case in cases():
        if options.only not in case.name:
            continue
        number += 1
        gymnasium.registry.pop(ID, None)
        gymnasium.register(ID, entry_point=case.make)  # type: ignore[arg-type]  # a maker without arguments
        for mode in case.modes:
            with tempfile.TemporaryDirectory(prefix="faulty-") as scratch:
                recipe = Path(scratch) / "tiny.yaml"
                recipe.write_text(
                    f"total_steps: 640\nenv: {{id: {ID}, count: 4, mode: {mode}}}\nrollout: {{steps: 16}}\n"
                )
                sets = [part for override in case.sets for part in ("--set", override)]
                outcome = flowrl(["train", "tiny.yaml", "--name", "run", *sets], Path(scratch), 60)
            missing = [word for word in case.words if word not in outcome.output]
            fault = outcome.fault or (f"exit code {outcome.code}, not {case.code}" if outcome.code != case.code else "")
            fault = fault or (f"does not name {missing}" if missing else "")
            if fault:
                faults += 1
                print(f"{case.name} ({mode}): {fault}: {outcome.output.strip().splitlines()[-2:]}", flush=True)
    print(f"{number} environments, {faults} faults")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
