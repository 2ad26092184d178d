"""Motions from files: each format gives back the motion that was written in it, and bad files raise one paragraph."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowrl.contracts.errors import UsageError
from flowrl.envs.humanoid import model as humanoid
from flowrl.envs.humanoid.model import BODIES, JOINTS
from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.gaits import presets
from flowrl.envs.humanoid.motions.grounding import lowest_feet, lowest_points
from flowrl.envs.humanoid.motions.importers import native, reader, retargeting, safe_npz, safe_pickle, skeleton, smpl
from flowrl.envs.humanoid.motions.motion import ROOT_SIZE, Motion
from flowrl.envs.humanoid.motions.quaternions import axis_rotation

from . import sample_files
from .sample_files import written

SHARED = Path(__file__).parents[5] / "shared" / "motions"
(MOTION,) = presets.motions("gait:curve:seconds=2:arms=wave")
SHORT = replace(MOTION, qpos=MOTION.qpos[:12], loops=False)


def saved(path: Path, arrays: dict[str, Any]) -> Path:
    np.savez_compressed(path, **arrays)
    return path


def only(path: Path) -> Motion:
    (motion,) = reader.read(path)
    return motion


def same_motion(motion: Motion, other: Motion, tolerance: float = 1e-9) -> None:
    """Place and hinges are equal, and so is the root's rotation, of which q and -q are one."""
    assert motion.qpos.shape == other.qpos.shape
    away = [*range(3), *range(ROOT_SIZE, motion.qpos.shape[1])]
    assert motion.qpos[:, away] == pytest.approx(other.qpos[:, away], abs=tolerance)
    assert np.abs((motion.qpos[:, 3:7] * other.qpos[:, 3:7]).sum(-1)) == pytest.approx(1)


# ------------------------------------------------------------------------------------ what goes in comes out again


def test_our_own_format_keeps_a_motion(tmp_path: Path) -> None:
    path = tmp_path / "curve.npz"
    native.write(MOTION, path)
    motion = only(path)
    same_motion(motion, MOTION, 1e-12)
    assert (motion.name, motion.source, motion.loops, motion.clamped) == ("curve", str(path), True, 0)


def test_our_own_format_keeps_the_height_of_a_lying_body_with_raised_feet(tmp_path: Path) -> None:
    qpos = SHORT.qpos.copy()
    qpos[:, 3:7] = quaternions.axis_rotation("y", np.full(len(qpos), -np.pi / 2))  # on the back
    for side in ("right", "left"):
        qpos[:, ROOT_SIZE + JOINTS.index(f"{side}_thigh_y")] = -1.0
    qpos[:, 2] -= lowest_points(qpos).min()
    lying = replace(SHORT, qpos=qpos)
    assert lowest_feet(qpos).min() > 0.3
    native.write(lying, tmp_path / "lying.npz")
    same_motion(only(tmp_path / "lying.npz"), lying, 1e-12)


def test_bodies_are_reordered(tmp_path: Path) -> None:
    native.write(MOTION, tmp_path / "curve.npz")
    with np.load(tmp_path / "curve.npz") as file:
        arrays = dict(file)
    for name in ("body_pos_w", "body_quat_w", "body_names"):
        arrays[name] = np.flip(arrays[name], -1 if name == "body_names" else 1)
    same_motion(only(saved(tmp_path / "flipped.npz", arrays)), MOTION, 1e-12)


def changed(path: Path, **arrays: Any) -> Path:
    """`MOTION` in our own format, with some arrays replaced by functions of them, and without those that are None."""
    native.write(MOTION, path)
    with np.load(path) as file:
        content = dict(file)
    for name, change in arrays.items():
        content[name] = None if change is None else change(content[name])
    return saved(path, {name: array for name, array in content.items() if array is not None})


