"""What the ratio of a policy measures: one real update of a checkpoint, beside the exact likelihoods of its actions."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowrl import __version__
from flowrl.config import named_code
from flowrl.contracts.errors import UsageError
from flowrl.experiments import evaluate
from flowrl.experiments.build import Run, kind_of
from flowrl.experiments.evaluate import LoadedCheckpoint
from flowrl.flow.density import log_density
from flowrl.flow.inversion import map_density
from flowrl.flow.matching import LossSettings, ProbeSettings, Reduction, Weighting, cfm_loss, draw_probes
from flowrl.networks import gaussian
from flowrl.networks.gaussian import GaussianActor
from flowrl.networks.velocity import FlowNetwork
from flowrl.samplers import registry

MOST_NUMBERS = 8  # of an action: a Jacobian costs a pass for each
CONTINUOUS_STEPS = 40
LIMIT = ProbeSettings(count=256, law="stratified", antithetic="pair")  # nearly without noise
ODDS = 4.0  # of the ELBO: its integral is cut off there
ROWS = 64  # of actions whose 256 probes are computed at once
REPETITIONS = 8
LEAST_ACTIONS = 16
LEAST_RATE = 0.05  # of the initial rate: at the end of a linear schedule nothing would move
LAWS: dict[str, dict[str, Any]] = {
    "uniform": {"law": "uniform"},
    "stratified": {"law": "stratified"},
    "stratified, pairs": {"law": "stratified", "antithetic": "pair"},
    "stratified, mirrored": {"law": "stratified", "antithetic": "mirrored"},
}
WEIGHTINGS: tuple[str, ...] = ("u", "eps", "data", "elbo")
NOISE_WEIGHTINGS: tuple[Weighting, ...] = ("u", "eps")  # whose noise is measured: flowrl's default and the paper's


@dataclass(frozen=True)
class RatioRow:
    """A log-ratio over the actions of one update."""

    name: str
    std: float  # nats
    correlation: float | None  # with the exact log-ratio; None for that itself
    slope: float | None  # of its regression on the exact one
    with_advantage: float | None  # correlation
    along_advantage: float | None  # std · correlation: how far the update moved it along the advantage


@dataclass(frozen=True)
class NoiseRow:
    """The noise of a CFM log-ratio with a number of probes."""

    weighting: str
    probes: int
    law: str
    noise: float  # std of the estimate about its own limit, nats
    correlation: float | None  # with the exact log-ratio


@dataclass(frozen=True)
class RatioStudy:
    """The result for one checkpoint."""

    checkpoint: str
    algorithm: str
    env_steps: int
    actions: int  # whose likelihoods were computed
    dropped: int  # of them, whose map could not be inverted
    kl: float  # var / 2 of the exact log-ratio
    gap: float | None  # std of the ELBO's log-ratio minus the exact one, in stds of the exact one
    rows: list[RatioRow]
    noise: list[NoiseRow]
    notes: list[str]
    points: list[tuple[float, float]]  # (exact, u) log-ratios of the first actions, for the figure
    code: list[str]  # what a command line names so that the run's own code may be run

    def document(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {"flowrl": __version__} | asdict(self)


def study(
    path: Path,
    *,
    updates: int,
    actions: int,
    probes: Sequence[int],
    weightings: Sequence[str],
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> RatioStudy:
    """Continue the checkpoint at `path` for `updates` updates and compare the policies before and after the last.

    Nothing is written. Raises UsageError for a policy whose likelihood cannot be computed: of more than 8 numbers, or
    of a network that predicts the action.
    """
    opened = evaluate.open_checkpoint(path)
    _refuse(opened)
    notes: list[str] = []
    progress("playing and updating")
    before, after, sample = _updated(opened, updates, actions, seed, notes)
    exact = _exact(opened, before, after, sample, notes)
    good = exact.isfinite()
    dropped = int((~good).sum())
    if int(good.sum()) < LEAST_ACTIONS:
        raise UsageError(
            f"{opened.path}: the map of its sampler could be inverted at {int(good.sum())} of {len(good)} actions, too "
            "few to say anything. Take a checkpoint from earlier in the training."
        )
    exact, sample = exact[good], {name: value[good] for name, value in sample.items()}
    rows, noise, gap = [_row("exact", exact, None, sample["advantage"])], list[NoiseRow](), None
    points: list[tuple[float, float]] = []
    if isinstance(before, FlowNetwork) and isinstance(after, FlowNetwork):
        fields = before, after
        rows.append(_row("continuous flow", _continuous(fields, sample), exact, sample["advantage"]))
        limits: dict[str, Tensor] = {}
        for weighting in weightings:
            progress(f"CFM losses, weighting {weighting}")
            limits[weighting] = _limit(fields, sample, weighting, seed)
            name = f"elbo, log-odds < {ODDS:g}" if weighting == "elbo" else f"CFM, weighting {weighting}"
            rows.append(_row(name, limits[weighting], exact, sample["advantage"]))
            if weighting == "u" and before.base is not None:
                by_std = _limit(fields, sample, "u", seed, "by_std")
                rows.append(_row("CFM, by_std", by_std, exact, sample["advantage"]))
        if "elbo" in limits:
            gap = float((limits["elbo"] - exact).std() / exact.std()) if float(exact.std()) else None
        for weighting in NOISE_WEIGHTINGS:
            if weighting in limits:
                noise += _noise(fields, sample, weighting, limits[weighting], exact, probes, seed, progress)
        if "u" in limits:
            points = list(zip(exact[:400].tolist(), limits["u"][:400].tolist(), strict=True))
    return RatioStudy(
        str(opened.path), opened.config.algorithm, opened.content["progress"]["env_steps"], len(exact), dropped,
        float(exact.var() / 2), gap, rows, noise, notes, points,
        named_code.import_words(opened.config.model_dump(mode="json")),
    )  # fmt: skip


def _refuse(opened: LoadedCheckpoint) -> None:
    """Raise UsageError for a policy whose likelihood cannot be computed."""
    policy, size = opened.config.policy, opened.content["sizes"]["action"]
    if kind_of(opened.config).uses_sampler and size > MOST_NUMBERS:
        raise UsageError(
            f"{opened.path}: its actions have {size} numbers, and the exact likelihood of a flow is computed for at "
            f"most {MOST_NUMBERS}: a Jacobian costs a pass through the network for each. Choose a task with fewer."
        )
    if getattr(policy, "parameterisation", "") == "data":
        raise UsageError(
            f"{opened.path}: its network predicts the action (parameterisation: data), so the last step of a sampler "
            "forgets the point it came from, and the map from noise to action has no useful likelihood. Choose a run "
            "with parameterisation u or eps."
        )


# ----------------------------------------------------------------------------------------------- update

Sample = dict[str, Tensor]  # obs (normalised), action, end, advantage: rows of one update, float64
Fields = tuple[FlowNetwork, FlowNetwork]  # before and after the update


def _updated(
    opened: LoadedCheckpoint, updates: int, count: int, seed: int, notes: list[str]
) -> tuple[Any, Any, Sample]:
    """Return the actor before and after the last of `updates` updates, in float64, and a sample of its actions."""
    called = opened.config.learner.model_copy(update={"graph": False})
    run = Run(opened.config.model_copy(update={"device": "cpu", "learner": called}))
    try:
        if reason := run.restore(opened.content):
            notes.append(f"the run does not continue bit for bit: {reason}")
        learner, training = run.training.learner, run.training
        flow = isinstance(learner.actor, FlowNetwork)
        if flow:
            for collector in training.collectors:
                collector.act.keep = ("noise", "end")  # type: ignore[attr-defined]  # of a flow policy
        for _ in range(updates):
            if learner.schedule.factor < LEAST_RATE:
                learner.schedule.factor = LEAST_RATE
                learner.refresh_rates()
                ended = f"its schedule has ended: the update has {LEAST_RATE:.0%} of the initial learning rate"
                notes += [] if ended in notes else [ended]
            before = copy.deepcopy(learner.actor)
            rollouts = training.collect()
            batch = copy.deepcopy(learner).batch(*rollouts)
            learner.update(*rollouts)
    finally:
        run.close()
    rows = torch.randperm(len(batch.obs), generator=torch.Generator().manual_seed(seed))[:count]
    end = rollouts[0].generation["end"].flatten(0, 1) if flow else batch.actions
    found = {"obs": batch.obs, "action": batch.actions, "end": end, "advantage": batch.advantages}
    if flow and opened.config.policy.perturbation:  # type: ignore[attr-defined]
        notes.append("likelihoods are those of the flow's ends, before the perturbation was added")
    actors = [actor.double().requires_grad_(False) for actor in (before, copy.deepcopy(learner.actor))]
    return actors[0], actors[1], {name: value[rows].double() for name, value in found.items()}


def _exact(opened: LoadedCheckpoint, before: Any, after: Any, sample: Sample, notes: list[str]) -> Tensor:
    """Return the exact log-ratios (rows,) of the policy that acts; nan where its map could not be inverted."""
    if isinstance(before, GaussianActor):
        densities = [gaussian.log_probability(sample["action"], *actor(sample["obs"])) for actor in (before, after)]
        return densities[1] - densities[0]
    sampler = opened.config.sampler
    steps = getattr(registry.make(sampler.name, sampler.options()), "steps", None)
    one_step = _one_step(sampler.name, sampler.options(), steps)
    if one_step is None or steps is None:
        notes.append(f"{sampler.name} is no method of single steps: exact is the likelihood of the continuous flow")
        return _continuous((before, after), sample)
    densities = []
    for field in (before, after):
        with torch.enable_grad():  # where a network is bound without its folded layers, which take no derivatives
            velocity = field.bind(sample["obs"])
        density, _, good = map_density(velocity, one_step, sample["end"], int(steps))
        densities.append(torch.where(good, density, math.nan))
    return densities[1] - densities[0]


def _one_step(name: str, options: dict[str, Any], steps: int | None) -> Any:
    """Return the sampler with a single step if `steps` of them are what it does with `steps`; else None."""
    if steps is None:
        return None
    try:
        one = registry.make(name, options | {"steps": 1})
    except UsageError:
        return None
    several = registry.make(name, options)
    x = torch.linspace(-1, 1, 5, dtype=torch.float64).unsqueeze(1)

    def velocity(x: Tensor, t: float | Tensor) -> Tensor:
        return torch.sin(3 * x + t)

    parts = x
    for number in range(steps):
        parts = one(velocity, parts, number / steps, (number + 1) / steps)
    return one if torch.allclose(parts, several(velocity, x, 0.0, 1.0), rtol=0, atol=1e-12) else None


def _continuous(fields: Fields, sample: Sample) -> Tensor:
    """Return the log-ratios (rows,) of the continuous flows."""
    return -_difference(fields, lambda field: log_density(field, sample["obs"], sample["end"], CONTINUOUS_STEPS))


def _difference(fields: Fields, measure: Callable[[FlowNetwork], Tensor]) -> Tensor:
    """Return measure(before) - measure(after)."""
    before, after = (measure(field).detach() for field in fields)
    return before - after


def _limit(fields: Fields, sample: Sample, weighting: str, seed: int, reduction: Reduction = "sum") -> Tensor:
    """Return the log-ratio (rows,) of CFM losses with so many probes that their noise does not matter."""
    elbo = weighting == "elbo"
    probes = ProbeSettings(count=256, law="log_odds", odds=ODDS, antithetic="pair") if elbo else LIMIT
    kind: Weighting = "eps" if elbo else weighting  # type: ignore[assignment]
    # ∫ t / (1 - t) |v - u|² dt = ∫ t² |v - u|² dλ over the log-odds λ, of which the law draws from ± ODDS
    factor = 2 * ODDS if elbo else 1.0
    loss = LossSettings(weighting=kind, reduction=reduction)
    draws = torch.Generator().manual_seed(seed + 1)
    parts = []
    for begun in range(0, len(sample["obs"]), ROWS):
        rows = slice(begun, begun + ROWS)
        parts.append(_estimate(fields, {name: value[rows] for name, value in sample.items()}, probes, loss, draws))
    return factor * torch.cat(parts)


def _estimate(
    fields: Fields, sample: Sample, probes: ProbeSettings, loss: LossSettings, draws: torch.Generator
) -> Tensor:
    """Return the mean over probes of old loss - new loss (rows,)."""
    obs, actions = sample["obs"], sample["action"]
    drawn = draw_probes(len(obs), actions.shape[1], probes, draws)
    exactly = type(drawn)(drawn.times.double(), drawn.noise.double())
    with torch.no_grad():
        inverse = fields[0].inverse_std(obs, actions) if loss.reduction == "by_std" else None
        return _difference(fields, lambda field: cfm_loss(field, obs, actions, exactly, loss, inverse).mean(dim=-1))


def _noise(
    fields: Fields, sample: Sample, weighting: Weighting, limit: Tensor, exact: Tensor, counts: Sequence[int],
    seed: int, progress: Callable[[str], None],
) -> list[NoiseRow]:  # fmt: skip
    """Measure the noise of a weighting's log-ratio for every number of probes and every law that takes it."""
    found = []
    draws = torch.Generator().manual_seed(seed + 2)
    loss = LossSettings(weighting=weighting, reduction="sum")
    for count in counts:
        progress(f"noise of {count} probes, weighting {weighting}")
        for name, options in LAWS.items():
            if "antithetic" in options and count % 2:
                continue
            probes = ProbeSettings(count=count, **options)
            estimates = [_estimate(fields, sample, probes, loss, draws) for _ in range(REPETITIONS)]
            error = torch.stack([(estimate - limit) for estimate in estimates]).square().mean().sqrt()
            correlations = [_correlation(estimate, exact) for estimate in estimates]
            known = [value for value in correlations if value is not None]
            found.append(NoiseRow(weighting, count, name, float(error), sum(known) / len(known) if known else None))
    return found


# ------------------------------------------------------------------------------------------ statistics


def _row(name: str, log_ratio: Tensor, exact: Tensor | None, advantage: Tensor) -> RatioRow:
    std = float(log_ratio.std())
    with_advantage = _correlation(log_ratio, advantage)
    slope = None
    if exact is not None and float(exact.var()) > 0:
        slope = float(((log_ratio - log_ratio.mean()) * (exact - exact.mean())).mean() / exact.var(correction=0))
    return RatioRow(
        name,
        std,
        None if exact is None else _correlation(log_ratio, exact),
        slope,
        with_advantage,
        None if with_advantage is None else std * with_advantage,
    )


def _correlation(x: Tensor, y: Tensor) -> float | None:
    """Return Pearson's correlation; None where one of them is constant."""
    if len(x) < 2 or float(x.std()) == 0 or float(y.std()) == 0:
        return None
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])
