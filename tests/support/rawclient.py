"""A STOMP client that hides nothing: it sends what it is told, and takes only what the specification permits.

Written from the texts of STOMP 1.0, 1.1 and 1.2, and on purpose without a line of forkbroker.stomp: a misreading that
broker and client shared would never be found. Whatever a server must not write ends the test with an AssertionError.
"""

from __future__ import annotations

import re
import select
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Self

from forkbroker.testing.broker import PATIENCE_S
from support.deadline import stretched

Headers = Mapping[str, str] | Iterable[tuple[str, str]]

SERVER_COMMANDS = {"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"}
QUIET_S = 0.05
"""How long nothing must come to be taken for nothing, behind a fence."""

_READ_SIZE = 1_048_576
_ESCAPES = {
    "1.0": {},
    "1.1": {"\\": "\\\\", "\n": "\\n", ":": "\\c"},
    "1.2": {"\\": "\\\\", "\n": "\\n", ":": "\\c", "\r": "\\r"},
}


@dataclass(slots=True)
class Frame:
    """A frame as the server wrote it, its headers decoded, in order."""

    command: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def __getitem__(self, name: str) -> str:
        """The first header of this name (STOMP 1.2, Repeated Header Entries)."""
        return next(value for found, value in self.headers if found == name)

    def __contains__(self, name: str) -> bool:
        return any(found == name for found, _ in self.headers)

    def get(self, name: str, default: str = "") -> str:
        """The first header of this name, if there is one."""
        return next((value for found, value in self.headers if found == name), default)


