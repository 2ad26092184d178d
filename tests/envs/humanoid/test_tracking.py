"""What HumanoidTrack shows, rewards and ends, against numbers by hand and a slow second account of the observation."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from flowrl.envs.humanoid import reward
from flowrl.envs.humanoid.environment import HumanoidTrackVectorEnv
from flowrl.envs.humanoid.kinematics import BodyStates
from flowrl.envs.humanoid.metrics import TrackingMetrics
from flowrl.envs.humanoid.model import BODIES, HANDS, JOINTS, STANDING_HEIGHT, build
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.observation import PARTS, SIZE, WHERE, visible
from flowrl.envs.humanoid.reference import kinematics, velocities

MODEL = build()
STILL = np.zeros((1, 28), np.float32)


def standing(frames: int = 40) -> Motion:
    qpos = np.zeros((frames, 35))
    qpos[:, 2], qpos[:, 3] = STANDING_HEIGHT, 1
    return Motion("standing", qpos)


def swaying(frames: int = 40, seed: int = 0) -> Motion:
    """Every joint swings, and the pelvis goes and turns, smoothly."""
    random = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / 30
    qpos = standing(frames).qpos.copy()
    middle = MODEL.jnt_range[1:].mean(1)
    qpos[:, 7:] = middle * 0.2 + 0.2 * np.sin(random.uniform(1, 4, 28) * time + random.uniform(0, 6, 28))
    qpos[:, :2] = time * [0.4, -0.2]
    turn = 0.3 + 0.5 * time[:, 0]
    tilt = 0.1 * np.sin(2 * time[:, 0])
    qpos[:, 3:7] = np.stack(  # about z by `turn`, then about the own y by `tilt`
        (
            np.cos(turn / 2) * np.cos(tilt / 2),
            -np.sin(turn / 2) * np.sin(tilt / 2),
            np.cos(turn / 2) * np.sin(tilt / 2),
            np.sin(turn / 2) * np.cos(tilt / 2),
        ),
        axis=1,
    )
    return Motion("swaying", qpos)


def track(*clips: Motion, **options: Any) -> HumanoidTrackVectorEnv:
    env = HumanoidTrackVectorEnv(motions=list(clips or [swaying()]), threads=1, **options)
    env.reset(seed=0)
    return env


def bodies(**joints: float) -> BodyStates:
    """Standing with these joint angles."""
    qpos = standing(2).qpos[:1].copy()
    for name, angle in joints.items():
        qpos[0, 7 + JOINTS.index(name)] = angle
    return kinematics(qpos, np.zeros((1, 34)), MODEL)


def changed(of: BodyStates, which: int, by: tuple[float, float, float], body: int | slice = slice(None)) -> BodyStates:
    vectors = of.vectors.clone()
    vectors[:, which, body] += torch.tensor(by, dtype=torch.float64)
    return BodyStates(vectors, of.rotation)


# ----------------------------------------------------------------------------------------------------- targets


def raised(frames: int = 40) -> Motion:
    """Standing with the right arm raised to the front by 120 degrees."""
    qpos = standing(frames).qpos.copy()
    qpos[:, 7 + JOINTS.index("right_upper_arm_y")] = -2 * math.pi / 3
    return Motion("raised", qpos)


@pytest.mark.parametrize(("targets", "expected"), [("zero_pose", 1), ("present_arms", 30), ("reference", 30)])
def test_a_raised_arm_stays_only_where_its_motors_are_asked_to_hold_it(targets: str, expected: int) -> None:
    """From the zero pose a shoulder pulls with all its torque: the hand is 0.25 m away within two steps."""
    env = track(raised(), targets=targets)
    alive = 0
    while alive < 30 and not env.step(STILL)[2][0]:
        alive += 1
    assert alive == expected


def test_targets_of_the_motors() -> None:
    """In units of 0.5 rad: action + the reference's next angles, or + the arms' present ones; actions end at 6."""
    action = np.full((1, 28), 0.25, np.float32)
    action[0, 0] = 7
    for targets in ("zero_pose", "present_arms", "reference"):
        env = track(swaying(), targets=targets)
        task = env.runner.task
        present, following = task.angles[0].clone(), task.reference.qpos[task.time[0] + 1, 7:]
        env.step(action)
        arms = torch.tensor(
            [name.startswith(("right_upper_arm", "right_fore", "left_upper_arm", "left_fore")) for name in JOINTS]
        )
        offset = {"zero_pose": 0 * present, "present_arms": present * arms, "reference": following}[targets]
        expected = torch.full((28,), 0.25, dtype=torch.float64)
        expected[0] = 7 if targets == "zero_pose" else 6  # there MuJoCo limits it
        torch.testing.assert_close(task.ctrl[0], expected + 2 * offset, rtol=0, atol=1e-12)
        assert int(arms.sum()) == 8


# ------------------------------------------------------------------------------------------------------ reward


def test_the_reward_of_a_displaced_body() -> None:
    """0.1 m along x: a mean over x, y and z of 0.01/3."""
    value = reward.imitation(changed(bodies(), 0, (0.1, 0, 0)), bodies()).item()
    assert value == pytest.approx(0.5 * math.exp(-1 / 3) + 0.5, abs=1e-15)


def test_the_reward_of_a_turned_head() -> None:
    """The head's frame is at its joint, so only the rotation of one body in 15 differs."""
    value = reward.imitation(bodies(head_z=1.2), bodies()).item()
    assert value == pytest.approx(0.7 + 0.3 * math.exp(-10 * 1.2**2 / 15), abs=1e-14)


