"""Many simulations of one MuJoCo model on MuJoCo Warp, on a GPU or the CPU: the only module that calls its functions.

The tensors share Warp's memory; none is copied. Docs: docs/gpu_simulation.md.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import mujoco
import torch
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed, UsageError
from flowrl.envs.simulation import warp_package
from flowrl.envs.simulation.drawing import Drawing
from flowrl.envs.simulation.mujoco_batch import STATE
from flowrl.envs.simulation.protocol import Image

KEPT = (*sorted(STATE), "qfrc_applied", "eq_active", "qacc")
"""Fields of every snapshot. `qacc` is no state; it shows whether a simulation is unstable."""

LARGEST = 1e10
"""MuJoCo's mjMAXVAL: a position, velocity or acceleration beyond it is unstable."""

CONSTANTS = (
    *("body_subtreemass", "body_invweight0", "dof_invweight0", "tendon_invweight0", "tendon_length0"),
    *("actuator_acc0", "eq_data", "geom_aabb", "geom_rbound"),
)
"""MjModel fields that `recompute` computes."""

POLL = 64
"""Steps between two looks at the flags of a GPU."""

LIMITS = {
    "contacts": ("BROADPHASE", "NARROWPHASE", "CCD", "HFIELD", "EPA_HORIZON", "CONTACT_MATCH"),
    "constraints": ("NEFC", "NJMAX_NNZ", "NVMAX"),
}
"""Key of `env.warp` -> Warp's flags for what does not fit into it. Its other flags report a solver's last iteration."""


