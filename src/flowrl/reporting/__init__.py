"""Progress output, metric files and plots of training runs.

A reporter is a callable `(iteration, metrics) -> None` with a `close()`; `reporters.open_reporters` opens the
reporters of a run. Importing a module of this package does not import torch, tensorboard or matplotlib.
"""
