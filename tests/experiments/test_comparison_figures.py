"""A task whose return never changes is drawn by its episode length, the number that shows learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from flowrl.experiments.comparison import figures
from flowrl.reporting.plots.learning_curves import LearningCurve


def curve(returns: list[float], lengths: list[float]) -> LearningCurve:
    columns = {"return_mean": np.array(returns), "length_mean": np.array(lengths)}
    return LearningCurve(Path("run"), {}, columns | {"env_steps": np.arange(len(returns)) + 1.0})


def test_a_constant_return_is_replaced_by_the_episode_length() -> None:
    flat = [curve([20.0, 20.0, np.nan], [9.0, 7.0, 6.0]), curve([20.0, 20.0, 20.0], [9.0, 8.0, 7.0])]
    assert figures.shown_metric(flat) == "length_mean"
    assert figures.shown_metric([*flat, curve([19.0, 20.0, 20.0], [9.0, 8.0, 7.0])]) == "return_mean"
    assert figures.shown_metric([curve([20.0, 20.0], [5.0, 5.0])]) == "return_mean"
    assert figures.shown_metric([]) == "return_mean"
    axes = figures.curves({"grid": {"fpo": flat}}, ["fpo"]).axes[0]
    assert axes.get_title().startswith("grid: ")
