"""Comparisons of algorithms: the statistics by hand and against rliable, and the notes."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowrl import cli
from flowrl.cli.compare import noise_modes, scale_of
from flowrl.config import fingerprint
from flowrl.contracts.errors import UsageError
from flowrl.evaluation import statistics
from flowrl.evaluation.statistics import (
    interquartile_mean,
    mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
    stratified_interquartile_mean,
    stratified_mean,
)
from flowrl.experiments.comparison import compute, figures, markdown, speed, terminal
from flowrl.experiments.comparison.compute import compare, normalised
from flowrl.experiments.comparison.load import LoadedSuites, read
from flowrl.experiments.comparison.results import Scale
from flowrl.experiments.suite.trial import EvalSummary, Failure, TrialRecord, noises, read_record, write_record
from flowrl.experiments.sweep.runner import objective
from flowrl.reporting.plots.learning_curves import LearningCurve

Strata = list[np.ndarray]

DATA = Path(__file__).parents[1] / "data"


def strata(*tasks: list[float]) -> Strata:
    return [np.array(task, dtype=float) for task in tasks]


# --- statistics, by hand ----------------------------------------------------------------------------


def test_probability_of_improvement_counts_pairs() -> None:
    # Of the nine pairs of {1,2,3} and {2,3,4}: 3 > 2 is one, 2 = 2 and 3 = 3 are two halves: (1 + 1) / 9.
    assert probability_of_improvement(strata([1, 2, 3]), strata([2, 3, 4])) == pytest.approx(2 / 9)
    assert probability_of_improvement(strata([2, 3, 4]), strata([1, 2, 3])) == pytest.approx(7 / 9)
    assert probability_of_improvement(strata([5, 6]), strata([1, 2, 3, 4])) == 1
    assert probability_of_improvement(strata([1, 1]), strata([1, 1, 1])) == 0.5
    # Over tasks it is the mean, and each task has a scale of its own: (2/9 + 1) / 2.
    two = probability_of_improvement(strata([1, 2, 3], [900, 800]), strata([2, 3, 4], [70]))
    assert two == pytest.approx(11 / 18)


def test_means_over_tasks() -> None:
    # Means 2 and 10, whatever the number of runs: 6. Sorted 1 2 3 9 10 11, cut by ⌊6/4⌋ = 1 at each end:
    # (2 + 3 + 9 + 10) / 4.
    tasks = strata([1, 2, 3], [9, 10, 11])
    assert stratified_mean(tasks) == 6
    assert stratified_interquartile_mean(tasks) == 6
    # Eight runs 0 0 0 8 8 8 8 80, two cut at each end: (0 + 8 + 8 + 8) / 4. The means: 4 and 22.
    uneven = strata([0, 0, 8, 8], [0, 8, 8, 80])
    assert stratified_interquartile_mean(uneven) == 6
    assert stratified_mean(uneven) == (4 + 24) / 2


def test_one_task_is_the_plain_statistic() -> None:
    x = np.random.default_rng(3).normal(size=9)
    assert stratified_mean([x]) == mean(x)
    assert stratified_interquartile_mean([x]) == interquartile_mean(x)


def test_performance_profile_by_hand() -> None:
    # Above 1: of the first task 2 of 3, of the second 2 of 2; above 3: none and 1 of 2; 2 is not above 2.
    profile = performance_profile(strata([1, 2, 3], [2, 4]), np.array([1, 2, 3, 4]))
    assert profile.tolist() == pytest.approx([(2 / 3 + 1) / 2, (1 / 3 + 1 / 2) / 2, 1 / 4, 0])


def test_the_bootstrap_draws_within_each_task() -> None:
    # Means of draws of {0, 2} are 0, 1, 2 and of {10, 12} are 10, 11, 12, with 1/4, 1/2, 1/4: over both tasks
    # (0 … 4 + 10) / 2 = 5, 5.5, 6, 6.5, 7 with 1, 4, 6, 4, 1 sixteenths. Were they drawn across the tasks, it
    # would reach from 0 to 12.
    tasks = strata([0, 2], [10, 12])
    assert stratified_bootstrap(tasks, stratified_mean) == (5, 7)
    assert stratified_bootstrap(tasks, stratified_mean, level=0.8) == (5.5, 6.5)
    assert stratified_bootstrap(tasks, stratified_mean, level=0.2) == (6, 6)


def test_the_interval_of_an_improvement_equals_that_of_all_possible_draws() -> None:
    """Of three runs against three there are 3³ · 3³ draws, all equally likely: their quantiles are exact."""
    x, y = [1.0, 2.0, 3.0], [2.0, 3.0, 4.0]
    draws = [
        np.mean([(a > b) + (a == b) / 2 for a in left for b in right])
        for left in itertools.product(x, repeat=3)
        for right in itertools.product(y, repeat=3)
    ]
    assert len(draws) == 729
    drawn = stratified_bootstrap(strata(x, y), lambda both: probability_of_improvement(both[:1], both[1:]), level=0.9)
    exact = np.quantile(draws, [0.05, 0.95])
    # The quantiles are safe: with 10 000 draws a share of 5 % scatters by 0.22 %, and there is no step so near.
    for end, q in zip(exact, (0.05, 0.95), strict=True):
        below, upto = np.mean(np.array(draws) < end - 1e-9), np.mean(np.array(draws) < end + 1e-9)
        assert below + 0.01 < q < upto - 0.01
    assert drawn == pytest.approx(exact)


def test_every_resample_has_the_runs_of_its_own_task() -> None:
    tasks = strata([1, 2, 3], [10, 20], [100, 200, 300, 400])
    seen: list[list[set[float]]] = []

    def look(drawn: Any) -> np.ndarray:
        assert [piece.shape[-1] for piece in drawn] == [3, 2, 4]
        seen.append([set(piece.ravel()) for piece in drawn])
        return stratified_mean(drawn)

    stratified_bootstrap(tasks, look, resamples=500)
    assert seen == [[{1, 2, 3}, {10, 20}, {100, 200, 300, 400}]]


def test_every_run_is_drawn_as_often_as_any_other() -> None:
    counts = np.zeros(5)

    def count(drawn: Any) -> np.ndarray:
        counts[:] += np.bincount(drawn[1].astype(int).ravel(), minlength=5)
        return stratified_mean(drawn)

    stratified_bootstrap(strata([0, 0], [0, 1, 2, 3, 4]), count, resamples=20_000)
    # 100 000 draws at 1/5 each scatter by √(100 000 · 1/5 · 4/5) = 126.
    assert counts.sum() == 100_000
    assert np.abs(counts - 20_000).max() < 4 * 127


def test_without_a_second_run_there_is_no_interval() -> None:
    assert np.isnan(stratified_bootstrap(strata([1, 2, 3], [4]), stratified_mean)).all()


def test_the_bootstrap_does_not_depend_on_the_chunks_it_works_in(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [np.random.default_rng(k).normal(size=3 + k) for k in range(3)]  # 3 + 4 + 5 runs
    first = stratified_bootstrap(tasks, stratified_mean, resamples=999)
    assert first != stratified_bootstrap(tasks, stratified_mean, resamples=999, seed=1)
    monkeypatch.setattr("flowrl.evaluation.statistics.CHUNK", 7 * 12)
    assert first == stratified_bootstrap(tasks, stratified_mean, resamples=999)


def test_the_interval_of_many_runs_has_the_textbook_width() -> None:
    # The mean over k tasks of the means of n runs: standard deviation √(Σ sᵢ²/n) / k. Ends of 10 000 draws scatter
    # by 2.7 % of it.
    tasks = [np.random.default_rng(k).normal(k, 1 + k, size=400) for k in range(3)]
    low, high = stratified_bootstrap(tasks, stratified_mean)
    sigma = np.sqrt(sum(task.var() / 400 for task in tasks)) / 3
    assert low == pytest.approx(stratified_mean(tasks) - 1.96 * sigma, abs=4 * 0.027 * sigma)
    assert high == pytest.approx(stratified_mean(tasks) + 1.96 * sigma, abs=4 * 0.027 * sigma)


runs = st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=5)
tasks_of_runs = st.lists(runs, min_size=1, max_size=5)


@given(tasks_of_runs, st.randoms())
def test_the_order_of_tasks_and_runs_has_no_effect(tasks: list[list[float]], shuffle: random.Random) -> None:
    mixed = [shuffle.sample(task, len(task)) for task in shuffle.sample(tasks, len(tasks))]
    for statistic in (stratified_mean, stratified_interquartile_mean):
        assert statistic(strata(*mixed)) == pytest.approx(float(statistic(strata(*tasks))))


@given(st.lists(st.tuples(runs, runs), min_size=1, max_size=4))
def test_one_improves_on_the_other_or_the_other_on_it(pairs: list[tuple[list[float], list[float]]]) -> None:
    x, y = strata(*(a for a, _ in pairs)), strata(*(b for _, b in pairs))
    both = probability_of_improvement(x, y) + probability_of_improvement(y, x)
    assert both == pytest.approx(1)
    counted = [np.mean([(a > b) + (a == b) / 2 for a in left for b in right]) for left, right in pairs]
    assert probability_of_improvement(x, y) == pytest.approx(np.mean(counted))


# --- statistics, beside rliable's -------------------------------------------------------------------

X = np.array([[0.10, 0.62, 0.35], [0.40, 0.58, 0.35], [0.25, 0.91, 0.05], [0.33, 0.70, 0.52]])  # (runs, tasks)
Y = np.array([[0.30, 0.62, 0.20], [0.15, 0.44, 0.35], [0.45, 0.66, 0.41]])
THRESHOLDS = np.array([0.0, 0.2, 0.35, 0.6, 0.95])


def test_the_numbers_of_rliable() -> None:
    """Results of rliable 1.2.0 for X and Y: estimates exactly, intervals (50 000 resamples) as far as 10 000 scatter:
    an end by 2.7 % of the standard deviation, a quarter of the interval's width."""
    x, y = list(X.T), list(Y.T)
    assert stratified_interquartile_mean(x) == pytest.approx(0.42166666666666663)
    assert stratified_interquartile_mean(y) == pytest.approx(0.38999999999999996)
    assert stratified_mean(x) == pytest.approx(0.43)
    assert stratified_mean(y) == pytest.approx(0.3977777777777778)
    assert probability_of_improvement(x, y) == pytest.approx(0.5416666666666666)
    profile = performance_profile(x, THRESHOLDS)
    assert profile.tolist() == pytest.approx([1.0, 0.8333333333333334, 0.5, 0.25, 0.0])
    for tasks, statistic, interval in (
        (x, stratified_interquartile_mean, (0.32333333, 0.48166667)),
        (x, stratified_mean, (0.35083333, 0.5075)),
        (y, stratified_interquartile_mean, (0.298, 0.468)),
        (y, stratified_mean, (0.33, 0.46333333)),
    ):
        tolerance = 4 * 0.027 * (interval[1] - interval[0]) / 4
        assert stratified_bootstrap(tasks, statistic) == pytest.approx(interval, abs=tolerance)


