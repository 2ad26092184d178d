"""The adapter between a policy and any vector environment: torch in, torch out, actions squashed to bounds.

Episodes restart in the step that ended them (Gymnasium's SAME_STEP), so every row of every step is a real
transition: `Step.obs` is what to act on next and `Step.successor` the observation that the action led to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed, FlowrlError, TrainingDiverged, UsageError, in_one_line
from flowrl.envs import state_capture
from flowrl.envs.settings import EnvSettings
from flowrl.envs.wrappers import SUCCESS

ADVICE = {
    "action": "The policy's weights have diverged (lower learner.learning_rate or learner.clip), or its sampler "
    "cannot integrate it (try another one, or more steps)",
    "observation": "Look at the environment's reward and bounds; when actions grow, lower learner.learning_rate",
}


@dataclass(frozen=True, slots=True)
class Step:
    """What one step of all environments gave; float32 and bool on the CPU."""

    obs: Tensor  # (count, observation): to act on next; the new start where an episode ended
    reward: Tensor  # (count,)
    terminated: Tensor  # (count,) bool: the task ended the episode, there is no future to value
    truncated: Tensor  # (count,) bool: a time limit cut the episode, its future still has a value
    successor: Tensor  # (count, observation): what the action led to; the old episode's last where it ended
    success: Tensor  # (count,): 1 or 0 where an episode ended and the environment judges it, else nan
    measures: dict[str, Tensor] = field(default_factory=dict)  # (count,) each, likewise
    clip: Tensor | None = None  # (count,): which of the environment's motions it followed, likewise


@runtime_checkable
class Capturable(Protocol):
    """A vector environment that captures itself as a whole (ours do)."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class TensorVectorEnv(Protocol):
    """A vector environment that also steps in torch tensors (ours for MuJoCo do; see `TaskVectorEnv`)."""

    def reset_tensors(self, seed: int | None) -> Tensor: ...

    def step_tensors(self, actions: Tensor) -> Any: ...


@runtime_checkable
class Staggers(Protocol):
    """A vector environment that can set its episodes apart in time (ours for MuJoCo can)."""

    def stagger(self) -> NDArray[np.int64]: ...


