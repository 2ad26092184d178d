"""Training: rollout, advantages, ratio, surrogate, learner, loop. Knows no sampler."""
