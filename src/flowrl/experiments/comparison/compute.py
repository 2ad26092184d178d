"""From finished runs to a comparison: means, probabilities of improvement, profiles, and the interval of each.

Statistics over several tasks use normalised scores and draw the runs anew within each task
(`flowrl.evaluation.statistics`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from flowrl.envs.families import family_of
from flowrl.evaluation import statistics
from flowrl.evaluation.statistics import Strata
from flowrl.experiments.comparison import caveats
from flowrl.experiments.comparison.load import Group, LoadedSuites
from flowrl.experiments.comparison.results import (
    AlgorithmResult,
    Comparison,
    Estimate,
    Improvement,
    Overall,
    Profile,
    ProfileLine,
    RunResult,
    Scale,
    ScoreEstimate,
    TaskComparison,
    Total,
)
from flowrl.experiments.suite import trial
from flowrl.experiments.suite.trial import MODES

Scores = NDArray[np.float64]  # (runs,)
Scored = Mapping[str, Mapping[str, Strata]]  # algorithm -> noise mode -> the scores of its runs, task by task

THRESHOLDS = 101  # points of a performance profile
PROFILE_RESAMPLES = 2_000


def compare(grid: LoadedSuites, modes: Sequence[str] = MODES, scale: Scale | None = None) -> Comparison:
    """Every number, per task and over the tasks that all algorithms have, with notes in words.

    `scale` normalises the returns of every task; without one, each task has that of `scale_for`.
    """
    scales = {task: scale or scale_for(grid, task) for task in grid.tasks}
    tasks = {task: _task(grid.on(task), modes, scales[task]) for task in grid.tasks}
    overall = _overall(grid, modes, scales)
    improvements = [pair for task in tasks.values() for pair in task.improvements]
    return Comparison(
        algorithms=tuple(grid.algorithms),
        modes=tuple(modes),
        tasks=tasks,
        overall=overall,
        missing=grid.missing,
        notes=tuple(caveats.notes(grid, [*improvements, *overall.improvements])),
    )


# --- scales ---------------------------------------------------------------------------------------


def scale_for(grid: LoadedSuites, task: str) -> Scale:
    """Return the known range of the task's returns, else from the least to the greatest return compared."""
    groups = grid.on(task).values()
    envs = [group.config["env"] for group in groups]
    known, *others = {family_of(env["id"]).return_range for env in envs}
    usual_length = not any("max_episode_steps" in env["options"] for env in envs)
    if known is not None and not others and usual_length:
        return Scale(known.low, known.high, f"the range of {known.of}")
    returns = np.concatenate([group.returns(mode) for group in groups for mode in MODES])
    return Scale(
        float(returns.min()), float(returns.max()), "the least and the greatest return compared here"
    )


def normalised(returns: Scores, scale: Scale) -> Scores:
    """(return - low) / (high - low); ½ where all returns are the same."""
    if scale.low == scale.high:
        return np.full_like(returns, 0.5)
    return (returns - scale.low) / (scale.high - scale.low)


# --- task by task, and over all -------------------------------------------------------------------


def _task(groups: Mapping[str, Group], modes: Sequence[str], scale: Scale) -> TaskComparison:
    returns = {name: {mode: [group.returns(mode)] for mode in modes} for name, group in groups.items()}
    entries = {
        name: AlgorithmResult(
            env=group.config["env"]["id"],
            trials=tuple(_trials(group, modes)),
            scores={mode: _score(group, mode, returns[name][mode]) for mode in modes},
            measures={mode: _measures(group, mode) for mode in modes},
        )
        for name, group in groups.items()
    }
    return TaskComparison(scale, entries, _improvements(returns, modes))


def _trials(group: Group, modes: Sequence[str]) -> list[RunResult]:
    return [
        RunResult(
            folder=str(run.folder),
            seed=run.seed,
            episodes=run.record.episodes,
            env_steps=run.record.env_steps,
            seconds=run.record.seconds,
            env_steps_per_s=run.record.env_steps_per_s,
            returns={mode: run.record.evaluations[mode].return_mean for mode in modes},
            measures={mode: run.record.evaluations[mode].measures for mode in modes},
        )
        for run in group.runs
    ]


def _measures(group: Group, mode: str) -> dict[str, Estimate]:
    """What every run of the group tells besides its return, in the order of the first one."""
    told = [run.record.evaluations[mode].measures for run in group.runs]
    return {
        name: _estimate([np.array([one[name] for one in told])], statistics.stratified_mean)
        for name in told[0]
        if all(name in one for one in told)
    }


def _overall(grid: LoadedSuites, modes: Sequence[str], scales: Mapping[str, Scale]) -> Overall:
    tasks = grid.common
    if not tasks:
        return Overall()
    groups = {name: [grid.groups[task, name] for task in tasks] for name in grid.algorithms}
    scores = {
        name: {
            mode: [
                normalised(group.returns(mode), scales[task])
                for task, group in zip(tasks, members, strict=True)
            ]
            for mode in modes
        }
        for name, members in groups.items()
    }
    totals = {
        name: Total(
            runs=sum(len(group.runs) for group in members),
            scores={mode: _score(members[0], mode, scores[name][mode]) for mode in modes},
        )
        for name, members in groups.items()
    }
    return Overall(tuple(tasks), totals, _improvements(scores, modes), _profile(scores, modes))


# --- statistics -----------------------------------------------------------------------------------


def _score(group: Group, mode: str, strata: Strata) -> ScoreEstimate:
    """Of the runs in `strata`, whose policies are of the kind of those in `group`."""
    return ScoreEstimate(
        action=trial.spelled(mode, group.config),
        mean=_estimate(strata, statistics.stratified_mean),
        iqm=_estimate(strata, statistics.stratified_interquartile_mean),
    )


def _improvements(scores: Scored, modes: Sequence[str]) -> tuple[Improvement, ...]:
    """The probability that the first of each pair of algorithms is better, the noise mode being the same."""
    return tuple(
        Improvement(first, second, mode, _improvement(scores[first][mode], scores[second][mode]))
        for first, second in combinations(scores, 2)
        for mode in modes
    )


def _improvement(x: Strata, y: Strata) -> Estimate:
    return _estimate(
        [*x, *y], lambda both: statistics.probability_of_improvement(both[: len(x)], both[len(x) :])
    )


def _profile(scores: Scored, modes: Sequence[str]) -> Profile:
    """On a grid of thresholds from 0, or the least score, to 1, or the greatest."""
    every = np.concatenate([runs for strata in scores.values() for mode in modes for runs in strata[mode]])
    thresholds = np.linspace(min(0.0, float(every.min())), max(1.0, float(every.max())), THRESHOLDS)
    lines = {
        name: {mode: _profile_line(strata[mode], thresholds) for mode in modes}
        for name, strata in scores.items()
    }
    return Profile(tuple(thresholds.tolist()), lines)


def _profile_line(strata: Strata, thresholds: NDArray[np.float64]) -> ProfileLine:
    def share(drawn: Strata) -> NDArray[np.float64]:
        return statistics.performance_profile(drawn, thresholds)

    low, high = statistics.stratified_bootstrap(strata, share, resamples=PROFILE_RESAMPLES)
    known = bool(np.isfinite(low).all())
    band = (tuple(low.tolist()), tuple(high.tolist())) if known else None
    return ProfileLine(tuple(share(strata).tolist()), band)


def _estimate(strata: Strata, statistic: Callable[[Strata], NDArray[np.float64]]) -> Estimate:
    low, high = (float(end) for end in statistics.stratified_bootstrap(strata, statistic))
    return Estimate(float(statistic(strata)), (low, high) if isfinite(low) else None)
