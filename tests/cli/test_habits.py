"""What users of other tools type by habit gets the command that they mean; nothing shows a library's own words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flowrl import cli
from flowrl.contracts.notices import as_started
from flowrl.storage.checkpoint import LATEST

GRID = """
total_steps: 64
env: {id: flowrl/GridWorld-v0, count: 4}
policy: {hidden: [8]}
sampler: {name: "power.py:Power"}
rollout: {steps: 8}
learner: {epochs: 1, minibatches: 1, critic: {hidden: [8]}}
"""
POWER = """
class Power:
    def __call__(self, velocity, x, t0, t1):
        return x + (t1 - t0) * velocity(x, t0)
"""
ZOO = """
Pendulum-v1: &defaults
  n_envs: 4
  n_timesteps: !!float 1e5
  policy: 'MlpPolicy'
  n_steps: 1024
  n_epochs: 10
  learning_rate: !!float 1e-3
  clip_range: 0.2
  use_sde: True
"""
CLEANRL = "env_id: HalfCheetah-v4\nlearning_rate: 3e-4\nnum_envs: 1\nnum_steps: 2048\nanneal_lr: true\nbatch_size: 64\n"
RSL = """
num_steps_per_env: 24
max_iterations: 1500
policy: {class_name: ActorCritic, init_noise_std: 1.0, actor_hidden_dims: [256]}
algorithm: {class_name: PPO, value_loss_coef: 1.0, clip_param: 0.2, gamma: 0.99, lam: 0.95, desired_kl: 0.01}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text("total_steps: 64\nenv: {id: flowrl/GridWorld-v0}\n")
    (tmp_path / "run").mkdir()
    return tmp_path


HABITS = [  # a command line, and what the message says to type
    ("train x.yaml total_steps=1000", "flowrl train x.yaml --set total_steps=1000"),
    ("train x.yaml +learner.lr=3e-4 n_envs=8", "--set learner.learning_rate=3e-4 --set env.count=8"),
    ("train x.yaml --total-steps 1000", "flowrl train x.yaml --set total_steps=1000"),
    ("train x.yaml --total_steps=1000", "flowrl train x.yaml --set total_steps=1000"),
    ("train x.yaml --algo ppo", "flowrl train x.yaml --set algorithm=ppo"),
    ("train x.yaml --lr 3e-4", "--set learner.learning_rate=3e-4"),
    ("train x.yaml --env Pendulum-v1", "--set env.id=Pendulum-v1"),
    ("train x.yaml --n-envs 8", "--set env.count=8"),
    ("train --config x.yaml", "flowrl train x.yaml"),
    ("train x.yaml --cuda", "flowrl train x.yaml --device cuda"),
    ("train x.yaml --output-dir here", "flowrl train x.yaml --out here"),
    ("train x.yaml --sed 1", "'--seed'"),
    ("resume run", "flowrl train --resume run"),
    ("--resume run", "flowrl train --resume run"),
    ("evaluate run --json", "flowrl eval run --json"),
    ("enjoy run", "flowrl play run"),
    ("x.yaml --seed 1", "flowrl train x.yaml --seed 1"),
    ("gridworld", "flowrl train gridworld"),
    ("help", "flowrl --help"),
    ("eval run --n-episodes 3", "flowrl eval run --episodes 3"),
    ("eval run --deterministic", "flowrl eval run --noise zero"),
    ("eval run --steps 4,x", "--steps 4,x: expected a whole number"),
    ("eval run --sweep 1,2", "flowrl eval run --sweep --sweep-steps 1,2"),
    ("eval run --sweep euler:1,ab2:4 --episodes 8", "flowrl eval run --sweep --episodes 8 --sampler euler:1,ab2:4"),
    ("play run --out a.mp4", "flowrl play run --video a.mp4"),
]


