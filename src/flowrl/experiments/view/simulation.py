"""The simulation's side of MuJoCo Studio: control steps at the pace of real time."""

from __future__ import annotations

import time

import mujoco
from mujoco.studio import messages, plugin

from flowrl.envs import scene
from flowrl.experiments.view.session import Session

NAP = 0.004  # s; Studio's threads need the interpreter meanwhile
LATE = 0.1  # s by which the simulation may lag real time and still catch up


class Stepper(plugin.SimPlugin):
    """Steps `session` and shows its state; nothing that Studio itself would do to the simulation is done."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._due = 0.0  # when the next step is to be made, in s of the monotonic clock

    @messages.handler
    def on_step(self, event: messages.StepEvent) -> None:
        """Make the control step that is due, if one is, and copy the state to the data that are shown."""
        session, controls = self.session, self.session.controls
        single = session.obey()
        now = time.monotonic()
        waiting = controls.paused or not controls.watched
        if not single and (waiting or now < self._due):
            time.sleep(NAP if waiting else min(NAP, self._due - now))
        else:
            session.step()
            self._due = max(self._due, now - LATE) + session.seconds / controls.speed
        if session.remade:
            session.remade = False
            self.handle.set_model(session.scene.model)
        assert self.handle.data is not None  # noqa: S101  for the type checker
        scene.show(session.scene, self.handle.data)

    @messages.handler(priority=messages.Priority.CRITICAL)
    def on_load(self, event: messages.LoadModelEvent) -> bool:
        """Load no other model: the policy has been trained for this one."""
        return True


def data_of(session: Session) -> mujoco.MjData:
    """Return data in the present state of `session`."""
    data = mujoco.MjData(session.scene.model)
    scene.show(session.scene, data)
    return data
