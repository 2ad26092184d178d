"""`flowrl view` in a headless Chromium, and its errors."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest
from PIL import Image

from flowrl import cli
from flowrl.experiments.evaluate import EvalRequest, open_checkpoint
from flowrl.experiments.view import live
from flowrl.experiments.view.session import Session
from tests.cli import chromium
from tests.cli.chromium import Chromium, wait_for

RECIPE = """
total_steps: 64
env: {{id: {env}, count: 4}}
policy: {{hidden: [8]}}
sampler: {{name: euler, steps: 2}}
rollout: {{steps: 16}}
learner: {{epochs: 1, minibatches: 1, critic: {{hidden: [8]}}}}
"""
WIDTH, HEIGHT = 900, 640
SCALE = 0.5  # pixels per point: without a GPU a frame takes as long as it has pixels
RUN = os.environ.get("FLOWRL_VIEW_RUN")  # a trained run for the picture, with the code of its task in …_IMPORT
CODE = os.environ.get("FLOWRL_VIEW_IMPORT")
PICTURE = os.environ.get("FLOWRL_VIEW_PICTURE")  # where to write it: docs/figures/view.webp


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hardly trained runs: a humanoid, and GridWorld."""
    folder = tmp_path_factory.mktemp("work")
    for name, env in (("humanoid", "flowrl/HumanoidTrack-v0"), ("grid", "flowrl/GridWorld-v0")):
        recipe = folder / f"{name}.yaml"
        recipe.write_text(RECIPE.format(env=env))
        assert cli.run(["train", str(recipe), "--out", str(folder), "--name", name, "--json"]) == 0
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served(folder: Path) -> Iterator[tuple[Session, str, threading.Thread]]:
    """A session whose page is served by a thread of this process, and the page's address."""
    session = Session(open_checkpoint(folder / "humanoid"), EvalRequest())
    urls: SimpleQueue[str] = SimpleQueue()
    server = threading.Thread(target=live.serve, args=(session, "127.0.0.1", free_port(), urls.put), daemon=True)
    server.start()
    yield session, urls.get(timeout=chromium.SECONDS), server
    session.controls.ask("quit")
    server.join(chromium.SECONDS)
    session.env.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    page = Chromium(tmp_path_factory.mktemp("chromium"), WIDTH, HEIGHT, SCALE)
    yield page
    page.close()


needs_chromium = pytest.mark.skipif(
    chromium.PROGRAM is None, reason="no chromium is installed (Debian: apt-get install chromium)"
)


def picture_of(page: Chromium) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(page.picture())).convert("RGB")).astype(int)


def orange(picture: np.ndarray) -> int:
    """Pixels in the colour of the ghost."""
    red, green, blue = picture.transpose(2, 0, 1)
    return int(((red - green > 25) & (red - blue > 25)).sum())


