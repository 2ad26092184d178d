"""Bad input from a user's hands: the right exit code, no traceback, the culprit by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowrl import cli

GOOD = """
algorithm: fpo
total_steps: 64
env: {id: flowrl/GridWorld-v0, count: 4}
policy: {hidden: [8]}
sampler: {name: euler, steps: 2}
rollout: {steps: 8}
learner: {epochs: 1, minibatches: 1, critic: {hidden: [8]}}
"""

CONFIGS = [  # what is wrong in the recipe, what the message must name
    ("learner: {lr: 1e-3}", ["learning_rate"]),
    ("learner: {learning_rate: fast}", ["learning_rate", "fast"]),
    ("learner: {learning_rate: -1e-3}", ["learning_rate", "-0.001"]),
    ("learner: {learning_rate: .nan}", ["learning_rate"]),
    ("learner: {learning_rate: .inf}", ["learning_rate"]),
    ("learner: {clip: 0}", ["clip"]),
    ("learner: {epochs: 2.5}", ["epochs", "2.5"]),
    ("learner: {epochs: '3'}", ["epochs"]),
    ("learner: {epochs: true}", ["epochs"]),
    ("learner: {normalise_observations: 'yes'}", ["normalise_observations"]),
    ("learner: {surrogate: pppo}", ["surrogate", "ppo"]),
    ("learner: {ratio: likelihood}", ["likelihood", "gaussian"]),
    ("learner: {probes: {count: 0}}", ["count"]),
    ("learner: {probes: {law: unifrom}}", ["uniform"]),
    ("learner: {loss: {weighting: epsilon}}", ["weighting", "eps"]),
    ("learner: {loss: {reduction: average}}", ["reduction", "mean"]),
    ("learner: {gamma: 1.1}", ["gamma"]),
    ("learner: {schedule: cosine}", ["schedule"]),
    ("learner: {schedule: {kind: cosine}}", ["kind", "cosine"]),
    ("learner: {entropy_coefficient: 0.01}", ["entropy_coefficient", "gaussian"]),
    ("learner: [1, 2]", ["learner"]),
    ("learner: 3", ["learner"]),
    ("leaner: {clip: 0.1}", ["leaner", "learner"]),
    ("ppo: {learner: {clpi: 0.2}}", ["ppo.learner.clpi", "clip"]),
    ("fpo: {algorithm: ppo}", ["fpo.algorithm", "root"]),
    ("algorithm: fpo+", ["fpo+", "fpo++"]),
    ("algorithm: [fpo]", ["algorithm"]),
    ("total_steps: 0", ["total_steps"]),
    ("total_steps: 1e3.5", ["total_steps"]),
    ("total_steps: many", ["total_steps", "many"]),
    ("timesteps: 100", ["timesteps", "total_steps"]),
    ("seed: -1", ["seed"]),
    ("device: tpu", ["device", "tpu"]),
    ("threads: 0", ["threads"]),
    ("noise: none", ["noise", "zero"]),
    ("env: {id: flowrl/GridWorld-v0, n_envs: 4}", ["n_envs", "count"]),
    ("env: {count: 4}", ["id"]),
    ("env: {id: 3}", ["id"]),
    ("env: {id: Pendulm-v1}", ["Pendulum-v1"]),
    ("env: {id: CartPole-v1}", ["CartPole-v1", "Discrete"]),
    ("env: {id: 'os:Pendulum-v9'}", ["os registers no environment 'Pendulum-v9'", "Did you mean 'Pendulum-v1'"]),
    ("env: {id: flowrl/GridWorld-v0, options: {mode: two_wall}}", ["two_walls"]),
    ("env: {id: flowrl/GridWorld-v0, options: {size: 3}}", ["size"]),
    ("env: {id: flowrl/GridWorld-v0, options: {start: [0, 0]}}", ["start"]),
    ("env: {id: flowrl/GridWorld-v0, squash: sigmoid}", ["squash", "tanh"]),
    ("policy: {hidden: []}", ["hidden"]),
    ("policy: {hidden: 64}", ["hidden"]),
    ("policy: {hidden: [64, 0.5]}", ["hidden"]),
    ("policy: {activation: gelu}", ["activation", "gelu"]),
    ("policy: {kind: gaussian}", ["gaussian"]),
    ("policy: {std: 1}", ["std"]),
    ("sampler: {name: eular}", ["eular", "euler"]),
    ("sampler: {name: euler, steps: 0}", ["steps"]),
    ("sampler: {name: euler, rtol: 1e-3}", ["rtol"]),
    ("sampler: {name: no/such/file.py:Sampler}", ["no/such/file.py"]),
    ("seed: 1\nseed: 2", ["seed", "line"]),
    ("a: &x [1]\nb: *x", ["line"]),
    ("learner: {clip: 0.1", ["line"]),
    ("\tlearner: 1", ["line"]),
    ("learner: !!python/object/apply:os.system ['true']", ["line"]),
]

COMMANDS = [  # command line, exit code, what the message must name
    (["train"], 2, ["gridworld.yaml"]),
    (["train", "gridwrld.yaml"], 2, ["gridworld.yaml"]),
    (["train", "gridworld.yaml", "--set", "learner.clip"], 2, ["="]),
    (["train", "gridworld.yaml", "--set", "learner.clpi=1"], 2, ["learner.clpi", "clip"]),
    (["train", "gridworld.yaml", "--set", "seed.x=1"], 2, ["seed"]),
    (["train", "gridworld.yaml", "--sed", "1"], 2, ["--sed", "--seed"]),
    (["train", "gridworld.yaml", "--seed", "one"], 2, ["--seed one", "whole number"]),
    (["train", "gridworld.yaml", "--resume", "runs/x"], 2, ["gridworld.yaml"]),
    (["train", "--resume", "runs/nothing"], 4, ["runs/nothing"]),
    (["train", "gridworld.yaml", "--out", "file.txt"], 6, ["file.txt"]),
    (["eval", "missing.pt"], 4, ["missing.pt"]),
    (["eval", "file.txt"], 4, ["file.txt"]),
    (["eval"], 2, ["CKPT"]),
    (["eval", "run", "--sampler", "hein"], 2, ["hein", "heun"]),
    (["eval", "run", "--steps", "0"], 2, ["steps"]),
    (["eval", "run", "--noise", "zeros"], 2, ["zeros", "zero"]),
    (["eval", "run", "--env", "Pendulum-v1"], 2, ["Pendulum-v1", "3"]),
    (["eval", "run", "--episodes", "0"], 2, ["episodes"]),
    (["eval", "run", "--sweep-steps", "1,two"], 2, ["1,two"]),
    (["eval", "run", "--sampler", "dopri5", "--set", "sampler.max_nfe=3"], 2, ["max_nfe", "3"]),
    (["eval", "run", "--steps", "4", "--sweep-steps", "1,2"], 2, ["--steps", "--sweep-steps"]),
    (["eval", "run", "--sampler", "bad.py:Short"], 2, ["Short", "(64, 1)", "(64, 2)"]),
    (["eval", "run", "--sampler", "bad.py:Silent"], 2, ["Silent", "NoneType"]),
    (["eval", "run", "--sampler", "bad.py:Crashing"], 2, ["ZeroDivisionError", "bad.py:16"]),
    (["eval", "run", "--sampler", "bad.py:Undefined"], 3, ["action", "sampler"]),
    (["train", "good.yaml", "--set", "env.id=flowrl/CheetahRun-v0", "--set", "env.options={task: x}"], 2, ["task"]),
    (["eval", "run", "--set", "sampler.stpes=3"], 2, ["stpes", "steps"]),
    (["eval", "run", "--episodes", "2", "--min-return", "1e9"], 7, ["1e+09"]),
    (["bench-latency", "missing.pt"], 4, ["missing.pt"]),
    (["bench-latency", "--samplers", "euler,hein"], 2, ["hein", "heun"]),
    (["bench-latency", "--batch", "0"], 2, ["batch"]),
    (["samplers", "check", "hein"], 2, ["hein", "heun"]),
    (["envs", "Pendulm-v1"], 2, ["Pendulum-v1"]),
    (["plot", "nowhere"], 4, ["nowhere"]),
    (["plot", "run", "--out", "figure.docx"], 2, [".png"]),
    (["inspect", "file.txt"], 4, ["file.txt"]),
    (["trian", "gridworld.yaml"], 2, ["trian", "train"]),
]

SAMPLERS = """
class Short:
    def __call__(self, velocity, x, t0, t1):
        return x[:, :1]


