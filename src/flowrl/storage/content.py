"""The schema of a checkpoint's content: every key, and its type, shape and range.

It is checked when a checkpoint is saved and when one is loaded, so that no other code has to expect anything else. Two
parts are checked by those who know more: `config` by the models of the configuration, `env.envs` by the environments.
"""

from __future__ import annotations

import math
import random
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from flowrl import __version__
from flowrl.contracts.printable import printable
from flowrl.storage.value_checks import OutOfRange, TensorCheck, described

FORMAT = 2
MOST_SHARDS = 1024
MOST_CONFIG_VALUES = 20_000  # as many as a recipe may have
TWISTER_WORDS = 624  # of NumPy's MT19937
EXPECTED = {  # pydantic's name of an error -> what is expected, in the words of the other messages
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "dict_type": "a dict",
    "model_type": "a dict",
    "list_type": "a list",
    "is_instance_of": "a tensor",
}
RANGES = {"finite_number", "greater_than_equal", "less_than_equal"}  # pydantic's names of errors

LARGEST_LOADED = {
    **{f"progress.{name}": 2**61 for name in ("iteration", "env_steps", "window_episodes", "episodes")},
    **dict.fromkeys(("schedule.updates", "metrics_offset"), 2**61),
    "progress.seconds": 1e11,
    **dict.fromkeys(("progress.window_return", "progress.best_return"), 1e300),
    "normaliser.count": 2**61,
    "normaliser.mean": 1e39,  # of float32 numbers
    "normaliser.sum_of_squares": 1e200,
}
"""The largest magnitude of what grows while a run continues: so much below the limits that no run can reach those."""

LARGEST_OF_SHARD = {
    **dict.fromkeys(("episodes.ended", "episodes.lengths", "env.steps"), 2**61),
    "episodes.returns": 1e300,
}
"""The same of every shard."""


def _generator_state(value: Tensor) -> Tensor:
    if value.dtype == torch.uint8 and value.shape == (GPU_STATE,):
        return value
    try:
        torch.Generator().set_state(value)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{described(value)} is not the state of a random generator of torch") from error
    return value


def _python_state(value: object) -> object:
    try:
        random.Random().setstate(value)  # type: ignore[arg-type]  # noqa: S311
    except Exception as error:  # what it raises depends on the place in `value` that is wrong
        raise ValueError("it is not the state of Python's random generator") from error
    return value


def _config(value: dict[str, Any]) -> dict[str, Any]:
    waiting: list[object] = [value]
    for number, each in enumerate(waiting):  # which grows meanwhile
        if number == MOST_CONFIG_VALUES:
            raise ValueError(f"it has more than {MOST_CONFIG_VALUES:,} values")
        if isinstance(each, Tensor):
            raise ValueError(f"it holds {described(each)}; a configuration has plain values only")
        if isinstance(each, dict | list | tuple):
            waiting.extend(each.values() if isinstance(each, dict) else each)
    return value


