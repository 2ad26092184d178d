"""Environment steps per second of training, and where the time goes.

    python benchmarks/training_speed.py [RECIPE] [--iterations 5] [--threads N] [--set KEY=VALUE ...] [--out FILE.json]

Without a recipe: CheetahRun with the paper's networks. Actor 4 x 32, critic 5 x 256, 8 probes, 10 Euler steps, 4
epochs, 2048 environments; minibatches of 30,720 as in the paper (arXiv 2507.21053, table A.2). An iteration's time is
that of the environments, of sampling actions and of the update; medians over the iterations are printed. "matmul" is
what the matrix products of the update alone would take at the speed that this machine reaches, measured between the
iterations: no update in float32 is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from flowrl.config import recipe
from flowrl.config.schema import Config, load
from flowrl.evaluation.machine import machine
from flowrl.experiments.build import Run
from flowrl.networks.velocity import FlowNetwork
from flowrl.training.learner import Learner
from flowrl.training.rollout import collect

PAPER = "paper/cheetah.yaml"
SETTINGS = [  # of PAPER
    "env.options.profile=dmc",
    "rollout.steps=30",
    "learner.minibatches=2",
    "learner.epochs=4",
    "learner.microbatch=2048",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", default=PAPER)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of the recipe")
    parser.add_argument("--json", action="store_true", help="print microseconds per env step as JSON only")
    parser.add_argument("--out", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    own = SETTINGS if options.recipe == PAPER else []
    settings = [*own, f"threads={options.threads}", f"env.threads={options.threads}", *options.set]
    config = load(recipe.apply(recipe.read(options.recipe), settings))
    run = Run(config)
    run.start()
    iteration(run)  # the first one allocates
    rows = [iteration(run) | {"matmul": matmul_seconds(config, run)} for _ in range(options.iterations)]
    steps = config.env.count * config.rollout.steps
    seconds = {part: median(row[part] for row in rows) for part in rows[0]}
    figures = {
        "env_steps_per_s": steps / seconds["all"],
        "us_per_env_step": {part: 1e6 * value / steps for part, value in seconds.items()},
        "share": {part: seconds[part] / seconds["all"] for part in ("environments", "sampling", "update")},
        "threads": options.threads,
        "recipe": options.recipe,
        "settings": settings,
    }
    if options.out is not None:
        facts = {"machine": asdict(machine()), "load": os.getloadavg()}
        options.out.write_text(json.dumps(facts | figures, indent=2) + "\n")
    if options.json:
        print(json.dumps(figures["us_per_env_step"]))
        return
    print(f"{figures['env_steps_per_s']:,.0f} env steps/s on {options.threads} threads (median of {len(rows)})")
    for part, value in seconds.items():
        share = f"{value / seconds['all']:6.0%}" if part in ("environments", "sampling", "update") else ""
        print(f"  {part:<14}{1e6 * value / steps:8.1f} us per env step{share}")


def iteration(run: Run) -> dict[str, float]:
    """Seconds of one iteration by part."""
    training = run.training
    own = training.collectors[0]
    act, env = Clocked(own.act), Stepped(own.env)
    begun = time.perf_counter()
    rollout, own.obs = collect(act, env, own.obs, own.episodes, training.rollout_steps)
    collected = time.perf_counter()
    training.learner.update(rollout)
    ended = time.perf_counter()
    return {
        "all": ended - begun,
        "collect": collected - begun,
        "environments": env.step.seconds,
        "sampling": act.seconds,
        "update": ended - collected,
    }


class Clocked:
    """A policy, or the step of an environment, that adds up its seconds; `obs` is then the action."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self.seconds = 0.0
        self._call = call

    def __call__(self, obs: Any) -> Any:
        begun = time.perf_counter()
        result = self._call(obs)
        self.seconds += time.perf_counter() - begun
        return result


class Stepped:
    """An environment whose steps are clocked."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self.step = Clocked(env.step)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)


def matmul_seconds(config: Config, run: Run) -> float:
    """Seconds that the matrix products of one update take, each of a microbatch's size, one after another.

    Forward, and backward to weights and, beyond the first layer, to inputs; the passes without gradient before it.
    """
    learner, samples = config.learner, config.env.count * config.rollout.steps
    rows = min(learner.microbatch, -(-samples // learner.minibatches))
    spent = 0.0
    for inputs, outputs, times, deep in layers(run.training.learner, learner.probes.count):
        products = products_of(inputs, outputs, rows * times, deep)
        once = [median(clock(a, b) for _ in range(5)) for a, b in products]
        spent += samples / rows * (learner.epochs * sum(once) + once[0])
    return spent


def layers(learner: Learner, probes: int) -> list[tuple[int, int, int, bool]]:
    """(inputs, outputs, times per action, whether it is beyond the first) of every layer of actor and critic.

    A flow's first layer sees the observation once per action, and the rest of its input once per probe.
    """
    critic, actor = sizes(learner.critic), sizes(learner.actor)
    found = [(inputs, outputs, 1, number > 0) for number, (inputs, outputs) in enumerate(critic)]
    if not isinstance(learner.actor, FlowNetwork):
        return found + [(inputs, outputs, 1, number > 0) for number, (inputs, outputs) in enumerate(actor)]
    observed, width = learner.actor.observation_size, actor[0][1]
    found += [(observed, width, 1, False), (actor[0][0] - observed, width, probes, False)]
    return found + [(inputs, outputs, probes, True) for inputs, outputs in actor[1:]]


def sizes(network: torch.nn.Module) -> list[tuple[int, int]]:
    """(inputs, outputs) of every layer."""
    return [tuple(reversed(p.shape)) for p in network.parameters() if p.ndim == 2]  # type: ignore[misc]


def products_of(inputs: int, outputs: int, rows: int, deep: bool) -> list[tuple[Tensor, Tensor]]:
    """The factors of a layer's products: forward, and of the gradients of its weights and its inputs."""
    x, w, g = torch.randn(rows, inputs), torch.randn(inputs, outputs), torch.randn(rows, outputs)
    return [(x, w), (x.T, g), *([(g, w.T)] if deep else [])]


def clock(a: Tensor, b: Tensor) -> float:
    begun = time.perf_counter()
    torch.mm(a, b)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
