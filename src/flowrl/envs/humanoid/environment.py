"""Gymnasium's two views of HumanoidTrack: one environment, and many stepped together."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from flowrl.contracts.errors import UsageError, did_you_mean
from flowrl.envs.humanoid.episode_starts import SAMPLINGS, Sampling
from flowrl.envs.humanoid.metrics import MEASURES
from flowrl.envs.humanoid.model import CONTROL_RATE
from flowrl.envs.humanoid.motions.library import load, unrolled
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.observation import FOLLOWED, Goal, visible
from flowrl.envs.humanoid.tracking import TOO_FAR, HumanoidTrack, Tracking
from flowrl.envs.simulation.single_env import TaskEnv
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import TaskVectorEnv, at_least_one

# frames by which what loops is longer than an episode, which may begin in any of them
SPARE = 4 * CONTROL_RATE
Name = TypeVar("Name", bound=str)
Motions = Sequence[str | Mapping[str, Any] | Motion]


class HumanoidTrackEnv(TaskEnv):
    """One humanoid that imitates motions.

    `goal` says what of the reference a policy may see: `policy_mask` (667,). The observation holds it all. `motions`
    are sources for `flowrl.envs.humanoid.motions.library`, or clips. Episodes begin anywhere in them, drawn by
    `sampling`: `uniform`, or by `failure` those more often that fail more often. With `evaluation` each motion is
    shown in turn from its first frame, or, where it loops or is longer than an episode, from any that leaves a whole
    one, and an episode ends where the bodies are 0.5 m away on average; else where one of them is
    `termination_distance` (m) away. With `self_collision` the segments touch one another, not only the floor. An
    episode ends with its motion. Gymnasium's TimeLimit, which `gymnasium.make` puts around the environment, truncates
    it after 300 steps, 10 s. The info tells the numbers of `record.Record` of the episode so far, and its motion as
    `clip`. Pictures show the reference as a ghost.
    """

    def __init__(
        self,
        goal: Goal = "full",
        motions: Motions = ("gait:walk",),
        sampling: Sampling = "uniform",
        evaluation: bool = False,
        self_collision: bool = False,
        termination_distance: float = TOO_FAR,
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        camera: int | str = "follow",
    ) -> None:
        constants = chosen(motions, sampling, evaluation, self_collision, termination_distance)
        arena = TaskRunner(HumanoidTrack, constants, count=1, threads=1)
        super().__init__(arena, render_mode, (height, width, camera))
        self.action_space = action_space(arena)
        self.policy_mask = visible(one_of(FOLLOWED, goal, "goal"))


class HumanoidTrackVectorEnv(TaskVectorEnv):
    """`num_envs` humanoids stepped together; options as in `HumanoidTrackEnv`.

    `info["final_info"]` tells the numbers of each episode that has ended, `clip` among them: which of `clips` it was.
    Results do not depend on `threads` (0: all cores).
    """

    measures = MEASURES

    def __init__(
        self,
        num_envs: int = 1,
        goal: Goal = "full",
        motions: Motions = ("gait:walk",),
        sampling: Sampling = "uniform",
        evaluation: bool = False,
        self_collision: bool = False,
        termination_distance: float = TOO_FAR,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        camera: int | str = "follow",
        threads: int = 0,
    ) -> None:
        constants = chosen(
            motions, sampling, evaluation, self_collision, termination_distance, max_episode_steps
        )
        arena = TaskRunner(HumanoidTrack, constants, num_envs, threads)
        super().__init__(arena, max_episode_steps, render_mode, (height, width, camera))
        self.single_action_space = action_space(arena)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.clips = tuple(clip.source for clip, _ in constants.clips)
        self.policy_mask = visible(one_of(FOLLOWED, goal, "goal"))

    @property
    def showing(self) -> tuple[str, ...]:
        """Of each row the clip that its episode imitates."""
        return tuple(self.clips[clip] for clip in cast(HumanoidTrack, self.arena.task).clip)


def action_space(arena: TaskRunner) -> spaces.Box:
    """All of ℝ²⁸: an action of 1 is 0.5 rad, so a policy's own scale is the right one, and needs no bounds to be
    scaled to. The motors clip what is beyond 6."""
    return spaces.Box(-np.inf, np.inf, (arena.action_size,), np.float32)


def chosen(
    motions: Motions,
    sampling: Sampling,
    evaluation: bool,
    self_collision: bool,
    termination_distance: float,
    max_episode_steps: int | None = None,
) -> Tracking:
    """The task's numbers from the environment's options; raises UsageError for one that does not exist."""
    number = isinstance(termination_distance, int | float) and not isinstance(termination_distance, bool)
    if not (number and termination_distance > 0):
        raise UsageError(
            "env.options.termination_distance of HumanoidTrack is a length in m, such as 0.25, not "
            f"{termination_distance!r}."
        )
    for option, flag in (("evaluation", evaluation), ("self_collision", self_collision)):
        if not isinstance(flag, bool):
            raise UsageError(f"env.options.{option} of HumanoidTrack is true or false, not {flag!r}.")
    steps = Tracking.episode_steps if max_episode_steps is None else max_episode_steps
    steps = at_least_one("max_episode_steps", steps)
    return Tracking(
        episode_steps=steps,
        clips=tuple(loaded(motions, (steps + SPARE) / CONTROL_RATE)),
        sampling=one_of(SAMPLINGS, sampling, "sampling"),
        evaluation=evaluation,
        self_collision=self_collision,
        termination_distance=termination_distance,
    )


def one_of(known: Collection[Name], name: Name, option: str) -> Name:
    """`name` itself; raises UsageError unless it is known."""
    if not isinstance(name, str) or name not in known:
        place = option if option == "goal" else f"options.{option}"
        raise UsageError(
            f"env.{place}: HumanoidTrack has no {option} {name!r}.{did_you_mean(str(name), known)} "
            f"There are {', '.join(known)}."
        )
    return name


def loaded(motions: Motions, seconds: float) -> list[tuple[Motion, float]]:
    """The motions and their weights, 1 for a clip, those that loop repeated until they last `seconds`.

    Raises UsageError unless it is a list with something in it.
    """
    if isinstance(motions, str | Mapping | Motion) or not motions:
        raise UsageError(f"motions must be a list such as ['gait:walk'], not {motions!r}.")
    sources = [motion for motion in motions if not isinstance(motion, Motion)]
    found = load(sources) if sources else []
    found += [(motion, 1.0) for motion in motions if isinstance(motion, Motion)]
    return [(unrolled(clip, seconds), weight) for clip, weight in found]
