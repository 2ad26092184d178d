"""The server of Studio's page: bound to one address, and closed to other pages of the same browser.

MuJoCo Studio 4.0 binds to all interfaces, without authentication. Here it binds to the address that the user names,
by default the loopback address, and refuses requests that a page from elsewhere makes: those whose `Host` is no name of
this computer (DNS rebinding), and those whose `Origin` is another one. Files that are dropped onto the page are
discarded.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import socket
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from mujoco.studio import endpoints, launch_thread, messages, plugin, viewer_handle, viewer_protocol, web_viewer
from mujoco.studio.web import web_server

from flowrl.contracts.errors import UsageError

LOCAL = "127.0.0.1"
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


def checked_host(host: str) -> str:
    """Return the address (IPv4 or IPv6) of `host`; raises UsageError where it is none of this computer's."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.bind(address[:2])
    except OSError as error:
        raise UsageError(
            f"--host {host}: this computer cannot listen there ({error.strerror or error}). Leave --host out for "
            "127.0.0.1, which only this computer reaches, or type 0.0.0.0 for all its addresses."
        ) from None
    return str(address[0])


def is_local(address: str) -> bool:
    """Return whether only this computer reaches `address`."""
    return ipaddress.ip_address(address).is_loopback


def url(address: str, port: int) -> str:
    """Return the address of the page, as a browser of this computer types it."""
    every = ipaddress.ip_address(address).is_unspecified
    host = LOCAL if every else f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}/"


def refusal(host: str, origin: str | None, local: bool) -> str:
    """Return why a request with these headers is refused, '' where it is not; `local`: for a loopback address."""
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if local and name.lower() not in LOCAL_NAMES:
        return f"the host {host!r} is not this computer"
    if origin is not None and origin.partition("://")[2] != host:
        return f"the origin {origin!r} is not this page"
    return ""


class BoundViewer(web_viewer.WebViewer):
    """Studio's web viewer at `address` and nowhere else; raises RuntimeError where Studio has bound another one."""

    def __init__(self, address: str, arrived: Callable[[], None], *arguments: Any, **options: Any) -> None:
        self._address, self._arrived = address, arrived
        super().__init__(*arguments, **options)

    @property
    def _host(self) -> str:
        return self._address

    @_host.setter
    def _host(self, host: str) -> None:
        """Keep the address, whatever Studio assigns."""

    def _start_server(self) -> None:
        bound = self._http_sock.getsockname()[0]
        if bound != self._address:
            raise RuntimeError(f"the viewer is bound to {bound}, not to {self._address}")
        with_checks(is_local(self._address), self._arrived)
        super()._start_server()

    @messages.handler(priority=messages.Priority.INTERNAL)
    def _on_post_model(self, event: messages.PostModelEvent) -> None:
        """Serve the new model, as Studio does, without a line for each."""
        self._update_model()

    def get_drop_file(self) -> str:
        """Discard what was dropped onto the page."""
        while not self._drop_queue.empty():
            self._drop_queue.get_nowait()
        return ""


_serve = web_server.serve


def with_checks(local: bool, arrived: Callable[[], None]) -> None:
    """Let the server that is started next answer only what `refusal` lets pass, and call `arrived` for each page that
    asks for the state of the simulation."""

    @functools.wraps(_serve)
    def serve(handler: Any, *, process_request: Callable[[Any, Any], Any], **options: Any) -> Any:
        def checked(connection: Any, request: Any) -> Any:
            headers = request.headers
            reason = refusal(headers.get("Host", ""), headers.get("Origin"), local)
            if reason:
                return connection.respond(HTTPStatus.FORBIDDEN, f"{reason}\n")
            if request.path.startswith("/state"):
                arrived()
            return process_request(connection, request)

        return _serve(handler, process_request=checked, **options)

    web_server.serve = serve
    web_server.logger.setLevel(logging.WARNING)
    web_viewer._print_url_banner = lambda host, port: None  # it would name the computer's other addresses


def launch(
    address: str,
    port: int,
    title: str,
    plugins: list[plugin.Plugin],
    opened: Callable[[int], None],
    arrived: Callable[[], None],
) -> viewer_handle.ViewerHandle:
    """Start the viewer on a thread of its own and return the handle of the simulation's side.

    `port` 0 is the first free one from 8080 on; `opened` is called with the port, on the viewer's thread, and
    `arrived` for each browser that comes, on the server's. A port that is taken raises RuntimeError in the
    handle's `is_running`.
    """
    of_viewer, of_simulation = plugin.split_plugins(plugins)
    config = viewer_protocol.ViewerConfig(title=title, gfx="web", http_port=port)

    def run(endpoint: endpoints.ViewerEndpoint) -> None:
        viewer = BoundViewer(address, arrived, config, endpoint, plugins=of_viewer)
        opened(viewer._http_port)
        viewer_protocol.run_viewer_loop(viewer)

    return launch_thread.launch_thread(run, sim_plugins=of_simulation)
