"""`flowrl suite --grid`: every combination of values, cells named after them; `flowrl compare --by` groups by a key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowrl import cli
from flowrl.contracts.errors import UsageError
from flowrl.experiments.comparison import load
from flowrl.experiments.suite.grid import Cell, cells, text_of
from flowrl.experiments.suite.plan import SuiteOptions, make_jobs
from flowrl.experiments.suite.trial import Trial, find_trials, trial_of
from flowrl.storage import checkpoint
from tests.small_recipe import small

SMALL = small(64)


def test_there_is_a_cell_for_every_combination_named_after_what_differs() -> None:
    assert cells([]) == [Cell("", ())]
    assert cells(["learner.clip=0.1,2e-1", "learner.gamma=0.9"]) == [
        Cell("clip=0.1,gamma=0.9", ("learner.clip=0.1", "learner.gamma=0.9")),
        Cell("clip=0.2,gamma=0.9", ("learner.clip=0.2", "learner.gamma=0.9")),
    ]
    names = [cell.name for cell in cells(["policy.hidden=[8],[16, 16]", "learner.critic.hidden=[4]"])]
    assert names == ["policy.hidden=8,learner.critic.hidden=4", "policy.hidden=16x16,learner.critic.hidden=4"]
    assert len(cells(["a=1,2,3", "b=1,2", "c=x,y"])) == 12


def test_a_value_becomes_a_safe_and_unmistakable_part_of_a_name() -> None:
    assert [text_of(value) for value in (0.001, 1e-05, True, None, "tanh", [64, 64])] == [
        *("0.001", "1e-05", "true", "null", "tanh", "64x64")
    ]
    odd = [text_of(value) for value in ("a/b", "a_b", "../..", "", {"a": 1}, "x" * 50, "x" * 51)]
    assert len(set(odd)) == len(odd)
    assert all("/" not in text and text not in (".", "..", "") for text in odd)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["learner.clip"], "expected a key and its values"),
        (["learner.clip="], "expected a key and its values"),
        (["learner.clip=0.1,0.10"], "the value 0.1 comes twice"),
        (["learner.clip=0.1", "learner.clip=0.2"], "has a --grid already"),
        (["learner.clip=[0.1"], "--grid learner.clip=[0.1"),
        ([f"a{n}=1,2,3,4,5,6,7,8,9,0" for n in range(5)], "100,000 combinations"),
    ],
)
def test_a_wrong_grid_is_refused(options: list[str], words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        cells(options)
    assert words in str(refusal.value) and str(refusal.value).startswith("--grid")


def test_a_folder_gives_back_its_trial() -> None:
    trial = Trial("cheetah", "fpo++", 3, "clip=0.1,gamma=0.9")
    assert trial_of(trial.folder(Path("out"))) == trial
    assert str(trial.folder(Path("out"))) == "out/cheetah/fpo++,clip=0.1,gamma=0.9/seed3"
    assert trial_of(Path("out/cheetah/fpo/seed0")) == Trial("cheetah", "fpo", 0)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small.yaml and a finished suite of it in `grid`: two learning rates x two depths."""
    folder = tmp_path_factory.mktemp("grid")
    (folder / "small.yaml").write_text(SMALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.run(suite()) == 0
    return folder


@pytest.fixture(autouse=True)
def _inside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "made" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("made"))


def suite(*more: str) -> list[str]:
    grid = ["--grid", "learner.learning_rate=1e-3,2e-3", "--grid", "policy.hidden=[8],[8, 8]"]
    chosen = ["--algorithms", "fpo", "--seeds", "1", "--episodes", "4", "--out", "grid"]
    return ["suite", "small.yaml", *chosen, *grid, *more]


@pytest.mark.slow
def test_every_cell_is_trained_with_its_values(made: Path) -> None:
    found = {trial.cell: checkpoint.load(folder / "ckpt.pt")["config"] for trial, folder in find_trials(made / "grid")}
    values = {cell: (config["learner"]["learning_rate"], config["policy"]["hidden"]) for cell, config in found.items()}
    assert values == {
        "learning_rate=0.001,hidden=8": (0.001, [8]),
        "learning_rate=0.001,hidden=8x8": (0.001, [8, 8]),
        "learning_rate=0.002,hidden=8": (0.002, [8]),
        "learning_rate=0.002,hidden=8x8": (0.002, [8, 8]),
    }


@pytest.mark.slow
def test_the_same_command_keeps_what_is_finished(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(suite("--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["kept"] == 4 and {cell["cell"] for cell in document["cells"]} == {
        *("learning_rate=0.001,hidden=8", "learning_rate=0.001,hidden=8x8"),
        *("learning_rate=0.002,hidden=8", "learning_rate=0.002,hidden=8x8"),
    }


@pytest.mark.slow
def test_a_comparison_groups_by_cell_or_by_any_key(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load.read([Path("grid")]).algorithms == [
        *("fpo,learning_rate=0.001,hidden=8", "fpo,learning_rate=0.001,hidden=8x8"),
        *("fpo,learning_rate=0.002,hidden=8", "fpo,learning_rate=0.002,hidden=8x8"),
    ]
    grouped = load.read([Path("grid")], ["learner.learning_rate"])
    assert grouped.algorithms == ["learning_rate=0.001", "learning_rate=0.002"]
    assert {name: len(group.runs) for (_, name), group in grouped.groups.items()} == {
        "learning_rate=0.001": 2,
        "learning_rate=0.002": 2,
    }
    assert cli.run(["compare", "grid", "--by", "policy.hidden", "--out", "by"]) == 0
    page = capsys.readouterr().out
    assert "hidden=8x8" in page and "were trained with different settings: learner.learning_rate" in page
    assert cli.run(["compare", "grid", "--by", "learner.learningrate", "--out", "by"]) == 2
    assert "Did you mean 'learner.learning_rate'?" in capsys.readouterr().err


def test_numbers_in_labels_are_sorted_by_size() -> None:
    labels = ["clip=10", "clip=9", "clip=1e-3", "clip=0.5", "fpo"]
    assert sorted(labels, key=load._natural) == ["clip=1e-3", "clip=0.5", "clip=9", "clip=10", "fpo"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grid", "learner.clip=0.1,-1"], "--grid learner.clip=-1, key learner.clip: must be > 0"),
        (["--grid", "learner.clpi=0.1,0.2"], "--grid learner.clpi=0.1, key learner.clpi: unknown key"),
        (["--grid", "seed=1,2"], "--grid seed=1,2: the trials of a suite get their seed from --seeds"),
        (["--grid", "learner.clip=0.1", "--set", "learner.clip=0.2"], "--set gives learner.clip a value"),
        (["--grid", "env.id=flowrl/GridWorld-v0,Nope-v3"], "Nope-v3"),
    ],
)
def test_values_are_checked_before_anything_starts(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.yaml").write_text(SMALL)
    assert cli.run(["suite", "small.yaml", "--algorithms", "fpo", *arguments, "--out", "out"]) == 2
    message = capsys.readouterr().err
    assert words in message and message.count("\n") == 1 and not Path("out").exists()


def test_a_suite_without_a_grid_has_the_folders_of_before(tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL)
    options = SuiteOptions((str(tmp_path / "small.yaml"),), ("fpo",), (0,), tmp_path / "out")
    (job,) = make_jobs(options)
    assert job.folder == tmp_path / "out/small/fpo/seed0"