class RawClient:
    """One connection. Use it in a `with` block, which closes it without a word."""

    def __init__(self, port: int | str, host: str = "127.0.0.1", *, receive_buffer: int = 0, source: str = "") -> None:
        """Connect the socket, and send nothing. `port` may be the path of a Unix socket.

        `receive_buffer`: octets that the kernel may keep for a client that doesn't read, where that matters. `source`:
        the address that the client has, where that matters.
        """
        family = socket.AF_UNIX if isinstance(port, str) else socket.AF_INET
        self._socket = socket.socket(family)
        if source:
            self._socket.bind((source, 0))
        if receive_buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(stretched(PATIENCE_S))
        self._socket.connect(port if isinstance(port, str) else (host, port))
        self._buffer = bytearray()
        self._searched = 0
        self._is_eol_due = False
        self._numbers = count(1)
        self._put_aside: list[Frame] = []
        self._is_at_end = False
        self.version = "1.0"
        self.connected = Frame("")
        self.beats: list[float] = []
        """When a line feed came that belongs to no frame, by time.monotonic()."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def encrypt(self, context: ssl.SSLContext, name: str) -> None:
        """Shake hands; all that follows is encrypted. `name` is whom the certificate has to name."""
        self._socket = context.wrap_socket(self._socket, server_hostname=name)

    @property
    def address(self) -> str:
        """This end, as the broker names it."""
        host, port = self._socket.getsockname()[:2]
        return f"{host}:{port}"

    # Out

    def send_raw(self, data: bytes) -> None:
        """These octets, all of them."""
        self._socket.sendall(data)

    def send_until_held(self, blocks: Iterable[bytes], held_s: float = 0.5) -> int:
        """Send until nothing has been taken for a while, or there is no more; how many octets were sent.

        The last block may have been sent in part.
        """
        sent = 0
        for block in blocks:
            rest = memoryview(block)
            while rest:
                if not select.select([], [self._socket], [], stretched(held_s))[1]:
                    return sent
                taken = self._socket.send(rest, socket.MSG_DONTWAIT)
                sent += taken
                rest = rest[taken:]
        return sent

    def send(self, command: str, headers: Headers = (), body: bytes = b"", **more: Any) -> None:
        """One frame. Names in `more` are written with `-` where they have `_`."""
        self.send_raw(self.encode(command, headers, body, **more))

    def encode(self, command: str, headers: Headers = (), body: bytes = b"", **more: Any) -> bytes:
        """The octets of a frame, in the version that was negotiated."""
        pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        pairs += [(_header_name(name), str(value)) for name, value in more.items()]
        if body and not any(name == "content-length" for name, _ in pairs):
            pairs.append(("content-length", str(len(body))))
        escapes = {} if command in ("CONNECT", "STOMP") else _ESCAPES[self.version]
        lines = [f"{_escape(name, escapes)}:{_escape(value, escapes)}\n" for name, value in pairs]
        return f"{command}\n{''.join(lines)}\n".encode() + body + b"\0"

    def login(self, version: str = "1.2", headers: Headers = (), **more: Any) -> Frame:
        """CONNECT, and the CONNECTED that answers it. `version` is an accept-version; with "1.0" none is sent."""
        wanted = [] if version == "1.0" else [("accept-version", version)]
        if wanted and "host" not in more:
            wanted.append(("host", "test"))
        given = headers.items() if isinstance(headers, Mapping) else headers
        self.send("CONNECT", [*wanted, *given], **more)
        self.connected = self.expect("CONNECTED")
        self.version = self.connected.get("version", "1.0")
        return self.connected

    def request(self, command: str, headers: Headers = (), body: bytes = b"", **more: Any) -> None:
        """A frame with a receipt, and its RECEIPT; other frames that come before it are kept for `receive`."""
        number = f"request-{next(self._numbers)}"
        self.send(command, headers, body, receipt=number, **more)
        while (frame := self._receive_new()).command != "RECEIPT" or frame["receipt-id"] != number:
            assert frame.command != "ERROR", f"an ERROR for {command}: {frame}"
            self._put_aside.append(frame)

    def subscribe(self, destination: str, id: int | str = 0, **more: Any) -> None:  # noqa: A002 (STOMP's name)
        """SUBSCRIBE, and its RECEIPT."""
        self.request("SUBSCRIBE", destination=destination, id=id, **more)

    def publish(self, destination: str, body: bytes | str = b"", **more: Any) -> None:
        """SEND, and its RECEIPT: the broker has accepted the message."""
        self.request("SEND", body=body.encode() if isinstance(body, str) else body, destination=destination, **more)

    def ack(self, message: Frame, command: str = "ACK", **more: Any) -> None:
        """ACK, or NACK, as the version wants a message to be named; with its RECEIPT."""
        if self.version == "1.2":
            self.request(command, id=message["ack"], **more)
        else:
            named = {"message-id": message["message-id"], "subscription": message.get("subscription")}
            self.request(command, {name: value for name, value in named.items() if value}, **more)

    def nack(self, message: Frame, **more: Any) -> None:
        """NACK, and its RECEIPT."""
        self.ack(message, "NACK", **more)

    def sync(self) -> None:
        """A fence: all that was sent before is processed, and what followed from it for this client has arrived."""
        name = f"fence-{next(self._numbers)}"
        self.subscribe(f"/temp-topic/{name}", name)
        self.request("UNSUBSCRIBE", id=name)

    def shutdown_write(self) -> None:
        """Say that nothing more is sent, and go on listening."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close so that the other side sees an error: no goodbye, unread octets thrown away."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    # In

    def receive(self, deadline_s: float = PATIENCE_S) -> Frame:
        """The next frame. Fails when none comes in time, or when it breaks the specification."""
        return self._put_aside.pop(0) if self._put_aside else self._receive_new(deadline_s)

    def expect(self, command: str, body: bytes | str | None = None, **headers: str | int) -> Frame:
        """The next frame, which must be this, and have these headers."""
        frame = self.receive()
        assert command == frame.command, f"{command} was expected: {frame}"
        for name, value in headers.items():
            assert str(value) == frame.get(_header_name(name), "(missing)"), f"{name}: {frame}"
        if body is not None:
            assert (body.encode() if isinstance(body, str) else body) == frame.body
        return frame

    def expect_messages(self, *bodies: str) -> list[Frame]:
        """MESSAGEs with exactly these bodies, in this order."""
        frames = [self.expect("MESSAGE") for _ in bodies]
        assert list(bodies) == [frame.body.decode() for frame in frames]
        return frames

    def expect_error(self, text: str) -> Frame:
        """An ERROR that has this in its message or body, and the end of the connection behind it (E02)."""
        frame = self.expect("ERROR")
        said = f"{frame['message']}\n{frame.body.decode()}"
        assert text in said, said
        self.expect_eof()
        return frame

    def expect_nothing(self, for_s: float = QUIET_S) -> None:
        """No frame, although everything has come that was under way; and none for a moment more."""
        self.sync()
        assert self._put_aside == []
        give_up = time.monotonic() + stretched(for_s)
        while self._fill(give_up):
            assert (frame := self._parse()) is None, f"nothing was expected: {frame}"
        assert not self._is_at_end, "nothing was expected, and the connection has ended"

    def expect_beats(self, number: int, deadline_s: float = PATIENCE_S) -> None:
        """So many heart-beats more, and no frame."""
        give_up, wanted = time.monotonic() + stretched(deadline_s), len(self.beats) + number
        while len(self.beats) < wanted:
            assert self._fill(give_up), f"{wanted - len(self.beats)} of {number} heart-beats are missing"
            assert (frame := self._parse()) is None, f"a heart-beat was expected: {frame}"

    def expect_eof(self) -> None:
        """The end of the connection, without another frame; a reset is none."""
        assert self._put_aside == []
        give_up = time.monotonic() + stretched(PATIENCE_S)
        while not self._is_at_end:
            assert self._fill(give_up) or self._is_at_end, "the connection does not end"
            assert (frame := self._parse()) is None, f"the end was expected: {frame}"
        assert not self._buffer, f"half a frame at the end: {bytes(self._buffer[:200])!r}"

    def drain(self) -> list[Frame]:
        """All frames until the end of the connection."""
        frames, self._put_aside = self._put_aside, []
        give_up = time.monotonic() + stretched(PATIENCE_S)
        while not self._is_at_end:
            while (frame := self._parse()) is not None:
                frames.append(frame)
            assert self._fill(give_up) or self._is_at_end, "the connection does not end"
        assert self._parse() is None
        return frames

    def fileno(self) -> int:
        """For those who wait for several clients at once."""
        return self._socket.fileno()

    def _receive_new(self, deadline_s: float = PATIENCE_S) -> Frame:
        give_up = time.monotonic() + stretched(deadline_s)
        while (frame := self._parse()) is None:
            assert not self._is_at_end, f"a frame was expected; the connection has ended: {bytes(self._buffer[:200])!r}"
            assert self._fill(give_up) or self._is_at_end, "no frame in time"
        return frame

    def _fill(self, give_up: float) -> bool:
        """Wait for octets until then; whether there are some."""
        if self._is_at_end:
            return False
        data = self._read_encrypted(give_up) if isinstance(self._socket, ssl.SSLSocket) else self._read(give_up)
        if data is None:
            return False
        self._is_at_end = not data
        self._buffer += data
        return bool(data)

    def _read(self, give_up: float) -> bytes | None:
        """What comes until then; None: nothing."""
        poll = select.poll()  # a test may have more descriptors than select has room for
        poll.register(self._socket, select.POLLIN)
        ready = poll.poll(max(0.0, give_up - time.monotonic()) * 1000)
        return self._socket.recv(_READ_SIZE) if ready else None

    def _read_encrypted(self, give_up: float) -> bytes | None:
        """The same. What is ready may be no octet of ours yet."""
        patience_s = self._socket.gettimeout()
        try:
            self._socket.settimeout(max(0.0, give_up - time.monotonic()))
            return self._socket.recv(_READ_SIZE)
        except (ssl.SSLWantReadError, TimeoutError):
            return None
        finally:
            self._socket.settimeout(patience_s)

    def _parse(self) -> Frame | None:
        """A whole frame from what has come. One EOL behind a frame is the frame's; others are heart-beats."""
        while self._buffer.startswith(b"\n"):
            del self._buffer[:1]
            if not self._is_eol_due:
                self.beats.append(time.monotonic())
            self._is_eol_due = False
        head_end = self._buffer.find(b"\n\n")
        if head_end < 0:
            return None
        command, headers = self._read_head(bytes(self._buffer[:head_end]))
        body_start = head_end + 2
        length = next((value for name, value in headers if name == "content-length"), None)
        if length is None:
            end = self._buffer.find(b"\0", body_start)
        else:
            assert re.fullmatch(r"\d+", length), f"content-length {length}"
            end = body_start + int(length) if len(self._buffer) > body_start + int(length) else -1
        if end < 0:
            return None
        assert self._buffer[end] == 0, "content-length is wrong: no NUL behind the body"
        frame = Frame(command, headers, bytes(self._buffer[body_start:end]))
        assert not frame.body or command in ("MESSAGE", "ERROR"), f"a body, where none is permitted: {frame}"
        del self._buffer[: end + 1]
        self._is_eol_due = True
        return frame

    def _read_head(self, head: bytes) -> tuple[str, list[tuple[str, str]]]:
        command, *lines = head.decode("utf-8").split("\n")
        assert command in SERVER_COMMANDS, f"no command of a server: {command!r}"
        headers = []
        for line in lines:
            name, colon, value = line.partition(":")
            assert name and colon, f"no header: {line!r}"
            if command != "CONNECTED" and self.version != "1.0":
                assert ":" not in value and "\r" not in line, f"not escaped: {line!r}"
                name, value = _unescape(name, self.version), _unescape(value, self.version)
            headers.append((name, value))
        return command, headers


def connect(port: int | str, version: str = "1.2", headers: Headers = (), **more: Any) -> RawClient:
    """A client that has connected, with these headers on its CONNECT; its CONNECTED is `connected`."""
    client = RawClient(port)
    try:
        client.login(version, headers, **more)
    except BaseException:
        client.close()
        raise
    return client


def _header_name(keyword: str) -> str:
    return keyword.replace("_", "-")


def _escape(text: str, escapes: Mapping[str, str]) -> str:
    return "".join(escapes.get(character, character) for character in text)


def _unescape(text: str, version: str) -> str:
    meanings = {written: character for character, written in _ESCAPES[version].items()}
    found = re.sub(r"\\.?", lambda match: meanings.get(match[0], "\0"), text)
    assert "\0" not in found, f"an escape sequence that STOMP {version} does not have: {text!r}"
    return found
