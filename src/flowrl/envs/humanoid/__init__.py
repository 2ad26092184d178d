"""A physics humanoid that imitates reference motions, with all or a part of the goal observed (HumanoidTrack)."""
