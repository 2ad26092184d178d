"""Many simulations of one MuJoCo model on MuJoCo's own thread pool: the only module that uses `mujoco.batch`.

The tensors share the simulator's memory; none is copied.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import mujoco
import numpy as np
import torch
from mujoco.batch import Batch
from numpy.typing import NDArray
from torch import Tensor

from flowrl.envs.simulation.drawing import Drawing
from flowrl.envs.simulation.protocol import Image
from flowrl.envs.state_capture import configure_mujoco_log

STATE = frozenset({"time", "qpos", "qvel", "act", "ctrl", "qacc_warmstart", "mocap_pos", "mocap_quat", "xfrc_applied"})
"""The fields of the state; `bind` accepts them without a declaration."""

WORKSPACE = 2**20
"""Bytes of MuJoCo's memory for the contacts and constraints of one simulation; tasks set it as `MjSpec.memory`.

MuJoCo's default is 13 MB, allocated for every simulation though a humanoid lying on its back uses 41 kB: a thousand
simulations would request 13 GB, which a machine that does not overcommit refuses.
"""


class MujocoBatch:
    """`count` independent simulations of `model`, on `threads` threads (0: all cores); a `Simulation` in float64.

    `derived` names the MjData fields beyond the state that will be read (`xmat`, `sensordata`, …), `varied` the
    MjModel fields whose values differ between simulations. Both are declared here because they decide the memory
    layout: derived fields are updated after every step, as in dm_control, which costs half a step more; a task that
    reads the state alone does not pay for it. `forces` enables `external_forces`, at about 30 µs per simulation and
    `step`. Results depend neither on the number of threads nor on which simulations run together.

    MuJoCo's silent reset of a state that is not finite is switched off: such a simulation keeps its state, so
    that `unstable` reports it, and the others continue.
    """

    engine = "mujoco"
    dtype = torch.float64
    device = torch.device("cpu")

    def __init__(
        self,
        model: mujoco.MjModel,
        count: int,
        derived: tuple[str, ...] = (),
        varied: tuple[str, ...] = (),
        threads: int = 0,
        forces: bool = False,
    ) -> None:
        configure_mujoco_log(console=True)  # else a MUJOCO_LOG.TXT grows in the current folder
        self.model = copy.copy(model)
        self.model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
        self.count = count
        # A persistent MjData per simulation continues a step where the update of derived fields ended.
        self._batch = Batch(self.model, count, threads, persistent=bool(derived) or forces)
        self.threads = int(self._batch.nthread)
        self._stage = int(mujoco.mjtStage.mjSTAGE_VEL if derived else mujoco.mjtStage.mjSTAGE_NONE)
        self._derived = derived
        self._read = {field: live(self._batch.bind(field)) for field in derived}  # and what `latest` has bound
        self._forces: Tensor | None = None
        if forces:
            self._forces = torch.zeros(count, model.nbody, 6, dtype=torch.float64)
            self._one = mujoco.MjData(self.model)  # holds the simulation whose forces are computed
        self._varied = {field: live(self._batch.expand(field)) for field in varied}
        self._recomputed = False  # whether simulations have constants of their own
        self._state = live(self._batch.state)
        self._warnings = live(self._batch.warning)  # (count, kind, 2): last detail, number
        kinds = mujoco.mjtWarning
        self._out_of_bounds = self._warnings[:, kinds.mjWARN_BADQPOS : kinds.mjWARN_BADQACC + 1, 1]
        self._too_many = self._warnings[:, kinds.mjWARN_CONTACTFULL : kinds.mjWARN_CNSTRFULL + 1, 1]
        self._drawing = Drawing(self.model)
        self._batch.reset()
        self._default = self._state[0].clone()

    def constant(self, values: Any) -> Tensor:
        """Copy numbers of any shape to a float64 tensor."""
        return torch.tensor(np.asarray(values, dtype=np.float64))

    def bind(self, field: str) -> Tensor:
        """Return a live MjData field (count, …); raises ValueError for one outside the state that was not declared."""
        if field in STATE:
            return live(self._batch.bind(field))
        if field not in self._derived:
            raise ValueError(f"the simulation was made without {field!r} among its `derived` fields")
        return self._read[field]

    def latest(self, field: str) -> Tensor:
        """Return any MjData field (count, …) as the last substep or `forward` computed it: live and read-only."""
        if field not in self._read:
            self._read[field] = live(self._batch.bind(field))
        return self._read[field]

    def external_forces(self) -> Tensor:
        """Return `cfrc_ext` (count, body, 6), torque and force, as mj_rnePostConstraint computes it: live.

        Raises ValueError for a simulation that was made without `forces`.
        """
        if self._forces is None:
            raise ValueError("the simulation was made without `forces`")
        return self._forces

    def expand(self, field: str) -> Tensor:
        """Return a live, writable MjModel field (count, …); raises ValueError for one that was not declared."""
        if field not in self._varied:
            raise ValueError(f"the simulation was made without {field!r} among its `varied` fields")
        return self._varied[field]

    def recompute(self, rows: Tensor | None = None) -> None:
        """Run mj_setConst on the models of `rows`, at 0.2 ms each; states and `varied` fields stay as they are."""
        self._recomputed = True
        self._batch.set_const(indexes(rows))

    def reset(self, rows: Tensor | None = None) -> None:
        """Put `rows` into the model's default state; derived fields are not recomputed."""
        where = slice(None) if rows is None else rows
        if self._varied:  # the default state may depend on them
            self._batch.reset(indexes(rows), stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        else:  # equal for all rows; a copy is cheaper than waking the threads
            self._state[where], self._warnings[where] = self._default, 0
        if self._forces is not None:
            self._forces[where] = 0

    def forward(self, rows: Tensor | None = None) -> None:
        """Compute all derived fields of `rows`, accelerations included, without advancing time."""
        self._batch.forward(indexes(rows))

    def step(self, substeps: int = 1, rows: Tensor | None = None) -> None:
        """Advance `rows` by `substeps` physics steps; raises mujoco.batch.SimulationError for an engine error."""
        self._batch.step(indexes(rows), substeps, self._stage)
        if self._forces is not None:
            forces, data = self._forces.numpy(), self._one
            for row in range(self.count) if rows is None else rows.tolist():
                self._batch.get_data(row, data)
                mujoco.mj_rnePostConstraint(self.model, data)
                forces[row] = data.cfrc_ext

    def contacts(self, rows: Tensor) -> Tensor:
        """Run `forward` on `rows` and count the pairs of geoms in contact, (rows,) int32."""
        pairs = live(self._batch.bind("ncon"))
        self.forward(rows)
        return pairs[rows]

    def unstable(self) -> Tensor:
        """Return where (count,) bool MuJoCo has counted a bad position, velocity or acceleration since the reset."""
        return self._out_of_bounds.any(1)

    def overflowed(self) -> bool:
        """Return whether MuJoCo has counted contacts or constraints beyond a simulation's memory since its reset."""
        return bool(self._too_many.any())

    def snapshot(self) -> dict[str, Tensor]:
        """Copy everything that the next steps and readings depend on."""
        parts = {"state": self._state, "warnings": self._warnings} | self._varied | self._read
        if self._forces is not None:
            parts["forces"] = self._forces
        return {name: tensor.clone() for name, tensor in parts.items()}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Continue from a `snapshot` of a MujocoBatch made with the same arguments (`threads` may differ)."""
        self._state.copy_(snapshot["state"])
        for field, tensor in self._varied.items():
            tensor.copy_(snapshot[field])
        if self._recomputed:
            self._batch.set_const()
        if self._forces is not None:
            self._forces.copy_(snapshot["forces"])
        if self._derived:
            self._batch.forward(stage=self._stage)
        self._warnings.copy_(snapshot["warnings"])
        # `forward` cannot recompute what belongs to the substep before the snapshot, such as touch.
        for field, tensor in self._read.items():
            tensor.copy_(snapshot[field])

    def render(
        self, row: int, height: int = 240, width: int = 320, camera: int | str = 0, ghost: Tensor | None = None
    ) -> Image:
        """Draw one simulation (height, width, 3), and a transparent second one in the state `ghost` (nq,).

        Raises MissingDependency without a graphics library.
        """
        self._drawing.prepare(height, width)
        self._batch.get_model(row, self._drawing.model)
        return self._drawing.picture(self._batch.get_data(row), height, width, camera, ghost)

    def close(self) -> None:
        """Release what `render` allocated."""
        self._drawing.close()


def live(array: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the memory of one of the batch's arrays."""
    array = array.view()
    array.flags.writeable = True  # torch has no read-only tensors and warns of one
    return torch.from_numpy(array)


def indexes(rows: Tensor | None) -> NDArray[np.int64] | None:
    """Return `rows` as the index array that the batch takes."""
    return None if rows is None else rows.numpy()
