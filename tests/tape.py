"""A recorder for the CPU that replays as a CUDA graph does: the same operators on the same memory, without Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

READS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}  # of operators that read values
DRAWS = torch.Tag.nondeterministic_seeded
FROM_OUTSIDE = "aten.lift_fresh.default"  # torch.tensor([...]) of Python's numbers


class _Operators(TorchDispatchMode):
    """Keeps the operators that run within; AssertionError for one that a CUDA graph cannot record."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        by_mask = "index" in str(func) and any(
            isinstance(each, Tensor) and each.dtype == torch.bool for each in tree_leaves(args[1:2])
        )
        assert not READS & set(func.tags) and not by_mask, f"{func} reads a value, which a CUDA graph cannot"
        assert DRAWS not in func.tags and str(func) != FROM_OUTSIDE, f"{func} would be the same in every replay"
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operators.append((func, args, kwargs or {}, result))
        return result


class Tape:
    """Writes down the operators of a call with the very tensors that they read and wrote."""

    def __init__(self) -> None:
        self.recordings = 0
        self.replays = 0

    def warm_up(self, call: Callable[[], Any]) -> None:
        call()

    def record(self, call: Callable[[], Sequence[Tensor]]) -> tuple[Callable[[], None], Sequence[Tensor]]:
        self.recordings += 1
        with _Operators() as kept:
            outputs = call()

        @torch.no_grad()
        def replay() -> None:
            self.replays += 1
            for func, args, kwargs, result in kept.operators:
                again = func(*args, **kwargs)
                for place, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(place, Tensor) and place is not value and not place._is_zerotensor():
                        place.copy_(value)

        return replay, outputs
