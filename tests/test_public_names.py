"""`import flowrl`: public names are lazy, documented and known to type checkers; the examples run."""

from __future__ import annotations

import ast
import inspect
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import flowrl
from flowrl.contracts.errors import UsageError
from flowrl.experiments import api
from tests.other_process import Fork

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
TINY = {
    "total_steps": 64,
    "env.count": 4,
    "policy.hidden": [8],
    "rollout.steps": 8,
    "learner.epochs": 1,
    "learner.minibatches": 1,
    "learner.critic.hidden": [8],
}


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)


def test_every_public_name_is_in_the_stub_and_documented() -> None:
    stub = ast.parse((ROOT / "src/flowrl/__init__.pyi").read_text())
    imported = {
        alias.asname: f"{node.module}" for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == flowrl._HOMES
    for name in flowrl._HOMES:
        assert len(inspect.getdoc(getattr(flowrl, name)) or "") > 40, name
    assert set(flowrl._HOMES) <= set(dir(flowrl))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'flowrl' has no attribute 'trian'"):
        _ = flowrl.trian  # type: ignore[attr-defined]
    with pytest.raises(ImportError):
        from flowrl import trian  # type: ignore[attr-defined]  # noqa: F401


def test_importing_flowrl_imports_nothing_else(tmp_path: Path) -> None:
    code = "import sys; before = set(sys.modules); import flowrl; print(sorted(set(sys.modules) - before))"
    assert python(code, tmp_path).stdout.strip() == "['flowrl']"


def test_a_config_is_that_of_the_recipe_with_overrides() -> None:
    config = flowrl.load_config("gridworld", {"learner.clip": 0.125, "policy.hidden": [4, 4], "noise": "zero"})
    assert (config.learner.clip, config.policy.hidden, config.noise) == (0.125, (4, 4), "zero")  # type: ignore[attr-defined]
    assert flowrl.load_config("gridworld", ["learner.clip=0.125", "policy.hidden=[4, 4]", "noise=zero"]) == config
    with pytest.raises(UsageError, match="must be > 0, got -1"):
        flowrl.load_config("gridworld", {"learner.clip": -1})
    with pytest.raises(UsageError, match="a mapping or a list"):
        flowrl.load_config("gridworld", "learner.clip=1")


def test_training_in_python_is_that_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flowrl import cli
    from flowrl.storage import checkpoint

    monkeypatch.chdir(tmp_path)
    seen: list[dict[str, float]] = []
    result = flowrl.train(flowrl.load_config("gridworld", TINY), name="python", callbacks=[lambda m: seen.append(m)])
    sets = [word for override in api._as_settings(TINY) for word in ("--set", override)]
    assert cli.run(["train", "gridworld", *sets, "--name", "command", "--json"]) == 0
    one, other = (checkpoint.load(tmp_path / "runs" / name / "ckpt.pt") for name in ("python", "command"))
    assert all(torch.equal(one["actor"][name], other["actor"][name]) for name in one["actor"])
    assert (result.env_steps, [metrics["env_steps"] for metrics in seen]) == (64, [32, 64])
    longer = flowrl.train(resume=result.folder, overrides={"total_steps": 96})
    assert (longer.env_steps, longer.session_env_steps) == (96, 32)
    with pytest.raises(UsageError, match="take no overrides"):
        flowrl.train(flowrl.load_config("gridworld", TINY), {"seed": 1})


def test_a_run_is_named_after_the_recipe_or_the_environment(tmp_path: Path) -> None:
    recipe = flowrl.train("gridworld", {**TINY, "total_steps": 32}, out=tmp_path)
    settings = flowrl.train(flowrl.load_config("gridworld", {**TINY, "total_steps": 32, "seed": 3}), out=tmp_path)
    assert [recipe.folder.name, settings.folder.name] == ["gridworld-fpo-seed0", "gridworld-fpo-seed3"]


def test_a_sampler_object_acts_like_the_named_one(tmp_path: Path) -> None:
    class Straight:
        """Euler's method with two steps."""

        nfe = 2

        def __call__(self, velocity: flowrl.Sampler, x: torch.Tensor, t0: float, t1: float) -> torch.Tensor:
            middle = (t0 + t1) / 2
            x = x + (middle - t0) * velocity(x, t0)  # type: ignore[call-arg, arg-type]
            return x + (t1 - middle) * velocity(x, middle)  # type: ignore[call-arg, arg-type]

    folder = flowrl.train("gridworld", TINY, out=tmp_path).folder
    named = flowrl.evaluate(folder, sampler="euler", steps=2, episodes=8)
    own = flowrl.evaluate(folder, sampler=Straight(), episodes=8)
    assert (own["sampler"], own["nfe"], own["return_mean"]) == ("Straight", 2, named["return_mean"])
    with pytest.raises(UsageError, match="has its steps itself"):
        flowrl.evaluate(folder, sampler=Straight(), steps=3)
    gaussian = flowrl.train("gridworld", {**TINY, "algorithm": "ppo"}, out=tmp_path).folder
    with pytest.raises(UsageError, match="the policy has no flow"):
        flowrl.evaluate(gaussian, sampler=Straight())


def test_environments_are_made_by_id_or_settings() -> None:
    env = flowrl.make_env("flowrl/GridWorld-v0", 3, options={"max_steps": 5})
    obs = env.reset(seed=0)
    step = env.step(torch.zeros(3, env.action_size))
    assert obs.shape == step.obs.shape == (3, env.observation_size) and step.reward.shape == (3,)
    assert flowrl.make_env(flowrl.load_config("gridworld"), count=2).count == 2
    with pytest.raises(UsageError, match="cuont"):
        flowrl.make_env("flowrl/GridWorld-v0", cuont=3)
    with pytest.raises(UsageError, match="options is a key of the settings"):
        flowrl.make_env(flowrl.load_config("gridworld"), options={})


def test_an_own_surrogate_replaces_that_of_the_settings() -> None:
    """PPO's own function, given as the user's, makes the same update; another one does not."""
    from flowrl.experiments import build
    from flowrl.training import surrogate

    def updated(own: object) -> torch.Tensor:
        run = build.Run(flowrl.load_config("gridworld", TINY))
        learner = run.training.learner
        fresh = flowrl.Learner(learner.estimator, learner.critic, learner.normaliser, run.config.learner, 2, 0, own)  # type: ignore[arg-type]
        run.training.learner = fresh
        run.start()
        run.training.iterate()
        run.env.close()
        return torch.cat([parameter.flatten() for parameter in fresh.actor.parameters()])

    assert torch.equal(updated(None), updated(surrogate.SURROGATES[flowrl.load_config("gridworld").learner.surrogate]))
    assert not torch.equal(updated(None), updated(lambda log_ratio, advantage, clip: -advantage * log_ratio))


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    """With no more than 12,000 steps."""
    text, budgets = re.subn(r'"total_steps": ([\d_]+)', shorter, (ROOT / "examples" / name).read_text())
    assert budgets == 1
    (tmp_path / name).write_text(text)
    done = Fork(tmp_path, lambda: runpy.run_path(name, run_name="__main__")).finish()
    assert done.code == 0, done.err
    assert "return" in done.out


def shorter(budget: re.Match[str]) -> str:
    """The budget, or 12,000 steps where it is longer."""
    return f'"total_steps": {min(int(budget[1]), 12_000)}'


def test_there_is_an_example_of_each_kind() -> None:
    kinds = ("sampler", "environment", "mujoco_task", "surrogate")
    assert {"train_in_python.py", *(f"own_{kind}.py" for kind in kinds)} <= set(EXAMPLES)


def blocks(page: str) -> list[str]:
    """The Python code in a page of docs/."""
    return [block.partition("```")[0] for block in (ROOT / "docs" / page).read_text().split("```python\n")[1:]]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(2))
def test_the_code_of_the_page_runs(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(blocks("python.md")) == 2
    exec(blocks("python.md")[number], {})  # noqa: S102


def test_the_callbacks_of_the_page_are_callbacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from flowrl.contracts import user_code
    from flowrl.experiments import callbacks

    (block,) = blocks("tracking.md")
    (tmp_path / "my_callbacks.py").write_text(block)
    names = [f"{tmp_path}/my_callbacks.py:{name}" for name in ("stop_when_solved", "Best")]
    user_code.name_code(*names)
    called = callbacks.load(flowrl.load_config("gridworld", {"callbacks": names}))
    called({"return_mean": 10.0})
    assert called.stopped_by is None
    called({"return_mean": 960.0})
    called.close()
    assert called.stopped_by == names[0] and capsys.readouterr().out == "best return 960.0\n"
