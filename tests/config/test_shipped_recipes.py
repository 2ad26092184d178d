"""The recipes that come with the package."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from flowrl.config import recipe
from flowrl.config.schema import ALGORITHMS, load
from flowrl.envs.dm_control.tasks import TASKS

SHIPPED = recipe.shipped_names()
PAPER = [name for name in SHIPPED if name.startswith("paper/")]


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_recipe_is_one_for_every_algorithm(name: str, algorithm: str) -> None:
    config = load(recipe.apply(recipe.read(name), [f"algorithm={algorithm}"]))
    assert config.env.id == recipe.read(name).values["env"]["id"]
    assert config.policy.kind == ("gaussian" if algorithm == "ppo" else "flow")
    assert config.env.count * config.rollout.steps % config.learner.minibatches == 0


def test_the_papers_recipes_differ_in_task_and_discount_alone() -> None:
    """Table A.2 of arXiv 2507.21053: gamma .995, but .95 for BallInCup and FingerSpin."""
    kept: list[dict[str, Any]] = []
    gammas = {}
    for name in PAPER:
        values = copy.deepcopy(recipe.read(name).values)
        gammas[values["env"].pop("id")] = values["learner"].pop("gamma")
        kept.append(values)
    assert all(values == kept[0] for values in kept)
    short = {"flowrl/BallInCup-v0", "flowrl/FingerSpin-v0"}
    assert gammas == {f"flowrl/{task}-v0": 0.995 for task in TASKS} | dict.fromkeys(short, 0.95)
    rollout = kept[0]["env"]["count"] * kept[0]["rollout"]["steps"]
    assert (rollout, rollout // kept[0]["learner"]["minibatches"]) == (983_040, 30_720)


def test_recipes_of_the_control_suite_and_of_gymnasium_have_the_same_settings() -> None:
    """They differ in the scale of the rewards; three tasks with rare rewards have environments, minibatches, discount
    and length of an action of their own, and the fish a PPO."""
    rare = {"finger_turn_easy.yaml": 0.995, "finger_turn_hard.yaml": 0.995, "fish.yaml": 0.98}
    by_environment = recipe.shipped_by_environment()
    control = [by_environment[f"flowrl/{task}-v0"] for task in TASKS]
    gymnasium = ["hopper.yaml", "walker2d.yaml", "halfcheetah.yaml", "ant.yaml"]
    kept = []
    for name in control + gymnasium:
        values = copy.deepcopy(recipe.read(name).values)
        del values["env"]["id"], values["total_steps"]
        if name in rare:
            own = (values["env"].pop("count"), values["learner"].pop("minibatches"))
            assert (*own, values["learner"].pop("gamma")) == (256, 16, rare[name])
            assert values["env"].pop("action_repeat", 1) == (4 if name == "fish.yaml" else 1)
            values["env"]["count"], values["learner"]["minibatches"] = 64, 4
            values["learner"]["gamma"] = 0.99
        assert values["learner"].pop("reward_scale", None) == (0.1 if name in gymnasium else None)
        assert values["fpo"].pop("policy") == {"base": "mixture", "output_scale": 0}
        ppo = values.pop("ppo")["learner"]
        assert ppo == {"epochs": 8} or name == "fish.yaml"
        kept.append(values)
    assert all(values == kept[0] for values in kept)


def test_default_recipe_of_an_environment_is_not_a_paper_recipe() -> None:
    found = recipe.shipped_by_environment()
    assert not {name for name in found.values() if name.startswith("paper/")}
    assert {f"flowrl/{task}-v0" for task in TASKS} <= set(found)
    assert found["flowrl/HumanoidTrack-v0"] == "humanoid.yaml"


def test_the_humanoids_recipes_differ_in_what_is_imitated_alone() -> None:
    """But for the motors of humanoid-full, which may aim at the reference because its policy sees all of it."""
    kept, changed, targets = [], [], []
    for name in ("humanoid.yaml", "humanoid-full.yaml", "humanoid-root-hands.yaml", "humanoid-root.yaml"):
        values = copy.deepcopy(recipe.read(name).values)
        targets.append(values["env"]["options"].pop("targets", "zero_pose"))
        changed.append((values["env"].pop("goal"), values["env"].pop("motions"), values.pop("total_steps")))
        kept.append(values)
    assert all(values == kept[0] for values in kept)
    assert targets == ["zero_pose", "reference", "zero_pose", "zero_pose"]
    assert changed == [
        ("full", ["gait:walk"], 1_500_000),
        ("full", ["gait:styles"], 1_500_000),
        ("root_hands", ["gait:styles"], 3_000_000),
        ("root", ["gait:styles"], 3_000_000),
    ]
