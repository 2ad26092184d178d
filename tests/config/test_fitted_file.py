"""The file of a fitted sampler: read where the user names it, refused where it is wrong, never opened for another."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowrl.config import fitted_file, recipe, schema
from flowrl.config.fitted_file import FittedFile
from flowrl.config.recipe import Recipe
from flowrl.contracts.errors import UsageError

GOOD = "flowrl: fitted\nnfe: 2\ntimes: [0, 0.5]\nweights: [[0.5], [0.25, 0.75]]\ntarget: euler:10\n"


def write(folder: Path, text: str, name: str = "fitted-2.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    weights = ((1 / 3,), (0.1, 0.9))
    content = FittedFile(flowrl="fitted", nfe=2, times=(0.0, 1 / 7), weights=weights, of="a" * 64, endpoint_error=0.01)
    assert fitted_file.read(str(write(tmp_path, fitted_file.text(content)))).content == content


def test_a_recipe_takes_the_numbers_of_the_file_beside_it(tmp_path: Path) -> None:
    """So that the configuration, and the checkpoint with it, needs no file."""
    write(tmp_path, GOOD)
    text = "total_steps: 8\nenv: {id: flowrl/GridWorld-v0}\nsampler: {name: fitted-2.yaml}\n"
    config = schema.load(recipe.read(write(tmp_path, text, "mine.yaml")))
    assert config.sampler.name == "fitted"
    expected = {"times": [0.0, 0.5], "weights": [[0.5], [0.25, 0.75]], "label": "fitted-2"}
    assert config.sampler.options() == expected
    assert config.model_dump(mode="json")["sampler"] == {"name": "fitted", "steps": None, **expected}


def test_the_section_of_an_algorithm_and_an_option_may_name_one(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    text = f"total_steps: 8\nenv: {{id: flowrl/GridWorld-v0}}\nfpo: {{sampler: {{name: {path}}}}}\n"
    assert schema.load(recipe.read(write(tmp_path, text, "mine.yaml"))).sampler.name == "fitted"
    plain = recipe.read(write(tmp_path, text.split("fpo")[0], "plain.yaml"))
    assert schema.load(recipe.apply(plain, [f"sampler.name={path}"])).sampler.name == "fitted"


def test_what_only_a_checkpoint_names_is_not_opened(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    values = {"sampler": {"name": str(path)}}
    assert fitted_file.filled(Recipe("ckpt.pt", values, checkpoint="ckpt.pt")).values == values
    assert fitted_file.filled(Recipe("mine.yaml", values)).values["sampler"]["name"] == "fitted"
    assert values == {"sampler": {"name": str(path)}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("flowrl: fitted", "algorithm: fpo"), "is not the file of a sampler"),
        (GOOD.replace("nfe: 2", "nfe: 3"), "line 3, key times: 2 numbers, and nfe is 3"),
        (GOOD.replace("0.5], [0.25", ".nan], [0.25"), "numbers must be finite"),
        (GOOD.replace("[0.25, 0.75]", "[0.25]"), "line 4, key weights"),
        (GOOD.replace("[0, 0.5]", "[0, '0.5']"), "line 3, key times"),
        (GOOD.replace("[0, 0.5]", "[0.5, 0]"), "must rise"),
        (GOOD + "run: !!python/object/apply:os.system [ls]\n", "is not read"),
        (GOOD + "module: os\n", "module"),
        ("flowrl: fitted\nnfe: 65\ntimes: [0]\nweights: [[1]]\n", "nfe"),
        ("- 1\n", "this is a list"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageError) as raised:
        fitted_file.read(str(path))
    assert str(path) in str(raised.value)
    assert message in str(raised.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    for name, message in [("none.yaml", "no such file"), ("folder.yaml", "it is a folder")]:
        with pytest.raises(UsageError, match=message):
            fitted_file.read(str(tmp_path / name))
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (fitted_file.MOST_BYTES + 1))
    with pytest.raises(UsageError, match="larger than"):
        fitted_file.read(str(large))


def test_another_checkpoint_than_that_of_the_fit_is_named() -> None:
    content = FittedFile(flowrl="fitted", nfe=1, times=(0.0,), weights=((1.0,),), of="a" * 64)
    named = fitted_file.NamedFile("runs/x/fitted-1.yaml", content)
    assert named.mismatch("a" * 64) == ""
    assert "was fitted to another checkpoint" in named.mismatch("b" * 64)
