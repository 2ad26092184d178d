"""Fewer velocity evaluations per action for a trained flow: a fitted sampler, or a distilled network.

Both are compared with the sampler of the training and with the general samplers at the same cost.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from flowrl.config import fitted_file, named_code
from flowrl.config.fitted_file import FittedFile
from flowrl.contracts.errors import CheckpointError, UsageError
from flowrl.contracts.protocols import Act, Env, Sampler
from flowrl.deployment import distilling, endpoints, fitting
from flowrl.deployment.distilling import DistilEffort
from flowrl.deployment.endpoints import Examples, Integrate
from flowrl.envs import factory
from flowrl.evaluation.latency import evaluations, reference_endpoints
from flowrl.experiments import build, evaluate, sampler_choice
from flowrl.experiments.build import LoadedPolicy
from flowrl.experiments.evaluate import EvalRequest, LoadedCheckpoint
from flowrl.flow import last_step
from flowrl.networks.gaussian import GaussianActor
from flowrl.networks.mixture import MixtureActor
from flowrl.networks.velocity import FlowNetwork
from flowrl.samplers import registry
from flowrl.storage import checkpoint, files

Target = Literal["trained", "exact"]
Observations = Literal["env", "normal"]

ENVS, SNAPSHOTS, EVERY = 64, 40, 10  # environments that are played, and how often and when they are looked at
FAR = 0.1  # of the actions' spread: as far as Euler's method with few steps
HELD_OUT = 512  # observations that the result is measured on
EXACT = ("dopri5", {"rtol": 1e-7, "atol": 1e-7, "max_nfe": 100_000})
FIT, DISTIL = "to fit a sampler to", "to distil"
ONE_STEP = "An export of it computes all steps at once"
# What is done instead, by the kind of a base that is alone: nothing is gained by fitting or distilling it.
NOTHING_TO_GAIN: dict[str, dict[type, str]] = {
    FIT: {GaussianActor: ONE_STEP},
    DISTIL: {GaussianActor: ONE_STEP, MixtureActor: "`flowrl fit-sampler` makes its steps fewer"},
}
COMPARED = (("euler", 1), ("ab2", 1))  # (sampler, evaluations per step)
COLUMNS = ["actions by", "NFE", "endpoint error", "spread over noise"]


@dataclass(frozen=True)
class EndpointRow:
    """How a way to generate actions compares with the target."""

    name: str
    nfe: float  # velocity evaluations per action
    endpoint_error: float  # distance to the target's actions, relative to their spread
    noise_spread: float  # spread of the actions over the noise within an observation, relative to the target's


@dataclass(frozen=True)
class Teacher:
    """A trained flow, what its actions are, and the observations that it sees."""

    opened: LoadedCheckpoint
    loaded: LoadedPolicy
    field: FlowNetwork
    target: Integrate
    target_name: str  # 'euler:10', or 'exact'
    own_name: str  # of the sampler of the training
    seen: Tensor  # (rows, observation) normalised
    held_out: Examples

    @property
    def code(self) -> list[str]:
        """What a command line names so that the run's own code may be run."""
        return named_code.import_words(self.opened.config.model_dump(mode="json"), named_code.ACTING)

    @property
    def own(self) -> Sampler:
        """The sampler of the training."""
        sampler = self.loaded.policy.sampler
        assert sampler is not None  # noqa: S101  `teacher` refuses a policy without a flow
        return sampler

    def row(self, name: str, sampler: Sampler, field: FlowNetwork | None = None) -> EndpointRow:
        """Measure the actions of `sampler` on `field`, by default the trained one."""
        field = self.field if field is None else field
        integrate, found = endpoints.integrator(field, sampler), self.held_out
        nfe = evaluations(field, last_step.for_field(sampler, field), [(found.obs[:1], found.noise[:1])])
        spread, size = [
            endpoints.spread_over_noise(found.obs, found.noise.shape[1], each, self.loaded.config.seed)
            for each in (integrate, self.target)
        ]
        return EndpointRow(name, nfe, endpoints.error(found, integrate), spread / size if size else 1.0)

    def compared(self, nfe: int) -> Iterator[EndpointRow]:
        """Measure the sampler of the training, and the general ones with `nfe` evaluations."""
        yield self.row(f"{self.own_name} (training)", self.own)
        for name, per_step in COMPARED:
            if nfe % per_step == 0:
                yield self.row(f"{name}:{nfe}", registry.make(name, {"steps": nfe}))