class Adapter:
    """Many environments behind one `step`: flat float32 observations out, raw policy actions in.

    A raw action is squashed to [-1, 1] (clip or tanh) and scaled to the environment's bounds; a dimension
    without two finite bounds takes the raw action as it is, clipped to the one bound it may have.
    `reset` comes first, or `restore`.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], settings: EnvSettings) -> None:
        observation, action = envs.single_observation_space, envs.single_action_space
        if not isinstance(observation, spaces.Box) or not isinstance(action, spaces.Box):
            raise UsageError("an Adapter needs Box spaces")
        self.settings = settings
        self.observation_space, self.action_space = observation, action  # of one environment
        self.count = envs.num_envs
        self.observation_size = int(np.prod(observation.shape))
        self.action_size = int(np.prod(action.shape))
        self.obs = torch.zeros(self.count, self.observation_size)  # to act on next
        self._envs = envs
        self._action_shape = (self.count, *action.shape)
        self._action_type = action.dtype
        self._low = torch.from_numpy(np.array(action.low, dtype=np.float32).reshape(-1))
        self._high = torch.from_numpy(np.array(action.high, dtype=np.float32).reshape(-1))
        self._bounded, self._centre, self._half = scaling(action)
        self._all_bounded = bool(self._bounded.all())
        self._measures: tuple[str, ...] = getattr(envs, "measures", ())  # final_info's, of ours
        self.clips: tuple[str, ...] = getattr(envs, "clips", ())
        self._whole = envs if isinstance(envs, Capturable) else None
        self._each = envs if isinstance(envs, SyncVectorEnv | AsyncVectorEnv) else None
        self._tensors = envs if isinstance(envs, TensorVectorEnv) else None
        self._broken = False  # whether a call was left without an answer
        self._steps = 0
        self._seed: int | None = None
        self._ends: dict[str, Any] = {}  # final_info of the episodes that the last step ended
        self._ended: Tensor | None = None  # their rows, where `_ends` holds tensors of those rows alone
        self._inexact_because: str | None = None
        if self._each is not None:
            self._each.set_attr("index", list(range(self.count)))
            self._captured()
        elif self._whole is None:
            self._inexact_because = f"{type(envs).__name__} has no state() and restore()"

    @property
    def exact_resume(self) -> bool:
        """Whether `state` holds all that is needed to continue bit for bit.

        What an environment keeps shows only while it runs: true may become false in the first `reset`, which
        nearly always tells, or in a later `state`. False stays false.
        """
        return self._inexact_because is None

    @property
    def inexact_because(self) -> str | None:
        """Why `exact_resume` is false."""
        return self._inexact_because

    @property
    def native(self) -> bool:
        """Whether flowrl steps the environments itself, all together, rather than Gymnasium each by itself."""
        return self._whole is not None

    @property
    def policy_mask(self) -> Tensor | None:
        """Which entries (observation,) bool of an observation a policy may see; None: all."""
        mask = getattr(self._envs, "policy_mask", None)
        return None if mask is None else torch.from_numpy(np.array(mask, dtype=np.bool_))

    @property
    def showing(self) -> tuple[str, ...]:
        """Which of `clips` each environment imitates now; () where there is nothing to choose from."""
        return getattr(self._envs, "showing", ()) if len(self.clips) > 1 else ()

    @property
    def metadata(self) -> dict[str, Any]:
        """What the environment says of itself, such as `render_fps`."""
        return self._envs.metadata

    def reset(self, seed: int | None) -> Tensor:
        """Start every environment anew and return its observations (count, observation).

        `seed` gives every environment its own independent stream of random numbers; None keeps the streams.
        """
        self._seed, self._steps, self._ends, self._ended = seed, 0, {}, None
        if self._tensors is not None:
            self.obs = self._finite("observation", self._guarded(self._tensors.reset_tensors, seed).float())
            return self.obs
        seeds: Any = seed
        if seed is not None and self._each is not None:
            seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(self.count)]
        obs, _ = self._guarded(self._envs.reset, seed=seeds)
        self._captured()
        self.obs = self._finite("observation", self._tensor(obs))
        return self.obs

    def stagger(self) -> Tensor:
        """Set the running episodes apart, where the environments can: steps (count,) int64 that each is taken to
        have run for, of those until the time limit cuts it; zeros where they cannot."""
        if not isinstance(self._envs, Staggers):
            return torch.zeros(self.count, dtype=torch.int64)
        return torch.from_numpy(self._envs.stagger())

    def step(self, action: Tensor) -> Step:
        """Apply raw policy actions (count, action) and return what came of them.

        Raises TrainingDiverged for an action, reward or observation that is not finite, and EnvironmentFailed
        when an environment raises.
        """
        bounded = self.bound(self._finite("action", action.detach().to("cpu", torch.float32)))
        if self._tensors is not None:
            return self._step_tensors(self._tensors, bounded)
        raw = bounded.numpy().reshape(self._action_shape).astype(self._action_type, copy=False)
        self._steps += 1
        obs, reward, terminated, truncated, info = self._guarded(self._envs.step, raw)
        self.obs = successor = self._finite("observation", self._tensor(obs))
        self._ends = info.get("final_info", {})
        if "final_obs" in info:
            finished = np.flatnonzero(info["_final_obs"])
            rows = torch.from_numpy(finished)
            last = self._finite("final observation", self._tensor(info["final_obs"][finished].tolist()), rows)
            successor = self.obs.index_copy(0, rows, last)
        return self._result(
            torch.from_numpy(np.asarray(reward, dtype=np.float32)),
            torch.from_numpy(np.asarray(terminated, dtype=np.bool_)),
            torch.from_numpy(np.asarray(truncated, dtype=np.bool_)),
            successor,
        )

    def _step_tensors(self, envs: TensorVectorEnv, action: Tensor) -> Step:
        """Step without NumPy."""
        self._steps += 1
        step = self._guarded(envs.step_tensors, action)
        self.obs = successor = self._finite("observation", step.obs.float())
        self._ends, self._ended = step.final_info, step.ended
        if len(step.ended):
            last = self._finite("final observation", step.final_obs.float(), step.ended)
            successor = self.obs.index_copy(0, step.ended, last)
        return self._result(step.reward.float(), step.terminated, step.truncated, successor)

    def _result(self, reward: Tensor, terminated: Tensor, truncated: Tensor, successor: Tensor) -> Step:
        judged = next((key for key in SUCCESS if key in self._ends), SUCCESS[0])
        return Step(
            obs=self.obs,
            reward=self._finite("reward", reward),
            terminated=terminated,
            truncated=truncated,
            successor=successor,
            success=self._told(judged),
            measures={name: self._told(name) for name in self._measures},
            clip=self._told("clip") if self.clips else None,
        )

    def bound(self, action: Tensor) -> Tensor:
        """Raw policy actions (count, action) as a new tensor within the environment's bounds."""
        squashed = torch.tanh(action) if self.settings.squash == "tanh" else action.clamp(-1, 1)
        if not self._all_bounded:
            squashed = torch.where(self._bounded, squashed, action)
        return torch.addcmul(self._centre, squashed, self._half).clamp(self._low, self._high)

    def state(self) -> dict[str, Any]:
        """Everything to continue mid-episode, as tensors and plain Python values.

        When `exact_resume` is false, or turns out to be, the environments are missing: its "envs" is None.
        """
        captured = None
        if self._whole is not None:
            captured = state_capture.Encoder().encode(self._whole.state())
        elif self._each is not None:
            captured = self._captured()
        state = {"id": self.settings.id, "count": self.count, "seed": self._seed, "steps": self._steps}
        return state | {"obs": self.obs.clone(), "envs": state_capture.as_tensors(captured)}

    def restore(self, state: dict[str, Any]) -> Tensor:
        """Continue from `state()` of an Adapter made with the same settings; returns the observations to act on.

        When `state["envs"]` is None new episodes begin: the environments are reset, with a seed drawn from the
        recorded one and the recorded number of steps. Raises UsageError when `state` belongs to other settings.
        """
        if (state["id"], state["count"]) != (self.settings.id, self.count):
            raise UsageError(
                f"the saved environment state is of {state['count']} x {state['id']}, not of {self.count} x "
                f"{self.settings.id}: resume with the same env.id and env.count."
            )
        if state["envs"] is not None and isinstance(state["envs"], list) is self.native:
            ways = ("each by itself (env.mode sync or async)", "all together (env.mode batch)")
            was, now = ways if self.native else reversed(ways)
            raise UsageError(
                f"the saved environment state is of {self.settings.id} stepped {was}, not {now}: resume with the "
                "env.mode of before."
            )
        self._guarded(self._continue, state)
        self._seed, self._steps = state["seed"], state["steps"]
        return self.obs

    def _continue(self, state: dict[str, Any]) -> None:
        self.obs = state["obs"].clone()
        captured = state_capture.as_arrays(state["envs"])
        if captured is None:
            words = np.random.SeedSequence([state["seed"] or 0, state["steps"]]).generate_state(1)
            self.reset(int(words[0]))
        elif self._whole is not None:
            self._whole.restore(state_capture.Decoder().decode(captured))
        elif self._each is not None:
            self._each.set_attr("state", captured)

    def _captured(self) -> list[dict[str, Any]] | None:
        """The state of every sub-environment, or None, with the reason noted, when one cannot be captured."""
        if self._each is None or self._inexact_because is not None:
            return None
        states = self._guarded(self._each.call, "state")
        self._inexact_because = next((state["inexact"] for state in states if "inexact" in state), None)
        return list(states) if self._inexact_because is None else None

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """One picture (height, width, 3) per environment; needs `render_mode="rgb_array"`.

        Where the last step ended an episode it shows that end: the environment has kept it in `final_info`
        under "render", for its own picture is already of the restart.
        """
        if self._ended is not None and "render" in self._ends:
            ends = dict(zip(self._ended.tolist(), self._ends["render"].numpy(), strict=True))
            if len(ends) == self.count:
                return tuple(ends.values())
            return tuple(ends.get(row, now) for row, now in enumerate(self._guarded(self._envs.render)))
        if all(self._ends.get("_render", [False])):
            return tuple(self._ends["render"])
        pictures = list(self._guarded(self._envs.render))
        for index in np.flatnonzero(self._ends.get("_render", [])):
            pictures[index] = self._ends["render"][index]
        return tuple(pictures)

    def close(self) -> None:
        """Release windows and worker processes."""
        close(self._envs, self._broken)

    def _tensor(self, obs: Any) -> Tensor:
        """A copy of observations (rows, …) as float32 (rows, observation): a vector env reuses its buffers."""
        return torch.from_numpy(np.array(obs, dtype=np.float32).reshape(-1, self.observation_size))

    def _finite(self, name: str, tensor: Tensor, rows: Tensor | None = None) -> Tensor:
        """`tensor` (rows, …) itself, if it is finite; `rows` are its environments, when it is not all of them."""
        if not np.isfinite(tensor.numpy()).all():
            bad = (~torch.isfinite(tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None])).any(1)
            indexes = torch.nonzero(bad).flatten() if rows is None else rows[bad]
            raise TrainingDiverged(
                f"{self.settings.id}: the {name} of environment {first_few(indexes.tolist())} is not finite "
                f"(step {self._steps} after the reset). {ADVICE.get(name, ADVICE['observation'])}"
            )
        return tensor

    def _told(self, name: str) -> Tensor:
        """What the environments say under `name` of the episodes that ended (count,); nan for the others."""
        values = torch.full((self.count,), torch.nan)
        if name in self._ends and self._ended is not None:
            values[self._ended] = self._ends[name].float()
        elif name in self._ends:
            by = np.asarray(self._ends[f"_{name}"], dtype=np.bool_)
            values[torch.from_numpy(by)] = torch.from_numpy(
                np.asarray(self._ends[name], dtype=np.float32)[by]
            )
        return values

    def _guarded(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """`call(*arguments)`, with every failure of an environment as EnvironmentFailed."""
        level = gymnasium.logger.min_level
        if self.settings.mode == "async":  # Gymnasium would print a worker's whole traceback
            gymnasium.logger.min_level = gymnasium.logger.ERROR + 1
        try:
            self._broken = True
            result = call(*arguments, **named)
            self._broken = False
            return result
        except EnvironmentFailed as error:
            raise EnvironmentFailed(f"{self.settings.id}: {error}") from None
        except (EOFError, ConnectionError):
            raise EnvironmentFailed(
                f"{self.settings.id}: a worker process died (killed, out of memory, or crashed in native code). "
                "Use fewer environments (env.count), or env.mode=sync."
            ) from None
        except FlowrlError:
            raise
        except Exception as error:
            raise EnvironmentFailed(f"{self.settings.id}: {in_one_line(error)}") from error
        finally:
            gymnasium.logger.min_level = level


def scaling(space: spaces.Box) -> tuple[Tensor, Tensor, Tensor]:
    """(bounded, centre, half): a squashed action a in [-1, 1] becomes centre + half·a where both bounds are finite.

    The same as low + (a + 1)/2·(high - low), but exact for symmetric bounds.
    """
    low = torch.from_numpy(space.low.astype(np.float64).reshape(-1))
    high = torch.from_numpy(space.high.astype(np.float64).reshape(-1))
    bounded = torch.isfinite(low) & torch.isfinite(high)
    centre = torch.where(bounded, (low + high) / 2, torch.zeros_like(low)).float()
    half = torch.where(bounded, (high - low) / 2, torch.ones_like(low)).float()
    return bounded, centre, half


def first_few(indexes: list[int], most: int = 8) -> str:
    """'3, 5, 9' or, when there are many, '0, 1, …, 7 and 92 more'."""
    more = f" and {len(indexes) - most} more" if len(indexes) > most else ""
    return ", ".join(str(index) for index in indexes[:most]) + more


def close(envs: VectorEnv[Any, Any, Any], broken: bool = False) -> None:
    """Close a vector environment. The workers of a broken one, which may never answer, are ended."""
    if not (broken and isinstance(envs, AsyncVectorEnv)):
        envs.close()
        return
    for process in envs.processes:
        process.terminate()
        process.join()
    envs.closed = True
