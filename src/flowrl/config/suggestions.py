"""Suggestions for unknown keys and values of a recipe, from synonyms and similar names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel

from flowrl.config.yaml_reader import KeyPath, dotted

_NAMES_ELSEWHERE = {  # last names of a key -> its names in other libraries
    "learning_rate": ["lr", "learning_rate_actor"],
    "critic_learning_rate": ["lr_critic", "critic_lr"],
    "gamma": ["discount", "discount_factor"],
    "gae_lambda": ["lam", "lambda", "lmbda"],
    "clip": ["clip_range", "clip_coef", "clip_eps", "clip_epsilon", "clip_param", "epsilon"],
    "value_clip": ["clip_range_vf"],
    "value_coefficient": ["vf_coef", "value_coef", "value_loss_coef"],
    "entropy_coefficient": ["ent_coef", "entropy_coef", "entropy_bonus"],
    "epochs": ["n_epochs", "num_epochs", "update_epochs", "num_updates_per_batch"],
    "minibatches": ["n_minibatches", "num_minibatches", "num_mini_batches", "batch_size", "minibatch_size"],
    "schedule.target": ["target_kl", "desired_kl"],
    "schedule.kind": ["lr_schedule"],
    "max_grad_norm": ["max_gradient_norm", "grad_clip"],
    "reward_scale": ["reward_scaling"],
    "normalise_advantages": ["normalize_advantage", "normalize_advantages"],
    "normalise_observations": ["normalize_observations"],
    "ema_decay": ["ema"],
    "env": ["environment"],
    "env.id": ["env_id", "env_name", "task"],
    "env.count": ["n_envs", "num_envs", "nenvs", "environments"],
    "env.options": ["env_kwargs", "kwargs"],
    "algorithm": ["algo", "method", "agent"],
    "total_steps": ["timesteps", "total_timesteps", "num_timesteps", "max_steps", "budget"],
    "rollout.steps": ["num_steps", "n_steps", "rollout_steps", "unroll_length", "num_steps_per_env", "horizon"],
    "hidden": ["net_arch", "hidden_sizes", "hidden_size", "hidden_dims", "hidden_layers", "layers"],
    "probes.count": ["n_probes", "num_probes", "n_samples"],
    "sampler.name": ["solver", "integrator"],
    "sampler.steps": ["nfe", "flow_steps"],
    "threads": ["n_threads", "num_threads"],
    "seed": ["random_seed"],
    "checkpoint.every_s": ["save_freq"],
}
SYNONYMS = {name: key for key, names in _NAMES_ELSEWHERE.items() for name in names}

CHOICES = {  # the same for values that are one of several words
    "gpu": "cuda",
    "swish": "silu",
    "normal": "gaussian",
    "fpopp": "fpo++",
    "fpo_plus_plus": "fpo++",
    "fpo_pp": "fpo++",
}

_MOST_SUGGESTED = 3


def other_key(root: type[BaseModel], path: KeyPath, here: list[str]) -> str:
    """Return the sentence "Did you mean …?" for the unknown key at `path` in a recipe for the model `root`.

    The search order is: the same name elsewhere, a synonym from another library, a similar name among the keys
    `here`, and a similar one elsewhere. Returns '' when there is none.
    """
    name = str(path[-1])
    normal = name.lower().replace("-", "_")
    tree = sorted(dict.fromkeys(keys_of(root)), key=len)  # the shortest paths first
    if (nested := tuple(name.split("."))) in tree:
        return f"Keys are nested by indentation: write '{nested[0]}:' and below it '{nested[-1]}:'."
    by_name: dict[str, list[KeyPath]] = {}
    for known in tree:
        by_name.setdefault(str(known[-1]), []).append(known)
    meant = (
        by_name.get(normal)
        or _ending(tree, SYNONYMS.get(normal))
        or [(*path[:-1], near) for near in difflib.get_close_matches(normal, here, n=1, cutoff=0.6)]
        or by_name.get(next(iter(difflib.get_close_matches(normal, by_name, n=1, cutoff=0.75)), ""), [])
    )
    meant = [known for known in meant if known[:-1] == path[:-1]] or meant
    names = [repr(known[-1]) if known[:-1] == path[:-1] else repr(dotted(known)) for known in meant]
    return f"Did you mean {' or '.join(names[:_MOST_SUGGESTED])}?" if names else ""


def keys_of(model: type[BaseModel], above: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield every key that a recipe for `model` may have; a key that two kinds of a block have, once for each.

    `above` is the path of the block that `model` describes; () for all of the recipe.
    """
    for name, field in model.model_fields.items():
        yield (*above, name)
        for choice in filter(is_model, types_of(field.annotation)[0]):
            yield from keys_of(choice, (*above, name))


def types_of(annotation: Any) -> tuple[tuple[Any, ...], bool]:
    """Return the types in an annotation, with unions and Annotated resolved, and whether None is one of them."""
    if get_origin(annotation) is Annotated:
        return types_of(get_args(annotation)[0])
    if get_origin(annotation) not in (Union, UnionType):
        return (annotation,), False
    types: list[Any] = []
    nullable = False
    for member in get_args(annotation):
        if member is type(None):
            nullable = True
            continue
        inner, inner_nullable = types_of(member)
        types += inner
        nullable |= inner_nullable
    return tuple(types), nullable


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Return whether `annotation` is a pydantic model."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _ending(tree: list[KeyPath], target: str | None) -> list[KeyPath]:
    """Return the keys that end in the dotted `target`."""
    end = tuple(target.split(".")) if target else None
    return [known for known in tree if end and known[-len(end) :] == end]