def test_the_reward_of_wrong_velocities() -> None:
    """2 m/s of all bodies: 4/3; 3 rad/s of one body about one axis: 9/45."""
    value = reward.imitation(changed(bodies(), 1, (0, 2, 0)), bodies()).item()
    assert value == pytest.approx(0.9 + 0.1 * math.exp(-0.1 * 4 / 3), abs=1e-15)
    value = reward.imitation(changed(bodies(), 2, (0, 0, 3), body=7), bodies()).item()
    assert value == pytest.approx(0.9 + 0.1 * math.exp(-0.1 * 9 / 45), abs=1e-15)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.5, 3.0, math.pi, 3.5])
def test_the_squared_angle_of_a_rotation(angle: float) -> None:
    """Of either sign of the quaternions; the far way round is the near one the other way."""
    one = torch.tensor([0.5, -0.5, 0.1, 0.7], dtype=torch.float64)
    one /= one.norm()
    turn, two = np.array([math.cos(angle / 2), 0, math.sin(angle / 2), 0]), np.empty(4)
    mujoco.mju_mulQuat(two, one.numpy(), turn)
    near = min(angle, 2 * math.pi - angle)
    for sign in (1, -1):
        found = reward.squared_angle(one, sign * torch.from_numpy(two)).sqrt().item()
        assert found == pytest.approx(near, rel=1e-7, abs=2e-8 if angle > 1 else 1e-15)
    assert reward.squared_angle(one, one).item() == 0


def test_effort_is_power_up_to_a_tenth() -> None:
    """(100 N m · 2 rad/s + 50 · 4) W at 5e-5."""
    torque, rate = torch.zeros(2, 28, dtype=torch.float64), torch.zeros(2, 28, dtype=torch.float64)
    torque[:, 3], rate[:, 3], torque[:, 9], rate[:, 9] = 100, -2, -50, -4
    torque[1] *= 100
    np.testing.assert_allclose(reward.effort(torque, rate), [0.02, 0.1], rtol=1e-14)


def test_in_the_references_state_only_effort_is_missing() -> None:
    env = track(num_envs=5)
    task = env.runner.task
    power = (task.torques * task.rates).abs().sum(1)
    assert (power > 1).all()
    expected = 1 - (5e-5 * power).clamp(max=0.1)
    np.testing.assert_array_equal(task.reward(), expected)


