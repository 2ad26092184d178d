"""The metrics that flowrl knows: where TensorBoard, the training view and the figures show each, and how."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowrl.reporting.numbers import number, percent, ratio


@dataclass(frozen=True)
class Metric:
    """How a metric is shown."""

    tag: str  # in TensorBoard; the part before the slash is its section
    view: str = ""  # its label in the training view, which shows no metric without one
    form: Callable[[float], str] = number  # its value as text
    title: str = ""  # in figures; default: its name with spaces


METRICS = {
    "return_mean": Metric("return/mean", "return", title="return"),
    "success_rate": Metric("return/success_rate", "success rate", percent),
    "length_mean": Metric("return/length", "episode length", title="episode length"),
    "episodes": Metric("return/episodes"),
    "cfm_loss": Metric("loss/cfm", "CFM loss", title="CFM loss"),
    "action_spread": Metric("policy/action_spread"),
    "kl": Metric("ratio/kl", "KL", title="KL"),
    "entropy": Metric("loss/entropy", "entropy"),
    "ratio_mean": Metric("ratio/mean", "mean ratio", ratio),
    "ratio_min": Metric("ratio/min", "min ratio", ratio),
    "ratio_max": Metric("ratio/max", "max ratio", ratio),
    "clipped_share": Metric("ratio/clipped_share", "clipped", percent),
    "bound_share": Metric("ratio/bound_share", "at bound", percent),
    "explained_variance": Metric("loss/explained_variance", "expl. variance"),
    "policy_loss": Metric("loss/policy"),
    "value_loss": Metric("loss/value", "value loss"),
    "learning_rate": Metric("optimizer/learning_rate", "learning rate"),
    "actor_grad_norm": Metric("optimizer/actor_grad_norm"),
    "critic_grad_norm": Metric("optimizer/critic_grad_norm"),
    "env_steps": Metric("time/env_steps", title="environment steps"),  # TensorBoard's axis, so not a scalar there
    "env_steps_per_s": Metric("time/env_steps_per_s", title="environment steps per second"),
    "collect_s": Metric("time/collect_s"),
    "update_s": Metric("time/update_s"),
    "seconds": Metric("time/seconds"),
    "iteration": Metric("time/iteration"),
}
"""Metric -> how it is shown, in the order of the live view. A run may have others, such as measures of a task."""


def metric(name: str) -> Metric:
    """Return how a metric is shown; TensorBoard shows an unknown one as `other/NAME`."""
    return METRICS.get(name, Metric(f"other/{name}"))


def title(name: str) -> str:
    """Return the title of a metric in figures."""
    return metric(name).title or name.replace("_", " ")