def test_rliable_itself() -> None:
    """Where it is installed: `pip install rliable` brings ten packages, too many for one test."""
    metrics = pytest.importorskip("rliable.metrics")
    generator = np.random.default_rng(0)
    for runs_x, runs_y, tasks in itertools.product((2, 3, 5, 8), (2, 7), (1, 4)):
        x, y = (generator.integers(0, 12, size=(n, tasks)) / 10 for n in (runs_x, runs_y))
        assert stratified_interquartile_mean(list(x.T)) == pytest.approx(metrics.aggregate_iqm(x))
        assert stratified_mean(list(x.T)) == pytest.approx(metrics.aggregate_mean(x))
        ours = probability_of_improvement(list(x.T), list(y.T))
        assert ours == pytest.approx(metrics.probability_of_improvement(x, y))


# --- reading a suite --------------------------------------------------------------------------------


def add(
    out: Path, task: str, algorithm: str, seed: int, score: float, zero: float | None = None, **changes: Any
) -> Path:
    """Add a finished trial; the last value of its learning curve is its score."""
    config = {
        "algorithm": algorithm,
        "seed": seed,
        "env": {"id": changes.pop("env", "Pendulum-v1"), "options": changes.pop("options", {})},
        "policy": {"kind": "gaussian" if algorithm == "ppo" else "flow"},
        "learner": {"clip": changes.pop("clip", 0.1)},
    }
    values = {
        **{"flowrl": "0.1.0", "recipe": f"{task}.yaml", "algorithm": algorithm, "seed": seed, "config": config},
        **{
            "digest": fingerprint.digest(config),
            "env_steps": 1000,
            "seconds": 2.0,
            "env_steps_per_s": 500.0,
            "jobs": 1,
        },
        **{"machine": {"processor": "abacus"}, "episodes": 64, "evaluation_seed": 10_000 + seed},
        "evaluations": {"random": {"return_mean": score}, "zero": {"return_mean": score if zero is None else zero}},
    }
    folder = out / task / algorithm / f"seed{seed}"
    folder.mkdir(parents=True)
    write_record(folder / "evaluation.json", TrialRecord(**values | changes))
    rows = [{"iteration": i, "env_steps": 500 * i, "seconds": i, "return_mean": score * i / 2} for i in (1, 2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def add_all(out: Path, scores: dict[tuple[str, str], list[float]], **changes: Any) -> Path:
    for (task, algorithm), values in scores.items():
        for seed, score in enumerate(values):
            add(out, task, algorithm, seed, score, **changes)
    return out


SCORES = {
    ("hop", "fpo"): [1.0, 2.0, 3.0],
    ("hop", "ppo"): [2.0, 3.0, 4.0],
    ("swim", "fpo"): [10.0, 20.0, 30.0],
    ("swim", "ppo"): [0.0, 0.0, 0.0],
}


def test_numbers_task_by_task_and_overall(tmp_path: Path) -> None:
    comparison = compare(read([add_all(tmp_path, SCORES)]))
    hop = comparison.tasks["hop"]
    mean = hop.algorithms["fpo"].noise["random"].mean
    assert (mean.value, mean.ci95) == (2, (1, 3))
    assert hop.algorithms["fpo"].noise["random"].returns == (1, 2, 3)
    assert hop.improvement[0].value == pytest.approx(2 / 9)
    assert (hop.scale.low, hop.scale.high) == (1, 4)
    # Scores of hop: 0, 1/3, 2/3 and 1/3, 2/3, 1; of swim: 1/3, 2/3, 1 and 0, 0, 0.
    fpo, ppo = (comparison.overall.algorithms[name].noise for name in ("fpo", "ppo"))
    assert fpo["random"].mean.value == pytest.approx(1 / 2)
    assert ppo["random"].mean.value == pytest.approx(1 / 3)
    # ppo's six, sorted: 0 0 0 1/3 2/3 1, one cut at each end: (0 + 0 + 1/3 + 2/3) / 4.
    assert ppo["random"].iqm.value == pytest.approx(1 / 4)
    assert comparison.overall.improvement[0].value == pytest.approx((2 / 9 + 1) / 2)
    assert (fpo["zero"].action, ppo["zero"].action) == ("zero", "mean")
    # Above a score of 1/2: of ppo's runs 2 of 3 and 0 of 3.
    profile = comparison.overall.profile
    assert profile is not None
    half = profile.thresholds.index(0.5)
    assert profile.algorithms["ppo"]["random"].share[half] == pytest.approx(1 / 3)


def test_other_measures_are_listed_beside_the_returns(tmp_path: Path) -> None:
    """Means over the seeds of measures that every seed has, one table for tasks with equal measures."""
    for seed, (success, alive) in enumerate([(0.5, 4.0), (1.0, 8.0)]):
        values = {"return_mean": 1.0, "success_rate": success, "alive_s": alive, "nfe": 10, "noise": "random"}
        rare = {"seldom_mm": 3.0 if seed else None}
        for name in ("walk", "turn"):
            add(tmp_path, name, "fpo", seed, 1.0, evaluations={"random": values | rare, "zero": values})
    add(tmp_path, "swim", "fpo", 0, 1.0)
    comparison = compare(read([tmp_path]))
    walk = comparison.as_dict()["tasks"]["walk"]["algorithms"]["fpo"]["noise"]["random"]["measures"]
    assert walk == {
        "success_rate": {"values": (0.5, 1.0), "value": 0.75, "ci95": (0.5, 1.0)},
        "alive_s": {"values": (4.0, 8.0), "value": 6.0, "ci95": (4.0, 8.0)},
    }
    page = " ".join(markdown.page(comparison).split())
    assert page.count("| task | algorithm | action | success_rate | alive_s |") == 1
    assert "| walk | fpo | random | 0.75 [0.5, 1] | 6 [4, 8] |" in page
    assert "swim" not in page.partition("What else was measured")[2].partition("##")[0]
    screen = " ".join(terminal.screen(comparison, 100).split())
    assert "walk fpo random 0.75 6" in screen


def test_the_document_keeps_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs read compare.json: its keys, their order and its numbers are those of the recorded document."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compute, "THRESHOLDS", 3)
    add_all(Path("runs"), SCORES)
    add(Path("runs"), "walk", "ppo", 0, 1.5, 0.5, env_steps=2000)
    written = leaves(json.loads(json.dumps(compare(read([Path("runs")])).as_dict(), allow_nan=False)))
    recorded = leaves(json.loads((DATA / "comparison.json").read_text()))
    assert list(written) == list(recorded)
    for path, leaf in recorded.items():
        assert written[path] == (pytest.approx(leaf, rel=1e-12) if isinstance(leaf, float) else leaf), path


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """'/tasks/hop/scale/low' and so on -> its value; '[]' and '{}' where nothing is in there."""
    if not isinstance(value, list | dict):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    below = [leaves(item, f"{path}/{key}") for key, item in items]
    return {key: leaf for part in below for key, leaf in part.items()} or {path: str(value)}


def test_the_order_of_loaded_tasks_has_no_effect(tmp_path: Path) -> None:
    suites = read([add_all(tmp_path, SCORES)])
    turned = LoadedSuites(dict(reversed(suites.groups.items())), suites.missing)
    assert json.dumps(compare(suites).as_dict()) == json.dumps(compare(turned).as_dict())


def test_the_name_of_a_task_has_no_effect(tmp_path: Path) -> None:
    """Estimates are the same when the tasks change places; so are the intervals, but for the draws."""
    renamed = {({"hop": "z", "swim": "a"}[task], name): scores for (task, name), scores in SCORES.items()}
    one = compare(read([add_all(tmp_path / "one", SCORES)])).overall
    other = compare(read([add_all(tmp_path / "other", renamed)])).overall
    for name in ("fpo", "ppo"):
        a, b = (overall.algorithms[name].noise["random"] for overall in (one, other))
        for x, y in ((a.mean, b.mean), (a.iqm, b.iqm)):
            assert x.value == pytest.approx(y.value)
            assert x.ci95 == pytest.approx(y.ci95, abs=0.06)


def test_scales() -> None:
    assert normalised(np.array([-10.0, 0.0, 30.0]), scale_of("-10,30")).tolist() == [0, 0.25, 1]
    assert normalised(np.array([5.0, 5.0]), Scale(5, 5, "")).tolist() == [0.5, 0.5]
    for wrong in ("3", "3,1", "a,b", "0,inf", "1,2,3"):
        with pytest.raises(UsageError, match="--scale"):
            scale_of(wrong)


@pytest.mark.parametrize(
    ("env", "options", "expected"),
    [
        ("flowrl/CheetahRun-v0", {}, (0, 1000)),
        ("flowrl/CheetahRun-v0", {"max_episode_steps": 100}, (1, 3)),
        ("flowrl/HumanoidTrack-v0", {}, (0, 300)),
        ("flowrl/GridWorld-v0", {}, (1, 3)),
        ("CheetahRun-v0", {}, (1, 3)),
    ],
)
def test_the_range_of_control_tasks_is_known(
    env: str, options: dict[str, Any], expected: tuple[float, float], tmp_path: Path
) -> None:
    suites = read([add_all(tmp_path, {("run", "fpo"): [1.0, 3.0]}, env=env, options=options)])
    scale = compute.scale_for(suites, "run")
    assert (scale.low, scale.high) == expected


def test_noise_modes() -> None:
    assert noise_modes("both") == ("random", "zero")
    assert noise_modes("zero") == ("zero",)
    with pytest.raises(UsageError, match="Did you mean 'zero'"):
        noise_modes("zeros")
    assert [noise_modes(text) for text in ("0.5", "0", "1", ".25")] == [
        ("0.5 random",),
        ("zero",),
        ("random",),
        ("0.25 random",),
    ]


def test_a_scale_of_the_noise_is_compared_where_every_run_was_evaluated_with_it(tmp_path: Path) -> None:
    evaluations = {noise: {"return_mean": value} for noise, value in [("random", 1), ("zero", 2), ("0.5 random", 3)]}
    for algorithm in ("fpo", "ppo"):
        add(tmp_path, "hop", algorithm, 0, 1.0, evaluations=evaluations)
    comparison = compare(read([tmp_path]), ("0.5 random",))
    results = comparison.tasks["hop"].algorithms
    assert results["ppo"].noise["0.5 random"].mean.value == 3
    assert [results[name].noise["0.5 random"].action for name in ("fpo", "ppo")] == ["0.5 random", "0.5 sampled"]
    assert "0.5 random noise" in terminal.screen(comparison, 100)
    add(tmp_path, "hop", "fpo", 1, 1.0)
    with pytest.raises(UsageError, match=r"seed1 was not evaluated with 0.5 random noise, but with random, zero"):
        compare(read([tmp_path]), ("0.5 random",))


@pytest.mark.parametrize(
    ("noise", "scale", "evaluated", "judged"),
    [
        ("random", 1.0, ["random", "zero"], "random"),
        ("random", 0.5, ["random", "zero", "0.5 random"], "0.5 random"),
        ("random", 0.0, ["random", "zero"], "zero"),
        ("zero", 1.0, ["random", "zero"], "zero"),
        ("fixed", 0.5, ["random", "zero"], "random"),
        (None, None, ["random", "zero"], "random"),  # a record from before there were scales
    ],
)
def test_a_trial_is_evaluated_and_a_sweep_judged_with_the_scale_of_the_recipe(
    noise: str | None, scale: float | None, evaluated: list[str], judged: str, tmp_path: Path
) -> None:
    config = {key: value for key, value in (("noise", noise), ("noise_scale", scale)) if value is not None}
    assert list(noises(config)) == evaluated
    add(tmp_path, "hop", "fpo", 0, 1.0)
    record = read_record(tmp_path / "hop" / "fpo" / "seed0" / "evaluation.json", TrialRecord)
    assert record is not None
    results = {name: EvalSummary(return_mean=number) for number, name in enumerate(evaluated)}
    changed = record.model_copy(update={"config": record.config | config, "evaluations": results})
    assert evaluated[int(objective(changed))] == judged


def test_a_folder_without_trials_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="flowrl suite RECIPE --out"):
        read([tmp_path])


def test_seeds_of_two_machines_are_combined_and_two_versions_are_not(tmp_path: Path) -> None:
    old, more, new = tmp_path / "old", tmp_path / "more", tmp_path / "new"
    add(old, "hop", "fpo", 0, 1.0)
    add(more, "hop", "fpo", 1, 2.0)
    add(new, "hop", "fpo", 0, 3.0)
    together = read([old, more])
    assert {key: len(group.runs) for key, group in together.groups.items()} == {("hop", "fpo"): 2}
    assert set(read([old, new]).groups) == {("hop", "fpo (old)"), ("hop", "fpo (new)")}
    add(tmp_path / "tuned", "hop", "fpo", 5, 3.0, clip=0.2)  # other seeds, but other settings too
    assert set(read([old, tmp_path / "tuned"]).groups) == {("hop", "fpo (old)"), ("hop", "fpo (tuned)")}


# --- notes ------------------------------------------------------------------------------------------


def noted(out: Path) -> str:
    comparison = compare(read([out]))
    return " ".join([*comparison.notes, *comparison.missing])


def test_a_complete_suite_needs_no_notes(tmp_path: Path) -> None:
    scores = {(task, name): [1.0, 2.0, 3.0, 4.0, 5.0] for task in ("hop", "swim") for name in ("fpo", "ppo")}
    assert noted(add_all(tmp_path, scores)) == ""


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda out: add(out, "walk", "ppo", 0, 1), "walk ppo. What includes"),  # one seed
        (lambda out: add(out, "walk", "ppo", 0, 1), "Overall is over the tasks that every algorithm has"),
        (lambda out: add(out, "walk", "ppo", 0, 1), "walk fpo seed 0: not there"),
        (lambda out: add(out, "hop", "fpo", 5, 1), "hop ppo seed 5: not there"),
        (lambda out: add(out, "hop", "fpo", 5, 1), "Unequal numbers of seeds on hop"),
        (lambda out: add(out, "hop", "fpo", 5, 1), "tasks with more seeds weigh more"),
        (lambda out: add(out, "hop", "fpo", 5, 1, env_steps=2000), "1,000 (fpo, ppo), 2,000 (fpo)"),
        (lambda out: add(out, "hop", "fpo", 5, 1, clip=0.3), "learner.clip is 0.3 there, 0.1"),
        (
            lambda out: add(out, "hop", "fpo++", 0, 1, options={"profile": "playground"}),
            'trained in environments that differ: env.options.profile is "playground" there, not set',
        ),
        (lambda out: add(out, "hop", "fpo", 5, 1, episodes=8), "numbers of episodes: 8, 64"),
        (lambda out: add(out, "hop", "fpo", 5, 1, flowrl="0.2.0"), "versions of flowrl: 0.1.0, 0.2.0"),
        (lambda out: add(out, "hop", "fpo", 5, 1, jobs=2), "abacus, 1 at a time; abacus, 2 at a time"),
        (lambda out: (out / "hop/fpo/seed7").mkdir(), "hop fpo seed 7: not finished"),
        (lambda out: (add(out, "hop", "fpo", 5, 1) / "evaluation.json").write_text("{"), "is incomplete"),
        (lambda out: fail(out, "fpo++", 3), "hop fpo++ seed 0: diverged: it went up"),
        (lambda out: fail(out, "fpo++", 5), "hop fpo++ seed 0: failed with exit 5: it went up"),
    ],
)
def test_what_is_unequal_or_missing_is_noted(change: Callable[[Path], object], sentence: str, tmp_path: Path) -> None:
    add_all(tmp_path, SCORES)
    assert sentence not in noted(tmp_path)
    change(tmp_path)
    assert sentence in noted(tmp_path)


