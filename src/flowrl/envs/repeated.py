"""An action held for several control steps, where Gymnasium steps the environment."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.wrappers import RepeatAction


class RepeatedAction(RepeatAction[Any, Any]):
    """`RepeatAction` whose `render_fps` is that of what it shows: the actions' rate."""

    def __init__(self, env: gymnasium.Env[Any, Any], num_repeats: int) -> None:
        super().__init__(env, num_repeats)
        if env.metadata.get("render_fps"):
            self.metadata = env.metadata | {"render_fps": env.metadata["render_fps"] / num_repeats}
