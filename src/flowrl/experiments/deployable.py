"""A policy that leaves the trainer: from a checkpoint to its `Program`, and to what the program is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowrl.config import named_code
from flowrl.deployment.folding import fold
from flowrl.deployment.program import Bounds, Program
from flowrl.envs import factory
from flowrl.envs.actions import ActionBounds
from flowrl.experiments import build, evaluate
from flowrl.experiments.evaluate import EvalRequest, LoadedCheckpoint

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class Deployable:
    """A loaded policy, with the interface of its actions and its program."""

    opened: LoadedCheckpoint
    loaded: build.LoadedPolicy
    interface: dict[str, Any]  # that of `flowrl.storage.content.SavedInterface`; {} for raw actions without one
    bound: ActionBounds | None  # None: raw actions
    noise_scale: float

    def program(self) -> Program:
        """Return the program; raises UsageError for a sampler without fixed steps."""
        return fold(self.loaded.policy, None if self.bound is None else as_numpy(self.bound), self.noise_scale)

    def act(self) -> Callable[[Numbers, Numbers], Numbers]:
        """Return the policy in torch as a function (observations (rows, observation), noise (rows, action)) -> actions
        (rows, action). From then on the policy draws no noise of its own."""
        policy, bound = self.loaded.policy, self.bound
        given = policy.noise if isinstance(policy.noise, GivenNoise) else GivenNoise()
        policy.noise = given  # type: ignore[assignment]

        def act(obs: Numbers, noise: Numbers) -> Numbers:
            given.rows = torch.from_numpy(np.ascontiguousarray(noise, dtype=np.float32)) * self.noise_scale
            with torch.no_grad():
                action = policy(torch.from_numpy(np.ascontiguousarray(obs, dtype=np.float32)))
                return (action if bound is None else bound(action)).numpy().astype(np.float32, copy=False)

        return act


class GivenNoise:
    """Noise that the caller gives, in the place of `flowrl.policies.noise.Noise`."""

    def __init__(self) -> None:
        self.rows = torch.zeros(0, 0)

    def __call__(self, count: int) -> torch.Tensor:
        """Return the rows that were given."""
        return self.rows


def deployable(
    opened: LoadedCheckpoint, request: EvalRequest, *, raw: bool = False, noise_scale: float = 1.0
) -> Deployable:
    """Load the policy with the sampler of `request`, and find what becomes of its actions.

    A checkpoint that does not hold the interface of its actions has its environment made, once, unless they are `raw`.
    """
    config = evaluate.configured(opened, request, (build.SAMPLER,))  # no environment is needed
    loaded = build.load_policy(opened.path, opened.content, config, request.seed)
    saved = opened.content.get("interface")
    interface: dict[str, Any] = dict(saved or {})
    if saved is None and not raw:
        opened.notify(
            f"{opened.path} was saved by an earlier flowrl and does not hold the bounds of the actions: the "
            f"environment {opened.config.env.id} is made to ask for them (--raw would leave them out)."
        )
        build.import_code(opened.config, str(opened.path), named_code.ACTING)
        env = factory.make(opened.config.env, count=1)
        try:
            interface = env.interface
        finally:
            env.close()
    bound = None if raw else ActionBounds.of_saved(interface)
    return Deployable(opened, loaded, interface, bound, noise_scale)


def as_numpy(bound: ActionBounds) -> Bounds:
    """Return the bounds as a program holds them."""
    numbers = {name: getattr(bound, name).double().numpy() for name in ("centre", "half", "low", "high")}
    return Bounds(bound.squash, bound.bounded.numpy(), **numbers)