@pytest.mark.parametrize("named", [True, False])
def test_bodies_in_another_order_than_their_names_are_refused(tmp_path: Path, named: bool) -> None:
    """Isaac Lab and MuJoCo order bodies differently: breadth first, and depth first."""
    order = np.array([0, 1, 3, 2, *range(4, 15)])
    arrays: dict[str, Any] = {name: lambda array: array[:, order] for name in ("body_pos_w", "body_quat_w")}
    path = changed(tmp_path / "a.npz", **arrays, **({} if named else {"body_names": None}))
    with pytest.raises(UsageError, match=r"bodies are not where its joint angles put them: \w+ is 0\.\d\d m and"):
        reader.read(path)
    path = changed(tmp_path / "b.npz", **arrays, body_names=lambda names: names[order])
    same_motion(only(path), MOTION, 1e-12)


def test_quaternions_with_w_at_the_end_are_refused(tmp_path: Path) -> None:
    path = changed(tmp_path / "a.npz", body_quat_w=lambda array: np.roll(array, -1, -1))
    with pytest.raises(UsageError, match="'body_quat_w' is in the order x, y, z, w: expected w, x, y, z"):
        reader.read(path)


def test_angles_in_degrees_and_unnamed_bodies_are_refused(tmp_path: Path) -> None:
    path = changed(tmp_path / "a.npz", joint_pos=np.degrees)
    with pytest.raises(UsageError, match="the angles in degrees"):
        reader.read(path)
    pelvis: dict[str, Any] = {name: lambda array: array[:, :1] for name in ("body_pos_w", "body_quat_w")}
    same_motion(only(changed(tmp_path / "b.npz", **pelvis, body_names=None)), MOTION, 1e-12)
    seven: dict[str, Any] = {name: lambda array: array[:, :7] for name in ("body_pos_w", "body_quat_w")}
    with pytest.raises(UsageError, match=r"its 7 bodies have no names \('body_names'\)"):
        reader.read(changed(tmp_path / "c.npz", **seven, body_names=None))
    same_motion(only(changed(tmp_path / "d.npz", **seven, body_names=lambda names: names[:7])), MOTION, 1e-12)


@pytest.mark.parametrize(("joints", "extra"), [(30, {"dof": 29}), (30, {}), (22, {"dof": 19}), (24, {"dof_pos": 23})])
def test_phc_s_pickle_of_a_robot_is_not_read_as_a_person(tmp_path: Path, joints: int, extra: dict[str, int]) -> None:
    robot = {"root_trans_offset": np.tile([0, 0, 0.8], (90, 1)), "pose_aa": np.zeros((90, joints, 3)), "fps": 30}
    robot |= {name: np.zeros((90, number)) for name, number in extra.items()}
    robot_of = next(iter(extra.values()), None)
    said = f"the motion of a robot of {robot_of} joints" if extra else "of 30 joints, are those of another"
    with pytest.raises(UsageError, match=said):
        reader.read(written(pickle.dumps({"w": robot}), tmp_path / "g1.pkl"))


def test_pose_aa_of_another_shape_is_refused(tmp_path: Path) -> None:
    """18 quaternions are as many numbers as SMPL's 24 rotation vectors."""
    robot = {"root_trans_offset": np.zeros((90, 3)), "pose_aa": np.zeros((90, 18, 4)), "fps": 30}
    with pytest.raises(UsageError, match=r"is of shape \(90, 18, 4\), not \(frames, joints, 3\)"):
        reader.read(written(pickle.dumps({"w": robot}), tmp_path / "quaternions.pkl"))


