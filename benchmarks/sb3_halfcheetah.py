"""Environment steps per second of PPO training on HalfCheetah-v5: flowrl compared with Stable-Baselines3.

    python benchmarks/sb3_halfcheetah.py --sb3-python /tmp/sb3/bin/python

The time includes collecting and updating. Each measurement is a separate process; the two tools take turns, in an
order that alternates between rounds, so that a busy machine slows both alike. Medians over the rounds. Three rows:
each tool with its defaults; both with Stable-Baselines3's hyper-parameters; both with flowrl's. In the latter two,
environments, rollout, minibatch, epochs, networks and the normalisation of advantages are the same. flowrl also
normalises observations, writes metrics and saves checkpoints; Stable-Baselines3 does not here. PyTorch gets the same
number of threads on both sides (Stable-Baselines3 is slower with more than one).

Stable-Baselines3 is not a dependency of flowrl: SETUP describes how to install it in a separate environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import parser, run, turns

SETUP = """Stable-Baselines3 is not installed for {python}. To make a temporary environment for it, outside
the repository, that uses flowrl's torch, gymnasium and mujoco (so that nothing large is downloaded):
    python -m venv /tmp/sb3
    python -c "import site; print(site.getsitepackages()[0])" > \\
        "$(/tmp/sb3/bin/python -c 'import site; print(site.getsitepackages()[0])')/flowrl.pth"
    /tmp/sb3/bin/pip install --no-deps stable-baselines3 pandas
    python benchmarks/sb3_halfcheetah.py --sb3-python /tmp/sb3/bin/python
where `python` is the one that has flowrl."""

SB3_DEFAULTS = {"envs": 1, "rollout_steps": 2048, "minibatch": 64, "epochs": 10}
SB3_SPREAD = {"envs": 16, "rollout_steps": 128, "minibatch": 64, "epochs": 10}  # the same 2048 steps per rollout
SB3_NETWORKS = {"actor": [64, 64], "critic": [64, 64], "activation": "tanh"}


def main() -> int:
    options = _options()
    if options.side == "sb3":
        print(json.dumps(train_sb3(json.loads(options.settings))))
        return 0
    if not _has_sb3(options.sb3_python):
        print(SETUP.format(python=options.sb3_python), file=sys.stderr)
        return 8
    rows = [measure(name, ours, theirs, options) for name, ours, theirs in comparisons(options)]
    _print_table(rows)
    document = {
        "environment": "HalfCheetah-v5",
        "steps": options.steps,
        "rounds": options.rounds,
        "threads": options.threads,
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "stable_baselines3": _sb3_version(options.sb3_python),
        "rows": rows,
    }
    options.out.write_text(json.dumps(document, indent=2) + "\n")
    print(f"wrote {options.out}", file=sys.stderr)
    return 0


def comparisons(options: argparse.Namespace) -> list[tuple[str, list[str], dict[str, Any]]]:
    """Return (name, flowrl's overrides, Stable-Baselines3's settings) of each row."""
    config = json.loads(run([*_flowrl(options, []), "--dry-run"])[0])
    learner, steps = config["learner"], config["env"]["count"] * config["rollout"]["steps"]
    ours = {
        "envs": config["env"]["count"],
        "rollout_steps": config["rollout"]["steps"],
        "minibatch": -(-steps // learner["minibatches"]),
        "epochs": learner["epochs"],
        "actor": config["policy"]["hidden"],
        "critic": learner["critic"]["hidden"],
        "activation": config["policy"]["activation"],
    }
    rollout = SB3_SPREAD["envs"] * SB3_SPREAD["rollout_steps"]
    theirs_in_flowrl = {
        "env.count": SB3_SPREAD["envs"],
        "rollout.steps": SB3_SPREAD["rollout_steps"],
        "learner.minibatches": rollout // SB3_SPREAD["minibatch"],
        "learner.epochs": SB3_SPREAD["epochs"],
        "learner.normalise_advantages": "minibatch",
        "learner.critic.hidden": SB3_NETWORKS["critic"],
        "learner.critic.activation": SB3_NETWORKS["activation"],
        "policy.hidden": SB3_NETWORKS["actor"],
        "policy.activation": SB3_NETWORKS["activation"],
    }
    minibatch_normalised = ["learner.normalise_advantages=minibatch"]
    return [
        ("each as it comes", [], SB3_DEFAULTS | SB3_NETWORKS),
        (
            "SB3's hyper-parameters in both",
            [f"{key}={value}" for key, value in theirs_in_flowrl.items()],
            SB3_SPREAD | SB3_NETWORKS,
        ),
        ("flowrl's hyper-parameters in both", minibatch_normalised, ours),
    ]


def measure(name: str, ours: list[str], theirs: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Measure one row: `rounds` measurements of each side, in turns."""
    settings = json.dumps(theirs | {"steps": options.steps, "threads": options.threads})
    sb3 = [options.sb3_python, __file__, "--side", "sb3", "--settings", settings]
    sides: dict[str, list[dict[str, float]]] = {"flowrl": [], "sb3": []}
    for number, side in turns(options.rounds, "sb3"):
        with tempfile.TemporaryDirectory() as folder:
            command = _flowrl(options, ours, folder) if side == "flowrl" else sb3
            output, cost = run(command)
        result = json.loads(output)
        seconds = result["session_s" if side == "flowrl" else "seconds"]  # including logging and saving
        cost["steps_per_s"] = result["env_steps"] / seconds
        cost["steps_per_s_of_process"] = result["env_steps"] / cost["wall_s"]
        cost["steps_per_cpu_s_of_process"] = result["env_steps"] / cost["cpu_s"]
        sides[side].append(cost)
        print(f"{name}, round {number + 1}, {side}: {cost['steps_per_s']:.0f} steps/s", file=sys.stderr)
    medians = {side: _medians(results) for side, results in sides.items()}
    keys = ("steps_per_s", "steps_per_s_of_process", "steps_per_cpu_s_of_process")
    return {
        "name": name,
        "sb3_settings": theirs,
        "flowrl_overrides": ours,
        "median": medians,
        "ratio": {key: medians["flowrl"][key] / medians["sb3"][key] for key in keys},
        "ratio_by_round": [
            a["steps_per_s"] / b["steps_per_s"] for a, b in zip(sides["flowrl"], sides["sb3"], strict=True)
        ],
        "rounds": sides,
    }


