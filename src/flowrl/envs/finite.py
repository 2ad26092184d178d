"""The check that actions, observations and rewards are finite numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flowrl.contracts.errors import TrainingDiverged
from flowrl.envs.calls import first_few

LOOK = 64
"""Steps between two looks at numbers on a GPU."""

ADVICE = {
    "action": "The policy's weights have diverged (lower learner.learning_rate or learner.clip), or its sampler "
    "cannot integrate it (try another one, or more steps)",
    "observation": "Look at the environment's reward and bounds; when actions grow, lower learner.learning_rate",
}


class NotFinite(TrainingDiverged):
    """An action, or what an environment returned (`of_environment`), is not finite, or too large for float32."""

    def __init__(self, what: str, advice: str, *, of_environment: bool) -> None:
        super().__init__(f"{what} {advice}")
        self.what, self.of_environment = what, of_environment


class FiniteCheck:
    """Raises NotFinite for numbers of the environments `id` that are not finite in float32.

    With `deferred`, for numbers on a GPU, `look` does so, every `LOOK` steps: each look waits for the GPU.
    """

    def __init__(self, id: str, *, deferred: bool = False) -> None:
        self.id, self.deferred = id, deferred
        self._fine: dict[str, Tensor] = {}  # () bool by name: whether all have been finite since the last look

    def __call__(self, name: str, tensor: Tensor, steps: int, rows: Tensor | None = None) -> Tensor:
        """Return `tensor` (rows, …), of the step number `steps` after the reset; `rows` are its environments, if not
        all of them."""
        if self.deferred:
            fine = tensor.to(torch.float32).isfinite().all()
            self._fine[name] = self._fine[name] & fine if name in self._fine else fine
            return tensor
        # In float32, whose largest number is a limit for float64, too: squares of more may overflow in the normaliser.
        if math.isfinite(tensor.sum(dtype=torch.float32).item()):  # quick; an overflow of the sum fails it, too
            return tensor
        values = tensor.reshape(len(tensor), -1)
        bad = ~torch.isfinite(values.to(torch.float32)).all(1)
        if not bad.any():
            return tensor
        which = first_few((torch.nonzero(bad).flatten() if rows is None else rows[bad]).tolist())
        fault = "larger than float32 holds (3.4e38)" if torch.isfinite(values).all() else "not finite"
        raise self._refusal(name, f"of environment {which} is {fault} (step {steps} after the reset)")

    def look(self, steps: int) -> None:
        """Look at what was deferred, where `steps` is a multiple of `LOOK`."""
        if not self._fine or steps % LOOK:
            return
        fine, self._fine = self._fine, {}
        for name, all_finite in zip(fine, torch.stack([*fine.values()]).tolist(), strict=True):
            if not all_finite:
                when = f"in one of the last {LOOK} steps (step {steps} after the reset)"
                raise self._refusal(name, f"of an environment was not finite {when}")

    def _refusal(self, name: str, fault: str) -> NotFinite:
        advice = ADVICE.get(name, ADVICE["observation"])
        return NotFinite(f"{self.id}: the {name} {fault}.", advice, of_environment=name != "action")
