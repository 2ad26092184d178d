"""CUDA graphs of a training: whether its steps and its sampler are recorded."""

from __future__ import annotations

import torch

from flowrl.config.schema import Config
from flowrl.contracts.errors import UsageError
from flowrl.networks.recording import CudaGraphs, Recorder
from flowrl.policies.flow import FlowPolicy
from flowrl.training.loop import Training


def record(config: Config, training: Training, device: torch.device) -> None:
    """Record the learner's steps and the sampler's integration as CUDA graphs where `learner.graph` says so.

    A sampler that reads values, as an adaptive one does, is called as it is. Raises UsageError if `learner.graph` is
    true and the networks are not on a GPU.
    """
    wanted = config.learner.graph
    if device.type == "cuda" and (wanted is True or (wanted == "auto" and config.shards == 1)):
        use(training, CudaGraphs())
    elif wanted is True:
        raise UsageError(
            "learner.graph: true records CUDA graphs, and the networks are not on a GPU (device: "
            f"{config.device}). Type --set device=cuda, or --set learner.graph=auto, which records them on a GPU only."
        )


def use(training: Training, recorder: Recorder) -> None:
    """Record the steps and the calls of `training`, which has one shard, with `recorder`."""
    training.learner.record_steps(recorder)
    for collector in training.collectors:
        policy = collector.act
        if isinstance(policy, FlowPolicy) and policy.declares_evaluations:
            policy.record_calls(recorder)
