"""Why an environment cannot be made or used, and what to change: a paragraph for each case."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from flowrl.contracts.errors import (
    EnvironmentFailed,
    FlowrlError,
    MissingDependency,
    UsageError,
    did_you_mean,
    in_one_line,
)
from flowrl.envs import opengl
from flowrl.envs.lookup import CodeSpec, constructor_options
from flowrl.envs.observations import declared_space, leaves_of
from flowrl.envs.settings import EnvSettings

SPACES = {
    "observation_space": "self.observation_space = gymnasium.spaces.Box(-numpy.inf, numpy.inf, (3,))",
    "action_space": "self.action_space = gymnasium.spaces.Box(-1, 1, (2,))",
}
SINGLE = ("single_observation_space", "single_action_space", "observation_space", "action_space")
LEAST_PIXELS = 768  # 16 x 16 x 3: from here on three dimensions of any numbers count as an image


def check_parts(env: gymnasium.Env[Any, Any], id: str) -> None:
    """Raise UsageError unless the environment `env` of a user's class has its spaces and methods."""
    for name, example in SPACES.items():
        space = getattr(env, name, None)
        if not isinstance(space, spaces.Space):
            what = "has no" if space is None else f"has {type(space).__name__} {space!r} as its"
            raise UsageError(f"{id} {what} {name}. Set it in __init__, or in the class: {example}.")
    inner = type(env.unwrapped)
    for name in ("reset", "step"):
        if getattr(inner, name) is getattr(gymnasium.Env, name):
            raise UsageError(
                f"{id} has no {name}. Write def reset(self, *, seed=None, options=None), which returns (observation, "
                "info), and def step(self, action), which returns (observation, reward, terminated, truncated, info)."
            )


def unsupported_vector(envs: Any) -> str:
    """Return why a vector environment of the user's cannot be stepped, or an empty string."""
    if not isinstance(envs, VectorEnv):
        return f"it made {type(envs).__name__}, not a gymnasium.vector.VectorEnv."
    if isinstance(envs, SyncVectorEnv | AsyncVectorEnv):
        return (
            f"it made a {type(envs).__name__}, which steps single environments. Name what makes one of them, and "
            "flowrl makes env.count."
        )
    missing = [name for name in ("num_envs", *SINGLE) if getattr(envs, name, None) is None]
    if missing:
        return f"it has no {missing[0]}. Set it in __init__."
    mode = envs.metadata.get("autoreset_mode")
    if mode != AutoresetMode.SAME_STEP:
        return (
            f"its autoreset mode is {getattr(mode, 'name', None) or 'not declared'}, but flowrl needs the last "
            "observation of an episode in the step that ends it. Reset episodes in that step, return their last "
            'observations in info["final_obs"], and declare metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}.'
        )
    if not isinstance(envs.single_observation_space, spaces.Box):
        return (
            f"its observations are a {type(envs.single_observation_space).__name__}, but those of a vector environment "
            "must be a Box: flatten them in the environment."
        )
    return ""


def unsupported_spaces(envs: VectorEnv[Any, Any, Any], settings: EnvSettings) -> str:
    """Return why the spaces of `envs` cannot be used, or an empty string."""
    space = envs.single_action_space
    if not isinstance(space, spaces.Box):
        return (
            f"its action space is {type(space).__name__}, but flowrl's actions are continuous: a Box of floats. "
            "`flowrl envs` lists environments that fit."
        )
    if not np.issubdtype(space.dtype, np.floating):
        return f"its actions are {space.dtype}, but flowrl's actions are continuous: a Box of floats."
    if np.isnan(space.low).any() or np.isnan(space.high).any():
        return f"the bounds of its actions are not numbers: {space}."
    for name, size in (("action", space.shape), ("observation", envs.single_observation_space.shape)):
        if not np.prod(size or ()):
            return f"its {name} space has the shape {size}: there is nothing to learn from."
    images = [leaf for leaf in leaves_of(declared_space(envs.single_observation_space), "") if is_image(leaf)]
    if images and not settings.flatten:
        shape = " x ".join(map(str, images[0].shape or ()))
        return (
            f"its observation is an image, {shape} {images[0].dtype}, and flowrl's networks know nothing of pixels. "
            f"Make it a few numbers with a wrapper (env.wrappers), or type --set env.flatten=true to train on all "
            f"{int(np.prod(images[0].shape or ())):,} of them as they are."
        )
    return ""


def is_image(space: spaces.Space[Any]) -> bool:
    """Return whether a space is one of images: bytes in two or more dimensions, or height x width x channels."""
    if not isinstance(space, spaces.Box) or len(space.shape) < 2:
        return False
    return space.dtype == np.uint8 or (len(space.shape) == 3 and int(np.prod(space.shape)) >= LEAST_PIXELS)


def refusal(spec: EnvSpec, settings: EnvSettings, error: BaseException) -> FlowrlError:
    """Return the error for the user when the construction of an environment raised `error`."""
    try:
        opengl.check()
    except MissingDependency as reason:
        return reason
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if isinstance(error, TypeError) and unknown and unknown[1] in settings.arguments():
        known = sorted(constructor_options(spec) - {unknown[1]})
        listed = f" It takes {', '.join(known)}." if known else ""
        place = "env.options" if unknown[1] in settings.options else f"env.{unknown[1]}"
        return UsageError(
            f"{place}: {settings.id} has no option {unknown[1]!r}.{did_you_mean(unknown[1], known)}{listed}"
        )
    if isinstance(spec, CodeSpec) and (found := _fault_of_code(spec, settings, error)):
        return UsageError(found)
    if isinstance(error, gymnasium.error.DependencyNotInstalled | ImportError):
        return MissingDependency(
            f"{settings.id} cannot be made with the packages installed here: {' '.join(str(error).split())}"
        )
    return EnvironmentFailed(f"{settings.id} cannot be made: {in_one_line(error)}")


def _fault_of_code(spec: CodeSpec, settings: EnvSettings, error: BaseException) -> str:
    """Explain what is wrong with the constructor of the user's own environment; '' where `error` says it itself."""
    id, text = settings.id, str(error)
    if missing := re.search(r"missing \d+ required (?:positional|keyword-only) arguments?: (.+?)( was raised|$)", text):
        first = re.findall(r"'(\w+)'", missing[1])
        return (
            f"{id} needs {missing[1]}: write env.options: {{{', '.join(f'{name}: …' for name in first)}}}, or give "
            "them defaults in its constructor."
        )
    if "takes no arguments" in text or "() takes" in text:
        return f"env.options: {id} takes no such arguments: {text.partition(' was raised')[0]}."
    if made := re.search(r"must inherit from the gymnasium.Env class, actual class: (.+?)\. See", text):
        return f"{id} returned {made[1]}, not a gymnasium.Env: a function that env.id names must return an environment."
    if "Gym is incompatible with Gymnasium" in text:
        return f"{id} is an environment of the old gym: derive it from gymnasium.Env, or wrap it with shimmy."
    if absent := re.search(r"has no attribute '((?:observation|action)_space)'", text):
        return f"{id} has no {absent[1]}. Set it in __init__, or in the class: {SPACES[absent[1]]}."
    return ""
