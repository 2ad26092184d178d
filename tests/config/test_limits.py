"""Every number of a recipe has a lower and an upper limit, and both ends of it are accepted."""

import math
from collections.abc import Iterator
from typing import Any, get_args

import annotated_types
import pytest
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from flowrl.cli import run
from flowrl.config import recipe
from flowrl.config.schema import Config, load
from flowrl.contracts.errors import UsageError
from flowrl.samplers import registry

LOWER, UPPER = (annotated_types.Ge, annotated_types.Gt), (annotated_types.Le, annotated_types.Lt)


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models(part)


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[type[BaseModel], str, str, FieldInfo]]:
    """(model, key, name, field) of every field that holds no block of settings."""
    for name, field in model.model_fields.items():
        inner = list(models(field.annotation))
        for each in inner:
            yield from fields(each, f"{prefix}{name}.")
        if not inner:
            yield model, f"{prefix}{name}", name, field


def kinds(annotation: Any) -> set[Any]:
    """The plain types in an annotation, without what is inside a list."""
    parts = get_args(annotation)
    if annotation in (int, float) or not parts:
        return {annotation}
    return set() if getattr(annotation, "__origin__", None) in (tuple, list, dict) else set().union(*map(kinds, parts))


def limits(metadata: list[Any]) -> tuple[list[Any], list[Any]]:
    flat = [each for item in metadata for each in (item.metadata if isinstance(item, FieldInfo) else [item])]
    return [m for m in flat if isinstance(m, LOWER)], [m for m in flat if isinstance(m, UPPER)]


NUMBERS = {
    key: (model, name, field) for model, key, name, field in fields(Config) if kinds(field.annotation) & {int, float}
}


def test_the_numbers_of_a_recipe_are_found() -> None:
    assert {"seed", "env.count", "learner.clip", "learner.loss_limit", "policy.initial_std"} <= NUMBERS.keys()
    assert len(NUMBERS) >= 45


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_has_both_limits_and_takes_no_more(key: str) -> None:
    model, name, field = NUMBERS[key]
    lower, upper = limits(field.metadata)
    assert lower, f"{key} has no lower limit"
    assert upper, f"{key} has no upper limit"
    whole = float not in kinds(field.annotation)
    convert = int if whole else float
    for limit in (lower[0], upper[0]):
        value = next(getattr(limit, each) for each in ("ge", "gt", "le", "lt") if hasattr(limit, each))
        inclusive = isinstance(limit, annotated_types.Ge | annotated_types.Le)
        outwards = -math.inf if limit is lower[0] else math.inf
        beyond = value + (1 if outwards > 0 else -1) if whole else math.nextafter(value, outwards)
        assert _accepts(model, name, convert(value)) is inclusive
        assert not _accepts(model, name, convert(beyond))


def _accepts(model: type[BaseModel], name: str, value: float) -> bool:
    """Whether the model takes the value of this key; other keys may be missing."""
    try:
        model.model_validate({name: value})
    except ValidationError as error:
        return not any(details["loc"][:1] == (name,) for details in error.errors())
    return True


@pytest.mark.parametrize("key", ["policy.hidden", "learner.critic.hidden"])
def test_a_list_has_a_length_and_its_numbers_have_limits(key: str) -> None:
    def loaded(value: list[int]) -> Config:
        return load(recipe.apply(recipe.read("gridworld.yaml"), [f"{key}={value}"]))

    loaded([1])
    loaded([65536])
    loaded([1] * 64)
    for wrong in ([], [0], [-1], [65537], [8, 10**30], [1] * 65):
        with pytest.raises(UsageError, match=key.replace(".", r"\.")):
            loaded(wrong)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("euler", {"steps": 10_001}, "steps must be at most 10000"),
        ("ab2", {"steps": 10**30}, "steps must be at most 10000"),
        ("dopri5", {"rtol": 1e-300}, "rtol must be positive and finite, from 1e-12 to 1000"),
        ("dopri5", {"atol": 1e300}, "atol must be"),
        ("dopri5", {"max_nfe": 10**18}, "max_nfe must be at most"),
    ],
)
def test_options_of_samplers_have_limits(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        registry.make(name, options)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("env.options.max_steps=1000000000000000000", "max_steps must be"),
        ("env.options.max_steps=1000001", "max_steps must be 1,000,000 at most"),
        ("env.options.max_episode_steps=2000000000", "max_episode_steps must be 1,000,000 at most"),
    ],
)
def test_options_of_environments_have_limits(option: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    id = "Pendulum-v1" if "episode" in option else "flowrl/GridWorld-v0"
    assert run(["train", "gridworld.yaml", "--dry-run", "--set", f"env.id={id}", "--set", option]) == 2
    errors = capsys.readouterr().err
    assert words in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "command",
    [
        "eval run --steps 1000000000",
        "eval run --sweep-steps 1,1000000000",
        "eval run --episodes 1000000000000",
        "eval run --seed 99999999999999999999999",
        "play run --episodes 1000000000",
        "play run --fps 1e300",
        "bench-latency --steps 1000000000",
        "bench-latency --batch 1000000000",
        "bench-latency --threads 1000000",
        "suite gridworld.yaml --seeds 1000000000",
        "suite gridworld.yaml --seeds 0-99999999999",
        "suite gridworld.yaml --steps 999999999999B",
        "suite gridworld.yaml --jobs 1000000",
        "motions gait:walk:seconds=1e300",
    ],
)
def test_numbers_on_the_command_line_have_limits(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = command.replace("run", "tests/data/checkpoints/gridworld-fpo/run").split()
    assert run(words) == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert len(errors.strip().splitlines()) == 1
