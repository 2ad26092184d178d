"""TensorBoard: every metric as a scalar over environment steps."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from flowrl.reporting.metrics import metric
from flowrl.storage import claim
from flowrl.storage.files import unwritable


class TensorBoard:
    """A reporter that writes an event file into `folder`, flushed after every iteration.

    The step axis is `env_steps` (which is therefore not written as a scalar), so that runs with different rollout
    lengths can be compared. A resumed run gives `resumed_at`, the environment steps of its checkpoint: readers of the
    folder then drop the points beyond it that the interrupted run had already written.

    Raises StorageError when the event file cannot be written.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        purge_step = None if resumed_at is None else resumed_at + 1
        with self._storage_errors():
            folder.stat()  # raises where there is no folder; SummaryWriter would make it
            if resumed_at is not None:
                _wait_for_a_later_name(folder)
            self._writer = SummaryWriter(str(folder), purge_step=purge_step, filename_suffix=".flowrl")

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Write the finite `metrics` at step `metrics["env_steps"]`, or at `iteration` without it."""
        step = int(metrics.get("env_steps", iteration))
        with self._storage_errors():
            for name, value in {"iteration": iteration, **metrics}.items():
                if name != "env_steps" and math.isfinite(value):
                    self._writer.add_scalar(metric(name).tag, value, step)
            self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        with self._storage_errors():
            self._writer.close()

    @contextmanager
    def _storage_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self._folder / "events.out.tfevents", error) from error


def _wait_for_a_later_name(folder: Path) -> None:
    """Wait, for a second at most, until a new event file comes after those in `folder`.

    Readers take the files in the order of their names, events.out.tfevents.SECOND.HOST.PROCESS.NUMBER, and would
    otherwise drop the points of the resumed run.
    """
    names = sorted(path.name for path in folder.glob("events.out.tfevents.*"))
    host, process = claim.host(), os.getpid()
    for _ in range(11):
        if not names or names[-1] < f"events.out.tfevents.{int(time.time()):010d}.{host}.{process}":
            return
        if names[-1].startswith(f"events.out.tfevents.{int(time.time()):010d}.{host}.{process}."):
            return  # of this process, whose numbers rise
        time.sleep(0.1)
