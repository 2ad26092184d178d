"""Recipes: what is read, what is refused and with which message, on a small tree of settings defined here."""

from __future__ import annotations

import math
import os
import string
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import Field, Strict, ValidationError, model_validator

from flowrl.config import recipe, yaml_reader
from flowrl.config.suggestions import SYNONYMS, keys_of, other_key
from flowrl.config.yaml_reader import plain_scalar
from flowrl.contracts.errors import UsageError
from flowrl.contracts.settings import Settings
from flowrl.networks.mlp import Widths


class Flow(Settings):
    kind: Literal["flow"] = "flow"
    hidden: Widths = (64, 64)
    limits: Annotated[tuple[float, float], Strict(False)] | None = None


class Gaussian(Settings):
    kind: Literal["gaussian"] = "gaussian"
    hidden: Widths = (64, 64)
    shape: Literal["full", "diagonal"] = "full"
    std: float = Field(default=1.0, gt=0)


class Schedule(Settings):
    first: float
    last: float = 0.0


class Learner(Settings):
    clip: float = Field(default=0.05, gt=0, le=1)
    gamma: float = Field(default=0.99, ge=0, le=1)
    epochs: int = Field(default=4, ge=1)
    features: int = Field(default=8, multiple_of=2)
    learning_rate: float | Schedule = 3e-4
    normalise: bool = True
    target: Literal["batch", "minibatch", "no"] = "batch"
    max_grad_norm: float | None = 0.5


class Env(Settings):
    id: str
    count: int = Field(default=16, ge=1)
    options: dict[str, Any] = Field(default_factory=dict)


class Rollout(Settings):
    steps: int = 32


class Root(Settings):
    algorithm: Literal["fpo", "fpo++", "ppo"] = "fpo"
    seed: int = 0
    total_steps: int = 1000
    env: Env = Env(id="Pendulum-v1")
    policy: Annotated[Flow | Gaussian, Field(discriminator="kind")] = Flow()
    rollout: Rollout = Rollout()
    learner: Learner = Learner()

    @model_validator(mode="after")
    def _fits(self) -> Root:
        if self.algorithm == "ppo" and self.policy.kind == "flow":
            raise ValueError("algorithm ppo needs policy.kind gaussian")
        return self


def build(text: str | bytes, *overrides: str) -> Root:
    data = text.encode() if isinstance(text, str) else text
    return recipe.validate(Root, recipe.apply(recipe.parse(data, "x.yaml"), overrides))


def refusal(text: str | bytes, *overrides: str) -> str:
    with pytest.raises(UsageError) as caught:
        build(text, *overrides)
    message = str(caught.value)
    assert message and "\n" not in message, "one paragraph"
    assert "pydantic" not in message and "Input should" not in message and "Traceback" not in message
    assert len(message) < 900
    return message


# ---- what is read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000),
        ("2e6", 2_000_000),
        ("-3e2", -300),
        ("2.5e6", 2.5e6),
        ("1e+16", 1e16),
        ("1_000_000", 1_000_000),
        (".5", 0.5),
        ("1.", 1.0),
        ("-1.5e-05", -1.5e-05),
        ("0", 0),
        ("+7", 7),
        ("true", True),
        ("~", None),
        ("null", None),
        # YAML 1.1 would make 8, 90, False, True, a date, 31 and an error of these
        ("010", "010"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("2026-01-31", "2026-01-31"),
        ("0x1F", "0x1F"),
        ("2026-99-99", "2026-99-99"),
        ("1_", "1_"),
        ("e5", "e5"),
        (".", "."),
        ("1e", "1e"),
        ("- 1", "- 1"),
    ],
)
def test_a_plain_scalar_means_what_json_and_yaml_1_2_say(text: str, value: object) -> None:
    assert plain_scalar(text) == value
    assert type(plain_scalar(text)) is type(value)


