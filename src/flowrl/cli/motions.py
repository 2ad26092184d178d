"""`flowrl motions`: the motions that the humanoid can imitate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flowrl.cli.arguments import Json
from flowrl.cli.output import next_command, print_json, print_table, say
from flowrl.cli.progress import progress_bar
from flowrl.contracts.errors import UsageError
from flowrl.storage.files import check_suffix, replacing

if TYPE_CHECKING:
    from flowrl.envs.humanoid.motions.motion import Motion
    from flowrl.envs.humanoid.motions.summary import Summary

COLUMNS = ("name", "seconds", "frames", "loops", "m/s", "clamped", "lowest foot m", "rad/s", "remarks")
NUMBERS = ("seconds", "frames", "m/s", "clamped", "lowest foot m", "rad/s")


def motions(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE…", help="gait:NAME, a file, a folder, or a pattern; default: list the gaits."),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Draw poses over time, one row per motion (.png, .webp, .jpg).")
    ] = None,
    video: Annotated[Path | None, typer.Option(help="Play the motions side by side (.webp, .gif, .mp4).")] = None,
    convert: Annotated[
        Path | None, typer.Option(help="Write the motion, fitted to the humanoid, as .npz with mjlab's keys.")
    ] = None,
    json: Json = False,
) -> None:
    """List the built-in gaits, or check and show your motions.

    Files: .npz (own, mjlab, AMASS), .txt (DeepMimic), .pkl (PHC), .bvh (LAFAN1, CMU, Mixamo).
    """
    from flowrl.envs import opengl

    opengl.choose()  # before MuJoCo is imported
    if not sources:
        if sheet or video or convert:
            raise UsageError(
                "--sheet, --video and --convert need a motion. Type flowrl motions gait:walk --sheet walk.png."
            )
        list_gaits(json)
        return
    from flowrl.envs.humanoid.motions.library import load
    from flowrl.envs.humanoid.motions.summary import summary
    from flowrl.experiments import motions
    from flowrl.reporting import video as videos

    if sheet is not None:
        motions.check_sheet(sheet)
    if video is not None:
        videos.check(video)
    if convert is not None:
        check_suffix(convert, "--convert", "motions", (".npz",))
    loaded = [motion for motion, _ in load(sources)]
    summaries = [summary(motion) for motion in loaded]
    if json:
        print_json([asdict(each) for each in summaries])
    else:
        print_table(COLUMNS, [line(each) for each in summaries], NUMBERS)
    if convert is not None:
        write(loaded, convert)
        say(f"wrote {convert}")
    if sheet is not None:
        motions.sheet(loaded, sheet)
        say(f"wrote {sheet}")
    if video is not None:
        with progress_bar() as bar:
            motions.film(loaded, video, lambda done, of: bar.update(f"picture {done} of {of}", done, of))
        say(f"wrote {video}")
    if convert is not None:
        next_command("flowrl train humanoid.yaml", "--set", f"env.motions={convert}")
    elif sheet is None and video is None:
        next_command("flowrl motions", *sources, "--sheet", "motions.png")
    else:
        listed = ", ".join(f'"{source}"' for source in sources)
        given = sources[0] if len(sources) == 1 else f"[{listed}]"
        next_command("flowrl train humanoid.yaml", "--set", f"env.motions={given}")


def list_gaits(json: bool) -> None:
    """Print the gaits by name, and the keys that change one."""
    from flowrl.envs.humanoid.motions.gaits import arm_styles, presets

    single = {presets.PREFIX + name: words for name, (_, words) in presets.SINGLES.items()}
    sets = {
        presets.PREFIX + name: f"{len(members)} motions: {words}" for name, (members, words) in presets.SETS.items()
    }
    keys = {name: f"{key.low:g} to {key.high:g} {key.words}" for name, key in presets.KEYS.items()}
    keys[presets.ARMS] = ", ".join(arm_styles.STYLES)
    if json:
        print_json({"gaits": single, "sets": sets, "keys": keys})
    else:
        print_table(["source", "motion"], [[*row] for row in (single | sets).items()])
        print()
        print_table(["key", "values"], [[*row] for row in keys.items()])
        print("\nA key changes a gait, or every one of a set: gait:walk:speed=1.0:arms=wave")
    next_command("flowrl motions gait:walk --sheet walk.png")


def line(summary: Summary) -> list[str]:
    """Return a motion's row in the table."""
    return [
        summary.name,
        f"{summary.seconds:.2f}",
        str(summary.frames),
        "yes" if summary.loops else "no",
        f"{summary.speed:.2f}",
        str(summary.clamped),
        f"{summary.lowest_foot:.3f}".replace("-0.000", "0.000"),
        f"{summary.fastest:.1f}",
        "; ".join(summary.remarks) or "ok",
    ]


def write(loaded: list[Motion], path: Path) -> None:
    """Write the only motion in our own format; raises UsageError for several, and StorageError."""
    from flowrl.envs.humanoid.motions.importers import native

    if len(loaded) != 1:
        raise UsageError(
            f"--convert writes one motion, and there are {len(loaded)}: name one of them, such as {loaded[0].source}."
        )
    with replacing(path, "--convert") as part:
        native.write(loaded[0], part)
