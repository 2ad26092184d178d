"""The precomputed reference against MuJoCo and closed forms, and how episodes draw their starts from it."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
import torch

from flowrl.envs.humanoid.episode_starts import RandomStarts, RoundRobinStarts
from flowrl.envs.humanoid.model import BODIES, CONTROL_RATE, JOINTS, STANDING_HEIGHT, build
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.reference import Reference, velocities

MODEL = build()


def circling(frames: int, radius: float = 2.0, turn: float = 0.9, swing: float = 3.0) -> Motion:
    """Round a circle at `turn` rad/s, the heading along it, while the right arm swings at `swing` rad/s."""
    time = np.arange(frames) / CONTROL_RATE
    qpos = np.zeros((frames, 35))
    angle = turn * time
    qpos[:, :3] = np.stack((radius * np.sin(angle), -radius * np.cos(angle), 0 * time + STANDING_HEIGHT), axis=1)
    qpos[:, 3], qpos[:, 6] = np.cos(angle / 2), np.sin(angle / 2)
    qpos[:, 7 + JOINTS.index("right_upper_arm_y")] = 0.8 * np.sin(swing * time)
    return Motion("circle", qpos)


def times(clips: list[int], frames: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(clips), torch.tensor(frames)


def test_a_gathered_frame_is_what_mujoco_computes() -> None:
    """Places, rotations and both velocities of every body, in frames of two clips."""
    clips = [circling(20), circling(33, radius=1, turn=-2)]
    reference = Reference([(clip, 1.0) for clip in clips], MODEL)
    which, when = times([0, 1, 1, 0], [3, 0, 32, 19])
    found = reference.at(which, when)
    for row, (clip, frame) in enumerate(zip(which.tolist(), when.tolist(), strict=True)):
        data = mujoco.MjData(MODEL)
        data.qpos[:] = clips[clip].qpos[frame]
        data.qvel[:] = velocities(clips[clip].qpos, MODEL)[frame]
        mujoco.mj_forward(MODEL, data)
        np.testing.assert_array_equal(found.position[row], data.xpos[1:])
        np.testing.assert_array_equal(found.rotation[row], data.xquat[1:])
        np.testing.assert_array_equal(found.axes[row].permute(1, 2, 0).reshape(-1, 9), data.xmat[1:])
        for body in range(len(BODIES)):
            moving = np.empty(6)
            kind = mujoco.mjtObj.mjOBJ_XBODY
            mujoco.mj_objectVelocity(MODEL, data, kind, body + 1, moving, flg_local=0)
            np.testing.assert_allclose(found.angular_velocity[row, body], moving[:3], rtol=0, atol=1e-13)
            np.testing.assert_allclose(found.velocity[row, body], moving[3:], rtol=0, atol=1e-13)


def test_velocities_are_central_differences() -> None:
    """On a circle of radius r at ω: r sin(ω dt)/dt along it, ω about z; the arm A cos(st) sin(s dt)/dt."""
    r, omega, swing, dt = 2.0, 0.9, 3.0, 1 / CONTROL_RATE
    qvel = velocities(circling(40, r, omega, swing).qpos, MODEL)[1:-1]
    time = np.arange(1, 39) * dt
    speed = r * np.sin(omega * dt) / dt
    along = np.stack((np.cos(omega * time), np.sin(omega * time), 0 * time), axis=1)
    np.testing.assert_allclose(qvel[:, :3], speed * along, atol=1e-12)
    np.testing.assert_allclose(qvel[:, 3:6], np.tile([0, 0, omega], (38, 1)), atol=1e-12)
    arm = 0.8 * np.cos(swing * time) * np.sin(swing * dt) / dt
    np.testing.assert_allclose(qvel[:, 6 + JOINTS.index("right_upper_arm_y")], arm, atol=1e-12)


def test_velocities_at_the_ends_are_one_sided() -> None:
    qpos = np.zeros((3, 35))
    qpos[:, 3], qpos[:, 0] = 1, [0.0, 0.1, 0.4]
    speed = velocities(qpos, MODEL)[:, 0]
    np.testing.assert_allclose(speed, [0.1 * 30, 0.4 * 15, 0.3 * 30], rtol=1e-12)


def test_beyond_a_clips_end_is_its_end() -> None:
    reference = Reference([(circling(5), 1.0), (circling(9), 1.0)], MODEL)
    assert reference.frame(*times([0, 0, 0, 1, 1], [4, 5, 99, 0, 9])).tolist() == [4, 4, 4, 5, 13]


def test_no_clip_and_useless_weights_are_refused() -> None:
    clip = circling(3)
    for clips in ([], [(clip, 0.0)], [(clip, 1.0), (clip, -1.0)], [(clip, np.nan)]):
        with pytest.raises(ValueError, match="weights"):
            Reference(clips, MODEL)


# ------------------------------------------------------------------------------------------------------ starts


def three(weights: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Reference:
    """Clips of 4, 5 and 6 frames."""
    return Reference([(circling(4 + number), weight) for number, weight in enumerate(weights)], MODEL)


def drawn(starts: RandomStarts, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return starts.draw(torch.arange(count), torch.Generator().manual_seed(seed))


def test_starts_go_by_weight_and_are_uniform_in_every_frame_but_the_last_two() -> None:
    clips, frames = drawn(RandomStarts(three((1.0, 0.0, 3.0)), by_failure=False), 20_000)
    shares = clips.bincount(minlength=3) / 20_000
    np.testing.assert_allclose(shares, [0.25, 0, 0.75], atol=0.015)  # five standard errors
    assert shares[1] == 0
    of_last = frames[clips == 2].bincount()
    assert len(of_last) == 4  # frames 0 to 3 of 6
    np.testing.assert_allclose(of_last / of_last.sum(), [0.25] * 4, atol=0.018)


def test_failures_shift_the_weight_by_their_count() -> None:
    """Two clips at p = 1/2: a failure counts 1/(2 p) = 1, so F = (1, 2) and p = (1/3, 2/3). Then one of the second
    counts 1/(2 · 2/3) = 3/4, and one of the first 1/(2 · 1/3) = 3/2: F = (2.5, 2.75)."""
    starts = RandomStarts(Reference([(circling(4), 1.0), (circling(5), 1.0)], MODEL), by_failure=True)
    starts.record_failures(torch.tensor([1]))
    np.testing.assert_allclose(starts.probabilities(), [1 / 3, 2 / 3])
    starts.record_failures(torch.tensor([0, 1]))
    np.testing.assert_allclose(starts.counts, [2.5, 2.75])
    shares = drawn(starts, 20_000)[0].bincount() / 20_000
    np.testing.assert_allclose(shares, [2.5 / 5.25, 2.75 / 5.25], atol=0.018)


def test_equal_failure_rates_leave_equal_shares() -> None:
    """Without weighing each failure by how often its clip was drawn, the first to fail would be drawn, and so fail,
    more and more (Pólya's urn)."""
    starts, random = RandomStarts(three(), by_failure=True), torch.Generator().manual_seed(0)
    for _ in range(2000):
        starts.record_failures(starts.draw(torch.arange(4), random)[0])
    np.testing.assert_allclose(starts.probabilities(), [1 / 3] * 3, atol=0.03)


def test_a_clip_that_fails_twice_as_often_is_drawn_twice_as_often() -> None:
    starts, random = RandomStarts(three(), by_failure=True), torch.Generator().manual_seed(0)
    for _ in range(5000):
        clips = starts.draw(torch.arange(4), random)[0]
        fails = torch.rand(4, generator=random) < torch.tensor([0.2, 0.4, 0.4])[clips]
        starts.record_failures(clips[fails])
    np.testing.assert_allclose(starts.probabilities(), [0.2, 0.4, 0.4], atol=0.03)


def test_uniform_starts_do_not_mind_failures() -> None:
    starts = RandomStarts(three(), by_failure=False)
    starts.record_failures(torch.tensor([1, 1, 1]))
    np.testing.assert_allclose(starts.probabilities(), [1 / 3] * 3)


def test_in_turn_covers_the_clips_row_by_row_whichever_end_first() -> None:
    """Episode k of row i of 2 shows clip (2 k + i) mod 3, at its first frame."""
    starts, random = RoundRobinStarts(three(), count=2, steps=4), torch.Generator()

    def shown(rows: list[int]) -> list[int]:
        clips, frames = starts.draw(torch.tensor(rows), random)
        assert not frames.any()
        return clips.tolist()

    assert shown([0, 1]) == [0, 1]
    assert shown([1]) == [0]  # 2 + 1
    assert shown([1]) == [2]  # 4 + 1
    assert shown([0]) == [2]  # 2 + 0
    assert shown([0, 1]) == [1, 1]  # 4 + 0, 6 + 1
    starts.clear()
    assert shown([0, 1]) == [0, 1]


def test_in_turn_begins_anywhere_that_leaves_a_whole_episode() -> None:
    """Episodes of 2 steps from frame f end at frame f + 2, with one more to tell of: f + 3 is in the clip."""
    starts, random = RoundRobinStarts(three(), count=3, steps=2), torch.Generator().manual_seed(0)
    frames = torch.stack([starts.draw(torch.arange(3), random)[1] for _ in range(6000)])
    for clip, possible in enumerate((1, 2, 3)):  # clips of 4, 5 and 6 frames
        shares = frames[:, clip].bincount() / 6000
        np.testing.assert_allclose(shares, [1 / possible] * possible, atol=0.032)  # five standard errors
