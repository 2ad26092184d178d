"""Playing trained policies into a video: whole episodes, side by side, from the same starts under the same noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from flowrl.contracts.errors import UsageError
from flowrl.envs import rendering
from flowrl.envs.rendering import Size
from flowrl.envs.settings import EnvSettings
from flowrl.experiments.evaluate import (
    EvalRequest,
    LoadedCheckpoint,
    check_sizes,
    facts,
    load,
    open_checkpoint,
)
from flowrl.experiments.suite.trial import trial_of
from flowrl.reporting import video

PANELS = 16  # at most
RATE = 30.0  # frames per second, at most, unless asked otherwise
PICTURE = Size(320, 240)  # of environments that can be asked for a size
LARGEST = Size(640, 480)  # of the others
LONGEST = 10_000  # steps of an episode, unless asked otherwise
PAUSE = 1.0  # seconds that the end of an episode is shown


@dataclass(frozen=True)
class Playback:
    """A video, and what can be seen in it."""

    video: str
    frames: int
    fps: float
    width: int
    height: int
    bytes: int
    episodes: list[dict[str, Any]]  # a row per panel and episode

    @property
    def sentence(self) -> str:
        """'play.webp: 101 frames of 640 x 284 at 20 per second, 0.61 MB'"""
        return (
            f"{self.video}: {self.frames} frames of {self.width} x {self.height} at {self.fps:.3g} per second, "
            f"{self.bytes / 1e6:.2g} MB"
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `--json` prints them."""
        return asdict(self)


def play(
    ckpt: Path,
    question: EvalRequest,
    others: Sequence[str] = (),
    *,
    path: Path | None = None,
    size: Size | None = None,
    fps: float = RATE,
    max_steps: int | None = None,
    progress: Callable[[int, int], None] = lambda episode, step: None,
) -> Playback:
    """Play `question.episodes` episodes of a checkpoint into a video, by default play.webp beside it.

    Every sampler and noise mode in the question makes a panel, and so does each of `others`: another
    checkpoint, or a sampler such as heun:4. Episode k starts from seed `question.seed` + k - 1 in every panel.
    An episode is cut after `max_steps`. Time runs as in the environment: steps are left out to stay
    below `fps` frames per second. `progress` is told the episode and step that is being played.

    Raises UsageError for what does not fit together or cannot be drawn, MissingDependency where something to
    draw or write with is not installed, CheckpointError and StorageError.
    """
    if path is not None:
        video.check(path)
    casts = cast(ckpt, question, others)
    path = path or casts[0][0].path.with_name("play.webp")
    with ExitStack() as stack:
        players = []
        for subject, asked in casts:
            players.append(Player(subject, asked, size or PICTURE))
            stack.callback(players[-1].env.close)
        check_same_task(players)
        every = max(1, math.ceil(rendering.rate(players[0].env) / fps))
        shown_for = every / rendering.rate(players[0].env)  # seconds

        count, rows, frame_size = 0, [], (0, 0)
        film = stack.enter_context(video.writing(path))
        for episode in range(1, question.episodes + 1):
            for last, panels in watch(players, question, episode, every, max_steps or LONGEST, progress):
                frame = video.compose(panels, size or LARGEST)
                film.add(frame, PAUSE if last else shown_for)
                count, frame_size = count + 1, frame.size
            rows += [player.row(episode) for player in players]
    return Playback(str(path), count, 1 / shown_for, *frame_size, path.stat().st_size, rows)


def cast(
    ckpt: Path, question: EvalRequest, others: Sequence[str]
) -> list[tuple[LoadedCheckpoint, EvalRequest]]:
    """Who plays in which panel."""
    subjects = {ckpt: open_checkpoint(ckpt)}
    asked = [(ckpt, each) for each in question.each(None)]
    for other in others:
        if is_checkpoint(other):
            subjects[Path(other)] = open_checkpoint(Path(other))
            asked += [(Path(other), each) for each in question.each(None)]
        else:
            asked += [(ckpt, each) for each in replace(question, sampler=other).each(None)]
    heard = dict.fromkeys((path, subjects[path].heard(each)) for path, each in asked)
    panels = [(subjects[path], each) for path, each in heard]
    if len(panels) > PANELS:
        raise UsageError(f"{len(panels)} panels do not fit in one video: choose at most {PANELS}.")
    return panels


def is_checkpoint(name: str) -> bool:
    """Whether `name` means a checkpoint or a run folder, there or not, rather than a sampler."""
    return Path(name).exists() or name.endswith(".pt") or ("/" in name and ".py:" not in name)


def check_same_task(players: Sequence[Player]) -> None:
    """Raise UsageError unless all players act in the same environment with the same options, equally often."""
    configs = [player.loaded.config.env for player in players]
    for env in configs:
        if arguments(env) != arguments(configs[0]):
            raise UsageError(
                f"side by side, all must play the same: one policy's environment is {told(configs[0])}, another's "
                f"{told(env)}. Give them the same with --env ID or --set env.options.KEY=VALUE, or play them apart."
            )


