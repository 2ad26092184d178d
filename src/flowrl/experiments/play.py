"""Videos of trained policies: complete episodes, side by side, from the same starts under the same noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flowrl.contracts.errors import UsageError
from flowrl.envs import factory, rendering, saved_state
from flowrl.envs.families import family_of
from flowrl.envs.rendering import Size
from flowrl.envs.settings import EnvSettings
from flowrl.experiments.evaluate import EvalRequest, LoadedCheckpoint, check_sizes, facts, load, open_checkpoint
from flowrl.experiments.suite.trial import trial_of
from flowrl.policies import noise_modes
from flowrl.reporting import video

PANELS = 16  # at most
RATE = 30.0  # frames per second, at most, by default
PICTURE = Size(320, 240)  # of environments that take a size, by default
LARGEST = Size(640, 480)  # of the others
LONGEST = 10_000  # steps of an episode, by default
PAUSE = 1.0  # seconds that the end of an episode is shown


@dataclass(frozen=True)
class Playback:
    """A video file and the episodes in it."""

    video: str
    frames: int
    fps: float
    width: int
    height: int
    bytes: int
    episodes: list[dict[str, Any]]  # a row per panel and episode
    config: dict[str, Any]  # of the first checkpoint

    @property
    def sentence(self) -> str:
        """'play.webp: 101 frames of 640 x 284 at 20 per second, 0.61 MB'"""
        return (
            f"{self.video}: {self.frames} frames of {self.width} x {self.height} at {self.fps:.3g} per second, "
            f"{self.bytes / 1e6:.2g} MB"
        )


def play(
    ckpt: Path,
    request: EvalRequest,
    others: Sequence[str] = (),
    *,
    path: Path | None = None,
    size: Size | None = None,
    fps: float = RATE,
    max_steps: int | None = None,
    progress: Callable[[int, int], None] = lambda episode, step: None,
) -> Playback:
    """Play `request.episodes` episodes of a checkpoint into a video, by default play.webp beside it.

    Every sampler, noise mode and scale of the request has a panel, and so has each of `others`: another
    checkpoint, or a sampler such as heun:4. Episode k starts from seed `request.seed` + k - 1 in every panel.
    An episode is cut after `max_steps`. Time runs as in the environment: steps are left out to stay
    below `fps` frames per second. `progress` is called with the episode and step that is being played.

    Raises UsageError for what does not fit together or cannot be drawn, MissingDependency where a package for
    drawing or writing is not installed, CheckpointError and StorageError.
    """
    if path is not None:
        video.check(path)
    panels = plan_panels(ckpt, request, others)
    saved = panels[0][0].config.model_dump(mode="json")
    path = path or panels[0][0].path.with_name("play.webp")
    with ExitStack() as stack:
        players = []
        for opened, each in panels:
            players.append(Player(opened, each, size or PICTURE))
            stack.callback(players[-1].env.close)
            check_sizes(players[-1].loaded, players[-1].env)
        check_same_task(players)
        every = max(1, math.ceil(rendering.rate(players[0].env) / fps))
        shown_for = every / rendering.rate(players[0].env)  # seconds

        count, rows, frame_size = 0, [], (0, 0)
        writer = stack.enter_context(video.writing(path))
        for episode in range(1, request.episodes + 1):
            for last, drawn in play_episode(players, request, episode, every, max_steps or LONGEST, progress):
                frame = video.compose(drawn, size or LARGEST)
                writer.add(frame, PAUSE if last else shown_for)
                count, frame_size = count + 1, frame.size
            rows += [player.row(episode) for player in players]
    return Playback(str(path), count, 1 / shown_for, *frame_size, path.stat().st_size, rows, saved)


def plan_panels(ckpt: Path, request: EvalRequest, others: Sequence[str]) -> list[tuple[LoadedCheckpoint, EvalRequest]]:
    """Return the checkpoint and the request of each panel, each combination once; raises UsageError for too many."""
    opened = {ckpt: open_checkpoint(ckpt)}
    requests = [(ckpt, each) for each in request.each(None)]
    for other in others:
        if is_checkpoint(other):
            opened[Path(other)] = open_checkpoint(Path(other))
            requests += [(Path(other), each) for each in request.each(None)]
        else:
            requests += [(ckpt, each) for each in replace(request, sampler=other).each(None)]
    distinct = dict.fromkeys((path, opened[path].applicable(each)) for path, each in requests)
    if len(distinct) > PANELS:
        raise UsageError(f"{len(distinct)} panels do not fit in one video: choose at most {PANELS}.")
    return [(opened[path], each) for path, each in distinct]


def is_checkpoint(name: str) -> bool:
    """Return whether `name` means a checkpoint or run folder, existing or not, and no sampler."""
    return Path(name).exists() or name.endswith(".pt") or ("/" in name and ".py:" not in name)


def check_same_task(players: Sequence[Player]) -> None:
    """Raise UsageError unless all players have the same environment, options and `action_repeat`."""
    configs = [player.loaded.config.env for player in players]
    for env in configs:
        if arguments(env) != arguments(configs[0]):
            raise UsageError(
                f"side by side, all must play the same: one policy's environment is {described(configs[0])}, another's "
                f"{described(env)}. Give them the same with --env ID or --set env.options.KEY=VALUE, or make a video "
                "of each."
            )


def arguments(env: EnvSettings) -> dict[str, object]:
    """Return the settings in which the environments of two panels must agree."""
    repeat = {"action_repeat": env.action_repeat} if env.action_repeat > 1 else {}
    return {"id": env.id} | env.options | repeat


def described(env: EnvSettings) -> str:
    """'flowrl/GridWorld-v0 with mode=cshape'"""
    options = ", ".join(f"{key}={value}" for key, value in arguments(env).items() if key != "id")
    return f"{env.id} with {options}" if options else env.id


class Player:
    """A policy in an environment: one panel."""

    def __init__(self, opened: LoadedCheckpoint, request: EvalRequest, size: Size) -> None:
        self.loaded = load(opened, request)
        self.env = rendering.make_visible(self.loaded.config.env, size)
        opened.notify(factory.carry_over(self.env, saved_state.of_run(opened.content), opened.config.env))
        self.label = label(opened)

    def start(self, seed: int, episode: int) -> None:
        """Start the episode of that number; the same `seed` gives every player the same start and the same noise.

        Where the environment has several variants, each episode shows the next one."""
        self.total, self.length = 0.0, 0
        self.success: bool | None = None  # None where the environment does not report it
        self.ended = False  # by the environment
        self.over = False  # ended, or cut
        self.loaded.policy.noise.generator.manual_seed(seed)
        self.obs = self.env.reset(seed)
        for _ in range((episode - 1) % max(1, len(self.env.variants))):
            self.obs = self.env.reset(None)
        self.variant = next(iter(self.env.current_variants), None)
        self.picture = rendering.picture(self.env)

    def step(self, max_steps: int) -> None:
        """Act once; an episode of `max_steps` is over."""
        step = self.env.step(self.loaded.policy(self.obs))
        self.obs = step.obs
        self.total += float(step.reward)
        self.length += 1
        self.ended = bool(step.terminated | step.truncated)
        self.over = self.ended or self.length >= max_steps
        if self.ended and not step.success.isnan():
            self.success = bool(step.success)

    def look(self) -> None:
        """Draw the environment in its present state."""
        self.picture = rendering.picture(self.env)

    def row(self, episode: int) -> dict[str, Any]:
        """Return the episode's numbers, as the table and the JSON document have them."""
        variants = family_of(self.env.settings.id).variants
        return {
            "label": self.label,
            **facts(self.loaded),
            "episode": episode,
            **({variants.name: self.variant} if variants and self.variant is not None else {}),
            "return": self.total,
            "length": self.length,
            "success": self.success,
            "ended": self.ended,
        }

    def panel(self, episode: str) -> video.VideoPanel:
        """Return the picture with its caption."""
        how = facts(self.loaded)
        sampler = how["sampler"] and f"{how['sampler']}:{how['steps']}" if how["steps"] else how["sampler"]
        noise = noise_modes.label(how["noise"], how["noise_scale"])
        title = [self.label, sampler, f"{noise} noise" if noise != "random" else None, episode, self.variant]
        numbers = [
            f"NFE {how['nfe']:.3g}" if how["nfe"] is not None else None,
            f"step {self.length}",
            f"{'final return' if self.ended else 'return'} {self.total:.1f}",
            {True: "success", False: "failure", None: None}[self.success],
        ]
        tone: video.Tone = "ended" if self.over else "running"
        if self.success is not None:
            tone = "success" if self.success else "failure"
        return video.VideoPanel(self.picture, " · ".join(filter(None, title)), " · ".join(filter(None, numbers)), tone)


