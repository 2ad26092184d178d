"""Which environment a run has, and how it is stepped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, Strict, field_validator

from flowrl.contracts.settings import Settings


class MotionSource(Settings):
    """Motions with a weight."""

    source: str
    """As in a list of `motions`: `gait:…`, a file, a folder, or a pattern such as `clips/*.npz`."""
    weight: float = Field(1.0, gt=0)
    """How often, relative to the other sources, one of these motions is trained on."""


class EnvSettings(Settings):
    """Which environment, and how it is run."""

    id: str
    """A Gymnasium id with Box spaces, such as `flowrl/GridWorld-v0` or `HalfCheetah-v5` (see `flowrl envs`)."""
    count: int = Field(default=16, ge=1)
    """Environments stepped together. More give each update more, and more varied, data per step of the clock."""
    mode: Literal["auto", "sync", "async", "batch"] = "auto"
    """`batch` steps all together on all cores, where flowrl knows the environment itself; `auto` does so wherever
    it can, else `sync`, one after another; `async` runs a process per environment, which pays above a millisecond
    per step."""
    threads: int = Field(default=0, ge=0)
    """Threads of the simulations that flowrl steps itself; 0: all cores. Results do not depend on them."""
    squash: Literal["clip", "tanh"] = "clip"
    """How a policy's action is brought into [-1, 1] before it is scaled to the environment's bounds."""
    goal: Literal["full", "root_hands", "root"] | None = None
    """HumanoidTrack: what of the reference motion the policy is told; null: full. Rewards always ask for all of it."""
    motions: Annotated[tuple[str | MotionSource, ...], Strict(False)] | None = Field(
        default=None, min_length=1
    )
    """HumanoidTrack: the motions to imitate, one or a list: `gait:…`, files, or `{source: …, weight: …}`."""
    action_repeat: int = Field(default=1, ge=1)
    """Control steps for which an action is held; their rewards are summed. Where it takes many equal actions to come
    anywhere, more makes exploring easier, and training faster. Steps, lengths and `gamma` then count actions; the
    environment's own time limit still counts control steps."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the environment, such as `mode` of GridWorld or `max_episode_steps`."""

    @field_validator("motions", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Mapping) else value

    def arguments(self) -> dict[str, Any]:
        """All keyword arguments of the environment."""
        named = dict(self.options)
        if self.goal is not None:
            named["goal"] = self.goal
        if self.motions is not None:
            named["motions"] = [m if isinstance(m, str) else m.model_dump() for m in self.motions]
        return named