def test_every_value_knows_its_line() -> None:
    text = b"seed: 1\n\n# why\nlearner:\n  clip: 0.1\n  more: {a: [1,\n    2]}\n"
    read = recipe.parse(text, "x.yaml")
    assert read.values == {"seed": 1, "learner": {"clip": 0.1, "more": {"a": [1, 2]}}}
    lines = {path: place.line for path, place in read.places.items()}
    assert lines == {
        ("seed",): 1,
        ("learner",): 4,
        ("learner", "clip"): 5,
        ("learner", "more"): 6,
        ("learner", "more", "a"): 6,
        ("learner", "more", "a", 0): 6,
        ("learner", "more", "a", 1): 7,
    }
    assert str(read.place(("learner", "clip"))) == "x.yaml line 5, key learner.clip"
    assert str(read.place(("learner", "absent", "key"))) == "x.yaml line 4, key learner.absent.key"
    assert str(read.place(("absent",))) == "x.yaml, key absent"


def test_settings_take_lists_for_tuples_and_whole_numbers_for_real_ones() -> None:
    built = build("policy: {kind: flow, hidden: [3, 4], limits: [-1, 1]}\nlearner: {clip: 1, max_grad_norm: null}")
    assert isinstance(built.policy, Flow)
    assert built.policy.hidden == (3, 4)
    assert built.policy.limits == (-1.0, 1.0)
    assert built.learner.max_grad_norm is None
    assert build("learner: {target: no, learning_rate: {first: 1e-3}}").learner == Learner(
        target="no", learning_rate=Schedule(first=0.001)
    )


def test_a_file_is_read_and_wins_over_a_shipped_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "flowrl.config"
    (package / "recipes" / "paper").mkdir(parents=True)
    (package / "recipes" / "gridworld.yaml").write_text("seed: 1\n")
    (package / "recipes" / "paper" / "hopper.yaml").write_text("seed: 2\n")
    monkeypatch.setattr(recipe, "RECIPES", package / "recipes")
    here = tmp_path / "here"
    (here / "gridworld").mkdir(parents=True)
    monkeypatch.chdir(here)

    assert recipe.shipped_names() == ["gridworld.yaml", "paper/hopper.yaml"]
    assert recipe.read("gridworld.yaml").values == {"seed": 1}
    assert recipe.read("gridworld").name == "gridworld.yaml"  # though a folder of that name is here
    assert recipe.read("paper/hopper").values == {"seed": 2}

    (here / "gridworld.yaml").write_text("seed: 3\n")
    assert recipe.read("gridworld.yaml").values == {"seed": 3}
    assert recipe.read(here / "gridworld.yaml").name == str(here / "gridworld.yaml")

    for wrong in ("gridwrold.yaml", "gridwrold", "../flowrl.config/recipes", "a\0b", "x" * 5000, "", "gridworld.yml"):
        with pytest.raises(UsageError) as caught:
            recipe.read(wrong)
        if wrong.startswith("gridwrold"):
            assert "Did you mean 'gridworld" in str(caught.value)
            assert "paper/hopper.yaml" not in str(caught.value), "the suggestion alone"


def test_pipes_devices_and_large_files_are_no_recipes(tmp_path: Path) -> None:
    """Neither is opened: an open pipe waits for a writer, and an open device can have an effect."""
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "link.yaml").symlink_to("/dev/zero")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(20 * 10**9)  # sparse
    for name, reason in {"pipe": "a pipe", "link": "a device", "large": "larger than 1 MB"}.items():
        with pytest.raises(UsageError, match=f"{name}.yaml cannot be read as a recipe: it is {reason}"):
            recipe.read(tmp_path / f"{name}.yaml")


def test_reading_recipes_does_not_import_torch() -> None:
    program = "import sys, flowrl.config.recipe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# ---- overrides


def test_overrides_are_yaml_and_the_last_one_counts() -> None:
    text = "seed: 1\nlearner:\n  clip: 0.1\nenv:\n"
    built = build(
        text,
        "seed=5",
        "learner.clip=1e-2",
        "learner.clip=0.02",
        "policy.kind=flow",
        "policy.hidden=[8, 8]",
        "learner.max_grad_norm=null",
        "env.id=Hopper-v5",
        "env.options.mode=two_walls",
        "env.options={reset: 'yes', x: -1}",
        " rollout . steps = 7",
    )
    assert built == Root(
        seed=5,
        learner=Learner(clip=0.02, max_grad_norm=None),
        policy=Flow(hidden=(8, 8)),
        env=Env(id="Hopper-v5", options={"reset": "yes", "x": -1}),
        rollout=Rollout(steps=7),
    )