def label(opened: LoadedCheckpoint) -> str:
    """Return 'hopper-fpo · FPO', the run and its algorithm; for a trial of a suite 'hopper seed0 · FPO'."""
    path = opened.path.resolve()
    name, of_suite = path.parent.name, trial_of(path.parent)
    if of_suite is not None:
        name = f"{of_suite.recipe} {name}"
    if path.stem != "ckpt":
        name = f"{name} {path.stem}"
    return f"{name} · {opened.config.algorithm.upper()}"


def _reason(players: Sequence[Player]) -> str:
    """Return why the starts differ, and what to type, where the environments have different variants."""
    variants = family_of(players[0].env.settings.id).variants
    if variants is None or all(player.env.variants == players[0].env.variants for player in players):
        return ""
    return f", for {variants.differ}"


def play_episode(
    players: Sequence[Player],
    request: EvalRequest,
    episode: int,
    every: int,
    max_steps: int,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[bool, list[video.VideoPanel]]]:
    """Play one episode; yield (whether it is the end, panels) after the start, every `every` steps and the end.

    A player whose episode is over keeps its last picture. Raises UsageError when the starts differ.
    """
    number = f"episode {episode}/{request.episodes}" if request.episodes > 1 else ""
    for player in players:
        player.start(request.seed + episode - 1, episode)
    if any(not torch.equal(player.obs, players[0].obs) for player in players):
        raise UsageError(
            f"{players[0].env.settings.id} starts differently under the same seed{_reason(players)}, so that panels "
            "side by side would not be comparable. Play them one by one."
        )
    yield False, [player.panel(number) for player in players]
    step = 0
    while running := [player for player in players if not player.over]:
        step += 1
        progress(episode, step)
        for player in running:
            player.step(max_steps)
            if player.over or step % every == 0:
                player.look()
        done = all(player.over for player in players)
        if done or step % every == 0:
            yield done, [player.panel(number) for player in players]
