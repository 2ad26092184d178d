"""Samplers, numbers of steps and scales of the noise for one checkpoint, compared in pairs: what to deploy.

Every choice plays the same episodes, from the same starts and with the same draws of noise. Its return is compared,
episode by episode, with that of the sampler of the training; beside it stand the distance of its actions to those of
that sampler and the time of an action in each backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowrl.contracts.errors import CheckpointError, MissingDependency, UsageError
from flowrl.deployment.serving import DeployedPolicy
from flowrl.envs import factory, saved_state
from flowrl.envs.adapter import Adapter
from flowrl.evaluation import episodes, pareto, statistics
from flowrl.evaluation.episodes import Evaluation
from flowrl.evaluation.latency import Effort, Timing, race
from flowrl.evaluation.machine import LoadMonitor, Verdict, machine
from flowrl.experiments import build, deployable, evaluate, fewer_evaluations, latency_report, sampler_choice, serve
from flowrl.experiments.compared_samplers import Compared, SamplerComparison
from flowrl.experiments.evaluate import SLOTS, EvalRequest, LoadedCheckpoint
from flowrl.flow import sampler_faults

EPISODES = 256  # by default: four rounds of the environments that play together
SCALES = "1,0.5,0"
GENERAL = ("euler:1", "euler:2", "euler:4", "ab2:2", "ab2:4", "midpoint:1", "midpoint:2")  # up to four evaluations
FITTED = "fitted-*.yaml"  # beside the checkpoint
EFFORT = Effort(enough=5000, seconds=0.5, least=200)
Progress = Callable[[str, float, float], None]  # (what is done, how much of it, of how much)


def requests(
    opened: LoadedCheckpoint, asked: EvalRequest, steps: list[int] | None, report: Callable[[str], None]
) -> list[EvalRequest]:
    """Return the choices to compare, the sampler and the noise of the training first.

    `asked` may name lists of samplers and scales; without them general samplers of up to four evaluations, the fitted
    ones beside the checkpoint, and the scales 0, 0.5 and 1 are compared. Raises UsageError for what does not fit;
    samplers that are compared unasked and do not fit are reported.
    """
    _refuse(asked)
    trained = replace(asked, sampler=None, steps=None, noise=None, noise_scale=None)
    scales = asked if asked.noise_scale or asked.noise else replace(asked, noise_scale=SCALES)
    found = [trained, *replace(scales, sampler=None).each(None)]
    if not build.kind_of(opened.config).uses_sampler:
        return found
    if asked.sampler is not None or steps is not None:
        return [*found, *scales.each(steps)]
    names = [*GENERAL, *map(str, sorted(opened.path.parent.glob(FITTED)))]
    for name in names:
        try:
            evaluate.configured(opened, next(replace(trained, sampler=name).each(None)))
        except (UsageError, MissingDependency) as error:
            report(f"left out {name}: {error}")
        else:
            found += replace(scales, sampler=name).each(None)
    return found


def _refuse(asked: EvalRequest) -> None:
    """Raise UsageError for options that would act on every choice alike, the sampler of the training included."""
    if asked.steps is not None:
        raise UsageError(
            f"--steps {asked.steps} does not go with --sweep: name choices, as in --sampler euler:4,ab2:4."
        )
    if asked.perturbed:
        raise UsageError("--perturbed does not go with --sweep, which compares what is deployed. Leave it out.")
    for text in asked.overrides:
        if text.partition("=")[0].strip().split(".")[0] in ("sampler", "noise", "noise_scale"):
            raise UsageError(f"--set {text} does not go with --sweep: use --sampler, --noise and --noise-scale.")


def compare(
    opened: LoadedCheckpoint, choices: Sequence[EvalRequest], count: int, progress: Progress
) -> SamplerComparison:
    """Play `count` episodes with each of the `choices`, of which the first is the reference, and time their actions.

    Choices that come to the same are compared once. Raises UsageError when a name, an option or an environment does
    not fit.
    """
    loaded = {request: evaluate.load(opened, request) for request in choices}
    same: dict[tuple[Any, ...], EvalRequest] = {}
    for request in choices:
        config, facts = loaded[request].config, evaluate.facts(loaded[request])
        same.setdefault((config.sampler.model_dump_json(), facts["noise"], facts["noise_scale"]), request)
    distinct = list(same.values())
    samplers = list({_sampler(request): request for request in distinct}.values())
    errors = _endpoint_errors(opened, {request: loaded[request] for request in samplers}, progress)
    latencies, verdict = _latencies(opened, samplers, progress)
    played: list[tuple[Evaluation, dict[str, Any]]] = []
    env = factory.make(loaded[distinct[0]].config.env, count=min(SLOTS, count), evaluation=True)
    try:
        evaluate.check_sizes(loaded[distinct[0]], env)
        for number, request in enumerate(distinct):
            what = f"{number + 1} of {len(distinct)}: {request.title or 'as trained'}"
            played.append(_play(opened, request, env, count, lambda done, what=what: progress(what, done, count)))  # type: ignore[misc]
    finally:
        env.close()
    reference = played[0][0].returns
    rows = []
    for request, (evaluation, known) in zip(distinct, played, strict=True):
        key = _sampler(request)
        rows.append(_row(request, evaluation, reference, known, errors.get(key), latencies[key]))
    conditions = asdict(verdict) | {"machine": asdict(machine())}
    found = SamplerComparison(rows, count, distinct[0].seed, str(opened.path), opened.digest, conditions)
    front = pareto.front([row.us(found.backend) for row in rows], [row.return_mean for row in rows])
    marked = [replace(row, pareto=bool(mark)) for row, mark in zip(rows, front, strict=True)]
    return replace(found, rows=marked)


def _sampler(request: EvalRequest) -> tuple[str | None, int | None]:
    return request.sampler, request.steps


def _play(
    opened: LoadedCheckpoint, request: EvalRequest, env: Adapter, count: int, progress: Callable[[float], None]
) -> tuple[Evaluation, dict[str, Any]]:
    """Play `count` episodes, as many at a time as there are environments, each with a start and draws of its own.

    A second episode in an environment would begin when the first has ended, which differs between the choices. Also
    returns how the policy generates actions (`evaluate.facts`), with the mean over the rounds as its evaluations.
    """
    rounds, known, evaluations = [], {}, list[float | None]()
    for begun in range(0, count, env.count):
        seed = request.seed + begun // env.count
        loaded = evaluate.load(opened, replace(request, seed=seed))
        if loaded.policy.noise.mode == "fixed":  # one draw in all rounds, as in a deployment
            loaded = evaluate.load(opened, request)
        opened.notify(factory.carry_over(env, saved_state.of_run(opened.content), opened.config.env))
        rounds.append(
            episodes.evaluate(
                loaded.policy,
                env,
                episodes=min(env.count, count - begun),
                seed=seed,
                progress=lambda ended, _, begun=begun: progress(begun + ended),  # type: ignore[misc]
            )
        )
        known = evaluate.facts(loaded)
        evaluations.append(known["nfe"])
    return Evaluation.joined(rounds), known | {"nfe": _mean(evaluations)}


def _mean(evaluations: Sequence[float | None]) -> float | None:
    """Return the mean of the numbers of evaluations in all rounds; None for a policy that has none."""
    known = [number for number in evaluations if number is not None]
    return math.fsum(known) / len(known) if known else None


def _row(
    request: EvalRequest,
    played: Evaluation,
    reference: NDArray[np.float64],
    facts: dict[str, Any],
    error: float | None,
    latency: dict[str, Timing],
) -> Compared:
    summary = episodes.summary(played, **facts)
    facts = {name: value for name, value in facts.items() if name != "perturbation"}
    difference = played.returns - reference
    return Compared(
        **facts,
        option=request.sampler and sampler_choice.text_of(request.sampler, request.steps),
        return_mean=summary["return_mean"],
        return_ci95=statistics.bootstrap(played.returns),
        difference=float(difference.mean()),
        difference_ci95=statistics.bootstrap(difference),
        success_rate=summary["success_rate"],
        endpoint_error=error,
        latency=latency,
    )


def _endpoint_errors(
    opened: LoadedCheckpoint, samplers: Mapping[EvalRequest, build.LoadedPolicy], progress: Progress
) -> dict[tuple[str | None, int | None], float]:
    """Return the distance of each sampler's actions to those of the training's, relative to their spread."""
    if not build.kind_of(opened.config).uses_sampler:
        return {}
    progress("playing for observations", 0, 1)
    first = next(iter(samplers))
    taught = fewer_evaluations.teacher(opened.path, "trained", "env", first.seed, "to compare samplers of", first)
    found = {}
    for number, (request, loaded) in enumerate(samplers.items()):
        progress("measuring endpoint errors", number, len(samplers))
        sampler = loaded.policy.sampler
        assert sampler is not None  # noqa: S101  a policy with a flow has one
        try:
            error = taught.row("", sampler).endpoint_error
        except BaseException as raised:  # of a third party's sampler
            raise sampler_faults.failure(request.sampler or "the training's", raised) from raised
        if math.isfinite(error):
            found[_sampler(request)] = error
    return found


def _latencies(
    opened: LoadedCheckpoint, samplers: Sequence[EvalRequest], progress: Progress
) -> tuple[dict[tuple[str | None, int | None], dict[str, Timing]], Verdict]:
    """Time one action of each sampler in each backend that is installed here, in turns, as in a control loop.

    Also returns whether the machine was quiet meanwhile. What a backend cannot compute, or not exactly, is left out.
    """
    calls: dict[tuple[tuple[str | None, int | None], str], Callable[[], object]] = {}
    for number, request in enumerate(samplers):
        progress("compiling", number, len(samplers))
        made = deployable.deployable(opened, request)
        for backend in latency_report.BACKENDS:
            try:
                computing = serve.backend_of(made, backend)
            except (UsageError, MissingDependency):  # steps that are not fixed; no compiler, no onnxruntime
                continue
            except CheckpointError as error:  # not exact here
                opened.notify(str(error))
                continue
            calls[_sampler(request), backend] = _call(computing, made)
    progress("timing actions", 0, 1)
    monitor = LoadMonitor()
    timings = race(list(calls.values()), EFFORT)
    verdict = monitor.verdict([timing.cpu_share for timing in timings])
    found: dict[tuple[str | None, int | None], dict[str, Timing]] = {_sampler(request): {} for request in samplers}
    for (sampler, backend), timing in zip(calls, timings, strict=True):
        found[sampler][backend] = timing
    return found, verdict


def _call(backend: Any, made: deployable.Deployable) -> Callable[[], object]:
    """Return a call that computes one action, with noise that is drawn, into an array."""
    act = DeployedPolicy(backend, made.loaded.observation_size, made.loaded.action_size)
    obs = np.zeros(made.loaded.observation_size, dtype=np.float32)
    out = np.zeros(made.loaded.action_size, dtype=np.float32)
    return lambda: act(obs, out=out)
