"""`flowrl eval --sweep`: pairs of episodes, the choice to deploy, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowrl import cli
from flowrl.cli import sampler_sweep
from flowrl.evaluation.episodes import Evaluation
from flowrl.evaluation.latency import Effort, Timing
from flowrl.experiments import evaluate, sampler_comparison
from flowrl.experiments.build import LoadedPolicy
from flowrl.experiments.compared_samplers import Compared, SamplerComparison
from tests.small_recipe import small

OWN_EULER = """\
class Same:
    steps = 2
    nfe = 2
    def __call__(self, velocity, x, t0, t1):
        for k in range(self.steps):
            x = x + (t1 - t0) / self.steps * velocity(x, t0 + (t1 - t0) * k / self.steps)
        return x
"""


@pytest.fixture(autouse=True)
def few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler_comparison, "EFFORT", Effort(enough=40, seconds=60, least=4))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a short run of fpo and one of ppo."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.yaml").write_text(small(32))
    for algorithm in ("fpo", "ppo"):
        options = ["--name", algorithm, "--set", f"algorithm={algorithm}", "--json"]
        assert cli.run(["train", str(folder / "small.yaml"), "--out", str(folder), *options]) == 0
    return folder


def swept(run: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    """Compare with --json and return the document."""
    capsys.readouterr()
    assert cli.run(["eval", str(run), "--sweep", "--json", "--out", str(out), *options]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "sampler-sweep.json").read_text())
    assert (out / "sampler-sweep.png").read_bytes().startswith(b"\x89PNG")
    return document


def test_the_same_method_under_another_name_differs_by_nothing(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In seventy episodes, in two rounds: paired by starts and by noise, at full and at half noise."""
    (tmp_path / "own.py").write_text(OWN_EULER)
    document = swept(
        runs / "fpo", tmp_path, capsys,
        "--sampler", f"{tmp_path / 'own.py'}:Same,euler:1,dopri5", "--noise-scale", "1,0.5", "--episodes", "70",
    )  # fmt: skip
    rows = {(row["sampler"].rpartition(":")[2], row["steps"], row["noise_scale"]): row for row in document["rows"]}
    assert document["rows"][0] == rows["euler", 2, 1.0]
    same, half = rows["Same", 2, 1.0], rows["Same", 2, 0.5]
    assert same["difference"] == 0 and same["difference_ci95"] == [0, 0] and same["endpoint_error"] < 1e-6
    assert half["difference"] == rows["euler", 2, 0.5]["difference"]
    assert rows["euler", 1, 1.0]["endpoint_error"] > 1e-3
    assert rows["dopri5", None, 1.0]["nfe"] > 6
    assert set(rows["dopri5", None, 1.0]["latency"]) == {"torch"}
    assert len(rows) == len(document["rows"]) == 8  # four samplers, two scales; that of the training once
    assert same["latency"]["torch"]["calls"] == 40
    assert document["proposal"]["sentence"].startswith(("Deploy ", "Keep "))


