"""The configuration of a run, composed of the settings of its parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import BeforeValidator, Field, Strict, field_validator, model_validator

from flowrl.config import fitted_file, named_code, recipe
from flowrl.config.policy_kinds import POLICY_KINDS
from flowrl.config.recipe import Recipe
from flowrl.contracts.errors import UsageError
from flowrl.contracts.settings import AtResume, Changeable, Settings
from flowrl.envs.settings import EnvSettings
from flowrl.policies.noise_modes import NoiseMode
from flowrl.samplers.registry import SamplerSettings
from flowrl.storage.content import MOST_SHARDS
from flowrl.training.learner_settings import LearnerSettings
from flowrl.training.rollout import RolloutSettings

Algorithm = Literal["fpo", "fpo++", "ppo"]
TrackerName = Literal["tensorboard", "wandb", "trackio", "mlflow"]

# The preset of each algorithm. A recipe may change every part of it, for all algorithms or, in a section of the
# algorithm's name, for one.
ALGORITHMS: dict[str, dict[str, Any]] = {
    "fpo": {"policy": {"kind": "flow"}, "learner": {"ratio": "averaged", "surrogate": "ppo", "clip": 0.05}},
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
    "ppo": {"policy": {"kind": "gaussian"}, "learner": {"ratio": "likelihood", "surrogate": "ppo", "clip": 0.2}},
}


if TYPE_CHECKING:

    class PolicySettings(Settings):
        """What the settings of every kind of policy have."""

        kind: str
else:
    PolicySettings = Union[tuple(kind.settings for kind in POLICY_KINDS.values())]  # noqa: UP007


def one_as_list(value: Any) -> Any:
    """Return a list of the one text that `value` is, and anything else as it is."""
    return [value] if isinstance(value, str) else value


class CheckpointSettings(Settings):
    """When a run is saved."""

    every_s: float = Field(20.0, ge=0, le=1e9)
    """Seconds of training between two saves of ckpt.pt; it is saved at the end in any case."""
    best_over: int = Field(20, ge=0, le=1_000_000)
    """Iterations over whose episodes the mean return is taken each time that best.pt may be replaced; 0 keeps
    no best.pt. It is evaluated with the weights that acted, also where the run keeps a moving average of them."""


class Config(Settings):
    """All settings of a run."""

    algorithm: Annotated[Algorithm, AtResume(False, "its policy and its ratio are those of the run")] = "fpo"
    """fpo, fpo++ or ppo: a preset of policy, ratio, surrogate and clip, each of which may be set as well."""
    seed: Annotated[int, AtResume(False, "it seeded the random numbers, whose state the run continues")] = Field(
        0, ge=0, le=2**62
    )
    """Seed of weights, environments, noise and minibatches."""
    init_from: Annotated[str | None, AtResume(False, "it gave the weights that the run began with")] = None
    """A checkpoint or a run folder whose weights and observation statistics the run begins with; null for new ones. The
    optimiser, the seed and the progress are the run's own."""
    total_steps: Changeable[int] = Field(ge=1, le=10**15)
    """Budget in environment steps, over all environments together; with `env.action_repeat` a step is an action."""
    shards: Annotated[int, AtResume(False, "environments, noise and minibatches of the run are in so many parts")] = (
        Field(1, ge=1, le=MOST_SHARDS)
    )
    """Equal parts of environments, noise, probes and minibatches, each with random numbers of its own: a power of two.
    Up to so many processes can share the training (`--processes`), whose number does not change its results."""
    device: Changeable[Literal["auto", "cpu", "cuda"]] = "cpu"
    """Where the networks live; auto takes a GPU if there is one. Environments run where `env.simulator` says."""
    threads: Changeable[int] = Field(1, ge=1, le=1024)
    """PyTorch's threads. One is fastest for small networks."""
    noise: Changeable[NoiseMode] = "random"
    """Noise that evaluation uses by default: random, zero, or one fixed draw."""
    noise_scale: Changeable[float] = Field(1.0, ge=0, le=1)
    """Factor on the noise that evaluation uses: 1 as trained, 0 zero noise, between them less spread. A Gaussian
    policy's spread is multiplied by it. Training always acts with noise N(0, 1), for which its ratio is defined."""
    env: Annotated[EnvSettings, AtResume(False, "the networks and the running episodes depend on it")]
    """The task."""
    policy: Annotated[PolicySettings, Field(discriminator="kind"), AtResume(False, "the weights were trained for it")]
    """The policy."""
    sampler: Changeable[SamplerSettings] = SamplerSettings()
    """The ODE sampler that acts in training, and evaluation's default; a Gaussian policy needs none."""
    rollout: Annotated[RolloutSettings, AtResume(False, "the number of updates follows from it")] = RolloutSettings()
    """How much is collected between updates."""
    learner: LearnerSettings = LearnerSettings()
    """How the policy learns."""
    checkpoint: Changeable[CheckpointSettings] = CheckpointSettings()
    """When the run is saved."""
    imports: Changeable[Annotated[tuple[str, ...], Strict(False), BeforeValidator(one_as_list)]] = Field(
        (), max_length=20
    )
    """Python files and modules that are imported first, such as `[my_env.py]`: they may register environments with
    Gymnasium. `--import` adds to them."""
    trackers: Changeable[Annotated[tuple[TrackerName, ...], Strict(False)]] = Field(("tensorboard",), max_length=10)
    """Where metrics go besides metrics.jsonl, each through its own library: tensorboard, wandb, trackio, mlflow."""
    callbacks: Changeable[Annotated[tuple[str, ...], Strict(False)]] = Field((), max_length=100)
    """Callables of your own, `file.py:name` or `module:name`, that get the metrics of every iteration and may stop the
    run. Those of a checkpoint run only when they are named again."""

    @field_validator("shards")
    @classmethod
    def _shards_are_a_power_of_two(cls, shards: int) -> int:
        if shards & (shards - 1):
            near = 1 << (shards.bit_length() - 1)
            raise ValueError(f"expected a power of two, such as {near} or {2 * near}, got {shards}")
        return shards

    @model_validator(mode="after")
    def _pieces_fit(self) -> Config:
        name, kind, learner = self.policy.kind, POLICY_KINDS[self.policy.kind], self.learner
        self._check_shards()
        self._check_graph()
        if self.noise == "zero" and self.noise_scale not in (0, 1):
            raise ValueError(
                f"noise_scale {self.noise_scale:g} has no effect on zero noise (noise: zero). Set noise: random as "
                "well, or leave noise_scale out"
            )
        if learner.ratio not in kind.ratios:
            offers = ", ".join(
                f"a {name} policy takes {' or '.join(map(repr, kind.ratios))}" for name, kind in POLICY_KINDS.items()
            )
            raise ValueError(
                f"policy.kind {name!r} and learner.ratio {learner.ratio!r} do not fit: {offers}. Set algorithm: "
                f"{' or '.join(ALGORITHMS)} to get a fitting pair"
            )
        kind.refuse(self.policy, learner)
        if learner.entropy_coefficient and not kind.has_entropy:
            fitting = [name for name, kind in POLICY_KINDS.items() if kind.has_entropy]
            presets = [name for name, preset in ALGORITHMS.items() if preset["policy"]["kind"] in fitting]
            raise ValueError(
                f"learner.entropy_coefficient needs a {' or '.join(fitting)} policy: the entropy of a {name} has no "
                f"closed form. Leave it 0, or set algorithm: {' or '.join(presets)}"
            )
        return self

    def _check_shards(self) -> None:
        """Raise ValueError unless env.count can be divided by shards."""
        if self.env.count % self.shards:
            near = -(-self.env.count // self.shards) * self.shards
            raise ValueError(
                f"env.count {self.env.count} cannot be divided into {self.shards} shards of equal size. Set env.count: "
                f"{near}, or another multiple of {self.shards}"
            )

    def _check_graph(self) -> None:
        """Raise ValueError if learner.graph is true and shards is above 1."""
        if self.learner.graph is True and self.shards > 1:
            raise ValueError(
                f"learner.graph true records the step of one shard, and shards is {self.shards}, whose gradients are "
                "summed within a step. Set shards: 1, or learner.graph: auto"
            )


def load(source: Recipe) -> Config:
    """Create the configuration of a run from a recipe, by way of `composed`.

    Code that the user wrote there is named by them, and may be loaded. Raises UsageError with file, line and key.
    """
    source = fitted_file.filled(named_code.located(source))
    named_code.name_written(source)
    chosen = _algorithm(source)
    _refuse_choice_in_section(source)
    _refuse_contradiction(source, chosen)
    config = recipe.validate(Config, composed(source))
    for name in ALGORITHMS.keys() & source.values.keys() - {chosen}:  # an error there would show up later
        recipe.check_section(Config, composed(source, name), name)
    return config


def composed(source: Recipe, algorithm: str | None = None) -> Recipe:
    """Return the recipe with the preset of `algorithm` below its keys, and the section of `algorithm` above them.

    `algorithm` is the recipe's own unless given. Sections of other algorithms are left out.
    """
    algorithm = algorithm or _algorithm(source)
    preset = ALGORITHMS[algorithm]
    kind = _value(recipe.layered(source, ALGORITHMS, algorithm), "policy", "kind")
    if kind not in (None, preset["policy"]["kind"]):  # the other policy keys of the preset would not fit it
        preset = {name: block for name, block in preset.items() if name != "policy"}
    return recipe.layered(source, ALGORITHMS, algorithm, preset)


def _algorithm(source: Recipe) -> str:
    """Return the recipe's algorithm, or the default for a wrong name, which validation reports."""
    name = source.values.get("algorithm")
    return name if isinstance(name, str) and name in ALGORITHMS else "fpo"


def _refuse_choice_in_section(source: Recipe) -> None:
    """Raise UsageError when the section of an algorithm sets `algorithm`, which belongs at the root."""
    for name in ALGORITHMS:
        if _value(source, name, "algorithm") is not None:
            raise UsageError(
                f"{source.place((name, 'algorithm'))}: the section {name} holds keys for the algorithm {name}, so it "
                "cannot choose another. Set algorithm at the root of the recipe."
            )


def _refuse_contradiction(source: Recipe, algorithm: str) -> None:
    """Raise UsageError for another kind of policy than the algorithm's, unless the ratio is set too."""
    written = recipe.layered(source, ALGORITHMS, algorithm)
    kind, ratio = _value(written, "policy", "kind"), _value(written, "learner", "ratio")
    fitting = [name for name, preset in ALGORITHMS.items() if preset["policy"]["kind"] == kind]
    if not fitting or algorithm in fitting or ratio is not None:
        return
    origin = source.place(("algorithm",)) if "algorithm" in source.values else "the default"
    raise UsageError(
        f"{written.place(('policy', 'kind'))}: a {kind} policy contradicts the algorithm {algorithm} ({origin}), "
        f"which has a {ALGORITHMS[algorithm]['policy']['kind']} one. Leave policy.kind out, or set algorithm: "
        f"{' or '.join(fitting)}."
    )


def _value(source: Recipe, block: str, key: str) -> Any:
    """Return the value of a key in a block, or None."""
    keys = source.values.get(block)
    return keys.get(key) if isinstance(keys, dict) else None
