"""The flow policy: a sampler integrates the learned velocity from noise to an action."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from flowrl.contracts.protocols import Sampler, Velocity, VelocityField
from flowrl.flow import last_step, sampler_faults
from flowrl.flow.nfe import CountingVelocity
from flowrl.networks.normaliser import Normaliser
from flowrl.networks.recording import Recorded, Recorder
from flowrl.networks.velocity import NetworkSettings
from flowrl.policies.noise import Noise

GENERATION = ("noise", "end")
"""What a flow policy can keep of an action: the noise it began at, and the flow's end before the perturbation."""


class FlowPolicySettings(NetworkSettings):
    """A policy that generates its actions with a flow."""

    kind: Literal["flow"] = "flow"
    """flow generates actions from noise; gaussian is the baseline."""
    perturbation: float = Field(0.0, ge=0, le=1000)
    """Standard deviation of noise added to the action, in training only."""
    action_limit: float | None = Field(None, gt=0, le=1e9)
    """Raw actions are clipped to ± this before the environment squashes them; null for no limit."""


class FlowPolicy:
    """Integrates the learned velocity from noise to an action with a sampler (FPO, arXiv 2507.21053, section 3)."""

    def __init__(
        self,
        field: VelocityField,
        normaliser: Normaliser,
        noise: Noise,
        settings: FlowPolicySettings,
        sampler: Sampler,
        training: bool,
        sampler_name: str = "",
    ) -> None:
        self.field = field
        self.normaliser = normaliser
        self.sampler = sampler
        self.sampler_name = sampler_name or type(sampler).__name__  # for messages
        for attribute in ("nfe", "steps"):
            sampler_faults.declared(self.sampler_name, sampler, attribute)
        self._integrator = last_step.for_field(sampler, field)
        self._declared_nfe = sampler_faults.declared(self.sampler_name, self._integrator, "nfe")
        self.noise = noise
        self.perturbation = settings.perturbation if training else 0.0
        self.action_limit = settings.action_limit
        self.calls = 0
        self.evaluations = 0
        self.keep: tuple[str, ...] = ()  # of `GENERATION`, in `generated` after a call
        self.generated: dict[str, Tensor] = {}
        self._recorded: Recorded | None = None

    @property
    def declares_evaluations(self) -> bool:
        """Whether the sampler declares a number of evaluations, the same for all actions."""
        return self._declared_nfe is not None

    def record_calls(self, recorder: Recorder) -> None:
        """Record the sampler's integration from noise to actions with `recorder`, and replay it.

        Raises ValueError for a sampler that does not declare its evaluations: an adaptive one reads values, and a
        replay cannot.
        """
        if not self.declares_evaluations:
            raise ValueError(f"the sampler {self.sampler_name!r} does not declare how often it evaluates the velocity")
        self._recorded = Recorded(self._with_present_weights, recorder)

    @torch.no_grad()
    def __call__(self, obs: Tensor) -> Tensor:
        """Return raw actions (batch, action) for the observations `obs` (batch, observation).

        Raises UsageError when the sampler fails or returns points of another form (`flowrl.flow.sampler_faults`).
        """
        device = self.normaliser.shift.device
        noise = self.noise(len(obs))
        if self._recorded is not None:
            (action,) = self._recorded(obs.to(device), noise.to(device))
        else:
            action = self._from(obs.to(device), noise.to(device))
        action = action.to(obs.device)
        if self.keep:
            self.generated = {"noise": noise, "end": action}
        if self.perturbation:
            action = action + self.perturbation * torch.randn(action.shape, generator=self.noise.generator)
        return action if self.action_limit is None else action.clamp(-self.action_limit, self.action_limit)

    def episodes_ended(self, rows: Tensor) -> None:
        """Let the noise depend on no earlier draw in the environments `rows` (envs,) bool."""
        self.noise.restart(rows)

    @property
    def nfe(self) -> float:
        """Velocity evaluations per action: as the sampler declares, else the mean over the calls so far; with that of
        a separate last step (`flowrl.flow.last_step`)."""
        return self._declared_nfe if self._declared_nfe is not None else self.evaluations / max(1, self.calls)

    def _from(self, obs: Tensor, noise: Tensor) -> Tensor:
        """Carry the `noise` to actions."""
        return self._integrate(self.field.bind(self.normaliser(obs)), noise)

    def _with_present_weights(self, obs: Tensor, noise: Tensor) -> list[Tensor]:
        """Carry the `noise` to actions by the weights as they are, whatever the field keeps of how it was evaluated:
        that is a part of the recording then, and nothing outside it."""
        drop: Callable[[], None] = getattr(self.field, "drop_kept", lambda: None)
        drop()
        try:
            return [self._from(obs, noise)]
        finally:
            drop()

    def _integrate(self, velocity: Velocity, noise: Tensor) -> Tensor:
        if self._declared_nfe is not None:
            return self._call_sampler(velocity, noise)
        counting = CountingVelocity(velocity)
        action = self._call_sampler(counting, noise)
        self.calls += 1
        self.evaluations += counting.nfe
        return action

    def _call_sampler(self, velocity: Velocity, noise: Tensor) -> Tensor:
        try:
            action = self._integrator(velocity, noise, 0.0, 1.0)
        except BaseException as error:
            raise sampler_faults.failure(self.sampler_name, error) from error
        sampler_faults.check_points(self.sampler_name, action, noise)
        return action
