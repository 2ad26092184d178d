"""Motions by their sources, their weights, and cycles that go on."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flowrl.contracts.errors import UsageError
from flowrl.envs.humanoid.model import JOINTS
from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.gaits import presets
from flowrl.envs.humanoid.motions.grounding import lowest_points
from flowrl.envs.humanoid.motions.importers import native
from flowrl.envs.humanoid.motions.library import find, load, unrolled
from flowrl.envs.humanoid.motions.motion import ROOT_SIZE, Motion

from . import sample_files

(STAND,) = presets.motions("gait:stand:seconds=2")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with motions/one.npz, motions/two.npz and motions/notes.md."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "motions").mkdir()
    for name in ("two", "one"):
        native.write(STAND, tmp_path / "motions" / f"{name}.npz")
    (tmp_path / "motions" / "notes.md").write_text("mine")
    return tmp_path


def names(sources: list[Any]) -> dict[str, float]:
    return {motion.name: weight for motion, weight in load(sources)}


def test_a_gait_is_a_source() -> None:
    assert names(["gait:step"]) == {"step": 1.0}


def test_the_name_of_a_gait_is_its_source_without_the_prefix() -> None:
    for motion, _ in load(["gait:turns"]):
        ((again, weight),) = load([f"gait:{motion.name}"])
        assert weight == 1
        assert again.name == motion.name
        assert (again.qpos == motion.qpos).all()


def test_a_key_changes_every_gait_of_a_set() -> None:
    motions = [motion for motion, _ in load(["gait:turns:arms=raised:seconds=2"])]
    assert len(motions) == 8
    assert all(motion.name.endswith(":arms=raised:seconds=2") for motion in motions)
    assert all(motion.seconds < 4 for motion in motions)
    # Six speeds become one.
    assert names(["gait:speeds:speed=0.5"]) == {"walk:speed=0.5": 1.0}


def test_files_folders_and_patterns_are_sources(folder: Path) -> None:
    assert names(["motions/one.npz"]) == {"one": 1.0}
    both = {"one": 0.5, "two": 0.5}
    assert names(["motions"]) == both
    assert names(["motions/*.npz"]) == both
    assert names(["**/*.npz"]) == both
    assert names([str(folder / "motions" / "*.npz")]) == both


def test_a_source_s_weight_is_shared_among_its_motions(folder: Path) -> None:
    sources: list[Any] = [{"source": "motions", "weight": 3}, {"source": "gait:step"}, "gait:stand"]
    assert names(sources) == {"one": 1.5, "two": 1.5, "step": 1.0, "stand": 1.0}


def test_a_motion_that_two_sources_name_has_both_weights(folder: Path) -> None:
    assert names(["motions", "motions/one.npz"]) == {"one": 1.5, "two": 0.5}


def test_one_motion_of_a_file_is_a_source(folder: Path) -> None:
    (folder / "many.pkl").write_bytes(pickle.dumps(sample_files.phc({"walk": STAND, "run": STAND})))
    assert names(["many.pkl"]) == {"many/walk": 0.5, "many/run": 0.5}
    assert names(["many.pkl/run"]) == {"many/run": 1.0}
    with pytest.raises(UsageError, match=r"many\.pkl has no motion 'rnu'\. Did you mean 'run'"):
        load(["many.pkl/rnu"])


@pytest.mark.parametrize(
    ("source", "refused"),
    [
        ("gait:wlak", "Did you mean 'walk'\\?"),
        ("gait:stylse", "Did you mean 'styles'\\?"),
        ("gait:", "there is no gait ''"),
        ("gait:walk:sped=1", "Did you mean 'speed'\\?"),
        ("gait:walk:speed", "expected a number from -0.5 to 1.2"),
        ("gait:walk:speed=fast", "expected a number from -0.5 to 1.2"),
        ("gait:walk:speed=nan", "expected a number"),
        ("gait:walk:speed=2", "speed=2: expected a number from -0.5 to 1.2 \\(m/s forwards\\)"),
        ("gait:walk:arms=wav", "Did you mean 'wave'\\?"),
        ("gait:walk:speed=1.2:step=0.7", "out of the leg's reach. Choose a .* shorter time"),
        ("gait:stand:speed=0.5", "a gait without steps cannot follow a path"),
        ("walk", "Did you mean 'gait:walk'\\?"),
        ("gait:all:speed=0.5", "gait:stand: a gait without steps cannot follow a path"),
        ("nowhere/*.npz", "there is no such file in /.*, nor"),
        ("mo*s", "only folders match. Type mo\\*s/\\*.npz"),
        ("motions/notes.md", "motions are read from"),
        ("empty", "a folder without motions"),
        (7, "is not a source of motions"),
        ({"weight": 2}, "is not a source of motions"),
        ({"source": "gait:walk", "wieght": 2}, "Did you mean 'weight'\\?"),
        ({"source": "gait:walk", "weight": 0}, "weight: 0 is not a number greater than 0"),
        ({"source": "gait:walk", "weight": "2"}, "weight: '2' is not a number"),
        ({"source": "gait:walk", "weight": float("inf")}, "is not a number greater than 0"),
    ],
)
def test_an_unknown_source_is_refused(folder: Path, source: Any, refused: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=refused) as caught:
        load([source])
    assert "\n" not in str(caught.value)


def test_an_empty_list_of_sources_is_refused() -> None:
    with pytest.raises(UsageError, match="the list of sources is empty"):
        load([])


# -------------------------------------------------------------------------------------------- cycles that go on


def test_a_repeated_cycle_continues_as_the_gait_does() -> None:
    """Two seconds of a curve, repeated, are eleven seconds of it."""
    (short,) = presets.motions("gait:curve:seconds=2")
    (long,) = presets.motions("gait:curve:seconds=11")
    rolled = unrolled(short, 11)
    assert rolled.seconds == pytest.approx(11)
    expected = long.qpos[: len(rolled.qpos)]
    assert rolled.qpos[:, :3] == pytest.approx(expected[:, :3], abs=1e-9)
    assert np.abs((rolled.qpos[:, 3:7] * expected[:, 3:7]).sum(-1)) == pytest.approx(1)
    assert rolled.qpos[:, ROOT_SIZE:] == pytest.approx(expected[:, ROOT_SIZE:], abs=1e-9)


def test_a_motion_that_does_not_loop_or_is_long_enough_is_unchanged() -> None:
    once = Motion("once", STAND.qpos)
    assert unrolled(once, 60) is once
    assert unrolled(STAND, 1.0) is STAND


def test_a_cycle_that_does_not_quite_close_is_blended() -> None:
    """At its end the pelvis is 4 cm lower and 0.2 rad tilted, and an elbow 0.3 rad more bent."""
    qpos = STAND.qpos[:41].copy()
    share = np.linspace(0, 1, 41)
    elbow = ROOT_SIZE + JOINTS.index("left_forearm_y")
    qpos[:, 2] += 0.5 - 0.04 * share
    qpos[:, 3:7] = quaternions.axis_rotation("y", 0.2 * share)
    qpos[:, elbow] = -0.5 - 0.3 * share
    qpos[:, 0] = share
    rolled = unrolled(Motion("nearly", qpos, loops=True), 8.0).qpos
    assert np.abs(np.diff(rolled[:, 2])).max() < 0.005
    assert np.abs(np.diff(rolled[:, elbow])).max() < 0.035
    assert np.abs(np.diff(rolled[:, 0])).max() < 0.03  # it walks on: no step back to the beginning
    assert rolled[-1, 0] == pytest.approx(6, abs=0.01)  # eight seconds are six cycles of 4/3 s and 1 m
    tilts = quaternions.to_vector(rolled[:, 3:7])
    assert np.abs(np.diff(tilts, axis=0)).max() < 0.025
    assert np.abs(tilts[:, [0, 2]]).max() < 1e-9
    assert tilts[40, 1] == pytest.approx(0, abs=1e-9)


def test_the_feet_stay_on_the_floor() -> None:
    (walk,) = presets.motions("gait:walk:seconds=2:turn=0.5")
    assert lowest_points(unrolled(walk, 20).qpos).min(-1) == pytest.approx(0, abs=1e-9)


def test_an_archive_without_a_motion_in_a_folder_is_skipped_with_a_notice(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """AMASS puts shape.npz beside the motions of a person."""
    folder = folder / "motions"
    before = [motion.source for motion in find(str(folder))]
    np.savez(folder / "shape.npz", gender="male", betas=np.zeros(16))
    assert [motion.source for motion in find(str(folder))] == before
    assert capsys.readouterr().err == f"{folder}/shape.npz is skipped: it holds no motion\n"
    with pytest.raises(UsageError, match=r"shape\.npz cannot be read as a motion: it is not a motion"):
        find(str(folder / "shape.npz"))
    for each in folder.iterdir():
        if each.name != "shape.npz":
            each.unlink()
    with pytest.raises(UsageError, match="it is not a motion"):
        find(str(folder))
