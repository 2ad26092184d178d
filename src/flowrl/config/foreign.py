"""Recipes of other tools: recognised by their keys, with the place of each key in a recipe of flowrl."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydantic import BaseModel

from flowrl.config.suggestions import SYNONYMS, keys_meant, keys_of
from flowrl.config.yaml_reader import KeyPath, dotted, shorten

_SB3 = {"policy_kwargs", "n_steps", "n_epochs", "clip_range", "ent_coef", "vf_coef", "use_sde", "sde_sample_freq"}
_TOOLS = {  # a tool -> keys that its files have and others seldom have
    "Stable-Baselines3": _SB3 | {"clip_range_vf", "stats_window_size", "tensorboard_log", "total_timesteps"},
    "RL Baselines3 Zoo": _SB3 | {"n_timesteps", "env_wrapper", "frame_stack", "normalize_kwargs", "n_envs"},
    "CleanRL": {"exp_name", "torch_deterministic", "track", "capture_video", "wandb_project_name", "anneal_lr"}
    | {"norm_adv", "clip_vloss", "update_epochs", "clip_coef", "num_minibatches", "env_id"},
    "rsl_rl": {"num_steps_per_env", "max_iterations", "empirical_normalization", "init_noise_std", "class_name"}
    | {"actor_hidden_dims", "critic_hidden_dims", "num_learning_epochs", "num_mini_batches", "desired_kl"}
    | {"use_clipped_value_loss", "value_loss_coef", "experiment_name", "save_interval"},
    "skrl": {"rollouts", "learning_epochs", "mini_batches", "grad_norm_clip", "ratio_clip", "state_preprocessor"}
    | {"learning_rate_scheduler", "kl_threshold", "entropy_loss_scale", "value_loss_scale", "rewards_shaper"},
    "rl_games": {"horizon_length", "e_clip", "mini_epochs", "bounds_loss_coef", "normalize_input", "critic_coef"}
    | {"minibatch_size", "kl_threshold", "num_actors", "algo_name"},
    "Brax or MuJoCo Playground": {"unroll_length", "num_updates_per_batch", "discounting", "entropy_cost"}
    | {"clipping_epsilon", "network_factory", "num_evals", "reward_scaling", "num_resets_per_eval"},
    "Tianshou": {"step_per_collect", "repeat_per_collect", "training_num", "eps_clip", "step_per_epoch"},
    "RLlib": {"rollout_fragment_length", "sgd_minibatch_size", "num_sgd_iter", "train_batch_size", "vf_loss_coeff"},
}
_CONVERSIONS = {  # a key whose value is counted in another way than that of the key it leads to -> how ours is
    **dict.fromkeys(("batch_size", "minibatch_size", "mini_batch_size", "sgd_minibatch_size"), "a number, not a size"),
    **dict.fromkeys(("max_iterations", "max_epochs", "num_iterations"), "environment steps, not iterations"),
    **dict.fromkeys(
        ("save_freq", "save_interval", "checkpoint_freq", "checkpoint_interval"), "seconds, not iterations"
    ),
    **dict.fromkeys(("clip_vloss", "use_clipped_value_loss"), "a width, not true or false"),
    **dict.fromkeys(("policy_kwargs", "network_factory", "network"), "a block with hidden and activation"),
}
_LEAST_KEYS = 3  # of other tools: with fewer, a recipe has wrong keys, and is still a recipe
_MOST_LISTED = 16
_KEY = re.compile(r"""(?:^|[{,])[ \t]*(?:- +)?(["']?)([A-Za-z_][\w.-]*)\1[ \t]*:(?=\s|$)""", re.MULTILINE)
_SHAPE = "total_steps: 500_000, env: {id: Pendulum-v1, count: 16}, rollout: {steps: 64}, learner: {learning_rate: 3e-4}"


def keys_in_text(text: str) -> list[str]:
    """Return the keys that `text` seems to hold, whether or not it is YAML that flowrl reads."""
    return [match[2] for match in _KEY.finditer("\n".join(line for line in text.splitlines() if "#" not in line[:1]))]


def explanation(root: type[BaseModel], keys: Iterable[str]) -> str:
    """Explain which tool's recipe has these `keys`, and where they belong in one for the model `root`.

    Returns '' unless at least three of them, and more than those that flowrl has, are names of other tools.
    """
    distinct = dict.fromkeys(key.lower().replace("-", "_") for key in keys)
    ours = {str(path[-1]) for path in keys_of(root)}
    marks = set().union(*_TOOLS.values())
    foreign = [key for key in distinct if key not in ours and (key in SYNONYMS or key in marks)]
    if len(foreign) < _LEAST_KEYS or len(foreign) <= sum(key in ours for key in distinct) / 2:
        return ""
    count = {tool: len(marks & set(foreign)) for tool, marks in _TOOLS.items()}
    tool = max(count, key=lambda name: count[name])
    whose = f"of {tool}" if count[tool] > 1 else "of another tool"
    places = [f"{key} -> {place}" for key in distinct if (place := _place(root, key, ours))]
    rest = [key for key in foreign if key not in SYNONYMS]
    more = f", and {len(places) - _MOST_LISTED} more" if len(places) > _MOST_LISTED else ""
    nothing = f" Without a counterpart: {', '.join(rest[:_MOST_LISTED])}." if rest else ""
    return (
        f"these are settings {whose} ({', '.join(foreign[:3])}, …), and a recipe of flowrl has its own form: {_SHAPE}. "
        f"Where the keys belong: {', '.join(places[:_MOST_LISTED])}{more}.{nothing} "
        "Type flowrl train pendulum.yaml --dry-run to see a recipe with every key."
    )


def _place(root: type[BaseModel], key: str, ours: set[str]) -> str:
    """Return where the foreign `key`, or one of ours that lies elsewhere, belongs; '' where that is not known."""
    if key not in SYNONYMS and key not in ours:
        return ""
    meant: list[KeyPath] = keys_meant(root, (key,))
    if not meant or meant[0] == (key,):
        return ""
    note = f" ({_CONVERSIONS[key]})" if key in _CONVERSIONS else ""
    return shorten(dotted(meant[0]) + note)
