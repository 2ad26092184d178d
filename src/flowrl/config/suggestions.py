"""Suggestions for unknown keys and values of a recipe, from synonyms and similar names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel

from flowrl.config.yaml_reader import KeyPath, dotted

_NAMES_ELSEWHERE = {  # last names of a key -> its names in other libraries
    "learning_rate": "lr learning_rate_actor actor_lr policy_lr step_size",
    "critic_learning_rate": "lr_critic critic_lr value_lr",
    "gamma": "discount discount_factor discounting",
    "gae_lambda": "lam lambda lmbda gae tau",
    "clip": "clip_range clip_coef clip_eps clip_epsilon clipping_epsilon clip_param epsilon ratio_clip e_clip eps_clip "
    "clip_ratio",
    "value_clip": "clip_range_vf clip_vloss use_clipped_value_loss clip_value",
    "value_coefficient": "vf_coef value_coef value_loss_coef value_loss_scale critic_coef vf_loss_coeff",
    "entropy_coefficient": "ent_coef entropy_coef entropy_bonus entropy_loss_scale entropy_cost entropy_coeff",
    "epochs": "n_epochs num_epochs update_epochs num_updates_per_batch learning_epochs mini_epochs num_learning_epochs "
    "repeat_per_collect num_sgd_iter ppo_epochs",
    "minibatches": "n_minibatches num_minibatches num_mini_batches mini_batches batch_size minibatch_size "
    "mini_batch_size sgd_minibatch_size",
    "schedule.target": "target_kl desired_kl kl_threshold kl_target",
    "schedule.kind": "lr_schedule anneal_lr learning_rate_scheduler lr_decay",
    "max_grad_norm": "max_gradient_norm grad_clip grad_norm_clip grad_norm clip_grad_norm",
    "adam_beta1": "betas beta1",
    "reward_scale": "reward_scaling rewards_shaper scale_rewards",
    "normalise_advantages": "normalize_advantage normalize_advantages norm_adv",
    "normalise_observations": "normalize_observations normalize normalize_input empirical_normalization norm_obs "
    "obs_norm state_preprocessor",
    "ema_decay": "ema",
    "env": "environment",
    "env.id": "env_id env_name task gym_id environment_id",
    "env.count": "n_envs num_envs nenvs environments num_actors training_num num_workers n_env",
    "env.options": "env_kwargs kwargs env_config env_args",
    "env.options.max_episode_steps": "max_episode_steps episode_length max_episode_length time_limit",
    "env.action_repeat": "frame_skip",
    "algorithm": "algo method agent algo_name",
    "total_steps": "timesteps total_timesteps n_timesteps num_timesteps max_steps budget total_step env_steps "
    "num_env_steps max_iterations max_epochs num_iterations total_env_steps",
    "rollout.steps": "num_steps n_steps rollout_steps unroll_length num_steps_per_env horizon horizon_length rollouts "
    "rollout_length step_per_collect rollout_fragment_length",
    "policy.hidden": "actor_hidden_dims policy_hidden_layer_sizes",
    "critic.hidden": "critic_hidden_dims value_hidden_layer_sizes",
    "hidden": "net_arch hidden_sizes hidden_size hidden_dims hidden_layers layers units",
    "activation": "activation_fn",
    "policy": "policy_kwargs network_factory network",
    "initial_std": "init_noise_std init_std",
    "probes.count": "n_probes num_probes n_samples",
    "sampler.name": "solver integrator",
    "sampler.steps": "nfe flow_steps denoising_steps num_inference_steps",
    "threads": "n_threads num_threads torch_num_threads",
    "seed": "random_seed",
    "device": "cuda use_cuda gpu",
    "checkpoint.every_s": "save_freq save_interval checkpoint_freq checkpoint_interval save_frequency",
}
SYNONYMS = {name: key for key, names in _NAMES_ELSEWHERE.items() for name in names.split()}

CHOICES = {  # the same for values that are one of several words
    "gpu": "cuda",
    "swish": "silu",
    "normal": "gaussian",
    "fpopp": "fpo++",
    "fpo_plus_plus": "fpo++",
    "fpo_pp": "fpo++",
}

_MOST_SUGGESTED = 3


def other_key(root: type[BaseModel], path: KeyPath, here: list[str], *, dotted_names: bool = False) -> str:
    """Return the sentence "Did you mean …?" for the unknown key at `path` in a recipe for the model `root`.

    `here` are the keys of its block. A key of the same block is named alone, unless `dotted_names`, as on the command
    line, asks for its path. Returns '' when no key is meant.
    """
    name = str(path[-1])
    if (nested := tuple(name.split("."))) in set(keys_of(root)):
        return f"Keys are nested by indentation: write '{nested[0]}:' and below it '{nested[-1]}:'."
    meant = keys_meant(root, path, here)
    alone = not dotted_names
    names = [repr(known[-1]) if alone and known[:-1] == path[:-1] else repr(dotted(known)) for known in meant]
    return f"Did you mean {' or '.join(names[:_MOST_SUGGESTED])}?" if names else ""


def keys_meant(root: type[BaseModel], path: KeyPath, here: list[str] | None = None) -> list[KeyPath]:
    """Return the keys of a recipe for the model `root` that the unknown key at `path` may mean, [] for none.

    The search order is: the same name elsewhere, a synonym from another library, a similar name among the keys
    `here` (default: those of the root), and a similar one elsewhere; keys of the same block come alone.
    """
    normal = str(path[-1]).lower().replace("-", "_")
    tree = sorted(dict.fromkeys(keys_of(root)), key=len)  # the shortest paths first
    by_name: dict[str, list[KeyPath]] = {}
    for known in tree:
        by_name.setdefault(str(known[-1]), []).append(known)
    here = list(root.model_fields) if here is None else here
    meant = (
        by_name.get(normal)
        or _ending(tree, SYNONYMS.get(normal))
        or [(*path[:-1], near) for near in difflib.get_close_matches(normal, here, n=1, cutoff=0.6)]
        or by_name.get(next(iter(difflib.get_close_matches(normal, by_name, n=1, cutoff=0.75)), ""), [])
    )
    return [known for known in meant if known[:-1] == path[:-1]] or meant


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
    """Return the keys that end in the dotted `target`, or begin it: options of an environment are no keys of ours."""
    end = tuple(target.split(".")) if target else ()
    below: list[KeyPath] = [end for known in tree if known == ("env", "options") == end[:2] and len(end) > 2]
    return [known for known in tree if end and known[-len(end) :] == end] or below