def arguments(env: EnvSettings) -> dict[str, object]:
    """What makes an environment what it is."""
    repeat = {"action_repeat": env.action_repeat} if env.action_repeat > 1 else {}
    return {"id": env.id} | env.options | repeat


def told(env: EnvSettings) -> str:
    """'flowrl/GridWorld-v0 with mode=cshape'"""
    options = ", ".join(f"{key}={value}" for key, value in arguments(env).items() if key != "id")
    return f"{env.id} with {options}" if options else env.id


class Player:
    """A policy in an environment: one panel."""

    def __init__(self, subject: LoadedCheckpoint, question: EvalRequest, size: Size) -> None:
        self.loaded = load(subject, question)
        self.env = rendering.make_visible(self.loaded.config.env, size)
        try:
            check_sizes(self.loaded, self.env)
        except UsageError:
            self.env.close()
            raise
        self.label = label(subject)
        self._start_over()

    def _start_over(self) -> None:
        self.total, self.length = 0.0, 0
        self.success: bool | None = None  # None where the environment does not say
        self.ended = False  # by the environment
        self.over = False  # ended, or cut

    def start(self, seed: int, episode: int) -> None:
        """Begin the episode of that number; the same `seed` gives every player the same start and the same noise.

        Of several motions the next one is shown in every episode."""
        self._start_over()
        self.loaded.policy.noise.generator.manual_seed(seed)
        self.obs = self.env.reset(seed)
        for _ in range((episode - 1) % max(1, len(self.env.clips))):
            self.obs = self.env.reset(None)
        self.motion = next(iter(self.env.showing), None)
        self.picture = rendering.picture(self.env)

    def step(self, max_steps: int) -> None:
        """One action."""
        step = self.env.step(self.loaded.policy(self.obs))
        self.obs = step.obs
        self.total += float(step.reward)
        self.length += 1
        self.ended = bool(step.terminated | step.truncated)
        self.over = self.ended or self.length >= max_steps
        if self.ended and not step.success.isnan():
            self.success = bool(step.success)

    def look(self) -> None:
        """Draw the environment as it is now."""
        self.picture = rendering.picture(self.env)

    def row(self, episode: int) -> dict[str, Any]:
        """The episode in numbers."""
        return {
            "label": self.label,
            **facts(self.loaded),
            "episode": episode,
            **({} if self.motion is None else {"motion": self.motion}),
            "return": self.total,
            "length": self.length,
            "success": self.success,
            "ended": self.ended,
        }

    def panel(self, episode: str) -> video.VideoPanel:
        """The picture and its caption."""
        made = facts(self.loaded)
        sampler = (
            made["sampler"] and f"{made['sampler']}:{made['steps']}" if made["steps"] else made["sampler"]
        )
        noise = f"{made['noise']} noise" if made["noise"] != "random" else None
        title = [self.label, sampler, noise, episode, self.motion]
        told = [
            f"NFE {made['nfe']:.3g}" if made["nfe"] is not None else None,
            f"step {self.length}",
            f"{'final return' if self.ended else 'return'} {self.total:.1f}",
            {True: "success", False: "failure", None: None}[self.success],
        ]
        tone: video.Tone = "ended" if self.over else "running"
        if self.success is not None:
            tone = "success" if self.success else "failure"
        return video.VideoPanel(
            self.picture, " · ".join(filter(None, title)), " · ".join(filter(None, told)), tone
        )


def label(subject: LoadedCheckpoint) -> str:
    """'hopper-fpo · FPO': the run and its algorithm; of a cell of a suite its recipe and seed, 'hopper seed0 · FPO'."""
    path = subject.path.resolve()
    name, of_suite = path.parent.name, trial_of(path.parent)
    if of_suite is not None:
        name = f"{of_suite.recipe} {name}"
    if path.stem != "ckpt":
        name = f"{name} {path.stem}"
    return f"{name} · {subject.config.algorithm.upper()}"


def _reason(players: Sequence[Player]) -> str:
    """Where the policies were trained on other motions: so, and what to type."""
    if all(player.env.clips == players[0].env.clips for player in players):
        return ""
    return ", for the policies imitate other motions (--set env.motions=gait:walk gives all the same)"


def watch(
    players: Sequence[Player],
    question: EvalRequest,
    episode: int,
    every: int,
    max_steps: int,
    progress: Callable[[int, int], None],
) -> Iterator[tuple[bool, list[video.VideoPanel]]]:
    """One episode: after the start, every `every` steps and the end, whether it is the end, and the panels.

    Who is done keeps its last picture until all are. Raises UsageError when the starts differ.
    """
    number = f"episode {episode}/{question.episodes}" if question.episodes > 1 else ""
    for player in players:
        player.start(question.seed + episode - 1, episode)
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
