"""A physics humanoid that imitates reference motions, told all of them or only a part (HumanoidTrack)."""