# ------------------------------------------------------------------------------------------------- observation


def test_the_parts_add_up_to_phcs_size() -> None:
    sizes = list(PARTS.values())
    assert sum(sizes[:5]) == 1 + 14 * 3 + 15 * (6 + 3 + 3) == 223
    assert sum(sizes[5:11]) == 15 * (3 + 6 + 3 + 3 + 3 + 6) == 360
    assert sizes[11:] == [28, 28, 28]
    assert SIZE == 667


def test_what_a_goal_lets_the_policy_see() -> None:
    """Own body 223 and own joints 56 always. `root`: two places of one body, 6 numbers. `root_hands`: of three, 18.
    `full`: everything."""
    assert [int(visible(goal).sum()) for goal in ("full", "root_hands", "root")] == [667, 297, 285]
    seen = visible("root_hands")
    for name, where in WHERE.items():
        if not name.startswith("goal"):
            assert seen[where].all()
        elif name in ("goal_place_differences", "goal_places"):
            by_body = seen[where].reshape(15, 3)
            assert by_body.all(1).nonzero()[0].tolist() == by_body.any(1).nonzero()[0].tolist()
            assert [BODIES[body] for body in by_body.any(1).nonzero()[0]] == ["pelvis", "right_hand", "left_hand"]
        else:
            assert not seen[where].any()
    assert visible("root")[WHERE["goal_places"]].nonzero()[0].tolist() == [0, 1, 2]


def rotation(axis: NDArray[np.float64], angle: float) -> NDArray[np.float64]:
    """Rodrigues' formula."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def told(qpos: NDArray[Any], qvel: NDArray[Any], goal: NDArray[Any], goal_velocity: NDArray[Any]) -> NDArray[Any]:
    """The observation once more: a loop over bodies, MuJoCo's own velocities, rotation matrices."""
    own, other = mujoco.MjData(MODEL), mujoco.MjData(MODEL)
    own.qpos[:], own.qvel[:], other.qpos[:], other.qvel[:] = qpos, qvel, goal, goal_velocity
    mujoco.mj_forward(MODEL, own), mujoco.mj_forward(MODEL, other)
    ahead = own.xmat[1].reshape(3, 3)[:, 0]
    to_local = rotation(np.array([0, 0, 1.0]), -math.atan2(ahead[1], ahead[0]))

    def velocity(data: mujoco.MjData, body: int) -> tuple[NDArray[Any], NDArray[Any]]:
        both = np.empty(6)
        mujoco.mj_objectVelocity(MODEL, data, mujoco.mjtObj.mjOBJ_XBODY, body, both, 0)
        return to_local @ both[3:], to_local @ both[:3]

    def six(matrix: NDArray[Any]) -> NDArray[Any]:
        return np.concatenate((matrix[:, 0], matrix[:, 2]))

    parts: dict[str, list[Any]] = {name: [] for name in PARTS}
    parts["height"] = [own.xpos[1][2:]]
    for body in range(1, 16):
        place, goal_place = (to_local @ (data.xpos[body] - own.xpos[1]) for data in (own, other))
        matrix, goal_matrix = (data.xmat[body].reshape(3, 3) for data in (own, other))
        (speed, spin), (goal_speed, goal_spin) = velocity(own, body), velocity(other, body)
        if body > 1:
            parts["places"].append(place)
        parts["rotations"].append(six(to_local @ matrix))
        parts["velocities"].append(speed)
        parts["spins"].append(spin)
        parts["goal_place_differences"].append(goal_place - place)
        between = goal_matrix @ matrix.T  # seen from the world; the frame of the heading sees H D Hᵀ
        parts["goal_rotation_differences"].append(six(to_local @ between @ to_local.T))
        parts["goal_velocity_differences"].append(goal_speed - speed)
        parts["goal_spin_differences"].append(goal_spin - spin)
        parts["goal_places"].append(goal_place)
        parts["goal_rotations"].append(six(to_local @ goal_matrix))
    parts["joint_angles"], parts["joint_velocities"] = [qpos[7:]], [qvel[6:]]
    parts["goal_joint_angles"] = [goal[7:]]
    return np.concatenate([number for part in parts.values() for number in part])


