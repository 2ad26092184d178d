"""What a reader must know before believing a comparison: few seeds, unequal runs, tasks left out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from flowrl.config.fingerprint import differences
from flowrl.experiments.comparison.load import LoadedSuites
from flowrl.experiments.comparison.results import Improvement

FEW = 5  # seeds; with fewer, an interval is narrower than it says


def notes(grid: LoadedSuites, improvements: Iterable[Improvement] = ()) -> list[str]:
    """All that has to be said, a sentence or two each."""
    return [
        *_tasks_left_out(grid),
        *_numbers_of_seeds(grid),
        *_unequal_settings(grid),
        *_unequal_environments(grid),
        *_held_actions(grid),
        *_unequal_steps(grid),
        *_unequal_circumstances(grid),
        *_false_certainty(improvements),
    ]


def _tasks_left_out(grid: LoadedSuites) -> list[str]:
    left_out = sorted(set(grid.tasks) - set(grid.common))
    if not left_out:
        return []
    return [f"Overall is over the tasks that every algorithm has runs of: without {', '.join(left_out)}."]


def _numbers_of_seeds(grid: LoadedSuites) -> list[str]:
    sentences = []
    counts = {key: len(group.runs) for key, group in grid.groups.items()}
    single = [f"{task} {name}" for (task, name), count in counts.items() if count < 2]
    if single:
        sentences.append(
            f"One seed only, hence no interval: {', '.join(sorted(single))}. What includes them has none either."
        )
    least = min((count for count in counts.values() if count > 1), default=None)
    if least is not None and least < FEW:
        # The interval reaches from the least to the greatest run at most; that misses the median when all
        # runs lie on one side of it: 2 · 2⁻ⁿ.
        sentences.append(
            f"With {least} seeds an interval can be no wider than from the least to the greatest run, which holds the "
            f"true median only {1 - 2 ** (1 - least):.0%} of the time: read the intervals of single tasks as too "
            "narrow."
        )
    uneven = [task for task in grid.common if len({counts[task, name] for name in grid.algorithms}) > 1]
    if uneven:
        sentences.append(f"Unequal numbers of seeds on {', '.join(uneven)}; the missing cells are listed.")
    if len({counts[task, name] for task in grid.common for name in grid.algorithms}) > 1:
        sentences.append(
            "The overall interquartile mean counts runs, so that tasks with more seeds weigh more in it; the overall "
            "mean counts every task the same."
        )
    return sentences


def _unequal_settings(grid: LoadedSuites) -> list[str]:
    sentences = []
    for (task, name), group in sorted(grid.groups.items()):
        for run in group.runs[1:]:
            if unequal := differences(run.record.config, group.config):
                sentences.append(
                    f"{task} {name}: its seeds were trained with different settings: {'; '.join(unequal[:3])} "
                    f"(seed {run.seed} against seed {group.runs[0].seed})."
                )
                break
    return sentences


def _unequal_environments(grid: LoadedSuites) -> list[str]:
    """Algorithms that were not given the same task."""
    sentences = []
    for task in grid.tasks:
        (first, reference), *others = sorted(grid.on(task).items())
        for name, group in others:
            settings = ({"env": of.config["env"]} for of in (group, reference))
            if unequal := differences(*settings):
                sentences.append(
                    f"{task}: {name} and {first} were trained in environments that differ: {'; '.join(unequal[:3])} "
                    f"({name} against {first})."
                )
    return sentences


def _held_actions(grid: LoadedSuites) -> list[str]:
    repeats: dict[int, set[str]] = defaultdict(set)  # control steps that an action is held -> tasks
    for (task, _), group in grid.groups.items():
        repeats[group.config["env"].get("action_repeat", 1)].add(task)
    return [
        f"An env step of {', '.join(sorted(tasks))} is an action that is held for {repeat} control steps."
        for repeat, tasks in sorted(repeats.items())
        if repeat > 1
    ]


def _unequal_steps(grid: LoadedSuites) -> list[str]:
    sentences = []
    for task in grid.tasks:
        algorithms: dict[int, list[str]] = defaultdict(list)  # environment steps -> who was trained so long
        for name, group in grid.on(task).items():
            for steps in sorted({run.record.env_steps for run in group.runs}):
                algorithms[steps].append(name)
        if len(algorithms) > 1:
            budgets = [f"{steps:,} ({', '.join(names)})" for steps, names in sorted(algorithms.items())]
            sentences.append(f"{task}: unequal training, in environment steps: {', '.join(budgets)}.")
    return sentences


def _unequal_circumstances(grid: LoadedSuites) -> list[str]:
    """Evaluations of different sizes, versions and machines."""
    sentences = []
    records = [run.record for group in grid.groups.values() for run in group.runs]
    episodes = sorted({record.episodes for record in records})
    if len(episodes) > 1:
        sentences.append(
            f"Runs were evaluated over different numbers of episodes: {', '.join(map(str, episodes))}."
        )
    versions = sorted({record.flowrl for record in records})
    if len(versions) > 1:
        sentences.append(f"Runs come from different versions of flowrl: {', '.join(versions)}.")
    machines = sorted(
        {re.sub(r"\s+", " ", f"{r.machine.get('processor')}, {r.jobs} at a time") for r in records}
    )
    if len(machines) > 1:
        sentences.append(f"Training times are not comparable: {'; '.join(machines)}.")
    return sentences


def _false_certainty(improvements: Iterable[Improvement]) -> list[str]:
    probabilities = [improvement.probability for improvement in improvements]
    if not any(p.interval and p.value in (0, 1) for p in probabilities):
        return []
    return [
        "A probability of improvement of 0 or 1 has an interval without width, which is not certainty: all runs of one "
        "lie above all runs of the other, and the bootstrap knows no runs but these."
    ]
