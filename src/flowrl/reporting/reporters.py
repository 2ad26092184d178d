"""The reporters of a run, opened together and called as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flowrl.reporting import jsonl
from flowrl.reporting.console import open_view
from flowrl.reporting.jsonl import MetricsFile
from flowrl.reporting.tensorboard import TensorBoard

Reporter = Callable[[int, Mapping[str, float]], None]  # takes the iteration and its metrics


@dataclass(frozen=True)
class Reporters:
    """metrics.jsonl, TensorBoard and the training view, if any, of one run: a reporter that calls all of them."""

    metrics: MetricsFile
    others: Sequence[Reporter]

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
    env_steps: int = 0,
    quiet: bool = False,
) -> Iterator[Reporters]:
    """Open the reporters of a run, which write into the existing `folder` and to stderr, and close them afterwards.

    `heading` is the first line of the training view; `total_steps` is the budget in environment steps. A resumed run
    gives the `offset` and `env_steps` of its checkpoint. `quiet` shows no training view (--json).

    Raises UsageError when the folder holds the metrics of another run, StorageError when it cannot be written to.
    """
    with ExitStack() as stack:
        metrics = stack.enter_context(closing(MetricsFile(folder / jsonl.NAME, offset)))
        others: list[Reporter] = [
            stack.enter_context(closing(TensorBoard(folder, None if offset is None else env_steps)))
        ]
        if not quiet:
            others.append(stack.enter_context(closing(open_view(total_steps, heading=heading, env_steps=env_steps))))
        yield Reporters(metrics, others)
