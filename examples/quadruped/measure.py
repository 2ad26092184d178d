"""How well trained quadrupeds follow commands: errors on a grid of commands, falls per minute, power.

    python examples/quadruped/measure.py runs/quadruped_fpo-seed0 … [--episodes 32] [--out FILE.json]

Each command is held for complete episodes of 20 s with the pushes, models, noise and friction of the training, and the
grid is repeated without these. The first second of an episode, in which the robot gets up to speed, counts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean
from typing import Any

import flowrl

GRID = [
    *((0, 0, 0), (0.5, 0, 0), (1, 0, 0), (-0.5, 0, 0), (0, 0.5, 0)),
    *((0, -0.5, 0), (0, 0, 1), (0, 0, -1), (0.7, 0, 0.7)),
]
STEP = 0.02  # s
TASK = f"{Path(__file__).with_name('quadruped.py')}:Quadruped"
HEADING = f"{'command, m/s, m/s, rad/s':<28}{'m/s':>11}{'rad/s':>11}{'falls/min':>11}{'W':>11}"


def evaluate(run: str, episodes: int, command: tuple[float, ...] | None, disturbances: bool) -> dict[str, Any]:
    """Return the figures of `flowrl.evaluate` with one command, or with drawn ones (None), and zero noise."""
    options: dict[str, Any] = {"env.options.disturbances": disturbances}
    if command is not None:
        options["env.options.command_fixed"] = [float(number) for number in command]
    row = flowrl.evaluate(run, env=TASK, noise="zero", episodes=episodes, overrides=options)
    minutes = row["episodes"] * row["length_mean"] * STEP / 60
    return {
        "linear_error_m_s": row["linear_error_m_s"],
        "yaw_error_rad_s": row["yaw_error_rad_s"],
        "falls_per_minute": row["episodes"] * (1 - row["success_rate"]) / minutes,  # all falls over all time
        "power_w": row["power_w"],
    }


def shown(label: str, figures: dict[str, float]) -> str:
    """Return a line of the table."""
    return f"{label:<28}" + "".join(f"{value:>11.2f}" for value in figures.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--episodes", type=int, default=32, help="for each command")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for run in options.runs:
        results[run] = {}
        for name, disturbances in (("with disturbances", True), ("without disturbances", False)):
            print(f"\n{run}, {name}\n{HEADING}")
            rows = {}
            for command in (None, *GRID):
                label = "drawn" if command is None else ", ".join(f"{number:g}" for number in command)
                rows[label] = evaluate(run, options.episodes, command, disturbances)
                print(shown(label, rows[label]), flush=True)
            grid = [row for label, row in rows.items() if label != "drawn"]
            rows["mean of the grid"] = {key: mean(row[key] for row in grid) for key in grid[0]}
            print(shown("mean of the grid", rows["mean of the grid"]))
            results[run][name] = rows
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
