"""Train with a surrogate objective of your own, in a loop that is put together from flowrl's parts.

A surrogate maps (log-ratio (batch, n), advantage (batch, 1), clip) to an objective (batch, n), which is maximised.
"""

import torch
from torch import Tensor

import flowrl
from flowrl.experiments import build
from flowrl.networks.critic import Critic
from flowrl.networks.normaliser import Normaliser
from flowrl.policies.noise import Noise
from flowrl.training.loop import Training
from flowrl.training.rollout import Collector


def smooth_clip(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """A (1 + clip · tanh(log r / clip)): the slope is A at ratio 1, as PPO's, and fades smoothly outside ± clip."""
    return advantage * (1 + clip * torch.tanh(log_ratio / clip))


def main() -> None:
    config = flowrl.load_config("gridworld", {"total_steps": 12_000})
    build.prepare_process(config)  # threads and seeds
    env = flowrl.make_env(config)
    size, action_size = env.observation_size, env.action_size

    actor = build.make_actor(config, size, action_size)
    normaliser = Normaliser(size)
    updates = config.total_steps // (env.count * config.rollout.steps)
    learner = flowrl.Learner(
        build.make_ratio_estimator(actor, config),
        Critic(size, config.learner.critic),
        normaliser,
        config.learner,
        updates,
        seed=0,
        surrogate=smooth_clip,
    )
    policy = build.make_policy(actor, normaliser, config, Noise(action_size, "random", seed=0), training=True)
    collector = Collector(policy, env)
    collector.start(seed=0)
    training = Training([collector], learner, config.rollout.steps, config.total_steps)

    def report(metrics: dict[str, float]) -> None:
        if metrics["iteration"] % 5 == 0 and "return_mean" in metrics:
            clipped = metrics["clipped_share"]
            print(f"{metrics['env_steps']:>8,} env steps: return {metrics['return_mean']:.3f}, clipped {clipped:.0%}")

    training.run(report)
    env.close()


if __name__ == "__main__":
    main()
