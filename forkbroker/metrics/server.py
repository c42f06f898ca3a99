"""HTTP, as little as a scraper needs: GET and HEAD, one request for each connection."""

from __future__ import annotations

import socket
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer, ThreadingMixIn
from threading import BoundedSemaphore, Timer
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST

from forkbroker.metrics.endpoints import Endpoints

MOST = 16
"""Connections that are served at a time; others wait in the kernel's queue."""
_PATIENCE_S = 5.0
"""In which a client has to send some of its request, and to take some of the answer."""
_TAKES_S = 20.0
"""In which a connection ends: one octet every few seconds keeps no place."""


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = _PATIENCE_S
    server_version = "forkbroker"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def _answer(self, *, has_body: bool) -> None:
        path = self.path.partition("?")[0]
        status, body = self.server.endpoints.get(path)
        is_metrics = path == "/metrics" and status == 200
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST if is_metrics else "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the library's name)
        """Scrapes are no events."""


class Server(ThreadingMixIn, BaseServer):
    """Serves one listener, which the parent has opened."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, endpoints: Endpoints) -> None:
        super().__init__(listener.getsockname(), _Handler)
        self.socket = listener
        self.endpoints = endpoints
        self._places = BoundedSemaphore(MOST)

    def fileno(self) -> int:
        """For the selector of `serve_forever`."""
        return self.socket.fileno()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection, when there is a place for it."""
        self._places.acquire()
        try:
            client, address = self.socket.accept()
        except OSError:
            self._places.release()
            raise
        client.setblocking(True)
        return client, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Begin a thread for it."""
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # there is no room for a thread
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """In a thread of its own."""
        timer = Timer(_TAKES_S, _cut, [request])
        timer.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._places.release()

    def shutdown_request(self, request: Any) -> None:
        """The connection has been served."""
        request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that is gone, or too slow: nobody has to know."""


def _cut(client: socket.socket) -> None:
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
