"""HumanoidTrack: imitate a motion, frame by frame, after PHC (Luo et al. 2023, arXiv 2305.06456)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import mujoco
import torch
from torch import Tensor

from flowrl.contracts.errors import UsageError
from flowrl.envs.arguments import one_of
from flowrl.envs.humanoid import model as humanoid
from flowrl.envs.humanoid import observation, reward
from flowrl.envs.humanoid.episode_starts import SAMPLINGS, RandomStarts, RoundRobinStarts, Sampling
from flowrl.envs.humanoid.kinematics import BodyStates, body_states
from flowrl.envs.humanoid.metrics import TrackingMetrics
from flowrl.envs.humanoid.motions.motion import ROOT_SIZE, Motion
from flowrl.envs.humanoid.reference import OF_BODIES, Reference
from flowrl.envs.simulation.protocol import Simulation
from flowrl.envs.simulation.simulation_task import SimulationTask, TaskConstants

ACTION_SCALE = 0.5  # rad by which an action of 1 moves a joint's target from the zero pose
ACTION_LIMIT = 6.0
# m, of any body from its reference: the strict measure, and PHC's end of an episode in training
TOO_FAR = 0.25
TOO_FAR_ON_AVERAGE = 0.5  # m, of all bodies: the end of an episode in evaluation
GHOST_OFFSET = 0.8  # m, of the reference in pictures, along -x: to the left, as the camera sees it
ROOT_DEGREES = 6  # of freedom: where the joints begin in `qvel`

ARMS = ("right_upper_arm", "right_forearm", "left_upper_arm", "left_forearm")  # segments, whose joints begin so

Targets = Literal["zero_pose", "reference", "present_arms"]


@dataclass(frozen=True, kw_only=True, eq=False)
class HumanoidTrackConstants(TaskConstants):
    """The motions to imitate, and the rules of an episode; raises UsageError for a value that is not possible."""

    substeps: int = humanoid.SUBSTEPS
    episode_steps: int = 300
    camera: int | str = "follow"
    motions: tuple[tuple[Motion, float], ...]  # with their weights
    sampling: Sampling = "uniform"
    evaluation: bool = False
    self_collision: bool = False
    # m, of any body from its reference: the end of an episode in training
    termination_distance: float = TOO_FAR
    # what an action of 0 asks of the motors: the zero pose, the reference's next frame, or the zero pose of legs and
    # spine and the present angles of the arms
    targets: Targets = "zero_pose"

    def __post_init__(self) -> None:
        one_of(get_args(Targets), self.targets, "env.options.targets: HumanoidTrack has no targets")
        one_of(SAMPLINGS, self.sampling, "env.options.sampling: HumanoidTrack has no sampling")
        distance = self.termination_distance
        if not (isinstance(distance, int | float) and not isinstance(distance, bool) and distance > 0):
            raise UsageError(
                f"env.options.termination_distance of HumanoidTrack is a length in m, such as 0.25, not {distance!r}."
            )
        for option, flag in (("evaluation", self.evaluation), ("self_collision", self.self_collision)):
            if not isinstance(flag, bool):
                raise UsageError(f"env.options.{option} of HumanoidTrack is true or false, not {flag!r}.")


class HumanoidTrack(SimulationTask[HumanoidTrackConstants]):
    """Imitate a motion.

    An unstable simulation ends its episode, with reward and observation 0. The motion's end is a truncation.
    """

    facts: ClassVar = {
        "start": "the state of a frame, drawn from the motions: a motion by its weight or its failures, and any of its "
        "frames",
        "action": "the joint angles that are the motors' targets, in units of 0.5 rad from the zero pose, or as "
        "`targets` says; limited to ±6",
        "observation": "the own body in 6D rotations and velocities, the reference's next frame beside it, and joints",
        "reward": "0.5 exp(-100 e_pos) + 0.3 exp(-10 e_rot) + 0.1 exp(-0.1 e_vel) + 0.1 exp(-0.1 e_ang) - effort",
        "end": "a body is `termination_distance` (0.25 m) from its reference (in evaluation: the mean over all is "
        "0.5 m), or the motion is over",
    }
    observation_parts: Mapping[str, int] = observation.PARTS
    derived = ("xpos", "xquat", "xmat", "cvel", "subtree_com")
    terminates_if_unstable = True

    @classmethod
    def build(cls, constants: HumanoidTrackConstants) -> mujoco.MjModel:
        """Compile the humanoid with actions as its controls."""
        model = humanoid.build(constants.self_collision)
        model.actuator_gainprm[:, 0] *= ACTION_SCALE
        model.actuator_ctrllimited[:] = constants.targets == "zero_pose"
        model.actuator_ctrlrange[:] = (-ACTION_LIMIT, ACTION_LIMIT)
        return model

    def __init__(self, simulation: Simulation, constants: HumanoidTrackConstants) -> None:
        super().__init__(simulation, constants)
        count, dtype, device = simulation.count, simulation.dtype, simulation.device
        self.reference = Reference(constants.motions, simulation.model, dtype, device)
        self.starts = (
            RoundRobinStarts(self.reference, count, constants.episode_steps)
            if constants.evaluation
            else RandomStarts(self.reference, by_failure=constants.sampling == "failure")
        )
        self.metrics = TrackingMetrics(count, dtype, device)
        self.motion = torch.zeros(count, dtype=torch.int64, device=device)
        self.time = torch.zeros(count, dtype=torch.int64, device=device)  # the reference's present frame
        self.angles, self.rates = self.qpos[:, ROOT_SIZE:], self.qvel[:, ROOT_DEGREES:]
        self.arms = simulation.constant([float(joint.startswith(ARMS)) for joint in humanoid.JOINTS])
        self.torques = simulation.latest("actuator_force")  # of the last substep
        of_bodies = (simulation.bind(field)[:, OF_BODIES] for field in ("xpos", "xquat", "xmat", "cvel"))
        self.kinematics = (*of_bodies, simulation.bind("subtree_com")[:, OF_BODIES.start])
        self.position = self.kinematics[0]

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        failed = rows[self.metrics.failed[rows]]
        self.starts.record_failures(self.motion[failed].cpu())
        motion, time = (draw.to(rows.device) for draw in self.starts.draw(rows.cpu(), random))
        self.motion[rows], self.time[rows] = motion, time
        self.metrics.reset(rows)
        frame = self.reference.frame(motion, time)
        self.qpos[rows], self.qvel[rows] = self.reference.qpos[frame], self.reference.qvel[frame]

    def observation(self) -> Tensor:
        return self.observation_rows(slice(None))

    def observation_rows(self, rows: Tensor | slice) -> Tensor:
        motion, following = self.motion[rows], self.time[rows] + 1
        observed = observation.observation(
            *(self.bodies(rows), self.reference.at(motion, following)),
            *(self.angles[rows], self.rates[rows], self.goal_angles(rows)),
        )
        return observed.masked_fill_(self.simulation.unstable()[rows, None], 0)

    def bodies(self, rows: Tensor | slice = slice(None)) -> BodyStates:
        """Compute the present states of the humanoids' bodies."""
        return body_states(*(field[rows] for field in self.kinematics))

    def reward(self) -> Tensor:
        """Compare the present state with the present frame of the reference."""
        imitation = reward.imitation(self.bodies(), self.reference.at(self.motion, self.time))
        return torch.where(self.simulation.unstable(), 0, imitation - reward.effort(self.torques, self.rates))

    def before_step(self) -> None:
        """Make the targets of the actions, which are offsets from the zero pose unless the `targets` are others."""
        if self.constants.targets == "zero_pose":
            return
        offsets = self.angles * self.arms if self.constants.targets == "present_arms" else self.goal_angles(slice(None))
        self.ctrl.clamp_(-ACTION_LIMIT, ACTION_LIMIT).add_(offsets, alpha=1 / ACTION_SCALE)

    def goal_angles(self, rows: Tensor | slice) -> Tensor:
        """Return the joint angles (rows, 28) of the reference's next frame, rad."""
        frame = self.reference.frame(self.motion[rows], self.time[rows] + 1)
        return self.reference.qpos[frame, ROOT_SIZE:]

    def after_step(self) -> None:
        """Advance the reference by a frame, and update the metrics."""
        self.time += 1
        difference = self.position - self.reference.at(self.motion, self.time).position
        distance = difference.norm(dim=2)
        unstable = self.simulation.unstable()
        if self.constants.evaluation:
            far = distance.mean(1) > TOO_FAR_ON_AVERAGE
        else:
            far = (distance > self.constants.termination_distance).any(1)
        near = (distance <= TOO_FAR).all(1) & ~unstable
        self.metrics.update(difference, near, far | unstable)

    def terminated(self) -> Tensor:
        return self.metrics.failed.clone()

    def truncated(self) -> Tensor:
        """Return where (count,) the motion is over: at its last frame but one, so that the last observation has a next
        frame to show, and a critic values a complete observation."""
        return self.time >= self.reference.lengths[self.motion] - 2

    def report(self, rows: Tensor) -> dict[str, Tensor]:
        """Return the numbers of `TrackingMetrics`, and as `clip` the index of the motion."""
        return self.metrics.compute(rows) | {"clip": self.motion[rows]}

    def ghost(self, row: int) -> Tensor:
        """Return the reference's state `qpos` (35,), moved to be visible beside the humanoid of simulation `row`."""
        frame = self.reference.frame(self.motion[row], self.time[row])
        qpos = self.reference.qpos[frame].clone()
        qpos[0] -= GHOST_OFFSET
        return qpos

    def clear(self) -> None:
        self.starts.clear()
        self.metrics.reset(torch.arange(self.simulation.count, device=self.simulation.device))

    def state(self) -> dict[str, Tensor]:
        kept = {name: tensor.clone() for name, tensor in self._tensors().items()}
        return kept | {"motions": torch.frombuffer(bytearray(self.reference.digest), dtype=torch.uint8)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state()`; raises UsageError where it belongs to other motions."""
        if bytes(state["motions"].tolist()) not in (self.reference.digest, self.reference.exact_digest):
            raise UsageError(
                "the motions to imitate are not those of the saved run: a file that env.motions names has changed "
                "since, or an earlier version of flowrl saved the run on another kind of processor. Restore the file, "
                "or train again from the beginning."
            )
        for name, tensor in self._tensors().items():
            tensor.copy_(state[name])

    def _tensors(self) -> dict[str, Tensor]:
        """Return the task's own state, by the names that checkpoints use."""
        own = {"clip": self.motion, "time": self.time, "counts": self.starts.counts}
        return own | vars(self.metrics)