def test_pipes_and_devices_are_no_motions(tmp_path: Path) -> None:
    for suffix in reader.READERS:
        os.mkfifo(tmp_path / f"pipe{suffix}")
        (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
        for name, kind in {"pipe": "a pipe", "zero": "a device"}.items():
            with pytest.raises(UsageError, match=f"it is {kind}, not a file"):
                reader.read(tmp_path / f"{name}{suffix}")


def test_our_own_format_has_mjlab_s_keys(tmp_path: Path) -> None:
    native.write(MOTION, tmp_path / "curve.npz")
    frames = len(MOTION.qpos)
    with np.load(tmp_path / "curve.npz") as arrays:
        assert arrays["fps"] == 30
        assert arrays["joint_names"].tolist() == list(JOINTS)
        assert arrays["body_names"].tolist() == list(BODIES)
        assert {name: arrays[name].shape for name in arrays if arrays[name].ndim > 1} == {
            "joint_pos": (frames, 28),
            "joint_vel": (frames, 28),
            "body_pos_w": (frames, 15, 3),
            "body_quat_w": (frames, 15, 4),
            "body_lin_vel_w": (frames, 15, 3),
            "body_ang_vel_w": (frames, 15, 3),
        }
        # A velocity is what the place does from the frame before to the frame after.
        moved = (arrays["body_pos_w"][2:] - arrays["body_pos_w"][:-2]) * 15
        assert np.abs(arrays["body_lin_vel_w"][1:-1] - moved).max() < 0.25
        assert arrays["body_lin_vel_w"][1:-1].mean(0) == pytest.approx(moved.mean(0), abs=0.01)


def test_joints_are_reordered(tmp_path: Path) -> None:
    native.write(MOTION, tmp_path / "curve.npz")
    with np.load(tmp_path / "curve.npz") as file:
        arrays = dict(file)
    for name in ("joint_pos", "joint_names"):
        arrays[name] = np.flip(arrays[name], -1)
    same_motion(only(saved(tmp_path / "flipped.npz", arrays)), MOTION, 1e-12)


@pytest.mark.parametrize("protocol", range(6))
def test_phc_s_pickles_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps(sample_files.phc({"walk": MOTION}), protocol=protocol)
    same_motion(only(written(data, tmp_path / "curve.pkl")), MOTION)
    same_motion(only(written(zlib.compress(data), tmp_path / "curve.pkl")), MOTION)


def test_phc_s_joblib_files(tmp_path: Path) -> None:
    data = sample_files.joblib(sample_files.phc({"walk": MOTION}))
    same_motion(only(written(zlib.compress(data), tmp_path / "curve.pkl")), MOTION)


def test_phc_s_tensors(tmp_path: Path) -> None:
    motions = sample_files.phc({"walk": MOTION})
    motions["walk"]["root_trans_offset"] = torch.tensor(MOTION.qpos[:, :3]).T.contiguous().T
    same_motion(only(written(pickle.dumps(motions), tmp_path / "curve.pkl")), MOTION)


def test_a_file_with_several_motions_names_each(tmp_path: Path) -> None:
    data = pickle.dumps(sample_files.phc({"one": MOTION, "two": SHORT}))
    one, two = reader.read(written(data, tmp_path / "both.pkl"))
    assert (one.name, two.name) == ("both/one", "both/two")
    assert one.source != two.source
    same_motion(two, SHORT)


def test_amass(tmp_path: Path) -> None:
    same_motion(only(saved(tmp_path / "curve.npz", sample_files.amass(MOTION))), MOTION)
    spelled = sample_files.amass(MOTION)
    spelled["mocap_frame_rate"] = spelled.pop("mocap_framerate")
    same_motion(only(saved(tmp_path / "curve.npz", spelled)), MOTION)


def test_deepmimic(tmp_path: Path) -> None:
    motion = only(written(sample_files.deepmimic(MOTION), tmp_path / "curve.txt"))
    same_motion(motion, MOTION)
    assert motion.loops


@pytest.mark.parametrize(
    ("rest", "unit", "prefix", "up"),
    [
        (sample_files.T_POSE, 100.0, "", "y"),
        (sample_files.T_POSE, 17.0, "mixamorig:", "y"),
        (sample_files.BONES_ALONG_X, 100.0, "", "y"),
        (sample_files.T_POSE, 1.0, "", "z"),
    ],
    ids=["T", "mixamo", "bones along x", "z up"],
)
def test_bvh(tmp_path: Path, rest: dict[str, quaternions.Array], unit: float, prefix: str, up: str) -> None:
    """Whatever the joints' axes, the unit, the order of the angles and what points up."""
    data = sample_files.bvh(MOTION, rest, unit, prefix, up)
    same_motion(only(written(data, tmp_path / "curve.bvh")), MOTION, 1e-7)


def test_bvh_names() -> None:
    daz = ["hip", "abdomen", "chest", "neck", "head", "lCollar", "lShldr", "lForeArm", "lHand", "rCollar", "rShldr"]
    daz += ["rForeArm", "rHand", "lThigh", "lShin", "lFoot", "rThigh", "rShin", "rFoot"]
    found = skeleton.joints_by_part(daz)
    assert daz[found["left_upper_arm"]] == "lShldr"
    assert daz[found["right_shin"]] == "rShin"
    with pytest.raises(ValueError, match="no joint is named as the left forearm"):
        skeleton.joints_by_part([name for name in daz if name != "lForeArm"])


# ------------------------------------------------------------------------------------------- how it becomes ours


def test_smpl_s_rest_pose_is_a_t() -> None:
    places = np.tile([0.0, 0, 1], (10, 1))
    motion = smpl.to_motion(places, np.zeros((10, 72)), 30, "T", "")
    data_places = segment_positions(motion)
    # A rest pose of SMPL in its own axes looks along z with its head along y; so does ours, turned there.
    head, pelvis, hands = data_places["head"], data_places["pelvis"], data_places["left_hand"]
    assert (head - pelvis)[1] == pytest.approx(0.236151 + 0.223894)
    shoulder, reach = 0.18311, 0.274788 + 0.258947
    assert (hands - pelvis)[0] == pytest.approx(shoulder + reach)
    assert (hands - pelvis)[1] == pytest.approx(0.236151 + 0.2435)


def segment_positions(motion: Motion) -> dict[str, quaternions.Array]:
    import mujoco

    model = humanoid.build()
    data = mujoco.MjData(model)
    data.qpos[:] = motion.qpos[0]
    mujoco.mj_kinematics(model, data)
    return {name: data.body(name).xpos.copy() for name in BODIES}


def test_a_recording_is_resampled() -> None:
    seconds = np.arange(21) / 60
    turning = {"pelvis": axis_rotation("z", 3 * seconds)}
    vectors, turns = retargeting.resample(seconds, {"place": np.outer(seconds, [1.0, 2, 0])}, turning, False)
    assert vectors["place"] == pytest.approx(np.outer(np.arange(11) / 30, [1.0, 2, 0]))
    assert turns["pelvis"] == pytest.approx(axis_rotation("z", 3 * np.arange(11) / 30))


def test_a_loop_is_stretched_to_whole_frames() -> None:
    seconds = np.linspace(0, 0.35, 8)  # 10.5 frames, of which 10 are made: 5 % faster
    vectors, _ = retargeting.resample(seconds, {"place": np.outer(seconds, [1.0, 0, 0])}, {}, True)
    assert vectors["place"][:, 0] == pytest.approx(np.linspace(0, 0.35, 11))


def test_a_hinge_keeps_the_direction_of_the_lower_limb() -> None:
    bends = np.radians([40.0, 60.0, 90.0, 120.0])
    for sign in (-1.0, 1.0):
        for aside in np.radians([-40.0, 0.0, 40.0]):  # the hinge is not where ours is
            turn = quaternions.multiply(axis_rotation("z", aside), axis_rotation("y", sign * bends))
            twist, bend = retargeting.hinge_angles(turn, sign)
            assert twist == pytest.approx(aside)
            assert bend == pytest.approx(sign * bends)


def test_a_limb_that_is_straight_is_not_twisted() -> None:
    wobble = quaternions.from_vector(np.random.default_rng(0).normal(0, 0.03, size=(100, 3)))
    twist, bend = retargeting.hinge_angles(wobble, 1.0)
    assert np.abs(twist).max() < 0.2
    assert np.abs(bend).max() < 0.1


def test_the_euler_angles_that_change_least_are_chosen() -> None:
    """A shoulder swings forward and up past the middle hinge's 90 degrees, where a single frame would flip."""
    swing = np.radians(np.linspace(0, -170, 40))
    angles = np.stack([np.full(40, -0.2), swing, np.full(40, 0.1)], axis=-1)
    ranges = np.radians([(-180.0, 60.0), (-180.0, 90.0), (-90.0, 90.0)])
    assert retargeting.euler_path(quaternions.from_euler(angles), ranges) == pytest.approx(angles)


def test_angles_beyond_a_range_are_clamped_and_counted(tmp_path: Path) -> None:
    """A knee that bends forwards in three of twelve frames."""
    qpos = SHORT.qpos.copy()
    knee = ROOT_SIZE + JOINTS.index("left_shin_y")
    qpos[4:7, knee] = -0.1
    path = written(sample_files.deepmimic(replace(SHORT, qpos=qpos)), tmp_path / "knee.txt")
    motion = only(path)
    assert motion.clamped == 3
    assert (motion.qpos[4:7, knee] == 0).all()
    assert motion.qpos[:4, knee] == pytest.approx(SHORT.qpos[:4, knee])


def test_a_motion_is_put_on_the_floor(tmp_path: Path) -> None:
    high = replace(SHORT, qpos=SHORT.qpos + np.eye(1, 35, 2) * 0.7)
    assert lowest_feet(high.qpos).min() == pytest.approx(0.7)
    for path in (
        written(sample_files.deepmimic(high), tmp_path / "high.txt"),
        saved(tmp_path / "high.npz", sample_files.amass(high)),
    ):
        same_motion(only(path), SHORT)


def test_frames_below_the_floor_are_lifted(tmp_path: Path) -> None:
    """Of feet of another size a floor cannot be refused from one frame: 20 of 100 are 5 cm lower than the others."""
    (stands,) = presets.motions("gait:stand:seconds=4")
    qpos = stands.qpos[:100].copy()
    qpos[40:60, 2] -= 0.05
    motion = only(saved(tmp_path / "low.npz", sample_files.amass(replace(stands, qpos=qpos, loops=False))))
    lowest = lowest_points(motion.qpos).min(-1)
    assert lowest.min() == pytest.approx(0, abs=1e-12)
    assert lowest[:15] == pytest.approx(0, abs=1e-12)  # undisturbed
    assert np.abs(np.diff(motion.qpos[:, 2] - qpos[:, 2])).max() < 0.05 / 10  # m per frame


# --------------------------------------------------------------------------------------------- files that are bad


def arrays_of(changed: dict[str, Any]) -> Callable[[Path], bytes]:
    """The bytes of an AMASS archive with some arrays changed; None leaves one out."""

    def make(_: Path) -> bytes:
        arrays = {k: v for k, v in (sample_files.amass(SHORT) | changed).items() if v is not None}
        file = BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    return make


def phc_of(changed: dict[str, Any]) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        motion = sample_files.phc({"walk": SHORT})["walk"] | changed
        return pickle.dumps({"walk": {k: v for k, v in motion.items() if v is not None}})

    return make


def json_of(document: Any) -> Callable[[Path], bytes]:
    return lambda _: json.dumps(document).encode()


def frames(change: Callable[[list[list[float]]], Any]) -> Callable[[Path], bytes]:
    def make(_: Path) -> bytes:
        document = json.loads(sample_files.deepmimic(SHORT))
        change(document["Frames"])
        return json.dumps(document).encode()

    return make


def tree(change: Callable[[str], str]) -> Callable[[Path], bytes]:
    return lambda _: change(sample_files.bvh(SHORT, sample_files.T_POSE).decode()).encode()


def own(changed: dict[str, Any]) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        native.write(SHORT, folder / "own")
        with np.load(folder / "own") as file:
            arrays = {k: v for k, v in (dict(file) | changed).items() if v is not None}
        data = BytesIO()
        np.savez(data, **arrays)
        return data.getvalue()

    return make


def damaged_header(path: Path) -> bytes:
    """An array whose header, which NumPy reads as Python, ends within a bracket."""
    data = BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        header = b"{'descr': '<f8', 'shape': (3,".ljust(117) + b"\n"
        file.writestr("trans.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return data.getvalue()


NAN = np.full((12, 3), np.nan)
BAD: list[tuple[str, Callable[[Path], bytes], str]] = [
    ("empty.npz", lambda _: b"", "not an .npz file"),
    ("text.npz", lambda _: b"hello", "not an .npz file"),
    ("other.npz", arrays_of({"trans": None}), "it is not a motion: it has betas, gender"),
    ("rate.npz", arrays_of({"mocap_framerate": None}), "it has no 'mocap_framerate'"),
    ("rate0.npz", arrays_of({"mocap_framerate": np.array(0.0)}), "0.0 frames per second"),
    ("rate9.npz", arrays_of({"mocap_framerate": np.array(1e9)}), "do not ascend by at least"),
    ("shape.npz", arrays_of({"trans": np.zeros((12, 2))}), "'trans' is of shape"),
    ("length.npz", arrays_of({"trans": np.zeros((13, 3))}), "13 positions, but 12 rotations"),
    ("narrow.npz", arrays_of({"poses": np.zeros((12, 30))}), "rotations of shape"),
    ("nan.npz", arrays_of({"trans": NAN}), "is not finite, first in frame 0"),
    ("words.npz", arrays_of({"trans": np.full((12, 3), "x")}), "not numbers"),
    ("objects.npz", arrays_of({"trans": np.array([None] * 3, dtype=object)}), "it is not a motion"),
    ("short.npz", arrays_of({"trans": np.zeros((2, 3)), "poses": np.zeros((2, 156))}), "it lasts 0.03333 s"),
    ("none.npz", arrays_of({"trans": np.zeros((0, 3)), "poses": np.zeros((0, 156))}), "its 0 frames"),
    ("robot.npz", own({"joint_names": np.array([f"joint{i}" for i in range(28)])}), "another robot"),
    ("robot.npz", own({"joint_pos": np.zeros((12, 29)), "joint_names": None}), "another robot"),
    ("own.npz", own({"body_quat_w": np.zeros((12, 15, 4))}), "a quaternion is zero"),
    ("own.npz", own({"body_pos_w": None}), "it has no 'body_pos_w'"),
    ("own.npz", own({"body_pos_w": np.full((12, 15, 3), np.inf)}), "'body_pos_w' is not finite, first in frame 0"),
    ("own.npz", own({"body_pos_w": np.full((12, 15, 3), 1e300)}), "'body_pos_w' is beyond 10000, first in frame 0"),
    ("own.npz", own({"body_pos_w": np.zeros((12, 0, 3))}), "has no bodies"),
    ("header.npz", damaged_header, "it is damaged"),
    ("huge.txt", frames(lambda frames: frames[3].__setitem__(5, 10**400)), "too large"),
    ("huge.pkl", phc_of({"fps": 10**400}), "too large"),
    ("own.npz", own({"body_names": np.array(["torso"] * 15)}), "do not name 15 bodies with 'pelvis' among"),
    ("own.npz", own({"fps": np.zeros(3)}), "'fps' is of shape"),
    ("text.txt", lambda _: b"Twas brillig", "it is not JSON"),
    ("bytes.txt", lambda _: bytes(range(256)), "it is not JSON"),
    ("deep.txt", lambda _: b"[" * 100_000, "it is not JSON"),
    ("list.txt", json_of([1, 2]), 'no list "Frames"'),
    ("none.txt", json_of({"Frames": []}), "fewer than two frames"),
    ("wide.txt", frames(lambda frames: frames[3].append(0.0)), "frame 3 is not a list of 44 numbers"),
    ("word.txt", frames(lambda frames: frames[3].__setitem__(5, "x")), "a value that is not a number"),
    ("nan.txt", frames(lambda frames: frames[3].__setitem__(5, float("nan"))), "not finite"),
    ("zero.txt", frames(lambda frames: frames[3].__setitem__(slice(4, 8), [0.0] * 4)), "quaternion is zero"),
    ("still.txt", frames(lambda frames: frames[3].__setitem__(0, 0.0)), "do not ascend"),
    ("long.txt", frames(lambda frames: frames[3].__setitem__(0, 1e7)), r"it lasts 1e\+07 s"),
    ("text.pkl", lambda _: b"hello", "not a pickle"),
    ("empty.pkl", lambda _: b"", "not a pickle"),
    ("zlib.pkl", lambda _: b"\x78\x9cgarbage", "compression is damaged"),
    ("list.pkl", lambda _: pickle.dumps([1, 2]), "it holds no dict"),
    ("none.pkl", lambda _: pickle.dumps({}), "it holds no motion"),
    ("keys.pkl", phc_of({"pose_aa": None}), "in it has no pose_aa"),
    ("words.pkl", phc_of({"pose_aa": "hello"}), "not an array of numbers"),
    ("objects.pkl", phc_of({"pose_aa": np.array([{}, {}])}), "of Python objects"),
    ("slow.pkl", phc_of({"fps": None}), "in it has no fps"),
    ("rate.pkl", phc_of({"fps": [30, 30]}), "fps of 'rate' in it is not a number"),
    ("nan.pkl", phc_of({"root_trans_offset": NAN}), "is not finite, first in frame 0"),
    ("text.bvh", lambda _: b"hello", "does not begin with HIERARCHY"),
    ("cut.bvh", tree(lambda text: text[:-200]), "MOTION has"),
    ("brace.bvh", tree(lambda text: text.replace("{", "", 1)), "braces"),
    ("close.bvh", tree(lambda text: text.replace("}", "} }", 1)), "braces|several roots"),
    ("word.bvh", tree(lambda text: text.replace("OFFSET", "UPSET", 1)), "unknown word 'UPSET'"),
    ("channel.bvh", tree(lambda text: text.replace("Xrotation", "Wrotation", 1)), "unknown channel 'Wrotation'"),
    ("number.bvh", tree(lambda text: text[:-5] + "x\n"), "a value that is not a number"),
    ("time.bvh", tree(lambda text: text.replace("Frame Time: 0.0", "Frame Time: -0.0")), "MOTION has"),
    ("name.bvh", tree(lambda text: text.replace("LeftUpLeg", "Wing")), "no joint is named as the left thigh"),
    ("folder.npz", lambda _: b"", "cannot be read"),
]


@pytest.mark.parametrize(("name", "make", "refused"), BAD, ids=[f"{name} {refused[:20]}" for name, _, refused in BAD])
def test_a_bad_file_is_refused_in_one_paragraph(
    tmp_path: Path, name: str, make: Callable[[Path], bytes], refused: str
) -> None:
    path = tmp_path / name
    if name.startswith("folder"):
        path.mkdir()
    else:
        path.write_bytes(make(tmp_path))
    with pytest.raises(UsageError, match=refused) as caught:
        reader.read(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert "Expected: " in message or "Name a file" in message


@pytest.mark.parametrize("name", ["motion.fbx", "motion", "motion.np"])
def test_an_unknown_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"motions are read from \.npz, \.txt, \.pkl, \.bvh"):
        reader.read(tmp_path / name)


def test_a_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        reader.read(tmp_path / "nothing.npz")


# --------------------------------------------------------------------------------- files that ask for too much


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """64 MiB of zeros, in 64 kB; the limit is lower here so that the test needs no memory."""
    for module in (safe_npz, safe_pickle, reader):
        monkeypatch.setattr(module, "MOST_BYTES", 2**20)
    zeros = np.zeros(2**23)
    with pytest.raises(UsageError, match="more than 1 MiB"):
        reader.read(saved(tmp_path / "bomb.npz", {"trans": zeros}))
    with pytest.raises(UsageError, match="more than 1 MiB"):
        reader.read(written(zlib.compress(zeros.tobytes()), tmp_path / "bomb.pkl"))
    with pytest.raises(UsageError, match="larger than 1 MiB"):
        reader.read(written(b" " * 2**21, tmp_path / "large.txt"))
    with pytest.raises(UsageError, match="'trans' takes more than 1 MiB"):  # as numbers of 8 bytes
        flags = np.zeros((2**16, 3), dtype=bool)
        reader.read(saved(tmp_path / "flags.npz", {"trans": flags, "poses": flags, "mocap_framerate": 30.0}))


def test_an_archive_of_many_members_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "many.npz", "w") as file:
        for number in range(1001):
            file.writestr(f"{number}.npy", b"")
    with pytest.raises(UsageError, match="it has more than 1000 arrays"):
        reader.read(tmp_path / "many.npz")


def test_a_false_header_reserves_no_memory(tmp_path: Path) -> None:
    """An array of a terabyte, of which eight bytes are there."""
    header = BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**11, 3)})
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as file:
        file.writestr("trans.npy", header.getvalue() + b"\0" * 8)
        file.writestr("poses.npy", header.getvalue() + b"\0" * 8)
    with pytest.raises(UsageError, match="cannot be read as a motion"):
        reader.read(tmp_path / "lie.npz")


