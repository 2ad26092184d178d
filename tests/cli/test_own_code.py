"""Code of the user's on the command line: it runs where the user names it, and nowhere else."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from flowrl import cli
from flowrl.config import recipe
from flowrl.config.schema import load
from flowrl.contracts import user_code
from flowrl.contracts.errors import UsageError
from flowrl.experiments.build import Run
from flowrl.storage import checkpoint
from tests.envs import own_environment
from tests.other_process import Command, flowrl

SMALL = """
rollout: {steps: 8}
policy: {hidden: [8]}
learner: {epochs: 1, minibatches: 1, critic: {hidden: [8]}}
"""
REACH = f"total_steps: 32\nenv: {{id: my_env.py:Reach, count: 2}}\n{SMALL}"
REGISTERED = f"total_steps: 32\nenv: {{id: door/Reach-v0, count: 2}}\n{SMALL}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with code and recipes in `own/`, and a run of it in `runs/a`, trained by another process."""
    folder = tmp_path_factory.mktemp("door")
    own_environment.write(folder / "own")
    (folder / "own" / "reach.yaml").write_text(REACH)
    (folder / "own" / "registered.yaml").write_text(f"imports: my_env.py\n{REGISTERED}")
    assert flowrl([["train", "own/reach.yaml", "--name", "a"]], folder)[0].code == 0
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of it, where the code leaves a file RUN when it is run."""
    yield from own_environment.entered(trained, tmp_path / "here", monkeypatch)
    gymnasium.registry.pop("door/Reach-v0", None)


def trap(folder: Path) -> Path:
    """Let the user's file leave a file when it is run; return that file's path."""
    file = folder / "own" / "my_env.py"
    file.write_text(f"open({str(folder / 'RUN')!r}, 'w')\n{file.read_text()}")
    return folder / "RUN"


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = cli.run(arguments)
    return code, capsys.readouterr().err


def test_a_file_is_found_beside_its_recipe_and_recorded(trained: Path) -> None:
    content = checkpoint.load(trained / "runs/a/ckpt.pt")
    text = (trained / "own/my_env.py").read_text()
    assert content["config"]["env"]["id"] == "own/my_env.py:Reach"
    digest = content["code"]["own/my_env.py"]
    assert digest == user_code.digest(str(trained / "own/my_env.py")) and len(digest) == 64
    (copy,) = (trained / "runs/a/code").iterdir()
    assert copy.name == f"my_env-{digest[:8]}.py" and copy.read_text() == text


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "runs/a"],
        ["play", "runs/a"],
        ["train", "--resume", "runs/a", "--set", "total_steps=64"],
        ["train", "runs/a/config.yaml"],
        ["eval", "runs/a", "--set", "env.options.length=3"],
    ],
    ids=" ".join,
)
def test_what_only_a_run_names_is_not_run(command: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = trap(here)
    code, said = printed(command, capsys)
    assert code == 2 and not ran.exists()
    assert "env.id is the file own/my_env.py. " in said and "--import own/my_env.py (look at it first)" in said
    assert f"flowrl: {command[1] if command[1].endswith('.yaml') else 'runs/a/ckpt.pt'}: " in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "runs/a", "--episodes", "2", "--import", "own/my_env.py"],
        ["eval", "runs/a", "--episodes", "2", "--env", "own/my_env.py:Reach"],
        ["eval", "runs/a", "--episodes", "2", "--set", "env.id=own/my_env.py:make"],
        ["play", "runs/a", "--import", "own/my_env.py", "--video", "a.gif"],
        ["train", "--resume", "runs/a", "--set", "total_steps=48", "--import", "own/my_env.py"],
        ["train", "own/registered.yaml"],
        ["train", "own/registered.yaml", "--set", "imports=[]", "--import", "own/my_env.py"],
    ],
    ids=" ".join,
)
def test_what_the_user_names_is_run(command: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And said to have changed, where the text is not the one that the run was trained with."""
    ran = trap(here)
    code, said = printed(command, capsys)
    assert code == 0, said
    assert ran.exists()
    changed = (
        "note: own/my_env.py has changed since runs/a/ckpt.pt was saved. Its text of then is in runs/a/code/my_env-"
    )
    assert said.count(changed) == (0 if "own/registered.yaml" in command else 1)