@needs_chromium
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_shows_the_policy_and_its_panel_changes_it(
    served: tuple[Session, str, threading.Thread], page: Chromium, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, url, server = served
    controls = session.controls
    assert session.readings.length == 0  # nothing moves before a browser has opened the page

    def settle() -> None:
        """Wait for frames: Studio reads mouse and keys once in each."""
        time.sleep(0.1)
        drawn = controls.frames
        wait_for(lambda: controls.frames > drawn + 2 or not server.is_alive())

    monkeypatch.setattr(page, "settle", settle)
    try:
        page.open(url)
        wait_for(lambda: page.says("First remote draw frame"))
        wait_for(lambda: session.readings.episodes > 2)

        page.click(33, 75)  # Pause
        wait_for(lambda: controls.paused)
        page.click(119, 75)  # Reset
        wait_for(lambda: session.readings.length == 0)
        page.click(82, 75)  # Step
        wait_for(lambda: session.readings.length == 1)
        wait_for(lambda: orange(picture_of(page)) > 500)  # the reference, beside the robot
        with_ghost = picture_of(page)
        page.click(26, 305)  # show the reference
        wait_for(lambda: orange(picture_of(page)) < 25)
        robot = (picture_of(page) - with_ghost)[30:300, 250:]
        assert np.abs(robot).mean() < 5  # all else is where it was

        page.mouse("mouseMoved", 190, 229)  # noise scale, from 1 down to nearly 0
        page.mouse("mousePressed", 189, 229, "left", clicks=1)
        page.mouse("mouseMoved", 60, 229, "left")
        wait_for(lambda: 0 < controls.noise_scale < 0.5)
        page.mouse("mouseReleased", 60, 229, "left", clicks=1)
        page.click(182, 151)  # the samplers
        page.click(60, 257)
        wait_for(lambda: session.readings.sampler != "euler")

        page.click(119, 75)  # Reset
        wait_for(lambda: session.readings.length == 0)
        middle = (WIDTH / 2, HEIGHT / 2 - 16)  # where the camera looks: at the centre of mass
        page.mouse("mouseMoved", *middle)
        page.hold_ctrl(True)
        page.mouse("mousePressed", *middle, "right", clicks=1, ctrl=True)
        page.mouse("mouseMoved", middle[0] + 60, middle[1] - 10, "right", ctrl=True)
        wait_for(lambda: controls.push is not None and np.abs(controls.push[1:, :3]).max() > 1)  # N
        page.mouse("mouseReleased", middle[0] + 60, middle[1] - 10, "right", clicks=1, ctrl=True)
        page.hold_ctrl(False)
        wait_for(lambda: controls.push is None)

        page.click(37, 13)  # the menu Simulation
        page.click(37, 94)  # Quit
        server.join(chromium.SECONDS)
        assert not server.is_alive()
    except BaseException:
        (tmp_path.parent / "view.png").write_bytes(page.picture())  # to see why
        raise


@needs_chromium
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_serves_a_page_until_it_is_interrupted(folder: Path, page: Chromium) -> None:
    words = ["view", RUN or str(folder / "humanoid"), "--port", str(free_port()), *(["--import", CODE] if CODE else [])]
    command = [sys.executable, "-m", "flowrl", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as viewing:
        assert viewing.stdout is not None
        url = viewing.stdout.readline().split()[0]
        assert url.startswith("http://127.0.0.1:")
        try:
            page.open(url)
            wait_for(lambda: page.says("First remote draw frame"))
            before = picture_of(page)
            wait_for(lambda: np.abs(picture_of(page) - before)[:, 150:].mean() > 0.5)  # it moves
            if PICTURE:
                page.resize(WIDTH, HEIGHT, 1)
                time.sleep(6)
                Image.open(io.BytesIO(page.picture())).convert("RGB").save(PICTURE, quality=85, method=6)
        finally:
            viewing.send_signal(signal.SIGINT)
        err = viewing.communicate(timeout=chromium.SECONDS)[1]
    assert viewing.returncode == 0, err
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1].startswith("next: ")
    assert all("http" not in line for line in err.splitlines())  # no other address is named


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["grid"], 2, "cannot be viewed live"),
        (["humanoid", "--host", "198.51.100.1"], 2, "--host 198.51.100.1: this computer cannot listen there"),
        (["humanoid", "--sampler", "euler:2,heun:3"], 2, "one sampler and one kind of noise"),
        (["humanoid", "--sampler", "nosuch"], 2, "nosuch"),
        (["humanoid", "--noise-scale", "1.5"], 2, "--noise-scale"),
        (["nothing"], 4, "nothing"),
    ],
)
def test_what_cannot_be_viewed_is_refused(
    arguments: list[str], code: int, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    assert cli.run(["view", *arguments]) == code
    output = capsys.readouterr()
    assert said in output.err
    assert "Traceback" not in output.err
    assert output.out == ""


def test_a_port_that_is_taken_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert cli.run(["view", "humanoid", "--port", str(port)]) == 2
    assert f"--port {port}: it is taken. Choose another one" in capsys.readouterr().err


def test_without_studio_it_says_what_to_install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    found = util.find_spec
    monkeypatch.setattr(live, "find_spec", lambda name: None if name == "mujoco.studio" else found(name))
    assert cli.run(["view", "humanoid"]) == 8
    assert "pip install mujoco-studio" in capsys.readouterr().err