@pytest.mark.parametrize(("typed", "advice"), HABITS, ids=lambda text: text[:40])
def test_a_habit_of_another_tool_gets_the_command_that_is_meant(
    typed: str, advice: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(typed.split()) == 2
    message = capsys.readouterr().err
    assert advice in message
    assert message.startswith("flowrl: ")
    assert message.count("\n") == 1
    assert "Input should" not in message


def test_an_option_that_means_nothing_gets_no_suggestion(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "x.yaml", "--bogus"]) == 2
    assert capsys.readouterr().err == "flowrl: No such option: --bogus. Type: flowrl train --help\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ZOO, ["RL Baselines3 Zoo", "n_envs -> env.count", "n_timesteps -> total_steps", "n_steps -> rollout.steps"]),
        (ZOO, ["learning_rate -> learner.learning_rate", "Without a counterpart: use_sde"]),
        (ZOO.replace("!!float ", "").replace("&defaults", ""), ["RL Baselines3 Zoo", "clip_range -> learner.clip"]),
        (CLEANRL, ["CleanRL", "env_id -> env.id", "anneal_lr -> learner.schedule.kind", "a number, not a size"]),
        (RSL, ["rsl_rl", "max_iterations -> total_steps (environment steps", "lam -> learner.gae_lambda"]),
    ],
)
def test_a_recipe_of_another_tool_is_recognised_and_its_keys_are_placed(
    text: str, words: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other.yml").write_text(text)
    for override in ([], ["--set", "env.id=Pendulum-v1"]):
        assert cli.run(["train", "other.yml", *override]) == 2
        message = capsys.readouterr().err
        for word in [*words, "other.yml: these are settings of", "env: {id: Pendulum-v1, count: 16}"]:
            assert word in message
        assert "kind ->" not in message, "keys of the preset were not written"


RECIPES = [  # a recipe, --set, and what the message says
    (
        "total_stepz: 9\nenv: {id: Pendulum-v1}\n",
        "",
        "line 1, key total_stepz: unknown key. Did you mean 'total_steps'?",
    ),
    ("env: {n_envs: 3}\ngama: 1\n", "", "line 1, key env.n_envs: unknown key. Did you mean 'count'?"),
    ("env: {n_envs: 3}\ngama: 1\n", "", "key gama: unknown key (did you mean 'learner.gamma'?)"),
    ("total_steps: 9\nenv: {id: Pendulum-v1}\n", "learner.lr=1", "Did you mean 'learner.learning_rate'?"),
]


@pytest.mark.parametrize(("text", "override", "words"), RECIPES)
def test_unknown_keys_come_before_missing_ones(
    text: str, override: str, words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine.yaml").write_text(text)
    assert cli.run(["train", "mine.yaml", *(["--set", override] if override else [])]) == 2
    message = capsys.readouterr().err
    assert words in message
    assert "total_steps: this key is missing" not in message or message.index("unknown") < message.index("missing")
    assert "total_stepz" not in message or "missing" not in message, "it is misspelt, not missing"


def test_a_misspelt_recipe_gets_the_suggestion_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "pendlum.yaml"]) == 2
    message = capsys.readouterr().err
    assert message.endswith("Did you mean 'pendulum.yaml'?\n")


def test_another_environment_than_the_recipe_was_tuned_for_is_a_warning(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["train", "pendulum.yaml", "--set", "env.id=HalfCheetah-v5", "--dry-run"]) == 0
    warning = capsys.readouterr().err.splitlines()[0]
    assert warning.startswith("warning: pendulum.yaml was tuned for Pendulum-v1, and HalfCheetah-v5 is trained with")
    assert warning.endswith("Type flowrl train halfcheetah.yaml, which was tuned for that environment.")
    assert cli.run(["train", "pendulum.yaml", "--set", "env.id=Pendulum-v1", "--dry-run"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_missing_run_has_the_same_exit_code_everywhere(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("eval", "play", "plot", "inspect", "bench-latency"):
        assert cli.run([command, "runs/nowhere"]) == 4
        message = capsys.readouterr().err
        assert "runs/nowhere" in message
        assert "runs/runs" not in message


def test_a_run_with_a_sampler_file_leads_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The next: line of each command works, and so does what the refusal says to type."""
    Path("power.py").write_text(POWER)
    Path("grid.yaml").write_text(GRID)
    assert cli.run(["train", "grid.yaml", "--name", "a"]) == 0
    for _ in range(3):  # the next: line of train, then those of two evaluations
        command = capsys.readouterr().err.splitlines()[-1].removeprefix("next: flowrl ").split()
        assert cli.run([*command, *(["--episodes", "2"] if command[0] == "eval" else ["--batch", "1"])]) == 0
    assert command[0] == "bench-latency"
    capsys.readouterr()
    for command in (["inspect", "runs/a"], ["plot", "runs/a"]):
        assert cli.run(command) == 0
        assert capsys.readouterr().err.splitlines()[-1].endswith("--import power.py")
    assert cli.run(["bench-latency", f"runs/a/{LATEST}"]) == 2
    assert "only when you name it: --import power.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sampler", "words"),
    [
        ("euler10", "Did you mean 'euler:10'"),
        ("heun-4", "Did you mean 'heun:4'"),
        ("euler:x", "after the colon comes the number of steps"),
        ("euler:0", "--sampler euler:0: must be >= 1"),
    ],
)
def test_a_sampler_is_reported_as_it_was_typed(
    sampler: str, words: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("power.py").write_text(POWER)
    Path("grid.yaml").write_text(GRID)
    assert cli.run(["train", "grid.yaml", "--name", "a", "--json"]) == 0
    assert cli.run(["eval", "runs/a", "--sampler", sampler]) == 2
    assert words in capsys.readouterr().err
    assert cli.run(["eval", "runs/a", "--sampler", "euler", "--noise", "blue"]) == 2
    assert "--noise blue: expected random, zero or fixed" in capsys.readouterr().err


def test_messages_name_the_command_as_the_user_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [".venv/bin/flowrl"])
    assert as_started("Type: flowrl train gridworld.yaml") == "Type: .venv/bin/flowrl train gridworld.yaml"
    assert as_started("a bug in flowrl, see src/flowrl train") == "a bug in flowrl, see src/flowrl train"
    assert cli.run(["resume", "run"]) == 2
    assert "Did you mean: .venv/bin/flowrl train --resume run?" in capsys.readouterr().err
