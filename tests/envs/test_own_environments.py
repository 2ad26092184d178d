"""An environment that a user names by file, module, import or entry point: what is made of it, and what is refused."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium
import pytest
import torch

from flowrl.contracts import offers as installed
from flowrl.contracts import user_code
from flowrl.contracts.errors import UsageError
from flowrl.envs import factory, lookup, rendering
from flowrl.envs.settings import EnvSettings
from flowrl.envs.simulation.vector_env import TaskVectorEnv
from tests.envs import own_environment


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the user's files; nothing in it is named yet."""
    own_environment.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    paths, threads = list(sys.path), torch.get_num_threads()
    torch.set_num_threads(1)  # as a run does: a forked process has none of the others
    with user_code.naming_apart():
        yield tmp_path
    sys.path[:] = paths
    torch.set_num_threads(threads)
    for name in [name for name in sys.modules if name.startswith(("my_package", "beside"))]:
        del sys.modules[name]
    for id in ("door/Reach-v0", "my/Other-v0"):
        gymnasium.registry.pop(id, None)


def length_of(id: str, **settings: Any) -> int:
    """After how many steps the first episode of the environment ends."""
    env = factory.make(EnvSettings(id=id, count=2, **settings))
    try:
        env.reset(0)
        for step in range(1, 50):
            if env.step(torch.zeros(2, env.action_size)).truncated.any():
                return step
        return 0
    finally:
        env.close()


@pytest.mark.parametrize(
    ("id", "settings", "steps"),
    [
        ("my_env.py:Reach", {}, 4),
        ("./my_env.py:Reach", {"options": {"length": 9}}, 9),
        ("my_env.py:Reach", {"options": {"max_episode_steps": 2}}, 2),
        ("my_env.py:Reach", {"mode": "async"}, 4),
        ("my_env.py:make", {"options": {"length": 5}}, 6),
        ("my_env.py:many", {}, 5),
        ("my_env.py:Many", {}, 5),
        ("my_env.py:many", {"options": {"length": 8}}, 8),
        ("my_env.py:SPEC", {}, 7),
        ("my_env.py:door/Reach-v0", {}, 6),
        ("my_env:Reach", {}, 4),  # a module in the current folder
        ("my_task.py:Cart", {}, 12),
        ("my_task.py:Cart", {"options": {"max_episode_steps": 5}}, 5),
        ("my_task.py:Cart", {"options": {"episode_steps": 6}}, 6),
    ],
)
def test_code_that_is_named_is_made(id: str, settings: dict[str, Any], steps: int) -> None:
    user_code.name_code(id)
    assert length_of(id, **settings) == steps


def test_a_task_takes_the_way_of_the_control_tasks() -> None:
    user_code.name_code("my_task.py")
    settings = EnvSettings(id="my_task.py:Cart", count=3, threads=1, options={"spread": 0.01})
    env = factory.make(settings)
    inner: Any = env._envs
    assert isinstance(inner, TaskVectorEnv) and env.native and env.exact_resume
    assert inner.runner.simulation.threads == 1
    first = env.reset(0)
    assert first[:, 0].abs().max() <= 0.01
    actions = torch.rand(30, 3, 1, generator=torch.manual_seed(0)) * 2 - 1
    for action in actions[:15]:
        env.step(action)
    state, other = env.state(), factory.make(settings.model_copy(update={"threads": 2}))
    other.restore(state)
    for action in actions[15:]:
        one, two = env.step(action), other.step(action)
        assert torch.equal(one.obs, two.obs) and torch.equal(one.reward, two.reward)
    env.close()
    other.close()


def test_a_task_is_drawn_in_the_size_that_is_asked_for() -> None:
    user_code.name_code("my_task.py")
    env = rendering.make_visible(EnvSettings(id="my_task.py:Cart"), rendering.Size(64, 48))
    env.reset(0)
    assert rendering.picture(env).shape == (48, 64, 3)
    env.close()


@pytest.mark.parametrize(
    ("id", "said"),
    [
        ("my_env.py:Reech", "my_env.py has no 'Reech'. Did you mean 'Reach'?"),
        ("my_env.py:NUMBER", "is an object of int, and no environment can be made with it"),
        ("my_env.py:Plain", "the class Plain is not derived from gymnasium.Env. Write class Plain(gymnasium.Env)"),
        ("my_env.py:Unspaced", "my_env.py:Unspaced has no observation_space. Set it in __init__"),
        ("my_env.py:Stepless", "my_env.py:Stepless has no reset. Write def reset(self, *, seed=None"),
        ("my_env.py:Needy", "needs 'goal' and 'speed': write env.options: {goal: …, speed: …}"),
        ("my_env.py:nothing", "returned <class 'NoneType'>, not a gymnasium.Env"),
        ("my_env.py:NextStep", "its autoreset mode is NEXT_STEP"),
        ("my_env.py:one_by_one", "it made a SyncVectorEnv, which steps single environments. Name what makes one"),
        ("my_env.py:no/Such-v0", "my_env.py registers no environment 'no/Such-v0'"),
        ("my_env.py", "names no environment: write my_env.py:Name"),
        ("there_is_no.py:Env", "there is no file there_is_no.py in "),
        ("no_module.envs:Env", "there is no module no_module."),
        ("broken.py:Env", "broken.py cannot be run: ZeroDivisionError: division by zero (broken.py:1)"),
        ("syntax.py:Env", "syntax.py cannot be run: SyntaxError: "),
        ("my_task.py:Cart", None),
    ],
)
def test_what_cannot_be_used_is_explained(id: str, said: str | None, folder: Path) -> None:
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "syntax.py").write_text("def:\n")
    user_code.name_code(id)
    options = {} if said else {"spraed": 1.0}
    with pytest.raises(UsageError) as caught:
        factory.make(EnvSettings(id=id, count=1, options=options))
    text = str(caught.value)
    assert (said or "Did you mean 'spread'") in text
    assert "\n" not in text


