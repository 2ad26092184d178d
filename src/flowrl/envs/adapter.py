"""The adapter between a policy and any vector environment: tensors in, tensors out, actions squashed to bounds.

Episodes restart in the step that ended them (Gymnasium's SAME_STEP), so every row of every step is a real
transition: `Step.obs` is what to act on next and `Step.successor` the observation that the action led to.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from flowrl.contracts.errors import EnvironmentFailed, UsageError, stop_behind
from flowrl.contracts.protocols import Step
from flowrl.envs import state_capture, state_encoding, tensors
from flowrl.envs.actions import ActionBounds
from flowrl.envs.calls import GuardedCalls, close
from flowrl.envs.families import NONE, family_of
from flowrl.envs.finite import FiniteCheck, NotFinite
from flowrl.envs.first_steps import FirstSteps
from flowrl.envs.history import with_history
from flowrl.envs.lookup import limit_of
from flowrl.envs.observations import FlatObservations, declared, declared_space, interface_parts, said_layout
from flowrl.envs.settings import EnvSettings
from flowrl.envs.tensors import TensorStep, TensorVectorEnv, from_gymnasium, observations
from flowrl.envs.validation import SUCCESS


@runtime_checkable
class Capturable(Protocol):
    """A vector environment that captures the state of all its rows itself."""

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


class Adapter:
    """Many environments behind one `step`: flat observations out, raw policy actions in.

    Observations are float32; float64 where Gymnasium steps an environment whose space declares numbers that float32
    does not hold, so that they keep their resolution until they are normalised. `ActionBounds` says how a raw action
    becomes one of the environment. Call `reset` or `restore` first.

    Where the environments are simulated on a GPU, `device`, all tensors stay there, and what is not finite is noticed
    some steps later (`FiniteCheck`).
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], settings: EnvSettings) -> None:
        observation, action = envs.single_observation_space, envs.single_action_space
        if not isinstance(observation, spaces.Box) or not isinstance(action, spaces.Box):
            raise UsageError("an Adapter needs Box spaces")
        family = family_of(settings.id)
        wide = isinstance(observation, FlatObservations) and observation.dtype == np.float64 and family is NONE
        self.settings = settings
        self.observation_space, self.action_space = declared(observation), action  # of one environment
        self.declared = declared_space(observation)  # its observation before it is flattened
        self.count = envs.num_envs
        self.history = settings.history
        self._latest = int(np.prod(observation.shape))  # numbers of one observation
        self.observation_size = self.history * self._latest
        self.action_size = int(np.prod(action.shape))
        self.precision = torch.float64 if wide else torch.float32  # of observations
        self.frame_shape: tuple[int, ...] | None = None  # (height, width, 3) of the first picture drawn
        self._envs = envs
        self._call = GuardedCalls(envs, settings)
        self._tensor_envs = envs if isinstance(envs, TensorVectorEnv) and envs.render_mode is None else None
        self._capturable = envs if isinstance(envs, Capturable) else None
        self._each = envs if isinstance(envs, SyncVectorEnv | AsyncVectorEnv) else None
        self.device = torch.device("cpu") if self._tensor_envs is None else tensors.device_of(envs)
        self._finite = FiniteCheck(settings.id, deferred=self.device.type != "cpu")
        self.obs = torch.zeros(self.count, self.observation_size, dtype=self.precision, device=self.device)
        bound = ActionBounds(action, settings.squash)
        self.interface = bound.saved() | getattr(envs, "interface_names", interface_parts(observation))
        self.bound = bound.to(self.device)
        self._first_steps = None if self._each is None else FirstSteps(settings.id, self.count, limit_of(settings))
        remarks = filter(None, (self.bound.remark, said_layout(self.declared)))
        self._remarks = [f"{settings.id}: {remark}" for remark in remarks]  # for `notes`
        self._measures: tuple[str, ...] = family.measures or tuple(getattr(envs, "measures", ()))
        self._variants = family.variants
        self._steps = 0
        self._seed: int | None = None
        self._last_pictures: dict[int, NDArray[np.uint8]] = {}  # by row, of the episodes that have just ended
        self.inexact_because: str | None = None
        if self._each is not None:
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
    def simulator(self) -> str:
        """The physics engine of a task, with `env.simulator: auto` resolved; `mujoco` for other environments."""
        return getattr(self._envs, "simulator", "mujoco")

    @property
    def envs(self) -> VectorEnv[Any, Any, Any]:
        """The vector environment itself."""
        return self._envs

    @property
    def policy_mask(self) -> Tensor | None:
        """Mask (observation,) bool of what a policy may see of an observation; None: everything."""
        mask = getattr(self._envs, "policy_mask", None)
        return None if mask is None else torch.as_tensor(mask, dtype=torch.bool).repeat(self.history)

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
            obs = self._call(self._tensor_envs.reset_tensors, seed).to(self.precision)
        else:
            seeds: Any = seed
            if seed is not None and self._each is not None:
                seeds = [int(word) for word in np.random.SeedSequence(seed).generate_state(self.count)]
            returned, info = self._call(self._envs.reset, seed=seeds)
            self._call.refuse_fault(info)
            obs = observations(returned, self._latest, self.precision)
        states = self._captured()
        remark = state_capture.remark_on_size(self.settings.id, states or [])
        self._remarks += [remark] if remark and remark not in self._remarks else []
        try:
            self.obs = self._finite("observation", obs, self._steps).repeat(1, self.history)
        except NotFinite as error:  # which no action has led to
            raise EnvironmentFailed(f"{error}".partition(" (step")[0] + " after reset: look there.") from None
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

        Raises NotFinite for an action, reward or observation that is not finite in float32, and EnvironmentFailed when
        an environment raises, returns what its spaces do not say, or does not answer within `env.timeout_s`.
        """
        bounded = self.bound(self._finite("action", action.detach().to(self.device, torch.float32), self._steps))
        self._steps += 1
        outcome = self._outcome(bounded)
        obs = successor = self._finite("observation", outcome.obs.to(self.precision), self._steps)
        if self._first_steps is not None:
            self._first_steps.add(obs, len(outcome.ended) > 0)
        if len(outcome.ended):
            final = outcome.final_obs.to(self.precision)
            last = self._finite("final observation", final, self._steps, outcome.ended)
            successor = obs.index_copy(0, outcome.ended, last)
        if self.history > 1:
            obs, successor = with_history(self.obs, obs, successor, outcome.ended)
        self.obs = obs
        reward = self._finite("reward", outcome.reward.to(torch.float32), self._steps)
        self._finite.look(self._steps)
        judged = next((name for name in SUCCESS if name in outcome.final_info), SUCCESS[0])
        return Step(
            obs=self.obs,
            reward=reward,
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            successor=successor,
            success=outcome.of_ended(judged),
            measures={name: outcome.of_ended(name) for name in self._measures},
            variant=outcome.of_ended(self._variants.info) if self._variants and self.variants else None,
        )

    def _outcome(self, bounded: Tensor) -> TensorStep:
        """Step the environments with actions (count, action) within their bounds."""
        if self._tensor_envs is not None:
            return self._call(self._tensor_envs.step_tensors, bounded)
        shape, dtype = self.action_space.shape, self.action_space.dtype
        actions = bounded.numpy().reshape(self.count, *shape).astype(dtype, copy=False)
        outcome = self._call(self._envs.step, actions)
        self._call.refuse_fault(outcome[4])
        ends = outcome[4].get("final_info", {})
        rows = np.flatnonzero(ends.get("_render", [])).tolist()
        self._last_pictures = {row: ends["render"][row] for row in rows}
        names = [*SUCCESS, *self._measures, *([self._variants.info] if self._variants else [])]
        return from_gymnasium(outcome, self._latest, names, self.precision)

    def notes(self, *, normalised: bool = True, finished: bool = False) -> list[str]:
        """Return what a user should know of these environments and has not been returned before, a sentence each.

        `normalised` is whether observations are normalised before a network sees them; `finished` whether no more
        steps follow, so that what would need more of them is reported now.
        """
        new, self._remarks = self._remarks, []
        if self._first_steps is not None:
            single = self.precision == torch.float32 or not normalised
            new += self._first_steps.notes(single=single, finished=finished)
        return new

    def state(self) -> dict[str, Any]:
        """Return everything needed to continue mid-episode, as tensors and plain Python values.

        Where `exact_resume` is false, or becomes false here, its "envs" is None.
        """
        captured = None
        if self._capturable is not None:
            captured = state_encoding.Encoder().encode(self._capturable.state())
        elif self._each is not None:
            captured = self._captured()
        state = {"id": self.settings.id, "count": self.count, "seed": self._seed, "steps": self._steps}
        if self._each is not None and captured is None:
            statistics = [each.get("statistics") for each in self._call(self._each.call, "state")]
            if any(layer for each in statistics if each for layer in each["layers"]):
                state["statistics"] = state_encoding.as_tensors(statistics)
        if self.simulator != "mujoco":
            state["simulator"] = self.simulator
        return state | {"obs": self.obs.cpu().clone(), "envs": state_encoding.as_tensors(captured)}

    def carry_over(self, state: dict[str, Any], fresh: dict[str, Any] | None = None) -> str:
        """Take over from a run's `state()` what outlives an episode, such as running statistics, for an evaluation.

        Call it before `reset`. `fresh` is the captured state of a new environment of the run; what is as it was there
        is left out. Environment i takes that of environment i modulo the run's count. Returns why these environments
        may differ from those of the training, or ''.
        """
        if self._each is None or state["id"] != self.settings.id or isinstance(state["envs"], dict):
            return ""
        saved = state["envs"] if state["envs"] is not None else state.get("statistics")
        if not saved:
            return (
                f"the state of {self.settings.id} was not saved with the run. If it keeps anything from one episode to "
                "the next (running statistics, a curriculum), this environment is not the one that was trained in."
            )
        states = [{"trained": each, "fresh": fresh} for each in state_encoding.as_arrays(saved)]
        try:
            self._call(self._each.set_attr, "carried", [states[row % len(states)] for row in range(self.count)])
        except EnvironmentFailed as error:
            if (stopped := stop_behind(error)) is not None:
                raise stopped from None
            if isinstance(self._each, AsyncVectorEnv):  # its workers have ended, or have not answered yet
                raise
            return f"this environment is not the one that was trained in, whose state does not fit it: {error}"
        return ""

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
        before = state.get("simulator", "mujoco")
        if state["envs"] is not None and before != self.simulator:
            raise UsageError(
                f"the saved environment state is of env.simulator={before}, not {self.simulator}: type --set "
                f"env.simulator={before}."
            )
        self._call(self._continue, state)
        self._seed, self._steps = state["seed"], state["steps"]
        return self.obs

    def _continue(self, state: dict[str, Any]) -> None:
        self.obs = state["obs"].to(self.device, self.precision).clone()
        captured = state_encoding.as_arrays(state["envs"])
        if captured is None:
            if self._each is not None and "statistics" in state:
                self._each.set_attr("statistics", state_encoding.as_arrays(state["statistics"]))
            words = np.random.SeedSequence([state["seed"] or 0, state["steps"]]).generate_state(1)
            self.reset(int(words[0]))
        elif self._capturable is not None:
            self._capturable.restore(state_encoding.Decoder().decode(captured))
        elif self._each is not None:
            self._each.set_attr("state", captured)

    def _captured(self) -> list[dict[str, Any]] | None:
        """Return the state of every sub-environment; None, with the reason recorded, when one cannot be captured."""
        if self._each is None or self.inexact_because is not None:
            return None
        states = self._call(self._each.call, "state")
        self.inexact_because = next((state["inexact"] for state in states if "inexact" in state), None)
        return list(states) if self.inexact_because is None else None

    def render(self) -> tuple[NDArray[np.uint8], ...]:
        """Draw each environment: (height, width, 3); needs `render_mode="rgb_array"`.

        Where the last step ended an episode the picture is of that end, which the environment left in `final_info`
        under "render": its own picture would be of the restart.
        """
        if len(self._last_pictures) == self.count:
            return tuple(self._last_pictures.values())
        pictures = dict(enumerate(self._call(self._envs.render))) | self._last_pictures
        return tuple(pictures.values())

    def close(self) -> None:
        """Release windows and worker processes; what an environment raises meanwhile is printed in one line."""
        close(self._envs, self.settings.id, terminate=self._call.pending)
