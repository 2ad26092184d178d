"""The kinds of policy: one row each, which is all that generic code knows of a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from flowrl.config.validation import written
from flowrl.config.yaml_reader import KeyPath
from flowrl.contracts.settings import Settings
from flowrl.flow.matching import LossSettings
from flowrl.networks.gaussian import GaussianActor, GaussianSettings
from flowrl.networks.normaliser import Normaliser
from flowrl.networks.velocity import FlowNetwork, NetworkSettings
from flowrl.policies.flow import FlowPolicy, FlowPolicySettings
from flowrl.policies.gaussian import GaussianPolicy, GaussianPolicySettings
from flowrl.policies.noise import Noise
from flowrl.policies.policy import Policy
from flowrl.training.flow_ratios import ExactRatio, TailRatio
from flowrl.training.learner_settings import LearnerSettings
from flowrl.training.ratio import CFM_LOG_RATIOS, CFMRatio, LikelihoodRatio, RatioEstimator, RatioName


@dataclass(frozen=True)
class PolicyKind:
    """Everything that depends on the kind of a policy."""

    settings: type[Settings]  # block `policy` of a recipe, with a constant `kind`: the key of this row
    # (observation size, action size, settings, visible) -> actor; `visible` (observation,) bool, None: all
    network: Callable[[int, int, Any, Tensor | None], nn.Module]
    # (actor, settings of the learner, settings of the policy) -> what compares the old with the new policy
    ratio_estimator: Callable[[Any, LearnerSettings, Any], RatioEstimator]
    # (actor, normaliser, noise, settings, sampler or None, training, sampler's name) -> what acts with the actor
    policy: Callable[[Any, Normaliser, Noise, Any, Any, bool, str], Policy]
    # (settings of the policy, settings of the learner) -> None; raises ValueError for what does not fit
    refuse: Callable[[Any, LearnerSettings], None]
    network_keys: tuple[str, ...]  # keys of `settings` that the meaning of the weights depends on
    ratios: tuple[RatioName, ...]  # values of `learner.ratio` that the estimator offers
    uses_sampler: bool  # whether it has a flow, which a sampler integrates
    has_entropy: bool  # whether its entropy has a closed form, for `learner.entropy_coefficient`
    unused: tuple[KeyPath, ...] = ()  # keys and blocks of a recipe without effect on it


def _flow_ratio(actor: FlowNetwork, learner: LearnerSettings, policy: FlowPolicySettings) -> RatioEstimator:
    if learner.ratio == "tail":
        return TailRatio(actor, learner.probes, policy.perturbation)
    if learner.ratio == "exact":
        return ExactRatio(actor)
    limits = learner.loss_limit, learner.loss_limit_negative
    return CFMRatio(actor, learner.probes, learner.loss, CFM_LOG_RATIOS[learner.ratio], *limits, learner.anchor)


def _refuse_flow(policy: FlowPolicySettings, learner: LearnerSettings) -> None:
    """Raise ValueError for a ratio that the settings of a flow policy do not allow."""
    if learner.ratio == "tail" and not (policy.perturbation > 0 and policy.action_limit is None):
        raise ValueError(
            "learner.ratio tail compares likelihoods of the perturbation: set policy.perturbation above 0, such as "
            "0.2, and policy.action_limit to null"
        )
    if learner.ratio == "tail" and (
        learner.probes.law in ("lognormal", "log_odds") or learner.probes.antithetic == "pair"
    ):
        raise ValueError(
            "learner.ratio tail takes a mean over the times of the flow, and no noise of the probes: set probes.law to "
            "stratified, uniform or grid, and probes.antithetic to no or mirrored"
        )
    if learner.ratio == "exact" and policy.parameterisation == "data":
        raise ValueError(
            "learner.ratio exact needs a velocity up to t = 1, where that of a predicted action is 0 / 0: set "
            "policy.parameterisation to u or eps"
        )
    if learner.loss.reduction == "by_std" and policy.base == "none":
        raise ValueError(
            "learner.loss.reduction by_std divides by the standard deviation of the policy's base, and policy.base is "
            "none: set policy.base to mixture or normal, or learner.loss.reduction to mean, sum or sqrt"
        )
    if learner.loss.reduction == "by_std" and learner.probes.law in ("lognormal", "log_odds"):
        raise ValueError(
            "learner.loss.reduction by_std is the unit of likelihoods for uniform times, and learner.probes.law is "
            f"{learner.probes.law}: set probes.law to stratified, uniform or grid, or loss.reduction to mean"
        )
    if learner.ratio not in CFM_LOG_RATIOS:
        _refuse_keys_of_cfm_losses(learner)


def _refuse_keys_of_cfm_losses(learner: LearnerSettings) -> None:
    """Raise ValueError for a key that a ratio without CFM losses would leave without effect."""
    keys: list[tuple[str, Settings, str]] = [
        *(("", learner, key) for key in ("anchor", "loss_limit", "loss_limit_negative")),
        ("probes.", learner.probes, "coupled"),
        *(("loss.", learner.loss, key) for key in LossSettings.model_fields),
    ]
    for block, settings, key in keys:
        value, unset = getattr(settings, key), type(settings).model_fields[key].default
        if value != unset:
            raise ValueError(
                f"learner.{block}{key} is for CFM losses, which learner.ratio {learner.ratio} does not compare: "
                f"remove it or set it to {written(unset)}, which is its default, or set learner.ratio to averaged or "
                "per_probe"
            )


def _refuse_gaussian(policy: GaussianPolicySettings, learner: LearnerSettings) -> None:
    """Every combination fits."""


POLICY_KINDS: dict[str, PolicyKind] = {
    "flow": PolicyKind(
        settings=FlowPolicySettings,
        network=FlowNetwork,
        ratio_estimator=_flow_ratio,
        refuse=_refuse_flow,
        policy=FlowPolicy,
        network_keys=tuple(NetworkSettings.model_fields),
        ratios=("averaged", "per_probe", "tail", "exact"),
        uses_sampler=True,
        has_entropy=False,
        unused=(("learner", "entropy_coefficient"),),
    ),
    "gaussian": PolicyKind(
        settings=GaussianPolicySettings,
        network=GaussianActor,
        ratio_estimator=lambda actor, *_: LikelihoodRatio(actor),
        refuse=_refuse_gaussian,
        policy=lambda actor, normaliser, noise, *_: GaussianPolicy(actor, normaliser, noise),
        network_keys=tuple(GaussianSettings.model_fields),
        ratios=("likelihood",),
        uses_sampler=False,
        has_entropy=True,
        unused=(
            ("sampler",),
            ("learner", "probes"),
            ("learner", "loss"),
            ("learner", "loss_limit"),
            ("learner", "loss_limit_negative"),
            ("learner", "anchor"),
        ),
    ),
}


def uses_sampler(config: Mapping[str, Any]) -> bool:
    """Return whether the policy in the plain `config` of a checkpoint has a flow; False for an unknown kind."""
    policy = config.get("policy")
    kind = POLICY_KINDS.get(str(policy.get("kind"))) if isinstance(policy, Mapping) else None
    return kind is not None and kind.uses_sampler