def test_overrides_leave_the_recipe_they_are_applied_to_alone() -> None:
    before = recipe.parse(b"env: {id: a, options: {x: 1}}", "x.yaml")
    recipe.apply(before, ["env.options.x=2", "env.count=3"])
    assert before.values == {"env": {"id": "a", "options": {"x": 1}}}


def test_sections_lie_on_top_and_the_command_line_has_the_last_word() -> None:
    text = b"""
algorithm: fpo
learner: {clip: 0.1, epochs: 3}
fpo:
  learner:
    clip: 0.2
    epochs: 5
ppo:
  learner: {clip: 0.7}
"""
    sections = ("fpo", "fpo++", "ppo")
    preset = {"learner": {"clip": 0.9, "gamma": 0.5}, "policy": {"kind": "flow"}}
    read = recipe.parse(text, "x.yaml")
    lay = recipe.layered(read, sections, "fpo", preset)
    assert lay.values == {
        "algorithm": "fpo",
        "learner": {"clip": 0.2, "epochs": 5, "gamma": 0.5},
        "policy": {"kind": "flow"},
    }
    assert str(lay.place(("learner", "clip"))) == "x.yaml line 6, key fpo.learner.clip"
    assert preset["learner"] == {"clip": 0.9, "gamma": 0.5}, "the preset is not changed"

    overridden = recipe.apply(read, ["learner.clip=0.3", "fpo.learner.epochs=6"])
    assert recipe.layered(overridden, sections, "fpo").values["learner"] == {"clip": 0.3, "epochs": 6}
    block = recipe.apply(read, ["learner={clip: 0.4}"])
    assert recipe.layered(block, sections, "fpo").values["learner"] == {"clip": 0.4}
    assert recipe.layered(read, sections, "fpo++").values["learner"] == {"clip": 0.1, "epochs": 3}

    wrong = recipe.layered(recipe.parse(b"fpo:\n  learner:\n    clpi: 1\n", "x.yaml"), sections, "fpo")
    with pytest.raises(UsageError, match=r"x.yaml line 3, key fpo.learner.clpi: unknown key. Did you mean 'clip'"):
        recipe.validate(Root, wrong)
    with pytest.raises(UsageError, match="line 1, key fpo: expected a block of keys, got 3"):
        recipe.layered(recipe.parse(b"fpo: 3", "x.yaml"), sections, "fpo")


@pytest.mark.parametrize(
    ("changes", "probes"),
    [
        (["learner.probes.count=8"], {"count": 8, "law": "grid", "grid": 5}),  # a block that only the section has
        (["learner.probes={count: 8}"], {"count": 8}),
        (["learner={clip: 1}", "learner.probes.count=8"], {"count": 8}),
        (["learner.probes.count=8", "fpo.learner.probes.grid=6"], {"count": 8, "law": "grid", "grid": 6}),
        (["learner.probes.count=8", "learner.probes={law: uniform}"], {"law": "uniform"}),
    ],
)
def test_a_key_of_the_command_line_leaves_the_sections_other_keys(changes: list[str], probes: dict[str, Any]) -> None:
    text = b"learner: {clip: 0.1}\nfpo:\n  learner: {probes: {count: 4, law: grid, grid: 5}}\n"
    changed = recipe.apply(recipe.parse(text, "x.yaml"), changes)
    assert recipe.layered(changed, ("fpo", "ppo"), "fpo").values["learner"]["probes"] == probes


# ---- what is refused: each with the words that must stand in the message

