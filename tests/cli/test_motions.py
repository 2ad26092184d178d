"""`flowrl motions`: the list, the figures, the pictures and the conversion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from flowrl import cli
from flowrl.envs.humanoid.motions.gaits import presets
from flowrl.envs.humanoid.motions.importers import native
from flowrl.envs.humanoid.motions.library import load
from flowrl.envs.humanoid.motions.motion import Motion

GAIT = "gait:walk:seconds=2"
ROOT = Path(__file__).parents[2]


def test_without_a_source_the_gaits_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["motions"]) == 0
    printed = capsys.readouterr()
    for name in presets.names():
        assert f"{name} " in printed.out
    for key in (*presets.KEYS, presets.ARMS):
        assert f"\n{key} " in printed.out
    assert printed.err.startswith("next: ")


def test_every_listed_gait_and_key_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["motions", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed["gaits"].keys() | listed["sets"].keys() == set(presets.names())
    assert listed["keys"].keys() == {*presets.KEYS, presets.ARMS}
    for name in listed["gaits"]:
        assert presets.motions(f"{name}:seconds=2")


def test_a_motion_is_described_in_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["motions", GAIT, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    (clip,) = presets.motions(GAIT)
    assert row["name"] == "walk:seconds=2"
    assert row["source"] == GAIT
    assert row["frames"] == len(clip.qpos)
    assert row["speed"] == pytest.approx(0.6)
    assert row["clamped"] == 0
    assert row["lowest_foot"] == pytest.approx(0, abs=1e-9)
    assert row["fastest"] == pytest.approx(np.abs(np.diff(clip.qpos[:, 7:], axis=0)).max() * 30)
    assert row["fastest_joint"].endswith("_shin_y")
    assert row["remarks"] == []


def test_what_is_the_matter_with_a_motion_is_remarked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clip,) = presets.motions(GAIT)
    native.write(clip, tmp_path / "own.npz")
    with np.load(tmp_path / "own.npz") as file:
        arrays = dict(file) | {"loop": np.array(False)}
    arrays["joint_pos"][20, 10] -= 1.5  # one frame of an elbow
    np.savez(tmp_path / "own.npz", **arrays)
    assert cli.run(["motions", str(tmp_path / "own.npz")]) == 0
    printed = capsys.readouterr().out
    assert "too fast: left_upper_arm_x" in printed or "too fast: right_forearm_y" in printed
    assert "shorter than 10 s" in printed


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_a_sheet_has_a_row_for_every_motion(tmp_path: Path, suffix: str) -> None:
    sheet = tmp_path / "new" / f"sheet{suffix}"
    assert cli.run(["motions", GAIT, "gait:stand:seconds=2", "--sheet", str(sheet)]) == 0
    with Image.open(sheet) as image:
        picture = np.asarray(image.convert("RGB"), dtype=np.int64)
    assert picture.shape[1] == 10 * 150
    rows = picture[: len(picture) // 2 * 2].reshape(2, -1, *picture.shape[1:])
    walking, standing = rows[:, 60:, :1500]
    # Ten pictures of standing are alike; those of walking are not.
    for row, alike in ((walking, False), (standing, True)):
        pictures = np.stack(np.split(row, 10, axis=1))
        assert (np.abs(pictures[0] - pictures[4]).max() < 60) == alike


@pytest.mark.slow
def test_a_video_shows_the_motions_until_the_longest_is_over(tmp_path: Path) -> None:
    """Of 15 frames, 9 that loop and 9 that do not."""
    (clip,) = presets.motions(GAIT)
    for name, frames, loops in (("long", 15, False), ("cycle", 9, True), ("once", 9, False)):
        native.write(Motion(name, clip.qpos[:frames], loops=loops), tmp_path / f"{name}.npz")
    video = tmp_path / "walk.webp"
    assert cli.run(["motions", str(tmp_path), "--video", str(video)]) == 0
    with Image.open(video) as image:
        assert image.n_frames == 15
        assert image.size[0] == 3 * 320 + 2 * 4
        frames = [np.asarray(picture.convert("RGB"), dtype=np.int64) for picture in ImageSequence.Iterator(image)]
    late = np.abs(frames[10] - frames[14])[60:]  # below the captions
    cycle, _, once = np.split(late[:, : 3 * 320], 3, axis=1)
    assert cycle.max() > 100
    assert once[:, 8:].max() < 60


def test_a_motion_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "walk.npz"
    assert cli.run(["motions", GAIT, "--convert", str(path)]) == 0
    assert cli.run(["motions", str(path), "--json"]) == 0
    out = capsys.readouterr().out
    (row,) = json.loads(out[out.index("[\n") :])
    (gait,), ((written, _),) = presets.motions(GAIT), load([str(path)])
    assert (row["frames"], row["loops"]) == (len(gait.qpos), True)
    np.testing.assert_allclose(written.qpos, gait.qpos, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sheet", "x.png"], "need a motion"),
        (["gait:wlak"], "Did you mean 'walk'?"),
        ([GAIT, "--sheet", "x.pnk"], "Type --sheet x.png"),
        (
            [*(f"gait:styles:seconds=2:speed={tenths / 10}" for tenths in range(3, 9)), "--sheet", "x.webp"],
            "72 motions are 17,568 pixels high, and .webp ends at 16,383. Type --sheet x.png",
        ),
        ([GAIT, "--video", "x.mov"], "Type --video x.webp"),
        ([GAIT, "--convert", "x.pkl"], "Type --convert x.npz"),
        (["gait:speeds:seconds=2", "--convert", "x.npz"], "--convert writes one motion, and there are 6"),
        (["gait:all:seconds=2", "--video", "x.webp"], "28 motions do not fit in one video"),
    ],
)
def test_a_mistake_is_reported(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["motions", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for option, name in (("--convert", "x.npz"), ("--sheet", "x.png"), ("--video", "x.webp")):
        assert cli.run(["motions", GAIT, option, str(tmp_path / "file" / name)]) == 6
        assert "cannot be written" in capsys.readouterr().err


def test_without_graphics_the_error_names_what_to_install(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "flowrl", "motions", GAIT, "--sheet", str(tmp_path / "x.png")]
    environment = os.environ | {"MUJOCO_GL": "glfw", "DISPLAY": "", "WAYLAND_DISPLAY": ""}
    finished = subprocess.run(program, capture_output=True, text=True, env=environment, cwd=ROOT)
    assert finished.returncode == 8
    assert "apt-get install libegl1" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_its_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\nfrom flowrl.cli import run\nrun(['motions', '--help'])\n"
        "print(sorted({'torch', 'mujoco', 'numpy'} & set(sys.modules)), file=sys.stderr)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stderr.strip() == "[]"
