"""The interface of every kind of policy."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from flowrl.contracts.protocols import Sampler, VelocityField
from flowrl.networks.normaliser import Normaliser
from flowrl.policies.noise import Noise


class Policy(Protocol):
    """Maps observations to actions; a subclass without a flow keeps the three properties, which are None."""

    noise: Noise
    normaliser: Normaliser

    def __call__(self, obs: Tensor) -> Tensor:
        """Return raw actions (batch, action) for the observations `obs` (batch, observation)."""
        ...

    @property
    def field(self) -> VelocityField | None:
        """The velocity field over normalised observations; None for a policy without a flow."""
        return None

    @property
    def sampler(self) -> Sampler | None:
        """The sampler that integrates the field; None for a policy without a flow."""
        return None

    @property
    def nfe(self) -> float | None:
        """Velocity evaluations per action; None for a policy without a flow."""
        return None
