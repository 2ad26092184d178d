"""Published results beside a run: every figure has a source, and what differs is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowrl import cli
from flowrl.contracts.errors import UsageError
from flowrl.envs.dm_control.tasks import TASKS as CONTROL
from flowrl.experiments.comparison import published

RUN = Path(__file__).parents[1] / "data/checkpoints/cheetah-fpo/run"


def test_every_result_names_a_source_with_an_address_and_how_it_was_measured() -> None:
    data = published.data()
    assert {result.source for result in data.results} == data.sources.keys()
    for source in data.sources.values():
        assert source.url.startswith("https://") and "spread" in source.setting and source.title
    seen = [(result.source, result.task, result.algorithm) for result in data.results]
    assert len(seen) == len(set(seen)) > 50
    assert all(result.env_steps > 0 and (result.spread is None or result.spread > 0) for result in data.results)


def test_figures_are_those_of_the_sources() -> None:
    """A few of each, as they are printed there."""
    found = {(each.source, each.task, each.algorithm): each for each in published.data().results}

    def figure(*key: str) -> tuple[float, float | None, int]:
        return found[key].value, found[key].spread, found[key].env_steps

    assert figure("fpo-table-1", "ten control tasks", "FPO") == (759.3, 45.3, 60_000_000)
    assert figure("fpo-notebooks", "flowrl/CheetahRun-v0", "FPO") == (877.80, 52.56, 61 * 983_040)
    assert figure("gorl-table-1", "flowrl/FingerSpin-v0", "FPO") == (56.05, 124.53, 180_000_000)
    assert figure("sb3-zoo", "Pendulum-v1", "PPO") == (-172.225, 104.159, 100_000)
    assert figure("sb3-zoo", "HalfCheetah-v5", "TQC") == (12089.939, 127.440, 1_000_000)


def test_the_group_holds_the_ten_control_tasks() -> None:
    assert set(published.data().groups["ten control tasks"]) == {f"flowrl/{task}-v0" for task in CONTROL}
    assert {each.source for each in published.for_task("flowrl/PointMass-v0")} == {"fpo-table-1"}


def test_a_run_is_set_beside_them_with_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "ckpt.pt").write_bytes((RUN / "ckpt.pt").read_bytes())
    returns = [1000.0, *[10.0] * 10, *[20.0] * 10]  # of which the last 20 iterations count
    lines = [f'{{"iteration": {number}, "return_mean": {value}}}\n' for number, value in enumerate(returns, start=1)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    assert cli.run(["compare", str(tmp_path), "--published", "--json"]) == 0
    (document,) = json.loads(capsys.readouterr().out)
    (own,) = document["runs"]
    assert (document["env"], own["runs"], own["spread"], own["value"]) == ("flowrl/CheetahRun-v0", 1, None, 15.0)
    assert "of training, with its exploration (no evaluation)" in own["measured"]
    assert document["sources"].keys() == {"fpo-table-1", "fpo-notebooks", "gorl-table-1"}
    assert own["env_steps"] == 512
    (gorl,) = [note for note in document["notes"] if note.startswith("gorl-table-1")]
    assert "was 350,000 times as long" in gorl and "https://arxiv.org/abs/2512.02581" in gorl
    assert cli.run(["compare", str(tmp_path), "--published"]) == 0
    page = capsys.readouterr().out
    assert "599.1" in page and "FPO, mean over ten tasks" in page


def test_the_mean_and_the_spread_are_over_the_runs() -> None:
    own = published._own("Pendulum-v1", "fpo", "…", [(-100.0, 50), (-200.0, 100), (-300.0, 100)])
    assert (own.value, own.spread, own.runs, own.env_steps) == (-200.0, 100.0, 3, 100)
    comparison = published.PublishedComparison("Pendulum-v1", (own,), published.for_task("Pendulum-v1"))
    assert comparison.rows()[0] == ["fpo", "-200.0", "± 100.0", "3", "100", "flowrl"]
    assert any("was 200 to 10,000 times as long" in note for note in comparison.notes())
    assert not any("not exactly" in note for note in comparison.notes())
    hopper = published.PublishedComparison("Hopper-v5", (own,), published.for_task("Hopper-v5"))
    assert "Published for Hopper-v3, which is not exactly Hopper-v5." in hopper.notes()


def test_a_task_without_results_is_refused_with_those_that_have_some(capsys: pytest.CaptureFixture[str]) -> None:
    run = RUN.parents[1] / "gridworld-fpo/run"
    assert cli.run(["compare", str(run), "--published"]) == 2
    message = capsys.readouterr().err
    assert "no published results for flowrl/GridWorld-v0 are stored" in message and "Pendulum-v1" in message


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compare", str(tmp_path), "--published"]) == 4
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_without_returns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ckpt.pt").write_bytes((RUN / "ckpt.pt").read_bytes())
    (tmp_path / "metrics.jsonl").write_text('{"iteration": 1, "env_steps": 64}\n')
    with pytest.raises(UsageError, match="has no returns yet"):
        published.compare([tmp_path])
