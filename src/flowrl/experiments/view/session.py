"""A policy that acts in one environment step by step, with what a viewer may change and what it reads."""

from __future__ import annotations

import statistics
import time
from collections import deque
from dataclasses import dataclass, field, replace
from queue import SimpleQueue
from typing import Any, Literal

from flowrl.contracts.errors import FlowrlError
from flowrl.envs import factory, rendering, saved_state, scene
from flowrl.envs.families import family_of
from flowrl.envs.scene import Floats
from flowrl.experiments import build, evaluate
from flowrl.experiments.evaluate import EvalRequest, LoadedCheckpoint
from flowrl.experiments.play import label
from flowrl.policies.noise_modes import NoiseMode
from flowrl.samplers import registry

TIMED = 200  # calls of the policy over which their time is the median
RETURNS = 100  # episodes over which the return is averaged


@dataclass
class Controls:
    """What the viewer sets and the simulation reads, each on a thread of its own: values are replaced, not changed."""

    noise: NoiseMode
    watched: bool = False  # whether a browser has come, before which nothing moves
    frames: int = 0  # that the viewer has drawn
    paused: bool = False
    speed: float = 1.0  # of real time
    noise_scale: float = 1.0
    command: list[float] | None = None  # instead of the task's own; None: the task draws its commands
    push: Floats | None = None  # (body, 6) force in N and torque in N m in world axes
    requests: SimpleQueue[Request] = field(default_factory=SimpleQueue)

    def ask(self, what: Literal["step", "reset", "sampler", "variant", "quit"], value: Any = None) -> None:
        """Request what is to be done once, before the next step."""
        self.requests.put(Request(what, value))


@dataclass(frozen=True)
class Request:
    """Something to be done once.

    `step` advances a paused simulation by a control step, `reset` begins a new episode, `sampler` takes another
    sampler (name, steps or None for its default), `variant` begins an episode about the variant of that number, and
    `quit` ends the viewer.
    """

    what: Literal["step", "reset", "sampler", "variant", "quit"]
    value: Any = None


@dataclass(frozen=True)
class Readings:
    """What the simulation reports to the viewer."""

    sampler: str | None  # None for a policy without a flow
    steps: int | None  # of the sampler; None where it chooses them itself
    nfe: float | None  # velocity evaluations per action
    action_us: float | None = None  # median µs that the policy takes for an action
    length: int = 0  # steps of the running episode
    total: float = 0.0  # its return so far
    episodes: int = 0  # that have ended
    last: float | None = None  # return of the last one
    mean: float | None = None  # return over the last `RETURNS`
    command: tuple[float, ...] = ()
    variant: str | None = None
    ghost: Floats | None = None  # (nq,)
    message: str = ""  # why something requested was not done


