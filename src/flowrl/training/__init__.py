"""Training: rollout, advantages, ratio, surrogate, learner, loop. Independent of samplers."""