def train_sb3(settings: dict[str, Any]) -> dict[str, float]:
    """Train with Stable-Baselines3; runs in the interpreter that has it, which may lack flowrl."""
    import torch  # type: ignore[import-not-found, unused-ignore]
    from stable_baselines3 import PPO  # type: ignore[import-not-found, unused-ignore]
    from stable_baselines3.common.env_util import make_vec_env  # type: ignore[import-not-found, unused-ignore]

    torch.set_num_threads(settings["threads"])
    activations = {"tanh": torch.nn.Tanh, "silu": torch.nn.SiLU, "relu": torch.nn.ReLU, "elu": torch.nn.ELU}
    ppo = PPO(
        "MlpPolicy",
        make_vec_env("HalfCheetah-v5", n_envs=settings["envs"], seed=0),
        n_steps=settings["rollout_steps"],
        batch_size=settings["minibatch"],
        n_epochs=settings["epochs"],
        policy_kwargs={
            "net_arch": {"pi": settings["actor"], "vf": settings["critic"]},
            "activation_fn": activations[settings["activation"]],
        },
        device="cpu",
        seed=0,
    )
    started = time.perf_counter()
    ppo.learn(settings["steps"])
    return {"env_steps": ppo.num_timesteps, "seconds": time.perf_counter() - started}


def _flowrl(options: argparse.Namespace, overrides: list[str], folder: str = "runs") -> list[str]:
    settings = ["algorithm=ppo", f"total_steps={options.steps}", f"threads={options.threads}", *overrides]
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    return [
        sys.executable, "-m", "flowrl", "train", options.recipe, *arguments, "--out", folder, "--name", "run", "--json"
    ]  # fmt: skip


def _medians(results: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(result[key] for result in results) for key in results[0]}


def _has_sb3(python: str) -> bool:
    return _sb3_version(python) is not None


def _sb3_version(python: str) -> str | None:
    command = [python, "-c", "import stable_baselines3 as s; print(s.__version__)"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _print_table(rows: list[dict[str, Any]]) -> None:
    print(f"{'env steps/s, median':36}{'flowrl':>9}{'SB3':>9}{'ratio':>8}  ratio by round")
    for row in rows:
        ours, theirs = (row["median"][side]["steps_per_s"] for side in ("flowrl", "sb3"))
        by_round = " ".join(f"{ratio:.2f}" for ratio in row["ratio_by_round"])
        print(f"{row['name']:36}{ours:9.0f}{theirs:9.0f}{row['ratio']['steps_per_s']:8.2f}  {by_round}")


def _options() -> argparse.Namespace:
    made = parser(__doc__, "Stable-Baselines3", "sb3")
    made.add_argument("--recipe", default="halfcheetah.yaml", help="flowrl's recipe")
    made.add_argument("--steps", type=int, default=32768, help="environment steps per measurement")
    made.add_argument("--threads", type=int, default=1, help="PyTorch's threads, on both sides")
    made.add_argument("--out", type=Path, default=Path("sb3_halfcheetah.json"), help="the file of the results")
    made.add_argument("--settings", help=argparse.SUPPRESS)
    return made.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
