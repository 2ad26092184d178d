"""The interface between a task and the physics engine: many simulations of one model as torch tensors.

Tasks are written against this Protocol alone, so that one task definition runs on every engine that implements it:
on MuJoCo's thread pool in float64 (`mujoco_batch.MujocoBatch`), or on a GPU in float32. In the shapes below `count` is
the number of simulations and `rows` a subset of them: ascending indices (rows,) int64; None selects all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Image = NDArray[np.uint8]  # (height, width, 3)


class Simulation(Protocol):
    """`count` independent simulations of `model`, whose fields are tensors of `dtype` on `device`."""

    model: mujoco.MjModel
    count: int
    dtype: torch.dtype
    device: torch.device

    def constant(self, values: Any) -> Tensor:
        """Copy numbers (a list, an array or a tensor of any shape) to a tensor of `dtype` on `device`."""
        ...

    def bind(self, field: str) -> Tensor:
        """Return an MjData field (count, …) as a live tensor: it always shows the present value.

        Fields of the state (`qpos`, `qvel`, `ctrl`, …) may be written; the next call takes the new values. Other
        fields are read-only and must be among the `derived` fields of the simulation. Raises ValueError for a field
        that is not.
        """
        ...

    def latest(self, field: str) -> Tensor:
        """Return any MjData field (count, …) as the last substep or `forward` computed it: live and read-only.

        It costs nothing beyond the copy. What depends on accelerations (touch, forces) is never newer than that; what
        depends on positions or velocities alone lags the state by one substep, unless it is a `derived` field.
        """
        ...

    def expand(self, field: str) -> Tensor:
        """Return an MjModel field (count, …) that has its own value in every simulation: live and writable.

        Constants that MuJoCo computes from the field when it compiles a model are not recomputed (see `recompute`).
        Raises ValueError for a field that is not among the `varied` fields of the simulation.
        """
        ...

    def recompute(self, rows: Tensor | None = None) -> None:
        """Compute the constants of `rows` that MuJoCo derives from `varied` fields, such as those of masses."""
        ...

    def reset(self, rows: Tensor | None = None) -> None:
        """Put `rows` into the model's default state; derived fields are not recomputed (see `forward`)."""
        ...

    def forward(self, rows: Tensor | None = None) -> None:
        """Compute all derived fields of `rows` from their states, without advancing time."""
        ...

    def step(self, substeps: int = 1, rows: Tensor | None = None) -> None:
        """Advance `rows` by `substeps` physics steps under their `ctrl`.

        Afterwards the `derived` fields that depend on position and velocity belong to the new state; what depends on
        accelerations (touch sensors, forces) belongs to the last substep.
        """
        ...

    def external_forces(self) -> Tensor:
        """Return torque and force (count, body, 6) on each body from contacts and other external sources: live.

        This is MuJoCo's `cfrc_ext` of the last substep of the last `step`; zero after a `reset`. Raises ValueError
        for a simulation that was made without `forces`.
        """
        ...

    def contacts(self, rows: Tensor) -> Tensor:
        """Run `forward` on `rows` and count the pairs of geoms in contact, (rows,) int32."""
        ...

    def unstable(self) -> Tensor:
        """Return where (count,) bool a position, velocity or acceleration was not finite, or beyond 1e10, since the
        last reset."""
        ...

    def overflowed(self) -> bool:
        """Return whether the memory of a simulation could not hold all its contacts since its last reset, so that some
        were left out."""
        ...

    def snapshot(self) -> dict[str, Tensor]:
        """Copy everything that the next steps and readings depend on."""
        ...

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Continue from a `snapshot` of a simulation made with the same arguments (`threads` may differ)."""
        ...

    def render(
        self, row: int, height: int = 240, width: int = 320, camera: int | str = 0, ghost: Tensor | None = None
    ) -> Image:
        """Draw one simulation (height, width, 3) without disturbing it.

        `camera` is the name or number of one of the model's cameras. Where `ghost` (nq,) is given, the moving bodies
        are drawn a second time, transparent, in that state. Raises MissingDependency without a graphics library.
        """
        ...

    def close(self) -> None:
        """Release what `render` allocated."""
        ...


class SimulationFactory(Protocol):
    """A callable that makes a Simulation, such as the class MujocoBatch."""

    def __call__(
        self,
        model: mujoco.MjModel,
        count: int,
        derived: tuple[str, ...] = (),
        varied: tuple[str, ...] = (),
        threads: int = 0,
        forces: bool = False,
    ) -> Simulation:
        """Make `count` simulations of `model`; the arguments are explained in `mujoco_batch.MujocoBatch`."""
        ...
