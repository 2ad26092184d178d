"""Saving a run while it trains."""

from __future__ import annotations

import time
from pathlib import Path

from flowrl.config import recipe
from flowrl.contracts.errors import TrainingDiverged
from flowrl.contracts.notices import say
from flowrl.experiments import run_folder
from flowrl.experiments.build import Run
from flowrl.reporting.reporters import Reporters
from flowrl.storage import checkpoint
from flowrl.storage.files import write_text
from flowrl.storage.value_checks import OutOfRange
from flowrl.training.loop import Metrics


class Saver:
    """Saves ckpt.pt every `checkpoint.every_s` seconds, and best.pt after the window with the best returns so far.

    config.yaml follows the first ckpt.pt, so that the two agree also where a resume with changed settings fails;
    `has_config` says that the folder has that of the run already. Of several processes the first one writes, when its
    clock says so; without `folder` and `reporters` the others give the state of their shards at the same times.
    """

    def __init__(self, run: Run, folder: Path | None, reporters: Reporters | None, *, has_config: bool) -> None:
        self._run = run
        self._folder = folder
        self._reporters = reporters
        self._saved_at = time.monotonic()
        self._warned = False
        self._has_config = has_config
        self._warn()
        self._print_notes()

    def take(self, metrics: Metrics) -> None:
        """Add the metrics of an iteration, and save when it is time."""
        settings, best = self._run.config.checkpoint, self._run.best
        best.add(metrics.get("return_mean", 0.0), int(metrics["episodes"]))
        over = settings.best_over
        if over and (metrics["iteration"] % over == 0 or self._run.training.finished) and best.close():
            self.save(checkpoint.BEST)
        if self._run.shards.first_says(time.monotonic() - self._saved_at >= settings.every_s):
            self.save()
        self._print_notes()

    def save(self, name: str = checkpoint.LATEST) -> None:
        """Save the run as the checkpoint `name` of its folder; raises TrainingDiverged after an overflow."""
        content = self._run.content(0 if self._reporters is None else self._reporters.offset)
        if self._folder is None:
            return
        if name == checkpoint.BEST:  # the returns that chose it were theirs, not those of their moving average
            content["evaluation_weights"] = "actor"
        try:
            checkpoint.save(self._folder / name, content)
        except OutOfRange as error:
            raise TrainingDiverged(f"the state of the run has left the range that can be saved: {error}") from error
        self._warn()
        if name == checkpoint.LATEST:
            self._saved_at = time.monotonic()
            if not self._has_config:
                write_text(self._folder / run_folder.CONFIG, recipe.dump(self._run.config))
                self._has_config = True

    def _print_notes(self) -> None:
        """Print what the environments have shown and has not been printed before."""
        normalised = self._run.config.learner.normalise_observations
        for note in self._run.env.notes(normalised=normalised, finished=self._run.training.finished):
            say(f"note: {note}")

    def _warn(self) -> None:
        """Print, once, that a resume will not be exact, which shows at the first reset or at a later save."""
        env = self._run.env
        if env.exact_resume or self._warned:
            return
        self._warned = True
        say(
            f"the state of {env.settings.id} cannot be saved ({env.inexact_because}): a resume of this run is not "
            "exact, it will start new episodes."
        )
