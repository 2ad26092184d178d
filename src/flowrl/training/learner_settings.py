"""The settings of the learner: the block `learner` of a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from flowrl.contracts.settings import AtResume, Changeable, Settings
from flowrl.flow.matching import LossSettings, ProbeSettings
from flowrl.networks.critic import CriticSettings
from flowrl.training.ratio import RatioName
from flowrl.training.schedule import ScheduleSettings
from flowrl.training.surrogate import Surrogate


class LearnerSettings(Settings):
    """Hyper-parameters of an update."""

    ratio: Annotated[RatioName, AtResume(False, "it belongs to the algorithm of the run")] = "averaged"
    surrogate: Annotated[Surrogate, AtResume(False, "it belongs to the algorithm of the run")] = "ppo"
    clip: Changeable[float] = Field(0.05, gt=0, le=1000)
    """Half-width of the trusted ratio range. Its meaning depends on `loss.reduction`."""
    probes: Changeable[ProbeSettings] = ProbeSettings()
    """(time, noise) pairs per action, for flows."""
    loss: Changeable[LossSettings] = LossSettings()
    """CFM loss, for flows."""
    loss_limit: Changeable[float | None] = Field(None, gt=0, le=1e9)
    """Upper bound of old and new CFM losses in value, not in gradient (FPO++: 20)."""
    loss_limit_negative: Changeable[float | None] = Field(None, gt=0, le=1e9)
    """The same for the new loss of actions with negative advantage (FPO++: 20)."""
    anchor: Changeable[float] = Field(0.0, ge=0, le=1000)
    """Weight of the mean CFM loss of the policy's own actions, added to the loss of a flow (ReFPO): it keeps the losses
    from drifting. Pair it with a sampler of order 2 in training: trained on its own samples, a flow that acts by a
    method of order 1 contracts."""
    log_ratio_bound: Changeable[float] = Field(10.0, gt=0, le=80)
    """The log-ratio is kept within ± this before the exponential."""

    gamma: Changeable[float] = Field(0.99, ge=0, le=1)
    """Discount per step."""
    gae_lambda: Changeable[float] = Field(0.95, ge=0, le=1)
    """Decay of the advantage sum: 0 trusts the critic alone, 1 the rewards alone."""
    reward_scale: Annotated[float, AtResume(False, "the critic has learned returns in this unit")] = Field(
        1.0, ge=1e-12, le=1e12
    )
    """Factor on rewards before anything else."""
    normalise_advantages: Annotated[
        Literal["batch", "minibatch", "no"], AtResume(False, "the scale of the advantages belongs to the run")
    ] = "batch"
    """Where advantages are given mean 0 and standard deviation 1."""
    advantage_floor: Changeable[float] = Field(0.0, ge=0, le=1)
    """For `batch`: least divisor, as a share of the largest standard deviation that advantages had (which fades by a
    thousandth per update). Where nothing is left to learn it keeps noise from being amplified to a signal."""
    normalise_observations: Annotated[
        bool, AtResume(False, "the networks have learned from observations as they were until now")
    ] = True
    """Shift and scale observations by their running statistics, and keep them within ±10; false leaves them
    as they are."""

    epochs: Changeable[int] = Field(4, ge=1, le=10_000)
    """Passes over a rollout."""
    minibatches: Changeable[int] = Field(4, ge=1, le=1_000_000)
    """Optimiser steps per pass."""
    microbatch: Changeable[int] = Field(4096, ge=1, le=1_000_000)
    """Rows whose gradient is computed at once; larger minibatches are summed up from parts that stay in
    the processor's cache. The gradient is the same."""
    graph: Changeable[Literal[True, False, "auto"]] = False
    """Whether CUDA graphs of the optimiser's step and of the sampler are recorded and replayed, which saves a GPU's
    launches: true, false, or auto, where the networks are on a GPU and there is one shard. Off until they have been
    measured on one: it is tested with a recorder for the CPU."""
    learning_rate: Changeable[float] = Field(3e-4, gt=0, le=1000)
    """Adam's step size for the actor."""
    critic_learning_rate: Changeable[float | None] = Field(None, gt=0, le=1000)
    """Adam's step size for the critic; null takes the actor's."""
    schedule: Changeable[ScheduleSettings] = ScheduleSettings()
    """How the rates change during the run; `adaptive` moves the actor's alone."""
    adam_beta1: Changeable[float] = Field(0.9, ge=0, lt=1)
    """Adam's memory of the gradient."""
    adam_beta2: Changeable[float] = Field(0.999, ge=0, lt=1)
    """Adam's memory of the squared gradient."""
    weight_decay: Changeable[float] = Field(0.0, ge=0, le=1000)
    """Decoupled weight decay (AdamW)."""
    max_grad_norm: Changeable[float | None] = Field(0.5, gt=0, le=1e12)
    """Largest norm of the gradient of the actor, and, separately, of the critic; null for no limit."""

    critic: Annotated[CriticSettings, AtResume(False, "the weights were trained for it")] = CriticSettings()
    """The value network."""
    critic_goal: Annotated[Literal["full", "masked"], AtResume(False, "the critic was trained for it")] = "full"
    """Where the environment hides a part of the goal from the policy (HumanoidTrack): whether the critic, which no
    deployed policy needs, sees all of it, or what the policy sees. The same for every algorithm."""
    value_coefficient: Changeable[float] = Field(0.5, gt=0, le=1e9)
    """Weight of the squared value error."""
    value_clip: Changeable[float | None] = Field(None, gt=0, le=1e12)
    """Half-width of the range around the old value within which a value may move; null for no limit."""
    entropy_coefficient: Changeable[float] = Field(0.0, ge=0, le=1e6)
    """Weight of the entropy bonus, for Gaussian policies."""

    ema_decay: Changeable[float | None] = Field(None, ge=0, lt=1)
    """Decay of a moving average of the actor's weights, which the evaluation of ckpt.pt then uses; null for none.
    best.pt is evaluated with the weights that acted, by whose returns it was chosen."""
    ema_start: Changeable[int] = Field(0, ge=0, le=10**12)
    """Updates before the moving average begins."""
