"""A headless Chromium, driven through its DevTools protocol by the WebSocket client that MuJoCo Studio depends on."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless=new", "--no-sandbox", "--no-first-run", "--remote-debugging-port=0"),
    *("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL without a GPU
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
    *("--disable-background-timer-throttling", "--disable-backgrounding-occluded-windows"),
    *("--disable-renderer-backgrounding", "--disable-dev-shm-usage"),
)
SECONDS = 180  # for anything, on a busy machine
BUTTONS = {"left": 1, "right": 2}


class Chromium:
    """One page of `width` x `height` points, drawn with `scale` pixels each; `said` are the lines of its console.

    After every event of mouse and keys it waits until the page has drawn two frames, since Studio's page sends the
    state of both once per frame, and then calls `settle`.
    """

    def __init__(self, folder: Path, width: int, height: int, scale: float) -> None:
        from websockets.sync.client import connect

        assert PROGRAM is not None
        size = f"--window-size={width},{height}"
        self._process = subprocess.Popen(
            [PROGRAM, *FLAGS, size, f"--user-data-dir={folder}", "about:blank"], stderr=subprocess.DEVNULL
        )
        port = folder / "DevToolsActivePort"
        wait_for(lambda: port.exists() and port.read_text().count("\n") > 0)
        number, path = port.read_text().split("\n")[:2]
        self._stack = ExitStack()
        url = f"ws://127.0.0.1:{number}{path}"
        self._socket = self._stack.enter_context(connect(url, max_size=2**28, open_timeout=SECONDS, ping_interval=None))
        self.settle: Callable[[], None] = lambda: None
        self._number = 0
        self._session: str | None = None
        self.said: list[str] = []
        pages = self.call("Target.getTargets")["targetInfos"]
        target = next(page["targetId"] for page in pages if page["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Runtime.enable")
        self.resize(width, height, scale)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        session = {"sessionId": self._session} if self._session else {}
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters} | session))
        while True:
            message = json.loads(self._socket.recv(timeout=SECONDS))
            if message.get("method") == "Runtime.consoleAPICalled":
                self.said += [str(each.get("value")) for each in message["params"]["args"]]
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]

    def resize(self, width: int, height: int, scale: float) -> None:
        """Let the page have that size from now on."""
        screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **screen)

    def open(self, url: str) -> None:
        """Go to a page, whose console is empty."""
        self.said.clear()
        self.call("Page.navigate", url=url)

    def says(self, text: str) -> bool:
        """Return whether a line on the console of the page has contained `text`."""
        self.call("Runtime.evaluate", expression="0")  # reads what it has said meanwhile
        return any(text in line for line in self.said)

    def picture(self) -> bytes:
        """Return the page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def mouse(
        self, kind: str, x: float, y: float, button: str = "none", *, clicks: int = 0, ctrl: bool = False
    ) -> None:
        """Send a mouse event: `mousePressed`, `mouseReleased` or `mouseMoved`."""
        held = BUTTONS.get(button, 0) if kind != "mouseReleased" else 0
        keys = 2 if ctrl else 0
        place = {"x": x, "y": y, "button": button, "buttons": held, "modifiers": keys, "clickCount": clicks}
        self.call("Input.dispatchMouseEvent", type=kind, **place)
        self._drawn()

    def _drawn(self) -> None:
        """Wait until the page has drawn, and the server has seen it."""
        twice = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.call("Runtime.evaluate", expression=twice, awaitPromise=True)
        self.settle()

    def click(self, x: float, y: float) -> None:
        """Click with the left button."""
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, "left", clicks=1)
        self.mouse("mouseReleased", x, y, "left", clicks=1)

    def hold_ctrl(self, held: bool) -> None:
        """Press the left Ctrl key, or release it."""
        names = {"key": "Control", "code": "ControlLeft", "windowsVirtualKeyCode": 17, "nativeVirtualKeyCode": 17}
        kind = "rawKeyDown" if held else "keyUp"
        self.call("Input.dispatchKeyEvent", type=kind, modifiers=2 if held else 0, location=1, **names)
        self._drawn()

    def close(self) -> None:
        """End the browser."""
        self._stack.close()
        self._process.terminate()
        self._process.wait(SECONDS)


def wait_for(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until `condition` holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)
