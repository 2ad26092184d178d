"""The ids of all families, registered with Gymnasium when this is imported."""

from __future__ import annotations

import gymnasium

from flowrl.envs.families import FAMILIES


def register_all() -> None:
    """Register the ids of every family that has environments of its own, except for those already registered."""
    for family in FAMILIES:
        for id, kwargs in family.ids.items():
            if family.env is not None and id not in gymnasium.registry:
                gymnasium.register(
                    id=id,
                    entry_point=family.env,
                    vector_entry_point=family.vector_env,
                    kwargs=dict(kwargs),
                    max_episode_steps=family.max_episode_steps,
                )


register_all()