BAD_YAML: list[tuple[str | bytes, list[str]]] = [
    ("", ["x.yaml is empty"]),
    ("# nothing\n", ["x.yaml is empty"]),
    ("---\n...\n", ["x.yaml is empty"]),
    ("- seed: 1\n", ["line 1", "a list"]),
    ("seed\n", ["line 1", "one value"]),
    ("seed: 1\nseed: 2\n", ["line 2", "key seed", "twice", "line 1"]),
    ("learner:\n  clip: 1\n  gamma: 1\n  clip: 2\n", ["line 4", "learner.clip", "twice", "line 2"]),
    ("env: {options: {a: 1, a: 2}}\n", ["env.options.a", "twice"]),
    ("seed: 1\n1: 2\n", ["line 2", "key 1", "a number", "quotes"]),
    ("true: 2\n", ["key true", "a truth value", "quotes"]),
    ("on: 2\n", ["line 1, key on", "unknown key"]),
    ("~: 2\n", ["key ~", "nothing"]),
    ("? [a, b]\n: 2\n", ["line 1", "not a list"]),
    ("seed: &a 1\n", ["line 1", "'&'"]),
    ("seed: 1\nenv: *a\n", ["line 2", "'*'"]),
    ("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", ["line 1", "alias"]),
    ("env: !!python/object/apply:os.system ['true']\n", ["line 1", "!!python/object/apply:os.system"]),
    ("seed: !!int '3'\n", ["line 1", "tag", "!!int"]),
    ("learner:\n  clip: .inf\n", ["line 2", "learner.clip", "finite"]),
    ("learner:\n  clip: -.INF\n", ["line 2", "learner.clip", "finite"]),
    ("env:\n  options: {a: [1, .nan]}\n", ["line 2", "env.options.a[1]", "finite"]),
    ("seed: 1e999\n", ["key seed", "finite"]),
    ("seed: " + "9" * 50, ["key seed", "too large"]),
    ("seed: " + "9" * 5000, ["key seed", "too large"]),
    ("learner:\n\tclip: 1\n", ["line 2", "tab"]),
    ("learner:\n  clip: 1\n   gamma: 1\n", ["line 3", "indentation"]),
    ("seed: 1: 2\n", ["line 1", "not YAML"]),
    ("seed: 1\n---\nseed: 2\n", ["line 2", "one document"]),
    ("seed: 1\n...\nenv: 2\n", ["line 3", "not YAML"]),
    ("env: 'x\n", ["not YAML", "quote"]),
    ("policy: {hidden: [1, 2}\n", ["line 1", "not YAML"]),
    ("env: @x\n", ["line 1", "quotes"]),
    ("seed 1\nenv: 2\n", ["line 2", "not YAML"]),
    ('env: {id: "\\ud800"}\n', ["env.id", "control character"]),
    ('env: {id: "\\0"}\n', ["env.id", "control character"]),
    ('env: {id: "\\U00110000"}\n', ["line 1", "not YAML"]),
    ("seed: 1\nenv: \0\n", ["line 2", "U+0000"]),
    (b"seed: 1\nenv: \xff\n", ["line 2", "0xff", "UTF-8"]),
    ("seed: 1\n".encode("utf-16"), ["line 1", "UTF-8"]),
    (b"\x89PNG\r\n\x1a\n", ["line 1", "UTF-8"]),
    (b"x" * 1_000_001, ["larger than 1 MB"]),
    ("env: " + "[" * 100_000, ["line 1", "20 levels"]),
    ("env: " + "{a: " * 50 + "1" + "}" * 50, ["line 1", "20 levels"]),
    ("- " * 5000, ["line 1", "20 levels"]),
    ("\n".join(" " * depth + "a:" for depth in range(900)), ["20 levels"]),
    ("env: [" + "1," * 100_000 + "]", ["more than 20000 values"]),
    ("%YAML 9.9\n---\nseed: 1\n", ["line 1", "not YAML"]),
]


@pytest.mark.parametrize(("text", "words"), BAD_YAML, ids=lambda given: repr(given)[:40])
def test_bad_yaml_is_reported_in_one_paragraph(text: str | bytes, words: list[str]) -> None:
    message = refusal(text)
    assert message.startswith("x.yaml")
    for word in words:
        assert word in message


