"""Reporting: metrics.jsonl, TensorBoard, the training view, learning curves, Pareto fronts, action fields."""

from __future__ import annotations

import errno
import io
import json
import math
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from rich.console import Console

from flowrl.cli.plot import plot
from flowrl.contracts.errors import CheckpointError, StorageError, UsageError
from flowrl.reporting import console, jsonl, numbers
from flowrl.reporting.console import NOTHING_YET, EarlierSessions, LiveView, PlainLines, Progress, open_view
from flowrl.reporting.jsonl import MetricsFile, read
from flowrl.reporting.metrics import METRICS, metric
from flowrl.reporting.plots import action_field, learning_curves, pareto_front, style
from flowrl.reporting.reporters import open_reporters
from flowrl.reporting.tensorboard import TensorBoard

# --- metrics.jsonl ---------------------------------------------------------------------------------


def test_a_line_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with closing(MetricsFile(path)) as metrics:
        metrics(1, {"env_steps": 2048, "return_mean": -9.5, "kl": math.nan, "ratio_max": math.inf})
        assert read(path) == [{"iteration": 1, "env_steps": 2048, "return_mean": -9.5, "kl": None, "ratio_max": None}]
        assert metrics.offset == path.stat().st_size


def test_resume_cuts_lines_after_the_checkpoint(tmp_path: Path) -> None:
    complete, resumed = tmp_path / "complete.jsonl", tmp_path / "resumed.jsonl"
    with closing(MetricsFile(complete)) as metrics:
        for iteration in range(1, 6):
            metrics(iteration, {"return_mean": iteration / 3})
    with closing(MetricsFile(resumed)) as metrics:
        for iteration in range(1, 4):
            metrics(iteration, {"return_mean": iteration / 3})
        recorded = metrics.offset
        metrics(4, {"return_mean": 99.0})  # after the checkpoint
    with resumed.open("ab") as file:
        file.write(b'{"iteration":5,"retu')  # torn by the crash
    with closing(MetricsFile(resumed, recorded)) as metrics:
        assert metrics.offset == recorded
        for iteration in (4, 5):
            metrics(iteration, {"return_mean": iteration / 3})
    assert resumed.read_bytes() == complete.read_bytes()


def test_resume_continues_a_file_that_lost_its_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration":1}\n{"iteration":2')
    with closing(MetricsFile(path, offset=48)) as metrics:
        assert metrics.offset == 16
        metrics(4, {})
    assert path.read_bytes() == b'{"iteration":1}\n{"iteration":4}\n'
    with closing(MetricsFile(tmp_path / "deleted.jsonl", offset=48)) as metrics:
        assert metrics.offset == 0


def test_an_offset_of_another_run_is_refused_without_changing_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration":1}\n{"iteration":2}\n')
    with pytest.raises(UsageError, match=r"byte 20.*another run"):
        MetricsFile(path, offset=20)
    assert path.read_bytes() == b'{"iteration":1}\n{"iteration":2}\n'


def test_a_new_run_does_not_overwrite_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration":1}\n')
    with pytest.raises(UsageError, match="--resume"):
        MetricsFile(path)
    assert path.read_bytes() == b'{"iteration":1}\n'


def test_a_file_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"metrics\.jsonl"):
        MetricsFile(tmp_path / "no_such_folder" / "metrics.jsonl")
    with pytest.raises(StorageError, match="tfevents"):
        TensorBoard(tmp_path / "no_such_folder")
    full = Path("/dev/full")
    if full.exists():
        metrics = MetricsFile(full)
        with pytest.raises(StorageError, match="No space left"):
            metrics(1, {"kl": 0.1})


def test_read_ignores_a_torn_last_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration":1}\n{"iteration":2,"retur')
    assert read(path) == [{"iteration": 1}]
    path.write_bytes(b'{"iteration":1}\n{"iteration":2}')
    assert read(path) == [{"iteration": 1}, {"iteration": 2}]
    path.write_bytes(b"")
    assert read(path) == []


