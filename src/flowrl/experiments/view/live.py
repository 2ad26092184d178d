"""Show a checkpoint's policy live in a browser until its user ends it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from flowrl.contracts.errors import MissingDependency, Stopped, UsageError
from flowrl.experiments.evaluate import EvalRequest, open_checkpoint
from flowrl.experiments.view.session import Session

START = 60.0  # s within which Studio's server has to be there


@dataclass(frozen=True)
class Viewed:
    """What has been seen."""

    episodes: int  # that have ended
    mean: float | None  # return of the last ones
    config: dict[str, Any]  # of the checkpoint


def view(ckpt: Path, request: EvalRequest, host: str, port: int, ready: Callable[[str], None]) -> Viewed:
    """Serve the page until the user quits in it or presses Ctrl-C; `ready` is called with its address.

    Raises UsageError for an environment without MuJoCo, for a host that is not this computer's and for a port that is
    taken, MissingDependency without MuJoCo Studio, and what loading a checkpoint raises.
    """
    if find_spec("mujoco.studio") is None:
        raise MissingDependency(
            "flowrl view needs MuJoCo Studio, which is not installed here. Type: pip install mujoco-studio"
        )
    opened = open_checkpoint(ckpt)
    session = Session(opened, request)
    results = sys.stdout

    def announce(url: str) -> None:
        with redirect_stdout(results):
            ready(url)
        results.flush()

    try:
        with redirect_stdout(sys.stderr):  # for Studio's log
            serve(session, host, port, announce)
    except Stopped as stopped:
        if stopped.signal != signal.SIGINT:
            raise
    finally:
        session.env.close()
    return Viewed(session.readings.episodes, session.readings.mean, opened.config.model_dump(mode="json"))


def serve(session: Session, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Run the simulation and the server of its page."""
    from flowrl.experiments.view import serving, simulation
    from flowrl.experiments.view.panel import Panel
    from flowrl.experiments.view.window import Window

    address = serving.checked_host(host)
    window = Window(session)
    plugins = [window, Panel(session, window), simulation.Stepper(session)]
    ports: SimpleQueue[int] = SimpleQueue()

    def arrived() -> None:
        session.controls.watched = True

    try:
        with serving.launch(address, port, session.title, plugins, ports.put, arrived) as handle:
            handle.set_model(session.scene.model, data=simulation.data_of(session))
            announced = False
            while handle.is_running() and not session.ended:
                if not announced:
                    try:
                        ready(serving.url(address, ports.get(timeout=0.1)))
                        announced = True
                    except Empty:
                        continue
                handle.sync()
    except RuntimeError as error:
        if "in use" not in str(error):
            raise
        taken = f"--port {port}: it is taken" if port else "the ports 8080 to 8099 are taken"
        raise UsageError(
            f"{taken}. Choose another one with --port, such as --port {port + 1 if port else 8100}."
        ) from error
