"""The velocity of the flow to mixtures at many points of each, with its gradients written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class VelocityAtProbes(torch.autograd.Function):
    """`flowrl.networks.mixture.mixture_velocity` of one mixture per row at the probes of that row, in half the time.

    x (batch, n, action), t (batch, n, 1), means (batch, 1, component, action), std (component, action) and log_weights
    (batch, 1, component) → velocities (batch, n, action). Only the mixture has gradients, which can be taken once.

    With v = Σ_k q_k v_k, r = 1 - t, away = x - t m, V = t² s² + r², q = softmax(log w - (log V + away² / V) / 2) and
    v_k = m + (t s² - r) away / V (for each number of the action; logits are sums over them), a gradient g of v gives

        ∂/∂logit_k = q_k (g·v_k - Σ_j q_j g·v_j)
        ∂/∂m = g q r / V + ∂/∂logit · t away / V
        ∂/∂s² = g q r / V · t away / V + ∂/∂logit · t² ((away / V)² - 1 / V) / 2

    because ∂v_k/∂m = 1 - t (t s² - r) / V = r / V and ∂v_k/∂s² = t (V - t (t s² - r)) away / V² = t r away / V².
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, means: Tensor, std: Tensor, log_weights: Tensor) -> Tensor:
        # All in the form (action, component, n, batch): see `_rows_last` of the mixture.
        t, x = _reversed(t)[0], _reversed(x).unsqueeze(1)
        means, log_weights = _reversed(means), _reversed(log_weights)
        squared = std.square().t()[:, :, None, None]
        rest = 1 - t
        inverse = torch.addcmul(rest * rest, squared, t * t).reciprocal_()  # 1 / V
        away = torch.addcmul(x, t, means, value=-1)
        scaled = away * inverse
        distance = away.mul_(scaled).sub_(inverse.log()).sum(dim=0)
        weights = torch.add(log_weights, distance, alpha=-0.5).softmax(dim=0)
        velocities = torch.addcmul(-rest, squared, t, out=away).mul_(scaled).add_(means)
        ctx.save_for_backward(t, rest, std, inverse, scaled, weights, velocities)
        return (velocities * weights).sum(dim=1).permute(2, 1, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_velocity: Tensor) -> tuple[None, None, Tensor, Tensor, Tensor]:
        t, rest, std, inverse, scaled, weights, velocities = ctx.saved_tensors
        gradient = _reversed(of_velocity).unsqueeze(1)
        weighted = weights * (gradient * velocities).sum(dim=0)
        of_logits = torch.addcmul(weighted, weights, weighted.sum(dim=0), value=-1)  # (component, n, batch)
        directly = (gradient * rest * weights).mul_(inverse)  # g q r / V
        by_weight = of_logits * t * scaled
        of_means = directly.sum(dim=2).add_(by_weight.sum(dim=2))
        # The sums over probes and rows as products with vectors.
        both = directly.add_(by_weight, alpha=0.5).mul_(scaled).flatten(2)
        of_squared = both @ t.flatten()
        by_variance = (of_logits * (t * t)).flatten(1)
        of_squared -= 0.5 * torch.bmm(inverse.flatten(2).transpose(0, 1), by_variance.unsqueeze(2)).squeeze(2).t()
        of_std = 2 * std * of_squared.t()
        return None, None, of_means.permute(2, 1, 0).unsqueeze(1), of_std, of_logits.sum(dim=1).t().unsqueeze(1)


def _reversed(values: Tensor) -> Tensor:
    return values.permute(*reversed(range(values.dim()))).contiguous()
