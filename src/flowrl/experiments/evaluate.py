"""The evaluation of a checkpoint, under any sampler, noise and environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, get_args

from flowrl.config import fitted_file, named_code, recipe
from flowrl.config.recipe import Place
from flowrl.config.schema import Config
from flowrl.config.yaml_reader import KeyPath
from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.contracts.notices import say
from flowrl.contracts.protocols import Sampler
from flowrl.deployment import singular_end
from flowrl.envs import adapter, factory, saved_state
from flowrl.envs.families import family_of
from flowrl.evaluation.episodes import Evaluation, evaluate, summary
from flowrl.experiments import build, code_record, sampler_choice
from flowrl.policies.flow import FlowPolicy
from flowrl.policies.noise_modes import NoiseMode
from flowrl.samplers import registry
from flowrl.storage import checkpoint

SLOTS = 64  # environments played together, at most


@dataclass(frozen=True)
class EvalRequest:
    """The options of one evaluation of a checkpoint; None means the value of the training run."""

    sampler: str | None = None
    steps: int | None = None
    overrides: tuple[str, ...] = ()  # key.path=value
    episodes: int = 100
    seed: int = 0
    noise: str | None = None
    env: str | None = None
    noise_scale: str | None = None  # a number from 0 to 1
    perturbed: bool = False  # add the perturbation that a flow explores with in training
    steps_option: str | None = field(default=None, compare=False)  # what set `steps`, for messages; None: --steps

    @property
    def title(self) -> str:
        """'euler:10, random noise'; what is not requested is left out."""
        sampler = f"{self.sampler or 'steps'}:{self.steps}" if self.steps is not None else self.sampler
        noise = " ".join(filter(None, (self.noise_scale, self.noise)))
        return ", ".join(filter(None, (sampler, noise and f"{noise} noise", "perturbed" if self.perturbed else "")))

    def each(self, steps: list[int] | None) -> Iterator[EvalRequest]:
        """Yield a request per sampler in a list such as euler:10,heun:5, per number of steps, per noise mode in a list
        such as random,zero, and per scale in a list such as 0,0.5,1."""
        noises = list(product(_listed(self.noise), _listed(self.noise_scale)))
        for name in self.sampler.split(",") if self.sampler is not None else [None]:
            request = self
            if name is not None:
                sampler, count = sampler_choice.parse(name)
                request = replace(self, sampler=sampler)
                if count is not None:
                    request = replace(request, steps=count, steps_option=f"--sampler {name.strip()}")
            swept = [replace(request, steps=number, steps_option=None) for number in steps or ()]
            for each in swept or [request]:
                yield from (replace(each, noise=noise, noise_scale=scale) for noise, scale in noises)


def _listed(text: str | None) -> list[str] | list[None]:
    """Split 'a, b' into its parts; one None for None."""
    return [None] if text is None else [part.strip() for part in text.split(",")]


@dataclass(frozen=True)
class LoadedCheckpoint:
    """An opened checkpoint."""

    path: Path
    content: dict[str, Any]
    config: Config
    digest: str  # of the content: SHA-256, hexadecimal
    _printed: set[str] = field(default_factory=set, compare=False)

    def notify(self, line: str) -> None:
        """Print `line` to stderr, once for this checkpoint; nothing where it is empty."""
        if line and line not in self._printed:
            self._printed.add(line)
            say(f"note: {line}")

    @property
    def title(self) -> str:
        """'fpo on flowrl/GridWorld-v0, 98,304 env steps'"""
        return f"{self.config.algorithm} on {self.config.env.id}, {self.content['progress']['env_steps']:,} env steps"

    def applicable(self, request: EvalRequest) -> EvalRequest:
        """Drop the options that this policy ignores: a policy without a flow has no sampler."""
        if not build.kind_of(self.config).uses_sampler:
            return replace(request, sampler=None, steps=None)
        return request


@dataclass(frozen=True)
class EvalResult:
    """The result of one request; its tables have the keys of `flowrl.evaluation.episodes.summary`."""

    evaluation: Evaluation
    facts: dict[str, Any]
    variant_key: str  # the key under which tables name the variant of an episode, such as `motion`

    def summary(self) -> dict[str, Any]:
        """Summarise all episodes."""
        return summary(self.evaluation, **self.facts)

    def by_variant(self) -> list[dict[str, Any]]:
        """Summarise the episodes of each variant; all episodes together where the environment has no variants."""
        return [
            ({self.variant_key: variant} if variant else {}) | summary(episodes, **self.facts)
            for variant, episodes in self.evaluation.by_variant()
        ]


def open_checkpoint(path: Path) -> LoadedCheckpoint:
    """Verify and open a checkpoint, or that of a run folder; raises CheckpointError."""
    found = checkpoint.find(path)
    content, digest = checkpoint.load_with_digest(found)
    config = build.on_available_device(build.load_config(content, found), found)
    return LoadedCheckpoint(found, content, config, digest)


def evaluate_checkpoint(
    opened: LoadedCheckpoint,
    request: EvalRequest,
    progress: Callable[[int, int], None] = lambda ended, running: None,
    own: Sampler | None = None,
) -> EvalResult:
    """Play the episodes; raises UsageError when a name, option or environment does not fit.

    `progress` is that of `flowrl.evaluation.episodes.evaluate`; `own` is a sampler that Python code gives.
    """
    loaded = load(opened, request) if own is None else with_sampler(opened, request, own)
    env = factory.make(loaded.config.env, count=min(SLOTS, request.episodes), evaluation=True)
    try:
        check_sizes(loaded, env)
        opened.notify(factory.carry_over(env, saved_state.of_run(opened.content), opened.config.env))
        result = evaluate(loaded.policy, env, episodes=request.episodes, seed=request.seed, progress=progress)
    finally:
        env.close()
    variants = family_of(loaded.config.env.id).variants
    named = {} if own is None else {"sampler": type(own).__name__}
    return EvalResult(result, facts(loaded) | named, variants.name if variants else "")


def load(
    opened: LoadedCheckpoint, request: EvalRequest, keys: tuple[KeyPath, ...] = named_code.ACTING
) -> build.LoadedPolicy:
    """Load the policy with the requested options, for a command that runs the code at `keys`; raises UsageError when a
    name or option does not fit."""
    config = configured(opened, request, keys)
    for line in code_record.changes(opened.content, opened.path, config.model_dump(mode="json"), keys):
        opened.notify(line)
    build.prepare_process(config)
    loaded = build.load_policy(opened.path, opened.content, config, request.seed)
    opened.notify(_doubt(opened, loaded))
    if request.perturbed:
        _perturb(opened, loaded)
    return loaded


def _perturb(opened: LoadedCheckpoint, loaded: build.LoadedPolicy) -> None:
    """Let a flow act with the perturbation of its training; raises UsageError for a policy that has none."""
    policy = loaded.policy
    if not isinstance(policy, FlowPolicy) or not (given := getattr(loaded.config.policy, "perturbation", 0)):
        why = (
            "it was trained without" if isinstance(policy, FlowPolicy) else "a Gaussian explores by its sampled actions"
        )
        raise UsageError(f"--perturbed: {opened.path} has no perturbation ({why}). Leave it out.")
    policy.perturbation = given


def _doubt(opened: LoadedCheckpoint, loaded: build.LoadedPolicy) -> str:
    """Return why the actions of another sampler than that of the training may be off; '' if not."""
    field, sampler, own = loaded.policy.field, loaded.policy.sampler, opened.config.sampler
    if field is None or sampler is None or loaded.config.sampler == own:
        return ""
    trained = None
    with suppress(UsageError):  # code that the user has not named
        trained = registry.make(own.name, own.options())
    steps = getattr(sampler, "steps", None)
    name = getattr(sampler, "label", "") or loaded.config.sampler.name
    return singular_end.warning(sampler_choice.text_of(name, steps), sampler, field, trained)


def with_sampler(opened: LoadedCheckpoint, request: EvalRequest, own: Sampler) -> build.LoadedPolicy:
    """Load the policy with the sampler `own`; raises UsageError for a policy that needs none."""
    kind = build.kind_of(opened.config)
    if not kind.uses_sampler or request.steps is not None:
        why = "a sampler that is given has its steps itself" if kind.uses_sampler else "the policy has no flow"
        raise UsageError(f"the sampler {own!r} cannot be used with these options: {why}. Leave it, or the steps, out.")
    loaded = load(opened, replace(request, sampler=registry.general()[0]))  # `own` takes its place
    acting = loaded.policy
    name = type(own).__name__
    policy = kind.policy(acting.field, acting.normaliser, acting.noise, loaded.config.policy, own, False, name)
    return replace(loaded, policy=policy)


def facts(loaded: build.LoadedPolicy) -> dict[str, Any]:
    """Return how the policy generates actions: sampler, its steps, velocity evaluations per action, noise and scale."""
    noise, sampler = loaded.policy.noise, loaded.policy.sampler
    return {
        "sampler": None if sampler is None else getattr(sampler, "label", "") or loaded.config.sampler.name,
        "steps": getattr(sampler, "steps", None),
        "nfe": loaded.policy.nfe,
        "noise": noise.mode,
        "noise_scale": 0.0 if noise.mode == "zero" else noise.scale,
        "perturbation": getattr(loaded.policy, "perturbation", 0.0),
    }


def configured(opened: LoadedCheckpoint, request: EvalRequest, keys: tuple[KeyPath, ...] = named_code.ACTING) -> Config:
    """Return the run's configuration with the requested options set, whose code at `keys` will be run; raises
    UsageError."""
    if request.noise is not None and request.noise not in get_args(NoiseMode):
        modes = get_args(NoiseMode)
        raise UsageError(
            f"--noise {request.noise}: expected {', '.join(modes[:-1])} or {modes[-1]}, or several with commas between "
            f"them.{did_you_mean(request.noise, modes)}"
        )
    values = opened.config.model_dump(mode="json")
    sampler = values["sampler"]
    places: dict[KeyPath, Place] = {}
    if request.sampler is not None:
        places["sampler", "name"] = Place(f"--sampler {request.sampler}", None, ())
        if request.sampler != sampler["name"]:
            sampler = {"name": request.sampler}  # options of another sampler would not fit this one
    if request.steps is not None:
        places["sampler", "steps"] = Place(request.steps_option or f"--steps {request.steps}", None, ())
        sampler = sampler | {"steps": request.steps}
    values["sampler"] = sampler
    _set_noise(values, places, request)
    if request.env is not None:
        places["env", "id"] = Place(f"--env {request.env}", None, ())
        if request.env != values["env"]["id"]:
            values["env"] = values["env"] | {"id": request.env, "options": {}}
    changed = recipe.apply(
        recipe.Recipe(str(opened.path), values, places, checkpoint=str(opened.path)), request.overrides
    )
    changed = fitted_file.filled(changed, lambda file: opened.notify(file.mismatch(opened.digest)))
    named_code.name_written(changed)
    config = recipe.validate(Config, changed)
    build.import_code(config, str(opened.path), keys)
    build.check_sampler(config, changed)
    _refuse_another_mask(opened, config)
    return config


def _set_noise(values: dict[str, Any], places: dict[KeyPath, Place], request: EvalRequest) -> None:
    """Set the requested noise: a mode that is named alone has its full scale, a scale alone is one of random noise
    where the run's own is zero. Raises UsageError for a scale that is no number."""
    if request.noise is not None:
        values["noise"], values["noise_scale"] = request.noise, 1.0
    if request.noise_scale is None:
        return
    option = f"--noise-scale {request.noise_scale}"
    try:
        values["noise_scale"] = float(request.noise_scale)
    except ValueError:
        raise UsageError(
            f"{option}: expected a number from 0 (zero noise) to 1 (as trained), such as 0.5, or several with commas "
            "between them."
        ) from None
    places["noise_scale",] = Place(option, None, ())
    if request.noise is None and values["noise"] == "zero":
        values["noise"] = "random"


def _refuse_another_mask(opened: LoadedCheckpoint, config: Config) -> None:
    """Raise UsageError for another value of a key that decides what the policy sees: its checkpoint fixes that."""
    trained, requested = opened.config.env, config.env
    for key, default in family_of(trained.id).fixed_by_training.items():
        was, wanted = getattr(trained, key), getattr(requested, key)
        if requested.id == trained.id and wanted != was:
            raise UsageError(
                f"env.{key}={wanted}: the policy in {opened.path} was trained with {key} {was or default} and sees no "
                f"more and no less. Leave --set env.{key} out, or train one with it."
            )


def check_sizes(loaded: build.LoadedPolicy, env: adapter.Adapter) -> None:
    """Raise UsageError unless the policy's observations and actions have the environment's sizes."""
    if (loaded.observation_size, loaded.action_size) != (env.observation_size, env.action_size):
        raise UsageError(
            f"--env {env.settings.id}: it has {env.observation_size} observation and {env.action_size} action "
            f"numbers, the policy was trained with {loaded.observation_size} and {loaded.action_size}. Choose an "
            "environment of the same sizes, or train on this one."
        )
