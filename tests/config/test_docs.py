"""The pages that are written by scripts, or that name commands, say what is true."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


def test_the_configuration_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("configuration", ROOT / "scripts/configuration.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text() == script.page(), "type: python scripts/configuration.py"


@pytest.mark.parametrize("algorithm", ["fpo", "fpo++", "ppo"])
@pytest.mark.parametrize(
    "recipe", sorted((ROOT / "src/flowrl/config/recipes").rglob("*.yaml")), ids=lambda path: path.stem
)
def test_every_shipped_recipe_is_valid_for_every_algorithm(recipe: Path, algorithm: str) -> None:
    from flowrl.config.recipe import apply, read
    from flowrl.config.schema import load

    config = load(apply(read(str(recipe)), [f"algorithm={algorithm}"]))
    assert config.env.id == yaml.safe_load(recipe.read_text())["env"]["id"]
