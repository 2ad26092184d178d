"""The fingerprint of an experiment: runs with equal ones differ in their seeds or in settings without effect on
what is learned."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

MAY_DIFFER = (
    *("seed", "device", "threads", "noise_scale", "env.threads", "env.timeout_s", "env.options.threads"),
    "learner.graph",  # recorded steps are those that are called, but for a GPU's last bits
    "env.warp",  # limits, and where the physics run
    *("checkpoint", "trackers", "callbacks"),
)
"""Keys of a recipe in which the runs of one experiment may differ."""


def experiment_settings(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return 'learner.clip' -> 0.1, and so on, for all settings of the resolved `config` that have to be equal.

    `config` may also be the block of settings whose names begin with `prefix`, such as 'learner.'.
    """
    settings: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name not in MAY_DIFFER and (name, value) != ("shards", 1):  # a run from before there were any has one
            settings |= experiment_settings(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return settings


def digest(config: Mapping[str, Any]) -> str:
    """Return the fingerprint (sha256, hex) of the resolved `config`."""
    text = json.dumps(experiment_settings(config), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def differences(there: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Return 'learner.clip is 0.1 there, 0.2 is asked for' for every setting that has to be equal and differs."""
    old, new = experiment_settings(there), experiment_settings(asked)
    return [
        f"{key} is {_shown(old, key)} there, {_shown(new, key)} is asked for"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    return json.dumps(leaves[key]) if key in leaves else "not set"
