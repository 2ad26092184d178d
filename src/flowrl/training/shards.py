"""Shards: the equal parts of a run, and sums over them that do not depend on how many processes hold them.

A run of S shards has its environments, noise, probes, permutations and minibatches in S equal parts with generators of
their own. A process holds S / W of them, with W processes, and computes the gradient of each by itself. What has to be
added over all shards is added along one binary tree: pairs of shards within a process first, then pairs of processes.
The sum of two IEEE numbers does not depend on their order, so every process gets the same bits, and these are the same
for 1, 2, 4, …, S processes. (DistributedDataParallel sums around a ring, whose order depends on the processes.)
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from flowrl.contracts.errors import ProcessLost

T = TypeVar("T")


class Shards:
    """The shards of a run of which this process holds those with the numbers `own`; alone it holds all of them.

    With more than one process, torch.distributed has to be initialised, and every method with the word 'all' in its
    summary is a collective: all processes call it, in the same order. Such a call raises ProcessLost when another
    process has ended.
    """

    def __init__(self, count: int = 1, rank: int = 0, processes: int = 1) -> None:
        """`count` and `processes` are powers of two, `count` not the smaller; `rank` is the number of this process."""
        self.count = count
        self.rank = rank
        self.processes = processes
        each = count // processes
        self.own = range(rank * each, (rank + 1) * each)
        self._pairs: list[dist.ProcessGroup] = []  # of this process and its partner, one for each level of the tree
        level = 1
        while level < processes:
            ranks = sorted((rank, rank ^ level))
            with _noticing_lost_processes():
                self._pairs.append(dist.new_group(ranks, use_local_synchronization=True))
            level *= 2

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def total(self, parts: Sequence[Tensor]) -> Tensor:
        """Add the tensors of all shards, of which `parts` are those of this process, one for each of its own."""
        parts = list(parts)
        while len(parts) > 1:
            parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
        result = parts[0]
        if self._pairs:
            summed = result.to("cpu", copy=True)
            with _noticing_lost_processes():
                for pair in self._pairs:
                    dist.all_reduce(summed, group=pair)
            result = summed.to(result.device)
        return result

    def largest(self, part: Tensor) -> Tensor:
        """Compute the elementwise maximum of the tensors that all processes give."""
        if self.processes == 1:
            return part
        return torch.stack(self._gathered(part.cpu())).amax(dim=0).to(part.device)

    def first_says(self, flag: bool) -> bool:
        """Return the `flag` that the first of all processes gives."""
        return bool(self.largest(torch.tensor([flag and self.is_first])).item())

    def gather(self, parts: Sequence[T]) -> list[T]:
        """Return what all processes give, in the order of their numbers: tensors and plain Python values.

        It travels as a checkpoint is stored, so nothing that is received is ever run.
        """
        if self.processes == 1:
            return list(parts)
        sent = _packed(list(parts))
        sizes = self._gathered(torch.tensor([len(sent)]))
        longest = int(max(sizes))
        received = self._gathered(torch.cat([sent, sent.new_zeros(longest - len(sent))]))
        found: list[T] = []
        for data, size in zip(received, sizes, strict=True):
            found += _unpacked(data[: int(size)])
        return found

    def from_first(self, value: T) -> T:
        """Return the value that the first of all processes gives: tensors and plain Python values."""
        return value if self.processes == 1 else self.gather([value if self.is_first else None])[0]  # type: ignore[return-value]

    def moments(self, parts: Sequence[Tensor]) -> tuple[int, Tensor, Tensor]:
        """Compute the number of rows of all shards, their mean, and the sum of squares about it, in float64.

        The `parts` (rows, size) are those of this process, one for each of its shards; all have equally many rows.
        """
        number = self.count * len(parts[0])
        mean = self.total([part.double().sum(dim=0) for part in parts]) / number
        squares = self.total([(part.double() - mean).square().sum(dim=0) for part in parts])
        return number, mean, squares

    def mean_and_std(self, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Compute mean and standard deviation of all elements of the tensors of all shards, of equal sizes, of which
        `parts` are those of this process."""
        if self.count == 1:
            return parts[0].mean(), parts[0].std(correction=0)
        number, mean, squares = self.moments([part.flatten() for part in parts])
        return mean.to(parts[0].dtype), (squares / number).sqrt().to(parts[0].dtype)

    def variance(self, parts: Sequence[Tensor]) -> Tensor:
        """Compute the variance of all elements of the tensors of all shards, as `mean_and_std` does."""
        if self.count == 1:
            return parts[0].var(correction=0)
        number, _, squares = self.moments([part.flatten() for part in parts])
        return squares / number

    def _gathered(self, sent: Tensor) -> list[Tensor]:
        received = [torch.empty_like(sent) for _ in range(self.processes)]
        with _noticing_lost_processes():
            dist.all_gather(received, sent)
        return received


def flat_gradient(optimizer: torch.optim.Optimizer) -> Tensor:
    """Return the gradients of all weights that `optimizer` moves, one after another."""
    return torch.cat([gradient.flatten() for gradient in _gradients(optimizer)])


def set_gradient(optimizer: torch.optim.Optimizer, flat: Tensor) -> None:
    """Replace the gradients of all weights that `optimizer` moves by those in `flat`, as of `flat_gradient`."""
    gradients = _gradients(optimizer)
    for gradient, part in zip(gradients, flat.split([each.numel() for each in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _gradients(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return [weight.grad for weight in weights if weight.grad is not None]


@contextmanager
def _noticing_lost_processes() -> Iterator[None]:
    """Raise ProcessLost for what torch.distributed raises when another process has ended or does not answer."""
    try:
        yield
    except RuntimeError as error:  # DistBackendError, DistNetworkError and gloo's own errors are such
        text = re.sub(r"^\[\S+:\d+\] ", "", " ".join(str(error).split()))  # without the [FILE:LINE] of gloo
        reason = text.split(". ")[0].rstrip(".")[:200]
        raise ProcessLost(f"the connection to another process of this training was lost ({reason}).") from error


def _packed(value: Any) -> Tensor:
    file = io.BytesIO()
    torch.save(value, file)
    return torch.frombuffer(bytearray(file.getbuffer()), dtype=torch.uint8)


def _unpacked(data: Tensor) -> Any:
    return torch.load(io.BytesIO(data.numpy().tobytes()), map_location="cpu", weights_only=True)


ALONE = Shards()
"""One shard in one process."""
