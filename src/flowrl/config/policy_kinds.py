"""The kinds of policy: one row each, which is all that generic code knows of a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from flowrl.config.yaml_reader import KeyPath
from flowrl.contracts.settings import Settings
from flowrl.networks.gaussian import GaussianActor, GaussianSettings
from flowrl.networks.normaliser import Normaliser
from flowrl.networks.velocity import FlowNetwork, NetworkSettings
from flowrl.policies.flow import FlowPolicy, FlowPolicySettings
from flowrl.policies.gaussian import GaussianPolicy, GaussianPolicySettings
from flowrl.policies.noise import Noise
from flowrl.policies.policy import Policy
from flowrl.training.learner import LearnerSettings
from flowrl.training.ratio import CFM_LOG_RATIOS, CFMRatio, LikelihoodRatio, RatioEstimator, RatioName


@dataclass(frozen=True)
class PolicyKind:
    """Everything that depends on the kind of a policy."""

    settings: type[Settings]  # block `policy` of a recipe, with a constant `kind`: the key of this row
    # (observation size, action size, settings, visible) -> actor; `visible` (observation,) bool, None: all
    network: Callable[[int, int, Any, Tensor | None], nn.Module]
    # (actor, settings of the learner) -> what compares the old with the new policy
    ratio_estimator: Callable[[Any, LearnerSettings], RatioEstimator]
    # (actor, normaliser, noise, settings, sampler or None, training, sampler's name) -> what acts with the actor
    policy: Callable[[Any, Normaliser, Noise, Any, Any, bool, str], Policy]
    network_keys: tuple[str, ...]  # keys of `settings` that the meaning of the weights depends on
    ratios: tuple[RatioName, ...]  # values of `learner.ratio` that the estimator offers
    uses_sampler: bool  # whether it has a flow, which a sampler integrates
    has_entropy: bool  # whether its entropy has a closed form, for `learner.entropy_coefficient`
    unused: tuple[KeyPath, ...] = ()  # keys and blocks of a recipe without effect on it


def _cfm_ratio(actor: FlowNetwork, learner: LearnerSettings) -> CFMRatio:
    limits = learner.loss_limit, learner.loss_limit_negative
    return CFMRatio(actor, learner.probes, learner.loss, CFM_LOG_RATIOS[learner.ratio], *limits)


POLICY_KINDS: dict[str, PolicyKind] = {
    "flow": PolicyKind(
        settings=FlowPolicySettings,
        network=FlowNetwork,
        ratio_estimator=_cfm_ratio,
        policy=FlowPolicy,
        network_keys=tuple(NetworkSettings.model_fields),
        ratios=("averaged", "per_probe"),
        uses_sampler=True,
        has_entropy=False,
        unused=(("learner", "entropy_coefficient"),),
    ),
    "gaussian": PolicyKind(
        settings=GaussianPolicySettings,
        network=GaussianActor,
        ratio_estimator=lambda actor, learner: LikelihoodRatio(actor),
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
        ),
    ),
}


def uses_sampler(config: Mapping[str, Any]) -> bool:
    """Return whether the policy in the plain `config` of a checkpoint has a flow; False for an unknown kind."""
    policy = config.get("policy")
    kind = POLICY_KINDS.get(str(policy.get("kind"))) if isinstance(policy, Mapping) else None
    return kind is not None and kind.uses_sampler
