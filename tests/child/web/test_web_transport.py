"""The transport of clients that speak HTTP, over a socket whose other end is the test's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from http import HTTPStatus

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from forkbroker.child.transport import ClosedError, PlainTransport, RefusedError
from forkbroker.child.web.frames import WebSocket
from forkbroker.child.web.requests import Request, Response, say
from forkbroker.child.web.transport import WebTransport
from forkbroker.wire.kinds import Cause
from forkbroker.wire.memory_file import MemoryFile

PLACE = memoryview(bytearray(65_536))


def answer(request: Request) -> Response | WebSocket:
    """A WebSocket at one path, a sentence at another one, and one for the log at all others."""
    if request.path == "/ws":
        talk = WebSocket(lambda: None)
        talk.outgoing = b"granted"
        return talk
    return say(HTTPStatus.OK, "hello") if request.path == "/" else say(HTTPStatus.NOT_FOUND, "no", note="noted")


@pytest.fixture
def ends() -> Iterator[tuple[WebTransport, socket.socket]]:
    """A transport, and the client."""
    client, served = socket.socketpair()
    for one in (client, served):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(10.0)
    with client, served:
        yield WebTransport(PlainTransport(served), answer, is_tls=False), client


def read(transport: WebTransport) -> bytes:
    """What has come of the stream; nothing if nothing has."""
    with suppress(BlockingIOError):
        return bytes(PLACE[: transport.read_into(PLACE)])
    return b""


def masked(payload: bytes, opcode: Opcode = Opcode.TEXT) -> bytes:
    return Frame(opcode, payload).serialize(mask=True)


def ask(path: str, *more: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: a", *more, "", "")).encode()


def test_what_is_behind_a_request_is_the_conversations(ends: tuple[WebTransport, socket.socket]) -> None:
    """Also if it has come with it; before that, there is no stream to write to."""
    transport, client = ends
    assert transport.write([b"ERROR\n\n\0\n"]) == 9
    client.sendall(ask("/ws") + masked(b"CONN") + masked(b"ECT"))

    assert read(transport) == b"CONNECT"
    assert client.recv(100) == b"granted"
    assert transport.write([b"RECEIPT\n\n\0\n"]) == 11
    assert client.recv(100) == b"\x81\x0aRECEIPT\n\n\0"


def test_requests_are_answered_one_after_the_other(ends: tuple[WebTransport, socket.socket]) -> None:
    """As they come, in any parts; nothing of them is a part of the stream."""
    transport, client = ends
    for octet in ask("/") + ask("/"):
        client.sendall(bytes([octet]))
        assert read(transport) == b""

    assert client.recv(10_000).count(b"\r\n\r\nhello\n") == 2
    assert not transport.has_more


def test_the_last_answer_ends_the_connection(ends: tuple[WebTransport, socket.socket]) -> None:
    """What the log is to say comes with it."""
    transport, client = ends
    client.sendall(ask("/", "Connection: close") + ask("/"))
    assert read(transport) == b""
    assert client.recv(10_000).count(b"hello") == 1
    assert transport.has_more
    with pytest.raises(ClosedError, match="client has its answer"):
        transport.read_into(PLACE)

    other = WebTransport(PlainTransport(transport.socket), answer, is_tls=False)
    client.sendall(ask("/other"))
    assert read(other) == b""
    with pytest.raises(RefusedError, match="HTTP: noted"):
        other.read_into(PLACE)


def test_a_client_that_takes_nothing_gets_all_of_it_in_the_end(ends: tuple[WebTransport, socket.socket]) -> None:
    """Octets of the stream count when all that they became is with the kernel; a pong waits for a message's end."""
    transport, client = ends
    client.sendall(ask("/ws"))
    read(transport)
    assert client.recv(7) == b"granted"
    frames = [b"MESSAGE\nn:%d\ncontent-length:%d\n\n%b\0\n" % (n, size, b"x" * size) for n, size in enumerate(SIZES)]
    stream, written, heard = b"".join(frames), 0, b""
    client.sendall(masked(b"", Opcode.PING))
    client.setblocking(False)
    blocked = 0
    while written < len(stream):
        try:
            written += transport.write([stream[written : written + 100_000], stream[written + 100_000 :]])
        except BlockingIOError:
            blocked += 1
            assert transport.in_hand <= len(stream) - written
            assert read(transport) == b""
            with suppress(BlockingIOError):
                heard += client.recv(50_000)
    transport.shut_down(Cause.AWAY)
    client.setblocking(True)
    while octets := client.recv(50_000):
        heard += octets
        with suppress(BlockingIOError):
            transport.write([])
    protocol = ClientProtocol(parse_uri("ws://a/"), state=OPEN, max_size=None)
    protocol.receive_data(heard)
    events = [event for event in protocol.events_received() if isinstance(event, Frame)]

    assert blocked > 3
    assert [bytes(event.data) for event in events if event.opcode is Opcode.TEXT] == [frame[:-1] for frame in frames]
    assert [event.opcode for event in events].count(Opcode.PONG) == 1


SIZES = (10, 200, 70_000, 5, 300_000, 0, 65_536, 65_000, 1)


def test_a_file_is_written_as_other_octets(ends: tuple[WebTransport, socket.socket]) -> None:
    """As far as the kernel takes it."""
    transport, client = ends
    client.sendall(ask("/ws"))
    read(transport)
    frame = b"MESSAGE\ncontent-length:200000\n\n" + b"y" * 200_000 + b"\0\n"
    file = MemoryFile.make([frame])
    if file is None:
        pytest.skip("no files in memory on this system")
    written, heard = 0, b""
    client.setblocking(False)
    while written < len(frame):
        with suppress(BlockingIOError):
            written += transport.write_file(file, written, len(frame) - written)
        with suppress(BlockingIOError):
            heard += client.recv(100_000)
    client.setblocking(True)
    while len(heard) < len(frame) + 16:
        heard += client.recv(100_000)

    assert heard == b"granted\x81\x7f" + (len(frame) - 1).to_bytes(8) + frame[:-1]


def test_a_client_that_asks_and_does_not_listen_is_not_read_any_more(ends: tuple[WebTransport, socket.socket]) -> None:
    """Pings could fill the memory else."""
    transport, client = ends
    client.sendall(ask("/ws"))
    read(transport)
    client.setblocking(False)
    ping = masked(b"z" * 125, Opcode.PING)
    sent = 0
    while transport.wants_readable and sent < 50_000:
        with suppress(BlockingIOError):
            client.send(ping)
            sent += 1
        read(transport)

    assert not transport.wants_readable
    assert transport.wants_writable


def test_a_close_of_the_client_is_answered_and_nothing_is_written_then(
    ends: tuple[WebTransport, socket.socket],
) -> None:
    """What waits for it is not counted as written."""
    transport, client = ends
    client.sendall(ask("/ws") + masked(b"a") + masked(Close(1001, "").serialize(), Opcode.CLOSE))
    assert read(transport) == b"a"
    assert client.recv(100) == b"granted\x88\x02\x03\xe9"
    with pytest.raises(BlockingIOError):
        transport.write([b"RECEIPT\n\n\0\n"])
    with pytest.raises(ClosedError, match="client closed the connection"):
        transport.read_into(PLACE)
