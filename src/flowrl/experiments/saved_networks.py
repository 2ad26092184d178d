"""Check that the weights in a checkpoint are those of the networks that its configuration describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from flowrl.storage.value_checks import described


def check(content: Mapping[str, Any], actor: nn.Module, critic: nn.Module, averaged: bool) -> None:
    """Raise ValueError, with the key, unless the weights and Adam's state in `content` fit the two networks.

    Names, shapes and number types are compared; the networks can be on the `meta` device, where they have no numbers.
    `averaged` is whether the run keeps a moving average of the actor's weights.
    """
    _check_weights("actor", content["actor"], actor)
    _check_weights("critic", content["critic"], critic)
    if (content["average"] is not None) is not averaged:
        raise ValueError(
            f"its key 'average' is {described(content['average'])}, and its config.learner.ema_decay asks for "
            f"{'a' if averaged else 'no'} moving average of the weights"
        )
    if averaged:
        _check_weights("average", content["average"], actor)
    parameters = [*actor.parameters(), *critic.parameters()]
    for number, moments in content["optimizer"]["state"].items():
        if number >= len(parameters):
            raise ValueError(f"its key 'optimizer.state.{number}' is of no parameter: there are {len(parameters)}")
        for name in ("exp_avg", "exp_avg_sq"):
            _check_tensor(f"optimizer.state.{number}.{name}", moments[name], parameters[number])
    trained = {number for number, parameter in enumerate(parameters) if parameter.requires_grad}
    saved = set(content["optimizer"]["state"])
    if saved and saved != trained:
        odd = sorted(saved ^ trained)[0]
        what = "is missing" if odd in trained else "is of a parameter that is not trained"
        raise ValueError(f"its key 'optimizer.state.{odd}' {what}")


def _check_weights(section: str, weights: Mapping[str, Tensor], network: nn.Module) -> None:
    expected = network.state_dict()
    for name in (*expected, *weights):
        if name not in weights:
            raise ValueError(f"its key '{section}.{name}' is missing")
        if name not in expected:
            raise ValueError(f"its key '{section}.{name}' is of no network that its config describes")
    for name, tensor in weights.items():
        _check_tensor(f"{section}.{name}", tensor, expected[name])


def _check_tensor(key: str, tensor: Tensor, expected: Tensor) -> None:
    if (tensor.shape, tensor.dtype) != (expected.shape, expected.dtype):
        wanted = torch.empty(expected.shape, dtype=expected.dtype, device="meta")
        raise ValueError(f"its key '{key}' is {described(tensor)}: its config and sizes describe {described(wanted)}")
