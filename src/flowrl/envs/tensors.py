"""One step of a vector environment as tensors; Gymnasium's NumPy arrays are converted here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class TensorStep:
    """The outcome of one step, with SAME_STEP autoreset."""

    obs: Tensor  # (count, observation): of the new start in the rows that `ended`
    reward: Tensor  # (count,)
    terminated: Tensor  # (count,) bool
    truncated: Tensor  # (count,) bool
    ended: Tensor  # (rows,) int64: the environments whose episode ended
    final_obs: Tensor  # (rows, observation): the last of each ended episode
    final_info: Mapping[str, Tensor]  # (rows,) each, by name; "render": last pictures (rows, height, width, 3)

    def of_ended(self, name: str) -> Tensor:
        """Return the number called `name` of the episodes that ended (count,); NaN for the others."""
        values = torch.full((len(self.terminated),), torch.nan, device=self.reward.device)
        if name in self.final_info:
            values[self.ended] = self.final_info[name].to(torch.float32)
        return values


@runtime_checkable
class TensorVectorEnv(Protocol):
    """A vector environment that is stepped with tensors, without NumPy; observations and rewards are new tensors."""

    def reset_tensors(self, seed: int | None) -> Tensor:
        """Start new episodes and return their observations (count, observation)."""
        ...

    def step_tensors(self, actions: Tensor) -> TensorStep:
        """Apply bounded actions (count, action), float32."""
        ...


def device_of(envs: Any) -> torch.device:
    """Return where the tensors of a TensorVectorEnv are: its `device`, if it says so, else the CPU."""
    device = getattr(envs, "device", None)
    return device if isinstance(device, torch.device) else torch.device("cpu")


def observations(array: Any, size: int, precision: torch.dtype = torch.float32) -> Tensor:
    """Copy observations (rows, …) to (rows, size) of `precision`: a vector environment reuses its buffers."""
    dtype = np.float64 if precision == torch.float64 else np.float32
    with np.errstate(over="ignore"):  # what is too large becomes inf, which the adapter reports
        return torch.from_numpy(np.array(array, dtype=dtype).reshape(-1, size))


def from_gymnasium(
    outcome: tuple[Any, Any, Any, Any, dict[str, Any]],
    size: int,
    names: Iterable[str],
    precision: torch.dtype = torch.float32,
) -> TensorStep:
    """Convert what `VectorEnv.step` returned; of `final_info` only the numbers called `names` are kept."""
    obs, reward, terminated, truncated, info = outcome
    ended = np.flatnonzero(info["_final_obs"]) if "final_obs" in info else np.zeros(0, dtype=np.int64)
    final_obs = info["final_obs"][ended].tolist() if len(ended) else []
    final_info = info.get("final_info", {})
    return TensorStep(
        obs=observations(obs, size, precision),
        reward=torch.from_numpy(np.asarray(reward, dtype=np.float32)),
        terminated=torch.from_numpy(np.asarray(terminated, dtype=np.bool_)),
        truncated=torch.from_numpy(np.asarray(truncated, dtype=np.bool_)),
        ended=torch.from_numpy(ended),
        final_obs=observations(final_obs, size, precision),
        final_info={
            name: torch.from_numpy(_where_reported(final_info[name], final_info[f"_{name}"])[ended])
            for name in names
            if name in final_info
        },
    )


def _where_reported(values: Any, reported: Any) -> NDArray[np.float32]:
    """Return `values` (count,) where they were `reported` (count,), else NaN."""
    rows = np.asarray(reported, dtype=np.bool_)
    numbers = np.full(len(rows), np.nan, dtype=np.float32)
    numbers[rows] = np.asarray(values, dtype=np.float32)[rows]
    return numbers
