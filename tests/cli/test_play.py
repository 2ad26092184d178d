"""`flowrl play` end to end, on real videos; then its parts."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image

from flowrl import cli
from flowrl.contracts.errors import MissingDependency, StorageError
from flowrl.contracts.installing import reinstall
from flowrl.envs import gridworld
from flowrl.envs.settings import EnvSettings
from flowrl.experiments import play
from flowrl.experiments.evaluate import EvalRequest, open_checkpoint
from flowrl.reporting import video

RECIPE = """
algorithm: {algorithm}
total_steps: 64
env: {{id: {env}, count: 4}}
policy: {{hidden: [8]}}
sampler: {{name: euler, steps: 2}}
rollout: {{steps: 16}}
learner: {{epochs: 1, minibatches: 1, critic: {{hidden: [8]}}}}
"""
GRID = 25 * 16  # pixels of GridWorld's picture, each way


def trained(folder: Path, name: str, algorithm: str = "fpo", env: str = gridworld.ID) -> None:
    recipe = folder / f"{name}.yaml"
    recipe.write_text(
        RECIPE.format(algorithm=algorithm, env=env).replace(
            "{hidden: [8]}\nsampler",
            "{hidden: [8], kind: gaussian}\nsampler" if algorithm == "ppo" else "{hidden: [8]}\nsampler",
        )
    )
    assert cli.run(["train", str(recipe), "--out", str(folder), "--name", name, "--json"]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with two runs of GridWorld, hardly trained: a flow and a Gaussian."""
    folder = tmp_path_factory.mktemp("work")
    trained(folder, "flow")
    trained(folder, "gauss", "ppo")
    return folder


GRAPHICS = ("MUJOCO_GL", "PYOPENGL_PLATFORM")


@pytest.fixture(autouse=True)
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for name in GRAPHICS:
        if name not in os.environ:  # playing may set it; afterwards it is as it was
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)


def result_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = cli.run(["play", *arguments])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.err


