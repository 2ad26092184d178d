"""Environments as a user would write them in files of their own, for the tests of `env.id`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REACH = '''
import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space

import beside


class Reach(gymnasium.Env):
    """Move a point to a goal; `length` steps."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, length=beside.LENGTH, render_mode=None):
        self.length, self.render_mode = length, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.goal, self.x, self.t = float(self.np_random.uniform(-1, 1)), 0.0, 0
        return self.look(), {}

    def look(self):
        return np.array([self.x, self.goal], np.float32)

    def step(self, action):
        self.x, self.t = self.x + 0.3 * float(action[0]), self.t + 1
        gap = abs(self.goal - self.x)
        return self.look(), -gap, False, self.t >= self.length, {"is_success": gap < 0.2}

    def render(self):
        return np.full((32, 32, 3), 200, np.uint8)


def make(length=3, render_mode=None):
    return Reach(length + 1, render_mode)


class Many(VectorEnv):
    """Counts its steps, all rows together."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}

    def __init__(self, num_envs=1, length=5):
        self.num_envs, self.length, self.t = num_envs, length, 0
        self.single_observation_space, self.single_action_space = Reach.observation_space, Reach.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def look(self):
        return np.full((self.num_envs, 2), self.t, np.float32)

    def reset(self, *, seed=None, options=None):
        self.t = 0
        return self.look(), {}

    def step(self, actions):
        self.t += 1
        ended = np.full(self.num_envs, self.t == self.length)
        last, infos = self.look(), {}
        if ended.all():
            final = np.fromiter(last, dtype=object, count=self.num_envs)
            infos = {"final_obs": final, "_final_obs": ended, "final_info": {}, "_final_info": ended}
            self.t = 0
        return self.look(), np.ones(self.num_envs), np.zeros_like(ended), ended, infos

    def state(self):
        return {"t": self.t}

    def restore(self, state):
        self.t = state["t"]


def many(num_envs=1, **options):
    return Many(num_envs, **options)


def one_by_one(num_envs=1):
    return SyncVectorEnv([Reach] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


class NextStep(Many):
    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}


def nothing():
    return None


class Unspaced(Reach):
    observation_space = None


class Stepless(gymnasium.Env):
    observation_space = action_space = Reach.action_space


class Needy(Reach):
    def __init__(self, goal, speed, render_mode=None):
        super().__init__()


class Plain:
    pass


SPEC = EnvSpec("Reach-v3", entry_point=Reach, kwargs={"length": 7})
NUMBER = 3
gymnasium.register("door/Reach-v0", entry_point=Reach, kwargs={"length": 6})
'''
TASK = '''
from flowrl.envs import Task


class Cart(Task):
    """Keep a cart in the middle."""

    xml = """<mujoco><option timestep="0.02"/><worldbody><body><joint name="slide" type="slide" axis="1 0 0"/>
    <geom size=".1" mass="1"/></body></worldbody><actuator><motor joint="slide" ctrlrange="-1 1" gear="5"/></actuator>
    </mujoco>"""
    episode_steps = 12
    spread = 0.3

    def reset(self, rows):
        self.qpos[rows] = self.uniform(rows, -self.spread, self.spread, size=1)

    def reward(self):
        return -self.qpos[:, 0].abs()
'''


def write(folder: Path) -> None:
    """Write my_env.py, beside.py, which it imports, and my_task.py into `folder`."""
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "beside.py").write_text("LENGTH = 4\n")
    (folder / "my_env.py").write_text(REACH)
    (folder / "my_task.py").write_text(TASK)


def entered(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Copy the folder `source` to `target`, go there for a test, and take back what it adds to the search path."""
    folder = shutil.copytree(source, target)
    monkeypatch.chdir(folder)
    paths = list(sys.path)
    yield folder
    sys.path[:] = paths
