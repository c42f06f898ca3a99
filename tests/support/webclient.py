"""STOMP within WebSocket messages, by the client of `websockets`: each message is shown as it came."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from forkbroker.testing.broker import PATIENCE_S, RunningBroker
from support.deadline import stretched

LISTEN = ("--listen", "ws://127.0.0.1:0")
"""Options of a broker that such clients can reach."""


def url_of(broker: RunningBroker, scheme: str = "ws", path: str = "/ws") -> str:
    """Where a broker has its WebSockets."""
    return next(name for name in broker.addresses if name.startswith(f"{scheme}://")) + path


class WebClient:
    """One connection. Use it in a `with` block."""

    def __init__(
        self,
        broker: RunningBroker,
        path: str = "/ws",
        *,
        headers: Mapping[str, str] | None = None,
        subprotocols: list[str] | None = None,
        origin: str | None = None,
        tls: ssl.SSLContext | None = None,
        source: str | None = None,
    ) -> None:
        """Connect, and shake hands, as the block begins. `source`: the address to come from."""
        more: dict[str, Any] = {} if source is None else {"source_address": (source, 0)}
        if tls is not None:
            # The library reads in one thread and writes in another, which CPython 3.11 does not guard. In TLS 1.3 the
            # first read has tickets to take in, and what is written meanwhile is lost at times.
            tls.maximum_version = ssl.TLSVersion.TLSv1_2
            more.update(ssl=tls, server_hostname="broker")
        self._connecting = connect(
            url_of(broker, "ws" if tls is None else "wss", path),
            additional_headers=headers,
            subprotocols=subprotocols,
            origin=origin,
            compression=None,
            ping_interval=None,
            max_size=None,
            open_timeout=stretched(PATIENCE_S),
            close_timeout=stretched(PATIENCE_S),
            **more,
        )

    def __enter__(self) -> Self:
        self.link = self._connecting.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connecting.__exit__(kind, error, trace)

    def send(self, command: str, body: str = "", **headers: str) -> None:
        """A frame as one text message. Names are written with `-` where they have `_`."""
        lines = "".join(f"{name.replace('_', '-')}:{value}\n" for name, value in headers.items())
        self.link.send(f"{command}\n{lines}\n{body}\0")

    def receive(self) -> str | bytes:
        """The next message that is no heart-beat."""
        while (message := self.link.recv(timeout=stretched(PATIENCE_S))) == "\n":
            pass
        return message

    def login(self, version: str = "1.2", **headers: str) -> str:
        """CONNECT, and what answers it."""
        self.send("CONNECT", accept_version=version, host="/", **headers)
        answer = self.receive()
        assert isinstance(answer, str)
        return answer

    def subscribe(self, destination: str, id: str = "0", **headers: str) -> None:  # noqa: A002 (STOMP's name)
        """SUBSCRIBE, and its RECEIPT."""
        self.send("SUBSCRIBE", id=id, destination=destination, receipt=f"subscribe-{id}", **headers)
        assert self.receive() == f"RECEIPT\nreceipt-id:subscribe-{id}\n\n\0"

    def await_end(self) -> tuple[int | None, str]:
        """Read to the end: the code, and the reason."""
        try:
            while True:
                self.link.recv(timeout=stretched(PATIENCE_S))
        except ConnectionClosed as end:
            return (None, "") if end.rcvd is None else (end.rcvd.code, end.rcvd.reason)