@pytest.mark.parametrize("id", ["my_env.py:Reach", "my_env:Reach", "my_task.py:Cart"])
def test_nothing_is_run_that_was_not_named(id: str, folder: Path) -> None:
    for name in ("my_env.py", "my_task.py"):
        (folder / name).write_text(f"open('RUN', 'w')\n{(folder / name).read_text()}")
    source = id.partition(":")[0]
    with pytest.raises(UsageError, match=rf"only when you name it: --import {source} \(look at it first\)"):
        factory.make(EnvSettings(id=id, count=1))
    assert not (folder / "RUN").exists()


def test_a_package_that_is_named_stands_for_its_modules_and_no_others(folder: Path) -> None:
    package = folder / "my_package"
    own_environment.write(package)
    (package / "__init__.py").write_text("")
    (package / "envs.py").write_text("from gymnasium.envs.classic_control import PendulumEnv as Env\n")
    user_code.name_code("my_package")
    assert user_code.is_named("my_package.envs:Env") and not user_code.is_named("my_packages:Env")
    assert not user_code.is_named("os:system")
    factory.make(EnvSettings(id="my_package.envs:Env", count=1)).close()


def test_an_imported_file_registers_ids() -> None:
    with pytest.raises(UsageError, match=r"type --import my_env\.py"):
        factory.make(EnvSettings(id="door/Reach-v0"))
    user_code.name_code("my_env.py")
    user_code.load("my_env.py", "--import")
    assert length_of("door/Reach-v0") == 6
    assert length_of("door/Reach-v0", mode="async") == 6


def offer(monkeypatch: pytest.MonkeyPatch, *offers: tuple[str, str]) -> None:
    found = [EntryPoint(name, value, lookup.GROUP) for name, value in offers]
    monkeypatch.setattr(installed, "entry_points", lambda group: found if group == lookup.GROUP else [])


def test_an_installed_package_offers_environments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point that names a class, or a module that registers ids. Installing it was naming it."""
    monkeypatch.syspath_prepend(folder)
    (folder / "my_package.py").write_text(
        "import gymnasium\nfrom my_env import Reach\ngymnasium.register('my/Other-v0', Reach)\n"
    )
    offer(monkeypatch, ("reach", "my_env:Reach"), ("my_package", "my_package"))
    assert length_of("reach", options={"length": 3}) == 3
    assert length_of("my/Other-v0") == 4
    with pytest.raises(UsageError, match=r"no environment 'raech'\. Did you mean 'reach'"):
        lookup.find("raech")
    offer(monkeypatch, ("reach", "my_env:Reach"), ("reach", "other:Reach"))
    with pytest.raises(UsageError, match="2 packages offer an environment of this name"):
        lookup.find("reach")
    offer(monkeypatch, ("reach", "not_there:Reach"))
    with pytest.raises(UsageError, match="cannot be loaded: ModuleNotFoundError"):
        lookup.find("reach")


def length_in_worker(maker: bytes, results: Any) -> None:
    env = cloudpickle.loads(maker)()
    results.put(env.unwrapped.length)


def test_a_worker_that_inherits_nothing_gets_what_was_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with the start methods spawn and forkserver."""
    user_code.name_code("my_env.py")
    user_code.load("my_env.py", "--import")
    made: list[Any] = []
    monkeypatch.setattr(factory, "SyncVectorEnv", lambda makers, **options: made.extend(makers))
    settings = EnvSettings(id="door/Reach-v0", count=1)
    factory.built(lookup.find(settings.id), "sync", 1, {}, settings)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    worker = context.Process(target=length_in_worker, args=(cloudpickle.dumps(made[0]), results))
    worker.start()
    assert results.get(timeout=60) == 6
    worker.join()


def test_code_that_has_changed_is_run_again(folder: Path) -> None:
    user_code.name_code("x.py")
    for number in (1, 2):
        (folder / "x.py").write_text(f"A = {number}\n")
        assert user_code.load("x.py:A", "a") == number
    assert user_code.load("x.py:A", "a") == 2
    with user_code.naming_apart():
        assert not user_code.is_named("x.py")
    assert user_code.is_named(str(folder / "x.py"))
