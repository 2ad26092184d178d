"""Trackers: experiment trackers that record the metrics of a run, each through its own library.

A recipe lists them: `trackers: [tensorboard, wandb]`. A library is imported only where it is listed. Project, server
and offline mode are those of the library's own environment variables (`WANDB_PROJECT`, `WANDB_MODE=offline`,
`MLFLOW_TRACKING_URI`, `TRACKIO_DIR`, …).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from flowrl.contracts.errors import FlowrlError, MissingDependency, UsageError, in_one_line
from flowrl.contracts.installing import reinstall
from flowrl.contracts.notices import say
from flowrl.contracts.regular_files import read_bounded
from flowrl.reporting import mlflow, trackio, wandb
from flowrl.reporting.metrics import metric
from flowrl.reporting.tensorboard import TensorBoard
from flowrl.storage.files import write_text

IDS = "trackers.json"  # in the run folder: tracker -> the id of the run there, with which a resume continues it
_MOST_BYTES = 10_000
_PLAIN_ID = re.compile(r"[\w-]{1,128}")


class Tracker(Protocol):
    """What records the metrics of a run."""

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of an iteration."""
        ...

    def close(self, *, failed: bool = False) -> None:
        """End the recording; `failed` says that the run ended by an error."""
        ...


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker knows of a run."""

    folder: Path
    config: Mapping[str, Any]  # resolved, plain values
    id: str | None  # of the run in the tracker, where an earlier session has recorded it
    resumed_at: int | None  # environment steps of the checkpoint of a resumed run


class TensorBoardTracker:
    """Event files in the run folder. Raises StorageError when they cannot be written."""

    id = None

    def __init__(self, run: TrackedRun) -> None:
        self._board = TensorBoard(run.folder, run.resumed_at)

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics at the step `env_steps`."""
        self._board(iteration, metrics)

    def close(self, *, failed: bool = False) -> None:
        """Close the event file."""
        self._board.close()


class LibraryTracker:
    """A tracker of another library: where it fails, training goes on without it, and metrics.jsonl has everything."""

    def __init__(self, name: str, open_run: Callable[[str, dict[str, Any], str | None], Any], run: TrackedRun) -> None:
        self._name = name
        try:
            self._run = open_run(run.folder.name, dict(run.config), run.id)
        except FlowrlError:
            raise
        except Exception as error:
            raise UsageError(
                f"trackers: {name} cannot record this run: {in_one_line(error)}. {ADVICE[name]} Or take {name} out of "
                "trackers."
            ) from error
        self._works = True

    @property
    def id(self) -> str | None:
        """The id of the run in the tracker."""
        return self._run.id

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Record the finite metrics under the names that TensorBoard has."""
        values = {metric(name).tag: float(value) for name, value in metrics.items() if math.isfinite(value)}
        if self._works:
            self._guarded(lambda: self._run.log(values, iteration, int(metrics.get("env_steps", iteration))))

    def close(self, *, failed: bool = False) -> None:
        """End the run in the tracker."""
        self._guarded(lambda: self._run.finish(failed=failed))

    def _guarded(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._works = False
            say(
                f"warning: the tracker {self._name} failed: {in_one_line(error)}. The run goes on without it; "
                "metrics.jsonl holds everything."
            )


LIBRARIES: dict[str, Callable[[str, dict[str, Any], str | None], Any]] = {
    "wandb": wandb.WandbRun,
    "trackio": trackio.TrackioRun,
    "mlflow": mlflow.MlflowRun,
}
NAMES = ("tensorboard", *LIBRARIES)
ADVICE = {
    "wandb": "Log in with `wandb login`, or set WANDB_MODE=offline.",
    "trackio": "Look at TRACKIO_DIR and HF_TOKEN.",
    "mlflow": "Look at MLFLOW_TRACKING_URI.",
}


def check(names: Sequence[str], place: str = "trackers") -> None:
    """Raise MissingDependency, with the line to type, for a tracker whose package is not installed; imports nothing.

    `place` is where the recipe lists them, for the message.
    """
    for name in names:
        if find_spec(name) is None:
            raise MissingDependency(
                f"{place}: the tracker {name} needs the package {name}, which is not installed. Type: "
                f"{reinstall(name)}; or take {name} out of trackers."
            )


def open_tracker(name: str, folder: Path, config: Mapping[str, Any], resumed_at: int | None) -> Tracker:
    """Start recording the run in `folder` with the tracker `name`, or continue where an earlier session recorded it.

    Raises MissingDependency without its package, UsageError where it cannot start, and StorageError.
    """
    check([name])
    ids = {} if resumed_at is None else _ids(folder)
    run = TrackedRun(folder, config, ids.get(name), resumed_at)
    if name not in LIBRARIES:
        return TensorBoardTracker(run)
    tracker = LibraryTracker(name, LIBRARIES[name], run)
    if tracker.id is not None and tracker.id != run.id:
        write_text(folder / IDS, json.dumps(ids | {name: tracker.id}, indent=2) + "\n")
    return tracker


def _ids(folder: Path) -> dict[str, str]:
    """Return the ids that earlier sessions have left; {} where there are none, or they are damaged."""
    with suppress(OSError, ValueError, AttributeError):
        saved = json.loads(read_bounded(folder / IDS, _MOST_BYTES))
        return {name: id for name, id in saved.items() if isinstance(id, str) and _PLAIN_ID.fullmatch(id)}
    return {}
