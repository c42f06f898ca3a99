"""Envelopes that bring a descriptor along."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from forkbroker.errors import EnvelopeError
from forkbroker.wire import descriptors
from forkbroker.wire.channel import Channel, open_pair
from forkbroker.wire.envelope import pack
from forkbroker.wire.kinds import Kind


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    """The parent's channel, and the other end, blocking."""
    ours, theirs = open_pair()
    theirs.setblocking(True)
    channel = Channel(ours, max_envelope=1 << 20)
    yield channel, theirs
    channel.close()
    theirs.close()


def test_a_descriptor_arrives_with_its_envelope(pair: tuple[Channel, socket.socket]) -> None:
    """A copy: the sender may close its own. What is sent behind stays in the channel."""
    channel, end = pair
    reading, writing = os.pipe()
    assert channel.hand(pack(Kind.SERVE, number=7, destination=b"192.0.2.1:7"), [writing])
    channel.send(pack(Kind.CLOSE, block=b"the end"))
    channel.flush()
    os.close(writing)
    handed = descriptors.receive(end)
    assert handed is not None
    raw, [descriptor] = handed
    os.write(descriptor, b"hello")
    os.close(descriptor)

    assert raw == b"".join(pack(Kind.SERVE, number=7, destination=b"192.0.2.1:7"))
    assert os.read(reading, 100) == b"hello"
    assert end.recv(1000) == b"".join(pack(Kind.CLOSE, block=b"the end"))
    os.close(reading)


def test_each_envelope_has_its_own_descriptors(pair: tuple[Channel, socket.socket]) -> None:
    """One, or as many as may be; and those that were queued before have none."""
    channel, end = pair
    pipes = [os.pipe() for _ in range(descriptors.MOST_DESCRIPTORS + 1)]
    first, *others = [writing for _, writing in pipes]
    channel.send(pack(Kind.REAP, number=1))
    channel.hand(pack(Kind.SPARES, number=2), [first])
    channel.hand(pack(Kind.SPARES, number=3), others)
    found = [descriptors.receive(end) for _ in range(3)]

    assert found[0] == (b"".join(pack(Kind.REAP, number=1)), ())
    received = [fd for one in found[1:] if one is not None for fd in one[1]]
    assert [os.fstat(fd).st_ino for fd in received] == [os.fstat(reading).st_ino for reading, _ in pipes]
    for fd in [*received, *(fd for both in pipes for fd in both)]:
        os.close(fd)


def test_who_is_gone_is_handed_nothing(pair: tuple[Channel, socket.socket]) -> None:
    """And who waits for something from it is told that."""
    channel, end = pair
    end.close()

    assert not channel.hand(pack(Kind.SERVE), [0])


def test_who_does_not_read_is_handed_nothing(pair: tuple[Channel, socket.socket]) -> None:
    """What waits before it would have to go first."""
    channel, _ = pair
    channel.send([bytes(4 << 20)])
    channel.flush()

    assert not channel.hand(pack(Kind.SERVE), [0])


@pytest.mark.parametrize("octets", [b"", b"\0\0", b"".join(pack(Kind.SERVE))[:20]])
def test_the_end_of_the_other_side_is_told_wherever_it_comes(pair, octets: bytes) -> None:
    """Before an envelope, or within one."""
    channel, end = pair
    channel.send([octets])
    channel.flush()
    channel.close()

    assert descriptors.receive(end) is None


def test_the_other_side_may_be_gone_without_having_read(pair: tuple[Channel, socket.socket]) -> None:
    """That is its end as well."""
    channel, end = pair
    end.sendall(b"unread")
    channel.close()

    assert descriptors.receive(end) is None


@pytest.mark.parametrize("total", [0, 47, descriptors.MOST + 1])
def test_an_impossible_length_is_refused(pair: tuple[Channel, socket.socket], total: int) -> None:
    """Before anything of it is waited for."""
    channel, end = pair
    channel.send([total.to_bytes(4, "big")])
    channel.flush()

    with pytest.raises(EnvelopeError, match=f"an envelope of {total} bytes"):
        descriptors.receive(end)
