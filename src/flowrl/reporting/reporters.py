"""The reporters of a run, opened together and called as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowrl.reporting import jsonl
from flowrl.reporting.console import EarlierSessions, open_view
from flowrl.reporting.jsonl import MetricsFile
from flowrl.reporting.trackers import open_tracker

Reporter = Callable[[int, Mapping[str, float]], None]  # takes the iteration and its metrics


@dataclass(frozen=True)
class Reporters:
    """metrics.jsonl, the trackers and the training view, if any, of one run: a reporter that calls all of them."""

    metrics: MetricsFile
    others: Sequence[Reporter]

    @property
    def missing(self) -> str:
        """The iterations that metrics.jsonl of a resumed run has lost, in a sentence; '' when all are there."""
        return self.metrics.missing

    @property
    def offset(self) -> int:
        """Bytes of metrics.jsonl so far, which the checkpoint stores for `open_reporters(offset=...)`."""
        return self.metrics.offset

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Report one iteration to all, to metrics.jsonl first: learning curves are drawn from it."""
        self.metrics(iteration, metrics)
        for reporter in self.others:
            reporter(iteration, metrics)


@contextmanager
def open_reporters(
    folder: Path,
    total_steps: int,
    *,
    heading: str = "",
    offset: int | None = None,
    progress: Mapping[str, float] | None = None,
    quiet: bool = False,
    trackers: Sequence[str] = ("tensorboard",),
    config: Mapping[str, Any] | None = None,
) -> Iterator[Reporters]:
    """Open the reporters of a run, which write into the existing `folder` and to stderr, and close them afterwards.

    `heading` is the first line of the training view; `total_steps` is the budget in environment steps. A resumed run
    gives the `offset` and `progress` (iteration, env_steps, seconds) of its checkpoint, and the reporters go on from
    there. `quiet` shows no training view (--json). `trackers` are names of `flowrl.reporting.trackers`; they record
    the resolved `config` of the run, too.

    Raises UsageError when the folder holds the metrics of another run or a tracker cannot start, MissingDependency for
    a tracker that is not installed, StorageError when the folder cannot be written to.
    """
    with ExitStack() as stack:
        metrics = stack.enter_context(closing(MetricsFile(folder / jsonl.NAME, offset, progress)))
        done = progress or {}
        steps = int(done.get("env_steps", 0))
        others: list[Reporter] = []
        for name in trackers:
            tracker = open_tracker(name, folder, config or {}, None if offset is None else steps)
            stack.push(lambda kind, error, trace, tracker=tracker: tracker.close(failed=kind is not None))
            others.append(tracker)
        if not quiet:
            earlier = EarlierSessions(steps, done.get("seconds", 0.0), metrics.returns)
            others.append(stack.enter_context(closing(open_view(total_steps, heading=heading, earlier=earlier))))
        yield Reporters(metrics, others)
