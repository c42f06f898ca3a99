"""A connection that breaks at a certain point of what a client sends."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

_TURN_S = 0.05


class Cut:
    """Passes connections on to a port, and breaks the first one in which a client sends these octets."""

    def __init__(self, port: int, octets: bytes, *, before: bool) -> None:
        """`before`: the octets do not arrive; otherwise they do, and what answers them does not."""
        self._port = port
        self._octets = octets
        self._before = before
        self.is_done = False
        self._is_over = False

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._is_over:
            self._listener.settimeout(_TURN_S)
            with suppress(TimeoutError):
                self._pass_on(self._listener.accept()[0])

    def _pass_on(self, client: socket.socket) -> None:
        """One connection, to its end: it has one client."""
        with ExitStack() as stack:
            stack.enter_context(client)
            broker = stack.enter_context(socket.create_connection(("127.0.0.1", self._port)))
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(client, selectors.EVENT_READ, broker)
            selector.register(broker, selectors.EVENT_READ, client)
            with suppress(ConnectionError):
                while not self._is_over:
                    for key, _ in selector.select(_TURN_S):
                        data = key.fileobj.recv(65_536)  # type: ignore[union-attr]
                        place = data.find(self._octets) if key.fileobj is client and not self.is_done else -1
                        key.data.sendall(data[:place] if place >= 0 and self._before else data)
                        self.is_done |= place >= 0
                        if place >= 0 or not data:
                            return