BAD_VALUES: list[tuple[str, list[str]]] = [
    (
        "learner:\n  clpi: 3\n",
        ["line 2, key learner.clpi: unknown key.", "Did you mean 'clip'?", "Known keys here: clip,"],
    ),
    ("lr: 3\n", ["line 1, key lr", "unknown key", "Did you mean 'learner.learning_rate'?"]),
    ("learner: {lr: 3}\n", ["learner.lr", "Did you mean 'learning_rate'?"]),
    ("n_envs: 3\n", ["Did you mean 'env.count'?"]),
    ("env: {id: x, num_envs: 3}\n", ["env.num_envs", "Did you mean 'count'?"]),
    ("learner: {n_steps: 3}\n", ["learner.n_steps", "Did you mean 'rollout.steps'?"]),
    ("learner: {net_arch: [3]}\n", ["Did you mean 'policy.hidden'?"]),
    ("gamma: 1\n", ["key gamma", "Did you mean 'learner.gamma'?"]),
    ("Seed: 1\n", ["key Seed", "Did you mean 'seed'?"]),
    ("total-steps: 1\n", ["Did you mean 'total_steps'?"]),
    ("learner.clip: 0.1\n", ["learner.clip", "write 'learner:' and below it 'clip:'"]),
    ("qwertyuiop: 1\n", ["key qwertyuiop: unknown key. Known keys here: algorithm, seed"]),
    ("seed: 1.5\n", ["line 1, key seed: expected a whole number, got 1.5."]),
    ("seed: 64.0\n", ["expected a whole number, got 64.0. Write 64."]),
    ("seed: '64'\n", ['expected a whole number, got "64" (text). Write 64 without quotes.']),
    ("seed: '64.5'\n", ['expected a whole number, got "64.5" (text).']),
    ("seed: true\n", ["expected a whole number, got true."]),
    ("seed:\n", ["expected a whole number, got nothing (null)."]),
    ("seed: [1]\n", ["expected a whole number, got [1]."]),
    ("seed: {a: 1}\n", ["expected a whole number, got a block of keys."]),
    ("learner: {clip: high}\n", ['learner.clip: expected a number, got "high" (text).']),
    ("learner: {max_grad_norm: None}\n", ['expected a number or null, got "None" (text). Write null.']),
    ("learner: {normalise: yes}\n", ['expected true or false, got "yes" (text). Write true.']),
    ("learner: {normalise: 1}\n", ["expected true or false, got 1."]),
    ("learner:\n  clip: -1\n", ["line 2, key learner.clip: must be > 0, got -1."]),
    ("learner: {clip: 2}\n", ["must be <= 1, got 2."]),
    ("learner: {epochs: 0}\n", ["must be >= 1, got 0."]),
    ("learner: {features: 3}\n", ["must be a multiple of 2, got 3."]),
    ("learner: {target: batsh}\n", ["expected batch, minibatch or no", "Did you mean 'batch'?"]),
    ("learner: {target: false}\n", ["expected batch, minibatch or no, got false."]),
    ("algorithm: fop\n", ["key algorithm: expected fpo, fpo++ or ppo", "Did you mean 'fpo'?"]),
    ("algorithm: fpo_pp\n", ["Did you mean 'fpo++'?"]),
    ("algorithm: ppo\n", ["x.yaml: algorithm ppo needs policy.kind gaussian."]),
    ("env: Hopper-v5\n", ["key env: expected a block of keys", "Write env.id: Hopper-v5."]),
    ("env:\nseed: 1\n", ["line 1, key env: expected a block of keys, got nothing", "indented"]),
    ("env: {count: 3}\n", ["key env.id: this key is missing"]),
    ("env: {id: 5}\n", ["env.id: expected text, got 5. Put it in quotes: '5'."]),
    ("env: {id: x, options: [1]}\n", ["env.options: expected a block of keys, got [1]."]),
    ("policy: {hidden: [3]}\n", ["policy.kind: this key is missing: write flow or gaussian"]),
    ("policy: {kind: flwo}\n", ["policy.kind: expected flow or gaussian", "Did you mean 'flow'?"]),
    ("policy: {kind: flow, hiden: [3]}\n", ["key policy.hiden: unknown key. Did you mean 'hidden'?"]),
    ("policy: {kind: flow, std: 3}\n", ["policy.std", "of the kind flow", "belongs to gaussian"]),
    ("policy: {kind: gaussian, std: 0}\n", ["key policy.std: must be > 0, got 0."]),
    ("policy: 3\n", ["key policy: expected a block of keys, got 3."]),
    ("policy: {kind: flow, hidden: 64}\n", ["policy.hidden: expected a list, got 64. Write [64]."]),
    ("policy: {kind: flow, hidden: [64, '64']}\n", ["policy.hidden[1]: expected a whole number", "without quotes"]),
    ("policy: {kind: flow, hidden: []}\n", ["policy.hidden: needs 1 or more values, got []."]),
    ("policy: {kind: flow, limits: [1]}\n", ["policy.limits: the list ends too early"]),
    ("policy: {kind: flow, limits: [1, 2, 3]}\n", ["policy.limits: may have 2 values at most, got [1, 2, 3]."]),
    ("learner: {learning_rate: x}\n", ["learning_rate: expected a number or a block of keys"]),
    ("learner: {learning_rate: {first: 1, lst: 2}}\n", ["learning_rate.lst: unknown key. Did you mean 'last'?"]),
    ("learner: {learning_rate: {last: 2}}\n", ["learner.learning_rate.first: this key is missing"]),
    ("learner: {learning_rate: {first: x}}\n", ["learner.learning_rate.first: expected a number"]),
]


