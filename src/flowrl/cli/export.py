"""`flowrl export`: a policy as one C file, as ONNX, and as a description of both."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flowrl.cli.arguments import Ckpt, GridSteps, Imports, Json, SetOptions, import_code
from flowrl.cli.output import next_command, print_facts, print_json, say


def export(
    ckpt: Ckpt,
    formats: Annotated[
        str | None, typer.Option("--format", "--formats", metavar="c,onnx", help="Default: c, and onnx if installed.")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option(metavar="NAME[:STEPS]", help="A sampler with fixed steps; default: that of the training."),
    ] = None,
    steps: GridSteps = None,
    noise: Annotated[
        str | None,
        typer.Option(
            metavar="input|zero|half|fixed:N|seeded:N",
            help="The policy's noise: an input of every call (default, as in the training), none, an input that is "
            "halved, one draw for all, or drawn inside with a seed.",
        ),
    ] = None,
    noise_scale: Annotated[
        float | None, typer.Option(min=0, max=1, help="Factor on the noise: 0 zero noise, 1 as trained.")
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Leave squash, scale and bounds of the action to the caller.")
    ] = False,
    name: Annotated[str, typer.Option(help="The C functions are NAME_act and NAME_noise.")] = "flowrl",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The folder to write.")] = Path("export"),
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compile, run and compare the files before they are written.")
    ] = True,
    overrides: SetOptions = None,
    imports: Imports = None,
    json: Json = False,
) -> None:
    """Export a policy as one C file and as ONNX, exactly.

    Writes policy.c, policy.h, test_policy.c, Makefile, policy.onnx, policy.json and README.md. They are compared with
    the policy on 1000 observations; where they are not exact the exit code is 7, and no file is written.
    """
    from flowrl.experiments import export as exporting

    import_code(imports)
    chosen = None if formats is None else tuple(part.strip() for part in formats.split(","))
    changes = tuple(overrides or ())
    request = exporting.ExportRequest(chosen, sampler, steps, noise, raw, name, verify, changes, noise_scale)
    done = exporting.export(ckpt, request, out)
    for note in done.notes:
        say(f"note: {note}")
    if json:
        print_json(done.document)
    else:
        print_facts(exporting.lines(done, out))
    if not verify:
        say("not verified (--no-verify)")
    if "c" in done.document:
        next_command("make -C", out, "test")
    else:
        next_command("flowrl eval", ckpt, *done.code)
