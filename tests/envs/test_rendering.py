"""Pictures: of the end rather than of the restart, of the size asked for, and with the robot in sight."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import gymnasium
import numpy as np
import pytest
import torch

from flowrl.contracts.errors import MissingDependency
from flowrl.envs import gridworld, opengl, rendering
from flowrl.envs.factory import make
from flowrl.envs.settings import EnvSettings

ALONE = "test/GridWorldAlone-v0"  # without a vector environment of its own: Gymnasium steps many of it
UP = torch.tensor([[0.0, 1.0]])
WHERE = gridworld.layout("two_walls")


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    gymnasium.register(id=ALONE, entry_point="flowrl.envs.gridworld:GridWorldEnv")
    yield
    del gymnasium.registry[ALONE]


@pytest.fixture(autouse=True)
def _graphics_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM"):
        if name not in os.environ:
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)


@pytest.mark.parametrize("id", [gridworld.ID, ALONE])
@pytest.mark.parametrize("count", [1, 2])
def test_the_end_is_seen_before_the_restart(id: str, count: int) -> None:
    """From (12, 21), two steps below the upper goals; a second agent walks away from them."""
    env = make(EnvSettings(id=id, options={"start": [12, 21]}), count=count, render_mode="rgb_array")
    env.reset(seed=0)
    action = torch.cat([UP, -UP])[:count]
    for y in (22, 23):
        step = env.step(action)
        pictures = env.render()
        np.testing.assert_array_equal(pictures[0], gridworld.picture(WHERE, np.array([12, y])))
    assert step.terminated[0]
    if count == 2:
        assert not step.terminated[1]
        np.testing.assert_array_equal(pictures[1], gridworld.picture(WHERE, np.array([12, 19])))
    env.step(action)  # of the next episode
    np.testing.assert_array_equal(env.render()[0], gridworld.picture(WHERE, np.array([12, 22])))
    env.close()


@pytest.mark.parametrize("id", [gridworld.ID, ALONE])
def test_after_a_reset_the_start_is_seen(id: str) -> None:
    env = make(EnvSettings(id=id, options={"start": [12, 22]}), count=1, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.step(UP).terminated[0]
    env.reset(seed=1)
    np.testing.assert_array_equal(env.render()[0], gridworld.picture(WHERE, np.array([12, 22])))
    env.close()


def test_without_pictures_none_is_kept() -> None:
    for id in (gridworld.ID, ALONE):
        env = make(EnvSettings(id=id, options={"start": [12, 22]}), count=1)
        env.reset(seed=0)
        env.step(UP)
        assert env._last_pictures == {}
        env.close()


def test_a_robot_that_runs_stays_in_sight() -> None:
    """Ten metres further on the picture shows the same: were the camera fixed, the robot would be gone."""
    try:
        env = rendering.make_visible(EnvSettings(id="HalfCheetah-v5", mode="async"), rendering.Size(96, 64))
        env.reset(seed=0)
        before = rendering.picture(env).astype(int)
        assert before.shape == (64, 96, 3)
        state = env.state()
        state["envs"][0]["integration"][1] += 10.0  # after the time: the first of qpos, how far it has run
        env.restore(state)
        env.step(torch.zeros(1, env.action_size))
        after = rendering.picture(env).astype(int)
    except MissingDependency as reason:
        pytest.skip(str(reason))
    legs = slice(24, 56), slice(24, 72)  # the middle
    reddish = [int(((image[legs][..., 0] - image[legs][..., 2]) > 30).sum()) for image in (before, after)]
    assert reddish[0] > 40 and reddish[1] > 40
    env.close()


def test_the_frame_rate_is_the_environments() -> None:
    env = rendering.make_visible(EnvSettings(id=gridworld.ID), rendering.Size(64, 64))
    assert rendering.rate(env) == 10
    env.close()


def test_a_choice_of_graphics_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opengl, "library_without_screen", lambda: "egl")
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    opengl.choose()
    assert os.environ["MUJOCO_GL"] == "glfw"
    monkeypatch.delenv("MUJOCO_GL")
    opengl.choose()
    assert os.environ["MUJOCO_GL"] == "egl"
    monkeypatch.setattr(opengl, "library_without_screen", lambda: "")
    monkeypatch.delenv("MUJOCO_GL")
    opengl.choose()
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.skipif(sys.platform != "linux", reason="MUJOCO_GL has other values there")
def test_a_mujoco_gl_that_keeps_mujoco_from_starting_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "foo")
    with pytest.raises(MissingDependency, match=r"MUJOCO_GL=foo is no graphics library .* `unset MUJOCO_GL`"):
        opengl.choose()
    monkeypatch.setattr(opengl, "LIBRARIES", (("osmesa", "libnowhere.so.8"), ("egl", "libc.so.6")))
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(MissingDependency, match=r"MUJOCO_GL=osmesa, but libnowhere\.so\.8 is not installed"):
        opengl.check()
    monkeypatch.setenv("MUJOCO_GL", "egl")
    opengl.check()