class Session:
    """The policy of a checkpoint in one environment.

    Raises what `evaluate.load` and `envs.factory.make` do, and UsageError for an environment without MuJoCo.
    """

    def __init__(self, opened: LoadedCheckpoint, request: EvalRequest) -> None:
        self.request = opened.applicable(request)
        self.loaded = evaluate.load(opened, self.request)
        self._opened = opened
        self.title = label(opened)
        settings = self.loaded.config.env
        mode: Any = "sync" if settings.mode == "async" else settings.mode  # a worker's simulation is out of reach
        self.env = factory.make(settings.model_copy(update={"mode": mode, "threads": 1}), count=1, evaluation=True)
        try:
            evaluate.check_sizes(self.loaded, self.env)
            opened.notify(factory.carry_over(self.env, saved_state.of_run(opened.content), opened.config.env))
            self.obs = self.env.reset(request.seed)
            self.scene = scene.scene_of(self.env)
            self.command_ranges = self.scene.command_ranges()
        except BaseException:
            self.env.close()
            raise
        self.seconds = 1 / rendering.rate(self.env)  # of a control step
        self.samplers = self._samplers()
        fixed = family_of(settings.id).fixed_by_training
        self.facts = {key: str(getattr(settings, key) or default) for key, default in fixed.items()}
        self.noise = self.loaded.policy.noise
        self.policy = self.loaded.policy
        self._use(self.policy)
        self.controls = Controls(self.noise.mode, noise_scale=self.noise.scale)
        self._times: deque[float] = deque(maxlen=TIMED)
        self._returns: deque[float] = deque(maxlen=RETURNS)
        self.ended = False  # whether the user has quit
        self._new_episode()

    @property
    def variants(self) -> tuple[str, ...]:
        """What an episode can be about, such as the motion to imitate; () where all are alike."""
        return self.env.variants if len(self.env.variants) > 1 else ()

    def _samplers(self) -> list[str]:
        """Return the names of the samplers to choose from, [] for a policy that needs none."""
        if self.loaded.policy.sampler is None:
            return []
        return list(
            dict.fromkeys([*registry.general(), self._opened.config.sampler.name, self.loaded.config.sampler.name])
        )

    def _use(self, policy: Any) -> None:
        policy.noise = self.noise
        self.policy = policy
        sampler = policy.sampler
        steps = getattr(sampler, "steps", None)
        self.readings = replace(
            getattr(self, "readings", Readings(None, None, None)),
            sampler=self.loaded.config.sampler.name if sampler is not None else None,
            steps=steps,
            nfe=policy.nfe,
            message="",
        )

    def obey(self) -> bool:
        """Do what has been requested since the last call; return whether a step is to be made even while paused."""
        step = False
        while not self.controls.requests.empty():
            request = self.controls.requests.get()
            try:
                if request.what == "step":
                    step = True
                elif request.what == "quit":
                    self.ended = True
                elif request.what == "sampler":
                    self.choose(*request.value)
                else:
                    self.reset(request.value)
            except FlowrlError as error:
                self.readings = replace(self.readings, message=str(error))
        return step

    def choose(self, name: str, steps: int | None) -> None:
        """Act with the sampler `name` from now on; raises UsageError where it cannot be made with these steps."""
        config = evaluate.configured(self._opened, replace(self.request, sampler=name, steps=steps))
        kind, acting = build.kind_of(config), self.policy
        sampler = registry.make(config.sampler.name, config.sampler.options())
        policy = kind.policy(acting.field, acting.normaliser, self.noise, config.policy, sampler, False, name)
        self.loaded = replace(self.loaded, policy=policy, config=config)
        self._use(policy)
        self._times.clear()

    def reset(self, variant: int | None = None) -> None:
        """Begin a new episode, about the variant of that number where one is given."""
        self.obs = self.env.reset(None)
        for _ in self.variants if variant is not None else ():
            if self.env.current_variants == (self.variants[variant or 0],):
                break
            self.obs = self.env.reset(None)
        self._new_episode()

    def _new_episode(self) -> None:
        self.remade = self.scene.new_model()  # whether the model looks different from that of the last episode
        self.readings = replace(self.readings, length=0, total=0.0)
        self._read()

    def step(self) -> None:
        """Make one control step. What the policy or environment cannot do ends the episode, with its message."""
        controls = self.controls
        self.noise.mode, self.noise.scale = controls.noise, controls.noise_scale
        if controls.command is not None:
            self.scene.hold_command(controls.command)
        try:
            began = time.perf_counter()
            action = self.policy(self.obs)
            self._times.append(time.perf_counter() - began)
            with scene.pushed(self.scene, controls.push):
                step = self.env.step(action)
        except FlowrlError as error:
            self.reset()
            controls.paused = True
            self.readings = replace(self.readings, message=str(error))
            return
        self.obs = step.obs
        now = self.readings
        self.readings = replace(now, length=now.length + 1, total=now.total + float(step.reward), nfe=self.policy.nfe)
        if bool(step.terminated | step.truncated):
            self._returns.append(self.readings.total)
            mean = statistics.fmean(self._returns)
            ended = now.episodes + 1
            self.readings = replace(self.readings, episodes=ended, last=self.readings.total, mean=mean)
            self._new_episode()
        else:
            self._read()

    def _read(self) -> None:
        self.readings = replace(
            self.readings,
            action_us=1e6 * statistics.median(self._times) if self._times else None,
            command=tuple(self.scene.command),
            variant=next(iter(self.env.current_variants), None),
            ghost=self.scene.ghost(),
        )
