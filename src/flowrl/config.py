"""The whole configuration of a run: the parts' own settings, composed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from flowrl import recipe
from flowrl.envs import EnvSettings
from flowrl.policy import FlowPolicySettings, GaussianPolicySettings, NoiseMode
from flowrl.recipe import Recipe
from flowrl.registry import SamplerSettings
from flowrl.settings import Settings
from flowrl.training.learner import LearnerSettings
from flowrl.training.rollout import RolloutSettings

Algorithm = Literal["fpo", "fpo++", "ppo"]

# What each algorithm's name stands for. A recipe may set every piece otherwise, for all algorithms or,
# in a section of the algorithm's name, for one.
ALGORITHMS: dict[str, dict[str, Any]] = {
    "fpo": {
        "policy": {"kind": "flow"},
        "learner": {"ratio": "averaged", "surrogate": "ppo", "clip": 0.05},
    },
    "fpo++": {
        "policy": {"kind": "flow", "perturbation": 0.02, "action_limit": 2.0},
        "noise": "zero",
        "learner": {
            "ratio": "per_probe",
            "surrogate": "aspo",
            "clip": 0.05,
            "probes": {"count": 16},
            "loss": {"reduction": "sqrt"},
            "loss_limit": 20.0,
            "loss_limit_negative": 20.0,
            "log_ratio_bound": 10.0,
            "ema_decay": 0.95,
            "ema_start": 500,
        },
    },
    "ppo": {
        "policy": {"kind": "gaussian"},
        "learner": {"ratio": "likelihood", "surrogate": "ppo", "clip": 0.2},
    },
}


class CheckpointSettings(Settings):
    """When a run saves itself."""

    every_s: float = Field(20.0, ge=0)
    """Seconds of training between two saves of ckpt.pt; it is saved at the end in any case."""
    best_over: int = Field(20, ge=0)
    """Iterations over whose episodes the mean return is taken each time that best.pt may be replaced; 0 keeps
    no best.pt."""


class Config(Settings):
    """Everything that determines a run."""

    algorithm: Algorithm = "fpo"
    """fpo, fpo++ or ppo: a preset of policy, ratio, surrogate and clip, each of which may be set as well."""
    seed: int = Field(0, ge=0)
    """Seed of weights, environments, noise and minibatches."""
    total_steps: int = Field(ge=1)
    """Budget in environment steps, over all environments together."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where the networks live; auto takes a GPU if there is one. Environments run on the CPU."""
    threads: int = Field(1, ge=1)
    """PyTorch's threads. One is fastest for small networks."""
    noise: NoiseMode = "random"
    """Noise that evaluation uses by default: random, zero, or one fixed draw."""
    env: EnvSettings
    """The task."""
    policy: Annotated[FlowPolicySettings | GaussianPolicySettings, Field(discriminator="kind")]
    """The policy."""
    sampler: SamplerSettings = SamplerSettings()
    """The ODE sampler that acts in training, and evaluation's default; a Gaussian policy needs none."""
    rollout: RolloutSettings = RolloutSettings()
    """How much is collected between updates."""
    learner: LearnerSettings = LearnerSettings()
    """How the policy learns."""
    checkpoint: CheckpointSettings = CheckpointSettings()
    """When the run is saved."""

    @model_validator(mode="after")
    def _pieces_fit(self) -> Config:
        gaussian = self.policy.kind == "gaussian"
        if gaussian != (self.learner.ratio == "likelihood"):
            raise ValueError(
                f"policy.kind {self.policy.kind!r} and learner.ratio {self.learner.ratio!r} do not fit: the ratio "
                "'likelihood' needs a gaussian policy, 'averaged' and 'per_probe' need a flow. Set algorithm: ppo, "
                "fpo or fpo++ to get a fitting pair"
            )
        if self.learner.entropy_coefficient and not gaussian:
            raise ValueError(
                "learner.entropy_coefficient needs a gaussian policy: the entropy of a flow has no closed form. "
                "Leave it 0, or set algorithm: ppo"
            )
        return self


def load(source: Recipe) -> Config:
    """The configuration that a recipe spells.

    The algorithm's preset lies below the recipe's keys, and the recipe's section of the algorithm's name
    above them; sections of other algorithms are left out. Raises UsageError with file, line and key.
    """
    algorithm = source.values.get("algorithm", "fpo")
    known = isinstance(algorithm, str) and algorithm in ALGORITHMS  # validation tells of a wrong name
    chosen = algorithm if known else "fpo"
    config = recipe.validate(Config, recipe.layered(source, ALGORITHMS, chosen, ALGORITHMS[chosen]))
    for name in ALGORITHMS.keys() & source.values.keys() - {chosen}:  # a fault there would show up later
        recipe.check_section(Config, recipe.layered(source, ALGORITHMS, name, ALGORITHMS[name]), name)
    return config