def test_the_evaluations_of_an_adaptive_sampler_are_the_mean_over_the_rounds(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seventy episodes are two rounds of up to 64."""
    facts, measured = evaluate.facts, list[float]()

    def noted(loaded: LoadedPolicy) -> dict[str, Any]:
        found = facts(loaded)
        if found["sampler"] == "dopri5" and loaded.policy.calls:  # type: ignore[attr-defined]  # of a flow policy
            measured.append(found["nfe"])
        return found

    monkeypatch.setattr(evaluate, "facts", noted)
    document = swept(runs / "fpo", tmp_path, capsys, "--sampler", "dopri5", "--noise-scale", "1", "--episodes", "70")
    assert len(measured) == 2 and measured[0] != measured[1]
    assert document["rows"][1]["nfe"] == pytest.approx(sum(measured) / 2)


def test_unasked_general_and_fitted_samplers_and_three_scales_are_compared(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler_comparison, "GENERAL", ("euler:1",))
    assert cli.run(["fit-sampler", str(runs / "fpo"), "--nfe", "2", "--observations", "normal"]) == 0
    document = swept(runs / "fpo", tmp_path, capsys, "--episodes", "4")
    samplers = [(row["sampler"], row["noise_scale"]) for row in document["rows"]]
    names = ["euler"] * 6 + ["fitted-2"] * 3
    assert samplers == list(zip(names, [1.0, 0.5, 0.0] * 3, strict=True))


def test_a_gaussian_policy_is_compared_by_the_scale_of_its_noise(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = swept(runs / "ppo", tmp_path, capsys, "--episodes", "4")
    assert [(row["sampler"], row["noise_scale"]) for row in document["rows"]] == [(None, 1.0), (None, 0.5), (None, 0.0)]
    assert all(row["endpoint_error"] is None for row in document["rows"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "x"], "--out belongs to --sweep"),
        (["--sweep", "--csv", "x.csv"], "--csv does not go with --sweep"),
        (["--sweep", "--min-return", "0"], "--min-return does not go with --sweep"),
        (["--sweep", "--sampler", "eulr"], "eulr"),
        (["--sweep", "--noise-scale", "2"], "--noise-scale 2"),
        (["--sweep", "--steps", "4"], "--steps 4 does not go with --sweep"),
        (["--sweep", "--perturbed"], "--perturbed does not go with --sweep"),
        (["--sweep", "--set", "sampler.steps=5"], "--set sampler.steps=5 does not go with --sweep"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_played(
    options: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["eval", str(runs / "fpo"), *options]) == 2
    assert said in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- the choice


def timing(us: float) -> Timing:
    return Timing(us, us, us, us, 5000, 1.0)


OWN = Compared(
    "euler", 10, 10, "random", 1.0, None, 100.0, (98.0, 102.0), 0.0, (0.0, 0.0), None, 0.0,
    {"c": timing(3.0), "torch": timing(300.0)},
)  # fmt: skip


def choice(steps: int, us: float, difference: tuple[float, float], scale: float = 1.0) -> Compared:
    low, high = difference
    mean = (low + high) / 2
    return replace(
        OWN, steps=steps, nfe=steps, noise_scale=scale, return_mean=100 + mean, difference=mean,
        difference_ci95=difference, latency={"c": timing(us)}, option=f"euler:{steps}", endpoint_error=0.1,
    )  # fmt: skip


def proposed(*rows: Compared) -> SamplerComparison:
    return SamplerComparison([OWN, *rows], 256, 0, "ckpt.pt", "")


def test_the_fastest_that_certainly_keeps_98_percent_is_proposed() -> None:
    found = proposed(choice(1, 1.0, (-2.1, 3.0)), choice(2, 2.0, (-1.5, 1.0)), choice(4, 2.5, (1.0, 2.0)))
    assert found.backend == "c"
    assert found.proposed.steps == 2
    assert found.sentence == (
        "Deploy euler:2 with random noise: 2 µs an action in c instead of 3, return 99.75, -0.25 (-0.2%) against "
        "euler:10 with random noise, 95 % interval of the paired difference -1.5 to 1. Its actions are 10.0% of their "
        "spread away. The highest return has euler:4 with random noise: 101.5 (+1.5) at 2.5 µs."
    )


def test_the_sampler_of_the_training_is_kept_where_no_other_is_certain() -> None:
    found = proposed(choice(1, 1.0, (-2.1, 9.0)))
    assert found.proposed is found.own
    assert found.sentence.startswith("Keep euler:10 with random noise, as trained")


def test_of_equally_fast_ones_another_noise_is_taken_only_if_it_is_certainly_better() -> None:
    level, better = choice(2, 2.0, (-1.0, 3.0), 0.5), choice(2, 2.0, (0.5, 1.0), 0.0)
    as_trained = choice(2, 2.0, (-1.0, 1.0))
    assert proposed(level, as_trained).proposed is as_trained
    assert proposed(level, as_trained, better).proposed is better


@pytest.mark.parametrize(
    ("noise", "scale", "options"),
    [
        ("random", 1.0, ["--noise", "input"]),
        ("random", 0.5, ["--noise", "input", "--noise-scale", "0.5"]),
        ("zero", 0.0, ["--noise", "zero"]),
        ("fixed", 1.0, ["--noise", "fixed:3"]),
    ],
)
def test_the_command_exports_the_noise_that_is_proposed(noise: str, scale: float, options: list[str]) -> None:
    """Whatever the noise of the run's configuration is, which an export has without these options."""
    row = replace(choice(1, 1.0, (0.0, 1.0)), noise=noise, noise_scale=scale)
    found = replace(proposed(row), seed=3)
    assert found.proposed is row
    assert sampler_sweep.export_options(found) == ["--sampler", "euler:1", *options]


def test_joined_episodes_come_one_after_another() -> None:
    def part(returns: list[float], measures: dict[str, list[float]]) -> Evaluation:
        values = np.array(returns)
        arrays = {name: np.array(numbers) for name, numbers in measures.items()}
        return Evaluation(values, values.astype(np.int64), values * 0, arrays, values.astype(np.str_), 10, 0.5)

    found = Evaluation.joined([part([1.0, 2.0], {"a": [5.0, 6.0]}), part([3.0], {"b": [7.0]})])
    assert found.returns.tolist() == [1, 2, 3] and found.lengths.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found.measures["a"], [5, 6, np.nan])
    np.testing.assert_array_equal(found.measures["b"], [np.nan, np.nan, 7])
    assert (found.actions, found.act_seconds, found.action_us) == (20, 1.0, 50_000)