class Silent:
    def __call__(self, velocity, x, t0, t1):
        velocity(x, t0)


class Crashing:
    def __call__(self, velocity, x, t0, t1):
        steps = 0
        # the last line is the culprit
        return x / (1 // steps)


class Undefined:
    def __call__(self, velocity, x, t0, t1):
        return x * float("nan")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a good recipe, a finished run and a file that is neither."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "good.yaml").write_text(GOOD)
    (folder / "file.txt").write_text("this is not a checkpoint\n")
    (folder / "bad.py").write_text(SAMPLERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.run(["train", "good.yaml", "--out", ".", "--name", "run", "--json"]) == 0
    return folder


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.run(arguments)
    output = capsys.readouterr()
    assert "Traceback" not in output.err
    return code, output.err


@pytest.mark.parametrize(("wrong", "names"), CONFIGS, ids=[wrong for wrong, _ in CONFIGS])
def test_a_bad_recipe(wrong: str, names: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    key = wrong.split(":")[0]
    kept = [line for line in GOOD.strip().splitlines() if not line.startswith(f"{key}:")]
    bad = tmp_path / "bad.yaml"
    bad.write_text("\n".join([*kept, wrong]) + "\n")
    code, message = printed(["train", str(bad), "--out", str(tmp_path / "runs")], capsys)
    assert code == 2, message
    for name in names:
        assert name in message
    assert not (tmp_path / "runs").exists() or not any((tmp_path / "runs").rglob("ckpt.pt"))


@pytest.mark.parametrize(("arguments", "expected", "names"), COMMANDS, ids=[" ".join(c[0]) for c in COMMANDS])
def test_a_bad_command_line(
    arguments: list[str], expected: int, names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = printed(arguments, capsys)
    assert code == expected, message
    for name in names:
        assert name in message


def test_eval_prints_the_promised_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["eval", "run", "--sampler", "heun", "--steps", "3", "--episodes", "5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    promised = "return_mean return_iqm return_ci95 success_rate length_mean episodes sampler steps nfe noise action_us"
    assert set(promised.split()) <= result.keys()
    assert (result["sampler"], result["steps"], result["nfe"], result["episodes"]) == ("heun", 3, 6, 5)


def test_evals_default_is_the_training_sampler(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["eval", "run", "--episodes", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["sampler"], result["steps"], result["nfe"]) == ("euler", 2, 2)


def test_several_samplers_and_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["eval", "run", "--sampler", "euler:3,dopri5", "--episodes", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["sampler"], row["steps"]) for row in rows] == [("euler", 3), ("dopri5", None)]
    assert rows[1]["nfe"] > 7
    assert cli.run(["eval", "run", "--sweep-steps", "1,2,4", "--episodes", "2", "--json"]) == 0
    assert [row["nfe"] for row in json.loads(capsys.readouterr().out)] == [1, 2, 4]


def test_an_evaluation_repeats_itself(capsys: pytest.CaptureFixture[str]) -> None:
    results = []
    for _ in range(2):
        assert cli.run(["eval", "run", "--episodes", "4", "--seed", "5", "--json"]) == 0
        results.append(json.loads(capsys.readouterr().out) | {"action_us": 0})
    assert results[0] == results[1]


def test_a_foreign_checkpoint_cannot_run_a_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint that names a sampler file is not enough to run it: the user has to name it too."""
    from flowrl.storage import checkpoint

    planted = tmp_path / "planted.py"
    planted.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    content = checkpoint.load(folder / "run/ckpt.pt")
    content["config"]["sampler"] = {"name": f"{planted}:Sampler"}
    checkpoint.save(tmp_path / "ckpt.pt", content)
    for command in (["eval", str(tmp_path)], ["bench-latency", str(tmp_path)], ["train", "--resume", str(tmp_path)]):
        code, message = printed(command, capsys)
        assert code == 2, message
        assert "planted.py" in message
    assert not (tmp_path / "ran").exists()


def test_a_foreign_checkpoints_file_is_not_named_by_setting_its_options(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from flowrl.storage import checkpoint

    planted = tmp_path / "planted.py"
    planted.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    content = checkpoint.load(folder / "run/ckpt.pt")
    content["config"]["sampler"] = {"name": f"{planted}:Sampler"}
    checkpoint.save(tmp_path / "ckpt.pt", content)
    for setting in ("sampler.steps=3", "total_steps=9999"):
        for command in (["eval", str(tmp_path)], ["train", "--resume", str(tmp_path)]):
            code, message = printed([*command, "--set", setting], capsys)
            assert code == 2, message
            assert "planted.py" in message
    assert not (tmp_path / "ran").exists()
    assert printed(["eval", str(tmp_path), "--set", f"sampler.name={planted}:Sampler"], capsys)[0] == 2
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("sampler", "command", "place", "hint"),
    [
        ("{name: euler, stpes: 4}", [], "recipe.yaml line 6, key sampler.stpes: ", "Did you mean 'steps'?"),
        ("{name: hein}", [], "recipe.yaml line 6, key sampler.name: ", "Did you mean 'heun'?"),
        ("{name: nowhere.py:X}", [], "recipe.yaml line 6, key sampler.name: ", "there is no file nowhere.py"),
        ("{name: dopri5, rtol: -1}", [], "recipe.yaml line 6, key sampler.rtol: ", "must be positive"),
        ("{name: dopri5, rtol: x}", [], "recipe.yaml line 6, key sampler.rtol: ", "a valid number"),
        (
            "{name: euler}",
            ["--set", "sampler.stpes=4"],
            "--set sampler.stpes=4, key sampler.stpes: ",
            "Did you mean 'steps'?",
        ),
        (
            "{name: euler}",
            ["--set", "sampler.name=hein"],
            "--set sampler.name=hein, key sampler.name: ",
            "Did you mean 'heun'?",
        ),
    ],
)
def test_a_wrong_sampler_is_reported_with_its_place(
    sampler: str,
    command: list[str],
    place: str,
    hint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(GOOD.replace("{name: euler, steps: 2}", sampler))
    for dry in ([], ["--dry-run"]):
        code, message = printed(["train", "recipe.yaml", *command, *dry], capsys)
        assert code == 2
        assert message.startswith(f"flowrl: {place}") and hint in message, message
    assert not Path("runs").exists()


def test_a_wrong_sampler_of_an_algorithms_section_is_reported_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(GOOD + "fpo++:\n  sampler:\n    stpes: 4\n")
    code, message = printed(["train", "recipe.yaml", "--set", "algorithm=fpo++"], capsys)
    assert code == 2 and "recipe.yaml line 11, key fpo++.sampler.stpes: " in message
    assert cli.run(["train", "recipe.yaml", "--set", "algorithm=ppo", "--dry-run"]) == 0  # a Gaussian has none


@pytest.mark.parametrize(
    ("command", "start"),
    [
        (["--sampler", "hein"], "--sampler hein: there is no sampler 'hein'. Did you mean 'heun'?"),
        (["--sampler", "dopri5", "--steps", "3"], "--steps 3: sampler 'dopri5' has no option 'steps'"),
        (["--set", "sampler.stpes=3"], "--set sampler.stpes=3, key sampler.stpes: sampler 'euler' has no option"),
    ],
)
def test_a_wrong_sampler_of_an_evaluation_is_reported_with_its_place(
    command: list[str], start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, message = printed(["eval", "run", *command], capsys)
    assert code == 2 and message.startswith(f"flowrl: {start}"), message


@pytest.mark.parametrize(
    ("algorithm", "kind", "way_out"),
    [
        ("fpo++", "gaussian", "algorithm: ppo."),
        ("fpo", "gaussian", "algorithm: ppo."),
        ("ppo", "flow", "algorithm: fpo or fpo++."),
    ],
)
def test_an_algorithm_that_contradicts_the_kind_of_policy(
    algorithm: str,
    kind: str,
    way_out: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One paragraph about these two keys, and no word of keys that only the preset has."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(GOOD.replace("{hidden", f"{{kind: {kind}, hidden"))
    code, message = printed(["train", "recipe.yaml", "--set", f"algorithm={algorithm}"], capsys)
    assert code == 2
    assert message.startswith("flowrl: recipe.yaml line 5, key policy.kind: ")
    assert message.count("\n") == 1 and f"(--set algorithm={algorithm}, key algorithm)" in message
    assert message.rstrip().endswith(f"Leave policy.kind out, or set {way_out}")
    assert "perturbation" not in message and "action_limit" not in message


def test_another_kind_of_policy_with_a_ratio_for_it_is_a_composition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rest of the preset stays; its policy, which is of another kind, does not."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(GOOD)
    settings = ["algorithm=fpo++", "policy.kind=gaussian", "learner.ratio=likelihood"]
    command = ["train", "recipe.yaml", "--dry-run", "--json"]
    assert cli.run([*command, *(part for setting in settings for part in ("--set", setting))]) == 0
    config = json.loads(capsys.readouterr().out)
    assert config["policy"]["kind"] == "gaussian" and config["learner"]["surrogate"] == "aspo"


def test_dry_run_makes_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(GOOD)
    code, message = printed(["train", "recipe.yaml", "--set", "env.options.foo=1", "--dry-run"], capsys)
    assert code == 2 and "has no option 'foo'" in message


def test_dry_run_prints_a_recipe_that_trains_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.run(["train", "good.yaml", "--set", "learner.clip=0.3", "--dry-run"]) == 0
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(capsys.readouterr().out)
    assert cli.run(["train", str(resolved), "--dry-run"]) == 0
    assert capsys.readouterr().out == resolved.read_text()
    assert "clip: 0.3" in resolved.read_text()
