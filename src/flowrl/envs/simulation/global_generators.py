"""The random generators of the process, from which a task must not draw: they are not its own."""

from __future__ import annotations

import random

import numpy as np
import torch

from flowrl.contracts.errors import UsageError


class GlobalGenerators:
    """The random generators of torch, NumPy and Python, from which a task must not draw."""

    def __init__(self, name: str) -> None:
        self.name, self._before = name, self._states()

    def refuse_draws(self) -> None:
        """Raise UsageError where one has been drawn from since."""
        for kind, before, now in zip(("torch.", "np.random.", "random."), self._before, self._states(), strict=True):
            if before != now:
                raise UsageError(
                    f"{self.name} draws from the global generator of {kind}…, which is not its own: results would not "
                    "repeat. Draw with self.uniform(rows, low, high), self.normal(rows) or self.integers(rows, low, "
                    "high), or pass generator=self.random to torch."
                )

    def _states(self) -> tuple[bytes, str, object]:
        numpy = np.random.get_state()  # noqa: NPY002  it is the one that a task would draw from
        return bytes(torch.get_rng_state().numpy()), str(numpy), random.getstate()
