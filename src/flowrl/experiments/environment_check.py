"""`flowrl envs ID --check`: the findings on an environment, and what share of a training step it takes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from flowrl.config import recipe
from flowrl.config.recipe import Recipe
from flowrl.config.schema import Config, load
from flowrl.contracts.errors import FlowrlError
from flowrl.contracts.protocols import Step
from flowrl.envs import checking
from flowrl.envs.checking import Finding, StepTime
from flowrl.envs.settings import EnvSettings
from flowrl.experiments.build import Run

COUNT = 16  # environments of the training step that is timed
ROLLOUT = 32  # its steps of each


@dataclass(frozen=True)
class EnvironmentCheck:
    """What was found."""

    id: str
    findings: list[Finding]
    step_us: float | None  # microseconds per step of one environment; None where it cannot be stepped
    share: float | None  # of the environment in the time of a training: of acting, stepping and learning


def settings(id: str, overrides: Sequence[str]) -> EnvSettings:
    """Return the block `env` of a recipe with this id and `overrides` such as options.length=3; raises UsageError."""
    written = recipe.apply(Recipe(id, {"env": {"id": id}}), [f"env.{each}" for each in overrides])
    return _config(written).env


def _config(written: Recipe) -> Config:
    return load(Recipe(written.name, written.values | {"total_steps": COUNT * ROLLOUT}, written.places))


def check(env: EnvSettings) -> EnvironmentCheck:
    """Check an environment; raises what `flowrl.envs.factory.make` does for one that cannot be made."""
    findings, measured = checking.check(env)
    if measured is None:
        return EnvironmentCheck(env.id, findings, None, None)
    share = environments_share(env)
    findings.append(speed(measured, share))
    return EnvironmentCheck(env.id, findings, measured.step_us, share)


def environments_share(env: EnvSettings) -> float | None:
    """Return the environments' share of the time of a small training; None where it fails, which was found already."""
    values = {"env": env.model_copy(update={"count": COUNT}).model_dump(mode="json"), "rollout": {"steps": ROLLOUT}}
    run = Run(_config(Recipe(env.id, values)))
    spent = 0.0
    step = run.env.step

    def timed(action: Tensor) -> Step:
        nonlocal spent
        before = time.perf_counter()
        outcome = step(action)
        spent += time.perf_counter() - before
        return outcome

    run.env.step = timed  # type: ignore[method-assign]
    try:
        run.start()
        begun = time.perf_counter()
        run.training.run(lambda metrics: None, stop=lambda: False)
        return spent / (time.perf_counter() - begun)
    except FlowrlError:
        return None
    finally:
        run.env.close()


def speed(measured: StepTime, share: float | None) -> Finding:
    """Say how long a step takes, what share of a training step that is, and what would be faster."""
    step_us = measured.step_us
    text = f"a step takes {step_us:,.0f} µs" + (" per environment, all together" if measured.together else "")
    if share is not None:
        text += f", {100 * share:.0f} % of the time of a small training"
    if share is None or share < 0.5:
        return Finding("speed", "ok", f"{text}.")
    cores = os.cpu_count() or 1
    if measured.together:
        advice = "fewer substeps or `derived` fields make it faster"
    elif step_us > 1e6 * checking.SLOW and cores > 1:
        advice = f"type --set env.mode=async, which runs a process per environment on your {cores} cores"
    else:
        advice = "profile step with python -m cProfile; what is computed once belongs into __init__"
    return Finding("speed", "note", f"{text}: training waits for the environment. Faster: {advice}.")
