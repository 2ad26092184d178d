"""The humanoid's model (`humanoid.xml`), and the names of its bodies and joints in MuJoCo's order."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import mujoco

from flowrl.envs.simulation.mujoco_batch import WORKSPACE

SUBSTEPS = 4
CONTROL_RATE = 30  # Hz
TIMESTEP = 1 / (CONTROL_RATE * SUBSTEPS)  # s


def build(self_collision: bool = False) -> mujoco.MjModel:
    """Compile the model: the humanoid over a floor, a position controller on every hinge.

    Segments collide with the floor alone, or with `self_collision` with one another, too. `ctrl` are angles in rad.
    """
    spec = mujoco.MjSpec.from_file(str(Path(__file__).with_name("humanoid.xml")))
    spec.memory = WORKSPACE
    spec.option.timestep = TIMESTEP
    if self_collision:
        for geom in spec.geoms:
            geom.contype = 1
    return spec.compile()


MODEL = build()
"""The model without self-collision, for kinematics; do not change it."""

BODIES: tuple[str, ...] = tuple(MODEL.body(number).name for number in range(1, MODEL.nbody))
PARENTS: dict[str, str] = {name: MODEL.body(MODEL.body(name).parentid[0]).name for name in BODIES}
"""The parent of each body; the pelvis's is the world."""
ROOT = BODIES.index("pelvis")
HANDS = (BODIES.index("right_hand"), BODIES.index("left_hand"))
FEET = (BODIES.index("right_foot"), BODIES.index("left_foot"))
STANDING_HEIGHT = float(MODEL.body("pelvis").pos[2])  # m, of the pelvis in the zero pose, the soles on the floor

JOINTS: tuple[str, ...] = tuple(MODEL.joint(number).name for number in range(1, MODEL.njnt))
"""The 28 hinges in the order of `qpos[7:]`, `qvel[6:]` and `ctrl`; each turns its segment against the parent."""

Side = Literal["right", "left"]
OUT: dict[Side, float] = {"right": -1.0, "left": 1.0}  # where y points outward