class MujocoWarp:
    """`count` independent simulations of `model`; a `Simulation` in float32.

    `derived`, `varied` and the functions are as in `mujoco_batch.MujocoBatch`; `threads` is not used. The other
    arguments are those of `warp_settings.WarpSettings`. Warp always steps all simulations: `rows` of `step` and
    `forward` costs as much as all, and the others are put back to the last bit.

    Raises UsageError for a model that MuJoCo Warp cannot simulate and for `forces`, and MissingDependency without the
    package. On a GPU a step is recorded as a CUDA graph when it is made a second time.
    """

    engine = "warp"
    dtype = torch.float32

    def __init__(
        self,
        model: mujoco.MjModel,
        count: int,
        derived: tuple[str, ...] = (),
        varied: tuple[str, ...] = (),
        threads: int = 0,
        forces: bool = False,
        *,
        device: str = "auto",
        contacts: int = 64,
        constraints: int = 256,
        deterministic: bool = False,
    ) -> None:
        if forces:
            raise UsageError("env.simulator=warp: external forces are computed by env.simulator=mujoco alone.")
        self._warp, self._engine = warp_package.load()
        self.device = warp_package.device_of(device, self._warp)
        warp_package.compile_for(self.device, self._warp)
        self.model, self.count = copy.copy(model), count
        self.limits = {"contacts": contacts, "constraints": constraints}
        self._derived, self._graphs, self._steps = derived, dict[Any, Any](), 0
        recomputed = any(name in mujoco.MjModel._setconst_inputs for name in varied)
        with self._scope():
            self._model, self._varied, self._constants = self._put(varied, CONSTANTS if recomputed else ())
            self._model.opt.deterministic = int(self._engine.DeterminismType.ALL) if deterministic else 0
            self._model.opt.warn_overflow = 0  # `overflowed` reports it
            self._data = self._engine.make_data(self.model, nworld=count, nconmax=contacts, njmax=constraints)
            self._fields = {name: self._field(name) for name in dict.fromkeys((*KEPT, *derived))}
            self._overflow = self._warp.to_torch(self._data.overflow)
        self._lost = torch.zeros(count, dtype=torch.bool, device=self.device)
        self._default = {name: self._fields[name][0].clone() for name in KEPT}
        self._drawing = Drawing(self.model)
        flags = self._engine.OverflowType
        self._dropped = {key: sum(int(flags[name]) for name in names) for key, names in LIMITS.items()}
        self._fixed_geoms = self._colliding_fixed_geoms() if "geom_pos" in varied else []
        with warp_package.reported(f"a model of {self.model.nv} degrees of freedom"):
            self.forward()
            self.step()
            if recomputed:
                self.recompute()
            self._graphs.clear()
            self.reset()

    def _put(
        self, varied: tuple[str, ...], constants: tuple[str, ...]
    ) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        """Return Warp's model, with a value per simulation of the fields `varied` and `constants`, and these fields."""
        plain, batched = copy.copy(self.model), dict.fromkeys((*varied, *constants), self.count)
        plain.opt.disableflags &= ~int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)  # Warp never resets a bad state by itself
        try:
            _check_varied(self.model, varied)
            if plain.opt.enableflags & mujoco.mjtEnableBit.mjENBL_SLEEP:
                raise ValueError("its bodies may sleep")
            model = self._engine.put_model(plain, batched)
            fields = {name: self._warp.to_torch(getattr(model, name)) for name in batched}
        except (NotImplementedError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UsageError(
                f"env.simulator=warp: MuJoCo Warp cannot simulate this model: {reason}. Type --set "
                "env.simulator=mujoco."
            ) from None
        return model, {name: fields[name] for name in varied}, {name: fields[name] for name in constants}

    @contextmanager
    def _scope(self) -> Iterator[None]:
        """Let Warp work on the device of the simulations, in the order of PyTorch's operations."""
        with ExitStack() as stack:
            stack.enter_context(self._warp.ScopedDevice(str(self.device)))
            if self.device.type == "cuda":
                stream = self._warp.stream_from_torch(torch.cuda.current_stream(self.device))
                stack.enter_context(self._warp.ScopedStream(stream))
            yield

    def _field(self, name: str) -> Tensor:
        """Return a field of Warp's data (count, …) in MuJoCo's shape: matrices are 9 numbers."""
        array = getattr(self._data, name, None)
        if array is None or not hasattr(array, "shape") or array.shape[:1] != (self.count,):
            raise UsageError(
                f"env.simulator=warp: MuJoCo Warp does not have the field {name!r} of MjData. Type --set "
                "env.simulator=mujoco."
            )
        if 0 in array.shape:
            return torch.zeros(array.shape, dtype=self.dtype, device=self.device)
        tensor: Tensor = self._warp.to_torch(array)
        return tensor.flatten(-2) if tensor.ndim > 3 and tensor.shape[-2:] == (3, 3) else tensor

    def constant(self, values: Any) -> Tensor:
        """Copy numbers of any shape to a float32 tensor on the device."""
        return torch.as_tensor(values).to(self.device, self.dtype, copy=True)

    def bind(self, field: str) -> Tensor:
        """Return a live MjData field (count, …); raises ValueError for one outside the state that was not declared."""
        if field not in STATE and field not in self._derived:
            raise ValueError(f"the simulation was made without {field!r} among its `derived` fields")
        return self._fields[field]

    def latest(self, field: str) -> Tensor:
        """Return a MjData field (count, …) as the last substep or `forward` computed it: live and read-only.

        Raises UsageError for one that MuJoCo Warp does not have.
        """
        if field not in self._fields:
            self._fields[field] = self._field(field)
        return self._fields[field]

    def external_forces(self) -> Tensor:
        """Raise ValueError: there are no simulations with `forces` here."""
        raise ValueError("the simulation was made without `forces`")

    def expand(self, field: str) -> Tensor:
        """Return a live, writable MjModel field (count, …); raises ValueError for one that was not declared."""
        if field not in self._varied:
            raise ValueError(f"the simulation was made without {field!r} among its `varied` fields")
        return self._varied[field]

    def recompute(self, rows: Tensor | None = None) -> None:
        """Compute the constants of `rows` that depend on `varied` fields; states and fields stay as they are."""
        nothing = torch.zeros(0, dtype=torch.int64, device=self.device)
        with self._scope(), self._only(self._fields, nothing), self._only(self._constants, rows):
            self._engine.set_const(self._model, self._data)

    def reset(self, rows: Tensor | None = None) -> None:
        """Put `rows` into the model's default state; derived fields are not recomputed."""
        where = slice(None) if rows is None else rows
        for name, value in self._default.items():
            self._fields[name][where] = value
        if "qpos0" in self._varied:
            self._fields["qpos"][where] = self._varied["qpos0"][where]
        self._lost[where] = False

    def forward(self, rows: Tensor | None = None) -> None:
        """Compute all derived fields of `rows`, accelerations included, without advancing time."""
        with self._scope(), self._only(self._fields, rows):
            self._place_fixed_geoms()
            self._run("forward", lambda: self._engine.forward(self._model, self._data))

    def step(self, substeps: int = 1, rows: Tensor | None = None) -> None:
        """Advance `rows` by `substeps` physics steps.

        Raises EnvironmentFailed where contacts or constraints did not fit into their memory; on a GPU it looks every
        `POLL` steps, for looking waits for the GPU.
        """
        watched = {"lost": self._lost, "overflow": self._overflow}
        with self._scope(), self._only(self._fields | watched, rows):
            self._run(substeps, lambda: self._advance(substeps))
            for name in ("qpos", "qvel", "qacc"):
                self._lost |= ~(self._fields[name].abs() < LARGEST).all(1)  # NaN is not below it either
        self._steps += 1
        if self.device.type == "cpu" or self._steps % POLL == 0:
            self._refuse_overflow()

    def _advance(self, substeps: int) -> None:
        engine, model, data = self._engine, self._model, self._data
        for _ in range(substeps):
            engine.step(model, data)
        if self._derived:  # as MuJoCo's mjSTAGE_VEL; not `step1`, which sets what depends on forces to 0
            engine.fwd_position(model, data)
            engine.sensor_pos(model, data)
            engine.fwd_velocity(model, data)
            engine.sensor_vel(model, data)

    def _run(self, key: object, work: Callable[[], None]) -> None:
        """Do `work`; on a GPU record it as a graph the second time, when its kernels are loaded, and launch that."""
        if self.device.type != "cuda" or key not in self._graphs:
            work()
            self._graphs[key] = None
            return
        if self._graphs[key] is None:
            collecting = gc.isenabled()
            gc.disable()  # a finaliser that ran meanwhile would be recorded
            try:
                with (
                    self._warp.ScopedStream(self._warp.Stream(str(self.device))),
                    self._warp.ScopedCapture() as capture,
                ):
                    work()
            finally:
                if collecting:
                    gc.enable()
            self._graphs[key] = capture.graph
        self._warp.capture_launch(self._graphs[key])

    @contextmanager
    def _only(self, fields: Mapping[str, Tensor], rows: Tensor | None) -> Iterator[None]:
        """Let what is done inside change `fields` in `rows` alone: the others are put back."""
        if rows is None or len(rows) == self.count:
            yield
            return
        before = {name: tensor.clone() for name, tensor in fields.items()}
        yield
        changed = torch.zeros(self.count, dtype=torch.bool, device=self.device).index_fill_(0, rows, True)
        for name, tensor in fields.items():
            chosen = changed.view(-1, *[1] * (tensor.ndim - 1))
            tensor.copy_(torch.where(chosen, tensor, before[name]))

    def contacts(self, rows: Tensor) -> Tensor:
        """Run `forward` on `rows` and count the pairs of geoms in contact, (rows,) int32."""
        self.forward(rows)
        world, number = (self._warp.to_torch(array) for array in (self._data.contact.worldid, self._data.nacon))
        found = torch.arange(len(world), device=self.device) < number
        counts = torch.zeros(self.count, dtype=torch.int32, device=self.device)
        return counts.index_add_(0, world.clamp(0, self.count - 1).long(), found.to(torch.int32))[rows]

    def take(self, rows: Tensor, source: MujocoWarp, picks: Tensor) -> None:
        """Copy the states and fields of simulations `picks` (rows,) of `source`, of the same model, into `rows`."""
        for name, tensor in self._tensors().items():
            tensor[rows] = source._tensors()[name][picks]

    def unstable(self) -> Tensor:
        """Return where (count,) bool a position, velocity or acceleration was not finite, or beyond 1e10, after a
        `step` since the last reset."""
        return self._lost.clone()

    def overflowed(self) -> bool:
        """Return False: `step` itself raises an error where contacts or constraints were left out."""
        return False

    def _refuse_overflow(self) -> None:
        """Raise EnvironmentFailed, with the limit to raise, where contacts or constraints were left out."""
        for key, flags in self._dropped.items():
            if bool((self._overflow & flags).any()):
                limit = self.limits[key]
                raise EnvironmentFailed(
                    f"a simulation has more {key} than the {limit} for which env.warp.{key} gives it memory, and "
                    f"MuJoCo Warp has left some out. Type --set env.warp.{key}={2 * limit}."
                )

    def _tensors(self) -> dict[str, Tensor]:
        watched = {"lost": self._lost, "overflow": self._overflow}
        return self._fields | self._varied | self._constants | watched

    def snapshot(self) -> dict[str, Tensor]:
        """Copy everything that the next steps and readings depend on."""
        return {name: tensor.clone() for name, tensor in self._tensors().items()}

    def restore(self, snapshot: Mapping[str, Tensor]) -> None:
        """Continue from a `snapshot` of a MujocoWarp made with the same arguments."""
        for name, tensor in self._tensors().items():
            tensor.copy_(snapshot[name])
        with self._scope():
            self._place_fixed_geoms()

    def render(
        self, row: int, height: int = 240, width: int = 320, camera: int | str = 0, ghost: Tensor | None = None
    ) -> Image:
        """Draw one simulation (height, width, 3) by MuJoCo, and a transparent second one in the state `ghost` (nq,).

        Raises MissingDependency without a graphics library.
        """
        self._drawing.prepare(height, width)
        drawn = self._drawing.model
        for name, tensor in self._varied.items():
            getattr(drawn, name)[:] = tensor[row].double().cpu().numpy()
        data = mujoco.MjData(drawn)
        for name in ("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat"):
            getattr(data, name)[:] = self._fields[name][row].double().cpu().numpy()
        return self._drawing.picture(data, height, width, camera, ghost)

    def close(self) -> None:
        """Release what `render` allocated."""
        self._drawing.close()

    def _colliding_fixed_geoms(self) -> list[int]:
        """Return the geoms of the world's own body, whose positions Warp computes once, when the data are made."""
        return [geom for geom in range(self.model.ngeom) if self.model.geom_bodyid[geom] == 0]

    def _place_fixed_geoms(self) -> None:
        """Move the geoms of the world's body to where their varied positions are."""
        if self._fixed_geoms:
            positions = self._warp.to_torch(self._data.geom_xpos)
            positions[:, self._fixed_geoms] = self._varied["geom_pos"][:, self._fixed_geoms]


def _check_varied(model: mujoco.MjModel, varied: tuple[str, ...]) -> None:
    """Raise ValueError for a field whose changes Warp would not see: it places fixed geoms once."""
    fixed = [geom for geom in range(model.ngeom) if model.body_weldid[model.geom_bodyid[geom]] == 0]
    inside = [geom for geom in fixed if model.geom_bodyid[geom] != 0]
    moving = {"geom_quat": fixed, "body_pos": inside, "body_quat": inside, "geom_pos": inside}
    for name in varied:
        if moving.get(name):
            raise ValueError(f"it has fixed geoms, and {name!r} of these cannot differ between simulations")
