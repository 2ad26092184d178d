"""Trackio: a run in its local database, in the project TRACKIO_PROJECT (default: flowrl)."""

from __future__ import annotations

import os
from typing import Any


class TrackioRun:
    """A run of Trackio, which keeps its data under TRACKIO_DIR and needs no server."""

    def __init__(self, name: str, config: dict[str, Any], id: str | None) -> None:
        import trackio

        project = os.environ.get("TRACKIO_PROJECT", "flowrl")
        self._trackio = trackio
        self.id: str | None = id or name  # its runs are named, and continued by their name
        trackio.init(
            project=project, name=self.id, config=config, resume="never" if id is None else "allow", embed=False
        )

    def log(self, values: dict[str, float], iteration: int, env_steps: int) -> None:
        """Record the metrics of an iteration."""
        self._trackio.log(values, step=iteration)

    def finish(self, *, failed: bool) -> None:
        """End the run there, after everything is written."""
        self._trackio.finish()
