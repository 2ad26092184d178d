"""What a faulty environment makes of `flowrl train`, `eval` and `play`: exit codes, words, and the numbers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from flowrl.cli import run
from flowrl.contracts.errors import EnvironmentFailed
from flowrl.envs import rendering, saved_state
from flowrl.envs.adapter import Adapter
from flowrl.envs.factory import carry_over, make
from flowrl.envs.settings import EnvSettings
from flowrl.envs.state_capture import layers
from flowrl.experiments.evaluate import EvalRequest, evaluate_checkpoint, open_checkpoint
from flowrl.reporting import video
from flowrl.storage import checkpoint

ID = "flowrl-test/Walk-v0"
RUN = "runs/run"


class Walk(gymnasium.Env[Any, Any]):
    """Walks 10 steps from around `centre`, where it starts; the observation is the position."""

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012
    observation_space: Any = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space: Any = spaces.Box(-1, 1, (1,), np.float32)
    centre = 0.0

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.x, self.t = 0.0, 0

    def see(self) -> Any:
        return np.array([self.x], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.t = self.centre + float(self.np_random.uniform(-1, 1)), 0
        return self.see(), {}

    def step(self, action: Any) -> Any:
        self.x, self.t = self.x + float(action[0]), self.t + 1
        return self.see(), self.reward(), False, self.t == 10, {}

    def reward(self) -> float:
        return -abs(self.x - self.centre)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    gymnasium.registry.pop(ID, None)


def train(entry: Any, *arguments: str, mode: str = "sync", steps: int = 128) -> int:
    gymnasium.registry.pop(ID, None)
    gymnasium.register(ID, entry_point=entry)
    Path("tiny.yaml").write_text(
        f"total_steps: {steps}\nenv: {{id: {ID}, count: 2, mode: {mode}}}\nrollout: {{steps: 16}}\n"
        "policy: {hidden: [8]}\nlearner: {epochs: 1, minibatches: 1, critic: {hidden: [8]}}\n"
    )
    return run(["train", "tiny.yaml", "--name", "run", *arguments])


@pytest.mark.parametrize("what", ["reward", "see"])
def test_before_any_update_a_value_that_is_not_finite_is_the_environments_fault(
    what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class Broken(Walk):
        def reward(self) -> float:
            return float("nan") if what == "reward" and self.t == 3 else 0.0

        def see(self) -> Any:
            return np.array([np.inf if what == "see" and self.t == 3 else 0.0], dtype=np.float32)

    assert train(Broken) == 5
    said = capsys.readouterr().err
    name = "reward" if what == "reward" else "observation"
    assert f"the {name} of environment 0, 1 is not finite (step 3 after the reset). No update has been made yet" in said
    assert "learning_rate" not in said


def test_after_an_update_it_may_be_the_policys(capsys: pytest.CaptureFixture[str]) -> None:
    class Late(Walk):
        steps = 0

        def reward(self) -> float:
            Late.steps += 1
            return float("nan") if Late.steps == 2 * 16 + 5 else 0.0  # in the second rollout of 2 environments

    assert train(Late) == 3
    assert "training stopped in iteration 2, after 32 env steps" in capsys.readouterr().err


def test_huge_returns_are_named_as_the_cause(capsys: pytest.CaptureFixture[str]) -> None:
    class Huge(Walk):
        def reward(self) -> float:
            return 1e30 * self.x

    assert train(Huge) == 3
    said = capsys.readouterr().err
    assert "learner.reward_scale" in said and "learning_rate" not in said
    assert "e+30: lower that key" in said or "e+31: lower that key" in said  # up to 10 steps of up to 1e31 each


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_close_that_raises_changes_no_result(mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    class Unclosed(Walk):
        def close(self) -> None:
            raise RuntimeError("no window")

    assert train(Unclosed, mode=mode) == 0
    out, err = capfd.readouterr()
    assert "128 env steps" in out  # the summary
    assert (
        [line for line in err.splitlines() if "no window" in line]
        == [line for line in err.splitlines() if line.startswith(f"note: closing {ID} failed")]
        != []
    )


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_text_on_descriptor_1_does_not_reach_the_json_document(mode: str, capfd: pytest.CaptureFixture[str]) -> None:
    class Loud(Walk):
        def reward(self) -> float:
            os.write(1, b"loud\n")
            print("and python")
            return 0.0

    assert train(Loud, "--json", mode=mode) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["env_steps"] == 128
    assert "loud" in err
    os.write(1, b"after\n")
    assert capfd.readouterr().out == "after\n"  # descriptor 1 is what it was


def test_an_interrupt_that_the_environment_raises_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    class Quitting(Walk):
        def reward(self) -> float:
            raise KeyboardInterrupt

    assert train(Quitting) == 5
    assert "environment 0 failed in step: KeyboardInterrupt" in capsys.readouterr().err


def test_an_interrupt_by_a_signal_is_the_users() -> None:
    class Interrupted(Walk):
        def reward(self) -> float:
            for _ in range(2):  # the second quits at once
                os.kill(os.getpid(), 2)
                time.sleep(0.01)
            return 0.0

    assert train(Interrupted) == 130


def test_a_training_without_the_end_of_an_episode_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    class Endless(Walk):
        def step(self, action: Any) -> Any:
            return *Walk.step(self, action)[:3], False, {}

    assert train(Endless) == 0
    said = capsys.readouterr().err
    assert said.count("no episode of flowrl-test/Walk-v0 ended in 64 steps of each of its 2 environments") == 1
    assert "env.options.max_episode_steps" in said


class Far(Walk):
    centre = 1000.0


def normalised(**options: Any) -> Any:
    return NormalizeReward(NormalizeObservation(Far(**options)))


def test_running_statistics_of_wrappers_are_saved_and_evaluated_with() -> None:
    """Around 1000: with new statistics the first observations of an evaluation would be of quite another size."""
    assert train(normalised) == 0
    opened = open_checkpoint(Path(RUN))
    states = saved_state.of_run(opened.content)["envs"]
    assert states is not None
    env = make(EnvSettings(id=ID, count=3, mode="sync"))
    assert carry_over(env, saved_state.of_run(opened.content), opened.config.env) == ""
    obs = env.reset(0)
    each = env._each.envs  # type: ignore[union-attr]
    rms = [next(layer.obs_rms for layer in layers(one) if hasattr(layer, "obs_rms")) for one in each]
    assert all(abs(one.mean[0] - 1000) < 20 and one.count > 50 for one in rms)
    assert rms[0].mean == rms[2].mean != rms[1].mean  # environment i has those of i modulo 2
    starts = [one.unwrapped.x for one in each]
    expected = [(x - one.mean[0]) / np.sqrt(one.var[0] + 1e-8) for x, one in zip(starts, rms, strict=True)]
    np.testing.assert_allclose(obs[:, 0].numpy(), expected, rtol=1e-3)
    count = rms[0].count
    env.step(torch.zeros(3, 1))
    assert rms[0].count == count  # frozen


def test_an_evaluation_does_not_depend_on_its_length() -> None:
    assert train(normalised) == 0
    opened = open_checkpoint(Path(RUN))
    few, many = (
        evaluate_checkpoint(opened, EvalRequest(episodes=episodes, noise="zero")).evaluation.returns
        for episodes in (4, 12)
    )
    np.testing.assert_allclose(few, many[:4], rtol=1e-6)


class Curriculum(Walk):
    """Begins each episode farther away than the last one, by `step`."""

    def __init__(self, render_mode: str | None = None, step: float = 1.0, evaluation: bool = False) -> None:
        super().__init__(render_mode)
        self.level, self.step_size, self.evaluation = 0, step, evaluation

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.level += 1
        self.x = self.level * self.step_size + (0.5 if self.evaluation else 0.0)
        return self.see(), {}


def test_a_curriculum_is_evaluated_where_it_has_come_to_with_the_options_that_are_asked_for() -> None:
    """64 steps are six episodes and the start of a seventh; an evaluation's reset begins the eighth."""
    assert train(Curriculum) == 0
    opened = open_checkpoint(Path(RUN))
    settings = opened.config.env.model_copy(update={"options": {"step": 3.0}})
    env = make(settings, count=2, evaluation=True)
    assert carry_over(env, saved_state.of_run(opened.content), opened.config.env) == ""
    assert env.reset(0).tolist() == [[8 * 3.0 + 0.5]] * 2


