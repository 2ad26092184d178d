"""A task whose return never changes is drawn by its episode length, the number that shows learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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


@pytest.mark.parametrize("tasks", [1, 3])
def test_the_caption_is_within_the_figure(tasks: int) -> None:
    runs = [curve([1.0, 2.0], [3.0, 4.0]) for _ in range(2)]
    figure = figures.curves({str(number): {"fpo": runs} for number in range(tasks)}, ["fpo"])
    figure.canvas.draw()
    (caption,) = [text for text in figure.texts if "while training" in text.get_text()]
    extent = caption.get_window_extent()
    assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width and extent.y0 >= 0
    assert (caption.get_text().count("\n") > 0) == (tasks == 1)
