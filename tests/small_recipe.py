"""A recipe that trains in a fraction of a second: 4 GridWorlds, iterations of 32 steps."""


def small(total_steps: int) -> str:
    """The text of the recipe."""
    return f"""
total_steps: {total_steps}
env: {{id: flowrl/GridWorld-v0, count: 4}}
policy: {{hidden: [8]}}
sampler: {{name: euler, steps: 2}}
rollout: {{steps: 8}}
learner: {{epochs: 1, minibatches: 1, critic: {{hidden: [8]}}}}
"""
