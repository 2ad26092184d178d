"""The schema of a checkpoint: a wrong, missing or unknown key is named, with what came and what was expected."""

from __future__ import annotations

import copy
import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowrl.contracts.errors import CheckpointError
from flowrl.storage import checkpoint, integrity
from flowrl.storage.content import check

GOLDEN = Path(__file__).parents[1] / "data" / "checkpoints"
RUNS = sorted(path.parents[1].name for path in GOLDEN.glob("*/run/ckpt.pt"))
CONTENTS = {name: checkpoint.load(GOLDEN / name / "run" / "ckpt.pt") for name in RUNS}
GONE = object()


def changed(name: str, key: str, value: object) -> dict[str, Any]:
    """The content of a golden checkpoint with one key, such as actor/layers.0.bias, changed."""
    content = copy.deepcopy(CONTENTS[name])
    *outer, last = [int(step) if step.isdecimal() else step for step in key.split("/")]
    holder: Any = content
    for step in outer:
        holder = holder[step]
    if value is GONE:
        del holder[last]
    else:
        holder[last] = value
    return content


def words(content: dict[str, Any]) -> str:
    with pytest.raises(ValueError, match=r"its key|expected") as caught:
        check(content)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("sizes", GONE, "its key 'sizes' is missing"),
        ("average", 3, "its key 'average' is 3: expected a dict"),
        ("sizes/observation", "x", "its key 'sizes.observation' is 'x': expected a whole number"),
        ("sizes/observation", 10**10, "expected less than or equal to"),
        ("sizes/action", 0, "its key 'sizes.action' is 0: expected greater than or equal to 1"),
        ("shards/0/generator", None, "its key 'shards.0.generator' is nothing (None): expected a tensor"),
        ("shards/0/generator", torch.zeros(5056, dtype=torch.uint8), "not the state of a random generator"),
        ("shards/0/generator", torch.zeros(3), "a float32 tensor of shape (3,) is not the state of a random generator"),
        ("metrics_offset", GONE, "its key 'metrics_offset' is missing"),
        ("metrics_offset", -1, "its key 'metrics_offset' is -1"),
        ("schedule", True, "its key 'schedule' is True: expected a dict"),
        ("schedule/factor", float("nan"), "its key 'schedule.factor' is nan: expected"),
        ("advantage_scale", 1e308, "its key 'advantage_scale' is 1e+308"),  # beyond float32
        ("progress/seconds", "x", "its key 'progress.seconds' is 'x': expected a number"),
        ("progress/window_return", GONE, "its key 'progress.window_return' is missing"),
        ("progress/best_return", float("nan"), "best_return is nan"),
        ("progress/iteration", 2**64, "its key 'progress.iteration'"),
        ("actor/layers.0.weight", torch.full((16, 12), torch.nan), "'actor.layers.0.weight': it has numbers that are"),
        ("actor/layers.0.weight", torch.zeros(16, 12, dtype=torch.int64), "expected a floating-point tensor"),
        ("normaliser/mean", torch.zeros(3, dtype=torch.float64), "normaliser.mean has the shape (3,): expected (2,)"),
        ("normaliser/count", torch.tensor(-1.0, dtype=torch.float64), "not 0 or more"),
        ("optimizer/state/0/step", torch.tensor(-1.0), "'optimizer.state.0.step': it has numbers that are not 0"),
        ("optimizer/state/0/exp_avg_sq", torch.full((16, 12), -1.0), "not 0 or more"),
        ("optimizer/param_groups", [], "its key 'optimizer.param_groups' is a list of 0"),
        (
            "shards/0/episodes/returns",
            torch.zeros(1, dtype=torch.float64),
            "shards.0.episodes.returns has the shape (1,): expected (64,)",
        ),
        ("shards/0/env/count", 10**9, "expected (1000000000, 2), for 1000000000 environments"),
        ("shards/0/env/envs", 3, "its key 'shards.0.env.envs' is 3"),
        ("shards/0/random/python", (3, (1, 2), None), "not the state of Python's random generator"),
        (
            "shards/0/random/numpy/pos",
            10**9,
            "its key 'shards.0.random.numpy.pos'",
        ),  # NumPy would read beyond its memory
        ("shards/0/random/numpy/key", torch.full((624,), 2**40), "key has 624 numbers: expected 624 of 32 bits"),
        ("shards/0/random/generators/noise", 1, "its key 'shards.0.random.generators.noise' is 1: expected a tensor"),
        ("config", {"note": torch.zeros(1)}, "a configuration has plain values only"),
        ("config/many", [[]] * 30_000, "more than 20,000 values"),
        ("flowrl", "x" * 1000, "its key 'flowrl' is 'xxxx"),
    ],
)
def test_a_wrong_key_is_named_with_what_came_and_what_was_expected(key: str, value: object, said: str) -> None:
    assert said in words(changed("gridworld-fpo", key, value))