def fail(out: Path, algorithm: str, exit_code: int) -> None:
    message = "it went up"
    failure = Failure(flowrl="0", stage="train", exit_code=exit_code, message=message, digest="", config={})
    write_record(out / "hop" / algorithm / "seed0/failure.json", failure)


def test_the_coverage_of_intervals_of_few_seeds_is_noted(tmp_path: Path) -> None:
    """An interval from the least to the greatest of three runs misses the median when all three lie on one side of
    it: 2 · (1/2)³ = 1/4."""
    assert "only 75% of the time" in noted(add_all(tmp_path, SCORES))


def test_all_above_all_is_not_certainty(tmp_path: Path) -> None:
    assert "not certainty" in noted(add_all(tmp_path, SCORES))  # fpo on swim


def test_tasks_without_runs_of_every_algorithm_are_left_out_of_overall(tmp_path: Path) -> None:
    add_all(tmp_path, SCORES)
    before = compare(read([tmp_path])).overall
    add(tmp_path, "walk", "ppo", 0, 1e6)
    after = compare(read([tmp_path]))
    assert after.overall == before
    assert "walk" in after.tasks


# --- the command ------------------------------------------------------------------------------------


def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add_all(tmp_path / "runs", SCORES)
    out = tmp_path / "out"
    assert cli.run(["compare", str(tmp_path / "runs"), "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == (out / "compare.md").read_text()
    assert {path.name for path in out.iterdir()} == {
        *("compare.md", "compare.json", "compare-curves.png", "compare-profile.png")
    }
    assert all(path.stat().st_size > 1000 for path in out.iterdir())
    assert "| hop | fpo | ppo | random | 0.22 [" in " ".join(printed.out.split())
    assert "next: flowrl plot" in printed.err
    assert cli.run(["compare", str(tmp_path / "runs"), "--json", "--noise", "zero", "--scale", "0,40"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((tmp_path / "runs/compare.json").read_text())
    assert document["noise"] == ["zero"]
    assert document["tasks"]["hop"]["scale"]["reason"] == "--scale 0,40"


def test_a_missing_learning_curve_is_reported_and_the_others_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_all(tmp_path, SCORES)
    (tmp_path / "hop/fpo/seed0/metrics.jsonl").unlink()
    assert cli.run(["compare", str(tmp_path)]) == 0
    assert "no learning curve of" in capsys.readouterr().err


def test_tables_need_no_learning_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As when only the records were copied."""
    add_all(tmp_path, SCORES)
    for curve in tmp_path.glob("*/*/*/metrics.jsonl"):
        curve.unlink()
    assert cli.run(["compare", str(tmp_path)]) == 0
    assert "| hop" in capsys.readouterr().out
    assert (tmp_path / "compare-profile.png").is_file()


def test_an_empty_panel_names_the_reason() -> None:
    figure = figures.curves({"lost": {}}, ["fpo"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["no metrics.jsonl"]


def test_steps_of_held_actions_are_noted(tmp_path: Path) -> None:
    add_all(tmp_path, {("hop", "fpo"): [1.0, 2.0]})
    for record_file in tmp_path.glob("hop/*/*/evaluation.json"):
        record_file.write_text(record_file.read_text().replace('"env": {', '"env": {"action_repeat": 4, ', 1))
    notes = compare(read([tmp_path])).notes
    assert "An env step of hop is an action that is held for 4 control steps." in notes


def test_tables_are_markdown(tmp_path: Path) -> None:
    page = markdown.page(compare(read([add_all(tmp_path, SCORES)])))
    for block in page.split("\n\n"):
        lines = block.splitlines()
        if lines[0].startswith("|"):
            assert len({line.count("|") for line in lines}) == 1
            assert set(lines[1]) <= set("|-: ")
    assert "- hop: 1 to 4, the least and the greatest return compared here" in page


def test_one_task_has_no_overall_section(tmp_path: Path) -> None:
    comparison = compare(read([add_all(tmp_path, {("hop", "fpo"): [1.0, 2.0]})]))
    for text in (markdown.page(comparison), terminal.screen(comparison, 100)):
        assert "Overall" not in text
        assert "improvement" not in text


def test_tables_fit_a_terminal_of_100_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task with a long name and the widest of usual numbers fit into 100 columns without folding."""
    scores = {
        (task, name): [123.4, 456.7, 987.6]
        for task in ("finger_turn_easy", "finger_turn_hard")
        for name in ("fpo", "fpo++", "ppo")
    }
    add_all(tmp_path, scores, env_steps=1_000_000, seconds=1234.0)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.run(["compare", str(tmp_path), "--noise", "random"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    # (123.4 + 456.7 + 987.6) / 3 = 522.6, drawn from 123.4 thrice to 987.6 thrice
    numbers = "3 522.6 [123.4, 987.6] 522.6 [123.4, 987.6] 1,000,000 1,234"
    rows = [" ".join(line.split()) for line in lines]
    assert f"finger_turn_easy fpo {numbers}" in rows
    assert f"fpo++ {numbers}" in rows
    assert any(row.startswith("finger_turn_easy fpo fpo++ random 0.50 [") for row in rows)


def test_a_narrow_terminal_loses_nothing(tmp_path: Path) -> None:
    comparison = compare(read([add_all(tmp_path, SCORES)]))
    wide, narrow = (terminal.screen(comparison, width) for width in (100, 40))
    assert max(map(len, narrow.splitlines())) <= 40
    words = [Counter(word.rstrip(":") for word in text.split() if not set(word) <= {"-"}) for text in (wide, narrow)]
    assert not words[0] - words[1]  # where a table does not fit, columns that identify a row and headings are repeated


def test_figures_have_a_panel_per_task_and_per_noise_mode(tmp_path: Path) -> None:
    from flowrl.reporting.plots import learning_curves

    suites = read([add_all(tmp_path, SCORES)])
    loaded = {
        task: {
            name: [learning_curves.load(run.folder) for run in suites.groups[task, name].runs]
            for name in suites.algorithms
        }
        for task in suites.tasks
    }
    figure = figures.curves(loaded, suites.algorithms)
    assert [axes.get_title() for axes in figure.axes] == ["hop", "swim"]
    ends = [line.get_ydata()[-1] for line in figure.axes[0].lines]
    assert ends == pytest.approx([2, 3])  # the mean over the seeds, of the last iteration
    assert not figure.axes[0].texts
    for name in ("fpo", "ppo"):
        (tmp_path / f"swim/{name}/seed0/metrics.jsonl").write_text('{"iteration": 1, "env_steps": 500}\n')
        loaded["swim"][name] = [learning_curves.load(tmp_path / f"swim/{name}/seed0")]
    bare = figures.curves(loaded, suites.algorithms).axes
    assert [[text.get_text() for text in axes.texts] for axes in bare] == [[], ["no episode has ended"]]
    profile = figures.profile(compare(suites))
    assert len(profile.axes) == 2
    assert figures.columns_for(10) == 5
    assert [figures.columns_for(n) for n in (1, 2, 3, 4, 6, 7, 9, 12)] == [1, 2, 3, 2, 3, 4, 3, 4]


def test_strata_are_one_dimensional() -> None:
    with pytest.raises(ValueError, match="one-dimensional"):
        statistics.stratified_bootstrap([np.zeros((2, 2))], stratified_mean)


def test_a_run_folder_is_not_a_suite_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("algorithm: fpo\n")
    with pytest.raises(UsageError, match=r"is a single run.* flowrl plot"):
        read([tmp_path])


# --- who is ahead, and how fast --------------------------------------------------------------------


def test_the_detectable_difference_of_two_groups_by_hand() -> None:
    """s² = 1 and 4, three runs each: SE = √(5/3); t with 4 degrees of freedom: 2.7764 (0.975) and 0.9410 (0.8)."""
    x, y = [1.0, 2.0, 3.0], [10.0, 12.0, 14.0]
    least = (2.776445 + 0.940965) * math.sqrt(5 / 3)
    assert statistics.detectable_difference(strata(x), strata(y)) == pytest.approx(least, rel=1e-5)
    # Two equal tasks: the SE of their mean is √2 smaller, with 8 degrees of freedom: 2.3060 and 0.8889.
    both = statistics.detectable_difference(strata(x, x), strata(y, y))
    assert both == pytest.approx((2.306004 + 0.888890) * math.sqrt(5 / 6), rel=1e-5)
    assert math.isnan(statistics.detectable_difference(strata([1.0]), strata(y)))


def test_a_winner_is_named_only_for_a_difference_that_can_be_detected(tmp_path: Path) -> None:
    scores = {("a", "fpo"): [1.0, 2.0, 3.0], ("a", "ppo"): [7.0, 8.0, 9.0], ("b", "fpo"): [1.0, 2.0, 3.0],
              ("b", "ppo"): [3.0, 4.0, 5.0]}  # fmt: skip
    found = compare(read([add_all(tmp_path, scores)]), ("random",))
    clear, unclear = (found.tasks[task].improvement[0] for task in ("a", "b"))
    assert clear.detectable == pytest.approx((2.776445 + 0.940965) * math.sqrt(2 / 3), rel=1e-5)  # 3.04
    assert (clear.difference, clear.winner) == (-6.0, "ppo")
    assert (unclear.difference, unclear.winner) == (-2.0, None)
    page = " ".join(markdown.page(found).split())
    assert "| a | fpo - ppo | random | -6 (3.04) | ppo |" in page
    assert "| b | fpo - ppo | random | -2 (3.04) | not decided |" in page


def curve(returns: list[float], seconds_per_iteration: float = 1.0) -> LearningCurve:
    count = np.arange(1.0, len(returns) + 1)
    columns = {"env_steps": 100 * count, "seconds": seconds_per_iteration * count, "return_mean": np.array(returns)}
    return LearningCurve(Path("run"), {}, columns)


def test_the_time_to_equal_return_is_that_of_the_median_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Returns 0 to 10 in steps of one an iteration; the other algorithm is twice as slow, and one run never learns."""
    monkeypatch.setattr(speed, "WINDOW", 1)
    rising = [float(value) for value in range(11)]
    curves = {
        "task": {"fast": [curve(rising)] * 3, "slow": [curve(rising, 2.0), curve(rising, 4.0), curve([0.0] * 11)]}
    }
    found = speed.measure(curves, {"task": Scale(0.0, 10.0, "")})["task"]
    assert found["fast"].seconds == {"50%": 6.0, "75%": 9.0, "90%": 10.0}
    assert found["fast"].env_steps["50%"] == 600 and found["fast"].reached["90%"] == 3
    assert found["slow"].seconds["50%"] == 24.0 and found["slow"].reached["50%"] == 2  # of 12, 24 and never
    assert found["fast"].area is not None and found["fast"].area.value == pytest.approx(0.5)
    assert found["slow"].area is not None and found["slow"].area.value == pytest.approx(1 / 3)
    never = speed.measure({"task": {"a": [curve(rising)], "b": [curve([0.0] * 11)]}}, {"task": Scale(0.0, 10.0, "")})
    assert never["task"]["b"].seconds["50%"] is None and never["task"]["b"].reached["50%"] == 0
