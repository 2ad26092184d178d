"""The flow itself: path, conditional flow matching, network. Knows no sampler, no training, no RL."""
