"""The reporters of a run, opened together and called as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from flowrl.reporting import metrics_file
from flowrl.reporting.console import TrainingView, open_view
from flowrl.reporting.metrics_file import MetricsFile
from flowrl.reporting.tensorboard import TensorBoard


class Reporters:
    """metrics.jsonl, TensorBoard and the training view of one run: a reporter that calls the three."""

    def __init__(
        self,
        metrics: MetricsFile,
        others: list[Callable[[int, Mapping[str, float]], None]],
        stack: ExitStack,
    ) -> None:
        self.metrics = metrics
        self._others = others
        self._stack = stack

    @property
    def offset(self) -> int:
        """Bytes of metrics.jsonl so far: what the checkpoint records for `open_reporters(offset=...)`."""
        return self.metrics.offset

    def __call__(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Report one iteration everywhere, to the file first: it is the one that curves are drawn from."""
        self.metrics(iteration, metrics)
        for reporter in self._others:
            reporter(iteration, metrics)

    def close(self) -> None:
        """Close all of them, the view first (it gives the cursor back)."""
        self._stack.close()

    def __enter__(self) -> Reporters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_reporters(
    folder: Path,
    total_steps: int,
    *,
    heading: str = "",
    offset: int | None = None,
    env_steps: int = 0,
    quiet: bool = False,
) -> Reporters:
    """Open what a run writes into `folder` (which exists) and what it shows on stderr.

    `heading` is the view's first line (algorithm, environment, seed); `total_steps` the budget in environment
    steps. A resumed run gives the `offset` and `env_steps` of its checkpoint; `quiet` shows nothing (--json).

    Raises UsageError when the folder holds another run's metrics, StorageError when it cannot be written to.
    """
    with ExitStack() as stack:
        metrics = stack.enter_context(MetricsFile(folder / metrics_file.NAME, offset))
        board = stack.enter_context(TensorBoard(folder, None if offset is None else env_steps))
        view: TrainingView = open_view(total_steps, heading=heading, env_steps=env_steps, quiet=quiet)
        stack.callback(view.close)
        return Reporters(metrics, [board, view], stack.pop_all())
