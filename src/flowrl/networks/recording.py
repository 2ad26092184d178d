"""Functions of tensors that are recorded once and then replayed: on a GPU with one launch instead of hundreds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

Function = Callable[..., Sequence[Tensor]]
Replay = Callable[[], None]

WARM_UPS = 3  # calls before a recording, in which libraries allocate and choose what they need


class Recorder(Protocol):
    """Records the operators of a call, so that they can be run again on the same memory."""

    def warm_up(self, call: Callable[[], Any]) -> None:
        """Call `call` as often as is needed before it can be recorded."""
        ...

    def record(self, call: Callable[[], Sequence[Tensor]]) -> tuple[Replay, Sequence[Tensor]]:
        """Call `call` once and return what runs its operators again, and the tensors that they write each time."""
        ...


class CudaGraphs:
    """Records CUDA graphs as PyTorch's notes on CUDA graphs describe: warm-up on another stream, and capture into a
    memory pool of the graph."""

    def warm_up(self, call: Callable[[], Any]) -> None:
        """Call `call` three times, on a stream of its own."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                call()
        torch.cuda.current_stream().wait_stream(stream)

    def record(self, call: Callable[[], Sequence[Tensor]]) -> tuple[Replay, Sequence[Tensor]]:
        """Capture `call`, whose kernels do not run meanwhile; RuntimeError for one that reads a tensor's value."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = call()
        return graph.replay, outputs


class Recorded:
    """A function of tensors: recorded at the first call with arguments of a form, and replayed at each of that form.

    The function may change tensors besides (weights, for example), which have to keep their memory; it draws no random
    numbers, and what it does may not depend on values in tensors. Before a recording it is called several times with
    the effects that `without_effect` allows.
    """

    def __init__(
        self,
        function: Function,
        recorder: Recorder,
        without_effect: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._function = function
        self._recorder = recorder
        self._without_effect = without_effect
        self._recordings: dict[tuple[Any, ...], tuple[list[Tensor], Replay, Sequence[Tensor]]] = {}

    def __call__(self, *arguments: Tensor) -> list[Tensor]:
        """Return copies of what the function returns for the `arguments`."""
        form = tuple((each.shape, each.dtype) for each in arguments)
        if form not in self._recordings:
            self._recordings[form] = self._record(arguments)
        inputs, replay, outputs = self._recordings[form]
        for place, each in zip(inputs, arguments, strict=True):
            place.copy_(each)
        replay()
        return [each.clone() for each in outputs]

    def _record(self, arguments: Sequence[Tensor]) -> tuple[list[Tensor], Replay, Sequence[Tensor]]:
        inputs = [each.clone() for each in arguments]

        def call() -> Sequence[Tensor]:
            return self._function(*inputs)

        with self._without_effect():
            self._recorder.warm_up(call)
            return inputs, *self._recorder.record(call)
