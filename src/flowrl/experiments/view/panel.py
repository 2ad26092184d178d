"""The panel of the viewer: what a policy's user may change, and the numbers of the running episode."""

from __future__ import annotations

from typing import get_args

from mujoco.studio import messages, plugin
from mujoco.studio.dear_imgui import dear_imgui as imgui

from flowrl.experiments.view.session import Readings, Session
from flowrl.experiments.view.window import Window
from flowrl.policies.noise_modes import NAMES, NoiseMode

PLACE, WIDTH, SLIDER = (8.0, 32.0), 280.0, 180.0  # pixels
MOST_STEPS = 64  # of a sampler's slider
SLOWEST, FASTEST = 0.05, 4.0  # of real time
NOISES: tuple[NoiseMode, ...] = get_args(NoiseMode)
HELP = (
    "Push: hold Ctrl and drag a body with",
    "the right button. Space pauses, right",
    "arrow steps, backspace resets.",
)
ALARM = imgui.Vec4(0.8, 0.1, 0.1, 1.0)


class Panel(plugin.ViewerPlugin):
    """Shows the readings of `session` and sets its controls; runs on the viewer's thread."""

    def __init__(self, session: Session, window: Window) -> None:
        self.session, self.window = session, window
        kind = session.loaded.config.policy.kind
        self._noises = [NAMES.get(kind, {}).get(mode, mode) for mode in NOISES]

    @messages.handler
    def on_build(self, _: messages.BuildGuiEvent) -> None:
        """Draw the panel."""
        if not self.window.panel_open:
            return
        imgui.SetNextWindowPos(imgui.Vec2(*PLACE), imgui.Cond.FirstUseEver)
        flags = int(imgui.WindowFlags.AlwaysAutoResize) | int(imgui.WindowFlags.NoSavedSettings)
        expanded, self.window.panel_open = imgui.Begin(f"{self.session.title}###flowrl", self.window.panel_open, flags)
        if expanded:
            readings = self.session.readings
            imgui.PushItemWidth(SLIDER)
            imgui.PushTextWrapPos(WIDTH)
            self._time()
            self._policy(readings)
            self._task(readings)
            imgui.PopItemWidth()
            self._numbers(readings)
            if readings.message:
                imgui.TextColored(ALARM, "not possible:")
                imgui.TextWrapped(readings.message)
            imgui.Separator()
            for line in HELP:
                imgui.TextUnformatted(line)
            imgui.PopTextWrapPos()
        imgui.End()

    def _time(self) -> None:
        controls = self.session.controls
        if imgui.Button("Resume" if controls.paused else "Pause"):
            controls.paused = not controls.paused
        imgui.SameLine()
        if imgui.Button("Step"):
            controls.paused = True
            controls.ask("step")
        imgui.SameLine()
        if imgui.Button("Reset"):
            controls.ask("reset")
        clamped = int(imgui.SliderFlags.AlwaysClamp)
        _, controls.speed = imgui.SliderFloat("speed", controls.speed, SLOWEST, FASTEST, "%.2f x", clamped)

    def _policy(self, readings: Readings) -> None:
        """Draw the choice of sampler, steps and noise."""
        session, controls = self.session, self.session.controls
        imgui.SeparatorText("Policy")
        if session.samplers and readings.sampler in session.samplers:
            changed, number = imgui.Combo("sampler", session.samplers.index(readings.sampler), session.samplers)
            if changed:
                controls.ask("sampler", (session.samplers[number], None))
            if readings.steps is not None:
                most = max(MOST_STEPS, readings.steps)
                flags = int(imgui.SliderFlags.AlwaysClamp) | int(imgui.SliderFlags.Logarithmic)
                changed, steps = imgui.SliderInt("steps", readings.steps, 1, most, "%d", flags)
                if changed and steps != readings.steps:
                    controls.ask("sampler", (readings.sampler, steps))
        _, number = imgui.Combo("noise", NOISES.index(controls.noise), self._noises)
        controls.noise = NOISES[number]
        imgui.BeginDisabled(controls.noise == "zero")
        clamped = int(imgui.SliderFlags.AlwaysClamp)
        _, controls.noise_scale = imgui.SliderFloat("noise scale", controls.noise_scale, 0.0, 1.0, "%.2f", clamped)
        imgui.EndDisabled()

    def _task(self, readings: Readings) -> None:
        """Draw the commands and goals of the task, if it has any."""
        session = self.session
        if not (readings.command or session.facts or session.variants or readings.ghost is not None):
            return
        imgui.SeparatorText("Task")
        for name, value in session.facts.items():
            imgui.LabelText(name, value)
        if session.variants and readings.variant in session.variants:
            changed, number = imgui.Combo("episode", session.variants.index(readings.variant), list(session.variants))
            if changed:
                session.controls.ask("variant", number)
        if readings.ghost is not None:
            _, self.window.show_ghost = imgui.Checkbox("show the reference", self.window.show_ghost)
        if readings.command:
            self._command(readings.command)

    def _command(self, present: tuple[float, ...]) -> None:
        controls = self.session.controls
        held = controls.command is not None
        changed, held = imgui.Checkbox("hold the command", held)
        if changed:
            controls.command = list(present) if held else None
        values = list(present if controls.command is None else controls.command)
        for number, (low, high) in enumerate(self.session.command_ranges):
            moved, value = imgui.SliderFloat(f"command {number + 1}", values[number], low, high, "%.2f")
            if moved:  # moving a slider takes the commands over
                values[number] = value
                controls.command = values

    def _numbers(self, readings: Readings) -> None:
        imgui.SeparatorText("Now")
        rows = [
            ("NFE", _cell(readings.nfe, ".3g")),
            ("us per action", _cell(readings.action_us, ".0f")),
            ("step", str(readings.length)),
            ("return", f"{readings.total:.1f}"),
            ("last return", _cell(readings.last, ".1f")),
            ("mean return", _cell(readings.mean, ".1f")),
            ("episodes", str(readings.episodes)),
        ]
        if imgui.BeginTable("numbers", 2):
            for name, value in rows:
                imgui.TableNextColumn()
                imgui.TextUnformatted(name)
                imgui.TableNextColumn()
                imgui.TextUnformatted(value)
            imgui.EndTable()


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