def test_the_observation_is_that_of_a_slow_loop() -> None:
    """At the start and some steps later; the goal is the frame after the one that the body is in."""
    clip = swaying()
    env = track(clip, num_envs=3)
    shown, qvel = env.reset(seed=3)[0], velocities(clip.qpos, MODEL)
    random = np.random.default_rng(0)
    for step in range(4):
        state = {name: env.runner.simulation.bind(name).numpy() for name in ("qpos", "qvel")}
        for row, frame in enumerate(env.runner.task.time.tolist()):
            goal = min(frame + 1, 39)
            expected = told(state["qpos"][row], state["qvel"][row], clip.qpos[goal], qvel[goal])
            np.testing.assert_allclose(shown[row], expected, rtol=0, atol=1e-11, err_msg=f"step {step}")
        if step == 0:
            assert np.abs(shown[:, WHERE["goal_place_differences"]]).max() > 0.01  # not the present frame
        shown, *_ = env.step(random.uniform(-1, 1, (3, 28)).astype(np.float32))


def turned(clip: Motion, angle: float) -> Motion:
    """The whole motion turned about the world's z axis, and set down elsewhere."""
    qpos, half = clip.qpos.copy(), np.array([math.cos(angle / 2), 0, 0, math.sin(angle / 2)])
    qpos[:, :3] = qpos[:, :3] @ rotation(np.array([0, 0, 1.0]), angle).T + [3.0, -5.0, 0.0]
    for frame in qpos:
        mujoco.mju_mulQuat(frame[3:7], half, frame[3:7].copy())
    return Motion("turned", qpos)


@pytest.mark.parametrize("angle", [0.4, 2.0, -3.0])
def test_where_it_heads_is_not_to_be_seen(angle: float) -> None:
    """In the air: MuJoCo's pyramids of friction do have directions, so a foot slides a little otherwise there."""
    clip = swaying()
    clip.qpos[:, 2] += 3
    one, other = track(clip, num_envs=4), track(turned(clip, angle), num_envs=4)
    first, second = one.reset(seed=1)[0], other.reset(seed=1)[0]
    np.testing.assert_allclose(first, second, rtol=0, atol=1e-9)
    action = np.random.default_rng(0).uniform(-1, 1, (4, 28)).astype(np.float32)
    for _ in range(3):
        (first, reward_one, *_), (second, reward_other, *_) = one.step(action), other.step(action)
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-9)
        np.testing.assert_allclose(reward_one, reward_other, rtol=0, atol=1e-9)


def test_some_rows_alone_are_shown_as_among_all() -> None:
    env = track(num_envs=6)
    env.step(np.ones((6, 28), np.float32))
    task, rows = env.runner.task, torch.tensor([1, 2, 5])
    np.testing.assert_array_equal(task.observation_rows(rows), task.observation()[rows])


# ------------------------------------------------------------------------------------------------------ action


def test_an_action_of_one_aims_half_a_radian_away() -> None:
    """At rest in the zero pose a motor pulls with stiffness · 0.5 rad · a, up to its limit; a counts up to 6."""
    env = track(standing(), num_envs=1)
    simulation, torques = env.runner.simulation, env.runner.task.torques
    neck, knee = JOINTS.index("head_y"), JOINTS.index("left_shin_y")
    for action, at_neck, at_knee in ((0.5, 25, 125), (1.0, 50, 150), (0.01, 0.5, 2.5), (-0.2, -10, -50)):
        simulation.bind("ctrl").fill_(action)
        simulation.forward()
        assert torques[0, [neck, knee]].tolist() == pytest.approx([at_neck, at_knee])
    runs = []
    for size in (6.0, 9.0):
        env.reset(seed=0)
        runs.append(env.step(np.full((1, 28), size, np.float32))[0])
    np.testing.assert_array_equal(*runs)