def played(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    code = cli.run(["play", *arguments, "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def frames_of(path: str | Path) -> list[np.ndarray]:
    with Image.open(path) as pages:
        frames = []
        for index in range(pages.n_frames):
            pages.seek(index)
            frames.append(np.array(pages.convert("RGB")))
        return frames


# ------------------------------------------------------------------------------------------------ videos


@pytest.mark.parametrize("suffix", [".webp", ".gif", ".GIF"])
def test_a_frame_per_step_and_one_of_the_start(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = played(["flow", "--max-steps", "6", "--seed", "1", "--video", str(tmp_path / f"x{suffix}")], capsys)
    (episode,) = result["episodes"]
    frames = frames_of(result["video"])
    assert result["frames"] == len(frames) == episode["length"] + 1
    assert {frame.shape for frame in frames} == {(video.CAPTION + GRID, GRID, 3)}
    captions = {frame[: video.CAPTION].tobytes() for frame in frames}
    assert len(captions) == len(frames)  # the step counts up
    assert result["bytes"] == Path(result["video"]).stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == [f"x{suffix}"]


def test_it_is_written_beside_the_checkpoint_and_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["play", "flow", "--max-steps", "2"]) == 0
    said = capsys.readouterr()
    assert "flow/play.webp: 3 frames of 400 x 444 at 10 per second" in said.out
    assert said.err.strip().splitlines()[-1].startswith("next: ")
    assert len(frames_of("flow/play.webp")) == 3


def test_panels_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two samplers of one checkpoint, a third sampler, and another checkpoint, which has no sampler."""
    arguments = ["flow", "--sampler", "euler:1,rk4:4", "--compare", "dopri5", "--compare", "gauss/best.pt"]
    result = played([*arguments, "--max-steps", "3", "--size", "100x100", "--video", str(tmp_path / "x.gif")], capsys)
    episodes = result["episodes"]
    assert [(row["sampler"], row["steps"]) for row in episodes] == [
        ("euler", 1), ("rk4", 4), ("dopri5", None), (None, None)
    ]  # fmt: skip
    assert [row["nfe"] for row in episodes[:2]] == [1, 16]
    assert episodes[2]["nfe"] > 7 and episodes[3]["nfe"] is None
    assert [row["label"] for row in episodes] == [*["flow · FPO"] * 3, "gauss best · PPO"]
    width = 4 * video.NARROWEST + 3 * video.GAP
    assert (result["width"], result["height"]) == (width, video.CAPTION + 100)
    assert frames_of(result["video"])[0].shape == (result["height"], result["width"], 3)


def test_episodes_follow_one_another(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Episode 2 from seed 4 is episode 1 from seed 5, noise included; the end of each is held for a second."""
    common = ["flow", "--max-steps", "5", "--video", str(tmp_path / "x.webp")]
    two = played([*common, "--seed", "4", "--episodes", "2"], capsys)
    first, second = two["episodes"]
    assert (first["episode"], second["episode"]) == (1, 2)
    assert two["frames"] == first["length"] + 1 + second["length"] + 1
    with Image.open(two["video"]) as pages:
        times = []
        for index in range(pages.n_frames):
            pages.seek(index)
            pages.load()
            times.append(pages.info["duration"])
    assert times == [*[100] * first["length"], 1000, *[100] * second["length"], 1000]
    alone = played([*common, "--seed", "5"], capsys)["episodes"][0]
    assert alone | {"episode": 2} == second


def test_of_several_motions_every_episode_shows_the_next(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained(folder, "tracker", env="flowrl/HumanoidTrack-v0")
    capsys.readouterr()
    motions = ["--set", "env.motions=[gait:stand, gait:step]", "--episodes", "3", "--max-steps", "2"]
    rows = played(["tracker", *motions, "--video", str(tmp_path / "x.webp")], capsys)["episodes"]
    assert [row["motion"] for row in rows] == ["gait:stand", "gait:step", "gait:stand"]


def test_steps_are_left_out_to_stay_below_the_frame_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """10 steps per second in at most 4 frames: every third step, and the end."""
    common = ["flow", "--set", "env.options.start=[12,12]", "--video", str(tmp_path / "x.webp")]
    result = played([*common, "--max-steps", "7", "--fps", "4"], capsys)
    assert result["episodes"][0]["length"] == 7  # the goal is ten steps away
    assert result["fps"] == pytest.approx(10 / 3)
    assert result["frames"] == len([0, 3, 6, 7])


def test_a_cut_episode_differs_from_an_ended_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["flow", "--set", "env.options.start=[12,12]", "--video", str(tmp_path / "x.webp")]
    cut = played([*common, "--max-steps", "4"], capsys)["episodes"][0]
    assert (cut["length"], cut["ended"], cut["success"]) == (4, False, None)
    ended = played([*common, "--set", "env.options.max_steps=4"], capsys)["episodes"][0]
    assert (ended["length"], ended["ended"], ended["success"]) == (4, True, False)


@pytest.mark.skipif(sys.platform != "linux", reason="the choice of a library is Linux's")
def test_mujoco_without_a_display(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    trained(folder, "hopper", env="Hopper-v5")
    capsys.readouterr()
    arguments = ["hopper", "--max-steps", "3", "--size", "64x48", "--fps", "200", "--compare", "heun:1"]
    code = cli.run(["play", *arguments, "--json", "--video", str(tmp_path / "x.gif")])
    said = capsys.readouterr()
    if code == 8:
        assert "apt-get install libegl1" in said.err
        pytest.skip(said.err)
    assert code == 0, said.err
    frames = frames_of(tmp_path / "x.gif")  # a frame per step, of the hopper's 125 a second
    assert len(frames) == 4
    assert frames[0].shape == (video.CAPTION + 48, 2 * video.NARROWEST + video.GAP, 3)
    assert (frames[0][video.CAPTION :] != frames[-1][video.CAPTION :]).any()


def test_mp4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    result = played(["flow", "--max-steps", "3", "--video", str(tmp_path / "x.mp4")], capsys)
    frames, _ = ffmpeg.count_frames_and_secs(result["video"])
    # The end is held for a second: ten frames of the ten per second.
    assert frames == result["episodes"][0]["length"] + 10
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]


# ------------------------------------------------------------------------------------------------ bad input


class Blind(gymnasium.Env[Any, Any]):
    """GridWorld's sizes, and no picture."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012
    observation_space = action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.zeros(2, dtype=np.float32), 0.0, False, False, {}


class Unwilling(Blind):
    """Says it can draw, and has no `render`."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}  # noqa: RUF012


class Unequipped(Unwilling):
    """Draws with a package that is not there."""

    def render(self) -> Any:
        raise gymnasium.error.DependencyNotInstalled("brush is not installed, run `pip install brush`")


class Restless(Unwilling):
    """Starts again under the same seed."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.random.default_rng().uniform(-1, 1, 2).astype(np.float32), {}

    def render(self) -> Any:
        return np.zeros((20, 20, 3), dtype=np.uint8)


@pytest.fixture(scope="module", autouse=True)
def _odd_environments() -> Iterator[None]:
    odd = (Blind, Unwilling, Unequipped, Restless)
    for environment in odd:
        gymnasium.register(id=f"test/{environment.__name__}-v0", entry_point=environment)
    yield
    for environment in odd:
        del gymnasium.registry[f"test/{environment.__name__}-v0"]


WRONG = [  # what is typed, exit code, what the message must name
    (["flow", "--video", "x.avi"], 2, [".webp", ".gif", ".mp4", "x.webp"]),
    (["flow", "--video", "x"], 2, [".webp"]),
    (["flow", "--video", "flow/ckpt.pt/x.webp"], 6, ["flow/ckpt.pt"]),
    (["flow", "--video", "folder.webp"], 6, ["folder.webp", "folder"]),
    (["flow", "--env", "test/Blind-v0"], 2, ["test/Blind-v0", "pictures"]),
    (["flow", "--env", "test/Unwilling-v0"], 2, ["test/Unwilling-v0", "pictures"]),
    (["flow", "--env", "test/Unequipped-v0"], 8, ["pip install brush"]),
    (["flow", "--env", "test/Restless-v0", "--sampler", "euler:1,euler:2"], 2, ["seed", "one by one"]),
    (["flow", "--env", "Pendulum-v1"], 2, ["Pendulum-v1", "3"]),
    (["flow", "--size", "320"], 2, ["320x240"]),
    (["flow", "--size", "1x1"], 2, ["320x240"]),
    (["flow", "--fps", "0"], 2, ["fps"]),
    (["flow", "--episodes", "0"], 2, ["episodes"]),
    (["flow", "--max-steps", "0"], 2, ["max-steps"]),
    (["flow", "--sampler", "hein"], 2, ["heun"]),
    (["flow", "--noise", "zeros"], 2, ["zeros", "zero"]),
    (["flow", "--compare", "hein:3"], 2, ["heun"]),
    (["flow", "--compare", "other.pt"], 4, ["other.pt"]),
    (["flow", "--compare", "runs/other"], 4, ["runs/other"]),
    (["flow", "--sampler", ",".join(f"euler:{steps}" for steps in range(1, 19))], 2, ["18", "16"]),
    (["nowhere"], 4, ["nowhere"]),
]


@pytest.mark.parametrize(("arguments", "expected", "names"), WRONG, ids=[" ".join(w[0])[:60] for w in WRONG])
def test_a_bad_command_line(
    arguments: list[str], expected: int, names: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "folder.webp").mkdir(exist_ok=True)
    before = sorted(folder.iterdir())
    code, said = result_of(arguments, capsys)
    assert code == expected, said
    for name in names:
        assert name in said
    assert sorted(folder.iterdir()) == before  # nothing half-written


def test_different_tasks_do_not_stand_side_by_side(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = folder / "other.yaml"
    recipe.write_text((folder / "flow.yaml").read_text().replace("count: 4", "count: 4, options: {mode: cshape}"))
    assert cli.run(["train", str(recipe), "--out", ".", "--name", "other", "--json"]) == 0
    code, said = result_of(["flow", "--compare", "other"], capsys)
    assert code == 2
    assert "mode=cshape" in said
    code, said = result_of(
        ["flow", "--compare", "other", "--set", "env.options.mode=cshape", "--max-steps", "1"], capsys
    )
    assert code == 0, said


def test_mp4_without_its_package(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    code, said = result_of(["flow", "--video", "x.mp4"], capsys)
    assert code == 8
    assert reinstall("video") in said
    assert "x.webp" in said


def has_osmesa() -> bool:
    for name in ("libOSMesa.so.8", "libOSMesa.so.6"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return True
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or has_osmesa(), reason="needs a graphics library that is missing")
@pytest.mark.parametrize("env", ["flowrl/PointMass-v0", "InvertedPendulum-v5"])
def test_what_to_install_where_nothing_can_be_drawn(env: str, tmp_path: Path) -> None:
    """In a process of its own: MuJoCo chooses its graphics when it is first imported."""
    program = (
        "from flowrl.envs.settings import EnvSettings\nfrom flowrl.envs import rendering\n"
        f"settings = EnvSettings(id={env!r})\n"
        "env = rendering.make_visible(settings, rendering.Size(64, 48))\nenv.reset(0)\nrendering.picture(env)"
    )
    environment = {name: value for name, value in os.environ.items() if name not in GRAPHICS}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"MUJOCO_GL": "osmesa"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("flowrl.contracts.errors.MissingDependency"), done.stderr
    assert last.count("apt-get install libegl1") == 1
    assert "MUJOCO_GL=egl" in last and "libosmesa6" in last


# ------------------------------------------------------------------------------------------------- the parts


def players(*samplers: str, seed: int = 0) -> list[play.Player]:
    panels = play.plan_panels(Path("flow"), EvalRequest(",".join(samplers), episodes=1, seed=seed), ())
    return [play.Player(opened, request, play.PICTURE) for opened, request in panels]


def scenes(players: list[play.Player], seed: int, max_steps: int = 100) -> list[tuple[bool, list[video.VideoPanel]]]:
    request = EvalRequest(episodes=1, seed=seed)
    return list(play.play_episode(players, request, 1, 1, max_steps, lambda episode, step: None))


def test_all_panels_start_from_the_same_state() -> None:
    cast = players("euler:1", "rk4:4", "heun:3")
    starts = []
    for seed in (0, 1):
        panels = scenes(cast, seed, max_steps=1)[0][1]
        assert all((panel.picture == panels[0].picture).all() for panel in panels)
        starts.append(panels[0].picture)
    assert (starts[0] != starts[1]).any()


def test_panels_whose_actions_last_differently_are_refused() -> None:
    once, thrice = (EnvSettings(id="Pendulum-v1", action_repeat=repeat) for repeat in (1, 3))
    assert play.arguments(once) != play.arguments(thrice)
    assert play.described(thrice) == "Pendulum-v1 with action_repeat=3"


@pytest.mark.slow
def test_who_is_done_waits_for_the_others() -> None:
    """From every seed on until one is found under which the two samplers take different times."""
    cast = players("euler:1", "rk4:4")
    for seed in range(50):
        filmed = scenes(cast, seed)
        lengths = [player.length for player in cast]
        if lengths[0] != lengths[1]:
            break
    first = int(np.argmin(lengths))
    assert len(filmed) == max(lengths) + 1
    assert [last for last, _ in filmed] == [*[False] * max(lengths), True]
    held = [panels[first] for _, panels in filmed[min(lengths) :]]
    assert {panel.facts for panel in held} == {held[0].facts}
    assert "final return" in held[0].facts
    assert all(panel.picture is held[0].picture for panel in held)
    others = [panels[1 - first].facts for _, panels in filmed]
    assert len(set(others)) == len(others)


def test_the_caption_counts_the_return_and_names_the_outcome() -> None:
    (player,) = players("heun:3")
    for seed in range(50):
        filmed = scenes([player], seed)
        if player.success:
            break
    captions = [panels[0].facts for _, panels in filmed]
    assert captions[0] == "NFE 6 · step 0 · return 0.0"
    assert captions[-1] == f"NFE 6 · step {player.length} · final return 20.0 · success"
    assert filmed[-1][1][0].title == "flow · FPO · heun:3"
    assert [panels[0].tone for _, panels in filmed[-2:]] == ["running", "success"]


def test_the_picture_of_the_end_is_not_that_of_the_restart() -> None:
    """The agent, one cell of its colour, is among the goals."""
    (player,) = players("heun:3")
    for seed in range(50):
        filmed = scenes([player], seed)
        if player.success:
            break
    where = gridworld.layout("two_walls")
    shown = filmed[-1][1][0].picture
    ends = [cell for cell in np.argwhere(where.goal) if (gridworld.picture(where, cell) == shown).all()]
    assert len(ends) == 1


def panel(width: int, height: int, title: str = "run", facts: str = "step 1") -> video.VideoPanel:
    return video.VideoPanel(np.full((height, width, 3), 200, dtype=np.uint8), title, facts)


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (4, 4, 1), (5, 3, 2), (8, 4, 2), (16, 4, 4)]
)
def test_panels_in_rows(count: int, columns: int, rows: int) -> None:
    frame = video.compose([panel(320, 240)] * count, (640, 480))
    height = video.CAPTION + 240
    assert frame.size == (columns * 320 + (columns - 1) * 4, rows * height + (rows - 1) * 4)


def test_frames_are_even_and_pictures_keep_their_proportions() -> None:
    assert video.compose([panel(301, 201)], (640, 480)).size == (302, video.CAPTION + 202 - 1 + 1 - 201 % 2 + 1)
    assert video.compose([panel(1000, 500)], (640, 480)).size == (640, video.CAPTION + 320)


def test_a_long_caption_stays_in_its_panel() -> None:
    """The second panel looks the same whatever the first one says."""
    usual = video.compose([panel(240, 60), panel(240, 60)], (640, 480))
    long = video.compose([panel(240, 60, "run " * 99, "step " * 99), panel(240, 60)], (640, 480))
    place = (240, 0, *usual.size)
    assert usual.crop(place).tobytes() == long.crop(place).tobytes()
    assert usual.tobytes() != long.tobytes()


@pytest.mark.parametrize(("unit", "expected"), [(1, [33, 34, 33, 33, 34, 33]), (10, [30, 40, 30, 30, 40, 30])])
def test_rounded_durations_do_not_drift(unit: int, expected: list[int]) -> None:
    """Thirty frames per second, in whole (hundredths of) thousandths: 200 ms after six frames either way."""
    film = video.PillowVideo(Path("x.webp"))
    frame = video.compose([panel(240, 20)], (640, 480))
    for _ in range(6):
        film.add(frame, 1 / 30)
    assert film._durations(unit) == expected
    film.close()


def test_a_film_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    (tmp_path / "x.webp").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), video.writing(tmp_path / "x.webp") as film:
        film.add(video.compose([panel(240, 20)], (640, 480)), 0.1)
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["x.webp"]
    assert (tmp_path / "x.webp").read_bytes() == b"old"


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(video.PillowVideo, "finish", full)
    with pytest.raises(StorageError, match="No space left"), video.writing(tmp_path / "x.webp"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_broken_ffmpeg_is_a_missing_dependency(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        @staticmethod
        def get_ffmpeg_exe() -> str:
            raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", Broken)  # type: ignore[arg-type]
    with pytest.raises(MissingDependency, match="video"):
        video.check(tmp_path / "x.mp4")


def test_a_cell_of_a_suite_is_called_after_its_recipe(tmp_path: Path) -> None:
    """A folder seed0 alone would say nothing of what plays."""
    folder = tmp_path / "hop" / "fpo" / "seed0"
    folder.parent.mkdir(parents=True)
    shutil.copytree("flow", folder)
    assert play.label(open_checkpoint(folder)) == "hop seed0 · FPO"
