"""HumanoidTrack: imitate a motion, frame by frame, after PHC (Luo et al. 2023, arXiv 2305.06456)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowrl.contracts.errors import UsageError
from flowrl.envs.humanoid import model as humanoid
from flowrl.envs.humanoid import observation, reward
from flowrl.envs.humanoid.episode_starts import Drawn, InTurn, Sampling, Starts
from flowrl.envs.humanoid.kinematics import Bodies, moving
from flowrl.envs.humanoid.metrics import TrackingMetrics
from flowrl.envs.humanoid.motions.motion import ROOT_SIZE, Motion
from flowrl.envs.humanoid.reference import OF_BODIES, Reference
from flowrl.envs.simulation.mujoco_batch import Simulation
from flowrl.envs.simulation.task import TaskConstants

RADIANS = 0.5  # that an action of 1 turns a joint's target away from the zero pose
MOST_ACTION = 6.0
# m, of any body from its reference: by the strict measure, and PHC's end of an episode in training
TOO_FAR = 0.25
TOO_FAR_ON_AVERAGE = 0.5  # m, of all bodies: the end of an episode in evaluation
ASIDE = 0.8  # m, of the reference in pictures, along x: to the left, as the camera sees it
ROOT_DEGREES = 6  # of freedom: where the joints begin in `qvel`


@dataclass(frozen=True, kw_only=True, eq=False)
class Tracking(TaskConstants):
    """What is imitated, and how it is judged."""

    substeps: int = humanoid.SUBSTEPS
    episode_steps: int = 300
    clips: tuple[tuple[Motion, float], ...]  # with their weights
    sampling: Sampling = "uniform"
    evaluation: bool = False
    self_collision: bool = False
    # m, of any body from its reference: the end of an episode in training
    termination_distance: float = TOO_FAR


class HumanoidTrack:
    """Start: the state of a frame, drawn from the motions: a clip by its weight or its failures, and any of its frames.

    Action (28): the joint angles that the motors aim at, in units of 0.5 rad from the zero pose; clipped at 6.
    Observation (667): the own body in 6D rotations and velocities, the reference's next frame beside it, and joints.
    Reward: 0.5 exp(-100 e_pos) + 0.3 exp(-10 e_rot) + 0.1 exp(-0.1 e_vel) + 0.1 exp(-0.1 e_ang) - effort.
    End: a body is `termination_distance` (0.25 m) from its reference (in evaluation: the mean over all is 0.5 m), or
    the clip is over.

    A simulation that is lost ends its episode, too, with reward and observation 0. The clip's end is a truncation.
    """

    observation_parts: ClassVar = observation.PARTS
    derived: ClassVar[tuple[str, ...]] = ("xpos", "xquat", "xmat", "cvel", "subtree_com")
    varied: ClassVar[tuple[str, ...]] = ()
    ends_where_lost: ClassVar = True

    @staticmethod
    def build(constants: Tracking) -> mujoco.MjModel:
        """The humanoid, whose controls are actions."""
        model = humanoid.build(constants.self_collision)
        model.actuator_gainprm[:, 0] *= RADIANS
        model.actuator_ctrllimited[:] = True
        model.actuator_ctrlrange[:] = (-MOST_ACTION, MOST_ACTION)
        return model

    def __init__(self, simulation: Simulation, constants: Tracking) -> None:
        self.simulation, self.constants = simulation, constants
        self.reference = Reference(constants.clips, simulation.model)
        self.starts: Starts = (
            InTurn(self.reference, simulation.count, constants.episode_steps)
            if constants.evaluation
            else Drawn(self.reference, by_failure=constants.sampling == "failure")
        )
        self.record = TrackingMetrics(simulation.count)
        self.clip = torch.zeros(simulation.count, dtype=torch.int64)
        self.time = torch.zeros(simulation.count, dtype=torch.int64)  # the frame that the body should be in
        self.qpos, self.qvel = simulation.bind("qpos"), simulation.bind("qvel")
        self.angles, self.rates = self.qpos[:, ROOT_SIZE:], self.qvel[:, ROOT_DEGREES:]
        self.torques = simulation.latest("actuator_force")  # of the last substep
        of_bodies = (simulation.bind(field)[:, OF_BODIES] for field in ("xpos", "xquat", "xmat", "cvel"))
        self.kinematics = (*of_bodies, simulation.bind("subtree_com")[:, OF_BODIES.start])
        self.position = self.kinematics[0]

    def reset(self, rows: Tensor, random: torch.Generator) -> None:
        self.starts.failed(self.clip[rows[self.record.failed[rows]]])
        self.clip[rows], self.time[rows] = self.starts.draw(rows, random)
        self.record.begin(rows)
        frame = self.reference.frame(self.clip[rows], self.time[rows])
        self.qpos[rows], self.qvel[rows] = self.reference.qpos[frame], self.reference.qvel[frame]

    def observation(self) -> Tensor:
        return self.shown_in(slice(None))

    def shown_in(self, rows: Tensor | slice) -> Tensor:
        """The observations of `rows` alone."""
        clip, following = self.clip[rows], self.time[rows] + 1
        goal_angles = self.reference.qpos[self.reference.frame(clip, following), ROOT_SIZE:]
        shown = observation.observation(
            *(self.own(rows), self.reference.at(clip, following)),
            *(self.angles[rows], self.rates[rows], goal_angles),
        )
        if (lost := self.simulation.lost()[rows]).any():
            shown[lost] = 0
        return shown

    def own(self, rows: Tensor | slice = slice(None)) -> Bodies:
        """What the humanoids' bodies do now."""
        return moving(*(field[rows] for field in self.kinematics))

    def reward(self) -> Tensor:
        """Of the present state beside the present frame of the reference."""
        imitation = reward.imitation(self.own(), self.reference.at(self.clip, self.time))
        return torch.where(self.simulation.lost(), 0, imitation - reward.effort(self.torques, self.rates))

    # ------------------------------------------------------------------------------ the episode and its end

    def after(self) -> None:
        """The reference has moved on by a frame, too."""
        self.time += 1
        difference = self.position - self.reference.at(self.clip, self.time).position
        distance = difference.norm(dim=2)
        lost = self.simulation.lost()
        if self.constants.evaluation:
            far = distance.mean(1) > TOO_FAR_ON_AVERAGE
        else:
            far = (distance > self.constants.termination_distance).any(1)
        near = (distance <= TOO_FAR).all(1) & ~lost
        self.record.add(difference, near, far | lost)

    def terminated(self) -> Tensor:
        return self.record.failed.clone()

    def truncated(self) -> Tensor:
        """Where (count,) the clip is over: at its last frame but one, which a last observation has a next frame to
        show beside. A critic then values what it knows."""
        return self.time >= self.reference.lengths[self.clip] - 2

    def report(self, rows: Tensor) -> dict[str, Tensor]:
        """The numbers of `TrackingMetrics`, and `clip`, which of the motions it was."""
        return self.record.numbers(rows) | {"clip": self.clip[rows]}

    def ghost(self, row: int) -> NDArray[np.float64]:
        """The reference's state `qpos` (35,), moved so that it is seen beside the humanoid of simulation `row`."""
        frame = self.reference.frame(self.clip[row], self.time[row])
        qpos = self.reference.qpos[frame].numpy().copy()
        qpos[0] -= ASIDE
        return qpos

    def forget(self) -> None:
        self.starts.forget()
        self.record.begin(torch.arange(self.simulation.count))

    def state(self) -> dict[str, Tensor]:
        kept = {name: tensor.clone() for name, tensor in self._kept().items()}
        return kept | {"motions": self._motions()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Raises UsageError where other motions are loaded than those of `state`."""
        if not torch.equal(state["motions"], self._motions()):
            raise UsageError(
                "the motions to imitate are not those of the saved run: a file that env.motions names has changed "
                "since. Put it back as it was, or train anew."
            )
        for name, tensor in self._kept().items():
            tensor.copy_(state[name])

    def _motions(self) -> Tensor:
        """What tells these motions from others."""
        return torch.frombuffer(bytearray(self.reference.digest), dtype=torch.uint8)

    def _kept(self) -> dict[str, Tensor]:
        """All that is not the simulation's."""
        return {"clip": self.clip, "time": self.time, "counts": self.starts.counts} | vars(self.record)