@pytest.mark.parametrize(
    "garbage",
    [b"\x00\xff\x93NUMPY", b"[1, 2]", b"3.5", b'{"iteration":', b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"],
)
def test_garbage_is_refused_with_its_line(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"iteration":1}\n' + garbage + b'\n{"iteration":3}\n')
    with pytest.raises(UsageError, match=r"metrics\.jsonl, line 2"):
        read(path)


# --- TensorBoard -----------------------------------------------------------------------------------


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    """Read (step, value) of a tag with TensorBoard's reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def wait_for_another_second() -> None:
    """Readers take event files in the order of their names, which begin with the time in seconds."""
    time.sleep(1 - time.time() % 1)


def test_tensorboard_reads_back_what_was_written(tmp_path: Path) -> None:
    with closing(TensorBoard(tmp_path)) as board:
        board(1, {"env_steps": 2048, "return_mean": -9.5, "cfm_loss": 1.25})
        board(2, {"env_steps": 4096, "return_mean": math.nan, "cfm_loss": 1.0, "my_metric": 7})
        assert scalars(tmp_path, "loss/cfm") == [(2048, 1.25), (4096, 1.0)]  # before it is closed
    assert scalars(tmp_path, "return/mean") == [(2048, -9.5)]
    assert scalars(tmp_path, "other/my_metric") == [(4096, 7.0)]
    assert scalars(tmp_path, "time/iteration") == [(2048, 1.0), (4096, 2.0)]


def test_a_resumed_run_replaces_points_of_the_interrupted_one(tmp_path: Path) -> None:
    with closing(TensorBoard(tmp_path)) as board:
        for iteration in range(1, 6):
            board(iteration, {"env_steps": 100 * iteration, "return_mean": 1.0})
    wait_for_another_second()
    with closing(TensorBoard(tmp_path, resumed_at=300)) as board:
        for iteration in (4, 5):
            board(iteration, {"env_steps": 100 * iteration, "return_mean": 2.0})
    assert scalars(tmp_path, "return/mean") == [(100, 1.0), (200, 1.0), (300, 1.0), (400, 2.0), (500, 2.0)]


@pytest.mark.slow
def test_a_resume_within_the_same_second_leaves_no_point_twice(tmp_path: Path) -> None:
    """By another process, whose file may come first in the order of names."""
    write = (
        "import sys; from contextlib import closing; from flowrl.reporting.tensorboard import TensorBoard\n"
        "from pathlib import Path; folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])\n"
        "with closing(TensorBoard(folder, 100 * (first - 1) if first > 1 else None)) as board:\n"
        "    for i in range(first, last): board(i, {'env_steps': 100 * i, 'return_mean': float(first)})\n"
    )
    subprocess.run([sys.executable, "-c", write, str(tmp_path), "1", "6"], check=True)
    file = next(tmp_path.glob("events*"))
    name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.99999999.0.flowrl"
    file.rename(tmp_path / name)
    with closing(TensorBoard(tmp_path, 300)) as board:
        board(4, {"env_steps": 400, "return_mean": 4.0})
    assert scalars(tmp_path, "return/mean") == [(100, 1.0), (200, 1.0), (300, 1.0), (400, 4.0)]


def test_event_files_on_a_full_disk_are_a_storage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with closing(TensorBoard(tmp_path)) as board:
        for method in ("add_scalar", "flush"):
            with monkeypatch.context() as patch, pytest.raises(StorageError, match=r"tfevents.*No space left"):
                patch.setattr(SummaryWriter, method, full)
                board(1, {"env_steps": 100})


def test_every_tag_has_a_section_and_one_metric() -> None:
    tags = [shown.tag for shown in METRICS.values()]
    assert len(set(tags)) == len(tags)
    assert {tag.count("/") for tag in tags} == {1}
    assert metric("unknown_metric").tag == "other/unknown_metric"


# --- the training view -----------------------------------------------------------------------------


class Clock:
    """A clock whose time is set by the test."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def metrics_at(steps: int) -> dict[str, float]:
    return {"env_steps": steps, "return_mean": 12.5, "success_rate": 0.973, "length_mean": 7.0, "kl": 0.01}


def test_plain_lines_come_at_most_every_ten_seconds_and_with_the_last_iteration() -> None:
    stream, clock = io.StringIO(), Clock()
    with closing(open_view(100_000, heading="fpo GridWorld", stream=stream, clock=clock)) as view:
        assert isinstance(view, PlainLines)
        for iteration in range(1, 26):  # one a second
            clock.now += 1
            view(iteration, metrics_at(1000 * iteration))
    lines = stream.getvalue().splitlines()
    assert [line.split()[1].split("/")[0] for line in lines[1:]] == ["1,000", "11,000", "21,000", "25,000"]
    assert lines[0] == "fpo GridWorld: 100,000 env steps"
    # 25 of 100 thousand steps at 1000 a second: 75 s are left.
    assert "25,000/100,000  25 %" in lines[-1]
    assert lines[-1].endswith("left  1:15")
    assert "return    12.50  success rate  97.3 %" in lines[-1]
    assert len({len(line) for line in lines[1:]}) == 1  # aligned
    assert not set(stream.getvalue()) & set("\x1b\r\x08")
    assert stream.getvalue().isascii()


def test_plain_lines_do_not_repeat_the_last_one() -> None:
    stream = io.StringIO()
    with closing(open_view(1000, stream=stream)) as view:
        view(1, metrics_at(1000))
    assert len(stream.getvalue().splitlines()) == 1


def test_a_pipe_has_no_escape_codes_even_when_colour_is_forced() -> None:
    code = (
        "from contextlib import closing; from flowrl.reporting.console import open_view\n"
        "with closing(open_view(10, heading='fpo')) as view: view(1, {'env_steps': 10, 'return_mean': 1.0})"
    )
    forced = {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1", "TERM": "xterm-256color"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, env=forced, check=True)
    assert result.stdout == b""
    assert result.stderr.count(b"\n") == 2
    assert not set(result.stderr) & set(b"\x1b\r")


def test_quiet_shows_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for quiet, shown in ((True, False), (False, True)):
        folder = tmp_path / f"quiet {quiet}"
        folder.mkdir()
        with open_reporters(folder, 10, quiet=quiet) as report:
            report(1, metrics_at(10))
        stdout, stderr = capfd.readouterr()
        assert (stdout, bool(stderr)) == ("", shown)


def test_a_broken_pipe_does_not_stop_training() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    clock = Clock()
    with closing(open_view(10, stream=Broken(), clock=clock)) as view:
        for iteration in range(1, 4):
            clock.now += 60
            view(iteration, metrics_at(iteration))


def live_view(clock: Clock, width: int = 80) -> tuple[LiveView, io.StringIO]:
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=width, height=20, legacy_windows=False)
    return LiveView(terminal, Progress(100_000, NOTHING_YET, clock), "fpo GridWorld"), stream


def test_the_live_view_draws_at_most_four_times_a_second_and_restores_the_cursor() -> None:
    clock = Clock()
    view, stream = live_view(clock)
    drawn = 0
    for iteration in range(1, 101):  # 3 s of iterations of 30 ms
        clock.now += 0.03
        before = len(stream.getvalue())
        view(iteration, metrics_at(1000 * iteration))
        drawn += len(stream.getvalue()) > before
    assert 10 <= drawn <= 12
    view.close()
    view.close()
    assert stream.getvalue().count("\x1b[?25l") == stream.getvalue().count("\x1b[?25h") == 1


def test_a_slow_terminal_is_drawn_less_often() -> None:
    clock = Clock()
    view, _ = live_view(clock)

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            clock.now += 0.05
            return super().write(text)

    slow = Slow()
    view._console.file = slow
    spent = 0.0
    began = clock.now
    for iteration in range(1, 2001):
        clock.now += 0.03
        before = clock.now
        view(iteration, metrics_at(iteration))
        spent += clock.now - before
    assert slow.getvalue()
    assert spent <= 0.01 * (clock.now - began) + 0.05


@pytest.mark.parametrize("width", [20, 50, 80, 120])
def test_the_live_view_fits_its_width(width: int) -> None:
    clock = Clock()
    progress = Progress(300_000, NOTHING_YET, clock)
    clock.now += 10
    progress.returns += [1.0, 2.0]
    progress.update(1, dict.fromkeys(METRICS, 0.5) | {"return_mean": 17.25, "env_steps": 150_000})
    text = console.render(progress, "fpo GridWorld", width, False, False)
    rendered = Console(width=width).render_lines(text, pad=False)
    lines = ["".join(segment.text for segment in line) for line in rendered]
    assert max(len(line) for line in lines) <= width
    in_view = [name for name in METRICS if METRICS[name].view]
    assert len(in_view) == 14
    assert len(lines) == 3 + -(-(len(in_view) - 1) // max(1, (width + 3) // 26))
    assert "17.25" in lines[2] or width < 25
    if width >= 80:
        assert "50 %    150k of 300k steps   15.0k/s     0:10 left" in lines[1]


def test_an_iteration_without_finished_episodes_keeps_the_last_return() -> None:
    progress = Progress(100, NOTHING_YET, Clock())
    progress.update(1, {"env_steps": 10, "return_mean": 3.0})
    progress.update(2, {"env_steps": 20, "return_mean": math.nan})
    assert progress.latest["return_mean"] == 3.0


def test_a_resumed_run_measures_its_speed_from_the_resume() -> None:
    clock = Clock()
    progress = Progress(1000, EarlierSessions(900), clock)
    clock.now += 5
    progress.update(91, {"env_steps": 950})
    assert (progress.steps_per_s, progress.seconds_left, progress.share) == (10.0, 5.0, 0.95)


def test_a_resumed_run_shows_where_it_was_resumed_and_the_time_of_all_sessions() -> None:
    clock = Clock()
    earlier = EarlierSessions(52_000, 19.0, [float(value) for value in range(8)])
    progress = Progress(104_000, earlier, clock)
    clock.now += 41
    progress.update(31, {"env_steps": 104_000, "return_mean": 7.0})
    lines = console.render(progress, "fpo GridWorld", 100, False, True).plain.splitlines()
    assert lines[:2] == ["fpo GridWorld", "resumed at 52,000 env steps, after 0:19"]
    assert lines[2].endswith("took  1:00")  # 19 + 41 s
    assert "▁▂▃▄▅▆▇██" in lines[3]  # the curve of the earlier sessions, and one more


def test_numbers_as_text() -> None:
    values = [0.0, 0.0412, 3.14159, 512.31, 12345.6, 1.234e7, 3e-5, -9.5, math.nan]
    words = ["0.000", "0.041", "3.14", "512.3", "12,346", "1.23e+07", "3.00e-05", "-9.50", "-"]
    assert [numbers.number(value) for value in values] == words
    assert [numbers.count(value) for value in (950, 999.9, 12_345, 999_960, 4.56e6)] == [
        "950",
        "1.00k",
        "12.3k",
        "1.00M",
        "4.56M",
    ]
    assert [numbers.duration(value) for value in (6.2, 750, 11_100, math.nan)] == ["0:07", "12:30", "3:05:00", "-:--"]


def test_sparkline_spans_lowest_to_highest() -> None:
    assert numbers.sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert numbers.sparkline([0, 0, 7, 7], 2) == "▁█"  # each bar the mean of two
    assert numbers.sparkline([5.0, 5.0], 10) == "▁▁"
    assert numbers.sparkline([], 10) == numbers.sparkline([1.0], 0) == ""


def test_the_sparkline_shows_all_returns_of_a_long_run() -> None:
    progress = Progress(10_000, NOTHING_YET, Clock())
    for iteration in range(10_000):
        progress.update(iteration, {"return_mean": float(iteration) if iteration % 2 == 0 else math.nan})
    assert progress.returns == [float(iteration) for iteration in range(0, 10_000, 2)]
    bar_width = console.LABEL_WIDTH + console.VALUE_WIDTH + console.GAP + 2
    assert "   ▁▂▃▄▅▆▇█" in console.render(progress, "", bar_width + 8, False, False).plain


# --- reporters of a run ----------------------------------------------------------------------------


def test_reporters_write_together_and_resume_together(tmp_path: Path) -> None:
    with open_reporters(tmp_path, 500, quiet=True) as report:
        for iteration in range(1, 6):
            report(iteration, {"env_steps": 100 * iteration, "seconds": iteration / 2, "return_mean": 1.0})
            if iteration == 3:
                offset = report.offset
    wait_for_another_second()
    progress = {"iteration": 3, "env_steps": 300, "seconds": 1.5}
    with open_reporters(tmp_path, 500, offset=offset, progress=progress, quiet=True) as report:
        assert report.missing == ""
        report(4, {"env_steps": 400, "return_mean": 2.0})
    assert [record["return_mean"] for record in read(tmp_path / "metrics.jsonl")] == [1, 1, 1, 2]
    assert scalars(tmp_path, "return/mean") == [(100, 1.0), (200, 1.0), (300, 1.0), (400, 2.0)]


# --- curves ----------------------------------------------------------------------------------------


def write_run(folder: Path, config: dict[str, object], returns: list[float | None], every: int = 10) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = [
        json.dumps({"iteration": i, "env_steps": every * i, "seconds": 0.5 * i, "return_mean": value})
        for i, value in enumerate(returns, start=1)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def recipe(algorithm: str = "fpo", seed: int = 0, clip: float = 0.05) -> dict[str, object]:
    return {"algorithm": algorithm, "seed": seed, "env": {"id": "Toy-v0"}, "learner": {"clip": clip}}


def test_seeds_are_interpolated_to_the_steps_that_all_cover() -> None:
    first = (np.array([0.0, 10.0, 20.0]), np.array([0.0, 10.0, 30.0]))
    second = (np.array([5.0, 25.0]), np.array([4.0, 24.0]))
    band = learning_curves.aggregate([first, second], points=4)
    assert band is not None
    # Both cover 5 ... 20. At 5, 10, 15, 20 the first is 5, 10, 20, 30 and the second 4, 9, 14, 19.
    np.testing.assert_allclose(band.x, [5, 10, 15, 20])
    np.testing.assert_allclose(band.mean, [4.5, 9.5, 17.0, 24.5])
    np.testing.assert_allclose(band.low, [4, 9, 14, 19])
    np.testing.assert_allclose(band.high, [5, 10, 20, 30])


def test_seeds_without_common_steps_have_no_band() -> None:
    early, late = (np.array([0.0, 1.0]), np.zeros(2)), (np.array([2.0, 3.0]), np.zeros(2))
    assert learning_curves.aggregate([early, late]) is None
    assert learning_curves.aggregate([early, (np.array([0.0]), np.array([np.nan]))]) is None
    assert learning_curves.aggregate([]) is None


def test_smoothing_is_a_centred_mean_without_missing_values() -> None:
    values = np.array([1.0, 2.0, np.nan, 6.0, 10.0])
    # Windows of three: (1, 2), (1, 2, -), (2, -, 6), (-, 6, 10), (6, 10).
    np.testing.assert_allclose(learning_curves.smoothed(values, 3), [1.5, 1.5, 4.0, 8.0, 8.0])
    np.testing.assert_array_equal(learning_curves.smoothed(values, 1), values)


def test_runs_that_differ_in_their_seed_are_one_group(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "a", recipe(seed=0), [1.0, 2.0]),
        write_run(tmp_path / "b", recipe("ppo"), [1.0, 2.0]),
        write_run(tmp_path / "c", recipe(seed=1) | {"threads": 2}, [1.0, None]),
        write_run(tmp_path / "d", recipe(seed=0, clip=0.1), [1.0, 2.0]),
    ]
    grouped = learning_curves.groups([learning_curves.load(folder) for folder in folders])
    assert {label: [run.folder.name for run in runs] for label, runs in grouped.items()} == {
        "fpo Toy-v0 learner.clip=0.05": ["a", "c"],
        "ppo Toy-v0": ["b"],
        "fpo Toy-v0 learner.clip=0.1": ["d"],
    }


def test_a_run_without_a_readable_config_is_its_own_group(tmp_path: Path) -> None:
    for name, text in (("a", "{"), ("b", "- 1"), ("c/x", None), ("d/x", None)):
        write_run(tmp_path / name, {}, [1.0])
        config = tmp_path / name / "config.yaml"
        config.write_text(text) if text else config.unlink()
    grouped = learning_curves.groups([learning_curves.load(tmp_path / name) for name in ("a", "b", "c/x", "d/x")])
    assert list(grouped) == ["a", "b", f"x ({tmp_path / 'c/x'})", f"x ({tmp_path / 'd/x'})"]


def test_seeds_of_one_iteration_are_drawn_as_a_point(tmp_path: Path) -> None:
    for values, marker in (([1.0], "o"), ([1.0, 2.0], "None")):
        names = [f"{len(values)} seed {seed}" for seed in (0, 1)]
        runs = [learning_curves.load(write_run(tmp_path / name, recipe(), values)) for name in names]
        for members in (runs, runs[:1]):
            axes = learning_curves.draw({"fpo": members}, ["return_mean"]).axes[0]
            assert axes.lines[-1].get_marker() == marker


def test_a_seed_that_stopped_early_is_named(
    tmp_path: Path, command: typer.Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    complete = str(write_run(tmp_path / "complete", recipe(seed=0), [1.0] * 10))
    short = str(write_run(tmp_path / "short", recipe(seed=1), [1.0] * 8))
    command([complete, short, "--out", str(tmp_path / "curves.png")], standalone_mode=False)
    assert f"{short} ends at 80 of 100 env_steps" in capsys.readouterr().err


def test_the_end_of_a_run_is_the_mean_of_its_last_tenth(tmp_path: Path) -> None:
    run = learning_curves.load(write_run(tmp_path / "a", recipe(), [0.0] * 18 + [3.0, 5.0]))
    assert learning_curves.final(run, "return_mean") == 4.0
    assert math.isnan(learning_curves.final(run, "cfm_loss"))


# --- fronts and fields -----------------------------------------------------------------------------


def test_a_small_range_is_drawn_on_a_linear_axis_and_decades_on_a_logarithmic_one() -> None:
    def scale(*errors: float) -> str:
        choices = [pareto_front.Choice("euler", n, 10.0 * n, error) for n, error in enumerate(errors, start=1)]
        return str(pareto_front.draw(choices, "error", "lower").axes[0].get_yscale())

    assert scale(6.0, 6.7) == scale(0.0, 1.0) == scale(1.0, 9.9) == "linear"
    assert scale(1e-3, 1e-1) == scale(1.0, 10.0) == "log"


@pytest.mark.parametrize(
    ("latencies", "labels"),
    [
        ((150, 45_000), ["200", "500", "1k", "2k", "5k", "10k", "20k", "50k"]),
        ((150, 4_500_000), ["100", "1k", "10k", "100k", "1M"]),  # 1-2-5: 14 labels would run into each other
        ((3, 4), ["3", "4", "5"]),  # one tick alone would show no scale
    ],
)
def test_ticks_are_round_and_not_crowded(latencies: tuple[float, float], labels: list[str]) -> None:
    choices = [pareto_front.Choice("euler", n, latency, 1.0) for n, latency in enumerate(latencies, start=1)]
    axis = pareto_front.draw(choices, "return").axes[1].xaxis
    assert [axis.get_major_formatter()(tick, 0) for tick in axis.get_majorticklocs()] == labels
    assert len(axis.get_minorticklocs()) == 0


def test_spacing_is_the_least_distance_of_neighbouring_cells() -> None:
    cells = np.array([[2, 2], [4, 2], [2, 5]])
    assert action_field._spacing(cells) == 2.0
    assert action_field._spacing(cells[:1]) == 1.0


def test_rise_is_the_sine_of_the_angle() -> None:
    actions = np.array([[0.0, 2.0], [0.0, -0.1], [1.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(action_field._rise(actions), [1, -1, 0, 0.8, 0])


def test_figures_are_written_without_changing_matplotlib_settings(tmp_path: Path) -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    nowhere = np.zeros((25, 25), dtype=bool)
    layout = action_field.FieldLayout(goal=~nowhere, death=nowhere, wall=nowhere)
    path = np.array([[12, 12], [12, 13]])
    panel = action_field.FieldPanel("FPO", path, np.ones((2, 3, 2)), [path, path[::-1]])
    style.save(action_field.draw(layout, [panel, panel]), tmp_path / "new" / "field.png")
    choices = [pareto_front.Choice("euler", n, 10.0 * n, 1 / n, (0.5 / n, 2 / n)) for n in (1, 2, 4)]
    style.save(pareto_front.draw(choices, "endpoint error", "lower"), tmp_path / "front.svg")
    first = (tmp_path / "front.svg").read_bytes()
    style.save(pareto_front.draw(choices, "endpoint error", "lower"), tmp_path / "front.svg")
    assert (tmp_path / "front.svg").read_bytes() == first  # the same data, the same file
    assert (tmp_path / "new" / "field.png").read_bytes().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before
    with pytest.raises(StorageError):
        style.save(pareto_front.draw(choices, "error"), Path("/dev/null/front.png"))


# --- flowrl plot -----------------------------------------------------------------------------------


@pytest.fixture
def command() -> typer.main.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(plot)
    return app


def test_plot_draws_and_summarises_the_runs(
    tmp_path: Path, command: typer.Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(write_run(tmp_path / str(seed), recipe(seed=seed), [0.0, 2.0 + seed])) for seed in (0, 1)]
    out = tmp_path / "curves.svg"
    command([*runs, "--out", str(out)], standalone_mode=False)
    printed = capsys.readouterr()
    assert "fpo Toy-v0: 2 seeds, return 2.5 (2 to 3)" in printed.out
    assert printed.err.splitlines()[-1] == f"next: flowrl eval {runs[0]}"
    assert out.read_text().startswith("<?xml")

    command([*runs, "--out", str(out), "--x", "seconds", "--json"], standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert document["figure"] == str(out)
    assert document["groups"]["fpo Toy-v0"]["return_mean"] == [2.0, 3.0]
    assert document["groups"]["fpo Toy-v0"]["seeds"] == [0, 1]


def test_plot_takes_any_sampler_of_a_config(
    tmp_path: Path, command: typer.Typer, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", recipe(), [1.0])
    (run / "config.yaml").write_text("algorithm: fpo\nsampler: heun\n")
    command([str(run), "--out", str(tmp_path / "curves.svg")], standalone_mode=False)
    assert capsys.readouterr().err.splitlines()[-1] == f"next: flowrl eval {run}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no run nowhere"),
        (["empty"], r"holds no metrics\.jsonl"),
        (["."], "flowrl plot run"),
        (["run", "--metric", "reward"], "Did you mean 'return_mean'"),
        (["run", "--metric", "retrun_mean"], "Did you mean 'return_mean'"),
        (["run", "--x", "hours"], "env_steps, seconds"),
        (["run", "--out", "curves.gif"], r"--out curves\.png"),
        (["started"], "has not finished its first iteration"),
    ],
)
def test_plot_names_the_wrong_argument(
    tmp_path: Path, command: typer.Typer, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", recipe(), [1.0])
    (tmp_path / "empty").mkdir()
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / jsonl.NAME).touch()
    with pytest.raises((UsageError, CheckpointError), match=message):
        command(arguments, standalone_mode=False)
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.slow
def test_plot_needs_neither_torch_nor_pyplot(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", recipe(), [1.0, 2.0])
    code = (
        "import sys, pathlib\n"
        "from flowrl.cli.plot import plot\n"
        "from flowrl.reporting.plots import action_field, pareto_front; from flowrl.reporting import reporters\n"
        "assert not {'torch', 'matplotlib', 'tensorboard'} & sys.modules.keys()\n"
        f"plot([pathlib.Path({str(run)!r})], out=pathlib.Path({str(tmp_path / 'curves.png')!r}))\n"
        "assert not {'torch', 'matplotlib.pyplot'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "curves.png").stat().st_size > 1000
