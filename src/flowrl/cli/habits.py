"""Advice on a command line that follows the habits of other tools: `resume RUN`, `--total-steps 1000`, `lr=3e-4`."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.exceptions import TyperException

from flowrl.contracts.errors import UsageError

_COMMANDS = {  # the words that start a command of ours -> the names of such a command in other tools
    "train": "run fit learn start training ppo fpo",
    "train --resume": "resume continue restart",
    "eval": "evaluate test evaluation validate score",
    "play": "enjoy render record video watch visualize visualise rollout replay show_video",
    "view": "viewer gui studio live",
    "plot": "plots curves graph chart tensorboard",
    "inspect": "info show checkpoint describe summary cat",
    "doctor": "check diagnose version_info env_info status",
    "bench-latency": "bench benchmark latency profile time speed",
    "suite": "sweep grid batch multirun experiment",
    "envs": "environments tasks list_envs list-envs",
    "samplers": "solvers integrators sampler",
    "motions": "motion clips",
    "new": "init create scaffold template",
    "--help": "help",
    "--version": "version",
}
_OPTIONS = {  # an option of ours -> its names in other tools; one that a command has not is left out there
    "--video": "out output output_file output_path video_path filename save",
    "--csv": "out output output_file",
    "--out": "output output_dir outdir out_dir save_dir logdir log_dir log_folder log_root run_dir runs_dir results",
    "--name": "run_name exp_name experiment_name experiment run_id",
    "--resume": "checkpoint ckpt load load_run load_model continue restore restore_from pretrained trained_agent",
    "--episodes": "n_episodes num_episodes n_eval_episodes eval_episodes num_eval_episodes n_ep",
    "--max-steps": "max_episode_steps max_episode_length episode_length horizon n_timesteps length",
    "--steps": "nfe num_steps n_steps flow_steps sampling_steps num_inference_steps denoising_steps",
    "--sampler": "solver integrator method ode ode_solver scheduler",
    "--seeds": "seed num_seeds n_seeds",
    "--jobs": "workers num_workers n_jobs parallel processes j",
    "--algorithms": "algorithm algos algo",
    "--threads": "num_threads n_threads torch_num_threads",
    "--device": "torch_device",
    "--dry-run": "check validate print_config cfg config_only info dry",
    "--batch": "batch_size",
    "--metric": "y key metrics",
    "--smooth": "window smoothing",
    "--size": "resolution width height",
    "--noise": "mode noise_mode",
}
_WORDS = {  # an option of other tools without a value -> what it is here; the first that the command has
    "deterministic": ("--noise zero",),
    "stochastic": ("--noise random",),
    "mean_action": ("--noise zero",),
    "gpu": ("--device cuda", "--set device=cuda"),
    "cuda": ("--device cuda", "--set device=cuda"),
    "cpu": ("--device cpu", "--set device=cpu"),
}
_ARGUMENTS = {
    "config",
    "recipe",
    "config_file",
    "yaml",
    "hyperparams",
    "ckpt",
    "checkpoint",
    "model",
    "model_path",
    "run",
}
_KEY_OF_BLOCK = ("id", "name", "kind")  # of a block of the recipe: what a plain value for the block means


@dataclass(frozen=True)
class TypedCommand:
    """The words of a command line, and the options of the command that refused them."""

    words: list[str]
    options: frozenset[str]
    name: str  # 'train', or '' for flowrl itself

    def replaced(self, place: int, number: int, words: Sequence[str]) -> str:
        """Return the command line with `number` words from `place` on replaced by `words`."""
        return shlex.join(["flowrl", *self.words[:place], *words, *self.words[place + number :]])


def explained(error: BaseException, words: Sequence[str]) -> BaseException:
    """Return `error`, or, where the command line `words` follows another tool's habit, one that says what to type."""
    if not isinstance(error, TyperException) or type(error).__name__ == "NoArgsIsHelpError":
        return error
    context: Any = getattr(error, "ctx", None)
    parameters = context.command.params if context is not None else []
    options = frozenset(option for parameter in parameters for option in parameter.opts if option.startswith("--"))
    path = context.command_path.split() if context is not None else []
    typed = TypedCommand(list(words), options, path[-1] if len(path) > 1 else "")
    message = error.format_message()
    if (unknown := getattr(error, "option_name", None)) and message.startswith("No such option"):
        advice = _option(typed, unknown)
    elif message.startswith("No such command"):
        advice = _command(typed)
    elif message.startswith("Got unexpected extra argument"):
        advice = _argument(typed)
    else:
        return _plain(error, message, words)
    if not advice and not unknown:
        return error
    what = message.split(" (Possible")[0].split(". Did you")[0].rstrip(".")
    return UsageError(f"{what}. {advice or 'Type: ' + ' '.join([*path, '--help'])}")


def _plain(error: TyperException, message: str, words: Sequence[str]) -> BaseException:
    """Replace pydantic's words about a wrong value by what was typed and what is expected."""
    kinds = {"valid integer": "a whole number", "valid number": "a number", "valid boolean": "true or false"}
    expected = next((words for kind, words in kinds.items() if kind in message), None)
    if "Input should be" not in message or expected is None:
        return error
    option = message.split("'")[1] if message.count("'") > 1 else "the option"
    command = getattr(getattr(error, "ctx", None), "command_path", "flowrl")
    typed = _place(words, option)[2]
    what = option if typed is None else f"{option} {typed}"
    return UsageError(f"{what}: expected {expected}.{_list_advice(option, command)} Type: {command} --help")


