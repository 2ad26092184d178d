"""What policy.json says of an exported policy: where it comes from, its interface, its sampler and its network."""

from __future__ import annotations

import json
import math
from typing import Any

from flowrl import __version__
from flowrl.contracts.regular_files import read_bounded
from flowrl.deployment.folder import FORMAT
from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.program import Program
from flowrl.envs.actions import ActionBounds
from flowrl.experiments.deployable import Deployable, as_numpy
from flowrl.experiments.suite.trial import EVALUATION
from flowrl.storage import checkpoint

MOST_BYTES = 10_000_000  # of evaluation.json
EVALUATED = ("return_mean", "return_ci95", "success_rate", "success_ci95", "episodes", "sampler", "steps", "noise")


def described(made: Deployable, program: Program, choice: NoiseChoice) -> dict[str, Any]:
    """Return policy.json without what the formats, the verification and the files add."""
    config, content = made.loaded.config, made.opened.content
    sampler = made.loaded.policy.sampler
    interface = made.interface
    bounds = as_numpy(ActionBounds.of_saved(interface)) if interface else None  # of raw actions, too: the caller's work
    return {
        "flowrl": __version__,
        "format": FORMAT,
        "checkpoint": _origin(made),
        "evaluation": _evaluation(made),
        "env": made.opened.config.env.id,
        "observation": {
            "size": program.observation_size,
            "dtype": "float32",
            "normalised_inside": program.limit is not None,
            "clip": program.limit,
            "parts": interface.get("observation_parts") or None,
            "history": config.env.history,
        },
        "action": {
            "size": program.action_size,
            "raw": program.bounds is None,
            "squash": bounds and bounds.squash,
            "low": bounds and _finite(bounds.low.tolist()),
            "high": bounds and _finite(bounds.high.tolist()),
            "scale": bounds and bounds.half.tolist(),
            "offset": bounds and bounds.centre.tolist(),
            "limit": program.action_limit,
            "names": interface.get("action_names") or None,
        },
        "control_dt": interface.get("control_dt"),
        "noise": {
            "mode": choice.mode,
            "scale": choice.scale,
            "seed": choice.seed,
            "size": program.action_size,
            "law": "N(0,1)",
            "meaning": choice.reason,
        },
        "sampler": {
            "name": None if sampler is None else config.sampler.name,
            "steps": getattr(sampler, "steps", None),
            "nfe": program.nfe,
            "times": [node.t for node in program.flow.nodes] if program.flow else None,
            "of_training": config.sampler == made.opened.config.sampler if sampler is not None else None,
        },
        "network": {
            "kind": config.policy.kind,
            "hidden": list(program.hidden),
            "activation": program.activation,
            "parameterisation": getattr(config.policy, "parameterisation", None),
            "weights": "actor" if content.get("evaluation_weights") == "actor" or not content["average"] else "average",
        },
    }


def title(made: Deployable) -> str:
    """Return what the policy is, for the first line of a file."""
    return f"A policy of flowrl {__version__}: {made.opened.title}, {made.opened.path.resolve().parent.name}"


def _origin(made: Deployable) -> dict[str, Any]:
    content, config, path = made.opened.content, made.opened.config, made.opened.path
    best = content["progress"]["best_return"]
    return {
        "run": path.resolve().parent.name,
        "file": path.name,
        "sha256": checkpoint.load_with_digest(path)[1],
        "flowrl": content["flowrl"],
        "algorithm": config.algorithm,
        "env_steps": content["progress"]["env_steps"],
        "seed": config.seed,
        "best_return": best if math.isfinite(best) else None,
    }


def _evaluation(made: Deployable) -> list[dict[str, Any]] | None:
    """Return the evaluations in the run's evaluation.json, which a suite writes, if they are of this checkpoint."""
    path = made.opened.path
    file = path.resolve().parent / EVALUATION
    if path.name != checkpoint.LATEST or not file.is_file():
        return None
    try:
        record = json.loads(read_bounded(file, MOST_BYTES))
        if record["env_steps"] != made.opened.content["progress"]["env_steps"]:
            return None
        return [{key: each.get(key) for key in EVALUATED} for each in record["evaluations"].values()]
    except (ValueError, OSError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def _finite(bounds: list[float]) -> list[float | None]:
    """Return bounds with None where there is none."""
    return [bound if abs(bound) < 1e30 else None for bound in bounds]
