"""Weights & Biases: a run there, in the project WANDB_PROJECT (default: flowrl)."""

from __future__ import annotations

import os
from typing import Any


class WandbRun:
    """A run of Weights & Biases, whose axis is `time/env_steps`. `WANDB_MODE=offline` keeps it in ./wandb."""

    def __init__(self, name: str, config: dict[str, Any], id: str | None) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "flowrl"),
            name=os.environ.get("WANDB_NAME", name),
            config=config,
            id=id,
            resume=None if id is None else "allow",
            settings=wandb.Settings(console="off"),  # which would take over the training view
        )
        self._run.define_metric("*", step_metric="time/env_steps")
        self.id: str | None = self._run.id

    def log(self, values: dict[str, float], iteration: int, env_steps: int) -> None:
        """Record the metrics of an iteration; of one that was recorded before, which a resume repeats, nothing."""
        self._run.log(values, step=iteration)

    def finish(self, *, failed: bool) -> None:
        """End the run there."""
        self._run.finish(exit_code=1 if failed else 0)
