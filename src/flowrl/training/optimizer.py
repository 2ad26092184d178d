"""The optimiser of actor and critic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from flowrl.training.learner_settings import LearnerSettings


class Optimizer(torch.optim.AdamW):
    """AdamW with a group of parameters for the actor and one for the critic, whose gradients are limited one by one."""

    def __init__(self, actor: nn.Module, critic: nn.Module, settings: LearnerSettings) -> None:
        self.networks = actor, critic
        super().__init__(
            [{"params": list(network.parameters())} for network in self.networks],
            betas=(settings.adam_beta1, settings.adam_beta2),
            weight_decay=settings.weight_decay,
            fused=True,
        )
        # 1 from the first gradient of an update on that is not finite: the steps then change nothing, so that this is
        # read once per update, not in each step, where a GPU would be waited for. PyTorch's fused step reads found_inf.
        self.diverged = self.found_inf = torch.zeros((), device=next(critic.parameters()).device)
        self.limit = settings.max_grad_norm or float("inf")

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy has; PyTorch's own leaves out all that it does not know."""
        own = {name: getattr(self, name) for name in ("networks", "diverged", "found_inf", "limit")}
        return super().__getstate__() | own

    def limited_step(self) -> Tensor:
        """Limit the norms of the gradients, step, and return the norms of actor and critic as they were, (2,)."""
        norms = [nn.utils.clip_grad_norm_(network.parameters(), self.limit) for network in self.networks]
        both = torch.stack(norms)
        self.diverged.logical_or_((~both.isfinite()).any())
        self.step()
        return both

    def set_rates(self, *rates: float) -> None:
        """Set the learning rates of actor and critic."""
        for group, rate in zip(self.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def keep_rates_in_tensors(self) -> None:
        """Let recorded steps read the rates: they are then in tensors, not numbers in the recording."""
        device = self.diverged.device
        for group in self.param_groups:
            # PyTorch's CUDA kernel reads a rate in float32, the one for CPUs in float64.
            precision = torch.float32 if device.type == "cuda" else torch.float64
            group["lr"] = torch.tensor(group["lr"], dtype=precision, device=device)
            group["capturable"] = device.type == "cuda"
        # PyTorch would warn of `capturable` in the first step, which is called to warm up for a recording.
        self._warned_capturable_if_run_uncaptured = True

    def state_dict(self) -> dict[str, Any]:
        """Return moments and settings, rates as numbers."""
        state = super().state_dict()
        return state | {"param_groups": [group | {"lr": float(group["lr"])} for group in state["param_groups"]]}

    def load_moments(self, moments: dict[str, Any]) -> None:
        """Continue from the `state` of `state_dict`'s result with the present settings."""
        rates = [group["lr"] for group in self.param_groups]
        self.load_state_dict(self.state_dict() | {"state": moments})
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate

    @contextmanager
    def without_effect(self) -> Iterator[None]:
        """Let steps change neither weights nor moments, as after a gradient that is not finite."""
        before = self.diverged.clone()
        self.diverged.fill_(1)
        try:
            yield
        finally:
            self.diverged.copy_(before)
