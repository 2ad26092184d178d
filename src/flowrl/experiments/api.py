"""flowrl in Python: what `flowrl train` and `flowrl eval` do, as functions of the package itself."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowrl.config import recipe
from flowrl.config import schema as settings
from flowrl.config.recipe import Recipe
from flowrl.config.schema import Config
from flowrl.contracts import user_code
from flowrl.contracts.errors import UsageError
from flowrl.contracts.protocols import Sampler
from flowrl.envs import factory
from flowrl.envs.adapter import Adapter
from flowrl.envs.settings import EnvSettings
from flowrl.experiments import build
from flowrl.experiments import evaluate as evaluation
from flowrl.experiments import train as training
from flowrl.experiments.callbacks import Callback
from flowrl.experiments.train import TrainPlan, TrainResult

Overrides = Mapping[str, Any] | Iterable[str]


def load_config(source: str | Path, overrides: Overrides = ()) -> Config:
    """Read a recipe and return its complete, checked settings.

    Args:
        source: A YAML file, or the name of a recipe that flowrl ships, such as "pendulum".
        overrides: Keys to set, as a mapping {"learner.clip": 0.1} or as ["learner.clip=0.1"], in order.

    Returns:
        The settings, frozen: `config.learner.clip`, `config.env.id`. docs/configuration.md lists all keys.

    Raises:
        UsageError: The recipe or an override is wrong; the message names the file, the line and the key.
    """
    written = recipe.apply(recipe.read(source), _as_settings(overrides))
    config = settings.load(written)
    build.check_sampler(config, settings.composed(written))
    return config


def train(
    config: Config | str | Path | None = None,
    overrides: Overrides = (),
    *,
    resume: str | Path | None = None,
    out: str | Path = "runs",
    name: str | None = None,
    callbacks: Sequence[Callback] = (),
    quiet: bool = True,
) -> TrainResult:
    """Train a policy and write its run folder, as `flowrl train` does.

    Args:
        config: The settings (`load_config`), or a recipe: a YAML file or the name of a shipped one.
        overrides: Keys of a recipe, or of the run to resume, to set, as in `load_config`.
        resume: The run folder or checkpoint to continue, instead of `config`.
        out: Folder of the run folders.
        name: Name of the new run folder; default: recipe, algorithm and seed.
        callbacks: Callables that get the metrics of every iteration, a dict of floats with `iteration`, `env_steps` and
            `seconds` among them; one that returns True stops the run. They are called besides those of the settings.
        quiet: Whether to show no progress on stderr.

    Returns:
        The folder, the environment steps, the wall time in seconds and the last metrics. Ctrl-C and SIGTERM end the
        iteration, save the run and return, with `signal` set.

    Raises:
        UsageError: The settings are wrong, or a callback failed.
        TrainingDiverged: A loss is no longer finite; the last good checkpoint stays.
        CheckpointError, EnvironmentFailed, StorageError, MissingDependency: As their names say.
    """
    if isinstance(config, Config):
        if resume is not None or tuple(overrides):
            raise UsageError(
                "train: settings that are loaded take no overrides, and a resumed run brings its own. Give overrides "
                "to flowrl.load_config, or a recipe's name with overrides."
            )
        planned = _plan(config)
    else:
        source = None if config is None else str(config)
        planned = training.plan(source, _as_settings(overrides), None if resume is None else Path(resume))
    return training.train(planned, Path(out), name, quiet=quiet, called=callbacks)


def evaluate(
    checkpoint: str | Path,
    *,
    sampler: str | Sampler | None = None,
    steps: int | None = None,
    noise: str | None = None,
    noise_scale: float | None = None,
    env: str | None = None,
    overrides: Overrides = (),
    episodes: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """Play complete episodes with the policy of a checkpoint and summarise them, as `flowrl eval --json` does.

    Args:
        checkpoint: A checkpoint file or a run folder.
        sampler: The name of a sampler ("heun"), "file.py:Class", or a sampler itself: any callable
            (velocity, x (batch, action), t0, t1) -> x at t1. Default: that of the training.
        steps: Steps of the sampler's grid, for a sampler that is named.
        noise: "random", "zero" or "fixed"; default: that of the settings.
        noise_scale: Factor on the noise from 0 (zero noise) to 1 (as trained); default: that of the settings, or 1
            where `noise` is given. Of a Gaussian policy it is a factor on the spread.
        env: Another environment with equal sizes of observation and action.
        overrides: Keys to set, as in `load_config`.
        episodes: Episodes to play.
        seed: Seed of the episodes and of the policy's noise.

    Returns:
        `return_mean` (undiscounted sum of rewards per episode), `return_ci95` ([low, high], bootstrap), `success_rate`,
        `length_mean` (steps), `nfe` (velocity evaluations per action), `action_us` (microseconds per action), …; None
        where a number is not known.

    Raises:
        CheckpointError: The checkpoint is damaged, foreign or missing.
        UsageError: A name, an option or the environment does not fit the policy.
        EnvironmentFailed: The environment cannot be made, or an episode does not end.
    """
    if isinstance(sampler, str) and user_code.is_code(sampler):
        user_code.name_code(sampler)
    own = None if sampler is None or isinstance(sampler, str) else sampler
    named = sampler if isinstance(sampler, str) else None
    request = evaluation.EvalRequest(named, steps, tuple(_as_settings(overrides)), episodes, seed, noise, env)
    if noise_scale is not None:
        request = replace(request, noise_scale=str(noise_scale))
    return evaluation.evaluate_checkpoint(evaluation.open_checkpoint(Path(checkpoint)), request, own=own).summary()


def make_env(env: str | EnvSettings | Config, count: int | None = None, **keys: Any) -> Adapter:
    """Make environments that are stepped together, as training does: torch tensors in and out.

    Args:
        env: A Gymnasium id with continuous actions, or the settings of a run (the environment of a `Config`).
        count: Number of environments; default: that of the settings, 16 for an id.
        keys: Further keys of the block `env` of a recipe, for an id: `options={"max_episode_steps": 200}`.

    Returns:
        An environment with `reset(seed)` -> observations (count, observation_size) and `step(action)`, for raw actions
        (count, action_size), which are squashed to the bounds -> `Step`: obs, reward, terminated, truncated, successor,
        … with a row for each environment. An episode that ends starts again in the same step. `close()` ends it.

    Raises:
        UsageError: There is no such environment, or it has no such option.
        MissingDependency: The package of the environment is not installed.
        EnvironmentFailed: Its construction failed.
    """
    if isinstance(env, str):
        if user_code.is_code(env):
            user_code.name_code(env)
        values = {"id": env, **keys} | ({} if count is None else {"count": count})
        return factory.make(recipe.validate(EnvSettings, Recipe("make_env", values)))
    if keys:
        raise UsageError(f"make_env: {sorted(keys)[0]} is a key of the settings that are given: set it there.")
    return factory.make(env.env if isinstance(env, Config) else env, count=count)


def _plan(config: Config) -> TrainPlan:
    """Plan the training of settings that Python code has made."""
    source = Recipe("the settings", config.model_dump(mode="json"))
    build.check_sampler(config, source)
    # its callbacks were named when the user's recipe was loaded, or not at all
    return training.planned_run(config, replace(source, checkpoint=source.name), config.env.id)


def _as_settings(overrides: Overrides) -> list[str]:
    """Return overrides as 'key=value', the values as YAML."""
    if isinstance(overrides, str):
        raise UsageError(f"overrides are a mapping or a list, as in [{overrides!r}].")
    if isinstance(overrides, Mapping):
        return [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    return list(overrides)