@pytest.mark.parametrize("suffix", [".npz", ".txt", ".pkl", ".bvh"])
def test_damaged_files_are_read_or_refused(tmp_path: Path, suffix: str) -> None:
    """Bytes changed, cut and doubled at random: a motion or a paragraph, never another exception."""
    make = {
        ".npz": arrays_of({}),
        ".txt": lambda _: sample_files.deepmimic(SHORT),
        ".pkl": lambda _: sample_files.joblib(sample_files.phc({"walk": SHORT})),
        ".bvh": tree(lambda text: text),
    }
    complete = make[suffix](tmp_path)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        data = bytearray(complete)
        start = int(random.integers(min(len(data), 3000)))
        match random.integers(3):
            case 0:
                data[start] = int(random.integers(256))
            case 1:
                del data[start : start + int(random.integers(1, 100))]
            case 2:
                data[start:start] = data[start : start + 20]
        try:
            reader.read(written(bytes(data), tmp_path / f"damaged{suffix}"))
        except UsageError:
            refused += 1
    assert refused > 20


# ---------------------------------------------------------------------------------------- motions beside the project

needs_motions = pytest.mark.skipif(
    not SHARED.is_dir(), reason=f"{SHARED}: the motions to try importers on are not here"
)


@needs_motions
@pytest.mark.parametrize(("name", "seconds", "speed", "clamped"), [("walk", 1.27, 0.98, 0), ("run", 0.8, 3.56, 0)])
def test_deepmimic_s_own_motions_fit_the_humanoid(name: str, seconds: float, speed: float, clamped: int) -> None:
    motion = only(SHARED / f"deepmimic_humanoid3d_{name}.txt")
    assert motion.loops
    assert motion.clamped == clamped
    assert motion.seconds == pytest.approx(seconds, abs=0.02)
    assert (motion.qpos[-1, 0] - motion.qpos[0, 0]) / motion.seconds == pytest.approx(speed, abs=0.01)
    if name == "walk":
        assert np.abs(lowest_feet(motion.qpos).min(-1)).max() < 0.02  # m: a foot stands in every frame


@needs_motions
def test_deepmimic_s_backflip_turns_over() -> None:
    motion = only(SHARED / "deepmimic_humanoid3d_backflip.txt")
    up = quaternions.rotate(motion.qpos[:, 3:7], [0.0, 0, 1])[:, 2]
    assert up[0] > 0.9
    assert up.min() < -0.9
    assert up[-1] > 0.9


@needs_motions
def test_phc_s_dance_stands_on_the_floor() -> None:
    motion = only(SHARED / "phc_cmu_05_06.pkl")
    assert len(motion.qpos) == 222
    lowest = lowest_points(motion.qpos).min(-1)
    assert lowest.min() == pytest.approx(0, abs=1e-9)
    assert np.median(lowest) < 0.03
    up = quaternions.rotate(motion.qpos[:, 3:7], [0.0, 0, 1])[:, 2]
    assert np.median(up) > 0.9
