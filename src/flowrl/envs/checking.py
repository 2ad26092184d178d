"""`flowrl envs ID --check`: what an environment does wrong, what is slow, and what a run on it can rely on.

Gymnasium's own checker, episodes of random actions, equal seeds, saved states, and the time of a step.
"""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import gymnasium
import torch
from gymnasium.utils.env_checker import check_env
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed, FlowrlError, in_one_line, shortened
from flowrl.contracts.interrupts import raise_interrupt
from flowrl.envs import factory, lookup
from flowrl.envs.adapter import Adapter
from flowrl.envs.finite import NotFinite
from flowrl.envs.settings import EnvSettings

SECONDS = 3.0  # of random actions
COUNT = 4  # environments that are stepped
SEEDED = 100  # steps in which two runs of one seed must agree
ENDLESS = 1000  # steps after which an episode should have ended
SLOW = 1e-3  # s per step from which on a process per environment pays
HUGE_REWARD = 1000.0
UNSEEDED = (
    "Draw all random numbers from self.np_random, which super().reset(seed=seed) seeds, and none from random, "
    "numpy.random or the clock: otherwise no run can be repeated."
)
ELSEWHERE = "It keeps something outside of its attributes, such as a global variable or a class attribute."

Verdict = Literal["ok", "wrong", "note"]


@dataclass(frozen=True)
class Finding:
    """The result of one check, as a sentence."""

    check: str
    verdict: Verdict  # wrong: training would fail, or learn from something else than is meant
    text: str


@dataclass(frozen=True)
class StepTime:
    """How long the environment takes."""

    step_us: float  # microseconds per step of one environment
    together: bool  # whether flowrl steps all together


def check(settings: EnvSettings) -> tuple[list[Finding], StepTime | None]:
    """Check the environment of `settings` with random actions for `SECONDS`; returns what was found, and its speed.

    The speed is None where it cannot be stepped. Raises what `flowrl.envs.factory.make` does.
    """
    torch.set_num_threads(1)  # as a run does
    env = factory.make(settings, count=COUNT)  # what cannot be made is not checked
    measured: StepTime | None = None
    try:
        found = list(by_gymnasium(settings))
        try:
            steps, measured = random_steps(env, SECONDS)
            found += steps
        finally:
            env.close()
        found.append(seeded(settings))
        found.append(resumed(settings))
    except EnvironmentFailed as error:
        found.append(Finding("steps", "wrong", str(error)))
    except NotFinite as error:
        found.append(Finding("steps", "wrong", error.what))
    return found, measured


def by_gymnasium(settings: EnvSettings) -> Iterator[Finding]:
    """Yield what Gymnasium's checker raises or warns of, for an environment that it can make alone."""
    spec = lookup.find(settings.id)
    if spec.entry_point is None:
        yield Finding("gymnasium", "note", "a vector environment, which Gymnasium's checker does not check.")
        return
    if lookup.steps_together(spec) and not settings.wrappers:
        return  # a task's observations and seeds are those of the simulation, whose interface is flowrl's own
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        failure = ""
        try:
            env = gymnasium.make(lookup.of_spec(spec), disable_env_checker=True, **settings.arguments())
            try:
                check_env(env.unwrapped, skip_render_check=True)
            finally:
                with suppress(Exception):
                    env.close()
        except FlowrlError:
            return
        except BaseException as error:  # SystemExit, too
            raise_interrupt(error)
            failure = (
                in_one_line(error) if not isinstance(error, Exception) else shortened(" ".join(str(error).split()))
            )
            failure = failure or in_one_line(error)
        said = dict.fromkeys(_plain(each.message) for each in warned if _matters(each.message))
        if failure:
            yield Finding("gymnasium", "wrong", f"Gymnasium's checker says: {failure}")
        yield from (Finding("gymnasium", "note", f"Gymnasium's checker says: {text}") for text in said)
        if not failure and not said:
            yield Finding("gymnasium", "ok", "Gymnasium's checker has nothing to object to.")


def _matters(warning: Warning | str) -> bool:
    """Return whether a warning of Gymnasium concerns a training: unbounded observations are normalised anyway."""
    return isinstance(warning, UserWarning) and "infinity" not in str(warning)


def _plain(warning: Warning | str) -> str:
    """Return a warning of Gymnasium without colours and its heading."""
    text = str(warning)
    for part in ("\x1b[33m", "\x1b[0m", "WARN: "):
        text = text.replace(part, "")
    return " ".join(text.split())


