"""What to say when a training has diverged: where, the offending batch, and what usually helps."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import torch

from flowrl.contracts.errors import EnvironmentFailed, FlowrlError, TrainingDiverged
from flowrl.envs.finite import NotFinite
from flowrl.experiments.build import Run
from flowrl.storage import checkpoint


def explained(error: TrainingDiverged, run: Run, folder: Path | None) -> FlowrlError:
    """Add to the error the iteration, the file of the offending tensors, and what to do next; without a `folder` no
    file is written.

    What an environment returned before the first update is its own fault: nothing had been learned by then.
    """
    if isinstance(error, NotFinite) and error.of_environment and run.training.iteration == 0:
        return EnvironmentFailed(
            f"{error.what} No update has been made yet, so the policy's first actions, which are "
            "within the bounds, led to it: look into the environment."
        )
    place = f"in iteration {run.training.iteration + 1}, after {run.training.env_steps:,} env steps"
    offending = getattr(error, "offending", {})
    advice = ""
    if offending:
        if folder is not None:
            path = folder / "diverged.pt"
            with suppress(OSError):
                torch.save(offending, path)
                advice = f" The offending batch is in {path}."
        advice += _advice(offending.get("returns", torch.zeros(1)))
    last = "" if folder is None else _last_good(folder)
    return TrainingDiverged(f"training stopped {place}: {str(error).removesuffix('.')}.{advice}{last}")


def _last_good(folder: Path) -> str:
    """Return which checkpoint of a run that diverged is left, and how to have a later one."""
    latest = folder / checkpoint.LATEST
    try:
        steps = checkpoint.load(latest)["progress"]["env_steps"]
    except FlowrlError:
        return ""
    if steps == 0:
        return f" {latest} holds the untrained policy: a smaller checkpoint.every_s saves earlier."
    return f" The last good checkpoint is {latest}, of {steps:,} env steps."


HUGE_RETURN = 1e6  # the critic's loss is its square: from some multiple of this on it leaves the range of float32


def _advice(returns: torch.Tensor) -> str:
    """Return what usually helps, given the scaled `returns` of the offending batch: smaller ones, or smaller steps."""
    largest = float(returns.abs().nan_to_num(0.0, posinf=math.inf).max())
    if largest < HUGE_RETURN:
        return " A smaller learner.learning_rate or learner.clip usually helps."
    return (
        f" The returns, times learner.reward_scale, reach {largest:.1e}: lower that key until they are of the order of "
        "1 to 1000."
    )
