"""The optimiser step of a learner, recorded once for each form of minibatch and replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from torch import Tensor

from flowrl.networks.recording import Recorded, Recorder
from flowrl.training.batch import Batch

StepResult = tuple[Tensor, list[list[dict[str, Tensor]]]]
"""The norms of the gradients of actor and critic (2,), and the metrics of each chunk of each shard."""
Step = Callable[[Sequence[Batch], list[int], bool], StepResult]


class RecordedStep:
    """A learner's step on one shard's minibatch, in chunks of given sizes, with or without metrics."""

    def __init__(
        self, step: Step, recorder: Recorder, without_effect: Callable[[], AbstractContextManager[object]]
    ) -> None:
        """Record `step`, which changes nothing that lasts while `without_effect` is entered."""
        self._step = step
        self._recorder = recorder
        self._without_effect = without_effect
        self._recorded: dict[tuple[object, ...], tuple[Recorded, list[list[str]]]] = {}

    def __call__(self, parts: Sequence[Batch], sizes: list[int], measured: bool) -> StepResult:
        """Return the norms and the metrics of the step on the minibatch `parts`, which it makes."""
        (part,) = parts
        columns = part.columns()
        key = (*columns, *sizes, measured)
        if key not in self._recorded:
            self._recorded[key] = self._new(list(columns), sizes, measured)
        recorded, names = self._recorded[key]
        norms, *values = recorded(*columns.values())
        left = iter(values)
        return norms, [[{name: next(left) for name in chunk} for chunk in names]]

    def forget(self) -> None:
        """Drop all recordings: other tensors hold the state of the optimiser."""
        self._recorded.clear()

    def _new(self, columns: list[str], sizes: list[int], measured: bool) -> tuple[Recorded, list[list[str]]]:
        """Return the step on tensors, and the names of the metrics of each chunk, which its first call finds."""
        names: list[list[str]] = []

        def on_tensors(*tensors: Tensor) -> list[Tensor]:
            norms, (metrics,) = self._step([Batch.of(dict(zip(columns, tensors, strict=True)))], sizes, measured)
            names[:] = [list(chunk) for chunk in metrics]
            return [norms, *(value for chunk in metrics for value in chunk.values())]

        return Recorded(on_tensors, self._recorder, self._without_effect), names
