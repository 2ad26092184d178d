"""A policy outside the trainer: one record in NumPy, and what is made of it: C, ONNX and Python without torch."""
