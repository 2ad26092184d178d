"""The block `env` of a recipe: which environment a run has, and how it is stepped."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from flowrl.contracts.settings import Changeable, Settings
from flowrl.envs.families import FAMILIES
from flowrl.envs.simulation.warp_settings import WarpSettings
from flowrl.envs.wrapping import check_form

LONGEST_EPISODE = 1_000_000  # steps that can be asked for: an evaluation waits for its episodes to end
FAMILY_SETTINGS = tuple(family.settings for family in FAMILIES if family.settings is not None)
FAMILY_KEYS = frozenset(key for settings in FAMILY_SETTINGS for key in settings.model_fields)


class EnvStepping(Settings):
    """The keys of every environment that come before those of the families."""

    id: str
    """A Gymnasium id with continuous actions, such as `flowrl/GridWorld-v0` or `HalfCheetah-v5` (see `flowrl envs`), or
    an environment of your own: `my_env.py:MyEnv`, `my_package.envs:MyEnv`."""
    count: int = Field(default=16, ge=1, le=1_000_000)
    """Environments stepped together. More give each update more, and more varied, data per step of the clock."""
    mode: Changeable[Literal["auto", "sync", "async", "batch"]] = "auto"
    """`batch` steps all together on all cores, where flowrl knows the environment itself; `auto` does so wherever
    it can, else `sync`, one after another; `async` runs a process per environment, which pays above a millisecond
    per step."""
    threads: Changeable[int] = Field(default=0, ge=0, le=1024)
    """Threads of the simulations that flowrl steps itself; 0: all cores. Results do not depend on them."""
    simulator: Changeable[Literal["auto", "mujoco", "warp"]] = "auto"
    """The physics engine of the tasks that flowrl steps itself. `mujoco` simulates in float64 on the CPU's cores,
    `warp` in float32 with MuJoCo Warp, for thousands of environments on a GPU. `auto` is `mujoco`, but `warp` where
    PyTorch finds a GPU, MuJoCo Warp is installed, and `count` is 4096 or more."""
    warp: WarpSettings = WarpSettings()
    timeout_s: Changeable[float | None] = Field(default=120.0, ge=0, le=86_400)
    """Seconds within which `async` expects every environment to be made, and the answer of every process to a step,
    reset or restore; an environment that needs longer has failed. 0 or null: no limit. The other modes cannot interrupt
    an environment that hangs."""
    squash: Literal["clip", "tanh"] = "clip"
    """How a policy's action is brought into [-1, 1] before it is scaled to the environment's bounds."""


class EnvSettings(*reversed(FAMILY_SETTINGS), EnvStepping):  # type: ignore[misc]
    """Which environment, and how it is run."""

    action_repeat: int = Field(default=1, ge=1, le=10_000)
    """Control steps for which an action is held; their rewards are summed. Where it takes many equal actions to come
    anywhere, more makes exploring easier, and training faster. Steps, lengths and `gamma` then count actions; the
    environment's own time limit still counts control steps."""
    options: dict[str, Any] = Field(default_factory=dict, max_length=100)
    """Keyword arguments of the environment's constructor, such as `mode` of GridWorld, or `max_episode_steps`."""

    wrappers: list[Any] = Field(default_factory=list, max_length=20)
    """Wrappers around each environment, the first innermost: names from `gymnasium.wrappers` or `my.py:Mine`, with
    arguments as in `{FrameStackObservation: {stack_size: 4}}`. Environments are then stepped one by one."""
    history: int = Field(default=1, ge=1, le=1000)
    """Observations that the policy sees together: the last so many, the oldest first. At the start of an episode the
    first observation fills the places of those before it."""
    flatten: bool = False
    """Whether an observation that is an image is taken as a flat list of its numbers. Without it images are refused,
    for the networks know nothing of pixels. Other observations are flattened in any case."""

    @field_validator("wrappers")
    @classmethod
    def _wrappers_are_named(cls, wrappers: list[Any]) -> list[Any]:
        check_form(wrappers)
        return wrappers

    @field_validator("options")
    @classmethod
    def _episodes_end(cls, options: dict[str, Any]) -> dict[str, Any]:
        steps = options.get("max_episode_steps")
        if isinstance(steps, int | float) and steps > LONGEST_EPISODE:
            raise ValueError(f"max_episode_steps must be {LONGEST_EPISODE:,} at most, got {steps}")
        return options

    def arguments(self) -> dict[str, Any]:
        """Return all keyword arguments of the environment: its options, and the families' keys that are set."""
        keys = self.model_dump(mode="json", include=set(FAMILY_KEYS))
        return self.options | {key: value for key, value in keys.items() if value is not None}
