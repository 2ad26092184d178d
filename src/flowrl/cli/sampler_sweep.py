"""`flowrl eval --sweep`: what to deploy, and what it costs and gains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flowrl.cli.arguments import code_options
from flowrl.cli.output import next_command, print_json, print_line, print_table, say
from flowrl.cli.progress import progress_bar

if TYPE_CHECKING:
    from flowrl.experiments.compared_samplers import SamplerComparison
    from flowrl.experiments.evaluate import EvalRequest, LoadedCheckpoint


def compare(
    opened: LoadedCheckpoint,
    request: EvalRequest,
    steps: list[int] | None,
    episodes: int | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Compare the choices that `request` and `steps` name, print and write the result."""
    from flowrl.experiments import compared_samplers, sampler_comparison
    from flowrl.storage import files

    folder = opened.path.parent if out is None else out
    files.check(folder / compared_samplers.DOCUMENT)  # before the measurement, which would be lost
    choices = sampler_comparison.requests(opened, request, steps, lambda line: say(f"note: {line}"))
    count = episodes or sampler_comparison.EPISODES
    with progress_bar() as bar:
        found = sampler_comparison.compare(opened, choices, count, bar.update)
    written = compared_samplers.save(found, folder)
    if as_json:
        print_json(found.document())
    else:
        say(f"{opened.path}: {opened.title}, {count} episodes, seed {request.seed}")
        columns, lines = compared_samplers.table(found)
        numbers = [name for name in columns if name not in compared_samplers.TEXTS]
        print_table(columns, lines, numbers, set(compared_samplers.KEYS))
        print_line("")
        for line in compared_samplers.legend(found):
            print_line(line)
        print_line(found.sentence)
    say(f"wrote {', '.join(map(str, written))}")
    code = code_options(opened.config.model_dump(mode="json"), sampler_only=True)
    next_command("flowrl export", opened.path, *export_options(found), *code)


def export_options(found: SamplerComparison) -> list[str]:
    """Return what `flowrl export` needs for the proposed choice."""
    chosen = found.proposed
    options = [] if chosen.option is None else ["--sampler", chosen.option]
    noise = {"random": "input", "fixed": f"fixed:{found.seed}"}.get(chosen.noise, "zero")
    options += ["--noise", noise]
    if noise != "zero" and chosen.noise_scale != 1:
        options += ["--noise-scale", f"{chosen.noise_scale:g}"]
    return options
