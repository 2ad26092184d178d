"""Flows: path, conditional flow matching, number of function evaluations. Independent of samplers and RL."""
