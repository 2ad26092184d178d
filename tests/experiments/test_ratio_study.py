"""`flowrl ratio`: one update beside exact likelihoods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flowrl import cli
from flowrl.contracts import user_code
from flowrl.experiments import ratio_study
from flowrl.storage import checkpoint
from tests.small_recipe import small


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with short runs of fpo (also to a Gaussian, by another sampler, with actions predicted) and of ppo."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "small.yaml").write_text(small(96))
    for name, *sets in (
        ("fpo", "learner.epochs=4", "learner.learning_rate=0.01"),
        ("base", "policy.base=normal", "policy.output_scale=0", "learner.epochs=4", "learner.learning_rate=0.003"),
        ("ab2", "sampler.name=ab2"),
        ("data", "policy.parameterisation=data"),
        ("ppo", "algorithm=ppo", "learner.schedule.kind=linear"),
    ):
        words = [word for each in sets for word in ("--set", each)]
        assert (
            cli.run(["train", str(folder / "small.yaml"), "--out", str(folder), "--name", name, "--json", *words]) == 0
        )
    return folder


def studied(run: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.run(["ratio", str(run), "--actions", "32", "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_flow_is_studied_and_its_checkpoint_left_alone(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (runs / "fpo" / checkpoint.LATEST).read_bytes()
    found = studied(runs / "fpo", capsys, "--probes", "2,3", "--out", str(tmp_path / "ratio.png"))
    assert (runs / "fpo" / checkpoint.LATEST).read_bytes() == before
    assert (tmp_path / "ratio.png").read_bytes().startswith(b"\x89PNG")
    assert found["actions"] == 32 and found["dropped"] == 0
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [
        "exact", "continuous flow", *(f"CFM, weighting {each}" for each in ("u", "eps", "data")), "elbo, log-odds < 4",
    ]  # fmt: skip
    exact = rows["exact"]
    assert exact["std"] > 0 and exact["correlation"] is None
    assert exact["along_advantage"] == pytest.approx(exact["std"] * exact["with_advantage"])
    assert found["kl"] == pytest.approx(exact["std"] ** 2 / 2)
    assert rows["continuous flow"]["correlation"] > 0.9  # young, so Euler's map is nearly the flow's
    assert rows["CFM, weighting u"]["correlation"] > 0.8
    kinds = [(row["weighting"], row["probes"], row["law"]) for row in found["noise"]]
    laws = [
        *((2, law) for law in ("uniform", "stratified", "stratified, pairs", "stratified, mirrored")),
        *((3, law) for law in ("uniform", "stratified")),
    ]
    assert kinds == [(weighting, *law) for weighting in ("u", "eps") for law in laws]
    noise = {kind: row["noise"] for kind, row in zip(kinds, found["noise"], strict=True)}
    for weighting in ("u", "eps"):
        assert noise[weighting, 3, "uniform"] < noise[weighting, 2, "uniform"]


def test_the_study_of_a_seed_is_repeatable_and_follows_it(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--probes", "2", "--weightings", "u"]
    first, same = (studied(runs / "fpo", capsys, *options) for _ in range(2))
    assert first == same
    assert first != studied(runs / "fpo", capsys, *options, "--seed", "1")


def test_by_std_the_losses_of_a_flow_to_a_gaussian_are_in_units_of_its_likelihood(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without it they are π/2 times as large at a spread of 1, the sum over the numbers of the action."""
    rows = {row["name"]: row for row in studied(runs / "base", capsys, "--probes", "2", "--weightings", "u")["rows"]}
    exact, by_std, plain = (rows[name] for name in ("continuous flow", "CFM, by_std", "CFM, weighting u"))
    assert by_std["std"] == pytest.approx(exact["std"], rel=0.05)
    assert plain["std"] == pytest.approx(1.57 * exact["std"], rel=0.05)


def test_a_method_of_several_steps_has_the_likelihood_of_the_continuous_flow(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = studied(runs / "ab2", capsys, "--probes", "2", "--weightings", "u")
    assert found["rows"][1]["correlation"] == pytest.approx(1) and found["rows"][1]["slope"] == pytest.approx(1)
    assert any("ab2 is no method of single steps" in note for note in found["notes"])


def test_steps_of_unequal_length_are_no_single_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sampler of the guide, whose first step is half the way: with two steps it is Euler's method."""
    monkeypatch.chdir(tmp_path)
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "samplers.md").read_text()
    code = guide.partition('title="halving.py"\n')[2].partition("```")[0]
    Path("halving.py").write_text(code)
    with user_code.naming_apart():
        user_code.name_code("halving.py:Halving")
        assert ratio_study._one_step("halving.py:Halving", {"steps": 2}, 2) is not None
        assert ratio_study._one_step("halving.py:Halving", {"steps": 4}, 4) is None
    assert ratio_study._one_step("euler", {}, 10) is not None
    assert ratio_study._one_step("ab2", {}, 10) is None


def test_a_gaussian_is_studied_by_its_own_likelihood(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = studied(runs / "ppo", capsys, "--updates", "2")
    assert [row["name"] for row in found["rows"]] == ["exact"] and found["noise"] == []
    assert found["rows"][0]["std"] > 0
    assert any("schedule has ended" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("run", "options", "said"),
    [
        ("data", [], "its network predicts the action (parameterisation: data)"),
        ("fpo", ["--weightings", "u,epss"], "--weightings epss: expected one of u, eps, data, elbo"),
        ("fpo", ["--probes", "0"], "--probes"),
        ("fpo", ["--out", "x.txt"], "x.txt"),
    ],
)
def test_what_cannot_be_studied_is_refused(
    run: str, options: list[str], said: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["ratio", str(runs / run), *options]) == 2
    assert said in capsys.readouterr().err