# ---------------------------------------------------------------------------------------------- episodes' ends


def displaced(env: HumanoidTrackVectorEnv, row: int, metres: float) -> None:
    """Carry a humanoid sideways."""
    env.runner.simulation.bind("qpos")[row, 1] += metres


def test_training_ends_where_a_body_is_a_quarter_metre_away() -> None:
    env = track(standing(), num_envs=3)
    displaced(env, 0, 0.2), displaced(env, 1, 0.3)
    action = np.repeat(STILL, 3, axis=0)
    _, _, terminated, truncated, infos = env.step(action)
    assert (terminated.tolist(), truncated.tolist()) == ([False, True, False], [False] * 3)
    told = infos["final_info"]
    assert told["success"][1] == told["alive_s"][1] == told["strict_alive_s"][1] == 0
    assert np.isnan(told["mpjpe_mm"][1])  # it had no step but the one that failed


def test_a_single_body_is_enough_in_training_and_not_in_evaluation() -> None:
    """An arm that hangs where the reference has it raised."""
    raised = standing()
    raised.qpos[:, 7 + JOINTS.index("left_upper_arm_y")] = -1.5
    ends = []
    for evaluation in (False, True):
        env = track(raised, num_envs=1, evaluation=evaluation)
        env.runner.simulation.bind("qpos")[:, 7:] = 0
        ends.append(bool(env.step(STILL)[2][0]))
    assert ends == [True, False]


def test_evaluation_ends_where_half_a_metre_is_the_mean() -> None:
    """0.45 m of all bodies: alive, but not strictly."""
    env = track(standing(), num_envs=3, evaluation=True, max_episode_steps=3)
    displaced(env, 0, 0.45), displaced(env, 1, 0.55)
    action = np.repeat(STILL, 3, axis=0)
    assert env.step(action)[2].tolist() == [False, True, False]
    env.step(action)
    _, _, terminated, truncated, infos = env.step(action)
    assert (terminated.tolist(), truncated.tolist()) == ([False] * 3, [True, False, True])
    told = infos["final_info"]
    assert told["success"].tolist() == [1, 0, 1]
    np.testing.assert_allclose(told["alive_s"], [0.1, 0, 0.1])
    np.testing.assert_allclose(told["strict_alive_s"], [0, 0, 0.1])


def test_a_clips_end_truncates_where_its_last_frame_is_still_the_next() -> None:
    """Of 6 frames, from the first: 4 steps."""
    clip = swaying(6)
    env = track(clip, num_envs=2, evaluation=True)
    action = np.zeros((2, 28), np.float32)
    for step in range(1, 5):
        assert env.runner.task.time.tolist() == [step - 1] * 2
        *_, terminated, truncated, infos = env.step(action)
        assert not terminated.any()
        assert truncated.tolist() == [step == 4] * 2
    last = np.stack(infos["final_obs"])
    np.testing.assert_array_equal(last[:, WHERE["goal_joint_angles"]], clip.qpos[[5, 5], 7:])
    np.testing.assert_allclose(infos["final_info"]["alive_s"], [4 / 30] * 2)
    assert env.runner.task.time.tolist() == [0, 0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e11])
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("evaluation", [False, True])
def test_a_lost_simulation_ends_its_episode_without_reward(value: float, evaluation: bool) -> None:
    """The others do not notice, and the next episode is whole."""
    env, whole = (track(standing(), num_envs=3, evaluation=evaluation) for _ in range(2))
    env.runner.simulation.bind("qvel")[1] = value
    action = np.zeros((3, 28), np.float32)
    obs, reward, terminated, _, infos = env.step(action)
    expected_obs, expected, *_ = whole.step(action)
    assert terminated.tolist() == [False, True, False]
    assert reward[1] == 0 and not infos["final_obs"][1].any()
    assert infos["final_info"]["success"][1] == 0
    np.testing.assert_array_equal(obs[[0, 2]], expected_obs[[0, 2]])
    np.testing.assert_array_equal(reward[[0, 2]], expected[[0, 2]])
    for _ in range(5):
        obs, reward, terminated, *_ = env.step(action)
        assert np.isfinite(obs).all() and (reward > 0.9).all() and not terminated.any()


