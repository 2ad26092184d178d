"""Gaits: feet that stand still and flat, a root path that depends on nothing else, and motors that can follow."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from flowrl.envs.humanoid import model as humanoid
from flowrl.envs.humanoid.model import BODIES, CONTROL_RATE, FEET, HANDS, SUBSTEPS
from flowrl.envs.humanoid.motions import quaternions
from flowrl.envs.humanoid.motions.gaits import arm_styles, gait, leg_ik, presets
from flowrl.envs.humanoid.motions.gaits.gait import Gait, RootPath
from flowrl.envs.humanoid.motions.grounding import lowest_feet, lowest_points
from flowrl.envs.humanoid.motions.motion import ROOT_SIZE, Motion
from flowrl.envs.humanoid.motions.quaternions import Array

ALL = {motion.name: motion for motion in presets.motions("gait:all")}
MODEL = humanoid.build()


def named(name: str) -> Motion:
    (motion,) = presets.motions(f"gait:{name}")
    return motion


def places(qpos: Array) -> Array:
    """m (frames, 15, 3), of every body."""
    data = mujoco.MjData(MODEL)
    found = np.empty((len(qpos), len(BODIES), 3))
    for frame, pose in enumerate(qpos):
        data.qpos[:] = pose
        mujoco.mj_kinematics(MODEL, data)
        found[frame] = data.xpos[1:]
    return found


def speeds(qpos: Array) -> Array:
    """qvel (frames, 34) by central differences, and at the ends one-sided."""
    steps = np.empty((len(qpos) - 1, MODEL.nv))
    for frame, step in enumerate(steps):
        mujoco.mj_differentiatePos(MODEL, step, 1 / CONTROL_RATE, qpos[frame], qpos[frame + 1])
    ends = np.concatenate([steps[:1], steps, steps[-1:]])
    return (ends[:-1] + ends[1:]) / 2


@pytest.mark.parametrize("motion", ALL.values(), ids=ALL)
def test_a_gait_is_smooth_and_within_the_joint_ranges(motion: Motion) -> None:
    assert motion.seconds >= 12
    assert motion.clamped == 0
    low, high = MODEL.jnt_range[1:].T
    hinges = motion.qpos[:, ROOT_SIZE:]
    assert (hinges >= low).all()
    assert (hinges <= high).all()
    assert np.abs(np.diff(hinges, axis=0)).max() * CONTROL_RATE < 8  # rad/s
    assert motion.loops
    assert hinges[-1] == pytest.approx(hinges[0], abs=1e-9)


@pytest.mark.parametrize("motion", ALL.values(), ids=ALL)
def test_a_stance_foot_is_flat_and_still(motion: Motion) -> None:
    heights = lowest_feet(motion.qpos)
    assert lowest_points(motion.qpos).min() >= -1e-12
    standing = np.abs(heights) < 1e-12  # (frames, 2)
    assert standing.any(-1).all()
    feet = places(motion.qpos)[:, FEET]
    still = standing[1:] & standing[:-1]
    assert np.abs(np.diff(feet, axis=0))[still].max() < 1e-12
    data = mujoco.MjData(MODEL)
    for pose in motion.qpos[:60]:
        data.qpos[:] = pose
        mujoco.mj_kinematics(MODEL, data)
        for foot in FEET:
            assert data.xmat[1 + foot][8] == pytest.approx(1)  # its z axis points up
    if motion.name != "stand":
        assert 0.04 < heights.max() < 0.12
        assert standing.mean() == pytest.approx(gait.DUTY_FACTOR, abs=0.05)


def test_arm_styles_share_the_root_path_and_nothing_else() -> None:
    styles = presets.motions("gait:styles")
    assert len(styles) == 2 * len(arm_styles.STYLES)
    for motion in styles:
        assert np.abs(motion.qpos[:, :ROOT_SIZE] - styles[0].qpos[:, :ROOT_SIZE]).max() < 1e-12
    bodies = {motion.name: places(motion.qpos) for motion in styles}
    for style in arm_styles.STYLES:
        slow, quick = bodies[f"walk:arms={style}:step=0.58"], bodies[f"walk:arms={style}:step=0.35"]
        assert np.abs(slow - quick)[:, FEET].max() > 0.1
    for other in set(arm_styles.STYLES) - {"still"}:
        distance = np.linalg.norm(bodies[f"walk:arms={other}:step=0.35"] - bodies["walk:arms=still:step=0.35"], axis=-1)
        assert distance[:, HANDS].max() > 0.2  # m


def test_a_path_is_an_arc() -> None:
    # 1 m/s and π/2 rad/s: a circle of radius 2/π to the left, of which a quarter takes 1 s.
    quarter = RootPath(1.0, turn=np.pi / 2)
    assert quarter.position(np.array([0.0, 1.0])) == pytest.approx(np.array([[0, 0], [2 / np.pi, 2 / np.pi]]))
    assert quarter.heading(np.array([1.0])) == pytest.approx(np.pi / 2)
    # To the left at 1 m/s instead: the same circle, begun a quarter later.
    assert RootPath(sideways=1.0, turn=np.pi / 2).position(np.array([1.0])) == pytest.approx(
        np.array([[-2 / np.pi, 2 / np.pi]])
    )
    assert RootPath(0.6, 0.3).position(np.array([2.0])) == pytest.approx(np.array([[1.2, 0.6]]))


def test_a_gait_keeps_its_speed() -> None:
    assert named("walk").qpos[-1, 0] == pytest.approx(0.6 * 14)
    assert named("walk:speed=-0.5").qpos[-1, 0] == pytest.approx(-0.5 * 14)
    assert named("sidestep").qpos[-1, 1] == pytest.approx(0.3 * 14)
    turned = quaternions.to_vector(named("turn:seconds=2").qpos[:, 3:ROOT_SIZE])
    assert turned[:, 2] == pytest.approx(0.6 * np.arange(len(turned)) / CONTROL_RATE)


@pytest.mark.parametrize("side", ["right", "left"])
def test_leg_inverse_kinematics_reaches_the_foot_pose(side: humanoid.Side) -> None:
    random = np.random.default_rng(0)
    count = 50
    pelvis = random.normal(size=(count, 3))
    turn = quaternions.from_vector(random.normal(size=(count, 3)))
    away = quaternions.from_vector(random.uniform(-0.5, 0.5, size=(count, 3)))
    hip = pelvis + quaternions.rotate(turn, [0, 0.084887 * humanoid.OUT[side], 0])
    ankle = hip + quaternions.rotate(
        quaternions.multiply(turn, away), [0, 0, -0.7] * random.uniform(0.8, 1.1, size=(count, 1))
    )
    foot = quaternions.multiply(turn, quaternions.from_vector(random.uniform(-0.2, 0.2, size=(count, 3))))
    hinges = leg_ik.angles(pelvis, turn, ankle, foot, side, random.uniform(-0.3, 0.3, size=count))
    first = ROOT_SIZE + humanoid.JOINTS.index(f"{side}_thigh_x")
    data = mujoco.MjData(MODEL)
    for row in range(count):
        data.qpos[:3], data.qpos[3:7] = pelvis[row], turn[row]
        data.qpos[first : first + 7] = hinges[row]
        mujoco.mj_kinematics(MODEL, data)
        assert data.body(f"{side}_foot").xpos == pytest.approx(ankle[row], abs=1e-12)
        assert abs(data.body(f"{side}_foot").xquat @ foot[row]) == pytest.approx(1)
    assert (hinges[:, 3] > 0).all()  # a knee bends backwards


def test_a_gait_beyond_the_legs_or_joints_is_refused() -> None:
    with pytest.raises(ValueError, match="left foot is out of the leg's reach"):
        gait.generate(Gait(RootPath(1.2), stride=42), "strides")
    with pytest.raises(ValueError, match="range of right_thigh_z"):
        gait.generate(Gait(RootPath(turn=8.0)), "whirls")


@pytest.mark.parametrize(
    ("name", "beyond"),
    [("step", 0.0), ("step:arms=raised", 0.0), ("step:arms=forward", 0.0), ("walk", 0.05), ("curve", 0.05)],
)
def test_the_center_of_pressure_is_under_the_stance_foot(name: str, beyond: float) -> None:
    """By inverse dynamics: where the moment about the floor's axes is zero in single support.

    Who walks with a pelvis of constant speed has it for moments a little `beyond` heel and toes (m).
    """
    motion = named(name)
    qvel = speeds(motion.qpos)
    standing = np.abs(lowest_feet(motion.qpos)) < 1e-12
    model, data = humanoid.build(), mujoco.MjData(MODEL)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    seen = set()
    for frame in range(2, 90):
        alone = standing[frame - 2 : frame + 3].all(0)
        if alone.all() or standing[frame - 2 : frame + 3].any(0).all():
            continue  # double support
        data.qpos[:], data.qvel[:] = motion.qpos[frame], qvel[frame]
        data.qacc[:] = (qvel[frame + 1] - qvel[frame - 1]) * CONTROL_RATE / 2
        mujoco.mj_inverse(model, data)
        force = data.qfrc_inverse[:3]
        moment = data.xmat[1].reshape(3, 3) @ data.qfrc_inverse[3:6] + np.cross([0, 0, data.qpos[2]], force)
        pressure = data.qpos[:2] + np.array([-moment[1], moment[0]]) / force[2]
        foot = 1 + FEET[int(alone.argmax())]
        there = data.xmat[foot].reshape(3, 3).T @ ([*pressure, 0] - data.xpos[foot])
        seen.add(foot)
        assert np.abs(there[1]) < 0.045 + beyond / 10  # m: half a sole's width
        assert -0.0435 - beyond < there[0] < 0.1335 + beyond  # m: the sole, from the ankle
    assert len(seen) == 2


# ------------------------------------------------------------------------- motors that only follow the angles


def survival(motion: Motion) -> Array:
    """Control steps from each frame of a stride until a body is 0.25 m from where it should be; 150 at most.

    The humanoid starts in the frame's state. Its motors aim at the angles of the frame after.
    """
    qpos, qvel, there = motion.qpos, speeds(motion.qpos), places(motion.qpos)
    data = mujoco.MjData(MODEL)
    survived = []
    for start in range(28):
        mujoco.mj_resetData(MODEL, data)
        data.qpos[:], data.qvel[:] = qpos[start], qvel[start]
        for frame in range(start + 1, start + 151):
            data.ctrl[:] = qpos[frame, ROOT_SIZE:]
            mujoco.mj_step(MODEL, data, SUBSTEPS)
            mujoco.mj_kinematics(MODEL, data)
            if np.linalg.norm(data.xpos[1:] - there[frame], axis=-1).max() > 0.25:
                frame -= 1
                break
        survived.append(frame - start)
    return np.array(survived, dtype=np.float64)


@pytest.mark.parametrize(("name", "least"), [("step", 25), ("walk", 20), ("sidestep", 20), ("back", 20)])
def test_open_loop_motors_follow_a_gait_for_a_while(name: str, least: float) -> None:
    steps = survival(named(name))
    print(f"{name}: {steps.mean():.1f} on average, median {np.median(steps)}, least {steps.min():.0f}")
    assert np.median(steps) > least
    assert steps.mean() > least
    if name == "step":
        assert steps.min() > least


def test_the_standing_motion_does_not_fall() -> None:
    assert survival(named("stand")).min() == 150