def teacher(
    path: Path, target: Target, observations: Observations, seed: int, what: str, asked: EvalRequest | None = None
) -> Teacher:
    """Open the checkpoint at `path` and collect what its policy sees and does, on the CPU.

    `asked` may change its environment. Raises UsageError for a policy without a flow, or to a base alone, where nothing
    can be gained (`what`).
    """
    asked = asked or EvalRequest()
    opened = evaluate.open_checkpoint(path)
    kind = opened.config.policy.kind
    keys = named_code.ACTING if observations == "env" else (build.SAMPLER,)  # else no environment is made
    changes = (*asked.overrides, "device=cpu")
    loaded = evaluate.load(opened, EvalRequest(noise="random", seed=seed, overrides=changes, env=asked.env), keys)
    field, own = loaded.policy.field, loaded.policy.sampler
    if isinstance(field, FlowNetwork):
        _refuse_alone(opened.path, field, what)
    if not isinstance(field, FlowNetwork) or own is None:
        raise UsageError(
            f"{opened.path} holds a {kind} policy, which computes its action in one evaluation of its network: there "
            f"is no flow {what}. Name a checkpoint of fpo or fpo++."
        )
    obs = _observed(loaded, seed) if observations == "env" else _drawn(loaded, seed)
    obs = obs[torch.randperm(len(obs), generator=torch.Generator().manual_seed(seed))]
    held_out, seen = obs[: min(HELD_OUT, len(obs) // 4)], obs[min(HELD_OUT, len(obs) // 4) :]
    integrate = endpoints.integrator(field, own) if target == "trained" else _exact(field)
    steps = getattr(own, "steps", None)
    own_name = sampler_choice.text_of(loaded.config.sampler.name, steps)
    found = endpoints.examples(held_out, field.action_size, integrate, seed + 1)
    name = own_name if target == "trained" else "exact"
    return Teacher(opened, loaded, field, integrate, name, own_name, seen, found)


def _refuse_alone(path: Path, field: FlowNetwork, what: str) -> None:
    """Raise UsageError for a flow to a base alone from which nothing can be gained in this way."""
    kind = type(field.base)
    if field.is_base_alone and kind in NOTHING_TO_GAIN.get(what, {}):
        raise UsageError(
            f"{path} holds a flow of policy.base: {field.settings.base} alone, whose network is evaluated once per "
            f"action: there is nothing {what}. {NOTHING_TO_GAIN[what][kind]}, or train one with base: none."
        )


def _exact(field: FlowNetwork) -> Integrate:
    reference = last_step.for_field(registry.make(*EXACT), field)
    return lambda obs, noise: reference_endpoints(field, obs, noise, reference).to(noise.dtype)


def _drawn(loaded: LoadedPolicy, seed: int) -> Tensor:
    """Draw normalised observations from N(0, 1), (rows, observation): what a normaliser makes of them on average."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(ENVS * SNAPSHOTS, loaded.observation_size, generator=random)


def _observed(loaded: LoadedPolicy, seed: int) -> Tensor:
    """Play the environment and return normalised observations (rows, observation)."""
    env = factory.make(loaded.config.env, count=ENVS, evaluation=True)
    try:
        evaluate.check_sizes(loaded, env)
        return loaded.policy.normaliser(collected(loaded.policy, env, seed))
    finally:
        env.close()


@torch.no_grad()
def collected(act: Act, env: Env, seed: int) -> Tensor:
    """Return the observations (rows, observation) of every `EVERY`th step, `SNAPSHOTS` times."""
    obs, found = env.reset(seed), []
    for step in range(SNAPSHOTS * EVERY):
        if step % EVERY == 0:
            found.append(obs.float())
        obs = env.step(act(obs)).obs
    return torch.cat(found)


# ------------------------------------------------------------------------------------------------ results


@dataclass(frozen=True)
class FewerResult:
    """A file that was written, and how its actions compare."""

    file: str
    nfe: int
    target: str
    rows: list[EndpointRow]  # of the result first
    own: str  # the sampler of the training
    own_nfe: float
    code: list[str]  # what a command line names so that the run's own code may be run
    can_be_distilled: bool

    def document(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """Say what the result gains and loses."""
        result, _, *others = self.rows
        nearest = min(others, key=lambda row: row.endpoint_error)
        advice = ""
        if result.endpoint_error > FAR:
            other = ", or distil the policy (flowrl distil)" if self.can_be_distilled else ""
            advice = f" That is far: take more evaluations{other}."
        plural = "s" if self.nfe > 1 else ""
        return (
            f"{result.name} takes {self.nfe} evaluation{plural} per action instead of {self.own_nfe:g} and ends "
            f"{result.endpoint_error:.1%} of the actions' spread away from those of {self.target}; {nearest.name} ends "
            f"{nearest.endpoint_error:.1%} away. It keeps {result.noise_spread:.0%} of their spread over the noise, "
            f"{nearest.name} {nearest.noise_spread:.0%}. What that means for the return, only episodes show.{advice}"
        )


def fit_sampler(
    path: Path,
    nfe: int,
    target: Target,
    observations: Observations,
    out: Path | None,
    seed: int,
    progress: Callable[[str, float], None] = lambda text, share: None,
) -> FewerResult:
    """Fit a sampler with `nfe` evaluations to the flow of a checkpoint, and write its file.

    `progress` is called with what is done and the share of it. Raises UsageError for a policy without a flow,
    or with one from which nothing can be gained, StorageError for a file that cannot be written.
    """
    out = out or checkpoint.find(path).with_name(f"fitted-{nfe}.yaml")
    files.check_suffix(out, "--out", "fitted samplers", (".yaml", ".yml"))
    _check_replaceable(out, fitted_file.is_fitted, "the file of a fitted sampler")
    progress("collecting observations", 0.0)
    taught = teacher(path, target, observations, seed, FIT)
    found = endpoints.examples(taught.seen, taught.field.action_size, taught.target, seed)
    numbers = fitting.fit(
        taught.field,
        found,
        nfe,
        seed=seed,
        progress=lambda done, of: progress(f"fitting to {taught.target_name}", done / of),
    )
    plain = {"times": list(numbers.times), "weights": [list(row) for row in numbers.weights]}
    row = taught.row(out.stem, registry.make(fitted_file.NAME, plain))
    content = FittedFile(
        flowrl="fitted",
        nfe=nfe,
        times=numbers.times,
        weights=numbers.weights,
        target=taught.target_name,
        of=taught.opened.digest,
        endpoint_error=round(row.endpoint_error, 6),
    )
    files.write_text(out, fitted_file.text(content))
    return _result(out, nfe, taught, row)


def distil(
    path: Path,
    nfe: int,
    target: Target,
    observations: Observations,
    effort: DistilEffort,
    out: Path | None,
    seed: int,
    progress: Callable[[str, float], None] = lambda text, share: None,
) -> FewerResult:
    """Distil the network of a checkpoint so that `nfe` Euler steps do, and write a checkpoint with it.

    The checkpoint acts with Euler's method in `nfe` steps and can be evaluated, exported and begun from, but not
    resumed. `progress` is called with what is done and the share of it. Raises UsageError for a policy without a flow,
    or with one from which nothing can be gained, StorageError for a file that cannot be written.
    """
    out = out or checkpoint.find(path).with_name(f"distilled-{nfe}.pt")
    files.check_suffix(out, "--out", "checkpoints", (".pt",))
    if out.name in (checkpoint.LATEST, checkpoint.BEST):
        other = out.with_name(f"distilled-{nfe}.pt")
        raise UsageError(
            f"--out {out}: a run keeps its own checkpoint under that name. Choose another, such as {other}."
        )
    _check_replaceable(out, _is_distilled, "a distilled checkpoint")
    progress("collecting observations", 0.0)
    taught = teacher(path, target, observations, seed, DISTIL)
    opened = taught.opened
    euler = registry.make("euler", {"steps": nfe})
    student = distilling.distil(
        taught.field,
        taught.seen,
        taught.target,
        euler,
        seed=seed,
        effort=effort,
        progress=lambda share: progress(f"distilling {taught.target_name}", share),
    )
    row = taught.row(f"distilled {nfe}", euler, student)
    checkpoint.save(out, _with_network(opened, student, nfe, taught.target_name))
    return _result(out, nfe, taught, row)


def _result(out: Path, nfe: int, taught: Teacher, row: EndpointRow) -> FewerResult:
    rows = [row, *taught.compared(nfe)]
    can_be_distilled = not taught.field.is_base_alone
    return FewerResult(
        str(out), nfe, taught.target_name, rows, taught.own_name, rows[1].nfe, taught.code, can_be_distilled
    )


def _check_replaceable(out: Path, is_own: Callable[[Path], bool], what: str) -> None:
    """Check that `out` can be written, and holds nothing yet or `what` such a command writes, as `is_own` says.

    Raises StorageError, and UsageError for a file of another kind, which stays.
    """
    files.check(out)
    if out.is_file() and not is_own(out):
        free = out.with_name(f"{out.stem}-new{out.suffix}")
        raise UsageError(
            f"--out {out}: there is a file already, and it is not {what}, so it is not overwritten. Choose another "
            f"name, such as --out {shlex.quote(str(free))}, or move the file away first."
        )


def _is_distilled(path: Path) -> bool:
    """Return whether the file at `path` is a checkpoint that `distil` has written."""
    with suppress(CheckpointError):
        return checkpoint.load(path).get("distilled") is not None
    return False


def _with_network(opened: LoadedCheckpoint, student: FlowNetwork, nfe: int, target: str) -> dict[str, Any]:
    """Return the content of the checkpoint with the distilled network in the place of its own."""
    weights = student.state_dict()
    content = opened.content
    sampler = {"sampler": {"name": "euler", "steps": nfe}}
    return {
        **content,
        "config": content["config"] | sampler,
        "actor": weights,
        "average": None if content["average"] is None else {name: value.clone() for name, value in weights.items()},
        "distilled": {"of": opened.digest, "nfe": nfe, "target": target},
    }