@pytest.mark.parametrize(("text", "words"), BAD_VALUES, ids=lambda given: repr(given)[:40])
def test_a_bad_value_is_reported_with_line_key_and_remedy(text: str, words: list[str]) -> None:
    message = refusal(text)
    for word in words:
        assert word in message
    assert "more:" not in message, "one mistake, one complaint"
    assert "64.5 without" not in message, "which would be as wrong"


BAD_OVERRIDES: list[tuple[str, list[str]]] = [
    ("learner.clpi=3", ["--set learner.clpi=3, key learner.clpi: unknown key. Did you mean 'learner.clip'?"]),
    ("lr=3", ["Did you mean 'learner.learning_rate'?"]),
    ("learner.clip", ["--set learner.clip: there is no '='"]),
    ("=3", ["--set =3", "key before '='"]),
    ("learner..clip=3", ["key before '='"]),
    (".=3", ["key before '='"]),
    ("", ["there is no '='"]),
    ("seed=", ["--set seed=", "value is missing", "null"]),
    ("seed=x", ["--set seed=x, key seed: expected a whole number"]),
    ("seed=[1", ["--set seed=[1: this is not YAML"]),
    ("seed=1 # one", ["comment"]),
    ("seed=*x", ["alias"]),
    ("seed=!!int 3", ["!!int"]),
    ("seed=.nan", ["finite"]),
    ("seed=@", ["quotes"]),
    ("seed={a: 1, a: 2}", ["twice"]),
    ("learner.clip.x=3", ["--set learner.clip.x=3: learner.clip is 0.1"]),
    ("learner=3", ["--set learner=3, key learner: expected a block of keys, got 3."]),
    ("learner={clip: 0}", ["--set learner={clip: 0}, key learner.clip: must be > 0"]),
    ("policy={kind: flow, hidden: [1, x]}", ["key policy.hidden[1]: expected a whole number"]),
    (".".join("a" * 5000) + "=1", ["20 levels"]),
    ("env.id=" + "[" * 5000, ["20 levels"]),
    ("env.id=" + "x" * 100_000 + "\0", ["U+0000"]),
]


@pytest.mark.parametrize(("override", "words"), BAD_OVERRIDES, ids=lambda given: repr(given)[:40])
def test_a_bad_override_is_reported_with_the_override(override: str, words: list[str]) -> None:
    message = refusal("learner:\n  clip: 0.1\n", override)
    assert message.startswith("--set ")
    for word in words:
        assert word in message


def test_of_a_union_without_discriminator_the_member_that_fits_best_is_reported() -> None:
    class Plain(Settings):
        policy: Flow | Gaussian

    with pytest.raises(UsageError, match=r"line 1, key policy.std: must be > 0, got 0\.$"):
        recipe.validate(Plain, recipe.parse(b"policy: {kind: gaussian, std: 0}", "x.yaml"))


def test_settings_built_in_python_are_as_strict_and_frozen() -> None:
    for first in (math.nan, math.inf, "0.1", True):
        with pytest.raises(ValidationError):
            Schedule.model_validate({"first": first})
    with pytest.raises(ValidationError):
        Learner().clip = 0.2


def test_several_mistakes_are_counted_and_listed_in_the_order_of_the_file() -> None:
    message = refusal(
        "learner:\n  gama: 1\nseed: x\nenv: {id: a, cuont: 3}\ntotal_steps: 1.5\npolicy: 3\n", "rollout.steps=q"
    )
    assert message.startswith("--set rollout.steps=q, key rollout.steps: expected a whole number")
    unknown = "x.yaml line 2, key learner.gama: unknown key (did you mean 'learner.gamma'?)"
    assert f"And 5 more: {unknown}; x.yaml line 3, key seed:" in message
    assert message.endswith("; ….")