@pytest.mark.parametrize("id", ["flowrl/GridWorld-v0", "flowrl/ReacherEasy-v0"])
def test_a_run_of_our_own_environments_in_processes_is_evaluated(id: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.yaml").write_text(
        f"total_steps: 8\nenv: {{id: {id}, count: 2, mode: async}}\nrollout: {{steps: 4}}\n"
        "policy: {hidden: [8]}\nlearner: {epochs: 1, minibatches: 1, critic: {hidden: [8]}}\n"
    )
    assert run(["train", "own.yaml", "--name", "run"]) == 0
    limit = "env.options.max_steps=3" if "Grid" in id else "env.options.max_episode_steps=3"
    capsys.readouterr()
    assert run(["eval", RUN, "--episodes", "2", "--set", limit]) == 0
    assert "may not be" not in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_running_statistics_resume_exactly(mode: str) -> None:
    def env() -> Adapter:
        return make(EnvSettings(id=ID, count=2, mode=mode))  # type: ignore[arg-type]

    gymnasium.register(ID, entry_point=normalised)
    actions = torch.randn(24, 2, 1, generator=torch.manual_seed(0))
    straight = env()
    straight.reset(1)
    for action in actions[:12]:
        straight.step(action)
    assert straight.exact_resume
    state, resumed = straight.state(), env()
    resumed.restore(state)
    for action in actions[12:]:
        one, other = straight.step(action), resumed.step(action)
        assert torch.equal(one.obs, other.obs) and torch.equal(one.reward, other.reward)
    straight.close()
    resumed.close()


