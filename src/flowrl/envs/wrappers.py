"""The wrappers that flowrl puts around each Gymnasium environment of a vector."""

from __future__ import annotations

from multiprocessing import parent_process
from typing import Any

import gymnasium
from gymnasium.wrappers import RepeatAction

from flowrl.contracts.errors import EnvironmentFailed, in_one_line
from flowrl.envs import opengl, state_capture, worker_processes

SUCCESS = ("is_success", "success")  # the info keys under which environments report success


class GuardedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """The outermost wrapper of every sub-environment: failures in one line, small infos, and a `state` to restore.

    In a worker process it ignores stop signals, which the main process of the run handles.
    """

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        physics = state_capture.physics(env)
        if physics is not None and self.render_mode is not None:
            opengl.lighten(physics[0])
        if parent_process() is not None:
            worker_processes.become_worker()
            if physics is not None:
                state_capture.configure_mujoco_log(console=True)
        self._checksum = state_capture.model_checksum(env)
        self.index = 0

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        try:
            obs, reward, terminated, truncated, info = self.env.step(action)
            kept = {key: info[key] for key in SUCCESS if key in info}
            if (terminated or truncated) and self.render_mode == "rgb_array":
                kept["render"] = self.env.render()  # the vector restarts the environment within this step
        except Exception as error:
            raise EnvironmentFailed(f"environment {self.index} failed in step: {in_one_line(error)}") from None
        return obs, reward, terminated, truncated, kept

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        try:
            obs, _ = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise EnvironmentFailed(f"environment {self.index} failed in reset: {in_one_line(error)}") from None
        return obs, {}

    @property
    def state(self) -> dict[str, Any]:
        """The captured state, or {"inexact": reason}."""
        try:
            return state_capture.capture(self.env, self._checksum)
        except state_capture.Inexact as reason:
            return {"inexact": str(reason)}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        state_capture.reinstate(self.env, state)


class RepeatedAction(RepeatAction[Any, Any]):
    """`RepeatAction` whose `render_fps` is the rate of the actions."""

    def __init__(self, env: gymnasium.Env[Any, Any], num_repeats: int) -> None:
        super().__init__(env, num_repeats)
        if env.metadata.get("render_fps"):
            self.metadata = env.metadata | {"render_fps": env.metadata["render_fps"] / num_repeats}
