"""MLflow: a run in the experiment MLFLOW_EXPERIMENT_NAME (default: flowrl) at MLFLOW_TRACKING_URI."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

MOST_PARAMETERS = 100  # of one request
LONGEST_PARAMETER = 500  # characters


class MlflowRun:
    """A run of MLflow; its steps are environment steps, its parameters the settings of the run."""

    def __init__(self, name: str, config: dict[str, Any], id: str | None) -> None:
        from mlflow.entities import Metric, Param
        from mlflow.tracking import MlflowClient

        self._metric = Metric
        self._client = MlflowClient()
        if id is not None:
            self.id: str | None = id
            self._client.update_run(id, status="RUNNING")
            return
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", "flowrl")
        known = self._client.get_experiment_by_name(title)
        experiment = self._client.create_experiment(title) if known is None else known.experiment_id
        self.id = self._client.create_run(experiment, run_name=name).info.run_id
        settings = [Param(key, str(value)[:LONGEST_PARAMETER]) for key, value in _leaves(config)]
        for first in range(0, len(settings), MOST_PARAMETERS):
            self._client.log_batch(self.id, params=settings[first : first + MOST_PARAMETERS])

    def log(self, values: dict[str, float], iteration: int, env_steps: int) -> None:
        """Record the metrics of an iteration at the step `env_steps`."""
        now = int(1000 * time.time())
        self._client.log_batch(self.id, [self._metric(key, value, now, env_steps) for key, value in values.items()])

    def finish(self, *, failed: bool) -> None:
        """End the run there."""
        self._client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


def _leaves(block: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield 'learner.clip' and its value, and so on."""
    for key, value in block.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
