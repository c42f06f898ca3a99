"""The plain transport alone, and another one that has octets of its own, under a child."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Iterable, Iterator

import pytest
from child.conftest import Play, playing

from forkbroker.child.transport import PlainTransport
from forkbroker.wire.kinds import Cause, Kind

PREAMBLE = b"VEIL 1\n"
VEIL = 0x5A


def veiled(octets: bytes) -> bytes:
    """The same octets, not to be read by chance; veiled again they are what they were."""
    return bytes(octet ^ VEIL for octet in octets)


class VeiledTransport:
    """Writes a preamble, an octet a time, before it reads anything; all octets of the stream are veiled."""

    has_more = False
    in_hand = 0

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self._preamble = PREAMBLE

    @property
    def wants_readable(self) -> bool:
        return not self._preamble

    @property
    def wants_writable(self) -> bool:
        return bool(self._preamble)

    def read_into(self, place: memoryview) -> int:
        assert not self._preamble
        octets = self.socket.recv_into(place)
        place[:octets] = veiled(bytes(place[:octets]))
        return octets

    def write(self, buffers: Iterable[bytes]) -> int:
        if self._preamble:
            self._preamble = self._preamble[self.socket.send(self._preamble[:1]) :]
            return 0
        return self.socket.send(veiled(b"".join(buffers)))

    def shut_down(self, _: Cause) -> None:
        self.socket.sendall(b"END")
        self.socket.shutdown(socket.SHUT_WR)


@pytest.fixture
def pair() -> Iterator[tuple[PlainTransport, socket.socket]]:
    """A transport over TCP, and the client."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
    with client, served:
        yield PlainTransport(served), client


def test_a_connection_does_not_block(pair: tuple[PlainTransport, socket.socket]) -> None:
    """The loop waits, and nobody else."""
    assert not pair[0].socket.getblocking()


def test_octets_pass_as_they_are(pair: tuple[PlainTransport, socket.socket]) -> None:
    """As many as there is room for, into their place, and up to the end."""
    transport, client = pair
    client.sendall(b"abcde")
    client.shutdown(socket.SHUT_WR)
    place = bytearray(3)
    read = [(transport.read_into(memoryview(place)), bytes(place)) for _ in range(3)]

    assert transport.write([b"12", b"", b"345"]) == 5
    assert client.recv(9) == b"12345"
    assert read == [(3, b"abc"), (2, b"dec"), (0, b"dec")]


def test_nothing_to_read_and_no_room_to_write_are_said(pair: tuple[PlainTransport, socket.socket]) -> None:
    """A part of what was to be written may go; the number says how much."""
    transport, _ = pair
    with pytest.raises(BlockingIOError):
        transport.read_into(memoryview(bytearray(1)))
    written = 0
    with pytest.raises(BlockingIOError):
        while True:
            written += transport.write([bytes(1 << 24)])

    assert written > 0


def test_the_plain_transport_adds_no_call(pair: tuple[PlainTransport, socket.socket]) -> None:
    """What a child does for each read and write is done by the socket itself; and it never wants anything."""
    transport, _ = pair

    assert inspect.isbuiltin(transport.write)
    assert inspect.isbuiltin(transport.read_into)
    assert (transport.wants_readable, transport.wants_writable) == (True, False)


@pytest.fixture
def veiled_play() -> Iterator[Play]:
    """A child whose transport is not plain."""
    with playing(VeiledTransport) as made:
        yield made


def test_a_transport_has_its_say_before_the_client_is_read(veiled_play: Play) -> None:
    """It writes without being asked, over several turns, although the client's octets wait."""
    veiled_play.client.sendall(veiled(b"CONNECT\naccept-version:1.2\nhost:/\n\n\0"))
    heard = veiled_play.hears(veiled(b"CONNECTED"))

    assert heard.startswith(PREAMBLE + veiled(b"CONNECTED"))


def test_a_transport_sees_all_ways_of_reading_and_the_end(veiled_play: Play) -> None:
    """A body that is received in its place as well."""
    body = bytes(range(256)) * 4000
    head = b"SEND\ndestination:/queue/a\ncontent-length:%d\n\n" % len(body)
    veiled_play.client.setblocking(True)
    veiled_play.client.sendall(veiled(b"CONNECT\naccept-version:1.2\nhost:/\n\n\0" + head + body + b"\0NONSENSE\n\n\0"))
    veiled_play.client.setblocking(False)
    (sent,) = [envelope for envelope in veiled_play.told() if envelope.kind is Kind.SEND]
    heard = veiled_play.hears(b"END")

    assert bytes(sent.pieces()[0]) == body
    assert veiled(b"unknown command") in heard
