"""The last words of a child, to either side."""

from __future__ import annotations

import socket
import threading
import time

from support.deadline import stretched

from forkbroker.child.lingering import linger, write_rest
from forkbroker.child.transport import PlainTransport
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Cause, Kind


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """The broker's end of a connection, and the client's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
    served.setblocking(False)
    return served, client


def test_what_was_written_arrives_although_the_client_goes_on_sending() -> None:
    """Unread octets would make the system reset the connection."""
    served, client = tcp_pair()
    client.sendall(b"x" * 100_000)
    served.send(b"ERROR")
    served.shutdown(socket.SHUT_WR)
    closer = threading.Timer(0.1, client.shutdown, [socket.SHUT_WR])
    closer.start()
    linger(served, stretched(5.0))
    closer.join()

    assert client.recv(100) == b"ERROR"
    assert client.recv(100) == b""
    assert served.fileno() == -1
    client.close()


def test_a_client_that_stays_is_not_waited_for_longer_than_that() -> None:
    """It may go on sending as well."""
    served, client = tcp_pair()
    client.sendall(b"x" * 1000)
    served.shutdown(socket.SHUT_WR)
    began = time.monotonic()
    linger(served, 0.2)

    assert 0.2 <= time.monotonic() - began < stretched(2.0)
    assert served.fileno() == -1
    client.close()


def test_a_client_that_has_left_already_is_no_error() -> None:
    """With a reset, and before anything is said."""
    served, client = tcp_pair()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()
    PlainTransport(served).shut_down(Cause.ASKED)
    linger(served, stretched(5.0))

    assert served.fileno() == -1


def test_the_rest_is_written_when_the_parent_reads_again_and_what_it_sends_is_read() -> None:
    """Both channels are full, and neither side waits for the other for ever."""
    ours, theirs = open_pair()
    channel, parent = Channel(ours, max_envelope=1 << 20), Channel(theirs, max_envelope=1 << 20)
    for _ in range(100):
        channel.send(pack(Kind.SEND, payload=[bytes(50_000)]))
        parent.send(pack(Kind.SEND, payload=[bytes(50_000)]))
    parent.flush()
    got = []

    def read() -> None:
        while not parent.flush():
            pass
        while len(got) < 100:
            got.extend(parent.receive())

    reader = threading.Thread(target=read)
    reader.start()
    write_rest(channel)
    reader.join()

    assert channel.pending == 0
    assert len(got) == 100
    channel.close()
    parent.close()


def test_a_parent_that_is_gone_is_not_waited_for() -> None:
    """Whether it goes before or meanwhile."""
    ours, theirs = open_pair()
    channel = Channel(ours, max_envelope=1 << 20)
    channel.send([bytes(10_000_000)])
    leaver = threading.Timer(0.1, theirs.close)
    leaver.start()
    write_rest(channel)
    leaver.join()
    channel.send([bytes(10)])
    write_rest(channel)

    assert channel.pending == 0
    channel.close()