def random_steps(env: Adapter, seconds: float) -> tuple[list[Finding], StepTime]:
    """Step `env` with random actions for `seconds`: what its observations, rewards and episodes are, and its speed."""
    generator = torch.Generator().manual_seed(0)
    env.reset(0)
    steps = ended = terminated = 0
    low, high = env.obs.clone(), env.obs.clone()
    rewards: list[Tensor] = []
    lengths: list[int] = []
    running = torch.zeros(env.count, dtype=torch.int64)
    times: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds or steps < SEEDED:
        action = 2 * torch.rand(env.count, env.action_size, generator=generator) - 1
        before = time.perf_counter()
        step = env.step(action)
        times.append(time.perf_counter() - before)
        steps += 1
        running += 1
        low, high = torch.minimum(low, step.successor), torch.maximum(high, step.successor)
        rewards.append(step.reward)
        over = step.terminated | step.truncated
        ended, terminated = ended + int(over.sum()), terminated + int(step.terminated.sum())
        lengths += running[over].tolist()
        running[over] = 0
    found = [_episodes(ended, terminated, lengths, steps), _rewards(torch.cat(rewards)), *_observations(low, high)]
    return found, StepTime(1e6 * statistics.median(times) / env.count, env.native)


def _episodes(ended: int, terminated: int, lengths: list[int], steps: int) -> Finding:
    if not ended and steps < ENDLESS:
        return Finding("episodes", "note", f"no episode ended in {steps} steps: it is slow, or has no end of its own.")
    if not ended:
        advice = "Return truncated=True after some number of steps, or set env.options.max_episode_steps"
        return Finding("episodes", "wrong", f"no episode ended in {steps:,} steps. {advice}.")
    mean = sum(lengths) / len(lengths)
    text = f"{ended} episodes of random actions ended after {mean:.4g} steps on average"
    text += f" ({terminated} terminated, {ended - terminated} truncated)"
    if mean < 2:
        return Finding("episodes", "wrong", f"{text}: there is no time to act.")
    return Finding("episodes", "ok", f"{text}.")


def _rewards(rewards: Tensor) -> Finding:
    low, high = float(rewards.min()), float(rewards.max())
    if low == high:
        return Finding("reward", "wrong", f"it is {low:g} in every step of random actions: nothing can be learned.")
    text = f"rewards of random actions lie between {low:.4g} and {high:.4g}"
    if max(abs(low), abs(high)) > HUGE_REWARD:
        return Finding("reward", "note", f"{text}: set learner.reward_scale so that returns are about 1 to 100.")
    return Finding("reward", "ok", f"{text}.")


def _observations(low: Tensor, high: Tensor) -> Iterator[Finding]:
    """Yield what the ranges (count, observation) show."""
    low, high = low.amin(0), high.amax(0)
    still = torch.nonzero(low == high).flatten().tolist()
    if len(still) == len(low):
        yield Finding("observation", "wrong", "none of its numbers changes: the policy sees nothing.")
    elif still:
        some = ", ".join(map(str, still[:6])) + (", …" if len(still) > 6 else "")
        yield Finding("observation", "note", f"{len(still)} of its {len(low)} numbers never change: {some}.")
    else:
        yield Finding("observation", "ok", f"all of its {len(low)} numbers are finite, and each changes.")


def seeded(settings: EnvSettings) -> Finding:
    """Check that two environments give equal episodes under equal seeds, and other starts under another seed."""
    first, again, other = (_episode(settings, seed=seed) for seed in (7, 7, 8))
    for step, (one, two) in enumerate(zip(first, again, strict=True)):
        if not torch.equal(one, two):
            where = "in the reset" if step == 0 else f"in step {step}"
            return Finding("seeds", "wrong", f"equal seeds and actions give other numbers {where}. {UNSEEDED}")
    if torch.equal(first[0], other[0]):
        return Finding("seeds", "note", "equal seeds give equal episodes; other seeds start in the same state.")
    return Finding("seeds", "ok", "equal seeds give equal episodes, and other seeds other ones.")


def resumed(settings: EnvSettings) -> Finding:
    """Check that an environment goes on as before from its saved state, in the middle of an episode."""
    reasons: list[str] = []

    def moved(env: Adapter) -> Adapter:
        state = env.state()
        if env.inexact_because is not None:
            reasons.append(env.inexact_because)
            return env
        other = factory.make(settings, count=2)
        other.restore(state)
        env.close()
        return other

    straight, interrupted = _episode(settings, seed=7), _episode(settings, seed=7, halfway=moved)
    if reasons:
        return Finding("resume", "note", f"a resumed run starts new episodes: {reasons[0]}, which cannot be saved.")
    if not all(torch.equal(one, two) for one, two in zip(straight, interrupted, strict=True)):
        return Finding("resume", "wrong", f"made again from its saved state, it goes on differently. {ELSEWHERE}")
    return Finding("resume", "ok", "its state can be saved: a resumed run continues bit for bit, in mid-episode.")


def _episode(settings: EnvSettings, seed: int, halfway: Callable[[Adapter], Adapter] = lambda env: env) -> list[Tensor]:
    """Return what `SEEDED` steps give: observations (2, observation), then with rewards; `halfway` may replace the
    environment in the middle."""
    env = factory.make(settings, count=2)
    generator = torch.Generator().manual_seed(0)
    try:
        seen = [env.reset(seed)]
        for number in range(SEEDED):
            env = halfway(env) if number == SEEDED // 2 else env
            step = env.step(2 * torch.rand(2, env.action_size, generator=generator) - 1)
            seen.append(torch.cat([step.obs, step.reward[:, None].to(step.obs)], dim=1))
    finally:
        env.close()
    return seen
