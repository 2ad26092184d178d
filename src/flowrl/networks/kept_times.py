"""What a network computes from its weights and a time alone, kept for the times of a fixed-step sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from torch import Tensor

MOST_TIMES = 256  # An adaptive sampler evaluates ever new times, and remembering them all would only fill the memory.

Value = TypeVar("Value")


class KeptTimes(Generic[Value]):
    """The values of `compute` at the latest times, which are good as long as the `weights` do not change.

    PyTorch counts in-place changes of a tensor (`_version`), but its fused optimisers do not count: what holds this
    drops it before such a step.
    """

    def __init__(self, weights: Sequence[Tensor], compute: Callable[[float], Value]) -> None:
        # Kept, not only their addresses: what takes the place of a freed tensor could have its address and count.
        self._weights = list(weights)
        self._versions = _versions(weights)
        self._compute = compute
        self._values: dict[float, Value] = {}

    def __len__(self) -> int:
        return len(self._values)

    def are_of(self, weights: Sequence[Tensor]) -> bool:
        """Return whether `weights` are the tensors that were given, unchanged as far as is counted."""
        return self._versions == _versions(weights)

    def at(self, t: float) -> Value:
        """Return the value at the time `t`."""
        value = self._values.get(t)
        if value is None:
            if len(self._values) >= MOST_TIMES:
                self._values.clear()
            value = self._values[t] = self._compute(t)
        return value


def _versions(weights: Sequence[Tensor]) -> list[tuple[int, int]]:
    return [(each._version, each.data_ptr()) for each in weights]