def test_a_run_that_imports_says_what_to_type(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The id alone would not: nothing has registered it."""
    code, said = printed(["train", "own/registered.yaml", "--name", "b"], capsys)
    assert code == 0
    assert said.splitlines()[-1] == "next: flowrl eval runs/b --import own/my_env.py"
    gymnasium.registry.pop("door/Reach-v0")
    ran = trap(here)
    code, said = printed(["eval", "runs/b"], capsys)
    assert code == 2 and "imports[0] is the file own/my_env.py." in said
    assert not ran.exists()
    assert cli.run(["eval", "runs/b", "--episodes", "2", "--import", "own/my_env.py"]) == 0


def test_an_unchanged_file_is_not_mentioned(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = printed(["eval", "runs/a", "--episodes", "2", "--import", "own/my_env.py"], capsys)
    assert code == 0 and "changed" not in said
    assert printed(["inspect", "runs/a"], capsys)[1].count("note") == 0
    (here / "own/my_env.py").unlink()
    assert "own/my_env.py cannot be found" in printed(["inspect", "runs/a"], capsys)[1]


def test_inspect_shows_the_code_and_runs_none(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = trap(here)
    assert cli.run(["inspect", "runs/a", "--json"]) == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out)["code"]) == ["own/my_env.py"]
    assert "own/my_env.py has changed since" in err
    assert not ran.exists()


def test_a_configuration_in_python_is_no_name(here: Path) -> None:
    """A Config may come from a checkpoint: `Run` loads nothing for it until a recipe or `name_code` has named it."""
    ran = trap(here)
    with user_code.naming_apart():
        config = load(recipe.read("own/reach.yaml"))
    with user_code.naming_apart():
        with pytest.raises(UsageError, match="only when you name it"):
            Run(config)
        assert not ran.exists()
        user_code.name_code("own/my_env.py")
        Run(config).env.close()
    assert ran.exists()


def test_a_folder_that_is_taken_says_how_its_run_continues(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = printed(["train", "own/reach.yaml", "--name", "a"], capsys)
    assert code == 2 and "Continue it with: flowrl train --resume runs/a --import own/my_env.py; or choose" in said


@pytest.fixture
def elsewhere(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside, with another file of the same name as the user's in it."""
    folder = here / "elsewhere"
    folder.mkdir()
    (folder / "my_env.py").write_text(f"open({str(here / 'RUN')!r}, 'w')\n")
    monkeypatch.chdir(folder)
    return folder


COMMANDS_ELSEWHERE = [
    ["eval", "../runs/a", "--episodes", "2"],
    ["play", "../runs/a", "--video", "a.gif"],
    ["train", "--resume", "../runs/a", "--set", "total_steps=48"],
    ["train", "../runs/a/config.yaml", "--name", "b"],
    ["fit-sampler", "../runs/a"],
    ["distil", "../runs/a", "--iterations", "1"],
    ["export", "../runs/a", "--no-verify", "--format", "c"],
]


@pytest.mark.parametrize("command", COMMANDS_ELSEWHERE, ids=" ".join)
@pytest.mark.parametrize("file", ["../own/my_env.py", "{}/own/my_env.py"])
def test_a_run_is_used_from_another_folder(
    command: list[str], file: str, here: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file that is named stands for that of the checkpoint, which its folder holds under another path."""
    code, said = printed([*command, "--import", file.format(here)], capsys)
    assert code == 0, said
    assert not (here / "RUN").exists() and "changed" not in said
    last = said.splitlines()[-1]
    if last.startswith("next: flowrl") and "runs/" in last:  # it works from here
        code, said = printed([*shlex.split(last)[2:], "--episodes", "1"], capsys)
        assert code == 0, said


def test_another_file_of_the_same_name_is_used_and_said_to_differ(
    here: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = trap(here)
    code, said = printed(["eval", "../runs/a", "--episodes", "2", "--import", "../own/my_env.py"], capsys)
    assert code == 0, said
    assert ran.exists()
    assert (
        "note: ../own/my_env.py has changed since ../runs/a/ckpt.pt was saved. Its text of then is in ../runs/a/cod"
        in said
    )


def test_of_two_files_of_the_same_name_the_recorded_one_is_used(
    here: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = ["--import", "my_env.py", "--import", "../own/my_env.py"]
    code, said = printed(["eval", "../runs/a", "--episodes", "2", *both], capsys)
    assert code == 0, said
    assert "has changed" not in said


def test_a_refusal_elsewhere_says_what_works_there(
    here: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is looked for around the run; what is named is not run before the user types it."""
    code, said = printed(["eval", "../runs/a"], capsys)
    assert code == 2 and "--import ../own/my_env.py (look at it first)." in said
    code, said = printed(["inspect", "../runs/a"], capsys)
    assert said.splitlines()[-1] == "next: flowrl eval ../runs/a/ckpt.pt --import ../own/my_env.py"
    (here / "own/my_env.py").rename(here / "gone.py")
    code, said = printed(["eval", "../runs/a"], capsys)
    assert f"There is no own/my_env.py in {elsewhere}: write where it lies, as in --import folder/my_env.py." in said
    assert not (here / "RUN").exists()


def test_callbacks_are_needed_where_a_run_is_trained_only(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "cb.py").write_text("def show(metrics):\n    pass\n")
    named = ["--callback", "cb.py:show", "--set", "total_steps=48", "--import", "own/my_env.py"]
    assert printed(["train", "--resume", "runs/a", *named], capsys)[1].endswith(
        "next: flowrl eval runs/a --import own/my_env.py\n"
    )
    again = ["train", "--resume", "runs/a", "--set", "total_steps=64", "--import", "cb.py", "--import", "own/my_env.py"]
    assert printed(again, capsys)[1].endswith("next: flowrl eval runs/a --import own/my_env.py\n")
    (here / "cb.py").unlink()
    code, said = printed(["eval", "runs/a", "--import", "own/my_env.py", "--episodes", "1"], capsys)
    assert code == 0 and "cb.py" not in said
    code, said = printed(
        ["train", "--resume", "runs/a", "--import", "own/my_env.py", "--set", "total_steps=80"], capsys
    )
    assert code == 2 and "callbacks[0] is the file cb.py." in said


@pytest.mark.parametrize(
    "command", [["fit-sampler"], ["distil", "--iterations", "1"], ["bench-latency", "--batch", "1"]]
)
def test_a_command_without_the_environment_does_not_ask_for_its_code(
    command: list[str], here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--steps", "2"] if command[0] == "bench-latency" else ["--observations", "normal"]
    ran = trap(here)
    code, said = printed([*command, "runs/a", *options], capsys)
    assert code == 0, said
    assert not ran.exists()
    assert "--import own/my_env.py" in said.splitlines()[-1]


@pytest.mark.slow
def test_a_suite_reaches_own_code_in_its_processes(here: Path) -> None:
    """faults.md 1.1 and 1.2: the trials are processes of their own, and resume and evaluate what they saved."""
    (here / "own/plain.yaml").write_text(REGISTERED)
    options = ["--algorithms", "fpo", "--seeds", "1", "--episodes", "2"]
    suite = ["suite", "own/reach.yaml", "own/plain.yaml", *options, "--import", "own/my_env.py", "--json"]
    refused = Command(here, "suite", "own/plain.yaml", *options, sharing=True).finish()
    assert refused.code == 2 and "there is no environment 'door/Reach-v0'" in refused.err
    assert not (here / "runs/suite").exists()  # before the first trial
    for episodes in ("2", "3"):  # trained and evaluated, then evaluated again
        done = Command(here, *suite, "--episodes", episodes, sharing=True).finish()
        assert done.code == 0, done.err
        assert json.loads(done.out)["finished"] == 2


@pytest.mark.slow
def test_processes_of_the_environments_reach_own_code(here: Path) -> None:
    (here / "own/cart.yaml").write_text(
        f"total_steps: 32\nenv: {{id: my_task.py:Cart, count: 2, mode: async}}\n{SMALL}"
    )
    for name in ("registered", "cart"):
        done = Command(here, "train", f"own/{name}.yaml", "--set", "env.mode=async").finish()
        assert done.code == 0, done.err
