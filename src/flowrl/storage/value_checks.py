"""Checks of single values of a checkpoint, and words for them in messages."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


class OutOfRange(ValueError):
    """A number is not finite, or beyond its limits, as after an overflow."""


@dataclass(frozen=True)
class TensorCheck:
    """Checks a tensor: its number type, its number of dimensions, and its numbers."""

    dtype: torch.dtype | None = None  # None: any floating-point type
    dims: int | None = None  # None: any number
    finite: bool = False
    least: float | None = None  # no number is smaller, nor NaN

    def __call__(self, value: Tensor) -> Tensor:
        typed = value.is_floating_point() if self.dtype is None else value.dtype == self.dtype
        if not typed or self.dims not in (None, value.ndim):
            kind = "floating-point" if self.dtype is None else str(self.dtype).removeprefix("torch.")
            size = "" if self.dims is None else f" with {self.dims} dimensions"
            raise ValueError(f"expected a {kind} tensor{size}, got {described(value)}")
        if self.finite and not value.isfinite().all():
            raise OutOfRange("it has numbers that are not finite")
        if self.least is not None and not (value >= self.least).all():
            raise OutOfRange(f"it has numbers that are not {self.least:g} or more")
        return value


def described(value: object) -> str:
    """Return a value in a few words: 'a float32 tensor of shape (3, 4)', 'a dict of 2', 7."""
    if isinstance(value, Tensor):
        return f"a {str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    text = ascii(value[:40]) + "…" if isinstance(value, str) and len(value) > 40 else repr(value)
    return "nothing (None)" if value is None else text