def _list_advice(option: str, command: str) -> str:
    several = option == "--steps" and command.endswith((" eval", " play"))
    return " Several: --sweep-steps 1,2,4, or --sampler euler:1,euler:4." if several else ""


# --- commands -------------------------------------------------------------------------------------


def _command(typed: TypedCommand) -> str:
    """Return what to type instead of an unknown command: a synonym, or a command for the file that was named."""
    place = next((place for place, word in enumerate(typed.words) if not word.startswith("-")), 0)
    name = typed.words[place]
    normal = name.lower().replace("-", "_")
    for words, names in _COMMANDS.items():
        if normal in names.split():
            return _type(typed.replaced(place, 1, words.split()))
    if name.endswith((".yaml", ".yml")) or _is_recipe(name):
        return _type(typed.replaced(place, 0, ["train"]))
    if name.endswith(".pt") or Path(name).is_dir():
        return _type(typed.replaced(place, 0, ["eval"]))
    return ""


def _is_recipe(name: str) -> bool:
    from flowrl.config.recipe import shipped_names

    return f"{name}.yaml" in shipped_names()


def _type(command: str) -> str:
    return f"Did you mean: {command}?"


# --- options --------------------------------------------------------------------------------------


def _option(typed: TypedCommand, unknown: str) -> str:
    """Return what to type instead of the option `unknown`: another option, a key of the recipe, or no option."""
    place, number, value = _place(typed.words, unknown)
    normal = unknown.lstrip("-").lower().replace("-", "_")
    for option, names in _OPTIONS.items():
        if option in typed.options and normal in names.split():
            return _type(typed.replaced(place, number, [option] if value is None else [option, value]))
    for words in _WORDS.get(normal, ()):
        if words.split()[0] in typed.options:
            return _type(typed.replaced(place, number if value in ("0", "1", "true", "True") else 1, words.split()))
    if value is not None and normal in _ARGUMENTS and typed.name:
        return _type(typed.replaced(place, number, [value]))
    if "--set" in typed.options and (setting := _setting(normal, "true" if value is None else value, near=False)):
        return _type(typed.replaced(place, number, ["--set", setting]))
    bare, name = [option.removeprefix("--") for option in typed.options], unknown.lstrip("-")
    begun = [option for option in bare if name and option.startswith(name)]
    if typed.name and (similar := begun or difflib.get_close_matches(name, bare, n=1, cutoff=0.6)):
        return f"Did you mean '--{similar[0]}'? Type: flowrl {typed.name} --help"
    if "--set" in typed.options and value is not None and (setting := _setting(normal, value, near=True)):
        return _type(typed.replaced(place, number, ["--set", setting]))
    if not typed.name:
        commands = [words for words in _COMMANDS if unknown in words.split()]
        return (
            _type(typed.replaced(place, 1, commands[0].split())) if commands else "Name a command before its options."
        )
    return ""


def _place(words: Sequence[str], option: str) -> tuple[int, int, str | None]:
    """Return where `option` is among `words`, how many words it takes with its value, and that value."""
    for place, word in enumerate(words):
        if word == option:
            following = words[place + 1] if place + 1 < len(words) else None
            if following is None or (following.startswith("-") and not following[1:2].isdigit()):
                return place, 1, None
            return place, 2, following
        if word.startswith(f"{option}="):
            return place, 1, word.partition("=")[2]
    return len(words), 0, None


# --- arguments ------------------------------------------------------------------------------------


def _argument(typed: TypedCommand) -> str:
    """Return what to type where `key=value` stands without --set, an option without its hyphens, or a value after
    --sweep, which takes none."""
    if "--sweep" in typed.options & set(typed.words):
        after = typed.words[typed.words.index("--sweep") + 1 :][:1]
        if after and not after[0].startswith("-"):
            of = "--sweep-steps" if re.fullmatch(r"[\d,]+", after[0]) else "--sampler"
            rest = [word for word in typed.words if word != after[0]]
            return _type(shlex.join(["flowrl", *rest, of, *after]))
    words: list[str] = []
    for word in typed.words:
        key, equals, value = word.partition("=")
        if equals and not word.startswith("-") and words[-1:] != ["--set"]:
            setting = _setting(key.lstrip("+").lower().replace("-", "_"), value, near=True)
            words += ["--set", setting or word.lstrip("+")]
        else:
            words.append(word)
    if words == typed.words or "--set" not in typed.options:
        return ""
    return _type(shlex.join(["flowrl", *words]))


def _setting(name: str, value: str, *, near: bool) -> str:
    """Return 'key.path=value' for the key of a recipe that `name` means: its path, last name or a synonym.

    With `near` a similar name is enough. Returns '' when there is none.
    """
    from flowrl.config.schema import Config  # here, since it imports torch
    from flowrl.config.suggestions import SYNONYMS, keys_meant, keys_of
    from flowrl.config.yaml_reader import dotted

    paths = set(keys_of(Config))
    path = tuple(name.split("."))
    if path not in paths:
        if not near and path[-1] not in SYNONYMS and path[-1] not in {known[-1] for known in paths}:
            return ""
        meant = keys_meant(Config, path)
        if not meant:
            return ""
        path = tuple(map(str, meant[0]))
    if (inside := next(((*path, key) for key in _KEY_OF_BLOCK if (*path, key) in paths), None)) is not None:
        path = path if value.startswith("{") else inside
    return f"{dotted(path)}={value}"
