"""The ids of all families, registered with Gymnasium when this is imported.

A family without environments of its own registers nothing, and an id that is registered already is left as it is.
"""

import gymnasium

from flowrl.envs.families import FAMILIES

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
