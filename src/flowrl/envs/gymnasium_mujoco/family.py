"""The record of Gymnasium's MuJoCo environments, which flowrl steps itself, all rows together."""

from flowrl.envs.family import Family

IDS = (
    *("Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "InvertedDoublePendulum-v5"),
    *("InvertedPendulum-v5", "Swimmer-v5", "Walker2d-v5"),
)

FAMILY = Family(
    ids={id: {} for id in IDS},
    vector_env="flowrl.envs.gymnasium_mujoco.tasks:vector_env",
    replaces="gymnasium.envs.mujoco.",
)
