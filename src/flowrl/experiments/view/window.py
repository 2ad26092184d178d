"""The viewer's side of MuJoCo Studio: what mouse and keys do, the menu, and the ghost."""

from __future__ import annotations

import mujoco
import numpy as np
from mujoco.studio import messages, plugin, ux
from mujoco.studio.app import inputs
from mujoco.studio.dear_imgui import dear_imgui as imgui

from flowrl.envs.scene import Floats
from flowrl.envs.simulation.drawing import add_ghost
from flowrl.experiments.view.camera import aim
from flowrl.experiments.view.session import Session

MOST_GEOMS = 1000  # of a ghost; Studio sends 1024 at most


class Window(plugin.ViewerPlugin):
    """Turns mouse and keys into pushes and requests to `session`, and offers Studio's settings of the picture.

    Studio's own application would also edit the state and the physics, which belong to the environment.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.show_ghost = True
        self.panel_open = True
        self.settings_open = False
        self._ux = ux.UxState()
        self._theme = ux.GuiTheme.LIGHT
        self._aimed = False

    @messages.handler
    def on_model(self, event: messages.PostModelEvent) -> None:
        """Aim the camera at the first model; a later one differs in details, such as the place of a target."""
        if not self._aimed:
            mujoco.mj_forward(event.model, self.viewer.data)
            self.aim()
            self._aimed = True

    @messages.handler
    def on_theme(self, event: plugin.ThemeEvent) -> None:
        """Keep the colours that the page has chosen."""
        self._theme = event.theme

    def aim(self) -> None:
        """Look as the task's own camera does."""
        viewer = self.viewer
        follows = aim(viewer.camera, viewer.model, viewer.data, self.session.scene.camera)
        self._ux.camera_index = ux.TRACKING_CAMERA_IDX if follows else ux.TUMBLE_CAMERA_IDX

    @messages.handler
    def on_update(self, _: messages.UpdateEvent) -> None:
        """Read the mouse and the keys of a frame."""
        viewer = self.viewer
        if not self._aimed:
            return
        self.session.controls.frames += 1
        self._select()
        moves = viewer.client_camera is None
        inputs.handle_mouse_events(
            viewer.model, viewer.data, viewer.camera, viewer.vis_options, viewer.perturb, self._ux, move_camera=moves
        )
        if not self._keys():
            inputs.handle_camera_select_keyboard_events(viewer.model, viewer.camera, self._ux)
        self.session.controls.push = self._push()
        viewer.extra_geoms[:] = self._ghost()
        viewer.camera_index = self._ux.camera_index
        viewer.get_drop_file()

    def _keys(self) -> bool:
        """Pause, step and reset by key; return whether one was pressed."""
        if imgui.GetIO().WantCaptureKeyboard:
            return False
        controls = self.session.controls
        if imgui.IsKeyChordPressed(imgui.Key.Space):
            controls.paused = not controls.paused
        elif imgui.IsKeyChordPressed(imgui.Key.RightArrow):
            controls.paused = True
            controls.ask("step")
        elif imgui.IsKeyChordPressed(imgui.Key.Backspace):
            controls.ask("reset")
        else:
            return False
        return True

    def _select(self) -> None:
        """Select the body that Ctrl and a mouse button are pressed on, as a double-click does."""
        io, viewer = imgui.GetIO(), self.viewer
        pressed = any(imgui.IsMouseDown(button) for button in (imgui.MouseButton.Left, imgui.MouseButton.Right))
        if not (pressed and io.KeyCtrl) or viewer.perturb.active or io.WantCaptureMouse or not io.DisplaySize.y:
            return
        place, shape = (io.MousePos.x / io.DisplaySize.x, io.MousePos.y / io.DisplaySize.y), io.DisplaySize
        picked = ux.Pick(viewer.model, viewer.data, viewer.camera, *place, shape.x / shape.y, viewer.vis_options)
        if picked.body > 0:
            body = viewer.data.body(picked.body)
            viewer.perturb.select = picked.body
            viewer.perturb.localpos = body.xmat.reshape(3, 3).T @ (np.array(picked.point) - body.xpos)

    def _push(self) -> Floats | None:
        """Return the forces (body, 6) with which the mouse pulls the body that it has selected."""
        viewer = self.viewer
        if not viewer.perturb.active:
            return None
        viewer.data.xfrc_applied[:] = 0
        mujoco.mjv_applyPerturbForce(viewer.model, viewer.data, viewer.perturb)
        return np.array(viewer.data.xfrc_applied)

    def _ghost(self) -> list[mujoco.MjvGeom]:
        """Return the geoms of the reference, transparent."""
        qpos, model = self.session.readings.ghost, self.viewer.model
        if qpos is None or not self.show_ghost or len(qpos) != model.nq:
            return []
        drawn = mujoco.MjvScene(model, MOST_GEOMS)
        add_ghost(drawn, model, qpos)
        self._drawn = drawn  # owns the memory of the geoms
        return list(drawn.geoms[: drawn.ngeom])

    @messages.handler(priority=messages.Priority.CRITICAL)
    def on_build(self, _: messages.BuildGuiEvent) -> None:
        """Draw the menu and, where it is open, the window with Studio's settings of the picture."""
        ux.setup_theme(self._theme)
        if imgui.BeginMainMenuBar():
            self._menu()
            imgui.EndMainMenuBar()
        if not self.settings_open:
            return
        imgui.SetNextWindowSize(imgui.Vec2(320, 300), imgui.Cond.FirstUseEver)
        expanded, self.settings_open = imgui.Begin("Picture", self.settings_open)
        if expanded:
            viewer = self.viewer
            if imgui.CollapsingHeader("Rendering"):
                ux.rendering_gui(viewer.model, viewer.vis_options, viewer.render_flags)
            if imgui.CollapsingHeader("Visibility"):
                ux.groups_gui(viewer.model, viewer.vis_options)
        imgui.End()

    def _menu(self) -> None:
        controls = self.session.controls
        if imgui.BeginMenu("Simulation"):
            if imgui.MenuItem("Pause", "Space", controls.paused):
                controls.paused = not controls.paused
            if imgui.MenuItem("Step", "Right"):
                controls.paused = True
                controls.ask("step")
            if imgui.MenuItem("Reset", "Backspace"):
                controls.ask("reset")
            if imgui.MenuItem("Quit"):
                controls.ask("quit")
            imgui.EndMenu()
        if imgui.BeginMenu("View"):
            if imgui.MenuItem("Task's camera"):
                self.aim()
            if imgui.MenuItem("Panel", "", self.panel_open):
                self.panel_open = not self.panel_open
            if imgui.MenuItem("Picture settings", "", self.settings_open):
                self.settings_open = not self.settings_open
            _, self._theme = ux.theme_menu_gui(self._theme)
            imgui.EndMenu()
