"""The table of the DM-Control tasks (arXiv 1801.00690) and their numbers by profile.

The profile `dmc` reproduces dm_control step for step. `playground` has the numbers of MuJoCo Playground (arXiv
2502.08844): time steps, solver options, contacts, starts. The differences that remain are listed in docs/tasks.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowrl.envs.arguments import one_of
from flowrl.envs.dm_control import ball_in_cup, cartpole, cheetah, finger, fish, point_mass, reacher
from flowrl.envs.dm_control.task import DMControlConstants
from flowrl.envs.simulation.simulation_task import SimulationTask

TASKS: dict[str, tuple[type[SimulationTask[Any]], Mapping[str, DMControlConstants]]] = {
    "BallInCup": (ball_in_cup.BallInCup, ball_in_cup.PROFILES),
    "CartpoleBalance": (cartpole.CartpoleBalance, cartpole.PROFILES),
    "CheetahRun": (cheetah.Cheetah, cheetah.PROFILES),
    "FingerSpin": (finger.FingerSpin, finger.SPIN),
    "FingerTurnEasy": (finger.FingerTurn, finger.TURN_EASY),
    "FingerTurnHard": (finger.FingerTurn, finger.TURN_HARD),
    "FishSwim": (fish.FishSwim, fish.PROFILES),
    "PointMass": (point_mass.PointMass, point_mass.PROFILES),
    "ReacherEasy": (reacher.Reacher, reacher.EASY),
    "ReacherHard": (reacher.Reacher, reacher.HARD),
}
"""A task's name -> its class, and its numbers by profile."""


def find_task(task: str, profile: str) -> tuple[type[SimulationTask[Any]], DMControlConstants]:
    """Return a task's class and the numbers of a profile; raises UsageError for names that do not exist."""
    kind, profiles = TASKS[one_of(TASKS, task, "there is no task")]
    return kind, profiles[one_of(profiles, profile, f"{task} has no profile")]
