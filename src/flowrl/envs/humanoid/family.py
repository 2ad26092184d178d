"""The record of HumanoidTrack, the humanoid that imitates motions, and its keys of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field, Strict, field_validator

from flowrl.contracts.settings import Settings
from flowrl.envs.family import Facts, Family, ReturnRange, Variants, task_facts


class MotionSource(Settings):
    """Motions with a weight."""

    source: str
    """As in a list of `motions`: `gait:…`, a file, a folder, or a pattern such as `motions/*.npz`."""
    weight: float = Field(1.0, ge=1e-9, le=1e9)
    """How often, relative to the other sources, one of these motions is trained on."""


class HumanoidSettings(Settings):
    """The keys of the block `env` that only HumanoidTrack has."""

    goal: Literal["full", "root_hands", "root"] | None = None
    """HumanoidTrack: how much of the reference motion the policy sees; null: full. Rewards always use all of it."""
    motions: Annotated[tuple[str | MotionSource, ...], Strict(False)] | None = Field(default=None, min_length=1)
    """HumanoidTrack: the motions to imitate, one or a list: `gait:…`, files, or `{source: …, weight: …}`."""

    @field_validator("motions", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Mapping) else value


def facts(id: str) -> Facts:
    """Return the facts on the task, and how many numbers of an observation each goal lets a policy see."""
    from flowrl.envs.humanoid.episode_starts import SAMPLINGS
    from flowrl.envs.humanoid.motions.gaits.presets import SETS, SINGLES
    from flowrl.envs.humanoid.observation import FOLLOWED, PARTS, visible
    from flowrl.envs.humanoid.tracking import TOO_FAR, HumanoidTrack, Targets

    gaits = [f"gait:{name}" for name in (*SINGLES, *SETS)]
    seen = {goal: int(visible(goal).sum()) for goal in FOLLOWED}
    return task_facts(
        HumanoidTrack,
        PARTS,
        {
            "sampling": list(SAMPLINGS),
            "evaluation": ["false", "true"],
            "self_collision": ["false", "true"],
            "termination_distance": [f"{TOO_FAR} m"],
            "targets": list(get_args(Targets)),
        },
        settings={"goal": list(FOLLOWED), "motions": sorted(gaits, key=lambda gait: gait != "gait:walk")},
        more={"visible": seen},
        below_observation=[f"goal {goal}: a policy sees {size} of these numbers" for goal, size in seen.items()],
    )


FAMILY = Family(
    ids={"flowrl/HumanoidTrack-v0": {}},
    env="flowrl.envs.humanoid.environment:HumanoidTrackEnv",
    vector_env="flowrl.envs.humanoid.environment:HumanoidTrackVectorEnv",
    max_episode_steps=300,
    return_range=ReturnRange(0.0, 300.0, "a humanoid's return"),  # 300 steps of rewards up to 1
    facts=facts,
    settings=HumanoidSettings,
    fixed_by_training={"goal": "full"},
    measures=("alive_s", "strict_alive_s", "mpjpe_mm", "mpjpe_local_mm", "arms_mm", "legs_mm"),
    variants=Variants(
        name="motion",
        names="clips",
        current="showing",
        info="clip",
        differ="the policies imitate other motions (--set env.motions=gait:walk gives all the same)",
    ),
)
