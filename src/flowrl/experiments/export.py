"""`flowrl export`: a policy as C, as ONNX and as a description, verified before a file is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flowrl.config import named_code
from flowrl.config.schema import Config
from flowrl.contracts.errors import MissingDependency, ThresholdMissed, UsageError, did_you_mean
from flowrl.deployment import (
    backends,
    c_compiler,
    c_source,
    contract,
    folder,
    noise_choice,
    onnx_model,
    readme,
    serving,
)
from flowrl.deployment.contract import Vectors, Verification
from flowrl.deployment.noise_choice import NoiseChoice
from flowrl.deployment.program import Program
from flowrl.experiments import deployable, evaluate, sampler_choice
from flowrl.experiments.deployable import Deployable, Numbers
from flowrl.experiments.export_facts import described, title
from flowrl.policies.noise import Noise
from flowrl.storage import files

FORMATS = ("c", "onnx")
README = "README.md"
C_FILES = (c_source.SOURCE, c_source.HEADER, c_source.TEST, c_source.MAKEFILE)
FILES = (*C_FILES, onnx_model.FILE, README, folder.DESCRIPTION)
NOISE_OF_RUN = {"random": "input", "zero": "zero", "fixed": "fixed:0"}
TEST_ROWS = 64
TIMED_CALLS = 5000
COARSE = 0.01  # standard deviations: the step of float32 from which on a number is coarse


@dataclass(frozen=True)
class ExportRequest:
    """The options of an export; None means that of the training, or what is installed."""

    formats: tuple[str, ...] | None = None
    sampler: str | None = None
    steps: int | None = None
    noise: str | None = None
    raw: bool = False
    name: str = c_source.PREFIX
    verify: bool = True
    overrides: tuple[str, ...] = ()
    noise_scale: float | None = None


@dataclass
class Export:
    """An export before it is written."""

    document: dict[str, Any]
    texts: dict[str, str | bytes] = field(default_factory=dict)  # file name -> content
    verification: Verification | None = None
    notes: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)  # what an evaluation names so that the run's own code may be run


def export(path: Path, request: ExportRequest, out: Path) -> Export:
    """Export the policy of the checkpoint `path` to the folder `out`, which gets no file unless the contract is kept.

    Raises ThresholdMissed for an export that is not exact, UsageError for a sampler without fixed steps, a format or a
    noise that does not exist, MissingDependency without a compiler or onnx, CheckpointError and StorageError.
    """
    formats = _formats(request)
    c_source.check_prefix(request.name)
    files.check(out / folder.DESCRIPTION, "--out")
    folder.replaceable(out, FILES)
    opened = evaluate.open_checkpoint(path)
    made = deployable.deployable(opened, _evaluated(opened, request), raw=request.raw)
    choice = _noise(request, made.loaded.config)
    made = Deployable(made.opened, made.loaded, made.interface, made.bound, choice.scale)
    program = made.program()
    fixed = _fixed(made, choice)
    ordinary, extreme = contract.vectors(program, made.act(), choice, fixed)
    code = named_code.import_words(opened.config.model_dump(mode="json"), named_code.ACTING)
    export = Export(described(made, program, choice), notes=_notes(program), code=code)
    built = _c(export, made, program, choice, fixed, ordinary, request) if "c" in formats else {}
    model = onnx_model.build(program, choice, fixed) if "onnx" in formats else None
    if model is not None and request.verify:
        built |= _onnx_runs(program, choice, fixed)
    if request.verify:
        export.verification = contract.verify(ordinary, extreme, built)
        _refuse_inexact(export.verification)
    _finish(export, model, request)
    _write(export, out)
    return export


def _noise(request: ExportRequest, config: Config) -> NoiseChoice:
    """Return the requested noise, or that of `config`; a mode that is named alone has its full scale.

    Raises UsageError for a scale of noise that has none.
    """
    if (given := request.noise_scale) is not None and not 0 <= given <= 1:
        raise UsageError(f"--noise-scale {given:g}: expected a number from 0 (zero noise) to 1 (as trained).")
    if given is not None and request.noise in ("zero", "half"):
        raise UsageError(f"--noise {request.noise} has its scale already: leave --noise-scale {given:g} out.")
    scale = (config.noise_scale if request.noise is None else 1.0) if given is None else given
    mode = request.noise or NOISE_OF_RUN[config.noise if given is None or config.noise == "fixed" else "random"]
    return noise_choice.parse("zero" if scale == 0 else mode, scale)


def _formats(request: ExportRequest) -> tuple[str, ...]:
    """Return the formats to write; raises UsageError for an unknown one, and MissingDependency for what it needs."""
    wanted = request.formats
    if wanted is None:
        try:
            onnx_model.needed()
            wanted = FORMATS
        except MissingDependency:
            wanted = ("c",)
    for name in wanted:
        if name not in FORMATS:
            raise UsageError(f"--format {name}: expected c, onnx or both.{did_you_mean(name, FORMATS)}")
    if "onnx" in wanted:
        onnx_model.needed()
    if "c" in wanted and request.verify:
        try:
            c_compiler.needed_compiler()
        except MissingDependency as error:
            raise MissingDependency(f"{error} Or write the C file without verifying it: --no-verify.") from error
    return wanted


def _evaluated(opened: evaluate.LoadedCheckpoint, request: ExportRequest) -> evaluate.EvalRequest:
    """Return the options as those of an evaluation."""
    if request.sampler is not None and "," in request.sampler:
        first = request.sampler.partition(",")[0]
        raise UsageError(f"--sampler {request.sampler}: an export has one sampler. Give one, as in --sampler {first}.")
    sampler, steps = (None, None) if request.sampler is None else sampler_choice.parse(request.sampler)
    if steps is not None and request.steps is not None:
        raise UsageError(f"--sampler {request.sampler} has its steps already: leave --steps {request.steps} out.")
    return opened.applicable(
        evaluate.EvalRequest(sampler, request.steps if steps is None else steps, overrides=request.overrides)
    )


def _notes(program: Program) -> list[str]:
    """Return a sentence on the numbers of an observation that float32, which an export reads, resolves too coarsely."""
    steps = np.abs(program.shift) * np.finfo(np.float32).eps * program.scale  # of float32, in standard deviations
    coarse = np.flatnonzero(steps > COARSE)
    if program.limit is None or not len(coarse):
        return []
    return [
        f"the numbers {coarse[:8].tolist()} of the observation vary by less than {1 / COARSE:.0f} steps of float32 "
        "around their means. An export reads float32: let the environment subtract a constant from them."
    ]


def _fixed(made: Deployable, choice: NoiseChoice) -> Numbers | None:
    """Return the draw (action,) of fixed noise: that of `flowrl eval --noise fixed --seed N`."""
    if choice.mode != "fixed":
        return None
    return Noise(made.loaded.action_size, "fixed", choice.seed)(1)[0].numpy()


def _c(
    export: Export,
    made: Deployable,
    program: Program,
    choice: NoiseChoice,
    fixed: Numbers | None,
    vectors: Vectors,
    request: ExportRequest,
) -> dict[str, contract.Actions]:
    """Add the C files; return the compiled function by the name of its format, for the verification."""
    draw = None if fixed is None else fixed.astype(np.float64)
    source = c_source.source(program, choice, draw, request.name, title(made))
    header = c_source.header(program, choice, request.name)
    rows = vectors.usual()[:TEST_ROWS]
    noise = vectors.noise[rows]
    tolerance = vectors.tolerance + 1e-6 * max(1.0, vectors.largest_action)  # the actions are rounded, too
    test = c_source.test_source(vectors.obs[rows], noise, vectors.reference[rows], tolerance, request.name)
    export.texts |= {
        c_source.SOURCE: source,
        c_source.HEADER: header,
        c_source.TEST: test,
        c_source.MAKEFILE: c_source.template(c_source.MAKEFILE),
    }
    facts: dict[str, Any] = {
        "prefix": request.name,
        "function": f"{request.name}_act",
        "constant_bytes": c_source.constant_bytes(source),
        "stack_bytes": None,
    }
    export.document["c"] = facts
    if not request.verify:
        return {}
    library = c_compiler.compiled(source, header)
    backend = backends.CBackend(library, request.name)
    timed = serving.DeployedPolicy(backend, program.observation_size, program.action_size).latency(TIMED_CALLS)
    facts |= {
        "stack_bytes": c_compiler.stack_bytes(source, header, request.name),
        "compiler": c_compiler.version(),
        "flags": " ".join(c_compiler.FLAGS),
        "p50_us": round(timed.p50_us, 2),
        "p99_us": round(timed.p99_us, 2),
        "calls": timed.calls,
    }
    return {"c": backends.actions_of(backend, program.action_size, given=choice.mode != "fixed")}


def _onnx_runs(program: Program, choice: NoiseChoice, fixed: Numbers | None) -> dict[str, contract.Actions]:
    """Return ONNX Runtime at batch 1 and at batch 256, by name.

    A file that draws its noise itself is compared by the same graph with the noise given.
    """
    given = choice.mode in ("input", "seeded")
    model = onnx_model.build(program, NoiseChoice("input", choice.scale) if choice.mode == "seeded" else choice, fixed)
    backend = backends.OnnxBackend(model.SerializeToString())
    act = backends.actions_of(backend, program.action_size, given=given)

    def by(batch: int) -> contract.Actions:
        def run(obs: Numbers, noise: Numbers) -> Numbers:
            parts = range(0, len(obs), batch)
            return np.concatenate([act(obs[at : at + batch], noise[at : at + batch]) for at in parts])

        return run

    return {"onnx": by(256), "onnx, batch 1": by(1)}


def _write(export: Export, out: Path) -> None:
    """Write the files to the folder `out`, and remove those of an earlier export there that these do not replace.

    Raises UsageError for files there that no export has written.
    """
    old = [out / name for name in folder.replaceable(out, FILES) if name not in export.texts]
    for file in old:
        file.unlink()
    if old:
        export.notes.append(f"removed {', '.join(map(str, old))}, of the earlier export.")
    for name, content in export.texts.items():
        if isinstance(content, bytes):
            with files.replacing(out / name) as part:
                part.write_bytes(content)
        else:
            files.write_text(out / name, content)


def _refuse_inexact(verification: Verification) -> None:
    """Raise ThresholdMissed for the exports that do not keep the contract."""
    if wrong := [each for each in verification.comparisons if not each.exact]:
        found = "; ".join(
            f"{each.name}: {each.error:.2g} from the float64 referee (allowed {each.tolerance:.2g}) and "
            f"{each.distance:.2g} from the checkpoint (allowed {each.farthest:.2g})"
            for each in wrong
        )
        if verification.checkpoint_error > verification.comparisons[0].farthest:
            found += (
                f". The checkpoint itself is off by {verification.checkpoint_error:.2g} in float32: its actions depend "
                "on the last digits of the observations"
            )
        raise ThresholdMissed(
            f"the export is not exact, and no file was written. {found}. Please report it with the checkpoint; another "
            "sampler or another format may do meanwhile."
        )


def _finish(export: Export, model: Any, request: ExportRequest) -> None:
    """Add the results of the verification, policy.onnx with its metadata, the README and policy.json."""
    document, verification = export.document, export.verification
    document["verified"] = (
        None
        if verification is None
        else {
            "rows": verification.rows,
            "max_abs_error": {each.name: each.error for each in verification.comparisons},
            "left_out": verification.left_out,
            "max_abs_error_of_all": {each.name: each.largest for each in verification.comparisons},
            "max_distance_to_checkpoint": {each.name: each.distance for each in verification.comparisons},
            "checkpoint_vs_float64": verification.checkpoint_error,
            "tolerance": verification.comparisons[0].tolerance,
        }
    )
    if model is not None:
        error = None if verification is None else verification.comparisons[-1].error
        export.texts[onnx_model.FILE] = onnx_model.annotated(model, readme.metadata(document, error))
        document["onnx"] = {"inputs": [each.name for each in model.graph.input], "opset": onnx_model.OPSET}
    export.texts[README] = readme.page(document, tuple(export.texts))
    document["files"] = {name: _sha256(content) for name, content in export.texts.items()}
    export.texts[folder.DESCRIPTION] = json.dumps(document, indent=2, allow_nan=False) + "\n"


def _sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def lines(export: Export, out: Path) -> Sequence[tuple[str, str]]:
    """Return what was exported as (name, text) pairs."""
    document = export.document
    found = [
        ("sampler", readme.sampler_text(document)),
        ("noise", f"{document['noise']['mode']}: {document['noise']['meaning']}"),
        ("action", readme.action_text(document)),
    ]
    if export.verification is None:
        found.append(("verified", "no"))
    else:
        own = export.verification
        for each in own.comparisons:
            text = f"max error {each.error:.2g} of the float64 referee, {each.distance:.2g} of the checkpoint"
            if own.left_out:
                text += (
                    f", in all but {own.left_out:.0%} of the rows; {each.largest:.2g} in those between two Gaussians"
                )
            found.append((each.name, text))
        found.append(
            ("allowed", f"{own.comparisons[0].tolerance:.2g}; the checkpoint's own error is {own.checkpoint_error:.2g}")
        )
    if (c := document.get("c")) is not None:
        stack = "" if c["stack_bytes"] is None else f", {c['stack_bytes']:,} bytes of stack"
        timed = f", {c['p50_us']:g} µs an action (p99 {c['p99_us']:g})" if "p50_us" in c else ""
        found.append(("C", f"{c['constant_bytes']:,} bytes of constants{stack}{timed}"))
    return [*found, ("files", ", ".join(str(out / name) for name in export.texts))]
