"""The two Gymnasium interfaces of HumanoidTrack: one environment, and many stepped together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from flowrl.contracts.errors import UsageError
from flowrl.envs.arguments import at_least_one, one_of
from flowrl.envs.humanoid.episode_starts import Sampling
from flowrl.envs.humanoid.model import CONTROL_RATE
from flowrl.envs.humanoid.motions.library import load, unrolled
from flowrl.envs.humanoid.motions.motion import Motion
from flowrl.envs.humanoid.observation import FOLLOWED, Goal, visible
from flowrl.envs.humanoid.tracking import TOO_FAR, HumanoidTrack, HumanoidTrackConstants, Targets
from flowrl.envs.simulation.mujoco_batch import MujocoBatch
from flowrl.envs.simulation.protocol import SimulationFactory
from flowrl.envs.simulation.single_env import TaskEnv
from flowrl.envs.simulation.task_runner import TaskRunner
from flowrl.envs.simulation.vector_env import TaskVectorEnv

# frames by which a loop is longer than an episode, which may begin in any of them
SPARE = 4 * CONTROL_RATE
Motions = Sequence[str | Mapping[str, Any] | Motion]

NO_GOAL = "env.goal: HumanoidTrack has no goal"


class HumanoidTrackEnv(TaskEnv):
    """One humanoid that imitates motions.

    `goal` chooses the part of the reference that a policy may observe: `policy_mask` (667,). The observation contains
    all of it. `motions` are sources for `flowrl.envs.humanoid.motions.library`, or motions. Episodes begin anywhere
    in them, drawn by `sampling`: `uniform`, or by `failure` those more often that fail more often. With `evaluation`
    each motion is shown in turn from its first frame, or, where it loops or is longer than an episode, from any frame
    that leaves a complete one, and an episode ends where the bodies are 0.5 m away on average; else where one of them
    is `termination_distance` (m) away. With `self_collision` the segments collide with one another, not only with the
    floor. `targets` chooses what an action of 0 asks of the motors: the zero pose, the reference's next frame
    (`reference`, with the goal `full` alone), or the present angles of the arms and the zero pose of the rest
    (`present_arms`). An episode ends with its motion. Gymnasium's TimeLimit, which `gymnasium.make` adds, truncates it
    after 300 steps, 10 s. The info holds the numbers of `metrics.TrackingMetrics` of the episode so far, and the index
    of its motion as `clip`. Pictures show the reference as a ghost.
    """

    def __init__(
        self,
        goal: Goal = "full",
        motions: Motions = ("gait:walk",),
        sampling: Sampling = "uniform",
        evaluation: bool = False,
        self_collision: bool = False,
        termination_distance: float = TOO_FAR,
        targets: Targets = "zero_pose",
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        camera: int | str | None = None,
    ) -> None:
        constants = track_constants(
            motions,
            sampling=sampling,
            evaluation=evaluation,
            self_collision=self_collision,
            termination_distance=termination_distance,
            targets=targets,
        )
        runner = TaskRunner(HumanoidTrack, constants, count=1, threads=1)
        super().__init__(runner, render_mode, height, width, camera)
        self.action_space = action_space(runner)
        self.policy_mask = visible(checked_goal(goal, constants.targets))


class HumanoidTrackVectorEnv(TaskVectorEnv):
    """`num_envs` humanoids stepped together; `goal`, `motions` and the other `options` are those of
    `HumanoidTrackEnv`.

    `info["final_info"]` holds the numbers of each episode that has ended, and as `clip` the index of its motion in
    `clips`. Results do not depend on `threads` (0: all cores). `simulator` makes the simulations.
    """

    def __init__(
        self,
        num_envs: int = 1,
        goal: Goal = "full",
        motions: Motions = ("gait:walk",),
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        height: int = 240,
        width: int = 320,
        camera: int | str | None = None,
        threads: int = 0,
        simulator: SimulationFactory = MujocoBatch,
        **options: Any,
    ) -> None:
        constants = track_constants(motions, max_episode_steps, **options)
        runner = TaskRunner(HumanoidTrack, constants, num_envs, threads, simulator)
        super().__init__(runner, None, 1, render_mode, height, width, camera)
        self.single_action_space = action_space(runner)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.clips = tuple(motion.source for motion, _ in constants.motions)
        self.policy_mask = visible(checked_goal(goal, constants.targets))

    @property
    def showing(self) -> tuple[str, ...]:
        """The source of the motion that each row's episode imitates."""
        return tuple(self.clips[motion] for motion in cast(HumanoidTrack, self.runner.task).motion)


def checked_goal(goal: Goal, targets: Targets) -> Goal:
    """Return `goal`; raises UsageError where there is none of that name, or `targets` would show what it hides."""
    if one_of(FOLLOWED, goal, NO_GOAL) != "full" and targets == "reference":
        raise UsageError(
            f"env.options.targets: the motors would follow the joint angles of the reference, which env.goal {goal} "
            "hides from the policy. Set targets to present_arms or zero_pose, or goal to full."
        )
    return goal


def action_space(runner: TaskRunner) -> spaces.Box:
    """Return all of ℝ²⁸: an action of 1 is 0.5 rad, so a policy's own scale is the right one, and needs no bounds to be
    scaled to. The motors clamp what is beyond 6."""
    return spaces.Box(-np.inf, np.inf, (runner.action_size,), np.float32)


def track_constants(motions: Motions, max_episode_steps: int | None = None, **options: Any) -> HumanoidTrackConstants:
    """Load the motions and make the task's constants; raises UsageError for an option that is not possible."""
    steps = HumanoidTrackConstants.episode_steps if max_episode_steps is None else max_episode_steps
    steps = at_least_one("max_episode_steps", steps)
    sources = tuple(loaded(motions, (steps + SPARE) / CONTROL_RATE))
    return HumanoidTrackConstants(episode_steps=steps, motions=sources, **options)


def loaded(motions: Motions, seconds: float) -> list[tuple[Motion, float]]:
    """Load the motions and their weights, 1 for a motion itself, and repeat those that loop until they last `seconds`.

    Raises UsageError unless it is a list with something in it.
    """
    if isinstance(motions, str | Mapping | Motion) or not motions:
        raise UsageError(f"motions must be a list such as ['gait:walk'], not {motions!r}.")
    sources = [motion for motion in motions if not isinstance(motion, Motion)]
    found = load(sources) if sources else []
    found += [(motion, 1.0) for motion in motions if isinstance(motion, Motion)]
    return [(unrolled(motion, seconds), weight) for motion, weight in found]
