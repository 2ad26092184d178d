"""`flowrl sweep`: a checked space, trials that survive a kill, and a best recipe that `flowrl train` takes."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import flowrl
from flowrl import cli
from flowrl.contracts.errors import UsageError
from flowrl.contracts.installing import reinstall
from flowrl.experiments.sweep import space as spaces
from flowrl.experiments.sweep import study as studies
from flowrl.experiments.sweep.runner import SweepRunner
from flowrl.experiments.sweep.space import Dimension, overrides_of, read
from flowrl.storage import checkpoint
from tests.other_process import Command, descendants

SMALL = """
total_steps: 640
env: {id: flowrl/GridWorld-v0, count: 4}
policy: {hidden: [8]}
sampler: {name: euler, steps: 2}
rollout: {steps: 8}
learner: {epochs: 1, minibatches: 1, learning_rate: 1e-3, critic: {hidden: [8]}}
fpo: {learner: {clip: 0.2}}
"""
SPACE = """
learner.learning_rate: {low: 1e-4, high: 1e-2, log: true}
learner:
  clip: {low: 0.05, high: 0.5}
  epochs: {low: 1, high: 3}
policy.hidden: [[8], [16, 16]]
"""
needs_optuna = pytest.mark.skipif(importlib.util.find_spec("optuna") is None, reason="optuna is not installed")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def space(text: str) -> list[Dimension]:
    Path("space.yaml").write_text(text)

    def check(override: str) -> None:
        flowrl.load_config("small.yaml", [override])

    return read(Path("space.yaml"), check)


# --- the space ------------------------------------------------------------------------------------


def test_keys_are_written_with_dots_or_nested() -> None:
    rate, clip, epochs, hidden = space(SPACE)
    assert (rate.key, rate.low, rate.high, rate.log, rate.whole) == ("learner.learning_rate", 1e-4, 1e-2, True, False)
    assert (clip.key, clip.low, clip.high, clip.log) == ("learner.clip", 0.05, 0.5, False)
    assert (epochs.key, epochs.low, epochs.high, epochs.whole) == ("learner.epochs", 1, 3, True)
    assert (hidden.key, hidden.choices) == ("policy.hidden", ([8], [16, 16]))
    assert str(epochs.place) == "space.yaml line 5, key learner.epochs"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learner.learningrate: {low: 1, high: 2}", "line 1, key learner.learningrate: learner.learningrate is no key"),
        ("learner.learningrate: {low: 1, high: 2}", "Did you mean 'learner.learning_rate'"),
        ("lr: {low: 1, high: 2}", "Did you mean 'learner.learning_rate'"),
        ("learner.clip: {low: 0.1, hgih: 0.2}", "unknown key"),
        ("learner.clip: {low: 0.1}", "high"),
        ("learner.clip: {low: 0.2, high: 0.1}", "low is 0.2 and high is 0.1: low must be less"),
        ("learner.clip: {low: 0, high: 0.1, log: true}", "low must be > 0"),
        ("learner.clip: {low: 0.1, high: 1, log: true, step: 0.1}", "there are no steps"),
        ("learner.clip: {low: 0.1, high: 0.2, step: 1}", "step is 1"),
        ("learner.clip: {low: -1, high: 0.2}", "line 1, key learner.clip: the value -1 does not fit: must be > 0"),
        ("learner.epochs: {low: 1, high: 2.5}", "is a whole number"),
        ("policy.activation: {low: 1, high: 2}", "is not a number, so it has no range"),
        ("policy.activation: [relu, rulu]", 'the value "rulu" does not fit'),
        ("policy.activation: [relu]", "expected two or more choices that differ"),
        ("policy.activation: [relu, relu]", "expected two or more choices that differ"),
        ("policy.activation: relu", "expected a range"),
        ("learner: [1, 2]", "is a block of keys"),
        ("seed: {low: 1, high: 3}", "from --seeds"),
        ("total_steps: {low: 1, high: 3}", "from --steps"),
        ("learner.clip: [0.1, 0.2]\nlearner: {clip: [0.1, 0.3]}", "learner.clip is there twice"),
        ("env.options.max_step: [5, 6]", "does not fit|max_step"),
    ],
)
def test_a_wrong_space_is_refused_with_line_and_key(text: str, words: str) -> None:
    if "max_step" in text:  # options of an environment are known when it is made, not before
        assert space(text)[0].choices == (5, 6)
        return
    with pytest.raises(UsageError) as refusal:
        space(text)
    assert words in str(refusal.value) and str(refusal.value).startswith("space.yaml")


def test_values_survive_the_storage() -> None:
    rate, clip, epochs, hidden = space(SPACE)
    assert [each.value(each.stored(value)) for each, value in
            ((rate, 1e-3), (clip, 0.05), (epochs, 2), (hidden, [16, 16]))] == [1e-3, 0.05, 2, [16, 16]]  # fmt: skip
    for each, value in ((rate, 1), (epochs, 4), (hidden, [8, 8]), (clip, None), (epochs, True)):
        with pytest.raises(ValueError, match=r"^$"):
            each.stored(value)
    stepped = Dimension("a", rate.place, low=0.0, high=1.0, step=0.25)
    assert stepped.stored(0.5) == 0.5
    with pytest.raises(ValueError, match=r"^$"):
        stepped.stored(0.6)
    values = {"learner.learning_rate": 1e-3, "learner.clip": 0.3, "learner.epochs": 2, "policy.hidden": [16, 16]}
    config = flowrl.load_config("small.yaml", overrides_of([rate, clip, epochs, hidden], values))
    assert (config.learner.learning_rate, config.learner.clip, config.policy.hidden) == (1e-3, 0.3, (16, 16))  # type: ignore[attr-defined]


def options(**changed: Any) -> studies.SweepOptions:
    known: dict[str, Any] = {
        "recipe": "small.yaml", "space": tuple(space(SPACE)), "trials": 3, "seeds": (0,), "out": Path("out"),
    }  # fmt: skip
    return studies.SweepOptions(**known | changed)


def test_the_best_recipe_has_the_settings_of_the_trial() -> None:
    """Also those that the recipe sets in the section of its algorithm, which would win over other keys."""
    values = {"learner.learning_rate": 2e-3, "learner.clip": 0.3, "learner.epochs": 2, "policy.hidden": [16, 16]}
    chosen = options(steps=320, overrides=("learner.gamma=0.5",))
    Path("best.yaml").write_text(studies.best_recipe(chosen, values))
    overrides = ["total_steps=320", "learner.gamma=0.5", *overrides_of(chosen.space, values)]
    assert flowrl.load_config("best.yaml") == flowrl.load_config("small.yaml", overrides)
    assert flowrl.load_config("best.yaml").learner.clip == 0.3


def test_a_sweep_without_optuna_names_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert cli.run(["sweep", "small.yaml", "--space", "space.yaml"]) == 8
    assert reinstall("sweep") in capsys.readouterr().err and not Path("runs").exists()


# --- sweeps ---------------------------------------------------------------------------------------


def sweep(*more: str) -> list[str]:
    return ["sweep", "small.yaml", "--space", "space.yaml", "--episodes", "4", "--out", "out", *more]


@needs_optuna
@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_killed_sweep_continues_and_its_best_recipe_trains(folder: Path) -> None:
    Path("small.yaml").write_text(SMALL.replace("total_steps: 640", "total_steps: 9600"))
    process = Command(folder, *sweep("--trials", "2"))
    running = Path("out/trial0000/seed0")
    lines = running / "metrics.jsonl"
    process.wait_for(lambda: lines.is_file() and lines.read_text().count("\n") >= 20)
    for pid in (process.pid, *descendants(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.end()
    begun = checkpoint.load(running / "ckpt.pt")["progress"]["iteration"]

    code, out, errors = Command(folder, *sweep("--trials", "2", "--json"), sharing=True).finish()
    assert code == 0, errors
    assert "2 trials: 0 done, 1 to continue; 1 at a time" in errors
    document = json.loads(out)
    by_number = sorted(document["trials"], key=lambda each: each["trial"])
    assert [(trial["trial"], trial["state"]) for trial in by_number] == [
        (0, "finished"), (1, "finished"),
    ]  # fmt: skip
    log = Path("out/trial0000/seed0.log").read_text()
    assert log.count("$ flowrl train small.yaml") == 1 and log.count("$ flowrl train --resume") == 1 and begun >= 0
    first = next(trial for trial in document["trials"] if trial["trial"] == 0)
    assert first["values"] == {  # the recipe as it is
        "learner.learning_rate": 1e-3, "learner.clip": 0.2, "learner.epochs": 1, "policy.hidden": [8],
    }  # fmt: skip
    assert document["best"]["return"] == max(trial["return"] for trial in document["trials"])
    content = checkpoint.load(Path(document["best"]["folder"]) / "seed0/ckpt.pt")
    best = flowrl.load_config("out/best.yaml", ["threads=1", "env.threads=1"])
    assert best.model_dump(mode="json") == content["config"]


@needs_optuna
@pytest.mark.slow
def test_imported_code_reaches_the_trials_and_the_best_recipe(folder: Path) -> None:
    Path("mine.py").write_text(
        "import gymnasium\nfrom gymnasium.envs.classic_control import PendulumEnv\n"
        "gymnasium.register('Mine-v0', PendulumEnv, max_episode_steps=20)\n"
    )
    Path("small.yaml").write_text(SMALL.replace("flowrl/GridWorld-v0", "Mine-v0"))
    assert cli.run(sweep("--trials", "1")) == 2  # nobody has registered the id
    shutil.rmtree("out")
    assert cli.run(sweep("--trials", "1", "--import", "mine.py")) == 0
    best = flowrl.load_config("out/best.yaml")
    assert (best.imports, best.env.id) == (("mine.py",), "Mine-v0")


@needs_optuna
def test_a_sweep_with_other_options_is_refused(folder: Path) -> None:
    study = studies.open_study(options(), 1)
    assert [trial.state.name for trial in study.trials] == ["WAITING"]  # the recipe as it is
    studies.open_study(options(trials=9), 2)
    for changed, words in (
        ({"seeds": (0, 1)}, "seeds was '0' and is '0,1'"),
        ({"steps": 64}, "steps was None and is 64"),
        ({"space": tuple(space(SPACE.replace("0.5", "0.6")))}, "space was"),
    ):
        with pytest.raises(UsageError) as refusal:
            studies.open_study(options(**changed), 1)
        assert words in str(refusal.value) and "choose another --out" in str(refusal.value)


@needs_optuna
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_several_seeds_are_averaged_and_trials_run_side_by_side(folder: Path) -> None:
    words = sweep("--trials", "1", "--seeds", "2", "--jobs", "2", "--pruner", "median", "--json")
    code, out, errors = Command(folder, *words, sharing=True).finish()
    assert code == 0, errors
    for trial in json.loads(out)["trials"]:
        assert len(trial["returns"]) == 2 and trial["return"] == pytest.approx(sum(trial["returns"]) / 2)
        saved = [checkpoint.load(Path(trial["folder"]) / f"seed{seed}/ckpt.pt")["config"] for seed in (0, 1)]
        assert [config["seed"] for config in saved] == [0, 1]
        assert {config["learner"]["learning_rate"] for config in saved} == {trial["values"]["learner.learning_rate"]}


@needs_optuna
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_sweep_whose_trials_all_fail_ends_with_their_exit_code(folder: Path) -> None:
    Path("space.yaml").write_text("env.options.max_steps: [-3, -2]\n")
    code, errors = Command(folder, *sweep("--trials", "1"), sharing=True).end()
    assert code == 2 and "Traceback" not in errors, errors
    assert not Path("out/best.yaml").exists()


@needs_optuna
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_pruned_trial_is_stopped_and_saved(folder: Path) -> None:
    chosen = options(trials=1, pruner="median", steps=640_000)
    study = studies.open_study(chosen, 1)
    study.pruner = studies.optuna().pruners.ThresholdPruner(lower=1e9)  # which every trial misses
    said: list[str] = []
    outcome = SweepRunner(study, chosen, 1, said.append, lambda progress: None).run()
    (trial,) = study.trials
    assert (trial.state.name, trial.user_attrs["message"]) == ("PRUNED", "pruned at 5 % of its budget")
    steps = checkpoint.load(Path("out/trial0000/seed0/ckpt.pt"))["progress"]["env_steps"]
    assert 32_000 <= steps < 640_000 and outcome.exit_code == 0 and said[-1] == "trial 0: pruned at 5 % of its budget"


@needs_optuna
def test_values_that_do_not_fit_together_end_their_trial_alone(folder: Path) -> None:
    """Each is right with the recipe's own values of the other keys: the entropy of a flow has no closed form."""
    Path("small.yaml").write_text(f"algorithm: ppo\n{SMALL}")
    pair = space("algorithm: [ppo, fpo]\nlearner.entropy_coefficient: [0.0, 0.01]\n")
    chosen = options(trials=1, space=tuple(pair))
    study = studies.open_study(chosen, 1)
    first = study.ask()  # the recipe as it is
    assert [each.suggest(first) for each in pair] == ["ppo", 0.0]
    study.tell(first.number, 0.0)
    study.enqueue_trial({"algorithm": '"fpo"', "learner.entropy_coefficient": "0.01"})
    outcome = SweepRunner(study, options(trials=2, space=tuple(pair)), 1, print, lambda progress: None).run()
    _, trial = study.trials
    assert trial.state.name == "FAIL" and "needs a gaussian policy" in trial.user_attrs["message"]
    assert outcome.exit_code == 0 and not Path("out/trial0001").exists()


@needs_optuna
def test_importance_is_that_of_the_key_that_matters() -> None:
    """Of two keys the value depends on one alone."""
    library = studies.optuna()
    study = library.create_study(direction="maximize", sampler=library.samplers.RandomSampler(seed=0))
    for number in range(40):
        trial = study.ask()
        a, _ = trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1)
        study.tell(trial, a if number else 0.0)
    shares = studies.importance(study)
    assert next(iter(shares)) == "a" and shares["a"] > 0.6 and sum(shares.values()) == pytest.approx(1)
    assert studies.importance(library.create_study()) == {}


def test_every_open_block_is_a_block_of_the_recipe() -> None:
    keys = set(spaces.keys_of(spaces.Config))
    assert all(block in keys for block in spaces.OPEN_BLOCKS)
