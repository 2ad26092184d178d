"""Suggestions for unknown keys and values of a recipe, from synonyms and similar names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel

from flowrl.config.yaml_reader import KeyPath, dotted

# Names in other libraries -> the keys of flowrl that may be meant, by their last names; only existing ones are
# suggested.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "lr": ("learning_rate",),
    "learning_rate_actor": ("learning_rate",),
    "lr_critic": ("critic_learning_rate",),
    "critic_lr": ("critic_learning_rate",),
    "discount": ("gamma",),
    "discount_factor": ("gamma",),
    "lam": ("gae_lambda",),
    "lambda": ("gae_lambda",),
    "lmbda": ("gae_lambda",),
    "clip_range": ("clip",),
    "clip_coef": ("clip",),
    "clip_eps": ("clip",),
    "clip_epsilon": ("clip",),
    "clip_param": ("clip",),
    "epsilon": ("clip",),
    "clip_range_vf": ("value_clip",),
    "vf_coef": ("value_coefficient",),
    "value_coef": ("value_coefficient",),
    "value_loss_coef": ("value_coefficient",),
    "ent_coef": ("entropy_coefficient", "entropy_coef"),
    "entropy_coef": ("entropy_coefficient",),
    "entropy_bonus": ("entropy_coefficient", "entropy_coef"),
    "n_epochs": ("epochs",),
    "num_epochs": ("epochs",),
    "update_epochs": ("epochs",),
    "num_updates_per_batch": ("epochs",),
    "n_minibatches": ("minibatches",),
    "num_minibatches": ("minibatches",),
    "num_mini_batches": ("minibatches",),
    "batch_size": ("minibatches", "batch"),
    "minibatch_size": ("minibatches", "microbatch"),
    "target_kl": ("schedule.target",),
    "desired_kl": ("schedule.target",),
    "lr_schedule": ("schedule.kind",),
    "max_gradient_norm": ("max_grad_norm",),
    "grad_clip": ("max_grad_norm",),
    "reward_scaling": ("reward_scale",),
    "normalize_advantage": ("normalise_advantages",),
    "normalize_advantages": ("normalise_advantages",),
    "normalize_observations": ("normalise_observations",),
    "ema": ("ema_decay",),
    "n_envs": ("env.count",),
    "num_envs": ("env.count",),
    "nenvs": ("env.count",),
    "environments": ("env.count",),
    "env_id": ("env.id",),
    "env_name": ("env.id",),
    "environment": ("env",),
    "task": ("env.id",),
    "env_kwargs": ("env.options",),
    "kwargs": ("env.options",),
    "algo": ("algorithm",),
    "method": ("algorithm",),
    "agent": ("algorithm",),
    "timesteps": ("total_steps",),
    "total_timesteps": ("total_steps",),
    "num_timesteps": ("total_steps",),
    "num_steps": ("rollout.steps", "total_steps"),
    "max_steps": ("total_steps",),
    "budget": ("total_steps",),
    "n_steps": ("rollout.steps",),
    "rollout_steps": ("rollout.steps",),
    "unroll_length": ("rollout.steps",),
    "num_steps_per_env": ("rollout.steps",),
    "horizon": ("rollout.steps",),
    "net_arch": ("hidden",),
    "hidden_sizes": ("hidden",),
    "hidden_size": ("hidden",),
    "hidden_dims": ("hidden",),
    "hidden_layers": ("hidden",),
    "layers": ("hidden",),
    "n_probes": ("probes.count",),
    "num_probes": ("probes.count",),
    "n_samples": ("probes.count",),
    "solver": ("sampler.name", "sampler"),
    "integrator": ("sampler.name", "sampler"),
    "nfe": ("sampler.steps",),
    "flow_steps": ("sampler.steps",),
    "n_threads": ("threads",),
    "num_threads": ("threads",),
    "random_seed": ("seed",),
    "save_freq": ("checkpoint.every_s",),
}

CHOICES = {  # the same for values that are one of several words
    "gpu": "cuda",
    "swish": "silu",
    "normal": "gaussian",
    "fpopp": "fpo++",
    "fpo_plus_plus": "fpo++",
    "fpo_pp": "fpo++",
}

_MOST_SUGGESTED = 3
_DEEPEST_KEY = 5


def other_key(root: type[BaseModel], path: KeyPath, here: list[str]) -> str:
    """Return the sentence "Did you mean …?" for the unknown key at `path` in a recipe for the model `root`.

    The search order is: the same name elsewhere, a synonym from another library, a similar name among the keys
    `here`, and a similar one elsewhere. Returns '' when there is none.
    """
    name = str(path[-1])
    normal = name.lower().replace("-", "_")
    tree = list(keys_of(root))
    if (nested := tuple(name.split("."))) in tree:
        return f"Keys are nested by indentation: write '{nested[0]}:' and below it '{nested[-1]}:'."
    by_name: dict[str, list[KeyPath]] = {}
    for known in tree:
        by_name.setdefault(str(known[-1]), []).append(known)
    meant = (
        by_name.get(normal)
        or _ending(tree, SYNONYMS.get(normal, ()))
        or [(*path[:-1], near) for near in difflib.get_close_matches(normal, here, n=1, cutoff=0.6)]
        or by_name.get(next(iter(difflib.get_close_matches(normal, by_name, n=1, cutoff=0.75)), ""), [])
    )
    meant = [known for known in meant if known[:-1] == path[:-1]] or meant
    names = [repr(known[-1]) if known[:-1] == path[:-1] else repr(dotted(known)) for known in meant]
    return f"Did you mean {' or '.join(names[:_MOST_SUGGESTED])}?" if names else ""


def keys_of(model: type[BaseModel]) -> Iterator[KeyPath]:
    """Yield every key that a recipe for `model` may have, level by level, the shortest paths first."""
    level: list[tuple[KeyPath, type[BaseModel]]] = [((), model)]
    seen: set[KeyPath] = set()
    while level and len(level[0][0]) < _DEEPEST_KEY:
        below = []
        for path, block in level:
            for name, field in block.model_fields.items():
                key = (*path, name)
                if key not in seen:
                    seen.add(key)
                    yield key
                below += [(key, choice) for choice in types_of(field.annotation)[0] if is_model(choice)]
        level = below


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


def _ending(tree: list[KeyPath], targets: tuple[str, ...]) -> list[KeyPath]:
    """Return the keys that end in the first of the dotted `targets` that any key ends in."""
    for target in targets:
        end = tuple(target.split("."))
        if found := [known for known in tree if known[-len(end) :] == end]:
            return found
    return []
