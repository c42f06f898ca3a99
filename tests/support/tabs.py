"""Pages of a browser, many at a time: each a socket, without a thread of its own."""

from __future__ import annotations

import socket

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.typing import Origin
from websockets.uri import parse_uri

from forkbroker.testing.broker import PATIENCE_S
from support.deadline import stretched


class Tab:
    """One page, whose socket the caller has connected."""

    def __init__(
        self, link: socket.socket, url: str, *, origin: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Ask for a WebSocket. `url`: as the page has it."""
        self.link = link
        link.settimeout(stretched(PATIENCE_S))
        self._protocol = ClientProtocol(
            parse_uri(url), origin=None if origin is None else Origin(origin), max_size=None
        )
        request = self._protocol.connect()
        request.headers.update(Headers(headers or {}))
        self._protocol.send_request(request)
        self._flush()
        self.answers_pings = True
        self.pings = 0
        self.texts: list[str] = []
        """What has come and was not taken: messages of text."""
        self.is_at_end = False

    @property
    def close_code(self) -> int | None:
        """Why it was closed; None: it was not, or without a word."""
        return self._protocol.close_code

    def say(self, text: str) -> None:
        """Send a message of text, once the handshake is done."""
        while self._protocol.state is not OPEN:
            assert not self.is_at_end, self._protocol.handshake_exc
            self.turn()
        self._protocol.send_text(text.encode())
        self._flush()

    def login(self, destination: str | None = None) -> None:
        """CONNECT, and SUBSCRIBE if there is a destination; each with its answer."""
        self.say("CONNECT\naccept-version:1.2\nhost:/\n\n\0")
        assert self.take().startswith("CONNECTED\n")
        if destination is not None:
            self.say(f"SUBSCRIBE\nid:0\ndestination:{destination}\nreceipt:0\n\n\0")
            assert self.take().startswith("RECEIPT\n")

    def take(self) -> str:
        """The next message that is no heart-beat."""
        while True:
            while not self.texts:
                assert not self.is_at_end, "a message was expected, and the connection has ended"
                self.turn()
            text = self.texts.pop(0)
            if text != "\n":
                return text

    def turn(self) -> None:
        """Take in what comes next, and answer it if that is asked for."""
        octets = self.link.recv(65_536)
        if octets:
            self._protocol.receive_data(octets)
        else:
            self._protocol.receive_eof()
            self.is_at_end = True
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode is Opcode.PING:
                self.pings += 1
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                self.texts.append(bytes(event.data).decode())
        if self.answers_pings and not self.is_at_end:
            self._flush()
        else:
            self._protocol.data_to_send()

    def await_end(self) -> None:
        """Take in what comes, to the end of the connection."""
        while not self.is_at_end:
            self.turn()

    def close(self) -> None:
        """Close the page's connection without a word."""
        self.link.close()

    def _flush(self) -> None:
        for octets in self._protocol.data_to_send():
            if octets:
                self.link.sendall(octets)