class Opaque(Walk):
    """Has something that cannot be captured."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.world = iter(())
        return super().reset(seed=seed)


def test_eval_says_where_the_environment_may_not_be_the_one_trained_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(Opaque) == 0
    capsys.readouterr()
    assert run(["eval", RUN, "--episodes", "2", "--noise", "random,zero"]) == 0
    said = capsys.readouterr().err
    assert said.count(f"the state of {ID} was not saved with the run") == 1
    assert "this environment is not the one that was trained in" in said


def test_statistics_are_saved_where_the_rest_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(lambda **options: NormalizeObservation(Opaque(**options))) == 0
    saved = saved_state.of_run(checkpoint.load(Path(RUN) / "ckpt.pt"))
    assert saved["envs"] is None and len(saved["statistics"]) == 2
    capsys.readouterr()
    assert run(["eval", RUN, "--episodes", "2"]) == 0
    assert "not the one that was trained in" not in capsys.readouterr().err


def test_eval_in_an_environment_with_other_wrappers_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert train(normalised) == 0
    gymnasium.registry.pop(ID)
    gymnasium.register(ID, entry_point=Far)
    capsys.readouterr()
    assert run(["eval", RUN, "--episodes", "2"]) == 0
    assert "this environment is not the one that was trained in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (None, "its render() returned None"),
        ([np.zeros((4, 4, 3), np.uint8)], "its render() returned [array("),
        (np.zeros((4, 4), np.uint8), "an array of shape (4, 4) and type uint8"),
        (np.zeros((4, 4, 3)), "an array of shape (4, 4, 3) and type float64"),
        (np.zeros((4, 4, 2), np.uint8), "an array of shape (4, 4, 2)"),
        (np.zeros((0, 4, 3), np.uint8), "an array of shape (0, 4, 3)"),
        ("picture.png", "'picture.png' (str)"),
    ],
)
def test_what_render_returned_is_named(picture: Any, said: str) -> None:
    class Drawn(Walk):
        def render(self) -> Any:
            return picture

    gymnasium.register(ID, entry_point=Drawn)
    env = rendering.make_visible(EnvSettings(id=ID), rendering.Size(64, 64))
    env.reset(0)
    with pytest.raises(EnvironmentFailed, match="must return an array") as caught:
        rendering.picture(env)
    assert said in str(caught.value)


class Growing(Walk):
    """Its picture is one pixel wider in every step."""

    def render(self) -> Any:
        return np.full((20, 30 + self.t, 3), 200, np.uint8)


def test_pictures_of_changing_size_have_the_size_of_the_first() -> None:
    gymnasium.register(ID, entry_point=Growing)
    env = rendering.make_visible(EnvSettings(id=ID), rendering.Size(64, 64))
    env.reset(0)
    for _ in range(3):
        env.step(torch.zeros(1, 1))
        assert rendering.picture(env).shape == (20, 31, 3)
    env.reset(0)
    narrower = rendering.picture(env)
    assert (narrower[:, :30] == 200).all() and (narrower[:, 30] == 0).all()


def test_an_environment_whose_picture_changes_its_size_is_played() -> None:
    assert train(Growing) == 0
    assert run(["play", RUN, "--video", "a.gif"]) == 0
    assert Path("a.gif").stat().st_size > 0


@pytest.mark.parametrize("suffix", ["webp", "gif"])
def test_a_video_fits_frames_into_the_first(suffix: str, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / f"a.{suffix}"
    with video.writing(path) as writer:
        for size in ((40, 30), (50, 20), (20, 60)):
            writer.add(Image.new("RGB", size, (255, 0, 0)), 0.1)
    with Image.open(path) as film:
        assert film.size == (40, 30)
        assert film.n_frames == 3  # type: ignore[attr-defined]


def terminate_self() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)


def test_a_signal_while_an_environment_closes_ends_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    class Closing(Walk):
        stop = False

        def close(self) -> None:
            if Closing.stop:
                Closing.stop = False
                terminate_self()

    assert train(Closing) == 0
    Closing.stop = True
    assert run(["eval", RUN, "--episodes", "2"]) == 143
    said = capsys.readouterr().err
    assert "stopped by SIGTERM." in said and "failed, which changes no result" not in said


@pytest.mark.parametrize("replaced", [False, True], ids=["as is", "replaced by an error of the environment"])
def test_a_signal_during_carry_over_ends_the_command(replaced: bool, capsys: pytest.CaptureFixture[str]) -> None:
    class Carrying(Walk):
        stop = False

        def __init__(self, render_mode: str | None = None) -> None:
            super().__init__(render_mode)
            self.level = 0

        def __setattr__(self, name: str, value: Any) -> None:
            object.__setattr__(self, name, value)
            if name == "level" and value > 1 and Carrying.stop:  # what the training has left
                Carrying.stop = False
                try:
                    terminate_self()
                except BaseException:
                    if replaced:
                        raise ValueError("no such level") from None
                    raise

        def reward(self) -> float:
            self.level += 1
            return 0.0

    assert train(Carrying) == 0
    Carrying.stop = True
    assert run(["eval", RUN, "--episodes", "2"]) == 143
    assert not Carrying.stop  # the signal came
    said = capsys.readouterr().err
    assert "stopped by SIGTERM." in said and "not the one that was trained in" not in said


def test_an_observation_whose_square_is_infinite_is_refused_before_an_update(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Its opposites have the sum 0: 1e200 is finite in float64, and its square is not."""

    class Enormous(Walk):
        observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)

        def see(self) -> Any:
            return np.array([1e200, -1e200]) if self.t == 3 else np.array([1e30, self.x])

    assert train(Enormous) == 5
    said = capsys.readouterr().err
    assert "the observation of environment 0, 1 is larger than float32 holds (3.4e38) (step 3 after the reset)" in said
    assert "No update has been made yet" in said and "Traceback" not in said
