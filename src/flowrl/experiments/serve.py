"""`load`: a policy in a control loop, from an exported folder or from a checkpoint.

Torch is imported for a checkpoint only.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowrl.contracts.errors import CheckpointError, UsageError, did_you_mean
from flowrl.deployment import folder
from flowrl.deployment.serving import DeployedPolicy, OnBad

if TYPE_CHECKING:
    from flowrl.deployment.backends import Backend
    from flowrl.deployment.program import Program
    from flowrl.experiments.deployable import Deployable

CHECKED_ROWS = 64


def load(
    path: str | Path,
    *,
    sampler: str | None = None,
    noise: str | None = None,
    noise_scale: float | None = None,
    backend: str = "auto",
    seed: int | None = None,
    raw: bool = False,
    on_bad: OnBad = "raise",
) -> DeployedPolicy:
    """Load a policy for a control loop: `act = flowrl.load("runs/x")`, then `action = act(obs)`.

    Args:
        path: The folder that `flowrl export` wrote, which needs no torch; or a checkpoint or run folder.
        sampler: "euler:10", "heun" or "file.py:Class"; default: that of the training. An export has its own.
        noise: "random" (a draw for every action), "zero" or "fixed" (one draw); default: as trained or exported.
        noise_scale: Factor on the noise: 0 none, 1 as trained; default: that of the export or of the run's
            configuration; 1 for `noise` that is named.
        backend: "c" (compiled once, kept in ~/.cache/flowrl), "onnx", "torch" (checkpoints), or "auto": of an export
            the compiled C file if there is one here, else ONNX; of a checkpoint torch. Nothing is compiled unasked.
        seed: Seed of the noise; default: that of the export, or 0.
        raw: Whether squash, scale and bounds of the actions are left out (checkpoints; an export was made either way).
        on_bad: For what is not finite: "raise" FloatingPointError, or "hold" the last good action.

    Returns:
        A callable: observations (observation,) or (rows, observation) -> float32 actions (action,) or (rows, action),
        as the environment takes them.

    Raises:
        CheckpointError: The checkpoint or the export is damaged, foreign or missing.
        UsageError: An option does not fit; a sampler without fixed steps with the backends c and onnx.
        MissingDependency: There is no C compiler, or no onnxruntime.
    """
    if backend not in folder.BACKENDS:
        known = ", ".join(folder.BACKENDS)
        raise UsageError(f"backend={backend!r}: expected one of {known}.{did_you_mean(backend, folder.BACKENDS)}")
    if noise_scale is not None and not 0 <= noise_scale <= 1000:
        raise UsageError(f"noise_scale={noise_scale}: expected a number from 0 (no noise) to 1000; 1 is as trained.")
    if not isinstance(path, str | os.PathLike) or not str(path):
        raise UsageError(f"load({path!r}): expected the folder of an export, a checkpoint or a run folder.")
    path = Path(path)
    if folder.is_export(path):
        if sampler is not None or raw:
            raise UsageError(
                f"{path} is an export, whose sampler and whose kind of action are in its files. Leave sampler and raw "
                "out, or export the checkpoint with other ones."
            )
        return folder.load(path, noise=noise, noise_scale=noise_scale, backend=backend, seed=seed, on_bad=on_bad)
    if path.is_dir() and any((path / name).is_file() for name in ("policy.c", "policy.onnx")):
        raise CheckpointError(f"{path} has no {folder.DESCRIPTION}, which describes the other files of an export.")
    return _of_checkpoint(_deployable(path, sampler, raw, seed or 0), backend, noise, noise_scale, seed, on_bad)


def _of_checkpoint(
    made: Deployable, backend: str, noise: str | None, noise_scale: float | None, seed: int | None, on_bad: OnBad
) -> DeployedPolicy:
    """Return the policy of a checkpoint, computed by `backend`."""
    policy, config = made.loaded.policy, made.loaded.config
    name = config.sampler.name if policy.sampler is not None else None
    nfe = policy.nfe  # of an adaptive sampler 0 before the first action
    if noise_scale is None:
        noise_scale = config.noise_scale if noise is None else 1.0
    return DeployedPolicy(
        backend_of(made, backend),
        made.loaded.observation_size,
        made.loaded.action_size,
        noise=noise or config.noise,
        seed=seed or 0,
        noise_factor=noise_scale,
        on_bad=on_bad,
        nfe=nfe or None,
        sampler=name and ":".join(str(each) for each in (name, getattr(policy.sampler, "steps", None)) if each),
    )


def _deployable(path: Path, sampler: str | None, raw: bool, seed: int) -> Deployable:
    """Open the checkpoint `path` with the named sampler."""
    from flowrl.contracts import user_code
    from flowrl.experiments import deployable, evaluate, sampler_choice

    name, steps = (None, None) if sampler is None else sampler_choice.parse(sampler)
    if name is not None and user_code.is_code(name):
        user_code.name_code(name)
    opened = evaluate.open_checkpoint(path)
    request = opened.applicable(evaluate.EvalRequest(name, steps, seed=seed))
    return deployable.deployable(opened, request, raw=raw)


def backend_of(made: Deployable, backend: str) -> Backend:
    """Return what computes the actions of `made`: c, onnx, torch, or auto, which is torch.

    C and ONNX are compared with the referee on 64 observations. Raises UsageError for a sampler without fixed steps,
    MissingDependency, and CheckpointError where a backend is not exact.
    """
    import numpy as np

    from flowrl.deployment import backends, contract
    from flowrl.deployment.noise_choice import NoiseChoice

    if backend in ("auto", "torch"):
        return TorchBackend(made)
    program = made.program()
    found = unverified(program, backend)
    obs = contract.observations(program, CHECKED_ROWS, np.random.default_rng(contract.SEED))
    noise = contract.noise_rows(program, NoiseChoice(), None, CHECKED_ROWS)
    act = backends.actions_of(found, program.action_size, given=True)
    vectors = contract.vectors_of(program, made.act(), obs, noise)
    if not vectors.keeps(act(obs, noise)):
        raise CheckpointError(
            f"{made.opened.path}: the backend {backend} is not exact on this machine. Use backend='torch', and please "
            "report it with the checkpoint."
        )
    return found


def unverified(program: Program, backend: str) -> Backend:
    """Return `program` in c or onnx, which takes noise as an input; raises MissingDependency."""
    from flowrl.deployment import backends, c_compiler, c_source, onnx_model
    from flowrl.deployment.noise_choice import NoiseChoice

    choice = NoiseChoice()
    if backend == "c":
        source, header = c_source.source(program, choice), c_source.header(program, choice)
        return backends.CBackend(c_compiler.compiled(source, header), c_source.PREFIX)
    return backends.OnnxBackend(onnx_model.build(program, choice).SerializeToString())


class TorchBackend:
    """The policy itself, in torch."""

    name = "torch"

    def __init__(self, made: Deployable) -> None:
        self._act = made.act()

    def __call__(self, obs: Any, noise: Any, out: Any) -> bool:
        """Write the actions; see `flowrl.deployment.backends.Backend`."""
        from flowrl.deployment.backends import mark_bad

        out[...] = self._act(obs, noise)
        return mark_bad(obs, out)