@pytest.mark.parametrize(
    "key", ["learner", "optimizer/state/0/max", "sizes/reward", "shards/0/random/jax", "shards/0/env/\x1b[2J"]
)
def test_a_key_of_another_version_is_named(key: str) -> None:
    said = words(changed("gridworld-fpo", key, 1))
    shown = ascii(key.replace("/", "."))
    assert f"its key {shown} is not known to flowrl" in said.replace("\\\\", "\\")
    assert "\x1b" not in said


def keys(value: Any, at: str = "") -> Iterator[str]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        key = f"{at}/{name}".removeprefix("/")
        yield key
        yield from keys(item, key)


@pytest.mark.parametrize("name", RUNS)
def test_what_flowrl_saves_fits_and_without_any_key_of_the_schema_it_does_not(name: str) -> None:
    check(CONTENTS[name])
    free = ("config/", "average/", "actor/", "critic/", "optimizer/param_groups/")
    free += ("shards/0/env/envs/", "shards/0/random/generators/")
    states = {f"optimizer/state/{number}" for number in CONTENTS[name]["optimizer"]["state"]}
    named = [key for key in keys(CONTENTS[name]) if not key.startswith(free) and key not in states]
    assert len(named) > 60
    for key in named:
        words(changed(name, key, GONE))


def test_save_refuses_what_load_would_refuse_and_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "ckpt.pt"
    checkpoint.save(path, CONTENTS["gridworld-fpo"])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"'progress\.seconds'"):
        checkpoint.save(path, changed("gridworld-fpo", "progress/seconds", -1.0))
    assert path.read_bytes() == before


def test_random_forgeries_of_every_part_end_in_a_paragraph_or_fit(tmp_path: Path) -> None:
    """What loads is within the schema, so that no caller can meet a key of another type."""
    chance = random.Random(0)
    wrong: list[Any] = [GONE, None, "x", 10**10, 2**64, -1, True, 1e308, float("nan"), [], {}, [[]], {"a": 1}]
    wrong += [torch.zeros(3), torch.zeros(0), np.pi]
    refused = 0
    for name in RUNS:
        every = [key for key in keys(CONTENTS[name]) if not key.startswith(("config/", "shards/0/env/envs/"))]
        for key in chance.sample(every, 40):
            file = io.BytesIO()
            torch.save(changed(name, key, chance.choice(wrong)), file)
            integrity.append_checksum(file)
            (tmp_path / "ckpt.pt").write_bytes(file.getvalue())
            try:
                checkpoint.load(tmp_path / "ckpt.pt")
            except CheckpointError as error:
                assert str(tmp_path / "ckpt.pt") in str(error)
                assert "\n" not in str(error)
                refused += 1
    assert refused >= 100


@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_of_format_1_is_read_as_one_shard(name: str, tmp_path: Path) -> None:
    old = torch.load(GOLDEN / name / "run" / "ckpt.pt", weights_only=True)
    new = checkpoint.load(GOLDEN / name / "run" / "ckpt.pt")
    assert (old["format"], new["format"], len(new["shards"])) == (1, 2, 1)
    moved = {"generator", "episodes", "env", "random"}
    assert new["shards"][0].keys() == moved and old.keys() - moved == new.keys() - {"shards"}
    assert torch.equal(new["shards"][0]["generator"], old["generator"])
    checkpoint.save(tmp_path / "ckpt.pt", new)
    again = torch.load(tmp_path / "ckpt.pt", weights_only=True)
    assert again["format"] == 2 and again.keys() == new.keys()