GPU_STATE = 16  # bytes of the state of a GPU's generator: seed and offset
Weights = Annotated[Tensor, AfterValidator(TensorCheck(finite=True))]
Moments = Annotated[Tensor, AfterValidator(TensorCheck(finite=True))]
SquaredMoments = Annotated[Tensor, AfterValidator(TensorCheck(least=0))]  # may overflow to infinity
Statistics = Annotated[Tensor, AfterValidator(TensorCheck(torch.float64, 1, finite=True))]
Squares = Annotated[Tensor, AfterValidator(TensorCheck(torch.float64, 1, finite=True, least=0))]
RowCounts = Annotated[Tensor, AfterValidator(TensorCheck(torch.int64, 1, least=0))]
RowFlags = Annotated[Tensor, AfterValidator(TensorCheck(torch.bool, 1))]
GeneratorState = Annotated[Tensor, AfterValidator(_generator_state)]
Natural = Annotated[int, Field(ge=0, le=2**62)]
Size = Annotated[int, Field(ge=1, le=2**31)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class ContentPart(BaseModel):
    """A part of the content: strict about types, and closed to unknown keys."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)


class SavedSizes(ContentPart):
    """Numbers of an observation and of an action."""

    observation: Size
    action: Size


class SavedProgress(ContentPart):
    """Counters of the run, and its best return."""

    iteration: Natural
    env_steps: Natural
    seconds: Annotated[float, Field(ge=0, le=1e12)]
    best_return: float
    window_return: Finite
    window_episodes: Natural
    episodes: Natural

    @model_validator(mode="after")
    def _best(self) -> SavedProgress:
        if math.isnan(self.best_return) or self.best_return == math.inf:
            raise OutOfRange(f"best_return is {self.best_return}: expected a number, or -inf before the first")
        return self


class SavedNormaliser(ContentPart):
    """Statistics of the observations; see `flowrl.networks.normaliser`."""

    count: Annotated[Tensor, AfterValidator(TensorCheck(torch.float64, 0, finite=True, least=0))]
    mean: Statistics
    sum_of_squares: Squares


class SavedMoments(ContentPart):
    """Adam's state of one parameter."""

    step: Annotated[Tensor, AfterValidator(TensorCheck(torch.float32, 0, finite=True, least=0))]
    exp_avg: Moments
    exp_avg_sq: SquaredMoments


class SavedOptimizer(ContentPart):
    """Adam's state, by the number of the parameter; the settings in `param_groups` are those of the configuration."""

    state: dict[Natural, SavedMoments]
    param_groups: Annotated[list[dict[str, Any]], Field(min_length=2, max_length=2)]


class SavedSchedule(ContentPart):
    """See `flowrl.training.schedule`."""

    updates: Natural
    factor: Annotated[float, Field(ge=0, le=1e9)]


class SavedEpisodes(ContentPart):
    """The running episodes, a row per environment; see `flowrl.training.rollout.Episodes`."""

    returns: Statistics
    lengths: RowCounts
    whole: RowFlags
    ended: Natural


class SavedEnv(ContentPart):
    """The state of the environments; see `flowrl.envs.adapter.Adapter.state`."""

    id: str
    count: Size
    seed: Natural | None
    steps: Natural
    obs: Annotated[Tensor, AfterValidator(TensorCheck(dims=2, finite=True))]
    envs: dict[str, Any] | list[Any] | None
    statistics: list[Any] | None = None  # of wrappers, where the rest of the state cannot be saved
    simulator: Literal["mujoco", "warp"] = "mujoco"  # the engine, where it is not MuJoCo


class SavedInterface(ContentPart):
    """How a raw action becomes one of the environment (`flowrl.envs.actions.ActionBounds`), and names for both."""

    squash: Literal["clip", "tanh"]
    precision: Literal["float32", "float64"]
    low: Statistics  # (action,); the largest number of the precision where there is no bound
    high: Statistics
    observation_parts: Annotated[dict[str, Size], Field(max_length=10_000)] = {}  # of one observation, in order
    action_names: Annotated[list[str], Field(max_length=100_000)] = []
    control_dt: Annotated[float, Field(gt=0, le=1e9)] | None = None  # seconds between two actions


class SavedTwister(ContentPart):
    """The state of NumPy's global generator."""

    key: Annotated[Tensor, AfterValidator(TensorCheck(torch.int64, 1, least=0))]
    pos: Annotated[int, Field(ge=0, le=TWISTER_WORDS)]
    has_gauss: Annotated[int, Field(ge=0, le=1)]
    gauss: Finite

    @model_validator(mode="after")
    def _words(self) -> SavedTwister:
        if len(self.key) != TWISTER_WORDS or (self.key >= 2**32).any():
            raise ValueError(f"key has {len(self.key)} numbers: expected {TWISTER_WORDS} of 32 bits")
        return self


class SavedRandom(ContentPart):
    """The state of every random generator; see `flowrl.storage.rng_state`."""

    python: Annotated[Any, BeforeValidator(_python_state)]
    numpy: SavedTwister
    torch: GeneratorState
    cuda: list[Annotated[Tensor, AfterValidator(TensorCheck(torch.uint8, 1))]]
    generators: dict[str, GeneratorState]


class SavedShard(ContentPart):
    """What a shard has of its own: environments, and random generators; see `flowrl.training.shards`."""

    generator: GeneratorState  # of minibatches and probes
    episodes: SavedEpisodes
    env: SavedEnv
    random: SavedRandom
    last_noise: Annotated[Tensor, AfterValidator(TensorCheck(torch.float32, 2))] | None = None  # NaN where it begins


class CheckpointContent(ContentPart):
    """Everything in a checkpoint."""

    format: int
    flowrl: Annotated[str, Field(max_length=200)]
    config: Annotated[dict[str, Any], AfterValidator(_config)]
    sizes: SavedSizes
    progress: SavedProgress
    actor: dict[str, Weights]
    critic: dict[str, Weights]
    average: dict[str, Weights] | None
    normaliser: SavedNormaliser
    optimizer: SavedOptimizer
    schedule: SavedSchedule
    advantage_scale: Annotated[float, Field(ge=0, le=3.5e38)]  # of float32 numbers
    shards: Annotated[list[SavedShard], Field(min_length=1, max_length=MOST_SHARDS)]
    metrics_offset: Natural
    platform: Annotated[dict[str, str | int | None], Field(max_length=50)] = {}  # what it was saved under
    interface: SavedInterface | None = None  # of the actions; None: saved before there was one
    code: Annotated[dict[str, Digest], Field(max_length=100)] = {}  # of the user's: SHA-256 of each file
    initial_weights: Annotated[dict[str, str | int | bool], Field(max_length=20)] | None = None  # of a warm start
    distilled: Annotated[dict[str, str | int], Field(max_length=20)] | None = None  # of a copy: from what, and how
    evaluation_weights: Literal["actor", "average"] = "average"  # `average` is `actor` where there is no average

    @model_validator(mode="after")
    def _parts_fit(self) -> CheckpointContent:
        size, action = self.sizes.observation, self.sizes.action
        self._check_shapes(
            ("normaliser.mean", self.normaliser.mean, (size,)),
            ("normaliser.sum_of_squares", self.normaliser.sum_of_squares, (size,)),
            *((f"interface.{side}", getattr(self.interface, side), (action,)) for side in self._sides()),
        )
        for number, shard in enumerate(self.shards):
            at, count = f"shards.{number}.", shard.env.count
            self._check_shapes(
                (f"{at}env.obs", shard.env.obs, (count, size)),
                (f"{at}episodes.returns", shard.episodes.returns, (count,)),
                (f"{at}episodes.lengths", shard.episodes.lengths, (count,)),
                (f"{at}episodes.whole", shard.episodes.whole, (count,)),
                *([] if shard.last_noise is None else [(f"{at}last_noise", shard.last_noise, (count, action))]),
                count=count,
            )
        return self

    def _check_shapes(self, *expected: tuple[str, Tensor, tuple[int, ...]], count: int = 0) -> None:
        for key, tensor, shape in expected:
            if tensor.shape != shape:
                environments = f"{count} environments (env.count), " if count else ""
                raise ValueError(
                    f"{key} has the shape {tuple(tensor.shape)}: expected {shape}, for {environments}"
                    f"{self.sizes.observation} numbers of an observation (sizes.observation) and {self.sizes.action} "
                    "of an action (sizes.action)"
                )

    def _sides(self) -> tuple[str, ...]:
        return () if self.interface is None else ("low", "high")


def check_loaded(content: dict[str, Any]) -> None:
    """Raise ValueError, as `check` does, unless a run can continue from `content` and be saved again."""
    check(content)
    _check_reached(content, LARGEST_LOADED)
    for number, shard in enumerate(content["shards"]):
        _check_reached(shard, LARGEST_OF_SHARD, f"shards.{number}.")


def _check_reached(content: dict[str, Any], limits: dict[str, float], at: str = "") -> None:
    for key, largest in limits.items():
        part, _, name = key.rpartition(".")
        value = content[part][name] if part else content[name]
        reached = value.abs().max().item() if isinstance(value, Tensor) else abs(value)
        if largest < reached < math.inf:  # the best return before the first is -inf
            raise ValueError(f"its key {at + key!r} reaches {reached:.4g}: expected {largest:.4g} at most")


def check(content: dict[str, Any]) -> None:
    """Raise ValueError, with the key, what it holds and what is expected, unless `content` fits the schema.

    It is an OutOfRange where a number is not finite or beyond its limits.
    """
    try:
        CheckpointContent.model_validate(content)
    except ValidationError as error:
        first, *others = error.errors(include_url=False)
        path = [str(step) for step in first["loc"] if step != "[key]"]
        while path and not _holds(content, path[:-1]):  # pydantic adds the names of types of a union
            path.pop()
        key, kind, value = ".".join(path)[:200], first["type"], first["input"]
        if kind == "missing":
            found = f"its key {key!r} is missing"
        elif kind == "extra_forbidden":
            found = f"its key {key!r} is not known to flowrl {__version__}"
        elif kind in ("value_error", "assertion_error"):
            found = f"its key {key!r}: {first['ctx']['error']}" if key else str(first["ctx"]["error"])
        else:
            expected = EXPECTED.get(kind, first["msg"].removeprefix("Input should be "))
            found = f"its key {key!r} is {described(value)}: expected {expected}"
        more = f", and {len(others)} more" if others else ""
        version = str(content.get("flowrl"))[:20]
        ranged = kind in RANGES or isinstance(first.get("ctx", {}).get("error"), OutOfRange)
        refusal = OutOfRange if ranged else ValueError
        raise refusal(f"{printable(found)}{more} (saved by flowrl {printable(version)})") from error


def _holds(content: Any, path: list[str]) -> bool:
    """Return whether there is a container at `path`."""
    for step in path:
        if isinstance(content, dict):
            content = content.get(step, content.get(int(step)) if step.isdecimal() else None)
        elif isinstance(content, list | tuple) and step.isdecimal() and int(step) < len(content):
            content = content[int(step)]
        else:
            return False
    return isinstance(content, dict | list | tuple)
