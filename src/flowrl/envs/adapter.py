"""The adapter between a policy and any vector environment: tensors in, tensors out, actions squashed to bounds.

Episodes restart in the step that ended them (Gymnasium's SAME_STEP), so every row of every step is a real
transition: `Step.obs` is what to act on next and `Step.successor` the observation that the action led to.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed, FlowrlError, TrainingDiverged, UsageError, in_one_line
from flowrl.contracts.protocols import Step
from flowrl.envs import state_capture, worker_processes
from flowrl.envs.families import family_of
from flowrl.envs.settings import EnvSettings
from flowrl.envs.tensors import TensorStep, TensorVectorEnv, from_gymnasium, observations
from flowrl.envs.wrappers import SUCCESS

ADVICE = {
    "action": "The policy's weights have diverged (lower learner.learning_rate or learner.clip), or its sampler "
    "cannot integrate it (try another one, or more steps)",
    "observation": "Look at the environment's reward and bounds; when actions grow, lower learner.learning_rate",
}


@runtime_checkable
class Capturable(Protocol):
    """A vector environment that captures the state of all its rows itself."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class Adapter:
    """Many environments behind one `step`: flat float32 observations out, raw policy actions in.

    A raw action is squashed to [-1, 1] (clip or tanh) and scaled to the environment's bounds; a dimension
    without two finite bounds takes the raw action as it is, clipped to the one bound it may have.
    Call `reset` or `restore` first.
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
        self._tensor_envs = envs if isinstance(envs, TensorVectorEnv) and envs.render_mode is None else None
        self._capturable = envs if isinstance(envs, Capturable) else None
        self._each = envs if isinstance(envs, SyncVectorEnv | AsyncVectorEnv) else None
        self._low = torch.from_numpy(np.array(action.low, dtype=np.float32).reshape(-1))
        self._high = torch.from_numpy(np.array(action.high, dtype=np.float32).reshape(-1))
        self._bounded, self._centre, self._half = scaling(action)
        self._all_bounded = bool(self._bounded.all())
        family = family_of(settings.id)
        self._measures, self._variants = family.measures, family.variants
        self._pending = False  # whether a call has not returned
        self._steps = 0
        self._seed: int | None = None
        self._last_pictures: dict[int, NDArray[np.uint8]] = {}  # by row, of the episodes that have just ended
        self.inexact_because: str | None = None
        if self._each is not None:
            self._each.set_attr("index", list(range(self.count)))
            self._captured()
        elif self._capturable is None:
            self.inexact_because = f"{type(envs).__name__} has no state() and restore()"

    @property
    def exact_resume(self) -> bool:
        """Whether `state` holds all that is needed to continue bit for bit; `inexact_because` is the reason if not.

        The attributes of an environment appear only while it runs: true may become false in the first `reset`, and
        rarely in a later `state`. False stays false.
        """
        return self.inexact_because is None

    @property
    def native(self) -> bool:
        """Whether flowrl steps all environments together, instead of Gymnasium each one separately."""
        return self._capturable is not None

    @property
    def policy_mask(self) -> Tensor | None:
        """Mask (observation,) bool of what a policy may see of an observation; None: everything."""
        mask = getattr(self._envs, "policy_mask", None)
        return None if mask is None else torch.as_tensor(mask, dtype=torch.bool).clone()

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of what an episode can be about, such as the motion to imitate; () where all are alike."""
        return () if self._variants is None else getattr(self._envs, self._variants.names, ())

    @property
    def current_variants(self) -> tuple[str, ...]:
        """The variant of each running episode; () where there are fewer than two variants."""
        if self._variants is None or len(self.variants) < 2:
            return ()
        return getattr(self._envs, self._variants.current, ())

    @property
    def metadata(self) -> dict[str, Any]:
        """The environment's metadata, such as `render_fps`."""
        return self._envs.metadata

    def reset(self, seed: int | None) -> Tensor:
        """Start a new episode in every environment and return the observations (count, observation).

        `seed` gives every environment its own independent stream of random numbers; None keeps the streams.
        """
        self._seed, self._steps, self._last_pictures = seed, 0, {}
        if self._tensor_envs is not None:
            obs = self._guarded(self._tensor_envs.reset_tensors, seed).to(torch.float32)
        else:
            seeds: Any = seed
            if seed is not None and self._each is not None:
                seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(self.count)]
            obs = observations(self._guarded(self._envs.reset, seed=seeds)[0], self.observation_size)
        self._captured()
        self.obs = self._finite("observation", obs)
        return self.obs

    def stagger(self) -> Tensor:
        """Set the elapsed steps of the running episodes at random, so that a time limit ends them at different times.

        Returns the numbers (count,) int64; zeros where the environments cannot do it.
        """
        if not hasattr(self._envs, "stagger"):
            return torch.zeros(self.count, dtype=torch.int64)
        return torch.as_tensor(self._envs.stagger())

    def step(self, action: Tensor) -> Step:
        """Apply raw policy actions (count, action) and return the outcome.

        Raises TrainingDiverged for an action, reward or observation that is not finite, and EnvironmentFailed
        when an environment raises.
        """
        bounded = self.bound(self._finite("action", action.detach().to("cpu", torch.float32)))
        self._steps += 1
        outcome = self._outcome(bounded)
        self.obs = successor = self._finite("observation", outcome.obs.to(torch.float32))
        if len(outcome.ended):
            last = self._finite("final observation", outcome.final_obs.to(torch.float32), outcome.ended)
            successor = self.obs.index_copy(0, outcome.ended, last)
        judged = next((name for name in SUCCESS if name in outcome.final_info), SUCCESS[0])
        return Step(
            obs=self.obs,
            reward=self._finite("reward", outcome.reward.to(torch.float32)),
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            successor=successor,
            success=self._of_ended(outcome, judged),
            measures={name: self._of_ended(outcome, name) for name in self._measures},
            variant=self._of_ended(outcome, self._variants.info) if self._variants and self.variants else None,
        )

    def _outcome(self, bounded: Tensor) -> TensorStep:
        """Step the environments with actions (count, action) within their bounds."""
        if self._tensor_envs is not None:
            return self._guarded(self._tensor_envs.step_tensors, bounded)
        shape, dtype = self.action_space.shape, self.action_space.dtype
        actions = bounded.numpy().reshape(self.count, *shape).astype(dtype, copy=False)
        outcome = self._guarded(self._envs.step, actions)
        ends = outcome[4].get("final_info", {})
        rows = np.flatnonzero(ends.get("_render", [])).tolist()
        self._last_pictures = {row: ends["render"][row] for row in rows}
        names = [*SUCCESS, *self._measures, *([self._variants.info] if self._variants else [])]
        return from_gymnasium(outcome, self.observation_size, names)

    def bound(self, action: Tensor) -> Tensor:
        """Map raw policy actions (count, action) into the environment's bounds, as a new tensor."""
        squashed = torch.tanh(action) if self.settings.squash == "tanh" else action.clamp(-1, 1)
        if not self._all_bounded:
            squashed = torch.where(self._bounded, squashed, action)
        return torch.addcmul(self._centre, squashed, self._half).clamp(self._low, self._high)

    def state(self) -> dict[str, Any]:
        """Return everything needed to continue mid-episode, as tensors and plain Python values.

        Where `exact_resume` is false, or becomes false here, its "envs" is None.
        """
        captured = None
        if self._capturable is not None:
            captured = state_capture.Encoder().encode(self._capturable.state())
        elif self._each is not None:
            captured = self._captured()
        state = {"id": self.settings.id, "count": self.count, "seed": self._seed, "steps": self._steps}
        return state | {"obs": self.obs.clone(), "envs": state_capture.as_tensors(captured)}

    def restore(self, state: dict[str, Any]) -> Tensor:
        """Continue from `state()` of an Adapter with the same settings; returns the observations to act on.

        Where `state["envs"]` is None new episodes begin: the environments are reset with a seed derived from the
        recorded seed and number of steps. Raises UsageError when `state` belongs to other settings.
        """
        if (state["id"], state["count"]) != (self.settings.id, self.count):
            raise UsageError(
                f"the saved environment state is of {state['count']} x {state['id']}, not of {self.count} x "
                f"{self.settings.id}: resume with the same env.id and env.count."
            )
        if state["envs"] is not None and isinstance(state["envs"], list) is self.native:
            ways = ("one by one (env.mode sync or async)", "all together (env.mode batch)")
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
        elif self._capturable is not None:
            self._capturable.restore(state_capture.Decoder().decode(captured))
        elif self._each is not None:
            self._each.set_attr("state", captured)

    def _captured(self) -> list[dict[str, Any]] | None:
        """Return the state of every sub-environment; None, with the reason recorded, when one cannot be captured."""
        if self._each is None or self.inexact_because is not None:
            return None
        states = self._guarded(self._each.call, "state")
        self.inexact_because = next((state["inexact"] for state in states if "inexact" in state), None)
        return list(states) if self.inexact_because is None else None

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """Draw each environment: (height, width, 3); needs `render_mode="rgb_array"`.

        Where the last step ended an episode the picture is of that end, which the environment left in `final_info`
        under "render": its own picture would be of the restart.
        """
        if len(self._last_pictures) == self.count:
            return tuple(self._last_pictures.values())
        pictures = dict(enumerate(self._guarded(self._envs.render))) | self._last_pictures
        return tuple(pictures.values())

    def close(self) -> None:
        """Release windows and worker processes."""
        close(self._envs, terminate=self._pending)

    def _finite(self, name: str, tensor: Tensor, rows: Tensor | None = None) -> Tensor:
        """Return `tensor` (rows, …), or raise TrainingDiverged; `rows` are its environments, if not all of them."""
        if math.isfinite(tensor.sum().item()):  # a quick test, which only an overflow of the sum fails, too
            return tensor
        bad = (~torch.isfinite(tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None])).any(1)
        if not bad.any():
            return tensor
        indexes = torch.nonzero(bad).flatten() if rows is None else rows[bad]
        raise TrainingDiverged(
            f"{self.settings.id}: the {name} of environment {first_few(indexes.tolist())} is not finite "
            f"(step {self._steps} after the reset). {ADVICE.get(name, ADVICE['observation'])}"
        )

    def _of_ended(self, outcome: TensorStep, name: str) -> Tensor:
        """Return the number called `name` of the episodes that ended (count,); NaN for the others."""
        values = torch.full((self.count,), torch.nan)
        if name in outcome.final_info:
            values[outcome.ended] = outcome.final_info[name].to(torch.float32)
        return values

    def _guarded(self, call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Return `call(*arguments)`; every failure of an environment is raised as EnvironmentFailed."""
        level = gymnasium.logger.min_level
        if self.settings.mode == "async":  # Gymnasium would print the traceback of a worker
            gymnasium.logger.min_level = gymnasium.logger.ERROR + 1
        try:
            self._pending = True
            result = call(*arguments, **named)
            self._pending = False
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
    """Return (bounded, centre, half): an action a in [-1, 1] becomes centre + half·a where both bounds are finite.

    The same as low + (a + 1)/2·(high - low), but exact for symmetric bounds.
    """
    low = torch.from_numpy(space.low.astype(np.float64).reshape(-1))
    high = torch.from_numpy(space.high.astype(np.float64).reshape(-1))
    bounded = torch.isfinite(low) & torch.isfinite(high)
    centre = torch.where(bounded, (low + high) / 2, torch.zeros_like(low)).float()
    half = torch.where(bounded, (high - low) / 2, torch.ones_like(low)).float()
    return bounded, centre, half


def first_few(indexes: list[int], most: int = 8) -> str:
    """Return '3, 5, 9' or, when there are many, '0, 1, …, 7 and 92 more'."""
    more = f" and {len(indexes) - most} more" if len(indexes) > most else ""
    return ", ".join(str(index) for index in indexes[:most]) + more


def close(envs: VectorEnv[Any, Any, Any], terminate: bool = False) -> None:
    """Close a vector environment; `terminate` ends worker processes that may never answer."""
    if not (terminate and isinstance(envs, AsyncVectorEnv)):
        envs.close()
        return
    worker_processes.kill(envs.processes)
    envs.closed = True
