"""Compute a comparison from finished runs: means, probabilities of improvement, profiles, and their intervals.

Statistics over several tasks use normalised scores; their bootstrap draws runs within each task
(`flowrl.evaluation.statistics`; Agarwal et al. 2021, arXiv 2108.13264).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from flowrl.contracts.errors import UsageError
from flowrl.envs.families import family_of
from flowrl.evaluation import statistics
from flowrl.evaluation.statistics import Strata
from flowrl.experiments.comparison import caveats, speed
from flowrl.experiments.comparison.load import Group, LoadedSuites
from flowrl.experiments.comparison.results import (
    AlgorithmResult,
    Comparison,
    Estimate,
    Improvement,
    MeasureEstimate,
    NoiseResult,
    Overall,
    Profile,
    ProfileLine,
    Scale,
    ScoreEstimate,
    TaskComparison,
    Total,
)
from flowrl.experiments.suite.trial import MODES, noise_label

Scores = NDArray[np.float64]  # (runs,)
ScoresByMode = Mapping[str, Mapping[str, Strata]]  # algorithm -> noise mode -> scores of its runs, task by task

THRESHOLDS = 101  # points of a performance profile
PROFILE_RESAMPLES = 2_000


def compare(
    suites: LoadedSuites,
    modes: Sequence[str] = MODES,
    scale: Scale | None = None,
    progress: Callable[[str, int, int], None] = lambda text, done, of: None,
    curves: speed.Curves | None = None,
) -> Comparison:
    """Compare the algorithms on each task and over the tasks that all algorithms have, with notes in words.

    `progress` is called before each step with what it is, the steps done and their number.

    `scale` normalises the returns of every task; without it, each task has the scale of `scale_for`. `curves` are the
    learning curves of the runs by task and algorithm, for the time that they take.
    """
    _check_noise(suites, modes)
    scales = {task: scale or scale_for(suites, task) for task in suites.tasks}
    tasks: dict[str, TaskComparison] = {}
    for place, task in enumerate(suites.tasks):
        progress(f"comparing on {task}", place, len(suites.tasks) + 1)
        tasks[task] = _task(suites.on(task), modes, scales[task])
    progress("comparing over all tasks", len(suites.tasks), len(suites.tasks) + 1)
    overall = _overall(suites, modes, scales)
    improvements = [pair for task in tasks.values() for pair in task.improvement]
    return Comparison(
        algorithms=tuple(suites.algorithms),
        noise=tuple(modes),
        tasks=tasks,
        overall=overall,
        missing=suites.missing,
        speed=speed.measure(curves, scales) if curves else {},
        notes=tuple(caveats.notes(suites, [*improvements, *overall.improvement])),
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
    return Scale(float(returns.min()), float(returns.max()), "the least and the greatest return compared here")


def normalised(returns: Scores, scale: Scale) -> Scores:
    """Compute (return - low) / (high - low); ½ where all returns are the same."""
    if scale.low == scale.high:
        return np.full_like(returns, 0.5)
    return (returns - scale.low) / (scale.high - scale.low)


# --- task by task, and over all -------------------------------------------------------------------


def _check_noise(suites: LoadedSuites, modes: Sequence[str]) -> None:
    """Raise UsageError for a run that was not evaluated under one of the `modes`."""
    for run in (run for group in suites.groups.values() for run in group.runs):
        for mode in modes:
            if mode not in run.record.evaluations:
                known = ", ".join(run.record.evaluations)
                raise UsageError(
                    f"--noise: {run.folder} was not evaluated with {mode} noise, but with {known}. Choose one of "
                    "these, or give its suite again with --set noise_scale=…, which evaluates with that scale as well."
                )


def _task(groups: Mapping[str, Group], modes: Sequence[str], scale: Scale) -> TaskComparison:
    returns = {name: {mode: [group.returns(mode)] for mode in modes} for name, group in groups.items()}
    results = {name: _algorithm(group, modes) for name, group in groups.items()}
    return TaskComparison(scale, results, _improvements(returns, modes))


def _algorithm(group: Group, modes: Sequence[str]) -> AlgorithmResult:
    records = [run.record for run in group.runs]
    return AlgorithmResult(
        folders=tuple(str(run.folder) for run in group.runs),
        seeds=tuple(run.seed for run in group.runs),
        env=group.config["env"]["id"],
        episodes=tuple(record.episodes for record in records),
        env_steps=tuple(record.env_steps for record in records),
        seconds=tuple(record.seconds for record in records),
        env_steps_per_s=tuple(record.env_steps_per_s for record in records),
        noise={mode: _noise(group, mode) for mode in modes},
    )


def _noise(group: Group, mode: str) -> NoiseResult:
    returns = group.returns(mode)
    scores = _scores(group, mode, [returns])
    measures = _measures(group, mode)
    return NoiseResult(scores.action, tuple(returns.tolist()), scores.mean, scores.iqm, measures)


def _measures(group: Group, mode: str) -> dict[str, MeasureEstimate]:
    """Estimate what every run of the group measures besides its return, in the order of the first run."""
    runs = [run.record.evaluations[mode].measures for run in group.runs]
    measures = {}
    for name in runs[0]:
        if all(name in run for run in runs):
            values = [run[name] for run in runs]
            mean = _estimate([np.array(values)], statistics.stratified_mean)
            measures[name] = MeasureEstimate(tuple(values), mean.value, mean.ci95)
    return measures


def _overall(suites: LoadedSuites, modes: Sequence[str], scales: Mapping[str, Scale]) -> Overall:
    tasks = suites.common
    if not tasks:
        return Overall()
    groups = {name: [suites.groups[task, name] for task in tasks] for name in suites.algorithms}
    scores = {
        name: {
            mode: [normalised(group.returns(mode), scales[task]) for task, group in zip(tasks, members, strict=True)]
            for mode in modes
        }
        for name, members in groups.items()
    }
    totals = {
        name: Total(
            runs=sum(len(group.runs) for group in members),
            noise={mode: _scores(members[0], mode, scores[name][mode]) for mode in modes},
        )
        for name, members in groups.items()
    }
    return Overall(tuple(tasks), totals, _improvements(scores, modes), _profile(scores, modes))


# --- statistics -----------------------------------------------------------------------------------


def _scores(group: Group, mode: str, strata: Strata) -> ScoreEstimate:
    """Estimate the scores of the runs in `strata`, whose policies are of the same kind as in `group`."""
    return ScoreEstimate(
        action=noise_label(mode, group.config),
        mean=_estimate(strata, statistics.stratified_mean),
        iqm=_estimate(strata, statistics.stratified_interquartile_mean),
    )


def _improvements(scores: ScoresByMode, modes: Sequence[str]) -> tuple[Improvement, ...]:
    """Estimate for each pair of algorithms the probability that the first is better, under each noise mode."""
    improvements = []
    for first, second in combinations(scores, 2):
        for mode in modes:
            x, y = scores[first][mode], scores[second][mode]
            probability = _improvement(x, y)
            difference = float(statistics.stratified_mean(x) - statistics.stratified_mean(y))
            least = statistics.detectable_difference(x, y)
            found = least if isfinite(least) else None
            improvements.append(
                Improvement(first, second, mode, probability.value, probability.ci95, difference, found)
            )
    return tuple(improvements)


def _improvement(x: Strata, y: Strata) -> Estimate:
    return _estimate([*x, *y], lambda both: statistics.probability_of_improvement(both[: len(x)], both[len(x) :]))


def _profile(scores: ScoresByMode, modes: Sequence[str]) -> Profile:
    """Compute the profiles at thresholds from 0, or the least score, to 1, or the greatest score."""
    every = np.concatenate([runs for strata in scores.values() for mode in modes for runs in strata[mode]])
    thresholds = np.linspace(min(0.0, float(every.min())), max(1.0, float(every.max())), THRESHOLDS)
    lines = {name: {mode: _profile_line(strata[mode], thresholds) for mode in modes} for name, strata in scores.items()}
    return Profile(tuple(thresholds.tolist()), lines)


def _profile_line(strata: Strata, thresholds: NDArray[np.float64]) -> ProfileLine:
    def share(drawn: Strata) -> NDArray[np.float64]:
        return statistics.performance_profile(drawn, thresholds)

    low, high = statistics.stratified_bootstrap(strata, share, resamples=PROFILE_RESAMPLES)
    known = bool(np.isfinite(low).all())
    band = (tuple(end.tolist()) if known else None for end in (low, high))
    return ProfileLine(tuple(share(strata).tolist()), *band)


def _estimate(strata: Strata, statistic: Callable[[Strata], NDArray[np.float64]]) -> Estimate:
    low, high = (float(end) for end in statistics.stratified_bootstrap(strata, statistic))
    return Estimate(float(statistic(strata)), (low, high) if isfinite(low) else None)
