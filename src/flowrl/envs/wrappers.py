"""The wrappers that flowrl puts around each Gymnasium environment of a vector."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import RepeatAction

from flowrl.contracts.errors import EnvironmentFailed, UsageError, in_one_line, stop_behind
from flowrl.contracts.interrupts import is_interrupt
from flowrl.envs import opengl, state_capture, validation, workers
from flowrl.envs.observations import FlatObservations
from flowrl.envs.state_encoding import Inexact
from flowrl.envs.validation import InvalidReturn

FAULT = "fault"  # the info key under which a worker reports that its environment has failed


class GuardedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The border to an environment: checked values that are copies, failures in one line, and a `state` to restore.

    Observations are flat (`FlatObservations`), rewards floats, ends bools, and an info holds only whether the episode
    was a success and, with a render mode, the last picture of an episode. Whatever an environment raises, SystemExit
    too, is raised as EnvironmentFailed; a worker process returns it in the info instead, under `FAULT`.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], index: int = 0) -> None:
        super().__init__(env)
        try:
            self.flat = FlatObservations(env.observation_space)
        except UsageError as error:
            raise UsageError(f"{env.spec.id if env.spec else env}: {error}") from None
        self.observation_space = self.flat
        self.index = index
        self._fault = ""
        self._closed = False
        self._close_error: str | None = None
        physics = state_capture.physics(env)
        if physics is not None and self.render_mode is not None:
            opengl.lighten(physics[0])
        if physics is not None and workers.in_worker():
            state_capture.configure_mujoco_log(console=True)
        self._checksum = state_capture.model_checksum(env)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if not self._fault:
            try:
                return self._checked_step(action)
            except BaseException as error:
                self._fail("step", error)
        return self._nothing(), 0.0, False, False, {FAULT: self._fault}

    def _checked_step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        returned, reward, terminated, truncated, info = validation.transition(self.env.step(action))
        obs = self.flat.flatten(returned)
        reward = validation.number("reward", reward)
        terminated = validation.flag("terminated", terminated)
        truncated = validation.flag("truncated", truncated)
        kept: dict[str, Any] = {}
        if terminated or truncated:
            kept.update(validation.success(info))
            if self.render_mode == "rgb_array":  # now: the vector restarts the environment within this step
                picture = self.env.render()
                kept["render"] = picture.copy() if isinstance(picture, np.ndarray) else picture
        return obs, reward, terminated, truncated, kept

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None and workers.in_worker():
            workers.seed_global_generators(seed)
        if not self._fault:
            try:
                return self.flat.flatten(validation.start(self.env.reset(seed=seed, options=options))), {}
            except BaseException as error:
                self._fail("reset", error)
        return self._nothing(), {FAULT: self._fault}

    def render(self) -> Any:
        try:
            return self.env.render()
        except Exception:
            raise  # `rendering` explains why there are no pictures
        except BaseException as error:
            self._fail("render", error)

    def _nothing(self) -> Any:
        return np.zeros(self.flat.shape, self.flat.dtype)

    def _fail(self, call: str, error: BaseException) -> None:
        """Raise EnvironmentFailed for `error`, or remember it in a worker; an interrupt by the user is raised as is."""
        if interrupted_by_user(error):
            raise stop_behind(error) or error
        self._fault = f"environment {self.index} failed in {call}: {in_one_line(error)}"
        if isinstance(error, InvalidReturn):
            self._fault = f"environment {self.index}: {error}"
        elif isinstance(error, ValueError) and "values to unpack" in str(error):
            self._fault += f". Do its wrappers get what they expect? {validation.OLD_STEP}"
        if not workers.in_worker():
            raise EnvironmentFailed(self._fault) from None

    def close(self) -> None:
        self.close_quietly()

    def close_quietly(self) -> str | None:
        """Close the environment, once; returns what it raised, in one line, or None."""
        if not self._closed:
            self._closed = True
            earlier = stop_behind(sys.exception())  # the context of all that `close` raises while that stop is handled
            try:
                self.env.close()
            except BaseException as error:
                stopped = stop_behind(error)
                if interrupted_by_user(error) and (stopped is None or stopped is not earlier):
                    raise stopped or error  # noqa: B904
                self._close_error = in_one_line(error)
        return self._close_error

    @property
    def state(self) -> dict[str, Any]:
        """The captured state; or {"inexact": reason, "statistics": those of the wrappers}."""
        try:
            state = state_capture.capture(self.env, self._checksum)
        except Inexact as reason:
            return {"inexact": str(reason), "statistics": state_capture.statistics(self.env)}
        if workers.in_worker():
            state["generators"] = workers.global_generators()
        return state

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        state_capture.reinstate(self.env, state)
        if workers.in_worker() and "generators" in state:
            workers.restore_global_generators(state["generators"])

    @property
    def statistics(self) -> None:
        """Write only: the running statistics of the wrappers, as the "statistics" of a `state` holds them."""
        return

    @statistics.setter
    def statistics(self, statistics: dict[str, Any] | None) -> None:
        if statistics is not None:  # of this environment nothing was saved
            state_capture.put_attributes(self.env, statistics)

    @property
    def carried(self) -> None:
        """Write only: what outlives an episode, from the states of an environment "trained" in and a "fresh" one."""
        return

    @carried.setter
    def carried(self, states: dict[str, Any]) -> None:
        if states["trained"] is not None:  # of this environment nothing was saved
            state_capture.carry_over(self.env, states["trained"], states["fresh"])


class RepeatedAction(RepeatAction[Any, Any]):
    """`RepeatAction` whose `render_fps` is the rate of the actions."""

    def __init__(self, env: gymnasium.Env[Any, Any], num_repeats: int) -> None:
        super().__init__(env, num_repeats)
        if env.metadata.get("render_fps"):
            self.metadata = env.metadata | {"render_fps": env.metadata["render_fps"] / num_repeats}


def interrupted_by_user(error: BaseException) -> bool:
    """Return whether a stop signal of this process caused `error`; in a worker process every error is its own."""
    return not workers.in_worker() and is_interrupt(error)
