"""Resume as a user meets it: one writer, early kills, finished runs, lost metrics, and what docs/resume.md states."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flowrl import cli
from flowrl.config.recipe import Recipe, apply
from flowrl.config.schema import load
from flowrl.experiments import build, train
from flowrl.storage import checkpoint, platform
from flowrl.storage.content import check
from tests import other_process
from tests.equality import MEASURED, same
from tests.other_process import Command

RECIPE = """
algorithm: fpo
total_steps: 256
env: {id: flowrl/GridWorld-v0, count: 8}
policy: {hidden: [8]}
sampler: {steps: 2}
rollout: {steps: 8}
learner: {epochs: 1, minibatches: 2, critic: {hidden: [8]}}
"""
ITERATION = 64  # env steps
CLOCK = {"seconds", "env_steps_per_s", "collect_s", "update_s"}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(RECIPE)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `flowrl train …`."""
    code = cli.run(["train", *map(str, arguments)])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.out, printed.err


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in CLOCK} for row in rows]


def killed(when: Callable[[], Any], *arguments: object) -> None:
    """Train in a process of its own that is killed with SIGKILL, at once where `when` calls `kill`."""
    child = os.fork()
    if child == 0:
        try:
            when()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            cli.run(["train", *map(str, arguments)])
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def kill(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before_the_first_save() -> None:
    checkpoint.save = kill


def after_the_first_save() -> None:
    train.Saver.take = kill  # type: ignore[method-assign]


# --- one writer ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_of_two_trainings_in_one_folder_the_second_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("runs/run")
    first = Command(Path.cwd(), "train", "recipe.yaml", "--name", "run", "--set", "total_steps=10000000")
    try:
        first.wait_for(lambda: (folder / "metrics.jsonl").exists() and len(metrics(folder)) >= 3)
        for arguments in (["--resume", "run"], ["recipe.yaml", "--name", "run"]):
            code, _, message = run(capsys, *arguments, "--set", "total_steps=20000000")
            assert code == 2 and f"process {first.pid} on {os.uname().nodename}" in message
        assert run(capsys, "recipe.yaml", "--name", "other")[0] == 0
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.end()
    content = checkpoint.load(folder / "ckpt.pt")
    steps = (content["progress"]["iteration"] + 5) * ITERATION
    assert run(capsys, "--resume", folder, "--set", f"total_steps={steps}")[0] == 0
    reported = [row["iteration"] for row in metrics(folder)]
    assert reported == list(range(1, steps // ITERATION + 1))
    assert not (folder / ".writer.lock").exists()


def test_a_checkpoint_that_another_process_replaced_is_not_continued(capsys: pytest.CaptureFixture[str]) -> None:
    """Between reading the checkpoint and locking its folder."""
    assert run(capsys, "recipe.yaml", "--name", "run")[0] == 0
    folder = Path("runs/run")
    planned = train.plan(None, ["total_steps=512"], folder)
    assert run(capsys, "--resume", "run", "--set", "total_steps=320")[0] == 0
    before = files(folder)
    with pytest.raises(train.UsageError, match="saved by another process"):
        train.train(planned, folder, None, quiet=True)
    assert files(folder) == before


# --- killed early -------------------------------------------------------------------------------------


def test_killed_before_the_first_iteration_it_resumes_from_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "recipe.yaml", "--name", "straight")[0] == 0
    killed(after_the_first_save, "recipe.yaml", "--name", "killed")
    assert checkpoint.load(Path("runs/killed/ckpt.pt"))["progress"]["iteration"] == 0
    assert run(capsys, "--resume", "killed")[0] == 0
    assert same(*(checkpoint.load(Path("runs", name, "ckpt.pt")) for name in ("straight", "killed")), but=MEASURED)
    assert metrics(Path("runs/straight")) == metrics(Path("runs/killed"))


def test_killed_before_the_first_save_the_same_command_begins_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "recipe.yaml", "--name", "straight")[0] == 0
    killed(before_the_first_save, "recipe.yaml", "--name", "killed")
    folder = Path("runs/killed")
    assert not (folder / "ckpt.pt").exists() and (folder / "config.yaml").exists()
    code, _, message = run(capsys, "--resume", "killed")
    assert code == 4 and "Nothing was saved" in message
    command = "flowrl train runs/killed/config.yaml --out runs --name killed"
    assert command in message
    for arguments in (["recipe.yaml", "--name", "killed"], command.split()[2:]):
        assert run(capsys, *arguments)[0] == 0
        assert same(*(checkpoint.load(Path("runs", name, "ckpt.pt")) for name in ("straight", "killed")), but=MEASURED)
        assert metrics(Path("runs/straight")) == metrics(folder)
        assert len(list(folder.glob("events*"))) == 1  # those of the killed one have no point
        assert run(capsys, *arguments)[0] == 2  # it holds a run now
        for path in folder.glob("*.pt"):
            path.unlink()
    assert (folder / "metrics-unsaved.jsonl").exists()  # of the run whose checkpoint was removed


def before_the_reporters() -> None:
    train.open_reporters = kill  # type: ignore[assignment]


def before_the_configuration() -> None:
    from flowrl.experiments import run_folder

    run_folder.write_text = kill


@pytest.mark.parametrize("when", [before_the_configuration, before_the_reporters, before_the_first_save])
@pytest.mark.parametrize("name", [["--name", "run"], []])
def test_wherever_it_is_killed_at_its_start_the_same_command_begins_again(
    when: Callable[[], None], name: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    killed(when, "recipe.yaml", *name)
    (folder,) = Path("runs").iterdir()
    (folder / ".config.yaml.0a1b2c.tmp.yaml").touch()  # of a writer that was killed
    assert run(capsys, "recipe.yaml", *name)[0] == 0
    assert [path.name for path in Path("runs").iterdir()] == [folder.name]
    kinds = {re.sub(r"tfevents.*", "", path.name) for path in folder.iterdir()}
    assert kinds - {"best.pt"} == {"ckpt.pt", "config.yaml", "metrics.jsonl", "events.out."}


def test_a_default_name_is_used_again_where_the_same_run_had_saved_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    killed(before_the_first_save, "recipe.yaml")
    assert run(capsys, "recipe.yaml", "--set", "learner.clip=0.3")[0] == 0
    assert run(capsys, "recipe.yaml")[0] == 0
    assert run(capsys, "recipe.yaml")[0] == 0
    clips = {
        path.parent.name: checkpoint.load(path)["config"]["learner"]["clip"] for path in Path("runs").glob("*/ckpt.pt")
    }
    assert clips == {"recipe-fpo-seed0": 0.05, "recipe-fpo-seed0-2": 0.3, "recipe-fpo-seed0-3": 0.05}


def test_a_folder_of_other_files_is_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/thesis").mkdir(parents=True)
    Path("runs/thesis/chapter.tex").write_text("x")
    code, _, message = run(capsys, "recipe.yaml", "--name", "thesis")
    assert code == 2 and "other files" in message
    assert [path.name for path in Path("runs/thesis").iterdir()] == ["chapter.tex"]


SETTINGS = RECIPE + "# mine\n"


@pytest.mark.parametrize(
    ("name", "text", "config"),
    [
        ("pyproject.toml", "x", SETTINGS),
        ("events.out.tfevents.1", "x", "site_name: my robot\n"),  # the config.yaml of another tool
        ("diverged.pt", "x", "a: [\n"),
        ("diverged.pt", "x", "#" * 2_000_000),
        ("metrics.jsonl", "{}", None),  # no configuration at all
    ],
)
def test_a_folder_that_is_not_quite_that_of_a_run_keeps_its_files(
    name: str, text: str, config: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("my_robot")
    folder.mkdir()
    (folder / name).write_text(text)
    if config is not None:
        (folder / "config.yaml").write_text(config)
    before = files(folder)
    code, _, message = run(capsys, "recipe.yaml", "--out", ".", "--name", "my_robot")
    assert code == 2 and "my_robot holds other files than a run's" in message
    assert files(folder) == before


def test_folders_and_links_are_no_leftovers_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("my_robot")
    (folder / "events.out.tfevents.1").mkdir(parents=True)
    (folder / "config.yaml").write_text(RECIPE)
    code, _, message = run(capsys, "recipe.yaml", "--out", ".", "--name", "my_robot")
    assert code == 2 and "my_robot holds other files than a run's" in message
    assert (folder / "config.yaml").read_text() == RECIPE


def test_the_first_save_is_quick(capsys: pytest.CaptureFixture[str]) -> None:
    """A short run is not slower for it."""
    planned = train.plan("recipe.yaml", [], None)
    made = build.Run(planned.config)
    made.start()
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        checkpoint.save(Path("ckpt.pt"), made.content(0))
        seconds.append(time.perf_counter() - begin)
    assert min(seconds) < 0.05


# --- finished runs and options ------------------------------------------------------------------------


def test_a_finished_run_says_so_and_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "recipe.yaml", "--name", "run")[0] == 0
    folder = Path("runs/run")
    before = files(folder)
    for arguments in ([], ["--json"], ["--set", "total_steps=256"]):
        code, _, message = run(capsys, "--resume", folder, *arguments)
        assert code == 0 and "is finished" in message
        assert message.splitlines()[-1] == "next: flowrl train --resume runs/run --set total_steps=512"
    for change in ("total_steps=100", "total_steps=255", "noise=zero"):
        code, _, message = run(capsys, "--resume", folder, "--set", change)
        assert code == 2 and message.startswith(f"flowrl: --set {change}: the run runs/run has done 256 env steps")
    for option, value in (("--out", "runs"), ("--name", "run"), ("--seed", "5")):
        code, _, message = run(capsys, "--resume", folder, option, value, "--set", "total_steps=512")
        assert code == 2 and option.strip("-") in message
    assert files(folder) == before and [path.name for path in Path("runs").iterdir()] == ["run"]


def test_the_summary_counts_all_sessions_and_this_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert "in this session" not in run(capsys, "recipe.yaml", "--name", "run")[1]
    out = run(capsys, "--resume", "run", "--set", "total_steps=384")[1]
    assert re.match(r"runs/run: 384 env steps in [\d.]+ s \([\d,]+/s\), 128 of them in [\d.]+ s in this session", out)


def test_the_configuration_changes_with_the_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    """Killed before its first save, a resume with other settings has changed neither."""
    assert run(capsys, "recipe.yaml", "--name", "run")[0] == 0
    folder = Path("runs/run")
    before = {name: data for name, data in files(folder).items() if name in ("ckpt.pt", "config.yaml")}
    change = ["--resume", "run", "--set", "total_steps=512", "--set", "learner.clip=0.3"]
    killed(before_the_first_save, *change)
    assert {name: files(folder)[name] for name in before} == before
    assert run(capsys, *change)[0] == 0
    assert "clip: 0.3" in (folder / "config.yaml").read_text()
    assert checkpoint.load(folder / "ckpt.pt")["config"]["learner"]["clip"] == 0.3


def test_an_edited_config_yaml_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """A resume reads the settings in the checkpoint."""
    assert run(capsys, "recipe.yaml", "--name", "run")[0] == 0
    path = Path("runs/run/config.yaml")
    path.write_text(path.read_text().replace("clip: 0.05", "clip: 0.2"))
    notice = "runs/run/config.yaml differs from the checkpoint and is not read: change settings with --set."
    code, _, message = run(capsys, "--resume", "run", "--set", "total_steps=320")
    assert code == 0 and message.count(notice) == 1
    assert notice not in run(capsys, "--resume", "run", "--set", "total_steps=384")[2]


# --- metrics ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "report"),
    [
        (lambda lines: None, r"is empty or was lost: the curves of this run lack iterations 1 to 4\."),
        (lambda lines: lines[:0], r"lack iterations 1 to 4\."),
        (lambda lines: lines[:2], r"has lost a part: .* lack iterations 3 to 4\."),
        (lambda lines: [*lines[:2], lines[2][:9]], r"lack iterations 3 to 4\."),
        (lambda lines: [lines[0], lines[3]], r"lack iterations 2 to 3\."),
        (lambda lines: lines[1:], r"lack iterations 1\."),
        (lambda lines: [*lines[:2], b"\0" * sum(map(len, lines[2:]))], r"lack iterations 3 to 4\."),  # a power cut
    ],
)
def test_lost_metrics_are_reported(
    change: Callable[[list[bytes]], list[bytes] | None], report: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, "recipe.yaml", "--name", "run")[0] == 0
    path = Path("runs/run/metrics.jsonl")
    kept = change(path.read_bytes().splitlines(keepends=True))
    path.unlink() if kept is None else path.write_bytes(b"".join(kept))
    code, _, message = run(capsys, "--resume", "run", "--set", "total_steps=384")
    assert code == 0
    assert len(re.findall(rf"runs/run/metrics\.jsonl .*{report}", message)) == 1, message
    assert [row["iteration"] for row in metrics(path.parent)][-2:] == [5, 6]


@pytest.mark.parametrize("kept", [0, 2])
def test_a_resume_after_lost_metrics_can_be_killed_before_it_saves(
    kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its file then ends with an iteration that the checkpoint does not know, where earlier ones are missing."""
    assert run(capsys, "recipe.yaml", "--name", "run")[0] == 0
    path = Path("runs/run/metrics.jsonl")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    killed(after_the_first_save, "--resume", "run", "--set", "total_steps=384")
    assert len(metrics(path.parent)) == kept + 1
    code, _, message = run(capsys, "--resume", "run", "--set", "total_steps=384")
    assert code == 0, message
    assert f"lack iterations {kept + 1} to 4." in message
    assert [row["iteration"] for row in metrics(path.parent)] == [*range(1, kept + 1), 5, 6]


def test_metrics_of_another_run_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Of another seed, of other rollouts, of a longer run, and no metrics at all."""
    for name, change in (
        ("run", "seed=0"),
        ("seed", "seed=1"),
        ("steps", "rollout.steps=4"),
        ("long", "total_steps=640"),
    ):
        assert run(capsys, "recipe.yaml", "--name", name, "--set", change)[0] == 0
    folder = Path("runs/run")
    own = (folder / "metrics.jsonl").read_bytes()
    foreign = [(Path("runs", name) / "metrics.jsonl").read_bytes() for name in ("seed", "steps", "long")]
    last = foreign[0].splitlines(keepends=True)[-1]
    padded = last[:-2].ljust(len(own.splitlines(keepends=True)[-1]) - 2) + last[-2:]  # ends where the run's own ends
    foreign += [b"x" * len(own) + b"\n", own[: -len(padded)] + padded]
    for data in foreign:
        (folder / "metrics.jsonl").write_bytes(data)
        before = files(folder)
        code, _, message = run(capsys, "--resume", "run", "--set", "total_steps=384")
        assert code == 2 and "another run" in message and "Move it away" in message, message
        assert files(folder) == before


def test_the_view_goes_on_where_the_run_was(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "recipe.yaml", "--name", "run")[0] == 0
    message = run(capsys, "--resume", "run", "--set", "total_steps=384")[2]
    assert re.search(r"^resumed at 256 env steps, after \d+:\d\d$", message, re.MULTILINE)
    from flowrl.reporting.console import EarlierSessions, Progress
    from flowrl.reporting.jsonl import MetricsFile

    content = checkpoint.load(Path("runs/run/ckpt.pt"))
    file = MetricsFile(Path("runs/run/metrics.jsonl"), content["metrics_offset"], content["progress"])
    reported = [row["return_mean"] for row in metrics(Path("runs/run")) if row.get("return_mean") is not None]
    assert file.missing == "" and file.returns == reported
    now = [50.0]
    progress = Progress(1000, EarlierSessions(384, 12.5, file.returns), lambda: now[0])
    now[0] += 3
    assert (progress.returns, progress.seconds, progress.share) == (reported, 15.5, 0.384)


# --- averages, windows and schedules ------------------------------------------------------------------


def continued(content: dict[str, Any], *overrides: str) -> build.Run:
    """The run of `content` with the `overrides`, restored."""
    config = load(apply(Recipe("run", content["config"]), overrides))
    made = build.Run(config)
    made.restore(content)
    return made


def content_of(capsys: pytest.CaptureFixture[str], *overrides: str) -> dict[str, Any]:
    sets = [word for override in overrides for word in ("--set", override)]
    assert run(capsys, "recipe.yaml", "--name", "run", *sets)[0] == 0
    return checkpoint.load(Path("runs/run/ckpt.pt"))


def test_an_average_begins_at_the_present_weights_and_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    content = content_of(capsys)
    assert content["average"] is None
    made = continued(content, "learner.ema_decay=0.95")
    assert made.training.learner.average is not None
    assert same(dict(made.training.learner.average.state_dict()), content["actor"])
    assert run(capsys, "--resume", "run", "--set", "total_steps=512", "--set", "learner.ema_decay=0.95")[0] == 0
    averaged = checkpoint.load(Path("runs/run/ckpt.pt"))
    assert not same(averaged["average"], averaged["actor"])
    assert run(capsys, "--resume", "run", "--set", "total_steps=640", "--set", "learner.ema_decay=null")[0] == 0
    dropped = checkpoint.load(Path("runs/run/ckpt.pt"))
    assert dropped["average"] is None
    policy: Any = build.load_policy(Path("ckpt.pt"), dropped, build.load_config(dropped, Path("ckpt.pt"))).policy
    assert same(dict(policy.field.state_dict()), dropped["actor"])


def test_another_window_for_the_best_begins_empty(capsys: pytest.CaptureFixture[str]) -> None:
    content = content_of(capsys, "checkpoint.best_over=0")
    content["progress"] |= {"window_return": 30.0, "window_episodes": 7, "best_return": 4.0, "episodes": 9}
    best = continued(content, "checkpoint.best_over=3").best
    assert (best.window_return, best.window_episodes, best.best_return, best.episodes) == (0.0, 0, 4.0, 9)
    best = continued(content).best
    assert (best.window_return, best.window_episodes) == (30.0, 7)


@pytest.mark.parametrize(
    ("was", "overrides", "factor"),
    [
        ("constant", ["learner.schedule.kind=linear", "total_steps=640"], 0.6),  # 4 of 10 updates
        ("constant", ["learner.schedule.kind=adaptive"], 1.0),
        ("linear", ["learner.schedule.kind=constant"], 1.0),
        ("linear", ["learner.schedule.kind=linear", "total_steps=512"], 0.5),
        ("linear", ["learner.schedule.kind=adaptive", "total_steps=512"], 0.02),  # from 0, at the end
        ("adaptive", ["learner.schedule.kind=adaptive"], 3.0),
        ("adaptive", ["learner.schedule.kind=adaptive", "learner.schedule.largest=2.5"], 2.5),
        ("adaptive", ["learner.schedule.kind=linear", "total_steps=1024"], 0.75),
        ("adaptive", ["learner.schedule.kind=constant"], 1.0),
    ],
)
def test_a_schedule_goes_on_from_the_state_of_the_run(
    was: str, overrides: list[str], factor: float, capsys: pytest.CaptureFixture[str]
) -> None:
    content = content_of(capsys, f"learner.schedule.kind={was}", "learner.learning_rate=0.01")
    if was == "adaptive":
        content["schedule"]["factor"] = 3.0
    learner = continued(content, *overrides).training.learner
    assert learner.schedule.factor == pytest.approx(factor, abs=1e-12)
    assert learner.optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * factor)


# --- what docs/resume.md states -----------------------------------------------------------------------


def resumed_under(
    env: dict[str, Any], first: str, then: str, folder: Path
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """A run of `env` straight under `first`, and one resumed under `then` in the middle: their last contents, and the
    line that the resume prints."""
    values = {"algorithm": "ppo", "total_steps": 96, "env": env, "policy": {"hidden": [8]}, "rollout": {"steps": 8}}
    config = load(apply(Recipe("env", values), [first]))
    straight, half = build.Run(config), build.Run(config)
    for made in (straight, half):
        made.start()
        made.training.iterate()
    content = half.content(0)
    half.env.close()
    other = build.Run(load(apply(Recipe("env", values), [then])))
    line = other.restore(content)
    contents = []
    for made in (straight, other):
        made.training.iterate()
        contents.append(made.content(0))
        made.env.close()
    return contents[0], contents[1], line


KEPT = ("actor", "critic", "optimizer", "normaliser")
KEPT_OF_A_SHARD = ("random", "episodes")


@pytest.mark.parametrize(
    ("id", "first", "then"),
    [
        ("InvertedPendulum-v5", "env.threads=1", "env.threads=2"),
        ("Pendulum-v1", "env.mode=sync", "env.mode=async"),
        ("Pendulum-v1", "env.mode=async", "env.mode=sync"),
    ],
)
def test_equal_bit_for_bit_however_the_environments_are_stepped(id: str, first: str, then: str, tmp_path: Path) -> None:
    straight, other, line = resumed_under({"id": id, "count": 4}, first, then, tmp_path)
    assert line == ""
    assert all(same(straight[key], other[key]) for key in KEPT)
    shards = straight["shards"][0], other["shards"][0]
    assert all(same(shards[0][key], shards[1][key]) for key in KEPT_OF_A_SHARD)


@pytest.mark.parametrize(("first", "then"), [("batch", "sync"), ("sync", "batch")])
def test_between_batch_and_the_other_modes_new_episodes_begin(first: str, then: str, tmp_path: Path) -> None:
    env = {"id": "InvertedPendulum-v5", "count": 4}
    straight, other, line = resumed_under(env, f"env.mode={first}", f"env.mode={then}", tmp_path)
    assert line == (
        f"env.mode {first} before, {then} now; new episodes begin, for the running ones were saved in another env.mode"
    )
    assert (other["shards"][0]["episodes"]["lengths"] <= 8).all()  # not 16
    assert not same(straight["actor"], other["actor"])


def test_another_platform_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    content = content_of(capsys)
    assert set(content["platform"]) == set(platform.NAMES)
    content["platform"] |= {"torch": "1.0", "instructions": "NONE"}
    checkpoint.save(Path("runs/run/ckpt.pt"), content)
    message = run(capsys, "--resume", "run", "--set", "total_steps=320", "--set", "threads=2")[2]
    torch.set_num_threads(1)
    lines = [line for line in message.splitlines() if "not bit for bit" in line]
    capability = torch.backends.cpu.get_cpu_capability()
    assert lines == [
        "runs/run continues, but not bit for bit as without the interruption: PyTorch 1.0 before, "
        f"{torch.__version__} now; instruction set NONE before, {capability} now; threads 1 before, 2 now."
    ]
    again = run(capsys, "--resume", "run", "--set", "total_steps=384")[2]  # with 2 threads, as it was saved
    assert "not bit for bit" not in again
    torch.set_num_threads(1)


@pytest.mark.parametrize("forged", [{"torch": "1.0", "threads": torch.zeros(2)}, "torch", 3, {"torch": ["a"]}])
def test_a_forged_platform_is_refused(forged: object, capsys: pytest.CaptureFixture[str]) -> None:
    content = content_of(capsys)
    with pytest.raises(ValueError, match="platform"):
        check(content | {"platform": forged})


def test_a_forged_platform_is_printed_with_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(Path("runs/run/ckpt.pt"), content_of(capsys) | {"platform": {"torch": "\x1b[2J"}})
    assert cli.run(["inspect", "run"]) == 0
    assert "\x1b" not in capsys.readouterr().out
    code, _, message = run(capsys, "--resume", "run", "--set", "total_steps=320")
    assert code == 0 and "\x1b" not in message


@pytest.mark.parametrize(
    "line",
    [b'{"iteration":1e999}', b'{"iteration":4,"seconds":"x"}', b'{"return_mean":1' + b"0" * 400 + b"}", b"[1]", b"{"],
)
def test_forged_metrics_are_refused(line: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "recipe.yaml", "--name", "run")[0] == 0
    path = Path("runs/run/metrics.jsonl")
    path.write_bytes(line + b"\n")
    code, _, message = run(capsys, "--resume", "run", "--set", "total_steps=320")
    assert code == 2 and "another run, or is damaged" in message
    assert run(capsys, "--resume", "run")[0] == 0  # finished: nothing is read but for the summary
    path.unlink()
    os.mkfifo(path)
    code, _, message = run(capsys, "--resume", "run", "--set", "total_steps=320")
    assert code == 2 and "not a file" in message
    assert run(capsys, "--resume", "run")[0] == 0


def test_a_checkpoint_from_before_platforms_were_recorded_is_continued(capsys: pytest.CaptureFixture[str]) -> None:
    content = content_of(capsys)
    del content["platform"]
    checkpoint.save(Path("runs/run/ckpt.pt"), content)
    assert cli.run(["inspect", "run"]) == 0
    assert "saved under" not in capsys.readouterr().out
    code, _, message = run(capsys, "--resume", "run", "--set", "total_steps=320")
    assert code == 0 and "bit for bit" not in message


def test_inspect_prints_the_platform(capsys: pytest.CaptureFixture[str]) -> None:
    content_of(capsys)
    assert cli.run(["inspect", "run"]) == 0
    shown = next(line for line in capsys.readouterr().out.splitlines() if "saved under" in line)
    capability = torch.backends.cpu.get_cpu_capability()
    for part in (f"PyTorch {torch.__version__}", f"instruction set {capability}", "threads 1", "env.mode batch"):
        assert part in shown
    assert cli.run(["inspect", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["platform"]["threads"] == 1


@pytest.mark.slow
def test_another_instruction_set_sums_in_another_order(capsys: pytest.CaptureFixture[str]) -> None:
    """It is recorded, and equal to itself."""
    if torch.backends.cpu.get_cpu_capability() == "DEFAULT":
        pytest.skip("this processor has one instruction set for torch")
    commands = [["train", "recipe.yaml", "--name", name] for name in ("one", "two")]
    for done in other_process.flowrl(commands, Path.cwd(), variables={"ATEN_CPU_CAPABILITY": "default"}):
        assert done.code == 0, done.err
    content_of(capsys)
    one, two, here = (checkpoint.load(Path("runs", name, "ckpt.pt")) for name in ("one", "two", "run"))
    assert one["platform"]["instructions"] == "DEFAULT" != here["platform"]["instructions"]
    assert same(one, two, but=MEASURED)
    assert not same(one["actor"], here["actor"])
