"""Notes on what limits the conclusions of a comparison: few seeds, unequal runs, tasks left out."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from flowrl.config.fingerprint import differences
from flowrl.experiments.comparison.load import LoadedSuites
from flowrl.experiments.comparison.results import Improvement

FEW_SEEDS = 5  # with fewer, an interval covers the true value less often than 95 %


def notes(suites: LoadedSuites, improvements: Iterable[Improvement] = ()) -> list[str]:
    """Return every note that applies, a sentence or two each."""
    return [
        *_tasks_left_out(suites),
        *_numbers_of_seeds(suites),
        *_unequal_settings(suites),
        *_unequal_environments(suites),
        *_held_actions(suites),
        *_unequal_steps(suites),
        *_unequal_circumstances(suites),
        *_false_certainty(improvements),
    ]


def _tasks_left_out(suites: LoadedSuites) -> Iterator[str]:
    if left_out := sorted(set(suites.tasks) - set(suites.common)):
        yield f"Overall is over the tasks that every algorithm has runs of: without {', '.join(left_out)}."


def _numbers_of_seeds(suites: LoadedSuites) -> Iterator[str]:
    counts = {key: len(group.runs) for key, group in suites.groups.items()}
    if single := [f"{task} {name}" for (task, name), count in counts.items() if count < 2]:
        yield f"One seed only, hence no interval: {', '.join(sorted(single))}. What includes them has none either."
    least = min((count for count in counts.values() if count > 1), default=None)
    if least is not None and least < FEW_SEEDS:
        # The interval reaches from the least to the greatest run at most; that misses the median when all
        # runs lie on one side of it: 2 · 2⁻ⁿ.
        yield (
            f"With {least} seeds an interval can be no wider than from the least to the greatest run, which holds the "
            f"true median only {1 - 2 ** (1 - least):.0%} of the time: read the intervals of single tasks as too "
            "narrow."
        )
    uneven = [task for task in suites.common if len({counts[task, name] for name in suites.algorithms}) > 1]
    if uneven:
        yield f"Unequal numbers of seeds on {', '.join(uneven)}; the missing trials are listed."
    if len({counts[task, name] for task in suites.common for name in suites.algorithms}) > 1:
        yield (
            "The overall interquartile mean counts runs, so that tasks with more seeds weigh more in it; the overall "
            "mean counts every task the same."
        )


def _unequal_settings(suites: LoadedSuites) -> Iterator[str]:
    for (task, name), group in sorted(suites.groups.items()):
        for run in group.runs[1:]:
            if unequal := differences(run.record.config, group.config):
                yield (
                    f"{task} {name}: its seeds were trained with different settings: {'; '.join(unequal[:3])} "
                    f"(seed {run.seed} against seed {group.runs[0].seed})."
                )
                break


def _unequal_environments(suites: LoadedSuites) -> Iterator[str]:
    """Name the algorithms that were trained on different versions of a task."""
    for task in suites.tasks:
        (first, reference), *others = sorted(suites.on(task).items())
        for name, group in others:
            settings = ({"env": of.config["env"]} for of in (group, reference))
            if unequal := differences(*settings):
                yield (
                    f"{task}: {name} and {first} were trained in environments that differ: {'; '.join(unequal[:3])} "
                    f"({name} against {first})."
                )


def _held_actions(suites: LoadedSuites) -> Iterator[str]:
    repeats: dict[int, set[str]] = defaultdict(set)  # control steps that an action is held -> tasks
    for (task, _), group in suites.groups.items():
        repeats[group.config["env"].get("action_repeat", 1)].add(task)
    for repeat, tasks in sorted(repeats.items()):
        if repeat > 1:
            yield f"An env step of {', '.join(sorted(tasks))} is an action that is held for {repeat} control steps."


def _unequal_steps(suites: LoadedSuites) -> Iterator[str]:
    for task in suites.tasks:
        algorithms: dict[int, list[str]] = defaultdict(list)  # environment steps -> algorithms trained for these
        for name, group in suites.on(task).items():
            for steps in sorted({run.record.env_steps for run in group.runs}):
                algorithms[steps].append(name)
        if len(algorithms) > 1:
            budgets = [f"{steps:,} ({', '.join(names)})" for steps, names in sorted(algorithms.items())]
            yield f"{task}: unequal training, in environment steps: {', '.join(budgets)}."


def _unequal_circumstances(suites: LoadedSuites) -> Iterator[str]:
    """Name differences of evaluation size, flowrl version and machine."""
    records = [run.record for group in suites.groups.values() for run in group.runs]
    episodes = sorted({record.episodes for record in records})
    if len(episodes) > 1:
        yield f"Runs were evaluated over different numbers of episodes: {', '.join(map(str, episodes))}."
    versions = sorted({record.flowrl for record in records})
    if len(versions) > 1:
        yield f"Runs come from different versions of flowrl: {', '.join(versions)}."
    machines = sorted({re.sub(r"\s+", " ", f"{r.machine.get('processor')}, {r.jobs} at a time") for r in records})
    if len(machines) > 1:
        yield f"Training times are not comparable: {'; '.join(machines)}."


def _false_certainty(improvements: Iterable[Improvement]) -> Iterator[str]:
    if any(improvement.ci95 and improvement.value in (0, 1) for improvement in improvements):
        yield (
            "A probability of improvement of 0 or 1 has an interval without width, which is not certainty: all runs of "
            "one lie above all runs of the other, and the bootstrap draws from these runs only."
        )