def test_failures_of_episodes_are_told_to_the_sampling() -> None:
    """Row 1 fails at clip c, with p = 1/2: that is one failure more, and the others' starts are none."""
    env = track(standing(), swaying(), num_envs=4, sampling="failure")
    task = env.runner.task
    clip = int(task.motion[1])
    displaced(env, 1, 1.0)
    env.step(np.zeros((4, 28), np.float32))
    assert task.starts.counts.tolist() == [2.0 if number == clip else 1.0 for number in (0, 1)]
    env.reset()
    assert task.starts.counts.sum() == 3
    env.reset(seed=0)
    assert task.starts.counts.tolist() == [1, 1]


# ------------------------------------------------------------------------------------------------------ record


def test_the_numbers_of_a_record_by_hand() -> None:
    """Step 1: everything 5 cm aside. Step 2: the right hand alone 10 cm: 100/15 mm on average, 100/6 of the arms."""
    record, rows = TrackingMetrics(2), torch.tensor([1])
    record.reset(torch.arange(2))
    no, yes = torch.tensor([False, False]), torch.tensor([True, True])
    aside = torch.zeros(2, 15, 3, dtype=torch.float64)
    aside[:, :, 0], aside[:, :, 1] = 0.03, -0.04
    record.update(aside, near=yes, failed=no)
    hand = torch.zeros(2, 15, 3, dtype=torch.float64)
    hand[:, HANDS[0], 2] = 0.1
    record.update(hand, near=no, failed=no)
    record.update(torch.zeros(2, 15, 3), near=yes, failed=no)
    told = {name: value.item() for name, value in record.compute(rows).items()}
    assert told == {
        "success": 1,
        "alive_s": 3 / 30,
        "strict_alive_s": 1 / 30,  # until the first step that was not near
        "mpjpe_mm": pytest.approx((50 + 100 / 15) / 3),
        "mpjpe_local_mm": pytest.approx(100 / 15 / 3),
        "arms_mm": pytest.approx(100 / 6 / 3),
        "legs_mm": pytest.approx(0, abs=1e-12),
    }
    legs = torch.zeros(2, 15, 3, dtype=torch.float64)
    legs[:, BODIES.index("left_foot"), 0] = 0.06
    record.reset(rows)
    record.update(legs, near=yes, failed=no)
    record.update(100 * legs, near=no, failed=yes)  # and no step that failed
    told = {name: value.item() for name, value in record.compute(rows).items()}
    assert (told["success"], told["alive_s"], told["strict_alive_s"]) == (0, 1 / 30, 1 / 30)
    assert (told["arms_mm"], told["legs_mm"]) == (0, pytest.approx(10))
    assert record.compute(torch.tensor([0]))["alive_s"].item() == 4 / 30  # and not of the last step


def test_a_step_that_was_lost_has_no_error() -> None:
    record = TrackingMetrics(1)
    yes, no = torch.tensor([True]), torch.tensor([False])
    away = torch.full((1, 15, 3), 0.1, dtype=torch.float64)
    assert record.compute(torch.tensor([0]))["mpjpe_mm"].isnan()
    record.update(away, near=yes, failed=no)
    record.update(away * torch.nan, near=no, failed=yes)
    told = record.compute(torch.tensor([0]))
    assert told["mpjpe_mm"].item() == pytest.approx(100 * math.sqrt(3))
    assert told["alive_s"].item() == 1 / 30