def test_synonyms_lead_to_keys_and_never_away_from_one() -> None:
    names = {path[-1] for path in keys_of(Root)}
    assert {"clip", "count", "learning_rate", "std", "first"} <= names
    for synonym in SYNONYMS:
        if synonym not in names:
            suggestion = other_key(Root, (synonym,), list(Root.model_fields))
            assert suggestion == "" or suggestion.startswith("Did you mean")
    assert other_key(Root, ("learner", "discount"), ["clip"]) == "Did you mean 'gamma'?"
    assert other_key(Root, ("env", "first"), ["frist"]) == "Did you mean 'learner.learning_rate.first'?"


# ---- whatever the bytes

_fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_yaml_like = st.text(alphabet="abe:{}[]-,&*!|>'\"%@#?~ \t\n\\.0123_U", max_size=60)


@pytest.mark.slow
@_fuzz
@given(st.one_of(st.binary(max_size=80), _yaml_like.map(str.encode), st.text(max_size=40).map(lambda t: t.encode())))
@example(b'"\\U00110000"')
@example(b"2026-99-99: 1")
@example(b"? {a: b}\n: 1")
@example(b"a: !!binary x")
def test_any_bytes_are_a_recipe_or_a_usage_error(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(data)
    try:
        read = recipe.read(file)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert type(read.values) is dict


@_fuzz
@given(st.one_of(_yaml_like, st.text(max_size=40)), st.sampled_from(["seed=", "learner.clip=", "env.options=", ""]))
def test_any_override_is_applied_or_a_usage_error(text: str, key: str) -> None:
    try:
        build("seed: 1\n", key + text)
    except UsageError as error:
        assert "\n" not in str(error)


# ---- writing

_texts = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), max_size=30),
    st.sampled_from(
        ["1e-3", "2e6", "no", "on", "", "~", "null", "010", "1:30", "0x1F", ".inf", "- a", "a: b", "a #b", "*a"]
    ),
    st.sampled_from(
        ["x\ny", "x\n\n", "\ttab", " x ", "#", "=", "<<", "1_000", "1.", ".5", "2026-01-31", "true", "'", '"']
    ),
)
_numbers = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e-05, 1e16, 1e22, 5e-324, 1.7976931348623157e308, -0.0, 3e-4, 123456789.123]),
)
_values = st.recursive(
    st.one_of(_texts, _numbers, st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_texts, inner, max_size=3)),
    max_leaves=8,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in kind: 1, 1.0 and True are three different things, and so are 0.0 and -0.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other and math.copysign(1, one) == math.copysign(1, other)
    return type(one) is type(other) and bool(one == other)


@pytest.mark.slow
@_fuzz
@given(st.dictionaries(st.text(string.ascii_letters + "_+1", min_size=1, max_size=8), _values, min_size=1, max_size=4))
def test_what_is_written_is_read_back_the_same(values: dict[str, Any]) -> None:
    text = yaml_reader.write(values)
    assert same(yaml_reader.parse(text.encode(), "x.yaml")[0], values)
    assert same(yaml.safe_load(text), values), "by other readers too, though they follow YAML 1.1"


@pytest.mark.slow
@_fuzz
@given(
    st.floats(min_value=5e-324, max_value=1),
    st.lists(st.integers(1, 65_536), min_size=1, max_size=4),
    st.dictionaries(_texts, st.lists(_numbers, max_size=3), max_size=3),
    st.one_of(st.none(), st.floats(-1e300, 1e300)),
)
@example(1e-05, [64, 64], {"a": [1e-05]}, None)
def test_a_dump_gives_equal_settings(
    clip: float, hidden: list[int], options: dict[str, Any], norm: float | None
) -> None:
    root = Root(
        learner=Learner(clip=clip, max_grad_norm=norm, learning_rate=Schedule(first=clip)),
        policy=Flow(hidden=tuple(hidden)),
        env=Env(id="flowrl/GridWorld-v0", options=options),
    )
    assert build(recipe.dump(root)) == root


def test_a_dump_is_in_the_order_of_the_models_and_easy_to_read() -> None:
    lines = recipe.dump(Root()).splitlines()
    assert lines[:4] == ["algorithm: fpo", "seed: 0", "total_steps: 1000", "env:"]
    assert "  hidden: [64, 64]" in lines
    assert "  max_grad_norm: 0.5" in lines
    assert "  target: 'no'" in lines or "  target: batch" in lines
